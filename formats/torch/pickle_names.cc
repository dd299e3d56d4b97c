#include "formats/torch/pickle_names.h"

#include <algorithm>
#include <iterator>

namespace q4 {
namespace {

using enum PickleRole;

constexpr PickleName kPickleNames[] = {
    {"collections", "OrderedDict", kOrderedDict},
    {"torch._utils", "_rebuild_tensor_v2", kTensor},
    {"torch._utils", "_rebuild_tensor_v3", kTypedTensor},
    {"torch._utils", "_rebuild_parameter", kParameter},
    {"torch._utils", "_rebuild_parameter_with_state", kParameterState},
    {"torch._tensor", "_rebuild_from_type_v2", kFromType},
    {"torch", "Tensor", kTensorType},
    {"torch.nn.parameter", "Parameter", kTensorType},
    {"torch.nn.parameter", "Buffer", kTensorType},

    {"torch", "FloatStorage", kStorage, DType::kF32},
    {"torch", "HalfStorage", kStorage, DType::kF16},
    {"torch", "BFloat16Storage", kStorage, DType::kBF16},
    {"torch", "DoubleStorage", kStorage, DType::kF64},
    {"torch", "LongStorage", kStorage, DType::kI64},
    {"torch", "IntStorage", kStorage, DType::kI32},
    {"torch", "ShortStorage", kStorage, DType::kI16},
    {"torch", "CharStorage", kStorage, DType::kI8},
    {"torch", "ByteStorage", kStorage, DType::kU8},
    {"torch", "BoolStorage", kStorage, DType::kBool},
    {"torch", "ComplexFloatStorage", kStorage, DType::kC64},
    {"torch.storage", "UntypedStorage", kUntypedStorage},
    {"torch", "UntypedStorage", kUntypedStorage},
    {"torch", "ComplexDoubleStorage", kUnread, DType::kF32, "complex128"},
    {"torch", "QInt8Storage", kUnread, DType::kF32, "quantized"},
    {"torch", "QUInt8Storage", kUnread, DType::kF32, "quantized"},
    {"torch", "QInt32Storage", kUnread, DType::kF32, "quantized"},
    {"torch", "QUInt4x2Storage", kUnread, DType::kF32, "quantized"},
    {"torch", "QUInt2x4Storage", kUnread, DType::kF32, "quantized"},

    {"torch", "float32", kDType, DType::kF32},
    {"torch", "float16", kDType, DType::kF16},
    {"torch", "bfloat16", kDType, DType::kBF16},
    {"torch", "float64", kDType, DType::kF64},
    {"torch", "int64", kDType, DType::kI64},
    {"torch", "int32", kDType, DType::kI32},
    {"torch", "int16", kDType, DType::kI16},
    {"torch", "int8", kDType, DType::kI8},
    {"torch", "uint8", kDType, DType::kU8},
    {"torch", "uint16", kDType, DType::kU16},
    {"torch", "uint32", kDType, DType::kU32},
    {"torch", "uint64", kDType, DType::kU64},
    {"torch", "bool", kDType, DType::kBool},
    {"torch", "complex64", kDType, DType::kC64},
    {"torch", "float8_e4m3fn", kDType, DType::kF8E4M3},
    {"torch", "float8_e5m2", kDType, DType::kF8E5M2},
    {"torch", "float8_e8m0fnu", kDType, DType::kF8E8M0},
    {"torch", "float8_e4m3fnuz", kUnread, DType::kF32, "float8_e4m3fnuz"},
    {"torch", "float8_e5m2fnuz", kUnread, DType::kF32, "float8_e5m2fnuz"},
    {"torch", "float4_e2m1fn_x2", kUnread, DType::kF32, "float4_e2m1fn_x2"},
    {"torch", "complex32", kUnread, DType::kF32, "complex32"},
    {"torch", "complex128", kUnread, DType::kF32, "complex128"},
    {"torch", "qint8", kUnread, DType::kF32, "quantized"},
    {"torch", "quint8", kUnread, DType::kF32, "quantized"},
    {"torch", "qint32", kUnread, DType::kF32, "quantized"},
    {"torch", "quint4x2", kUnread, DType::kF32, "quantized"},
    {"torch", "quint2x4", kUnread, DType::kF32, "quantized"},
    {"torch", "bits8", kUnread, DType::kF32, "bits8"},
    {"torch", "bits16", kUnread, DType::kF32, "bits16"},
    {"torch", "uint1", kUnread, DType::kF32, "uint1"},
    {"torch", "uint2", kUnread, DType::kF32, "uint2"},
    {"torch", "uint3", kUnread, DType::kF32, "uint3"},
    {"torch", "uint4", kUnread, DType::kF32, "uint4"},
    {"torch", "uint5", kUnread, DType::kF32, "uint5"},
    {"torch", "uint6", kUnread, DType::kF32, "uint6"},
    {"torch", "uint7", kUnread, DType::kF32, "uint7"},
    {"torch", "int1", kUnread, DType::kF32, "int1"},
    {"torch", "int2", kUnread, DType::kF32, "int2"},
    {"torch", "int4", kUnread, DType::kF32, "int4"},

    {"torch._utils", "_rebuild_qtensor", kUnreadTensor, DType::kF32, "quantized"},
    {"torch._utils", "_rebuild_sparse_tensor", kUnreadTensor, DType::kF32, "sparse"},
    {"torch._utils", "_rebuild_sparse_csr_tensor", kUnreadTensor, DType::kF32, "sparse"},
    {"torch._utils", "_rebuild_nested_tensor", kUnreadTensor, DType::kF32, "nested"},
    {"torch._utils", "_rebuild_meta_tensor_no_storage", kUnreadTensor, DType::kF32, "meta"},
    {"torch._utils", "_rebuild_device_tensor_from_numpy", kUnreadTensor, DType::kF32, "of a device without storages"},
    {"torch._utils", "_rebuild_device_tensor_from_cpu_tensor", kUnreadTensor, DType::kF32,
     "of a device without storages"},
    {"torch._utils", "_rebuild_xla_tensor", kUnreadTensor, DType::kF32, "of a device without storages"},
    {"torch._utils", "_rebuild_wrapper_subclass", kUnreadTensor, DType::kF32, "of a subclass"},

    {"torch", "Size", kInert},
    {"torch", "device", kInert},
    {"torch", "per_tensor_affine", kInert},
    {"torch", "per_channel_affine", kInert},
    {"torch", "per_channel_affine_float_qparams", kInert},
    {"torch.serialization", "_get_layout", kInert},
    {"_codecs", "encode", kInert},
    {"__builtin__", "set", kInert},
    {"__builtin__", "frozenset", kInert},
    {"__builtin__", "bytearray", kInert},
    {"__builtin__", "complex", kInert},
    {"__builtin__", "slice", kInert},
    {"argparse", "Namespace", kInert},
    {"numpy", "dtype", kInert},
    {"numpy", "ndarray", kInert},
    {"numpy.core.multiarray", "scalar", kInert},
    {"numpy.core.multiarray", "_reconstruct", kInert},
    {"numpy._core.multiarray", "scalar", kInert},
    {"numpy._core.multiarray", "_reconstruct", kInert},
};
// Values of a program keep an index in a byte.
static_assert(std::size(kPickleNames) < 256);

}  // namespace

std::span<const PickleName> PickleNames() { return kPickleNames; }

int FindPickleName(std::string_view module, std::string_view name) {
  const auto found = std::find_if(std::begin(kPickleNames), std::end(kPickleNames),
                                  [&](const PickleName& row) { return row.module == module && row.name == name; });
  return found == std::end(kPickleNames) ? -1 : static_cast<int>(found - std::begin(kPickleNames));
}

}  // namespace q4
