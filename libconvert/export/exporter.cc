// One row for each value of q4export --to, in the order of --help.
#include "libconvert/export/exporter.h"

#include <algorithm>
#include <iterator>

#include "libconvert/export/bnb.h"
#include "libconvert/export/safetensors.h"

namespace q4 {

std::span<const ExporterRow> Exporters() {
  // Local and not global: the exporters are made by functions of other files, and the order in which globals of
  // different files are made is unspecified.
  static const ExporterRow kRows[] = {
      {"bnb", "pre-quantized bitsandbytes model", ExporterRow::Weights::kQuantized, &BnbExporter()},
      {"safetensors", "dequantized checkpoint", ExporterRow::Weights::kDequantized, &SafetensorsExporter()},
  };
  return kRows;
}

const ExporterRow* FindExporter(std::string_view name) {
  const std::span<const ExporterRow> rows = Exporters();
  const auto row = std::find_if(rows.begin(), rows.end(), [name](const ExporterRow& r) { return r.name == name; });
  return row == rows.end() ? nullptr : &*row;
}

}  // namespace q4
