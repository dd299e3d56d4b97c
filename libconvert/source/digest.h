// What identifies a source file in the provenance, and how far its digest has come. Apart from file_hasher.h, so that
// the journal can name the state without seeing the hasher; file_digest.h digests a file in one go.
#pragma once

#include <cstdint>

#include "formats/base/digest.h"

namespace q4 {

// The values of --source-digest. SHA-256 is what model hubs list, so that a file can be found by it; it runs at about 2
// GB/s. XXH3 (seed 0) runs at memory speed, for those who cannot wait; it resists no attacker.
enum class SourceDigest : std::uint8_t { kSha256, kXxh3 };

// How far the SHA-256 of one source file has come: what a journal keeps of it. There is none for XXH3, whose state
// cannot be saved.
struct SourceDigestState {
  std::uint32_t file = 0;  // index into Checkpoint::files()
  Sha256State sha256;      // over the first sha256.bytes bytes of that file
};

}  // namespace q4
