// The rule of content_tag.h.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Something on the way, or the server, gives other bytes: a proxy, a cache, a copy that is no copy.
inline constexpr Issue kNotAsPublished{6320, ExitCode::kCheckFailed,
                                       "what was read has another SHA-256 than its publisher states"};

}  // namespace q4
