// The table, and the matching of names. Values of quant_method are those of transformers' quantizers/auto.py and of
// vLLM's registry; names of tensors are those that the methods' own libraries save.
#include "formats/folder/quant_methods.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/strings/ascii.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// The flag: transformers 5.23 cannot write the original names of a model that was loaded quantized.
constexpr std::string_view kModelDequantize =
    "load it in transformers, then model.dequantize() and model.save_pretrained(DIR, save_original_format=False)";

constexpr QuantMethod kMethods[] = {
    // Codes with a name of their own.
    {"GPTQ", "gptq gptq_marlin gptq_marlin_24 gptq_bitblas gptqmodel", "", ".qweight/i .qzeros .scales .g_idx", ""},
    {"AWQ", "awq awq_marlin", "w_bit q_group_size", "", ""},
    {"AutoRound", "auto-round* autoround* intel/auto-round inc", "", "", ""},
    {"AWQ (or GPTQ without g_idx)", "", "", ".qweight/i .qzeros .scales", ""},
    {"SqueezeLLM", "squeezellm", "", ".qweight/i .lookup_table", ""},
    {"BitBLAS", "bitblas", "", ".qweight/i .zeros .scales", ""},
    {"FP-Quant", "fp_quant", "", ".qweight/b .forward_hadamard_matrix | .dqweight/n .forward_hadamard_matrix", ""},
    {"SVDQuant (Nunchaku)", "svdquant* nunchaku*", "", ".qweight/i .wscales | .qweight/i .wcscales", ""},
    {"HQQ", "hqq", "", ".W_q/* .scale .zero | .W_q/* .nbits | .W_q/* .quant_scale", ""},
    {"SINQ", "sinq", "", ".W_q/* .meta", ""},
    {"AQLM", "aqlm", "", ".codes/i .codebooks", ""},
    {"VPTQ", "vptq", "", ".indices/i .centroids.weight", ""},
    {"QuIP#", "quip quip_sharp", "", ".Qidxs/i .SU | .Qidxs_0/i .SU", ""},
    {"QTIP", "qtip", "", ".trellis/i .SU", ""},
    {"EXL3", "exl3", "", ".trellis/i .suh | .trellis/i .svh", ""},
    {"EXL2", "exl2", "", ".q_weight/i .q_scale", ""},
    {"SpQR", "spqr", "", ".dense_weights/i .row_offsets", ""},
    {"Marlin", "marlin qqq", "", ".B/w2 .s | .B/w2 .s_channel", ""},
    {"quanto", "quanto", "", ".weight._data/* .weight._scale | .weight._data._data/*", ""},
    {"torchao", "torchao", "", "._weight_qdata/* | ._weight_packed_weight/* | .weight:qdata/* | .weight:tensor_impl/*",
     ""},
    {"MXFP4", "mxfp4 gpt_oss_mxfp4", "", "_blocks/b2 _scales | .blocks/b2 .scales",
     "load it in transformers with Mxfp4Config(dequantize=True) and save_pretrained() the result", false, false, true},
    {kBnb4Bit, "bitsandbytes_4bit", "",
     ".quant_state.bitsandbytes__nf4/b | .quant_state.bitsandbytes__fp4/b | .absmax/* .quant_map", kModelDequantize},
    {"bitsandbytes 8-bit", "bitsandbytes_8bit", "", ".weight/b2 .SCB", kModelDequantize},
    {"compressed-tensors", "compressed-tensors compressed_tensors sparseml", "config_groups",
     ".weight_packed/i2 | .compressed/* .bitmask",
     "load it in transformers with CompressedTensorsConfig(dequantize=True) and save_pretrained() the result", true,
     false, true},
    {"Gemma QAT", "gemma", "",
     ".weight/b2 .weight_scale .input_activation_scale | .embedding_quantized/* .embedding_scale", ""},

    // Codes under the name of the weight, with scales of a name of their own.
    {"MLX", "mlx", "", ".weight/w2 .scales .biases", "run mlx_lm.convert --dequantize"},
    {"Metal", "metal", "", ".weight/w2 .scales .qbiases",
     "load it in transformers with MetalConfig(dequantize=True) and save_pretrained() the result"},
    {"MLX (mxfp4, nvfp4, mxfp8)", "", "", ".weight/w2 .scales", "run mlx_lm.convert --dequantize"},
    {"HIGGS", "higgs", "", ".weight/i2 .scales .tables", kModelDequantize},
    {"EETQ", "eetq", "", ".weight/b2 .weight_scales", ""},
    {"ComfyUI", "", "", ".comfy_quant/* .weight | .weight/e2 .scale_weight | scaled_fp8/e", "", true, true},
    {"ModelOpt", "modelopt*", "quant_algo",
     ".weight/b2 .weight_scale .weight_scale_2 | .weight/s2 .weight_scale .pre_quant_scale | "
     ".weight_quantizer._scale/* | .weight_quantizer._amax/*",
     "", true, false, true},
    {"Quark", "quark", "global_quant_config layer_quant_config",
     ".weight_quantizer.scale/* | .weight/s2 .weight_quantizer.scale", "", false, false, true},
    {"msModelSlim", "ascend*", "model_quant_type", ".weight/b2 .deq_scale | .weight/b2 .weight_offset", ""},
    {"FP8", "fp8 deepseek_fp8 w8a8_fp8 blockwise_fp8 mxfp8", "weight_block_size", "/e2 _scale_inv",
     "load it in transformers with FineGrainedFP8Config(dequantize=True) and save_pretrained() the result", true, true,
     true},
    {"FBGEMM FP8", "fbgemm_fp8", "", "", "", true},

    // Named by the configuration alone: their tensors look like those of others.
    {"BitNet", "bitnet", "", "", ""},
    {"Four Over Six", "fouroversix", "", ".quantized_weight_values/*", ""},
    {"NVFP4", "nvfp4 petit_nvfp4", "", "", ""},
    {"GGUF", "gguf", "", "", ""},
    {"ERNIE", "", "dense_quant_type moe_quant_type", "", ""},
    {"ChatGLM", "", "quantization_bit", "", ""},
    {"vLLM's own",
     "experts_int8 int8 tpu_int8 blockwise_int8 w8a8_int8 moe_wna16 rtn deepspeedfp ipex neuron_quant ptpc_fp8", "", "",
     ""},
    {"Mistral FP8", "", "qformat_weight", ".weight/e2 .qscale_weight", "", true, true},

    // What is left: numbers that mean nothing without the scales beside them.
    {"8-bit floats with scales (as of FBGEMM, compressed-tensors, ModelOpt or Quark)", "", "",
     "/e2 _scale | .weight/e2 .scale | .weight/e2 .scales | .weight/e2 .weight_scales", "", true, true},
    {"integers with scales (as of compressed-tensors, ModelOpt, Quark or BitNet)", "", "",
     ".weight/i2 .weight_scale | .weight/i2 .scale | .weight/i2 .scales | _proj/i2 _proj_scale | .qweight/i2 .scales | "
     "_proj/i2 _proj_weight_scale | .qweight/i2 .scale | /b2 _scale_inv",
     ""},
};

constexpr QuantFile kQuantFiles[] = {
    {"hf_quant_config.json", "quant_algo quantized_layers", "ModelOpt"},
    {"quantize_config.json", "bits w_bit quant_method", "GPTQ"},
    {"quant_config.json", "w_bit q_group_size bits quant_method zero_point", "AWQ"},
    {"quantization_config.json", "bits quant_method", "AutoRound"},
    {"quant_strategy.json", "measurement", "EXL2"},
    {"quanto_qmap.json", "", "quanto"},
    {"quantization_map.json", "", "quanto"},
    {"quant_model_description.json", "", "msModelSlim"},
};

bool IsByte(DType dtype) { return dtype == DType::kU8 || dtype == DType::kI8; }

bool IsFloat8(DType dtype) { return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2; }

bool IsInteger(DType dtype) {
  switch (dtype) {
    case DType::kU8:
    case DType::kI8:
    case DType::kU16:
    case DType::kI16:
    case DType::kU32:
    case DType::kI32:
    case DType::kU64:
    case DType::kI64:
      return true;
    default:
      return false;
  }
}

// Whether the tensor has the type and rank that `type` asks for: QuantMethod::tensors.
bool HasType(const SourceTensor& tensor, std::string_view type) {
  if (type.ends_with('2') && tensor.shape.size() < 2) return false;
  switch (type.front()) {
    case 'i':
      return IsInteger(tensor.dtype);
    case 'b':
      return IsByte(tensor.dtype);
    case 'w':
      return tensor.dtype == DType::kU32 || tensor.dtype == DType::kI32;
    case 'e':
      return IsFloat8(tensor.dtype);
    case 's':
      return IsByte(tensor.dtype) || IsFloat8(tensor.dtype);
    case 'n':
      return IsQuantizable(tensor.dtype);
    default:
      return true;
  }
}

using Names = std::unordered_map<std::string_view, const SourceTensor*>;

// A tensor of `tensors` that bears `signature`, with all that belongs to it, or nullptr.
const SourceTensor* FindSignature(const std::vector<SourceTensor>& tensors, const Names& names,
                                  std::string_view signature) {
  const std::size_t slash = signature.find('/');
  const std::string_view mark = signature.substr(0, slash);
  const std::string_view rest = signature.substr(slash + 1);
  const std::size_t space = rest.find(' ');
  const std::string_view type = rest.substr(0, space);
  const std::string_view partners = space == std::string_view::npos ? std::string_view() : rest.substr(space + 1);
  std::string partner;
  for (const SourceTensor& tensor : tensors) {
    if (!std::string_view(tensor.name).ends_with(mark) || !HasType(tensor, type)) continue;
    const std::size_t base = tensor.name.size() - mark.size();
    const bool misses = AnyItem(partners, " ", [&](std::string_view suffix) {
      partner.assign(tensor.name, 0, base).append(suffix);
      return !names.contains(partner);
    });
    if (!misses) return &tensor;
  }
  return nullptr;
}

}  // namespace

bool IsTruthy(const Json& value) {
  switch (value.type()) {
    case Json::value_t::boolean:
      return value.get<bool>();
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
    case Json::value_t::number_float:
      return value.get<double>() != 0;
    case Json::value_t::string:
      return !value.get_ref<const std::string&>().empty();
    default:
      return !value.empty();  // true for null, as for containers without elements
  }
}

bool HasAnyValue(const Json& object, std::string_view keys) {
  return AnyItem(keys, " ", [&](std::string_view key) {
    const Json* value = FindMember(object, std::string(key).c_str());
    return value != nullptr && IsTruthy(*value);
  });
}

std::span<const QuantMethod> QuantMethods() { return kMethods; }

std::span<const QuantFile> QuantFiles() { return kQuantFiles; }

bool IsQuantizationFile(std::string_view name) {
  return std::any_of(std::begin(kQuantFiles), std::end(kQuantFiles),
                     [name](const QuantFile& file) { return file.name == name; });
}

const QuantMethod* FindQuantMethod(std::string_view quant_method) {
  const std::string lower = absl::AsciiStrToLower({quant_method.data(), quant_method.size()});
  const auto matches = [&lower](std::string_view item) {
    if (item.ends_with('*')) return lower.starts_with(item.substr(0, item.size() - 1));
    return lower == item;
  };
  for (const QuantMethod& method : kMethods) {
    if (AnyItem(method.methods, " ", matches)) return &method;
  }
  return nullptr;
}

const QuantMethod& QuantMethodNamed(std::string_view name) {
  return *std::find_if(std::begin(kMethods), std::end(kMethods),
                       [name](const QuantMethod& method) { return method.name == name; });
}

const QuantMethod* QuantMethodOfKeys(const Json& config) {
  for (const QuantMethod& method : kMethods) {
    if (HasAnyValue(config, method.keys)) return &method;
  }
  return nullptr;
}

QuantTensors FindQuantTensors(const std::vector<SourceTensor>& tensors) {
  Names names;
  names.reserve(tensors.size());
  for (const SourceTensor& tensor : tensors) names.emplace(tensor.name, &tensor);
  for (const QuantMethod& method : kMethods) {
    const SourceTensor* found = nullptr;
    AnyItem(method.tensors, " | ", [&](std::string_view signature) {
      found = FindSignature(tensors, names, signature);
      return found != nullptr;
    });
    if (found != nullptr) return {&method, found};
  }
  return {};
}

}  // namespace q4
