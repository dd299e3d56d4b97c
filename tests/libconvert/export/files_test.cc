#include "libconvert/export/files.h"

#include <string>
#include <vector>

#include "formats/base/limits.h"
#include "libconvert/export/export_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

std::vector<ExportTensor> Targets(std::size_t count) {
  std::vector<ExportTensor> targets;
  for (std::size_t i = 0; i < count; ++i) {
    targets.push_back({"t" + std::to_string(i), DType::kU8, {4}, 4, static_cast<std::uint32_t>(i)});
  }
  return targets;
}

TEST_CASE("as many weight files as a checkpoint may have, and no more") {
  const auto most = LayOutWeights(Targets(limits::kShards), {}, 4);
  REQUIRE(most.ok());
  CHECK(most->files.size() == limits::kShards);
  const auto too_many = LayOutWeights(Targets(limits::kShards + 1), {}, 4);
  CHECK(IssueNumberOf(too_many.status()) == kExportShards.number);
  CHECK(ExitCodeOf(too_many.status()) == ExitCode::kUsage);
}

TEST_CASE("targets of a folder lie in its files, under the names that they have there") {
  const std::vector<std::string> folders = {"0_Router", "0_Router/q", "2_Dense"};
  std::vector<ExportTensor> targets;
  for (const char* name : {"0_Router/q/w", "0_Router/w", "2_Dense/a", "2_Dense/b", "2_Densely/w", "w"}) {
    targets.push_back({name, DType::kU8, {4}, 4, static_cast<std::uint32_t>(targets.size())});
  }
  const auto layout = LayOutWeights(targets, folders, 4);
  REQUIRE(layout.ok());
  std::vector<std::string> names, places;
  for (const WeightFile& file : layout->files) names.push_back(file.name);
  CHECK(names == std::vector<std::string>{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                          "0_Router/model.safetensors", "0_Router/q/model.safetensors",
                                          "2_Dense/model-00001-of-00002.safetensors",
                                          "2_Dense/model-00002-of-00002.safetensors"});
  for (const WeightLayout::Place& place : layout->places) places.push_back(names[place.file]);
  CHECK(places == std::vector<std::string>{names[3], names[2], names[4], names[5], names[0], names[1]});
  CHECK(layout->tensor_bytes == 24);
  CHECK(layout->indexed_folders == std::vector<std::string>{"", "2_Dense"});
  CHECK(layout->files[4].head.find("\"a\"") != std::string::npos);
  const std::string index = WeightIndexText(*layout, targets, "2_Dense", 8);
  CHECK(index.find("\"a\": \"model-00001-of-00002.safetensors\"") != std::string::npos);
  CHECK(index.find("\"total_size\": 8") != std::string::npos);
  CHECK(index.find("Dense") == std::string::npos);
  CHECK(WeightIndexText(*layout, targets, "", 8).find("2_Densely/w") != std::string::npos);
  // Nothing at the top makes no file there; nothing at all makes one.
  CHECK(LayOutWeights({targets[0]}, folders, 0)->files.size() == 1);
  CHECK(LayOutWeights({}, folders, 0)->files.front().name == "model.safetensors");
}

TEST_CASE("targets lie in the files that are given, whatever their groups and sizes") {
  const std::vector<std::string> folders = {"2_Dense"};
  std::vector<ExportTensor> targets = Targets(4);
  targets[3].name = "2_Dense/w";
  const std::vector<std::uint32_t> files = {1, 0, 1, 7};
  const auto layout = LayOutWeights(targets, folders, 1, {}, files);
  REQUIRE(layout.ok());
  std::vector<std::string> places;
  for (const WeightLayout::Place& place : layout->places) places.push_back(layout->files[place.file].name);
  CHECK(places == std::vector<std::string>{"model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors",
                                           "model-00002-of-00002.safetensors", "2_Dense/model.safetensors"});
  const std::string index = WeightIndexText(*layout, targets, "", 12, IndexTotals{5, std::nullopt});
  CHECK(index.starts_with("{\n  \"metadata\": {\n    \"total_size\": 5\n  },\n"));
}

}  // namespace
}  // namespace q4
