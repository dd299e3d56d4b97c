// The bitsandbytes 4-bit checkpoint layout: which tensors one quantized weight becomes, their names, dtypes and shapes,
// and the JSON that describes it. Pure: no I/O, no numbers computed, nothing read from untrusted bytes.
//
// A weight P of n elements in nb = ceil(n / block size) blocks is stored as
//
//   P                               codes, two per byte   U8 [ceil(n/2), 1], or reinterpreted as a wider dtype
//   P.absmax                        scales                F32 [nb]; nested: U8 [nb]
//   P.quant_map                     code values           F32 [16]
//   P.nested_absmax                 scales of the scales  F32 [ceil(nb/256)]           nested only
//   P.nested_quant_map              map of scale codes    F32 [256]                    nested only
//   P.quant_state.bitsandbytes__nf4 JSON text             U8 [its length]              (or ...__fp4)
//
// The logical shape is in the JSON alone. docs/export_bnb.md describes the whole directory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/q4/container.h"
#include "formats/tensor/tensor.h"

namespace q4 {

// The tensors of one quantized weight, in the order of the table above.
enum class BnbPart : std::uint8_t { kCodes, kAbsmax, kQuantMap, kNestedAbsmax, kNestedQuantMap, kQuantState };

// One tensor to be written: where it belongs, and all that the header of its file says of it.
struct BnbTensor {
  BnbPart part = BnbPart::kCodes;
  std::string key;  // as in the table above, with the name of the weight for P
  DType dtype = DType::kU8;
  Shape shape;
  std::uint64_t bytes = 0;  // product of `shape` times ItemSize(dtype)
};

// The tensors that `weight` becomes; two parts fewer when it is not nested. `storage` is the dtype that the packed
// codes pose as: U8, BF16, F16 or F32; their bytes are the same. REQUIRES: `weight` is quantized, its dtype is F32, F16
// or BF16, and BnbStorageFits(weight.elems, storage).
std::vector<BnbTensor> BnbTensorsOf(const Q4Tensor& weight, DType storage);

// Whether the packed codes of `elems` elements are a whole number of `storage` items; bitsandbytes cannot store them
// otherwise.
bool BnbStorageFits(std::uint64_t elems, DType storage);

// The quant_state text of `weight`: json.dumps of the library's dictionary, byte for byte.
// REQUIRES: as BnbTensorsOf.
std::string BnbQuantStateJson(const Q4Tensor& weight);

// The library's name of a scheme, "nf4" or "fp4"; "" for one that it does not read.
std::string_view BnbQuantTypeName(Q4Scheme scheme);
// The scheme that the library calls so; nullopt for any other name.
std::optional<Q4Scheme> SchemeOfBnbType(std::string_view name);

// The library's name of a dtype: "float32", "float16", "bfloat16", "uint8"; "" for any other.
std::string_view TorchDTypeName(DType dtype);

}  // namespace q4
