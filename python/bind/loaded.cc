// Parts of loaded tensors as arrays, each an export of its own: DLPack, and the buffer protocol on the host.
#include "python/bind/loaded.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/status.h"
#include "libconvert/load/load_issues.h"
#include "python/bind/module.h"
#include "python/bind/status_error.h"

namespace nb = nanobind;

namespace q4::python {
namespace {

using Array = nb::ndarray<nb::array_api>;

// DLPack's name of an element type.
nb::dlpack::dtype TypeOf(DType dtype) {
  using Code = nb::dlpack::dtype_code;
  Code code = Code::UInt;
  switch (dtype) {
    case DType::kBool:
      code = Code::Bool;
      break;
    case DType::kU8:
    case DType::kU16:
    case DType::kU32:
    case DType::kU64:
      break;
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
      code = Code::Int;
      break;
    case DType::kF8E4M3:
      code = Code::Float8_E4M3FN;
      break;
    case DType::kF8E5M2:
      code = Code::Float8_E5M2;
      break;
    case DType::kF8E8M0:
      code = Code::Float8_E8M0FNU;
      break;
    case DType::kBF16:
      code = Code::Bfloat;
      break;
    case DType::kF16:
    case DType::kF32:
    case DType::kF64:
      code = Code::Float;
      break;
    case DType::kC64:
      code = Code::Complex;
      break;
  }
  return {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(ItemSize(dtype) * 8), 1};
}

// A part of a tensor: where it lies, and of what it consists. The offset of nested scales is a scalar.
struct Piece {
  const void* data = nullptr;
  DType dtype = DType::kU8;
  Shape shape;
};

Piece PieceOf(const LoadedTensor& tensor, std::string_view part) {
  const std::uint64_t blocks = tensor.entry.blocks();
  if (part == "values") return {tensor.values, tensor.dtype, tensor.entry.shape};
  if (part == "codes") return {tensor.codes, DType::kU8, {(tensor.entry.elems + 1) / 2}};
  if (part == "scales") return {tensor.scales, DType::kF32, {blocks}};
  if (part == "scale_codes") return {tensor.scale_codes, DType::kU8, {blocks}};
  if (part == "scales2") return {tensor.scales2, DType::kF32, {(blocks + 255) / 256}};
  if (part == "offset") return {tensor.nested_offset, DType::kF32, {}};
  throw StatusError(Fail(kLoadOption, {}, "part", GotExpected(part, "the name of a part")));
}

std::vector<std::string> PartsOf(const LoadedTensor& tensor) {
  // Without elements there is no pointer that would tell; such a tensor has empty values.
  if (tensor.codes == nullptr) return {"values"};
  if (tensor.scale_codes != nullptr) return {"codes", "scale_codes", "scales2", "offset"};
  return {"codes", "scales"};
}

const LoadedTensor& TensorAt(const Loaded& loaded, std::size_t index) {
  if (index >= loaded.model->tensors.size()) throw nb::index_error();
  return loaded.model->tensors[index];
}

std::uint64_t BytesOf(const Piece& piece) {
  std::uint64_t bytes = ItemSize(piece.dtype);
  for (const std::uint64_t size : piece.shape) bytes *= size;
  return bytes;
}

// Of all parts.
std::uint64_t BytesOf(const Loaded& loaded) {
  std::uint64_t bytes = 0;
  for (const LoadedTensor& tensor : loaded.model->tensors) {
    for (const std::string& part : PartsOf(tensor)) bytes += BytesOf(PieceOf(tensor, part));
  }
  return bytes;
}

// `raw`: the bytes as they are, for element types that the buffer protocol has no name for.
Array Part(const Loaded& loaded, std::size_t index, const std::string& part, bool raw) {
  const LoadedTensor& tensor = TensorAt(loaded, index);
  Piece piece = PieceOf(tensor, part);
  if (raw) {
    piece.shape = {BytesOf(piece)};
    piece.dtype = DType::kU8;
  }
  auto keep = std::make_unique<std::shared_ptr<const LoadedModel>>(loaded.model);
  const nb::capsule owner(keep.get(),
                          [](void* held) noexcept { delete static_cast<std::shared_ptr<const LoadedModel>*>(held); });
  // The capsule's now.
  (void)keep.release();
  const std::vector<std::size_t> shape(piece.shape.begin(), piece.shape.end());
  const bool on_gpu = loaded.cuda_device >= 0;
  // The memory is the caller's, who may write it: nothing else reads it.
  return Array(const_cast<void*>(piece.data), shape.size(), shape.data(), owner, nullptr, TypeOf(piece.dtype),
               on_gpu ? nb::device::cuda::value : nb::device::cpu::value, on_gpu ? loaded.cuda_device : 0);
}

}  // namespace

void BindLoaded(nb::module_& module) {
  nb::class_<Loaded>(module, "Loaded", "Tensors in memory, by number in the order of their names.")
      .def_prop_ro("cuda_device", [](const Loaded& loaded) { return loaded.cuda_device; })
      .def_prop_ro("nbytes", [](const Loaded& loaded) { return BytesOf(loaded); })
      .def_prop_ro("read_bytes", [](const Loaded& loaded) { return loaded.model->read_bytes; })
      .def("names",
           [](const Loaded& loaded) {
             std::vector<std::string> names;
             for (const LoadedTensor& tensor : loaded.model->tensors) names.push_back(tensor.entry.name);
             return names;
           })
      .def(
          "parts", [](const Loaded& loaded, std::size_t index) { return PartsOf(TensorAt(loaded, index)); },
          nb::arg("index"))
      .def(
          "shape",
          [](const Loaded& loaded, std::size_t index) {
            return nb::tuple(nb::cast(TensorAt(loaded, index).entry.shape));
          },
          nb::arg("index"), nb::sig("def shape(self, index: int) -> tuple[int, ...]"))
      .def(
          "dtype",
          [](const Loaded& loaded, std::size_t index) { return std::string(DTypeName(TensorAt(loaded, index).dtype)); },
          nb::arg("index"), "Of the values; without values, that of the source.")
      .def("part", &Part, nb::arg("index"), nb::arg("part"), nb::arg("raw"),
           "A part as an array that keeps the memory alive.");
}

}  // namespace q4::python
