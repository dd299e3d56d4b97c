// Every rule of libconvert/lint/lint.h: a small bitsandbytes model that breaks it and nothing that is right does.
#include "libconvert/lint/lint.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/lint/codes.h"
#include "libconvert/scheme/slab.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/encode.h"
#include "tests/support/must.h"
#include "tests/support/q4_builder.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

using test::NormalValues;

const std::string kTestdata = Q4_TESTDATA;

template <typename T>
std::string BytesOfValues(const std::vector<T>& values) {
  return std::string(test::AsText(values));
}

// Weights whose neighbours are alike, as those of convolutions and position tables are.
std::vector<float> Smooth(std::uint64_t count, unsigned seed) {
  std::vector<float> values = NormalValues(count, seed);
  for (std::size_t i = 1; i < values.size(); ++i) values[i] += 0.8f * values[i - 1];
  return values;
}

struct Stored {
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::string bytes;
};

// A model of two layers in the bitsandbytes layout, as a map that tests change before it is written.
struct BnbModel {
  std::map<std::string, Stored> tensors;
  std::map<std::string, std::string> files;  // beside model.safetensors
  Json config;
  std::string config_text;  // instead of `config` if not empty
  bool with_config = true;
  bool sharded = false, with_index = true;
  std::map<std::string, std::string> weight_map_changes;  // tensor -> shard; "" removes it
  std::uint64_t total_size_change = 0;

  void AddFloats(const std::string& name, const std::vector<std::uint64_t>& shape, const std::vector<float>& values) {
    tensors[name] = {"F32", shape, BytesOfValues(values)};
  }

  void AddQuantized(const std::string& name, std::uint64_t rows, std::uint64_t columns,
                    const std::vector<float>& values, CodeBook book = CodeBook::kNf4, std::uint32_t block = 64,
                    bool nested = true) {
    const test::Encoded encoded = test::Encode(FloatType::kF32, book, values.data(), rows * columns, block, nested);
    REQUIRE(encoded.first_bad == kAllFinite);
    const std::string type = book == CodeBook::kNf4 ? "nf4" : "fp4";
    std::string state = fmt::format(R"({{"quant_type": "{}", "blocksize": {}, "dtype": "float32", "shape": [{}, {}])",
                                    type, block, rows, columns);
    tensors[name] = {"U8", {encoded.codes.size(), 1}, BytesOfValues(encoded.codes)};
    const auto map = CodeValues(book);
    tensors[name + ".quant_map"] = {"F32", {16}, BytesOfValues(std::vector<float>(map.begin(), map.end()))};
    if (nested) {
      const auto nested_map = NestedMap();
      tensors[name + ".absmax"] = {"U8", {encoded.scale_codes.size()}, BytesOfValues(encoded.scale_codes)};
      tensors[name + ".nested_absmax"] = {"F32", {encoded.scales2.size()}, BytesOfValues(encoded.scales2)};
      tensors[name + ".nested_quant_map"] = {
          "F32", {256}, BytesOfValues(std::vector<float>(nested_map.begin(), nested_map.end()))};
      state += fmt::format(R"(, "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": {})",
                           encoded.nested_offset);
    } else {
      tensors[name + ".absmax"] = {"F32", {encoded.scales.size()}, BytesOfValues(encoded.scales)};
    }
    SetState(name, type, state + "}");
  }

  void SetState(const std::string& name, const std::string& type, const std::string& text) {
    tensors[name + ".quant_state.bitsandbytes__" + type] = {"U8", {text.size()}, text};
  }
  std::string& State(const std::string& name) { return tensors.at(name + ".quant_state.bitsandbytes__nf4").bytes; }
  void Resize(const std::string& name) {  // after its bytes were changed
    Stored& tensor = tensors.at(name);
    tensor.shape = {tensor.bytes.size() / (tensor.dtype == "F32" ? 4 : 1)};
  }
  float* Floats(const std::string& name) { return reinterpret_cast<float*>(tensors.at(name).bytes.data()); }

  static std::string ShardOf(const std::string& name) {
    return name < "model.layers.1" ? "model-00001-of-00002.safetensors" : "model-00002-of-00002.safetensors";
  }

  void Write(const test::TempDir& dir) const {
    std::map<std::string, test::SafetensorsBuilder> shards;
    Json weight_map = Json::object();
    std::uint64_t total = 0;
    for (const auto& [name, tensor] : tensors) {
      const std::string shard = sharded ? ShardOf(name) : "model.safetensors";
      shards[shard].Add(name, tensor.dtype, tensor.shape, tensor.bytes);
      weight_map[name] = shard;
      total += tensor.bytes.size();
    }
    for (const auto& [name, shard] : weight_map_changes) {
      if (shard.empty()) {
        weight_map.erase(name);
      } else {
        weight_map[name] = shard;
      }
    }
    for (const auto& [name, builder] : shards) dir.Write("m/" + name, builder.Build());
    if (sharded && with_index) {
      const Json index = {{"metadata", {{"total_size", total + total_size_change}}}, {"weight_map", weight_map}};
      dir.Write("m/model.safetensors.index.json", index.dump(2));
    }
    if (with_config) dir.Write("m/config.json", config_text.empty() ? config.dump(2) : config_text);
    for (const auto& [name, content] : files) dir.Write("m/" + name, content);
  }
};

const std::string kUp = "model.layers.0.mlp.up_proj.weight";
const std::string kDown = "model.layers.1.mlp.down_proj.weight";

BnbModel GoodModel() {
  BnbModel model;
  unsigned seed = 1;
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    model.AddQuantized(prefix + "mlp.up_proj.weight", 172, 128, NormalValues(172 * 128, seed++));
    model.AddQuantized(prefix + "mlp.down_proj.weight", 128, 172, NormalValues(128 * 172, seed++));
    model.AddFloats(prefix + "input_layernorm.weight", {128}, NormalValues(128, seed++));
  }
  model.AddFloats("model.embed_tokens.weight", {50, 128}, NormalValues(50 * 128, seed++));
  model.AddFloats("lm_head.weight", {50, 128}, NormalValues(50 * 128, seed++));
  model.config = {{"architectures", {"LlamaForCausalLM"}},
                  {"num_hidden_layers", 2},
                  {"vocab_size", 50},
                  {"tie_word_embeddings", false},
                  {"quantization_config",
                   {{"quant_method", "bitsandbytes"},
                    {"load_in_4bit", true},
                    {"bnb_4bit_quant_type", "nf4"},
                    {"bnb_4bit_use_double_quant", true},
                    {"bnb_4bit_quant_storage", "uint8"},
                    {"llm_int8_skip_modules", nullptr}}}};
  return model;
}

const std::string& Page() {
  static const std::string page = test::ReadBytes(Q4_TESTDATA "/../docs/lint.md");
  return page;
}

// Checks as well that the page tells of each finding's rule what the report tells, and that the report does not depend
// on the kernels.
LintReport Lint(const std::string& path) {
  const LintReport report = test::Must(LintModel(PosixFileSystem(), path));
  for (const LintFinding& finding : report.findings) {
    const LintRule& rule = *finding.rule;
    INFO(rule.name);
    CHECK(Page().find(fmt::format("\n| `{}` | {} | Q4-{} | {} | {} {} |", rule.name, rule.severity(), rule.issue.number,
                                  rule.issue.rule, rule.meaning, rule.advice)) != std::string::npos);
  }
  for (const KernelTable* kernels : test::AllCpuKernels()) {
    LintOptions options;
    options.kernels = kernels;
    INFO(kernels->name);
    CHECK(LintReportJson(test::Must(LintModel(PosixFileSystem(), path, options))) == LintReportJson(report));
  }
  return report;
}

LintReport Lint(const BnbModel& model) {
  const test::TempDir dir;
  model.Write(dir);
  return Lint(dir.File("m"));
}

std::set<std::string> RulesOf(const LintReport& report) {
  std::set<std::string> rules;
  for (const LintFinding& finding : report.findings) rules.emplace(finding.rule->name);
  return rules;
}

std::string Joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += name + " ";
  return text;
}

// A change of the good model, and all rules that it breaks.
struct ModelChange {
  std::set<std::string> rules;
  std::function<void(BnbModel*)> change;
};

void SwapNibbles(std::string* codes) {
  for (char& c : *codes) {
    const auto byte = static_cast<std::uint8_t>(c);
    c = static_cast<char>((byte << 4) | (byte >> 4));
  }
}

void Replace(std::string* text, std::string_view from, std::string_view to) {
  const std::size_t at = text->find(from);
  REQUIRE(at != std::string::npos);
  text->replace(at, from.size(), to);
}

std::vector<ModelChange> Cases() {
  const std::string state_key = kUp + ".quant_state.bitsandbytes__nf4";
  const auto erase = [](const std::string& name) { return [name](BnbModel* m) { m->tensors.erase(name); }; };
  const auto quantization = [](const char* key, const Json& value) {
    return [key, value](BnbModel* m) { m->config["quantization_config"][key] = value; };
  };
  const auto config = [](const char* key, const Json& value) {
    return [key, value](BnbModel* m) { m->config[key] = value; };
  };
  const auto state = [](std::string_view from, std::string_view to) {
    return [from, to](BnbModel* m) {
      Replace(&m->State(kUp), from, to);
      m->Resize(kUp + ".quant_state.bitsandbytes__nf4");
    };
  };
  const auto shard = [](const std::string& name, const std::string& target) {
    return [name, target](BnbModel* m) {
      m->sharded = true;
      m->weight_map_changes[name] = target;
    };
  };
  const std::string first = "model-00001-of-00002.safetensors", second = "model-00002-of-00002.safetensors";
  const float nan = std::numeric_limits<float>::quiet_NaN();
  return {
      {{}, [](BnbModel*) {}},
      {{}, [](BnbModel* m) { m->sharded = true; }},
      // Files and index.
      {{"file-malformed"},
       [](BnbModel* m) {
         m->sharded = true;
         m->files["model-00003-of-00003.safetensors"] = "not weights";
         m->weight_map_changes["extra"] = "model-00003-of-00003.safetensors";
       }},
      {{"file-malformed"}, [](BnbModel* m) { m->files["model.safetensors"] = "x"; }},
      {{"index-missing"}, [](BnbModel* m) { m->sharded = true, m->with_index = false; }},
      {{"shard-missing"}, shard("extra", "model-00009-of-00009.safetensors")},
      {{"tensor-not-in-shard"}, shard("extra", first)},
      {{"tensor-not-in-shard"}, shard(kDown, first)},
      {{"tensor-unlisted"}, shard(kDown, "")},
      {{"tensor-twice", "tensor-not-in-shard", "total-size"},
       [second](BnbModel* m) {
         m->sharded = true;
         const std::string name = "model.embed_tokens.weight";
         test::SafetensorsBuilder copy;
         copy.Add(name, "F32", {50, 128}, m->tensors.at(name).bytes);
         m->files["model-00003-of-00003.safetensors"] = copy.Build();
         m->weight_map_changes["extra"] = "model-00003-of-00003.safetensors";
       }},
      {{"total-size"}, [](BnbModel* m) { m->sharded = true, m->total_size_change = 1; }},
      {{"unused-file"}, [](BnbModel* m) { m->files["consolidated.safetensors"] = "x"; }},
      {{"unused-file"}, [](BnbModel* m) { m->sharded = true, m->files["model.safetensors"] = "x"; }},
      // Partners.
      {{"quant-state-missing"}, erase(state_key)},
      {{"quant-state-missing"},
       [](BnbModel* m) { std::erase_if(m->tensors, [](const auto& t) { return t.first.starts_with(kUp + "."); }); }},
      {{"weight-missing"}, erase(kUp)},
      {{"absmax-missing"}, erase(kUp + ".absmax")},
      {{"quant-map-missing"}, erase(kUp + ".quant_map")},
      {{"nested-missing"}, erase(kUp + ".nested_absmax")},
      {{"nested-missing"}, erase(kUp + ".nested_quant_map")},
      {{"nested-extra", "config-double-quant"},
       [](BnbModel* m) {
         const Stored map = m->tensors.at(kUp + ".nested_quant_map");
         std::erase_if(m->tensors, [](const auto& t) { return t.first.starts_with(kUp); });
         m->AddQuantized(kUp, 172, 128, NormalValues(172 * 128, 1), CodeBook::kNf4, 64, false);
         m->tensors[kUp + ".nested_quant_map"] = map;
       }},
      {{"nested-absmax-extra", "config-double-quant"},
       [](BnbModel* m) {
         const Stored absmax = m->tensors.at(kUp + ".nested_absmax");
         std::erase_if(m->tensors, [](const auto& t) { return t.first.starts_with(kUp); });
         m->AddQuantized(kUp, 172, 128, NormalValues(172 * 128, 1), CodeBook::kNf4, 64, false);
         m->tensors[kUp + ".nested_absmax"] = absmax;
       }},
      {{"quant-state-malformed"}, state("\"nf4\"", "\"nf5\"")},
      {{"quant-state-malformed"}, state("\"blocksize\": 64", "\"blocksize\": 65")},
      {{"quant-state-malformed"}, state("float32", "float64")},
      {{"quant-state-malformed"}, state("\"shape\": [", "\"shape\": [-1, ")},
      {{"quant-state-malformed"}, state("\"nested_offset\": 0", "\"nested_offset\": NaN, \"x\": 0")},
      {{"quant-state-malformed"}, state("{", "")},
      {{"quant-state-malformed"}, state("{", "{\"new\": 1, ")},
      {{"quant-state-twice"}, [](BnbModel* m) { m->SetState(kUp, "fp4", m->State(kUp)); }},
      {{"partner-missing"},
       [](BnbModel* m) {
         m->tensors["model.layers.0.q.qweight"] = {"I32", {1}, std::string(4, '\1')};
       }},
      {{"partner-missing"},
       [](BnbModel* m) {
         m->tensors["model.layers.0.q.weight_scale"] = {"F32", {1}, std::string(4, '\1')};
       }},
      {{},
       [](BnbModel* m) {
         m->tensors["model.layers.0.q.qweight"] = {"I32", {1}, std::string(4, '\1')};
         m->tensors["model.layers.0.q.scales"] = {"F32", {1}, std::string(4, '\1')};
       }},
      // Sizes.
      {{"code-count"},
       [](BnbModel* m) {
         m->tensors.at(kUp).bytes.pop_back();
         m->tensors.at(kUp).shape = {m->tensors.at(kUp).bytes.size(), 1};
       }},
      {{"scale-count"},
       [](BnbModel* m) {
         m->tensors.at(kUp + ".absmax").bytes.pop_back();
         m->Resize(kUp + ".absmax");
       }},
      {{"scale-count"}, state("\"blocksize\": 64", "\"blocksize\": 128")},
      {{"part-type"},
       [](BnbModel* m) {
         Stored& absmax = m->tensors.at(kUp + ".absmax");
         absmax = {"F32", {absmax.shape[0]}, std::string(4 * absmax.shape[0], '\1')};
       }},
      {{"part-type"},
       [](BnbModel* m) {
         m->tensors.at(kUp + ".quant_map") = {"F32", {1}, std::string(4, '\0')};
       }},
      // Values.
      {{"scale-not-finite"}, [nan](BnbModel* m) { m->Floats(kUp + ".nested_absmax")[1] = nan; }},
      {{"scale-not-finite"}, [](BnbModel* m) { m->Floats(kUp + ".nested_absmax")[0] = -INFINITY; }},
      {{"scale-negative"}, [](BnbModel* m) { m->Floats(kUp + ".nested_absmax")[0] *= -1; }},
      {{"quant-map"}, [](BnbModel* m) { m->Floats(kUp + ".quant_map")[3] *= 1.001f; }},
      {{"quant-map", "config-type", "code-type"},
       [](BnbModel* m) {  // declared fp4 all over, but for the map
         Replace(&m->State(kUp), "nf4", "fp4");
         m->SetState(kUp, "fp4", m->State(kUp));
         m->tensors.erase(kUp + ".quant_state.bitsandbytes__nf4");
       }},
      {{"nested-map"}, [](BnbModel* m) { m->Floats(kUp + ".nested_quant_map")[200] *= 1.01f; }},
      {{"value-not-finite"}, [nan](BnbModel* m) { m->Floats("model.layers.0.input_layernorm.weight")[5] = nan; }},
      // config.json.
      {{"config-missing"}, [](BnbModel* m) { m->with_config = false; }},
      {{"config-malformed"}, [](BnbModel* m) { m->config_text = "{"; }},
      {{"config-malformed"}, [](BnbModel* m) { m->config_text = "[]"; }},
      {{"config-not-quantized"}, [](BnbModel* m) { m->config.erase("quantization_config"); }},
      {{"config-not-quantized"}, quantization("quant_method", "gptq")},
      {{"config-quantized"},
       [](BnbModel* m) {
         for (const char* name : {"up", "down"}) {
           for (int layer = 0; layer < 2; ++layer) {
             const std::string weight = fmt::format("model.layers.{}.mlp.{}_proj.weight", layer, name);
             std::erase_if(m->tensors, [&](const auto& t) { return t.first.starts_with(weight); });
             m->AddFloats(weight, {2, 2}, NormalValues(4, 1));
           }
         }
       }},
      {{"config-type"}, quantization("bnb_4bit_quant_type", "fp4")},
      {{"config-double-quant"}, quantization("bnb_4bit_use_double_quant", false)},
      {{"config-storage"}, quantization("bnb_4bit_quant_storage", "bfloat16")},
      {{"skip-not-listed"},
       [](BnbModel* m) {
         std::erase_if(m->tensors, [](const auto& t) { return t.first.starts_with(kUp); });
         m->AddFloats(kUp, {2, 2}, NormalValues(4, 1));
       }},
      {{},
       [](BnbModel* m) {
         std::erase_if(m->tensors, [](const auto& t) { return t.first.starts_with(kUp); });
         m->AddFloats(kUp, {2, 2}, NormalValues(4, 1));
         m->config["quantization_config"]["llm_int8_skip_modules"] = {"model.layers.0.mlp.up_proj", "lm_head"};
       }},
      // Fused experts are no modules: in 4 bits they do not load in transformers, in 16 bits no list has to name them.
      {{"experts-quantized"},
       [](BnbModel* m) {
         m->AddQuantized("model.layers.0.mlp.experts.0.up_proj.weight", 64, 64, NormalValues(64 * 64, 1));
         m->AddFloats("model.layers.1.mlp.experts.0.up_proj.weight", {64, 64}, NormalValues(64 * 64, 2));
       }},
      {{},
       [](BnbModel* m) {
         m->AddFloats("model.layers.0.mlp.experts.0.up_proj.weight", {64, 64}, NormalValues(64 * 64, 1));
         m->AddFloats("model.layers.1.mlp.experts.gate_up_proj", {2, 64, 64}, NormalValues(2 * 64 * 64, 2));
       }},
      {{},  // experts that are linear layers of their own
       [](BnbModel* m) {
         m->config["model_type"] = "switch_transformers";
         m->AddQuantized("encoder.block.1.mlp.experts.expert_0.wi.weight", 64, 64, NormalValues(64 * 64, 1));
       }},
      {{"skip-but-quantized"}, quantization("llm_int8_skip_modules", {"model.layers.0.mlp", "lm_head"})},
      {{"skip-but-quantized"}, quantization("llm_int8_skip_modules", {"up_proj", "lm_head"})},
      {{"skip-but-quantized"}, quantization("llm_int8_skip_modules", {"", "lm_head"})},
      {{}, quantization("llm_int8_skip_modules", {"layers.1", "lm_head"})},  // matches nothing (B6.4)
      // Expressions, which match from the start up to a dot.
      {{"skip-but-quantized"}, quantization("llm_int8_skip_modules", {"(a+)+$", "model.*mlp", "lm_head"})},
      {{"skip-but-quantized"}, quantization("llm_int8_skip_modules", {"model\\.layers\\.[01]", "lm_head"})},
      {{"skip-but-quantized"}, quantization("llm_int8_skip_modules", {"^model.layers.0.mlp.up_proj$", "lm_head"})},
      {{}, quantization("llm_int8_skip_modules", {"^layers.*", "model.layers.0.ml", "up.proj$", "lm_head"})},
      // Not judged: what RE2 does not know, what is no list of texts.
      {{}, quantization("llm_int8_skip_modules", {"model(?!x)", "model.layers.0.mlp"})},
      {{}, quantization("llm_int8_skip_modules", {"model.layers.0.mlp", 7})},
      {{}, quantization("llm_int8_skip_modules", "model.layers.0.mlp")},
      // Of two layers that vLLM joins, one is kept; and where there is no other, nothing is joined.
      {{"fused-mixed"},
       [](BnbModel* m) {
         m->AddFloats("model.layers.1.mlp.gate_proj.weight", {172, 128}, NormalValues(172 * 128, 1));
         m->config["quantization_config"]["llm_int8_skip_modules"] = {"model.layers.1.mlp.gate_proj", "lm_head"};
       }},
      {{},
       [](BnbModel* m) {
         m->AddFloats("model.layers.1.self_attn.q_proj.weight", {172, 128}, NormalValues(172 * 128, 1));
         m->config["quantization_config"]["llm_int8_skip_modules"] = {"model.layers.1.self_attn.q_proj", "lm_head"};
       }},
      // A list replaces what is spared without one: the head.
      {{"skip-not-listed"}, quantization("llm_int8_skip_modules", {"vision_tower"})},
      {{},
       [](BnbModel* m) {
         m->config["quantization_config"]["llm_int8_skip_modules"] = {"vision_tower"};
         m->config["tie_word_embeddings"] = true;
       }},
      {{"head-missing"}, erase("lm_head.weight")},
      {{"tied-twice"},
       [](BnbModel* m) {
         m->config["tie_word_embeddings"] = true;
         m->AddFloats("lm_head.weight", {51, 128}, NormalValues(51 * 128, 1));
       }},
      {{"layer-missing"}, config("num_hidden_layers", 3)},
      {{"vocabulary"}, config("vocab_size", 51)},
  };
}

// The good model with its names on disk as those of a vision-language model's text part.
BnbModel VisionLanguageModel(const std::vector<std::string>& skip) {
  BnbModel model = GoodModel();
  std::map<std::string, Stored> renamed;
  for (auto& [name, tensor] : model.tensors) renamed["language_model." + name] = std::move(tensor);
  model.tensors = std::move(renamed);
  model.config["architectures"] = {"Gemma3ForConditionalGeneration"};
  model.config["model_type"] = "gemma3";
  model.config["quantization_config"]["llm_int8_skip_modules"] = skip;
  return model;
}

TEST_CASE("skipped modules are known by their names in memory") {
  const std::string up = "language_model." + kUp;
  const auto rules = [](const BnbModel& model) { return Joined(RulesOf(Lint(model))); };
  CHECK(rules(VisionLanguageModel({"lm_head", "model.vision_tower"})) == "");
  // What the name on disk is does not count, for good or ill.
  CHECK(rules(VisionLanguageModel({"lm_head", "language_model.model.layers.0.mlp"})) == "");
  CHECK(rules(VisionLanguageModel({"lm_head", "model.language_model.layers.0.mlp"})) == "skip-but-quantized ");
  const auto with_kept_layer = [&up](const std::string& entry) {
    BnbModel model = VisionLanguageModel({"lm_head", entry});
    std::erase_if(model.tensors, [&up](const auto& t) { return t.first.starts_with(up); });
    model.AddFloats(up, {2, 2}, NormalValues(4, 1));
    return model;
  };
  CHECK(rules(with_kept_layer("model.language_model.layers.0.mlp.up_proj")) == "");
  CHECK(rules(with_kept_layer("language_model.model.layers.0.mlp.up_proj")) == "skip-not-listed ");
}

TEST_CASE("a prefix that the loader puts before the names may be in the list") {
  BnbModel model = GoodModel();
  model.config["architectures"] = {"GPT2LMHeadModel"};
  model.config["quantization_config"]["llm_int8_skip_modules"] = {"lm_head", "transformer.model.layers.0.mlp.up_proj"};
  std::erase_if(model.tensors, [](const auto& t) { return t.first.starts_with(kUp); });
  model.AddFloats(kUp, {2, 2}, NormalValues(4, 1));
  CHECK(Joined(RulesOf(Lint(model))) == "");
}

TEST_CASE("each lint rule is broken by a checkpoint of its own") {
  const std::vector<ModelChange> cases = Cases();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    BnbModel model = GoodModel();
    cases[i].change(&model);
    const LintReport report = Lint(model);
    INFO("case " << i << "\n" << LintReportText(report));
    CHECK(Joined(RulesOf(report)) == Joined(cases[i].rules));
    CHECK(ParseJson(LintReportJson(report), "lint", 6).ok());
  }
}

// Codes with declared settings that are not those of the encoder.
TEST_CASE("codes tell of a wrong block size, code book and order") {
  const std::string name = "w.weight";
  const auto rules_after = [&](const std::vector<float>& values, CodeBook book, std::uint32_t block,
                               const std::function<void(BnbModel*)>& change) {
    BnbModel model;
    model.AddQuantized(name, 512, 256, values, book, block, false);
    change(&model);
    model.with_config = false;
    std::set<std::string> rules = RulesOf(Lint(model));
    rules.erase("config-missing");
    return Joined(rules);
  };
  const std::vector<float> normal = NormalValues(512 * 256, 7), smooth = Smooth(512 * 256, 8);
  const auto nothing = [](BnbModel*) {};
  const auto swap = [&](BnbModel* m) { SwapNibbles(&m->tensors.at(name).bytes); };
  const auto declare_blocks = [&](std::uint32_t from, std::uint32_t to) {
    return [&name, from, to](BnbModel* m) {
      Replace(&m->State(name), fmt::format("\"blocksize\": {}", from), fmt::format("\"blocksize\": {}", to));
      m->Resize(name + ".quant_state.bitsandbytes__nf4");
      m->tensors[name + ".absmax"] = {"F32", {512 * 256 / to}, BytesOfValues(std::vector<float>(512 * 256 / to, 1))};
    };
  };
  for (const CodeBook book : {CodeBook::kNf4, CodeBook::kFp4}) {
    for (const std::uint32_t block : {32u, 64u, 4096u}) {
      CHECK(rules_after(normal, book, block, nothing).empty());
      CHECK(rules_after(smooth, book, block, nothing).empty());
    }
    CHECK(rules_after(smooth, book, 64, swap) == "nibble-order ");
    CHECK(rules_after(normal, book, 64, swap).empty());  // nothing there to tell it by
  }
  CHECK(rules_after(normal, CodeBook::kNf4, 64, declare_blocks(64, 32)) == "block-without-extreme ");
  CHECK(rules_after(normal, CodeBook::kNf4, 64, declare_blocks(64, 128)) == "block-smaller ");
  CHECK(rules_after(normal, CodeBook::kNf4, 128, declare_blocks(128, 256)) == "block-smaller ");
  // Codes of two values only: every element is an extreme one, whatever the block size.
  std::vector<float> signs(512 * 256);
  for (std::size_t i = 0; i < signs.size(); ++i) signs[i] = normal[i] < 0 ? -1.f : 1.f;
  CHECK(rules_after(signs, CodeBook::kNf4, 64, nothing).empty());
  // A weight of zeros only, and one with some blocks of zeros.
  CHECK(rules_after(std::vector<float>(512 * 256), CodeBook::kNf4, 64, nothing).empty());
  std::vector<float> sparse = normal;
  for (std::size_t i = 0; i < sparse.size(); ++i) sparse[i] *= (i / 1000) % 2 == 0 ? 0.f : 1.f;
  CHECK(rules_after(sparse, CodeBook::kNf4, 64, nothing).empty());
  // Both books at once, each declared as the other.
  for (const CodeBook book : {CodeBook::kNf4, CodeBook::kFp4}) {
    std::string codes(512 * 128, '\0');
    std::vector<float> scales(512 * 4);
    ScalarKernels().quantize(FloatType::kF32, book, normal.data(), normal.size(), 64,
                             reinterpret_cast<std::uint8_t*>(codes.data()), scales.data());
    const CodeBook other = book == CodeBook::kNf4 ? CodeBook::kFp4 : CodeBook::kNf4;
    const auto rules = rules_after(normal, other, 64, [&](BnbModel* m) { m->tensors.at(name).bytes = codes; });
    CHECK(rules.find("code-type ") != std::string::npos);
  }
}

TEST_CASE("zero scales and odd ends") {
  const std::string name = "w.weight";
  const auto rules_after = [&](const std::function<void(BnbModel*)>& change) {
    BnbModel model;
    model.AddQuantized(name, 77, 333, NormalValues(77 * 333, 9), CodeBook::kNf4, 64, false);
    change(&model);
    model.with_config = false;
    std::set<std::string> rules = RulesOf(Lint(model));
    rules.erase("config-missing");
    return Joined(rules);
  };
  CHECK(rules_after([](BnbModel*) {}).empty());
  CHECK(rules_after([&](BnbModel* m) { m->Floats(name + ".absmax")[3] = 0; }) == "scale-zero ");
  CHECK(rules_after([&](BnbModel* m) { m->Floats(name + ".absmax")[3] *= -1; }) == "scale-negative ");
  CHECK(rules_after([&](BnbModel* m) {
          std::string& bytes = m->tensors.at(name + ".absmax").bytes;
          bytes.assign(bytes.size(), '\0');
        }) == "scales-zero ");
  CHECK(rules_after([&](BnbModel* m) { m->tensors.at(name).bytes.back() ^= 1; }) == "padding ");
}

// A weight as an encoder that searches makes it.
void AddSearched(BnbModel* model, const std::string& name, const std::vector<float>& values, CodeBook book, bool nested,
                 std::uint64_t columns = 128) {
  const std::uint64_t elems = values.size();
  model->AddQuantized(name, elems / columns, columns, values, book, 64, nested);
  const SearchingEncoder& encoder = *EncoderOf(Q4Encoder::kMse).searching();
  SlabShape shape;
  shape.scheme = book == CodeBook::kNf4 ? Q4Scheme::kNf4 : Q4Scheme::kFp4;
  shape.block_size = 64;
  shape.elems = elems;
  shape.nested = nested;
  const auto* x = reinterpret_cast<const std::uint8_t*>(values.data());
  auto* codes = reinterpret_cast<std::uint8_t*>(model->tensors.at(name).bytes.data());
  const std::uint64_t blocks = BlockCount(elems, 64);
  if (!nested) {
    REQUIRE(encoder.ChooseCodes(ScalarKernels(), shape, x, model->Floats(name + ".absmax"), codes) == kAllFinite);
    return;
  }
  std::vector<float> scales(blocks), decoded(blocks);
  std::vector<NestedLoss> losses(GroupCount(blocks));
  auto* scale_codes = reinterpret_cast<std::uint8_t*>(model->tensors.at(name + ".absmax").bytes.data());
  float* const groups = model->Floats(name + ".nested_absmax");
  REQUIRE(encoder.ChooseNested(ScalarKernels(), shape, x, {scales.data(), scale_codes, groups, losses.data()}) ==
          kAllFinite);
  ScalarKernels().dequantize_scales(scale_codes, groups, blocks, 0, decoded.data());
  SearchingEncoder::CodesUnder(ScalarKernels(), shape, x, decoded.data(), codes);
  const std::string type = book == CodeBook::kNf4 ? "nf4" : "fp4";
  std::string& state = model->tensors.at(name + ".quant_state.bitsandbytes__" + type).bytes;
  const std::size_t at = state.find("\"nested_offset\": ") + 17;
  state.replace(at, state.find('}', at) - at, "0.0");
  model->SetState(name, type, state);
}

TEST_CASE("what an encoder that searches wrote is told, and is no fault; what is damaged still is one") {
  const std::string name = "w.weight";
  std::vector<float> normal = NormalValues(64 * 512, 4), uniform = NormalValues(64 * 512, 5),
                     skewed = NormalValues(64 * 512, 6);
  std::mt19937 random(3);
  for (float& x : uniform) x = static_cast<float>(random() % 65536) / 32768 - 1;
  for (float& x : skewed) x = std::fabs(x);
  const auto lint = [&](const BnbModel& model, const std::string& record = {}) {
    const test::TempDir dir;
    BnbModel bare = model;
    bare.with_config = false;
    if (!record.empty()) bare.files["q4_export.json"] = record;
    bare.Write(dir);
    LintReport report = Lint(dir.File("m"));
    std::erase_if(report.findings, [](const LintFinding& f) { return f.rule->name == "config-missing"; });
    return report;
  };
  for (const std::vector<float>* values : {&normal, &uniform, &skewed}) {
    for (const bool nested : {false, true}) {
      BnbModel model;
      AddSearched(&model, name, *values, CodeBook::kNf4, nested);
      const LintReport report = lint(model);
      INFO(LintReportText(report));
      CHECK(Joined(RulesOf(report)) == "scales-searched ");
      CHECK(report.infos == 1);
      CHECK(report.warnings == 0);
    }
  }
  // FP4 has no use for negative scales. Nested, the offset tells; plain, nothing but the record of the export.
  BnbModel nested, plain;
  AddSearched(&nested, name, normal, CodeBook::kFp4, true);
  AddSearched(&plain, name, normal, CodeBook::kFp4, false);
  CHECK(Joined(RulesOf(lint(nested))) == "scales-searched ");
  CHECK(Joined(RulesOf(lint(plain))) == "block-without-extreme ");
  CHECK(Joined(RulesOf(lint(plain, R"({"document": "q4export-record", "encoders": ["absmax", "mse"]})"))) ==
        "scales-searched ");
  for (const char* record :
       {R"({"encoders": ["absmax"]})", R"({"encoders": ["none", 3]})", R"({"encoders": 1})", "{", "[]"}) {
    CHECK(Joined(RulesOf(lint(plain, record))) == "block-without-extreme ");
  }
  // Damage, of what either encoder wrote.
  BnbModel absmax;
  absmax.AddQuantized(name, 256, 128, normal, CodeBook::kNf4, 64, false);
  const auto after = [&](BnbModel model, const std::function<void(BnbModel*)>& change) {
    change(&model);
    return Joined(RulesOf(lint(model)));
  };
  BnbModel searched;
  AddSearched(&searched, name, normal, CodeBook::kNf4, false);
  const auto scale_of = [&](BnbModel* m, std::size_t block) -> float& { return m->Floats(name + ".absmax")[block]; };
  CHECK(after(absmax, [&](BnbModel* m) { scale_of(m, 9) *= -1; }) == "scale-negative ");
  CHECK(after(absmax, [&](BnbModel* m) {
          for (std::size_t block = 0; block < 512; ++block) scale_of(m, block) *= -1;
        }) == "scale-negative ");
  CHECK(after(absmax, [&](BnbModel* m) {
          for (std::size_t block = 0; block < 512; block += 2) scale_of(m, block) *= -1;  // not of 16 bits
        }) == "scale-negative ");
  CHECK(after(searched, [&](BnbModel* m) { scale_of(m, 9) = -INFINITY; }) == "scale-not-finite scales-searched ");
  CHECK(after(searched, [&](BnbModel* m) { scale_of(m, 9) = 0; }) == "scale-zero scales-searched ");
  CHECK(after(searched, [&](BnbModel* m) { scale_of(m, 9) = -0.123456789f; }) ==
        "block-without-extreme scale-negative ");
  // The offset that was lost: absmax' nested scales are distances from it.
  for (const bool is_skewed : {false, true}) {
    std::vector<float> values = NormalValues(64 * 4352, 8);
    if (is_skewed) std::transform(values.begin(), values.end(), values.begin(), [](float x) { return std::fabs(x); });
    BnbModel lost;
    lost.AddQuantized(name, 2176, 128, values, CodeBook::kNf4, 64, true);
    CHECK(lint(lost).findings.empty());
    const std::string rules = after(lost, [&](BnbModel* m) {
      std::string state = m->tensors.at(name + ".quant_state.bitsandbytes__nf4").bytes;
      const std::size_t at = state.find("\"nested_offset\": ") + 17;
      state.replace(at, state.find('}', at) - at, "0.0");
      m->SetState(name, "nf4", state);
    });
    CHECK(rules.find("nested-offset-lost ") != std::string::npos);
  }
}

TEST_CASE("real checkpoints of transformers, and containers, raise no alarm") {
  std::size_t weights = 0, checkpoints = 0;
  for (const char* name : {"tiny_bf16st", "tiny_bf16st_src", "tiny_bnb", "tiny_bnb_src", "tiny_fp4", "tiny_fp4_src",
                           "tiny_plain", "tiny_plain_src", "tiny_skip", "tiny_skip_src"}) {
    const LintReport report = Lint(kTestdata + "/checkpoints/" + name);
    INFO(LintReportText(report));
    // Its q_proj alone is kept, which transformers loads and vLLM does not.
    CHECK(Joined(RulesOf(report)) == (name == std::string_view("tiny_skip") ? "fused-mixed " : ""));
    weights += report.quantized;
    ++checkpoints;
  }
  for (const char* name : {"v1_full.q4", "v1_full_zstd.q4", "v1_two_tensors.q4"}) {
    const LintReport report = Lint(kTestdata + "/q4/" + name);
    INFO(LintReportText(report));
    CHECK(report.errors == 0);
    CHECK(report.format == "q4");
    ++checkpoints;
  }
  fmt::print("lint: {} checkpoints with {} bitsandbytes weights, 0 false alarms\n", checkpoints, weights);
}

TEST_CASE("a component of a diffusers pipeline is its plain weights; variants beside them are unused") {
  const test::TempDir dir;
  GoodModel().Write(dir);
  const std::string plain = dir.File("m/diffusion_pytorch_model.safetensors");
  std::filesystem::rename(dir.File("m/model.safetensors"), plain);
  CHECK(RulesOf(Lint(dir.File("m"))).empty());
  CHECK(RulesOf(Lint(plain)).empty());
  std::filesystem::copy(plain, dir.File("m/diffusion_pytorch_model.fp16.safetensors"));
  CHECK(Joined(RulesOf(Lint(dir.File("m")))) == "unused-file ");
}

TEST_CASE("weights of 8-bit floats are judged as what they stand for, and their files as they are") {
  const test::TempDir dir;
  const auto write = [&](const std::string& file, const std::string& codes, const std::string& scale_name,
                         std::vector<float> scales, const std::string& vocabulary = "4") {
    dir.Write(file, test::SafetensorsBuilder()
                        .Add("model.embed_tokens.weight", "F8_E4M3", {4, 8}, codes)
                        .Add(scale_name, "F32", {scales.size()}, BytesOfValues(scales))
                        .Add("norm.weight", "F32", {1}, BytesOfValues(std::vector<float>{1}))
                        .Build());
    dir.Write("config.json",
              R"({"vocab_size": )" + vocabulary + R"(, "quantization_config": {"quant_method": "fp8"}})");
    return Lint(file == "model.safetensors" ? dir.File("") : dir.File(file));
  };
  const std::string good(32, '\x38'), nan(32, '\x7F'), scale = "model.embed_tokens.weight_scale";
  LintReport report = write("model.safetensors", good, scale, {0.5f});
  CHECK(report.findings.empty());
  CHECK(report.tensors == 2);
  CHECK(report.format == "safetensors");
  CHECK(Joined(RulesOf(write("model.safetensors", good, scale, {0.5f}, "5"))) == "vocabulary ");
  // A code that is NaN, and a scale that makes infinity: once, at the weight.
  for (const LintReport& bad : {write("model.safetensors", nan, scale, {0.5f}),
                                write("model.safetensors", good, scale, {std::numeric_limits<float>::infinity()})}) {
    CHECK(Joined(RulesOf(bad)) == "value-not-finite ");
    REQUIRE(bad.findings.size() == 1);
    CHECK(bad.findings[0].where == "model.embed_tokens.weight");
  }
  // What no reader takes: the shape of scales, a scale without its weight, which has a rule of its own.
  CHECK(Joined(RulesOf(write("model.safetensors", good, scale, {1, 2, 3}))) == "file-malformed ");
  CHECK(Joined(RulesOf(write("model.safetensors", good, "other.weight_scale", {1}))).find("partner-missing") !=
        std::string::npos);
}

TEST_CASE("a container is linted too") {
  const test::TempDir dir;
  test::Q4Builder builder;
  const std::vector<float> values = NormalValues(256 * 256, 3);
  const std::string bytes = BytesOfValues(values);
  auto& weight = builder.AddQuantized("model.layers.0.w.weight", DType::kF32, {256, 256},
                                      test::Bytes(bytes.begin(), bytes.end()), Q4Scheme::kNf4, 64, false);
  CHECK_NOTHROW(builder.Write(PosixFileSystem(), dir.File("good.q4")));
  CHECK(Lint(dir.File("good.q4")).findings.empty());
  weight.Floats(Q4Part::kScales)[7] = 0;
  for (std::uint8_t& byte : weight.parts.at(Q4Part::kCodes)) {
    if (byte >> 4 == 0 || byte >> 4 == 15) byte = static_cast<std::uint8_t>(0x70 | (byte & 15));
    if ((byte & 15) == 0 || (byte & 15) == 15) byte = static_cast<std::uint8_t>(0x07 | (byte & 0xF0));
  }
  builder.AddFile("config.json", R"({"num_hidden_layers": 2})");
  builder.Write(PosixFileSystem(), dir.File("bad.q4"));
  const LintReport report = Lint(dir.File("bad.q4"));
  CHECK(Joined(RulesOf(report)) == "block-without-extreme layer-missing scale-zero ");
  CHECK(report.errors == 1);
  CHECK(report.warnings == 2);
}

TEST_CASE("each folder of a container is held against its own configuration") {
  const auto lint = [](const std::string& top, const std::string& inner) {
    const test::TempDir dir;
    dir.Write("m/modules.json", R"([{"path":""},{"path":"1_Bert"},{"path":"2_Dense"}])");
    const auto write = [&](const std::string& folder, const std::string& config, const std::string& tensor) {
      test::SafetensorsBuilder file;
      file.Add(tensor, "F32", {64, 64}, BytesOfValues(NormalValues(64 * 64, 3)));
      dir.Write("m/" + folder + "model.safetensors", file.Build());
      if (!config.empty()) dir.Write("m/" + folder + "config.json", config);
    };
    write("", top, "encoder.layer.0.w.weight");
    write("1_Bert/", inner, "encoder.layer.0.w.weight");
    write("2_Dense/", R"({"in_features":64})", "linear.weight");
    test::MustConvert(dir.File("m"), {}, dir.File("m.q4"));
    return Lint(dir.File("m.q4"));
  };
  const std::string one = R"({"num_hidden_layers": 1})", two = R"({"num_hidden_layers": 2})";
  CHECK(lint(one, one).findings.empty());
  const LintReport inner = lint(one, two);
  REQUIRE(Joined(RulesOf(inner)) == "layer-missing ");
  CHECK(inner.findings.front().where.starts_with("1_Bert/"));
  const LintReport top = lint(two, one);
  REQUIRE(Joined(RulesOf(top)) == "layer-missing ");
  CHECK_FALSE(top.findings.front().where.starts_with("1_Bert/"));
  // Nothing at the top.
  CHECK(Joined(RulesOf(lint("", two))) == "layer-missing ");
}

TEST_CASE("the cases break every rule of docs/lint.md") {
  std::set<std::string> broken = {"scale-zero",      "scales-zero",       "padding",
                                  "block-smaller",   "nibble-order",      "block-without-extreme",
                                  "scales-searched", "nested-offset-lost"};  // of the other tests here
  for (const ModelChange& test_case : Cases()) broken.insert(test_case.rules.begin(), test_case.rules.end());
  std::set<std::string> documented;
  const std::string& page = Page();
  for (std::size_t at = page.find("\n| `"); at != std::string::npos; at = page.find("\n| `", at + 1)) {
    const std::size_t name = at + std::string_view("\n| `").size();
    documented.insert(page.substr(name, page.find('`', name) - name));
  }
  CHECK(broken == documented);
}

}  // namespace
}  // namespace q4
