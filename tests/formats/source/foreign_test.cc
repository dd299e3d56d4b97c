// The tables of quantization methods and adapters, and what is judged by them. What the tools say is in
// tests/cli/foreign_test.py.
#include "formats/source/foreign.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/adapters.h"
#include "formats/folder/quant_methods.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

SourceTensor Tensor(const std::string& name, DType dtype, const Shape& shape) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = shape;
  return tensor;
}

std::string MethodOf(const std::vector<SourceTensor>& tensors, const std::string& config) {
  const auto foreign = FindQuantization(tensors, {{"config.json", "dir/config.json", config}}, "dir", nullptr);
  return foreign ? foreign->name : "";
}

TEST_CASE("the table of methods is well-formed") {
  std::set<std::string_view> names;
  for (const QuantMethod& method : QuantMethods()) {
    INFO(method.name);
    CHECK(names.insert(method.name).second);
    // Each is told by something, and told apart by names that no other row has.
    CHECK_FALSE((method.methods.empty() && method.keys.empty() && method.tensors.empty()));
    AnyItem(method.methods, " ", [&](std::string_view name) {
      CHECK(FindQuantMethod(name.ends_with('*') ? name.substr(0, name.size() - 1) : name) == &method);
      return false;
    });
    AnyItem(method.tensors, " | ", [&](std::string_view signature) {
      const std::size_t slash = signature.find('/');
      REQUIRE(slash != std::string_view::npos);
      CHECK(std::string_view("ibwesn*").find(signature[slash + 1]) != std::string_view::npos);
      return false;
    });
  }
  for (const QuantFile& file : QuantFiles()) {
    CHECK(IsQuantizationFile(file.name));
    CHECK(names.contains(file.method));
  }
  CHECK(!IsQuantizationFile("config.json"));
}

TEST_CASE("methods are found by any spelling of their name") {
  REQUIRE(FindQuantMethod("GPTQ") != nullptr);
  CHECK(FindQuantMethod("GPTQ")->name == "GPTQ");
  CHECK(FindQuantMethod("modelopt_fp4")->name == "ModelOpt");
  CHECK(FindQuantMethod("auto-round:auto_gptq")->name == "AutoRound");
  // transformers ignores it unless a flag says how many bits.
  CHECK(FindQuantMethod("bitsandbytes") == nullptr);
  CHECK(FindQuantMethod("") == nullptr);
}

TEST_CASE("a tensor tells a method only with its partners, its type and its rank") {
  const SourceTensor codes = Tensor("a.qweight", DType::kI32, {8, 8}), zeros = Tensor("a.qzeros", DType::kI32, {1, 1}),
                     scales = Tensor("a.scales", DType::kF16, {1, 8}), order = Tensor("a.g_idx", DType::kI32, {64});
  CHECK(FindQuantTensors({codes, zeros, scales, order}).method->name == "GPTQ");
  CHECK(FindQuantTensors({codes, zeros, scales}).method->name == "AWQ (or GPTQ without g_idx)");
  CHECK(FindQuantTensors({codes, zeros}).method == nullptr);
  // Partners of another module are none.
  CHECK(FindQuantTensors({codes, Tensor("b.qzeros", DType::kI32, {1, 1}), Tensor("b.scales", DType::kF16, {1, 8})})
            .method == nullptr);
  CHECK(FindQuantTensors({Tensor("a.qweight", DType::kF16, {8, 8}), zeros, scales}).method == nullptr);
  const SourceTensor weight_scale = Tensor("a.weight_scale", DType::kF32, {8, 1});
  CHECK(FindQuantTensors({Tensor("a.weight", DType::kI8, {8, 8}), weight_scale}).method != nullptr);
  CHECK(FindQuantTensors({Tensor("a.weight", DType::kI8, {8}), weight_scale}).method == nullptr);
  CHECK(FindQuantTensors({Tensor("a.weight", DType::kBF16, {8, 8}), weight_scale}).method == nullptr);
}

TEST_CASE("a configuration counts where loaders look, and in their order") {
  const std::string gptq = R"({"quant_method": "gptq"})", awq = R"({"quant_method": "awq"})";
  CHECK(MethodOf({}, R"({"quantization_config": )" + gptq + R"(, "text_config": {"quantization_config": )" + awq +
                         "}}") == "GPTQ");
  for (const std::string part : {"text_config", "decoder", "generator"}) {
    CHECK(MethodOf({}, "{\"" + part + R"(": {"quantization_config": )" + awq + "}}") == "AWQ");
  }
  CHECK(MethodOf({}, R"({"vision_config": {"quantization_config": )" + awq + "}}").empty());
  // The flag goes before the name, and counts as Python counts it.
  CHECK(MethodOf({}, R"({"quantization_config": {"quant_method": "gptq", "load_in_4bit": true}})") ==
        "bitsandbytes 4-bit");
  CHECK(MethodOf({}, R"({"quantization_config": {"quant_method": "gptq", "load_in_4bit": 0}})") == "GPTQ");
  // No JSON, no object, and values of other kinds claim nothing.
  for (const std::string text : {"", "{", "[]", "1", R"({"quantization_config": 3})", R"({"quantization_config": []})",
                                 R"({"text_config": 1})", R"({"quantization_config": {"quant_method": 7}})"}) {
    INFO(text);
    CHECK(MethodOf({}, text).empty());
  }
  CHECK(MethodOf({}, R"({"quantization_config": "gptq", "x": Infinity})") == "GPTQ");
}

TEST_CASE("an adapter is one alone, or as PEFT saves it") {
  const SourceTensor down = Tensor("m.lora_A.weight", DType::kF32, {2, 8}), norm = Tensor("n", DType::kF32, {8}),
                     matrix = Tensor("m.weight", DType::kF32, {8, 8});
  CHECK(FindAdapter({down}, "f")->name == "LoRA adapter");
  CHECK(FindAdapter({down, norm}, "f").has_value());
  CHECK(!FindAdapter({down, matrix}, "f"));
  CHECK(!FindAdapter({matrix, norm}, "f"));
  CHECK(!FindAdapter({}, "f"));
  CHECK(FindAdapter({Tensor("base_model.model.m.lora_A.weight", DType::kF32, {2, 8}),
                     Tensor("base_model.model.m.base_layer.weight", DType::kF32, {8, 8})},
                    "f")
            .has_value());
  // Parts of a name, not pieces of words.
  CHECK(AdapterKindOf("explora_A.weight") == nullptr);
  CHECK(AdapterKindOf("att.w_lora.lora.0.weight") == nullptr);
  CHECK(AdapterKindOf("unet.to_q.lora.down.weight") != nullptr);
  CHECK(IsAdapterFile("adapter_model.safetensors"));
  CHECK(!IsAdapterFile("model.safetensors"));
  CHECK(!IsAdapterFile("adapter_model.safetensorz"));
  CHECK(AdapterKindOfType("lora") == "LoRA adapter");
}

TEST_CASE("the status names what, where, why, and the way out") {
  const auto foreign = FindQuantization({Tensor("a.W_q", DType::kU8, {4, 4}), Tensor("a.meta", DType::kU8, {9})}, {},
                                        "dir/model.safetensors", nullptr);
  REQUIRE(foreign.has_value());
  const absl::Status status = ForeignStatus(*foreign);
  CHECK(ExitCodeOf(status) == ExitCode::kUnsupported);
  CHECK(MessageOf(status) ==
        "dir/model.safetensors: tensor 'a.W_q': the weights are already quantized, by a method that has no reader "
        "(SINQ; convert the checkpoint that it was made from) [Q4-5510]");
}

}  // namespace
}  // namespace q4
