// "bnb": a checkpoint that bitsandbytes' readers load without quantizing it again. Internal to libconvert/export/.
#pragma once

#include "libconvert/export/exporter.h"

namespace q4 {

// Every quantized weight becomes the tensors of formats/bnb/layout.h, its codes and scales as they are stored; every
// other tensor stays as it is. config.json says how transformers is to load them. Refuses a scheme that
// bitsandbytes does not read, packed codes that are no whole number of options.quant_storage items and weights that
// transformers stores transposed (exit code 5), and an embedded config.json that is no JSON object (3).
const Exporter& BnbExporter();

}  // namespace q4
