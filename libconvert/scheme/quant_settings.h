// How one tensor is quantized: its format (scheme, block size, nested scales), which readers need, and its encoder,
// which only chooses codes and scales. The policy fills one in for each tensor (policy.h), the plan turns it into a
// tensor of the container.
#pragma once

#include "formats/q4/container.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {

// The block size is one of 32, 64, ... 4096 (numerics Q1.3). The defaults are those of --type, --block-size,
// --double-quant and --encoder.
struct QuantSettings : QuantFormat {
  QuantSettings() : QuantSettings({Q4Scheme::kNf4, 64, true}, Q4Encoder::kAbsmax) {}
  QuantSettings(const QuantFormat& format, Q4Encoder chosen) : QuantFormat(format), encoder(chosen) {}

  // kNone of a tensor that is taken over with its codes; never asked for.
  Q4Encoder encoder;
  bool operator==(const QuantSettings&) const = default;
};

}  // namespace q4
