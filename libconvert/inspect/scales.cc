// Scales are a small share of a tensor, read in pieces of 4 MiB as they decode. Tensors of containers and of
// checkpoints are read through one interface (model/stored_tensor.h).
#include <algorithm>
#include <cmath>
#include <string_view>

#include "formats/base/status.h"
#include "libconvert/inspect/inspect.h"
#include "libconvert/model/decoder.h"
#include "libconvert/model/stored_tensor.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

// Whole groups of nested scales.
constexpr std::uint64_t kScalesAtOnce = std::uint64_t{1} << 20;

absl::StatusOr<InspectScales> ScalesOf(const ReadableTensor& tensor, const KernelTable& kernels) {
  InspectScales scales;
  const TensorDecoder decoder(kernels, tensor.tensor, *tensor.parts);
  const std::uint64_t blocks = tensor.tensor.blocks();
  for (std::uint64_t first = 0; first < blocks; first += kScalesAtOnce) {
    Q4_ASSIGN_OR_RETURN(const BlockScales piece, decoder.ReadScales(first, std::min(kScalesAtOnce, blocks - first)));
    std::vector<float> finite(piece.decoded.begin(), piece.decoded.end());
    scales.not_finite += std::erase_if(finite, [](float scale) { return !std::isfinite(scale); });
    AddScales(finite, &scales.spread);
  }
  return scales;
}

}  // namespace

absl::StatusOr<std::vector<InspectScales>> ReadScales(const OpenedModel& model,
                                                      const std::vector<const InspectTensor*>& tensors,
                                                      const KernelTable& kernels) {
  const ScopedFloatEnvironment environment;
  Q4_ASSIGN_OR_RETURN(const std::vector<ReadableTensor> readable, TensorsOf(model));
  std::vector<InspectScales> scales(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i]->quantized()) continue;
    // Both lists are of the same model, and this one is sorted.
    const auto at =
        std::lower_bound(readable.begin(), readable.end(), tensors[i]->name,
                         [](const ReadableTensor& tensor, std::string_view name) { return tensor.tensor.name < name; });
    Q4_ASSIGN_OR_RETURN(scales[i], ScalesOf(*at, kernels));
  }
  return scales;
}

}  // namespace q4
