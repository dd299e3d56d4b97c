// The reader of PyTorch's zip archives. What it accepts is entries that fill the file up to the directory, with plain
// names under one root; and the checkpoint in it, if it is one, has its tensors inside its records.
#include <algorithm>
#include <string>
#include <vector>

#include "formats/base/checked_math.h"
#include "formats/torch/torch_checkpoint.h"
#include "formats/torch/zip_archive.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/bytes_file.h"

Q4_FUZZ_TARGET(zip) {
  const q4::test::BytesFile file({data, size});
  auto directory = q4::ReadZipDirectory(file);
  if (!directory.ok()) {
    q4::fuzz::CheckError(directory.status());
    return 0;
  }
  if (const absl::Status status = q4::CheckZipEntries(file, &*directory); !status.ok()) {
    q4::fuzz::CheckError(status);
    return 0;
  }
  std::vector<q4::ZipEntry> entries = directory->entries;
  std::sort(entries.begin(), entries.end(),
            [](const q4::ZipEntry& a, const q4::ZipEntry& b) { return a.header_offset < b.header_offset; });
  std::uint64_t end = 0;
  std::string root;
  for (const q4::ZipEntry& entry : entries) {
    Q4_FUZZ_CHECK(entry.header_offset == end);
    Q4_FUZZ_CHECK(entry.offset > entry.header_offset && entry.offset >= end);
    Q4_FUZZ_CHECK(q4::RangeFits(entry.offset, entry.bytes, directory->offset));
    Q4_FUZZ_CHECK(entry.method == 0 && entry.bytes == entry.unpacked);
    end = entry.offset + entry.bytes;
    if (entry.flags & 8) {
      const auto next =
          std::upper_bound(entries.begin(), entries.end(), entry.header_offset,
                           [](std::uint64_t at, const q4::ZipEntry& other) { return at < other.header_offset; });
      const std::uint64_t begin = next == entries.end() ? directory->offset : next->header_offset;
      Q4_FUZZ_CHECK(begin == end + 16 || begin == end + 24);
      end = begin;
    }
    const std::string its_root = entry.name.substr(0, entry.name.find('/'));
    Q4_FUZZ_CHECK(!its_root.empty() && (root.empty() || root == its_root));
    root = its_root;
  }
  Q4_FUZZ_CHECK(end == directory->offset);
  const auto checkpoint = q4::ReadTorchCheckpoint(file);
  if (!checkpoint.ok()) {
    q4::fuzz::CheckError(checkpoint.status());
    return 0;
  }
  for (const q4::SourceTensor& tensor : checkpoint->tensors) {
    const bool inside = std::any_of(entries.begin(), entries.end(), [&](const q4::ZipEntry& entry) {
      return tensor.place().offset >= entry.offset && tensor.place().end() <= entry.offset + entry.bytes;
    });
    Q4_FUZZ_CHECK(inside);
  }
  return 0;
}
