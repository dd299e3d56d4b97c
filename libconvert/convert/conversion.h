// What is converted, and how: the arguments of RunConversion() as one, for the files behind it.
#pragma once

#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/convert.h"
#include "libconvert/convert/plan.h"

namespace q4 {

// Owns nothing: all of it belongs to the caller of RunConversion() and stays as it is until that returns.
struct Conversion {
  FileSystem& fs;
  const Checkpoint& checkpoint;
  const ConversionPlan& plan;
  const ConvertOptions& options;
  const RunOptions& run;
};

}  // namespace q4
