// How one tensor is quantized.
#pragma once

#include "formats/q4/container.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {

// Whether this version can run `encoder`. The format knows encoders that others may have used; one that is asked for
// and not built must be refused, or the file would name an encoder that did not choose its codes.
inline bool IsBuiltEncoder(Q4Encoder encoder) { return encoder == Q4Encoder::kAbsmax; }

// The defaults are those of --type, --block-size, --double-quant and --encoder.
struct QuantSettings : QuantFormat {
  QuantSettings() : QuantSettings({Q4Scheme::kNf4, 64, true}, Q4Encoder::kAbsmax) {}
  QuantSettings(const QuantFormat& format, Q4Encoder chosen) : QuantFormat(format), encoder(chosen) {}

  Q4Encoder encoder;
  bool operator==(const QuantSettings&) const = default;
};

}  // namespace q4
