// From the flags of q4export to what the library is asked for.
#pragma once

#include "libconvert/export/export.h"
#include "tools/options.h"

namespace q4 {

// Everything but progress and cancel. Options that only another exporter looks at are passed on all the same.
ExportOptions ExportOptionsFrom(const ExportFlags& flags);

}  // namespace q4
