#include "libconvert/repack/repack_report.h"

#include <cstddef>
#include <cstdint>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"
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

std::string RepackPlanText(const Q4Model& model, const RepackPlan& plan, bool all, const std::string& output,
                           const BoundOf& bound_of) {
  std::string text;
  for (std::size_t s = 0; all && s < plan.shards.size(); ++s) {
    const RepackedShard& shard = plan.shards[s];
    if (plan.shards.size() > 1) {
      text += fmt::format("part {} of {}: {} bytes\n", s + 1, plan.shards.size(), Grouped(shard.file_bytes));
    }
    for (const RepackedShard::Tensor& taken : shard.tensors) {
      const Q4Tensor& tensor = shard.index.tensors[taken.tensor];
      text += fmt::format("{:<14} {:>14}  {} {} {}  ({})\n", TreatmentName(tensor), Grouped(StoredBytes(tensor)),
                          Printable(tensor.name), DTypeName(tensor.dtype), ShapeString(tensor.shape), kReason);
    }
    for (const Q4EmbeddedFile& file : shard.index.files) {
      text += fmt::format("{:<14} {:>14}  {}\n", "file", Grouped(file.raw_bytes), Printable(file.name));
    }
  }
  if (all) text += "\n";
  const Counts counts = CountsOf(plan);
  text += fmt::format("{} of {} quantized, as in the container{}\n\n", Grouped(counts.quantized),
                      Counted(counts.quantized + counts.kept, "tensor"), all ? "" : " (-v lists all)");
  text +=
      fmt::format("source  {} bytes of containers ({})\n", Grouped(plan.source_bytes), HumanBytes(plan.source_bytes));
  text += fmt::format("output  {}{} bytes ({})\n", plan.compression.zstd ? "at most " : "", Grouped(plan.output_bytes),
                      HumanBytes(plan.output_bytes));
  if (!output.empty()) {
    text += fmt::format("writes  {}{}\n", Printable(output, 4096),
                        plan.shards.size() > 1 ? fmt::format(" in {} parts", Grouped(plan.shards.size())) : "");
  }
  text += fmt::format("memory  at least {} bytes (--max-memory)\n",
                      Grouped(GivenBound(bound_of, LeastRepackMemory(model, plan))));
  return text;
}

std::string RepackPlanJson(const Q4Model& model, const RepackPlan& plan, const std::string& output,
                           const BoundOf& bound_of) {
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
  Json warnings = Json::array(), notes = Json::array();
  for (const Note& note : plan.notes) (note.warning ? warnings : notes).push_back(note.text);
  Json json;
  json["document"] = "q4convert-plan";
  json["version"] = 1;
  json["output"] = output.empty() ? Json(nullptr) : Json(output);
  json["source_bytes"] = plan.source_bytes;
  json["output_bytes"] = plan.output_bytes;
  json["output_bytes_exact"] = !plan.compression.zstd;
  json["part_bytes"] = std::move(part_bytes);
  json["least_memory_bytes"] = GivenBound(bound_of, LeastRepackMemory(model, plan));
  json["quantized_tensors"] = counts.quantized;
  json["kept_tensors"] = counts.kept;
  json["warnings"] = std::move(warnings);
  json["notes"] = std::move(notes);
  json["left_out"] = Json::array();
  json["tensors"] = std::move(tensors);
  return JsonReportText(json);
}

}  // namespace q4
