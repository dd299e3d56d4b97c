// Rules of reading the source of a conversion. What is wrong with a source file itself is checked by its reader
// (formats/source/checkpoint_issues.h); the rules here are those of the way to the elements.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Raised by FileHasher::Finish() when bytes of a tensor were neither brought nor digested by an earlier run: the
// pipeline lost a slab.
inline constexpr Issue kSourceUnread{9201, ExitCode::kInternal, "a source file was not read to its end"};

}  // namespace q4
