// What identifies a source file in the provenance, and how far its digest has come.
#pragma once

#include <cstdint>

#include "formats/base/digest.h"

namespace q4 {

// --source-digest. SHA-256 is what model hubs list; XXH3 is for those who cannot wait for it.
enum class SourceDigest : std::uint8_t { kSha256, kXxh3 };

// How far the digest of a source file has come: what a journal keeps of it.
struct SourceDigestState {
  std::uint32_t file = 0;  // index into Checkpoint::files()
  Sha256State sha256;
};

}  // namespace q4
