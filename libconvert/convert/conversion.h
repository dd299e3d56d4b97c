// What is converted, and how: the arguments of RunConversion() as one, for the files behind it. Not a door of the wing:
// callers from outside pass the arguments themselves.
#pragma once

#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/convert.h"
#include "libconvert/plan/plan.h"

namespace q4 {

// Owns nothing: all of it belongs to the caller of RunConversion() and stays as it is until that returns.
struct Conversion {
  FileSystem& fs;  // where outputs and companion files lie
  const Checkpoint& checkpoint;
  // PlanConversion() of `checkpoint` and `options`.
  const ConversionPlan& plan;
  const ConvertOptions& options;  // decide the bytes of the output
  const RunOptions& run;          // decide how the work is done; change no byte
};

}  // namespace q4
