// Brings the tensors of a .q4 model into memory, of this process or of a GPU: the loader's API in C++. q4_loader_c.h is
// the same in C. docs/loading.md has an example and says how it works and what bounds its speed. Callers with memory of
// their own use plan.h and fill.h instead.
//
//   Q4_ASSIGN_OR_RETURN(const auto model, Q4Model::Open(PosixFileSystem(), "model.q4"));
//   Q4_ASSIGN_OR_RETURN(const auto memory, MakeCudaMemory(0));
//   Q4_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(*model, *memory, {}));
//   const LoadedTensor* q_proj = loaded.Find("model.layers.0.self_attn.q_proj.weight");
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/tensor/tensor.h"
#include "libconvert/load/fill.h"
#include "libconvert/load/memory.h"
#include "libconvert/load/plan.h"

namespace q4 {

// What is loaded, and how.
struct LoadOptions : LoadPlanOptions, LoadFillOptions {};

// One tensor in memory. Either `values` is set, or `codes` and scales; a tensor without elements has neither. Pointers
// are into LoadedModel::blocks and multiples of 256.
struct LoadedTensor {
  Q4Tensor entry;  // what the container says of the whole: name, shape, source dtype, scheme, block size, statistics
  // Of what was loaded: of a slice its own.
  Shape shape;
  std::uint64_t elems = 0;

  // Kept tensors, and all in a dequantized form: elements, row-major.
  DType dtype = DType::kF32;  // of the values; without values, that of the source
  const std::uint8_t* values = nullptr;
  std::uint64_t value_bytes = 0;

  // Quantized tensors: docs/format.md F3.4 says what each holds.
  const std::uint8_t* codes = nullptr;        // [ceil(elems / 2)]
  const float* scales = nullptr;              // [blocks], fp32; null if nested:
  const std::uint8_t* scale_codes = nullptr;  // [blocks]
  const float* scales2 = nullptr;             // [ceil(blocks / 256)], the group scales
  const float* nested_offset = nullptr;       // [1]; entry.nested_offset is the same on the host
};

// What was loaded. The pointers live as long as this does; it needs neither the Q4Model nor the LoadMemory any more.
struct LoadedModel {
  std::vector<LoadedTensor> tensors;                 // bytewise sorted by name
  std::vector<std::unique_ptr<MemoryBlock>> blocks;  // all of them lie in these
  std::uint64_t read_bytes = 0;                      // of the files, by this call: the stored chunks

  // nullptr when no such tensor was loaded. Binary search. Lives as long as this.
  const LoadedTensor* Find(std::string_view name) const;
};

// The tensors of a load into memory of the caller's own, bytewise sorted by name. The pointers live as long as that.
// REQUIRES: FillLoad() took `places`.
std::vector<LoadedTensor> LoadedTensors(const LoadPlan& plan, const LoadPlaces& places);

// PlanLoad(), memory for its blocks, and FillLoad(): their errors, and kLoadHostMemory or kDeviceMemory when there is
// too little. Returns when every tensor is ready. On an error nothing is left allocated.
absl::StatusOr<LoadedModel> LoadModel(const Q4Model& model, LoadMemory& memory, const LoadOptions& options);

}  // namespace q4
