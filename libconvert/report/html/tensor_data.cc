// What page.js sorts by and shows when a row is opened. Numbers have six digits, more than the page ever shows: the
// JSON report has all. Only the worst tensors bring the values of their blocks, so that a model with ten thousand
// tensors still is a page of a few megabytes.
//
// Tensors are arrays, not objects: names of members would be most of the bytes. kFields says once which value stands
// where.
#include <limits>
#include <set>
#include <string>

#include "fmt/format.h"
#include "kernels/kernels.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/format.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/summary.h"
#include "libconvert/scheme/scheme.h"

namespace q4::html {
namespace {

// Blocks are the largest member: three of them with four elements each are about 600 bytes.
constexpr std::size_t kTensorsWithBlocks = 1000;

// The order of the values in each tensor's array: first what TensorData() writes, then the fourteen of Statistics(),
// then the error beside absmax', scales and blocks. page.js takes the names from here; only this text and those
// functions must agree.
constexpr const char* kFields =
    "[\"name\",\"passed\",\"layer\",\"role\",\"treatment\",\"shape\",\"book\",\"elems\",\"bits\",\"sqnr_db\",\"nmse\","
    "\"rmse\","
    "\"bias\",\"cosine\",\"max_abs_err\",\"max_at\",\"max_gap_ratio\",\"clipped\",\"overflow\",\"zero_blocks\",\"tiny_"
    "blocks\","
    "\"entropy\",\"hist\",\"absmax\",\"scales\",\"blocks\"]";

// {"nf4":[...],"fp4":[...]}: the values by code.
std::string Books() {
  std::string books;
  for (const Scheme& scheme : Schemes()) {
    std::string values;
    for (const float value : scheme.code_values())
      values += (values.empty() ? "" : ",") + JsonNumber(static_cast<double>(value));
    books += fmt::format("{}\"{}\":[{}]", books.empty() ? "" : ",", scheme.name(), values);
  }
  return "{" + books + "}";
}

std::string Statistics(const VerifyTensor& tensor) {
  if (!tensor.quantized() || !tensor.has_stats)
    // As many as Statistics() has values, so that those behind keep their places.
    return "null,null,null,null,null,null,null,null,null,null,null,null,null,null";
  const Q4Stats& stats = tensor.stats;
  const DerivedStats derived = Derive(stats);
  return fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},[{}]", JsonNumber(derived.sqnr_db),
                     JsonNumber(derived.nmse), JsonNumber(derived.rmse), JsonNumber(derived.bias),
                     JsonNumber(derived.cosine), JsonNumber(stats.max_abs_err),
                     JsonText(ElementPosition(tensor.shape, stats.max_abs_err_index)), JsonNumber(stats.max_gap_ratio),
                     stats.clipped, stats.overflow, stats.zero_blocks, stats.tiny_blocks,
                     JsonNumber(CodeEntropyBits(stats)), fmt::join(stats.hist, ","));
}

// [count, least, largest, zeros, first exponent, [count by exponent]]
std::string Scales(const ScaleSpread& scales) {
  if (scales.count == 0) return "null";
  std::string counts;
  const int first = scales.by_exponent.empty() ? 0 : scales.by_exponent.begin()->first;
  // The map has only exponents that occur; the plot needs those between them as well, as zeros.
  int next = first;
  for (const auto& [exponent, count] : scales.by_exponent) {
    for (; next < exponent; ++next) counts += counts.empty() ? "0" : ",0";
    counts += fmt::format("{}{}", counts.empty() ? "" : ",", count);
    ++next;
  }
  return fmt::format("[{},{},{},{},{},[{}]]", scales.count, JsonNumber(static_cast<double>(scales.min)),
                     JsonNumber(static_cast<double>(scales.max)), scales.zeros, first, counts);
}

// [[block, position, sum of squares, scale, [[position, source, decoded], ...]], ...]
std::string Blocks(const VerifyTensor& tensor) {
  std::string blocks;
  for (const WorstBlock& block : tensor.worst_blocks) {
    std::string elements;
    for (const WorstElement& element : block.elements) {
      elements += fmt::format(
          "{}[{},{},{}]", elements.empty() ? "" : ",", JsonText(ElementPosition(tensor.shape, element.index)),
          JsonNumber(static_cast<double>(element.source)), JsonNumber(static_cast<double>(element.decoded)));
    }
    blocks += fmt::format("{}[{},{},{},{},[{}]]", blocks.empty() ? "" : ",", block.block,
                          JsonText(ElementPosition(tensor.shape, block.block * tensor.block_size)),
                          JsonNumber(block.sum_e2), JsonNumber(static_cast<double>(block.scale)), elements);
  }
  return "[" + blocks + "]";
}

}  // namespace

std::string TensorData(const VerifyReport& report) {
  // By address: pointers of WorstTensors() point into the report.
  std::set<const VerifyTensor*> with_blocks;
  for (const VerifyTensor* tensor : WorstTensors(report, kTensorsWithBlocks)) with_blocks.insert(tensor);
  std::string data = fmt::format("{{\"books\":{},\n\"fields\":{},\n\"tensors\":[", Books(), kFields);
  const char* separator = "\n";
  for (const VerifyTensor& tensor : report.tensors) {
    // NaN, that is null, for an empty tensor. Stored bytes have scales and compression in them, so kept tensors may
    // have fewer bits than their dtype.
    const double bits = tensor.elems == 0
                            ? std::numeric_limits<double>::quiet_NaN()
                            : 8 * static_cast<double>(tensor.stored_bytes) / static_cast<double>(tensor.elems);
    data += fmt::format("{}[{},{},{},{},{},{},{},{},{},{},{},{},{}]", separator, JsonText(tensor.name), tensor.passed,
                        JsonText(tensor.layer), JsonText(tensor.role), JsonText(TreatmentOf(tensor)),
                        JsonText(ShapeString(tensor.shape)),
                        tensor.quantized() ? fmt::format("\"{}\"", Q4SchemeName(tensor.scheme)) : "null", tensor.elems,
                        JsonNumber(bits), Statistics(tensor),
                        tensor.absmax.tensors == 0 ? "null" : JsonNumber(tensor.absmax.Ratio()), Scales(tensor.scales),
                        with_blocks.contains(&tensor) ? Blocks(tensor) : "null");
    separator = ",\n";
  }
  return data + "]}";
}

}  // namespace q4::html
