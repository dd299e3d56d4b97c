#include "libconvert/repack/repack_report.h"

#include <cstddef>
#include <cstdint>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/text.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/plan/shard_cut.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

// Why every tensor has its treatment.
constexpr char kReason[] = "as in the container";

// Which tensors are quantized, of all shards.
struct Counts {
  std::uint64_t quantized = 0, kept = 0;
};
Counts CountsOf(const RepackPlan& plan) {
  Counts counts;
  for (const RepackedShard& shard : plan.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) ++(tensor.quantized() ? counts.quantized : counts.kept);
  }
  return counts;
}

}  // namespace

std::string RepackPlanText(const Q4Model& model, const RepackPlan& plan, const BoundOf& bound_of) {
  std::string text;
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    const RepackedShard& shard = plan.shards[s];
    if (plan.shards.size() > 1) {
      text += fmt::format("part {} of {}: {} bytes\n", s + 1, plan.shards.size(), shard.file_bytes);
    }
    for (const RepackedShard::Tensor& taken : shard.tensors) {
      const Q4Tensor& tensor = shard.index.tensors[taken.tensor];
      text += fmt::format("{:<14} {:>12}  {} {} {}  ({})\n", TreatmentName(tensor), StoredBytes(tensor),
                          Printable(tensor.name), DTypeName(tensor.dtype), ShapeString(tensor.shape), kReason);
    }
    for (const Q4EmbeddedFile& file : shard.index.files) {
      text += fmt::format("{:<14} {:>12}  {}\n", "file", file.raw_bytes, Printable(file.name));
    }
  }
  const Counts counts = CountsOf(plan);
  text += fmt::format("\n{} of {} tensors quantized\n", counts.quantized, counts.quantized + counts.kept);
  text += fmt::format("source  {} bytes of containers ({})\n", plan.source_bytes, HumanBytes(plan.source_bytes));
  text += fmt::format("output  {}{} bytes ({})\n", plan.compression.zstd ? "at most " : "", plan.output_bytes,
                      HumanBytes(plan.output_bytes));
  text +=
      fmt::format("memory  at least {} bytes (--max-memory)\n", GivenBound(bound_of, LeastRepackMemory(model, plan)));
  return text;
}

std::string RepackPlanJson(const Q4Model& model, const RepackPlan& plan, const BoundOf& bound_of) {
  Json tensors = Json::array();
  Json part_bytes = Json::array();
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    part_bytes.push_back(plan.shards[s].file_bytes);
    for (const RepackedShard::Tensor& taken : plan.shards[s].tensors) {
      const Q4Tensor& tensor = plan.shards[s].index.tensors[taken.tensor];
      Json entry;
      entry["name"] = tensor.name;
      entry["source_dtype"] = DTypeName(tensor.dtype);
      entry["shape"] = tensor.shape;
      entry["quantized"] = tensor.quantized();
      entry["treatment"] = TreatmentName(tensor);
      entry["reason"] = kReason;
      entry["bytes"] = StoredBytes(tensor);
      entry["part"] = s;
      tensors.push_back(std::move(entry));
    }
  }
  const Counts counts = CountsOf(plan);
  Json notes = Json::array();
  for (const std::string& note : plan.notes) notes.push_back(note);
  Json json;
  json["document"] = "q4convert-plan";
  json["version"] = 1;
  json["source_bytes"] = plan.source_bytes;
  json["output_bytes"] = plan.output_bytes;
  json["output_bytes_exact"] = !plan.compression.zstd;
  json["part_bytes"] = std::move(part_bytes);
  json["least_memory_bytes"] = GivenBound(bound_of, LeastRepackMemory(model, plan));
  json["quantized_tensors"] = counts.quantized;
  json["kept_tensors"] = counts.kept;
  json["warnings"] = Json::array();
  json["notes"] = std::move(notes);
  json["left_out"] = Json::array();
  json["tensors"] = std::move(tensors);
  return JsonReportText(json);
}

}  // namespace q4
