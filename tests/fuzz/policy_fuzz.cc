// The default policy on the names, shapes and configuration of a checkpoint that nobody vouches for. The input is a
// line per tensor (a character for the dtype, one for the shape, the name), an empty line, and config.json.
#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libconvert/policy/policy.h"
#include "libconvert/policy/skip_modules.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

constexpr std::size_t kMostTensors = 64;

// The text up to the next newline, which is consumed.
std::string_view TakeLine(std::string_view* text) {
  const std::string_view line = text->substr(0, text->find('\n'));
  text->remove_prefix(std::min(text->size(), line.size() + 1));
  return line;
}

// "1" is a vector, "2" a matrix, ...; '0' a scalar. 'z' and beyond have no elements.
Shape ShapeOf(char c) {
  Shape shape(static_cast<unsigned char>(c) % 4, 8);
  if (c >= 'z' && !shape.empty()) shape.back() = 0;
  return shape;
}

std::vector<SourceTensor> TakeTensors(std::string_view* text) {
  std::vector<SourceTensor> tensors;
  std::set<std::string_view> names;
  while (tensors.size() < kMostTensors) {
    const std::string_view line = TakeLine(text);
    if (line.empty()) break;
    if (line.size() < 3 || !names.insert(line.substr(2)).second) continue;
    SourceTensor tensor;
    tensor.name = line.substr(2);
    tensor.dtype = static_cast<DType>(1 + static_cast<unsigned char>(line[0]) % kMaxDType);
    tensor.shape = ShapeOf(line[1]);
    Q4_FUZZ_CHECK(CountElements(tensor.shape, &tensor.elems));
    tensor.bytes = tensor.elems * ItemSize(tensor.dtype);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(policy) {
  using namespace q4;
  std::string_view text = fuzz::TextOf(data, size);
  const std::vector<SourceTensor> tensors = fuzz::TakeTensors(&text);
  const std::string config(text);
  const auto decisions = DecideTensors(tensors, config, {});
  if (!decisions.ok()) {
    fuzz::CheckError(decisions.status());
    return 0;
  }
  Q4_FUZZ_CHECK(decisions->size() == tensors.size());
  std::vector<bool> quantized;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Decision& decision = (*decisions)[i];
    Q4_FUZZ_CHECK(!decision.quantize || (IsQuantizable(tensors[i].dtype) && tensors[i].elems > 0));
    Q4_FUZZ_CHECK(!decision.reason.empty() && Printable(decision.reason) == decision.reason);
    quantized.push_back(decision.quantize);
  }
  const std::vector<std::string> skip = ModulesToSkip(tensors, quantized, config).entries;
  Q4_FUZZ_CHECK(std::adjacent_find(skip.begin(), skip.end(), std::greater_equal<>()) == skip.end());
  return 0;
}
