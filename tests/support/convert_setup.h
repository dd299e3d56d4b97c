// A small model in which everything happens, and its conversion in process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "formats/q4/layout.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/convert.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4::test {

// The content of an output that is there before a run: what --force replaces begins like a container.
inline std::string OldOutput() { return std::string(kQ4Magic.begin(), kQ4Magic.end()) + "precious"; }

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// Normal weights of standard deviation 0.02, as raw bytes of `dtype`.
inline std::string Weights(DType dtype, std::uint64_t elems, std::uint32_t seed) {
  const std::vector<std::uint8_t> bytes = NormalBytes(dtype, elems, seed);
  return {bytes.begin(), bytes.end()};
}

// A model in which everything happens: a tensor of several slabs, odd sizes, tails, all float types, other types, empty
// ones. Its bytes are made once for all tests of a program.
inline std::string WriteModel(const TempDir& dir) {
  static const std::string file = [] {
    SafetensorsBuilder builder;
    const auto add = [&](const std::string& name, DType dtype, const Shape& shape, std::uint32_t seed) {
      std::uint64_t elems = 1;
      for (const std::uint64_t d : shape) elems *= d;
      builder.Add(name, DTypeName(dtype), shape, Weights(dtype, elems, seed));
    };
    add("model.embed_tokens.weight", DType::kBF16, {300, 64}, 1);
    add("model.layers.0.mlp.up_proj.weight", DType::kBF16, {3100, 3001}, 2);  // 9.3 M elements: 3 slabs, odd rows
    add("model.layers.0.mlp.down_proj.weight", DType::kF16, {131, 77}, 3);
    add("model.layers.0.self_attn.q_proj.weight", DType::kF32, {2111, 2003}, 4);  // 4.2 M elements: 2 slabs
    add("model.layers.0.self_attn.k_proj.weight", DType::kBF16, {1, 33}, 5);
    add("model.layers.0.input_layernorm.weight", DType::kBF16, {64}, 6);
    builder.Add("counter", "I64", {3}, std::string(24, 7));
    builder.Add("flags", "BOOL", {5}, std::string(5, 1));
    builder.Add("nothing", "F32", {0, 4}, "");
    add("lm_head.weight", DType::kBF16, {300, 64}, 7);
    return builder.Build();
  }();
  const std::string path = dir.Write("model.safetensors", file);
  dir.Write("config.json",
            R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","tie_word_embeddings":false})");
  dir.Write("tokenizer.json", R"({"version":"1.0"})");
  return path;
}

inline std::string FileSha256(const std::string& path) {
  return HexOf(Sha256Of(AsBytes(Must(ReadWholeFile(PosixFileSystem(), path, std::uint64_t{1} << 30)))));
}

// Converts the checkpoint at `source` into the container `output`, as q4convert does.
inline ConvertReport MustConvert(const std::string& source, const ConvertOptions& options, const std::string& output,
                                 const RunOptions& run = {}) {
  FileSystem& fs = PosixFileSystem();
  const std::unique_ptr<Checkpoint> checkpoint = Must(OpenCheckpoint(fs, source));
  const ConversionPlan plan = Must(PlanConversion(*checkpoint, Must(checkpoint->Configs(fs)), options));
  return Must(RunConversion(fs, *checkpoint, plan, options, run, output));
}

struct Setup {
  TempDir dir;
  std::unique_ptr<Checkpoint> checkpoint;
  std::string config;
  ConvertOptions options;

  Setup() : Setup(WriteModel) {}
  explicit Setup(std::string (*write)(const TempDir&)) {
    checkpoint = Must(OpenCheckpoint(PosixFileSystem(), write(dir)));
    config = Must(checkpoint->ConfigJson(PosixFileSystem()));
  }

  ConversionPlan Plan() const { return Must(PlanConversion(*checkpoint, config, options)); }

  absl::StatusOr<ConvertReport> Run(const RunOptions& run, const std::string& name = "out.q4") const {
    return RunConversion(PosixFileSystem(), *checkpoint, Plan(), options, run, dir.File(name));
  }
};

}  // namespace q4::test
