// A small model, and conversions of it that are interrupted and gone on with.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/file.h"
#include "libconvert/convert/convert.h"
#include "libconvert/convert/journal.h"
#include "libconvert/convert/resume.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/crash_file_system.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4::test {

inline constexpr int kResumeLayers = 6;
inline constexpr std::size_t kResumeTensors = 2 * kResumeLayers + 1;

inline std::string WriteLayers(const TempDir& dir) {
  SafetensorsBuilder builder;
  for (std::uint32_t i = 0; i < kResumeLayers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    builder.Add(layer + "input_layernorm.weight", "BF16", {64}, Weights(DType::kBF16, 64, i));
    builder.Add(layer + "mlp.up_proj.weight", "BF16", {67, 333}, Weights(DType::kBF16, 67 * 333, 100 + i));
  }
  // Another treatment than planned.
  std::string nan = Weights(DType::kBF16, 64 * 64, 7);
  nan[100] = '\xC0';
  nan[101] = '\x7F';
  builder.Add("model.layers.6.mlp.up_proj.weight", "BF16", {64, 64}, nan);
  dir.Write("config.json", R"({"architectures":["LlamaForCausalLM"],"model_type":"llama"})");
  return dir.Write("model.safetensors", builder.Build());
}

// The same tensors in two files, the border in the middle of a layer.
inline std::string WriteLayersInTwoFiles(const TempDir& dir) {
  WriteLayers(dir);
  const std::string whole = ReadBytes(dir.File("model.safetensors"));
  const absl::StatusOr<std::unique_ptr<Checkpoint>> one =
      OpenCheckpoint(PosixFileSystem(), dir.File("model.safetensors"));
  REQUIRE(one.ok());
  SafetensorsBuilder files[2];
  std::string map;
  for (std::size_t i = 0; i < (*one)->tensors().size(); ++i) {
    const SourceTensor& tensor = (*one)->tensors()[i];
    const std::size_t file = i < kResumeTensors / 2 ? 0 : 1;
    files[file].Add(tensor.name, DTypeName(tensor.dtype), tensor.shape,
                    std::string_view(whole).substr(tensor.place().offset, tensor.bytes));
    map += fmt::format(R"({}"{}":"part-{}.safetensors")", map.empty() ? "" : ",", tensor.name, file);
  }
  for (int i = 0; i < 2; ++i) dir.Write(fmt::format("part-{}.safetensors", i), files[i].Build());
  std::filesystem::remove(dir.File("model.safetensors"));
  return dir.Write("model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
}

struct ResumeSetup : Setup {
  explicit ResumeSetup(std::string (*write)(const TempDir&) = WriteLayers) : Setup(write) {
    options.keep_nonfinite = true;
  }

  std::string output() const { return dir.File("out.q4"); }
  std::string journal() const { return JournalPath(output()); }
  std::string partial() const { return output() + ".partial"; }

  // Notes everything at once, so that every tensor is a point to go on from.
  static RunOptions EagerRun() {
    RunOptions run;
    run.threads = 2;
    run.force = true;
    run.pace.bytes = 1;
    return run;
  }

  absl::StatusOr<ConvertReport> Convert(FileSystem& fs, const RunOptions& run = EagerRun()) const {
    absl::StatusOr<std::unique_ptr<Checkpoint>> opened = OpenCheckpoint(fs, checkpoint->path());
    REQUIRE(opened.ok());
    const absl::StatusOr<ConversionPlan> plan = PlanConversion(**opened, config, options);
    REQUIRE(plan.ok());
    return RunConversion(fs, **opened, *plan, options, run, output());
  }

  // Of all files that a run leaves, in name order.
  std::string Outputs() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir.path())) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    std::string all;
    for (const std::string& name : names) {
      if (name.starts_with("out")) all += name + " " + FileSha256(dir.File(name)) + "\n";
    }
    return all;
  }
  void RemoveOutputs() const {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(dir.path())) paths.push_back(entry.path());
    for (const auto& path : paths) {
      if (path.filename().string().starts_with("out")) std::filesystem::remove(path);
    }
  }

  // Leaves what a run leaves whose journal speaks of `tensors` tensors; of all and of the seal, if that many there are.
  void Interrupt(std::size_t tensors) const {
    {
      CrashFileSystem fs(CrashFileSystem::kAtRename);
      REQUIRE_FALSE(Convert(fs).ok());
    }
    const absl::StatusOr<std::string> text = ReadWholeFile(PosixFileSystem(), journal(), 1 << 24);
    const absl::StatusOr<Sha256> id = RunIdOf(PosixFileSystem(), Plan());
    REQUIRE(text.ok());
    REQUIRE(id.ok());
    const Journal whole = ParseJournal(AsBytes(*text), *id);
    REQUIRE(whole.bytes == text->size());
    REQUIRE(whole.owners.size() == kResumeTensors + 1);  // and config.json
    if (tensors < kResumeTensors) dir.Write("out.q4.journal", text->substr(0, whole.owners[tensors].bytes_end));
  }
};

inline bool HasNote(const ConvertReport& report, const std::string& begin) {
  return std::any_of(report.notes.begin(), report.notes.end(),
                     [&](const std::string& note) { return note.starts_with(begin); });
}

}  // namespace q4::test
