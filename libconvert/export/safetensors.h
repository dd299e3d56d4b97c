// "safetensors": a dequantized checkpoint. Internal to libconvert/export/.
#pragma once

#include "libconvert/export/exporter.h"

namespace q4 {

// One tensor for each of the container. F32, F16 and BF16 tensors, quantized or not, get options.dtype if it is given;
// all others stay as they are. config.json loses quantization_config, and names the dtype if that is given. Refuses an
// embedded config.json that is no JSON object (exit code 3).
const Exporter& SafetensorsExporter();

}  // namespace q4
