// The 4-bit weights of a bitsandbytes checkpoint as logical tensors: one for each weight, of the shape and dtype that
// it had, in the place of the up to six tensors that the file has for it. Codes and scales stay what they are, so that
// they can be taken over without loss; how their numbers are to be understood is not asked here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/file.h"
#include "formats/q4/container.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// What SourceTensor::bnb says of a weight: its format, and where codes and scales lie. All of it is validated, but for
// the values of scales and maps.
struct BnbSource : QuantFormat {
  float nested_offset = 0;  // as in Q4Tensor; not necessarily finite
  // The tensors of codes and scales as the files have them, kPlain, one for each of Q4PartKindsOf() and of as many
  // bytes. That of the codes may have any dtype (bitsandbytes' quant_storage).
  std::vector<SourceTensor> parts;
  std::string quant_state;  // the text that describes the weight
  // The two tables, 16 and 256 fp32 values, little-endian, as the files have them; nested_map only if nested. Weights
  // with equal ones share them.
  std::shared_ptr<const std::vector<std::uint8_t>> quant_map, nested_map;
};

// Joins the tensors of each 4-bit weight among `tensors`; all others stay. `files`: what SourceExtent::file counts.
// Reads descriptions and tables, up to 1.4 KB of each weight. A logical tensor stands where its codes were and has
// the extents of all parts, codes first. A checkpoint without any such weight is no error.
//
// Errors: kBnbQuantState and kBnbParts (exit code 3) for a weight that is not whole, or a part without its weight; I/O.
absl::Status TakeOverBnb(const std::vector<const RandomAccessFile*>& files, std::vector<SourceTensor>* tensors);

}  // namespace q4
