// From the end to the beginning, as zip must be read: the end record, which is exactly the last 22 bytes; the zip64
// records before it, if there are any; the directory, which must end where they begin; then each entry, whose local
// header, bytes and descriptor must end where the next one begins. The last rule leaves no byte without an owner.
//
// What PyTorch writes, all of it by miniz: flags 0x0808 (a descriptor follows, names are UTF-8), a local header without
// CRC and sizes, in it an extra field "FB" that pads to the alignment of the data, and from 4 GiB on zip64 forms. In
// the zip64 field of its local headers it writes an offset where a size belongs; that field is only walked over, as
// the descriptor has the sizes. Archives without descriptors, as Python's zipfile writes them, agree as well.
#include "formats/torch/zip_archive.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "formats/base/byte_reader.h"
#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/torch/torch_issues.h"

namespace q4 {
namespace {

constexpr std::uint32_t kLocalMark = 0x04034b50, kDirectoryMark = 0x02014b50, kEndMark = 0x06054b50,
                        kEnd64Mark = 0x06064b50, kLocator64Mark = 0x07064b50, kDescriptorMark = 0x08074b50;
constexpr std::uint64_t kLocalBytes = 30, kDirectoryBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr std::uint64_t kDescriptorBytes = 16, kDescriptor64Bytes = 24;
// Of a field that is continued in a zip64 one.
constexpr std::uint32_t kSee64 = 0xFFFFFFFF;
constexpr std::uint16_t kSee64Short = 0xFFFF;
constexpr std::uint16_t kDescriptorFlag = 1u << 3, kUtf8Flag = 1u << 11;
constexpr std::uint16_t kZip64Field = 1, kPaddingField = 0x4246;  // "FB"
// Read at a time, of the directory.
constexpr std::uint64_t kZipReadBytes = std::uint64_t{1} << 20;
// Above any name that PyTorch gives; longer ones are read by themselves.
constexpr std::uint64_t kUsualExtraBytes = 256;

// Bytes [offset, offset + bytes) of the file. REQUIRES: they lie inside.
absl::StatusOr<std::vector<std::uint8_t>> ReadRange(const RandomAccessFile& file, std::uint64_t offset,
                                                    std::uint64_t bytes) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(bytes));
  Q4_RETURN_IF_ERROR(file.ReadAt(offset, out));
  return out;
}

// The end records together say where the directory is, how long it is and how many entries it has.
struct ZipEnd {
  std::uint64_t entries = 0, directory_bytes = 0, directory_offset = 0;
  std::uint64_t begin = 0;  // of the first end record
};

// What a field of the end record says where the zip64 record says `wide`.
bool Agrees(std::uint64_t narrow, std::uint64_t see64, std::uint64_t wide) { return narrow == see64 || narrow == wide; }

absl::StatusOr<ZipEnd> ReadZipEnd(const RandomAccessFile& file) {
  const auto bad = [&](std::uint64_t at, std::string_view detail) {
    return Fail(kZipDirectory, file.path(), AtOffset(at), detail);
  };
  if (file.size() < kEndBytes) return bad(0, "the file is too short for an end record");
  ZipEnd end;
  end.begin = file.size() - kEndBytes;
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, ReadRange(file, end.begin, kEndBytes));
  ByteReader in(bytes);
  if (in.U32() != kEndMark) {
    return bad(end.begin, "the end record is missing: the file was cut off, or something follows the archive");
  }
  const std::uint16_t disk = in.U16(), directory_disk = in.U16(), disk_entries = in.U16(), entries = in.U16();
  const std::uint32_t directory_bytes = in.U32(), directory_offset = in.U32();
  const std::uint16_t comment = in.U16();
  if (disk != 0 || directory_disk != 0 || disk_entries != entries) return bad(end.begin, "an archive of several files");
  if (comment != 0) return bad(end.begin, "a comment of " + std::to_string(comment) + " bytes");
  end.entries = entries;
  end.directory_bytes = directory_bytes;
  end.directory_offset = directory_offset;
  if (end.begin < kLocator64Bytes + kEnd64Bytes) return end;
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> locator,
                      ReadRange(file, end.begin - kLocator64Bytes, kLocator64Bytes));
  ByteReader at(locator);
  if (at.U32() != kLocator64Mark) return end;
  end.begin -= kLocator64Bytes;
  const std::uint32_t disk64 = at.U32();
  const std::uint64_t end64_offset = at.U64();
  const std::uint32_t disks = at.U32();
  if (disk64 != 0 || disks != 1 || end64_offset != end.begin - kEnd64Bytes) {
    return bad(end.begin, "zip64 record: offset " +
                              GotExpected(std::to_string(end64_offset), std::to_string(end.begin - kEnd64Bytes)));
  }
  end.begin = end64_offset;
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> record, ReadRange(file, end.begin, kEnd64Bytes));
  ByteReader wide(record);
  const std::uint32_t mark = wide.U32();
  const std::uint64_t record_bytes = wide.U64();
  wide.U32();  // the versions
  const std::uint32_t disk_a = wide.U32(), disk_b = wide.U32();
  const std::uint64_t disk_entries64 = wide.U64();
  end.entries = wide.U64();
  end.directory_bytes = wide.U64();
  end.directory_offset = wide.U64();
  // The length does not count the mark and itself.
  if (mark != kEnd64Mark || record_bytes != kEnd64Bytes - 12 || disk_a != 0 || disk_b != 0 ||
      disk_entries64 != end.entries || !Agrees(entries, kSee64Short, end.entries) ||
      !Agrees(directory_bytes, kSee64, end.directory_bytes) ||
      !Agrees(directory_offset, kSee64, end.directory_offset)) {
    return bad(end.begin, "the zip64 record and the end record disagree");
  }
  return end;
}

// Walks the extra fields: a record of id and length for each, and nothing behind the last. Those of PyTorch only, each
// once. `zip64` gets the content of the zip64 field.
bool WalkExtra(std::span<const std::uint8_t> extra, std::optional<std::span<const std::uint8_t>>* zip64) {
  ByteReader in(extra);
  bool padded = false;
  while (in.ok() && in.remaining() > 0) {
    const std::uint16_t id = in.U16();
    const std::span<const std::uint8_t> content = in.Bytes(in.U16());
    if (!in.ok()) return false;
    if (id == kZip64Field && !zip64->has_value()) {
      *zip64 = content;
    } else if (id != kPaddingField || std::exchange(padded, true)) {
      return false;
    }
  }
  return in.ok();
}

// One record of the directory, from a cursor over it.
absl::StatusOr<ZipEntry> ReadDirectoryRecord(ByteReader* in, std::string_view file) {
  const std::uint64_t begin = in->offset();
  ZipEntry entry;
  const std::uint32_t mark = in->U32();
  in->U32();  // the versions
  entry.flags = in->U16();
  entry.method = in->U16();
  in->U32();  // date and time
  entry.crc32 = in->U32();
  const std::uint32_t stored = in->U32(), unpacked = in->U32();
  const std::uint16_t name_bytes = in->U16(), extra_bytes = in->U16(), comment_bytes = in->U16(), disk = in->U16();
  in->U16();  // attributes
  in->U32();
  const std::uint32_t offset = in->U32();
  const auto name = in->Bytes(name_bytes), extra = in->Bytes(extra_bytes);
  if (!in->ok() || mark != kDirectoryMark) {
    return Fail(kZipDirectory, file, AtOffset(begin), "the directory holds fewer entries than the end record says");
  }
  entry.name.assign(reinterpret_cast<const char*>(name.data()), name.size());
  entry.bytes = stored;
  entry.unpacked = unpacked;
  entry.header_offset = offset;
  const auto bad = [&](std::string_view detail) { return Fail(kZipEntry, file, entry.name, detail); };
  if (comment_bytes != 0 || disk != 0) return bad("a comment, or a part of an archive of several files");
  std::optional<std::span<const std::uint8_t>> zip64;
  if (!WalkExtra(extra, &zip64)) return bad("extra fields of the directory");
  // It has what does not fit, in this order, and nothing else.
  ByteReader wide(zip64.value_or(std::span<const std::uint8_t>()));
  if (unpacked == kSee64) entry.unpacked = wide.U64();
  if (stored == kSee64) entry.bytes = wide.U64();
  if (offset == kSee64) entry.header_offset = wide.U64();
  if (!wide.ok() || wide.remaining() != 0) return bad("zip64 sizes of the directory");
  return entry;
}

// A name as PyTorch gives it, "model/data/0", so that it can mean nothing else anywhere.
bool IsPlainEntryName(std::string_view name) {
  if (name.find_first_of(std::string_view("\\:\0", 3)) != std::string_view::npos || !IsUtf8(name)) return false;
  if (name.find('/') == std::string_view::npos) return false;
  while (true) {
    const std::size_t slash = name.find('/');
    const std::string_view part = name.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    name.remove_prefix(slash + 1);
  }
}

absl::Status CheckNames(const std::vector<ZipEntry>& entries, std::string_view file) {
  std::vector<std::string> folded;
  folded.reserve(entries.size());
  for (const ZipEntry& entry : entries) {
    const std::string_view root = std::string_view(entries.front().name).substr(0, entries.front().name.find('/') + 1);
    if (!IsPlainEntryName(entry.name) || !entry.name.starts_with(root)) return Fail(kZipName, file, entry.name);
    std::string& name = folded.emplace_back(entry.name);
    // Names that differ by case alone are one file on many systems.
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  std::sort(folded.begin(), folded.end());
  const auto twin = std::adjacent_find(folded.begin(), folded.end());
  return twin == folded.end() ? absl::OkStatus() : Fail(kZipName, file, *twin, "it comes twice");
}

// The local header of an entry against its record in the directory; sets `offset`. `end`: where the next entry or the
// directory begins.
absl::Status CheckLocalHeader(const RandomAccessFile& file, std::uint64_t end, ZipEntry* entry) {
  const auto bad = [&](std::string_view detail) { return Fail(kZipEntry, file.path(), entry->name, detail); };
  const std::uint64_t room = end - entry->header_offset;
  Q4_ASSIGN_OR_RETURN(
      const std::vector<std::uint8_t> bytes,
      ReadRange(file, entry->header_offset, std::min(room, kLocalBytes + entry->name.size() + kUsualExtraBytes)));
  ByteReader in(bytes);
  const std::uint32_t mark = in.U32();
  in.U16();  // the version
  const std::uint16_t flags = in.U16(), method = in.U16();
  in.U32();  // date and time
  const std::uint32_t crc = in.U32(), stored = in.U32(), unpacked = in.U32();
  const std::uint16_t name_bytes = in.U16(), extra_bytes = in.U16();
  const auto name = in.Bytes(name_bytes);
  if (!in.ok() || mark != kLocalMark) return bad("there is no local header");
  if (!std::equal(name.begin(), name.end(), entry->name.begin(), entry->name.end(),
                  [](std::uint8_t a, char b) { return a == static_cast<std::uint8_t>(b); })) {
    return bad("the local header has another name");
  }
  if (flags != entry->flags || method != entry->method) return bad("flags or method of the local header differ");
  const std::uint64_t header_bytes = kLocalBytes + name_bytes + extra_bytes;
  if (header_bytes > room) return bad("the extra fields reach behind the entry");
  std::vector<std::uint8_t> long_extra;
  std::span<const std::uint8_t> extra = in.Bytes(extra_bytes);
  if (!in.ok()) {
    Q4_ASSIGN_OR_RETURN(long_extra, ReadRange(file, entry->header_offset + kLocalBytes + name_bytes, extra_bytes));
    extra = long_extra;
  }
  std::optional<std::span<const std::uint8_t>> zip64;
  if (!WalkExtra(extra, &zip64)) return bad("extra fields of the local header");
  const bool described = (flags & kDescriptorFlag) != 0;
  if (described) {
    if (crc != 0 || stored != 0 || unpacked != 0) return bad("sizes in the local header and behind the entry");
  } else {
    ByteReader wide(zip64.value_or(std::span<const std::uint8_t>()));
    const std::uint64_t unpacked64 = unpacked == kSee64 ? wide.U64() : unpacked;
    const std::uint64_t stored64 = stored == kSee64 ? wide.U64() : stored;
    if (!wide.ok() || wide.remaining() != 0 || crc != entry->crc32 || stored64 != entry->bytes ||
        unpacked64 != entry->unpacked) {
      return bad("sizes or CRC-32 of the local header differ");
    }
  }
  entry->offset = entry->header_offset + header_bytes;
  if (!RangeFits(entry->offset, entry->bytes, end)) {
    return Fail(kZipRanges, file.path(), entry->name, "it reaches into what follows it");
  }
  const std::uint64_t behind = end - entry->offset - entry->bytes;
  if (!described) {
    return behind == 0 ? absl::OkStatus()
                       : Fail(kZipRanges, file.path(), entry->name, std::to_string(behind) + " bytes follow it");
  }
  if (behind != kDescriptorBytes && behind != kDescriptor64Bytes) {
    return Fail(kZipRanges, file.path(), entry->name,
                std::to_string(behind) + " bytes follow it, where its CRC-32 and sizes must be");
  }
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> tail, ReadRange(file, end - behind, behind));
  ByteReader descriptor(tail);
  const bool wide = behind == kDescriptor64Bytes;
  const bool has_mark = descriptor.U32() == kDescriptorMark, same_crc = descriptor.U32() == entry->crc32;
  const std::uint64_t stored_there = wide ? descriptor.U64() : descriptor.U32();
  const std::uint64_t unpacked_there = wide ? descriptor.U64() : descriptor.U32();
  if (!has_mark || !same_crc || stored_there != entry->bytes || unpacked_there != entry->unpacked) {
    return bad("CRC-32 or sizes behind the entry differ");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ZipDirectory> ReadZipDirectory(const RandomAccessFile& file) {
  Q4_ASSIGN_OR_RETURN(const ZipEnd end, ReadZipEnd(file));
  std::uint64_t directory_end = 0;
  if (!CheckedAdd(end.directory_offset, end.directory_bytes, &directory_end) || directory_end != end.begin) {
    return Fail(kZipDirectory, file.path(), AtOffset(end.begin),
                "the directory's end: " + GotExpected(std::to_string(directory_end), std::to_string(end.begin)));
  }
  if (end.entries > limits::kZipEntries) {
    return Fail(kZipTooMany, file.path(), {},
                GotExpected(std::to_string(end.entries), "at most " + std::to_string(limits::kZipEntries)));
  }
  ZipDirectory directory;
  directory.offset = end.directory_offset;
  // In windows, each of which holds at least one whole record.
  std::uint64_t at = end.directory_offset;
  std::vector<std::uint8_t> window;
  std::uint64_t window_begin = at;
  constexpr std::uint64_t kLongestRecord = kDirectoryBytes + std::uint64_t{3} * 0xFFFF;
  while (directory.entries.size() < end.entries) {
    std::uint64_t unread = window_begin + window.size() - at;
    if (unread < kLongestRecord && window_begin + window.size() < directory_end) {
      Q4_ASSIGN_OR_RETURN(window, ReadRange(file, at, std::min(kZipReadBytes, directory_end - at)));
      window_begin = at;
      unread = window.size();
    }
    ByteReader in(std::span<const std::uint8_t>(window).last(static_cast<std::size_t>(unread)), at);
    Q4_ASSIGN_OR_RETURN(ZipEntry entry, ReadDirectoryRecord(&in, file.path()));
    at = in.offset();
    directory.entries.push_back(std::move(entry));
  }
  if (at != directory_end) {
    return Fail(kZipDirectory, file.path(), AtOffset(at), "the directory holds more than the end record says");
  }
  return directory;
}

absl::Status CheckZipEntries(const RandomAccessFile& file, ZipDirectory* directory) {
  std::vector<ZipEntry>& entries = directory->entries;
  for (const ZipEntry& entry : entries) {
    if (entry.method != 0) {
      return Fail(kZipCompressed, file.path(), entry.name,
                  "torch.save writes none; load the checkpoint with PyTorch and save it again");
    }
    if (entry.bytes != entry.unpacked)
      return Fail(kZipEntry, file.path(), entry.name, "it is stored, but sizes differ");
    if ((entry.flags & ~(kDescriptorFlag | kUtf8Flag)) != 0) {
      return Fail(kZipEntry, file.path(), entry.name, "flag bits " + std::to_string(entry.flags));
    }
  }
  Q4_RETURN_IF_ERROR(CheckNames(entries, file.path()));
  std::vector<std::uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return entries[a].header_offset < entries[b].header_offset; });
  // Where an entry must begin. Their ends are known only from the next one's beginning.
  std::uint64_t begin = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    ZipEntry& entry = entries[order[i]];
    const bool last = i + 1 == order.size();
    const std::uint64_t end = last ? directory->offset : entries[order[i + 1]].header_offset;
    if (entry.header_offset != begin || end > directory->offset || end <= begin) {
      return Fail(kZipRanges, file.path(), entry.name,
                  "its header: " + GotExpected(AtOffset(entry.header_offset), AtOffset(begin)));
    }
    Q4_RETURN_IF_ERROR(CheckLocalHeader(file, end, &entry));
    begin = end;
  }
  if (begin != directory->offset) return Fail(kZipRanges, file.path(), {}, "nothing but a directory");
  return absl::OkStatus();
}

}  // namespace q4
