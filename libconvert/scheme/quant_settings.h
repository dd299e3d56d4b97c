// How one tensor is quantized.
#pragma once

#include "formats/q4/container.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {

// The defaults are those of --type, --block-size, --double-quant and --encoder.
struct QuantSettings : QuantFormat {
  QuantSettings() : QuantSettings({Q4Scheme::kNf4, 64, true}, Q4Encoder::kAbsmax) {}
  QuantSettings(const QuantFormat& format, Q4Encoder chosen) : QuantFormat(format), encoder(chosen) {}

  Q4Encoder encoder;
  bool operator==(const QuantSettings&) const = default;
};

}  // namespace q4
