// The zip archive that torch.save writes: stored entries one after another, the directory, the end records, nothing
// else. zip leaves much open (two headers for each entry, sizes in five places, a search for the end), and readers that
// choose differently see different files. So everything is read that says something, and all of it must agree.
//
// No payload is read here: entries are ranges of the file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

struct ZipEntry {
  std::string name;                 // as stored; untrusted text
  std::uint64_t header_offset = 0;  // of its local header
  std::uint64_t offset = 0;         // of its first byte, once CheckZipEntries() has found it
  std::uint64_t bytes = 0;          // as stored, and, where `method` is 0, as they are
  std::uint64_t unpacked = 0;       // as the directory says
  std::uint32_t crc32 = 0;          // 0 where the writer computed none
  std::uint16_t flags = 0;
  std::uint16_t method = 0;  // 0: stored
};

// What the directory lists, in its order, and where it begins. Nothing has been compared with the entries themselves.
struct ZipDirectory {
  std::vector<ZipEntry> entries;
  std::uint64_t offset = 0;
};

// Reads the end records, zip64 or not, and the directory. Memory: some 100 bytes for each entry, at most
// limits::kZipEntries. Errors: kZipDirectory, kZipTooMany, kZipEntry for a directory record, and those of ReadAt().
absl::StatusOr<ZipDirectory> ReadZipDirectory(const RandomAccessFile& file);

// Compares the local headers with the directory and finds where the entries' bytes are. Afterwards each entry is
// stored, lies inside the file, and the entries fill it from its first byte to the directory without a gap, in whatever
// order the directory has them. Names are different plain paths under one root. A read for each entry. Errors:
// kZipCompressed, kZipEntry, kZipName, kZipRanges.
absl::Status CheckZipEntries(const RandomAccessFile& file, ZipDirectory* directory);

}  // namespace q4
