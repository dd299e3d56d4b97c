#include "libconvert/export/export.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/convert.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/scheme/slab.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

namespace stdfs = std::filesystem;
using test::ReadBytes;
using test::SafetensorsBuilder;
using test::TempDir;

std::string Sample(const std::string& name) { return std::string(Q4_TESTDATA) + "/checkpoints/" + name; }

ConvertOptions Plain(Q4Scheme scheme = Q4Scheme::kNf4, std::uint32_t block_size = 64) {
  ConvertOptions options;
  options.policy.defaults = {{scheme, block_size, false}, Q4Encoder::kAbsmax};
  return options;
}

ConvertOptions Nested() {
  ConvertOptions options;
  options.policy.defaults.nested = true;
  return options;
}

void Convert(const std::string& source, const ConvertOptions& options, const std::string& output) {
  RunOptions run;
  run.threads = 2;
  test::MustConvert(source, options, output, run);
}

ExportReport Export(const std::string& input, const std::string& output, const ExportOptions& options = {}) {
  return test::Must(ExportModel(PosixFileSystem(), input, output, options));
}

// What follows the header of a safetensors file, whose length is in its first eight bytes.
std::string PayloadOf(const std::string& path) {
  const std::string bytes = ReadBytes(path);
  REQUIRE(bytes.size() > 8);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  return bytes.substr(8 + length);
}

// What the exporter settled under `key`.
decltype(ExportSetting::value) SettingOf(const ExportReport& report, const std::string& key) {
  const auto at = std::find_if(report.settings.begin(), report.settings.end(),
                               [&key](const ExportSetting& setting) { return setting.key == key; });
  REQUIRE(at != report.settings.end());
  return at->value;
}

bool IsNull(const decltype(ExportSetting::value)& value) { return std::holds_alternative<std::monostate>(value); }

std::vector<std::string> SkippedModules(const ExportReport& report) {
  const auto value = SettingOf(report, "skip_modules");
  REQUIRE(std::holds_alternative<std::vector<std::string>>(value));
  return std::get<std::vector<std::string>>(value);
}

int ExportIssue(const std::string& input, const std::string& output, const ExportOptions& options = {}) {
  return IssueNumberOf(ExportModel(PosixFileSystem(), input, output, options).status());
}

std::unique_ptr<Checkpoint> Opened(const std::string& path) {
  return test::Must(OpenCheckpoint(PosixFileSystem(), path));
}

std::vector<std::uint8_t> TensorBytes(const Checkpoint& checkpoint, const std::string& name) {
  const SourceTensor* tensor = checkpoint.Find(name);
  REQUIRE(tensor != nullptr);
  std::vector<std::uint8_t> bytes(tensor->bytes);
  REQUIRE(checkpoint.Read(*tensor, 0, bytes).ok());
  return bytes;
}

std::vector<float> Floats(const Checkpoint& checkpoint, const std::string& name) {
  return test::ValuesOf<float>(TensorBytes(checkpoint, name));
}

Json JsonOf(const std::string& text) { return test::Must(ParseJson(text, "test", 64)); }

Json QuantizationConfig(const std::string& directory) {
  return JsonOf(ReadBytes(directory + "/config.json"))["quantization_config"];
}

// A directory with config.json and one safetensors file.
std::string WriteModel(const TempDir& temp, const std::string& name, const std::string& config,
                       const SafetensorsBuilder& tensors) {
  if (!config.empty()) temp.Write(name + "/config.json", config);
  temp.Write(name + "/model.safetensors", tensors.Build());
  return temp.File(name);
}

// Reproducible F32 weights of either sign.
std::string FloatBytes(std::uint64_t count, float factor = 1) {
  std::vector<float> values(count);
  std::uint32_t state = 12345;
  for (float& value : values) {
    state = state * 1664525 + 1013904223;
    value = factor * (static_cast<float>(state >> 8) / 8388608.0f - 1.0f);
  }
  return std::string(test::AsText(values));
}

const std::string kLlama = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})";

SafetensorsBuilder OneLinear() {
  SafetensorsBuilder tensors;
  tensors.Add("model.layers.0.mlp.up_proj.weight", "F32", {16, 64}, FloatBytes(16 * 64));
  tensors.Add("model.norm.weight", "F32", {64}, FloatBytes(64));
  return tensors;
}

// Against transformers' own files.

TEST_CASE("without double quantization the export is the file that transformers saves") {
  struct Case {
    std::string name;
    Q4Scheme scheme;
    DType storage, compute;
  };
  const Case c = GENERATE(Case{"tiny_plain", Q4Scheme::kNf4, DType::kU8, DType::kBF16},
                          Case{"tiny_fp4", Q4Scheme::kFp4, DType::kU8, DType::kF32},
                          Case{"tiny_bf16st", Q4Scheme::kNf4, DType::kBF16, DType::kBF16});
  INFO(c.name);
  const TempDir temp;
  Convert(Sample(c.name + "_src"), Plain(c.scheme), temp.File("a.q4"));
  ExportOptions options;
  options.quant_storage = c.storage;
  options.compute_dtype = c.compute;
  const ExportReport report = Export(temp.File("a.q4"), temp.File("out"), options);
  for (const std::string file : {"model.safetensors", "config.json", "generation_config.json"}) {
    INFO(file);
    CHECK(ReadBytes(temp.File("out/" + file)) == ReadBytes(Sample(c.name) + "/" + file));
  }
  CHECK(report.quantized_tensors == 14);
  CHECK(report.parameters == 491136);
  CHECK(IsNull(SettingOf(report, "skip_modules")));
}

struct ScaleTally {
  std::uint64_t scales = 0, differing_codes = 0;
  double worst = 0;  // relative difference of decoded scales
};

// One nested weight of `ours` and `theirs`, and the fp32 scales that its source has.
void CompareNestedScales(const Checkpoint& ours, const Checkpoint& theirs, const std::string& weight,
                         const std::vector<float>& exact, ScaleTally* tally) {
  const auto decoded = [&](const Checkpoint& checkpoint, float* offset) {
    const std::vector<std::uint8_t> state = TensorBytes(checkpoint, weight + ".quant_state.bitsandbytes__nf4");
    const Json json = JsonOf(std::string(state.begin(), state.end()));
    *offset = json["nested_offset"].get<float>();
    const std::vector<std::uint8_t> codes = TensorBytes(checkpoint, weight + ".absmax");
    std::vector<float> scales(codes.size());
    ScalarKernels().dequantize_scales(codes.data(), Floats(checkpoint, weight + ".nested_absmax").data(), codes.size(),
                                      *offset, scales.data());
    return scales;
  };
  float our_offset = 0, their_offset = 0;
  const std::vector<float> mine = decoded(ours, &our_offset);
  const std::vector<float> other = decoded(theirs, &their_offset);
  CHECK(std::abs(std::bit_cast<std::int32_t>(our_offset) - std::bit_cast<std::int32_t>(their_offset)) <= 2);
  REQUIRE(mine.size() == exact.size());
  REQUIRE(other.size() == exact.size());
  const std::vector<std::uint8_t> my_codes = TensorBytes(ours, weight + ".absmax");
  const std::vector<std::uint8_t> other_codes = TensorBytes(theirs, weight + ".absmax");
  for (std::size_t i = 0; i < exact.size(); ++i) {
    ++tally->scales;
    tally->differing_codes += my_codes[i] != other_codes[i];
    tally->worst = std::max(tally->worst, std::fabs(double{mine[i]} - double{other[i]}) / std::fabs(double{other[i]}));
    if (our_offset == their_offset) CHECK(std::fabs(mine[i] - exact[i]) <= std::fabs(other[i] - exact[i]));
  }
}

std::vector<float> ExactScales(const Checkpoint& source, const std::string& weight) {
  const SourceTensor* tensor = source.Find(weight);
  REQUIRE(tensor != nullptr);
  std::vector<float> scales(BlockCount(tensor->elems, 64));
  REQUIRE(ScalarKernels().absmax(FloatTypeOf(tensor->dtype), TensorBytes(source, weight).data(), tensor->elems, 64,
                                 scales.data()) == kAllFinite);
  return scales;
}

// The JSON without the one value that may differ.
std::string WithoutOffset(const std::vector<std::uint8_t>& state) {
  const std::string text(state.begin(), state.end());
  return text.substr(0, text.find("\"nested_offset\""));
}

TEST_CASE("with double quantization all but the 8-bit scales is what transformers saves") {
  const std::string name = GENERATE("tiny_bnb", "tiny_skip");
  INFO(name);
  const TempDir temp;
  ConvertOptions convert = Nested();
  if (name == "tiny_skip") convert.policy.patterns = {{false, "q_proj"}, {true, "lm_head"}};
  Convert(Sample(name + "_src"), convert, temp.File("a.q4"));
  Export(temp.File("a.q4"), temp.File("out"));

  const auto ours = Opened(temp.File("out")), theirs = Opened(Sample(name)), source = Opened(Sample(name + "_src"));
  REQUIRE(ours->tensors().size() == theirs->tensors().size());
  ScaleTally tally;
  for (const SourceTensor& their : theirs->tensors()) {
    INFO(their.name);
    const SourceTensor* our = ours->Find(their.name);
    REQUIRE(our != nullptr);
    CHECK(our->dtype == their.dtype);
    const bool state = their.name.find(".quant_state.") != std::string::npos;
    if (state) {
      CHECK(WithoutOffset(TensorBytes(*ours, their.name)) == WithoutOffset(TensorBytes(*theirs, their.name)));
      continue;
    }
    CHECK(our->shape == their.shape);
    if (their.name.ends_with(".weight.absmax")) {
      const std::string weight = their.name.substr(0, their.name.size() - std::strlen(".absmax"));
      CompareNestedScales(*ours, *theirs, weight, ExactScales(*source, weight), &tally);
    } else if (!their.name.ends_with(".nested_absmax")) {
      CHECK(TensorBytes(*ours, their.name) == TensorBytes(*theirs, their.name));
    }
  }
  CHECK(tally.worst <= 0.02);
  CHECK(tally.differing_codes * 100 < tally.scales);
}

TEST_CASE("config.json lists skipped modules only when they are not the default ones") {
  const TempDir temp;
  SECTION("defaults") {
    Convert(Sample("tiny_bnb_src"), Nested(), temp.File("a.q4"));
    ExportOptions options;
    options.compute_dtype = DType::kF32;
    Export(temp.File("a.q4"), temp.File("out"), options);
    CHECK(ReadBytes(temp.File("out/config.json")) == ReadBytes(Sample("tiny_bnb") + "/config.json"));
  }
  SECTION("q_proj kept, output head quantized") {
    ConvertOptions convert = Nested();
    convert.policy.patterns = {{false, "q_proj"}, {true, "lm_head"}};
    Convert(Sample("tiny_skip_src"), convert, temp.File("a.q4"));
    const ExportReport report = Export(temp.File("a.q4"), temp.File("out"));
    const std::vector<std::string> skipped = SkippedModules(report);
    CHECK(std::count(skipped.begin(), skipped.end(), "model.layers.0.self_attn.q_proj") == 1);
    CHECK(std::count(skipped.begin(), skipped.end(), "model.layers.1.self_attn.q_proj") == 1);
    CHECK(std::count(skipped.begin(), skipped.end(), "lm_head") == 0);
    CHECK(QuantizationConfig(temp.File("out"))["llm_int8_skip_modules"] == Json(skipped));
  }
  SECTION("one more module kept: the output head must be listed too") {
    ConvertOptions convert = Nested();
    convert.policy.patterns = {{false, "layers.1.mlp.down_proj"}};
    Convert(Sample("tiny_bnb_src"), convert, temp.File("a.q4"));
    const std::vector<std::string> skipped = SkippedModules(Export(temp.File("a.q4"), temp.File("out")));
    CHECK(std::count(skipped.begin(), skipped.end(), "lm_head") == 1);
    CHECK(std::count(skipped.begin(), skipped.end(), "model.layers.1.mlp.down_proj") == 1);
  }
  SECTION("routed experts are no linear layers to the loader") {
    SafetensorsBuilder tensors = OneLinear();
    tensors.Add("model.layers.0.mlp.experts.0.up_proj.weight", "F32", {16, 64}, FloatBytes(16 * 64));
    ConvertOptions convert = Nested();
    convert.policy.patterns = {{false, "experts"}};
    Convert(WriteModel(temp, "moe", kLlama, tensors), convert, temp.File("a.q4"));
    CHECK(IsNull(SettingOf(Export(temp.File("a.q4"), temp.File("out")), "skip_modules")));
  }
}

// What the format cannot hold.

TEST_CASE("weights that transformers stores transposed are listed when kept and refused when quantized") {
  const TempDir temp;
  SafetensorsBuilder tensors;
  tensors.Add("h.0.attn.c_attn.weight", "F32", {64, 192}, FloatBytes(64 * 192));
  tensors.Add("h.0.extra.weight", "F32", {64, 64}, FloatBytes(64 * 64));
  const std::string model =
      WriteModel(temp, "gpt2", R"({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"})", tensors);
  ConvertOptions options = Plain();
  SECTION("kept") {
    Convert(model, options, temp.File("a.q4"));
    const std::vector<std::string> skipped = SkippedModules(Export(temp.File("a.q4"), temp.File("out")));
    CHECK(std::count(skipped.begin(), skipped.end(), "h.0.attn.c_attn") == 1);
  }
  SECTION("quantized") {
    options.policy.patterns = {{true, "c_attn"}};
    Convert(model, options, temp.File("a.q4"));
    CHECK(ExportIssue(temp.File("a.q4"), temp.File("out")) == kExportTransposed.number);
    CHECK_FALSE(stdfs::exists(temp.File("out")));
  }
}

TEST_CASE(
    "weights that transformers splits while it loads them are refused when quantized, their modules listed when kept") {
  const TempDir temp;
  SafetensorsBuilder tensors;
  tensors.Add("encoder.layers.0.attn.Wqkv.weight", "F32", {192, 64}, FloatBytes(192 * 64));
  tensors.Add("encoder.layers.0.attn.out_proj.weight", "F32", {64, 64}, FloatBytes(64 * 64));
  const std::string model =
      WriteModel(temp, "nomic", R"({"architectures": ["NomicBertModel"], "model_type": "nomic_bert"})", tensors);
  ConvertOptions options = Plain();
  SECTION("quantized") {
    Convert(model, options, temp.File("a.q4"));
    CHECK(ExportIssue(temp.File("a.q4"), temp.File("out")) == kExportConverted.number);
    CHECK_FALSE(stdfs::exists(temp.File("out")));
  }
  SECTION("kept") {
    options.policy.patterns = {{false, "Wqkv"}};
    Convert(model, options, temp.File("a.q4"));
    const std::vector<std::string> skipped = SkippedModules(Export(temp.File("a.q4"), temp.File("out")));
    for (const std::string part : {"q", "k", "v"}) {
      CHECK(std::count(skipped.begin(), skipped.end(), "layers.0.self_attn." + part + "_proj") == 1);
    }
  }
}

TEST_CASE("what is computed in is the dtype of most quantized elements, or what is asked for") {
  const TempDir temp;
  const auto computes_in = [&temp](const std::vector<std::string>& dtypes, std::optional<DType> asked) {
    SafetensorsBuilder tensors;
    for (std::size_t i = 0; i < dtypes.size(); ++i) {
      const std::string bytes(16 * 64 * (dtypes[i] == "F32" ? 4 : 2), '\x3c');
      tensors.Add("model.layers." + std::to_string(i) + ".mlp.up_proj.weight", dtypes[i], {16, 64}, bytes);
    }
    tensors.Add("model.norm.weight", "F64", {64}, std::string(512, '\0'));
    Convert(WriteModel(temp, "m" + std::to_string(dtypes.size()) + dtypes[0], kLlama, tensors), Plain(),
            temp.File("a.q4"));
    ExportOptions options;
    options.compute_dtype = asked;
    options.force = true;
    Export(temp.File("a.q4"), temp.File("out"), options);
    stdfs::remove(temp.File("a.q4"));
    return QuantizationConfig(temp.File("out"))["bnb_4bit_compute_dtype"].get<std::string>();
  };
  CHECK(computes_in({"BF16"}, std::nullopt) == "bfloat16");
  CHECK(computes_in({"F16", "F16"}, std::nullopt) == "float16");
  CHECK(computes_in({"F32", "F32", "F32"}, std::nullopt) == "float32");
  CHECK(computes_in({"BF16", "F16", "F32", "BF16"}, std::nullopt) == "bfloat16");
  CHECK(computes_in({"F16", "BF16", "F16", "BF16", "BF16", "F16"}, std::nullopt) == "bfloat16");
  CHECK(computes_in({"BF16", "BF16", "BF16", "BF16", "BF16"}, DType::kF16) == "float16");
}

TEST_CASE("no dtype that contradicts the tensors stays in config.json") {
  const TempDir temp;
  const std::string config = R"({"architectures": ["LlamaForCausalLM"], "torch_dtype": "float32", "dtype": "float32",
    "text_config": {"dtype": "float32", "hidden_size": 64}, "vision_config": {"torch_dtype": "float32"}, "audio_config": {}})";
  Convert(WriteModel(temp, "both", config, OneLinear()), Plain(), temp.File("a.q4"));
  ExportOptions options;
  options.to = "safetensors";
  options.dtype = DType::kBF16;
  Export(temp.File("a.q4"), temp.File("out"), options);
  const std::string text = ReadBytes(temp.File("out/config.json"));
  CHECK(text.find("float32") == std::string::npos);
  const Json json = JsonOf(text);
  CHECK(json["torch_dtype"] == "bfloat16");
  CHECK(json["dtype"] == "bfloat16");
  CHECK(json["text_config"] == Json({{"dtype", "bfloat16"}, {"hidden_size", 64}}));
  CHECK(json["audio_config"].empty());
}

TEST_CASE("a part of a joined layer that is kept alone is warned about") {
  const TempDir temp;
  SafetensorsBuilder tensors = OneLinear();
  tensors.Add("model.layers.0.mlp.gate_proj.weight", "F32", {16, 64}, FloatBytes(16 * 64));
  ConvertOptions options = Plain();
  options.policy.patterns = {{false, "gate_proj"}};
  Convert(WriteModel(temp, "fused", kLlama, tensors), options, temp.File("a.q4"));
  const std::vector<std::string> warnings = Export(temp.File("a.q4"), temp.File("out")).warnings;
  CHECK(std::count_if(warnings.begin(), warnings.end(), [](const std::string& line) {
          return line.find("in 'model.layers.0.mlp' gate_proj is kept, up_proj is quantized") != std::string::npos;
        }) == 1);
}

TEST_CASE("packed codes must be whole items of the storage dtype") {
  const TempDir temp;
  SafetensorsBuilder tensors;
  tensors.Add("a.weight", "F32", {2, 5}, FloatBytes(10));
  Convert(WriteModel(temp, "model", kLlama, tensors), Plain(), temp.File("a.q4"));
  ExportOptions options;
  options.quant_storage = DType::kBF16;
  CHECK(ExportIssue(temp.File("a.q4"), temp.File("out"), options) == kExportStorage.number);
  CHECK_FALSE(stdfs::exists(temp.File("out")));
  options.quant_storage = DType::kU8;
  CHECK(Export(temp.File("a.q4"), temp.File("out"), options).quantized_tensors == 1);
}

TEST_CASE("names that would collide are refused") {
  const TempDir temp;
  SafetensorsBuilder tensors;
  tensors.Add("a.weight", "F32", {8, 64}, FloatBytes(8 * 64));
  tensors.Add("a.weight.absmax", "F32", {8}, FloatBytes(8));
  Convert(WriteModel(temp, "model", kLlama, tensors), Plain(), temp.File("a.q4"));
  CHECK(ExportIssue(temp.File("a.q4"), temp.File("out")) == kExportNameCollision.number);
}

TEST_CASE("defects of readers are warned about") {
  const TempDir temp;
  SafetensorsBuilder tensors;
  tensors.Add("a.weight", "F32", {4, 80}, FloatBytes(4 * 80));
  tensors.Add("b.weight", "F32", {1, 2}, FloatBytes(2));
  Convert(WriteModel(temp, "model", "", tensors), Plain(Q4Scheme::kNf4, 32), temp.File("a.q4"));
  const std::vector<std::string> warnings = Export(temp.File("a.q4"), temp.File("out")).warnings;
  const auto warned = [&warnings](std::string_view about) {
    return std::any_of(warnings.begin(), warnings.end(),
                       [about](const std::string& line) { return line.find(about) != std::string::npos; });
  };
  CHECK(warned("block size 32"));
  CHECK(warned("AVX-512"));
  CHECK(warned("first dimension is 1 (tensor 'b.weight')"));
  CHECK(warned("no config.json"));
}

TEST_CASE("a cancelled or failing export leaves nothing") {
  const TempDir temp;
  Convert(WriteModel(temp, "model", kLlama, OneLinear()), Plain(), temp.File("a.q4"));
  const std::size_t entries = temp.Count();
  const std::atomic<bool> cancelled = true;
  ExportOptions options;
  SECTION("cancelled") {
    options.cancel = &cancelled;
    CHECK(ExportIssue(temp.File("a.q4"), temp.File("out"), options) == kExportInterrupted.number);
    options.to = "safetensors";
    CHECK(ExportIssue(temp.File("a.q4"), temp.File("out.safetensors"), options) == kExportInterrupted.number);
  }
  SECTION("too little memory") {
    options.max_memory = 1 << 20;
    CHECK(ExportIssue(temp.File("a.q4"), temp.File("out"), options) == kExportMemory.number);
  }
  SECTION("a damaged chunk") {
    std::string bytes = ReadBytes(temp.File("a.q4"));
    bytes[bytes.find(FloatBytes(64))] ^= 1;
    temp.Write("a.q4", bytes);
    const auto status = ExportModel(PosixFileSystem(), temp.File("a.q4"), temp.File("out"), options).status();
    CHECK(ExitCodeOf(status) == ExitCode::kCheckFailed);
  }
  CHECK(temp.Count() == entries);
}

TEST_CASE("flags that do not go together are refused") {
  const TempDir temp;
  ExportOptions bnb_dtype, bnb_file, sharded_file;
  bnb_dtype.dtype = DType::kBF16;
  CHECK(ExportIssue("a.q4", temp.File("out"), bnb_dtype) == kExportFlag.number);
  CHECK(ExportIssue("a.q4", temp.File("out.safetensors"), bnb_file) == kExportFlag.number);
  sharded_file.to = "safetensors";
  sharded_file.shard_bytes = 1000;
  CHECK(ExportIssue("a.q4", temp.File("out.safetensors"), sharded_file) == kExportFlag.number);
}

TEST_CASE("every exporter has a name of its own, and no other name exports") {
  const TempDir temp;
  Convert(Sample("tiny_bnb_src"), Nested(), temp.File("a.q4"));
  std::set<std::string> names;
  for (const ExporterRow& row : Exporters()) {
    INFO(row.name);
    CHECK(names.insert(std::string(row.name)).second);
    CHECK_FALSE(row.what.empty());
    ExportOptions options;
    options.to = row.name;
    const ExportReport report = Export(temp.File("a.q4"), temp.File(options.to), options);
    const bool dequantized = row.weights == ExporterRow::Weights::kDequantized;
    CHECK(report.dequantized_tensors == (dequantized ? 14 : 0));
    CHECK(report.quantized_tensors == (dequantized ? 0 : 14));
    const Json json = JsonOf(ExportReportJson(report));
    CHECK(json["to"] == options.to);
    for (const ExportSetting& setting : report.settings) CHECK(json.contains(setting.key));
    CHECK(ExportReportText(report).find(dequantized ? "14 tensors dequantized" : "14 tensors in 4 bits") !=
          std::string::npos);
  }
  ExportOptions unknown;
  unknown.to = "bnb4";
  CHECK(ExportIssue(temp.File("a.q4"), temp.File("out"), unknown) == kExportUnknown.number);
}

TEST_CASE("shards keep a weight's parts together and hold the same bytes") {
  const TempDir temp;
  Convert(Sample("tiny_bnb_src"), Nested(), temp.File("a.q4"));
  Export(temp.File("a.q4"), temp.File("whole"));
  ExportOptions options;
  options.shard_bytes = 100'000;
  const ExportReport report = Export(temp.File("a.q4"), temp.File("out"), options);

  const auto whole = Opened(temp.File("whole")), parts = Opened(temp.File("out"));
  CHECK(parts->format() == "safetensors-sharded");
  CHECK(parts->files().size() > 3);
  REQUIRE(parts->tensors().size() == whole->tensors().size());
  for (const SourceTensor& tensor : whole->tensors())
    CHECK(TensorBytes(*parts, tensor.name) == TensorBytes(*whole, tensor.name));

  const std::string text = ReadBytes(temp.File("out/model.safetensors.index.json"));
  const Json index = JsonOf(text);
  CHECK(text == DumpSorted(index) + "\n");
  CHECK(index["metadata"]["total_parameters"] == 491136);
  CHECK(index["metadata"]["total_size"] == report.tensor_bytes);
  for (const auto& [key, file] : index["weight_map"].items()) {
    const std::size_t part = key.find(".weight.");
    if (part != std::string::npos) CHECK(index["weight_map"][key.substr(0, part + 7)] == file);
  }
  std::vector<std::uint64_t> payload(parts->files().size());
  for (const SourceTensor& tensor : parts->tensors()) payload[tensor.place().file] += tensor.stored_bytes();
  for (const std::uint64_t bytes : payload) {
    CHECK(bytes <= std::max<std::uint64_t>(options.shard_bytes, 500 * 128 * 4));
  }
}

TEST_CASE("a pattern chooses tensors") {
  const TempDir temp;
  Convert(Sample("tiny_bnb_src"), Nested(), temp.File("a.q4"));
  ExportOptions options;
  options.tensor_pattern = "layers\\.0\\..*up_proj";
  const ExportReport report = Export(temp.File("a.q4"), temp.File("out"), options);
  CHECK(report.quantized_tensors == 1);
  CHECK(report.kept_tensors == 0);
  CHECK(report.left_out_tensors == 20);
  CHECK(Opened(temp.File("out"))->tensors().size() == 6);

  options.tensor_pattern = "nothing";
  CHECK(ExportIssue(temp.File("a.q4"), temp.File("none"), options) == kExportNoTensor.number);
  options.tensor_pattern = "(";
  CHECK(ExitCodeOf(ExportModel(PosixFileSystem(), temp.File("a.q4"), temp.File("none"), options).status()) ==
        ExitCode::kUsage);
}

// Dequantizing.

// What the scalar kernels make of the exported codes and scales.
std::vector<std::uint8_t> Decoded(const Checkpoint& bnb, const std::string& weight, std::uint64_t elems,
                                  std::uint32_t block_size, FloatType type) {
  std::vector<float> scales = Floats(bnb, weight + ".absmax");
  std::vector<std::uint8_t> out(elems * FloatSize(type));
  ScalarKernels().dequantize(CodeBook::kNf4, TensorBytes(bnb, weight).data(), scales.data(), elems, block_size, type,
                             out.data());
  return out;
}

TEST_CASE("a dequantized checkpoint holds the decoded values, in any dtype, as directory or file, by every kernel") {
  const TempDir temp;
  Convert(WriteModel(temp, "model", kLlama, OneLinear()), Plain(), temp.File("a.q4"));
  Export(temp.File("a.q4"), temp.File("bnb"));
  const auto bnb = Opened(temp.File("bnb"));
  const std::string weight = "model.layers.0.mlp.up_proj.weight";
  struct Case {
    std::optional<DType> dtype;
    DType result;
    FloatType type;
  };
  const Case c =
      GENERATE(Case{std::nullopt, DType::kF32, FloatType::kF32}, Case{DType::kF32, DType::kF32, FloatType::kF32},
               Case{DType::kBF16, DType::kBF16, FloatType::kBF16}, Case{DType::kF16, DType::kF16, FloatType::kF16});
  ExportOptions options;
  options.to = "safetensors";
  options.dtype = c.dtype;
  const ExportReport report = Export(temp.File("a.q4"), temp.File("out"), options);
  CHECK(report.dequantized_tensors == 1);
  CHECK(report.kept_tensors == 1);
  const auto out = Opened(temp.File("out"));
  CHECK(out->Find(weight)->dtype == c.result);
  CHECK(out->Find(weight)->shape == Shape{16, 64});
  CHECK(TensorBytes(*out, weight) == Decoded(*bnb, weight, 16 * 64, 64, c.type));
  CHECK(out->Find("model.norm.weight")->dtype == c.result);
  if (c.dtype)
    CHECK(JsonOf(ReadBytes(temp.File("out/config.json")))["dtype"].get<std::string>() ==
          (c.result == DType::kF32   ? "float32"
           : c.result == DType::kF16 ? "float16"
                                     : "bfloat16"));

  for (const KernelTable* kernels : test::AllCpuKernels()) {
    options.kernels = kernels;
    const std::string file = temp.File(std::string(kernels->name) + ".safetensors");
    Export(temp.File("a.q4"), file, options);
    // A single file has a mark in its header by which --force knows it; what follows is the same.
    CHECK(PayloadOf(file) == PayloadOf(temp.File("out/model.safetensors")));
  }
}

TEST_CASE("elements that become infinite are counted") {
  const TempDir temp;
  SafetensorsBuilder tensors;
  tensors.Add("a.weight", "F32", {1, 64}, FloatBytes(64, 1e6f));
  tensors.Add("norm.weight", "F32", {64}, FloatBytes(64, 1e6f));
  Convert(WriteModel(temp, "model", kLlama, tensors), Plain(), temp.File("a.q4"));
  ExportOptions options;
  options.to = "safetensors";
  options.dtype = DType::kF16;
  const ExportReport report = Export(temp.File("a.q4"), temp.File("out"), options);
  CHECK(report.overflowed > 64);
  CHECK(report.overflowed < 128);
  CHECK(report.warnings.size() == 1);
  options.dtype = DType::kBF16;
  CHECK(Export(temp.File("a.q4"), temp.File("out2"), options).overflowed == 0);
}

TEST_CASE("a tensor of several chunks is decoded alike by any number of threads") {
  const TempDir temp;
  const std::uint64_t elems = 2 * kQ4ChunkElems + 37;
  SafetensorsBuilder tensors;
  tensors.Add("big.weight", "F32", {1, elems}, FloatBytes(elems));
  const std::string model = WriteModel(temp, "model", kLlama, tensors);
  const std::uint32_t block_size = GENERATE(32u, 4096u);
  Convert(model, Plain(Q4Scheme::kNf4, block_size), temp.File("a.q4"));
  Export(temp.File("a.q4"), temp.File("bnb"));
  const auto bnb = Opened(temp.File("bnb"));
  const std::vector<std::uint8_t> expected = Decoded(*bnb, "big.weight", elems, block_size, FloatType::kF32);
  for (const unsigned threads : {1u, 3u}) {
    ExportOptions options;
    options.to = "safetensors";
    options.threads = threads;
    const std::string file = temp.File(std::to_string(threads) + ".safetensors");
    Export(temp.File("a.q4"), file, options);
    CHECK(TensorBytes(*Opened(file), "big.weight") == expected);
  }
}

TEST_CASE("the report is one JSON document with every file") {
  const TempDir temp;
  Convert(WriteModel(temp, "model", kLlama, OneLinear()), Plain(), temp.File("a.q4"));
  const ExportReport report = Export(temp.File("a.q4"), temp.File("out"));
  const Json json = JsonOf(ExportReportJson(report));
  CHECK(json["to"] == "bnb");
  CHECK(json["tensors"]["quantized"] == 1);
  CHECK(json["skip_modules"].is_null());
  REQUIRE(json["files"].size() == 3);
  for (const Json& file : json["files"]) {
    CHECK(stdfs::file_size(temp.File("out/" + file["name"].get<std::string>())) == file["bytes"].get<std::uint64_t>());
  }
}

}  // namespace
}  // namespace q4
