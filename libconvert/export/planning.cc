// Order of things: choose tensors, mark what loaders treat in their own way, let the exporter plan targets and small
// files, then the warnings.
#include "libconvert/export/planning.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/base/nearest_parts.h"
#include "libconvert/export/embedded.h"
#include "libconvert/export/experts.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/export/foreign.h"
#include "libconvert/export/left_out.h"
#include "libconvert/export/unloadable.h"
#include "libconvert/model/model_configs.h"
#include "libconvert/policy/diffusers.h"

namespace q4 {
namespace {

// Fills plan->sources with the tensors that the pattern matches, in name order.
absl::Status ChooseSources(const Q4Model& model, const ExportOptions& options, ExportPlan* plan, ExportReport* report) {
  // nullopt: all tensors.
  std::optional<NamePattern> pattern;
  if (!options.tensor_pattern.empty()) {
    Q4_ASSIGN_OR_RETURN(pattern, NamePattern::Parse(options.tensor_pattern, "--tensor"));
  }
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& tensor = model.tensor(at);
    if (pattern && !pattern->Matches(tensor.name)) {
      ++report->left_out_tensors;
      continue;
    }
    plan->sources.push_back({&model.reader(at), &tensor});
  }
  // A model without tensors may be exported; a pattern that matches none of them is a mistake.
  if (plan->sources.empty() && pattern) {
    const auto name_of = [&model](const Q4Model::Location& at) -> std::string_view { return model.tensor(at).name; };
    return Fail(kExportNoTensor, model.path(), pattern->text(),
                "q4inspect --tensors lists the names" + DidYouMeanByParts(pattern->text(), model.tensors(), name_of));
  }
  return absl::OkStatus();
}

// The counts of what was planned. What becomes of a quantized tensor is the exporter's decision.
void CountSources(const ExportPlan& plan, ExportReport* report) {
  for (const ExportSource& source : plan.sources) {
    report->parameters += source.tensor->elems;
    ++(!source.tensor->quantized() ? report->kept_tensors
       : source.stays_quantized    ? report->quantized_tensors
                                   : report->dequantized_tensors);
  }
}

// Settles `outside_model` of all plan->sources.
void MarkOutside(const std::vector<ModelPart>& parts, const ModelConfigs& configs, ExportPlan* plan) {
  for (ExportSource& source : plan->sources) {
    const std::string_view folder = ModuleFolderOf(configs.folders, source.tensor->name);
    source.outside_model =
        std::none_of(parts.begin(), parts.end(), [folder](const ModelPart& part) { return part.folder == folder; });
  }
}

}  // namespace

absl::Status CheckAllShards(const Q4Model& model) {
  // Q4Model opens a single shard as a model of its own.
  const std::uint32_t shard_count = model.shards().front()->index().shard_count;
  if (model.shards().size() == shard_count) return absl::OkStatus();
  return Fail(kExportOneShard, model.path(), {},
              GotExpected(fmt::to_string(model.shards().size()) + " shards", fmt::to_string(shard_count)));
}

absl::StatusOr<PlannedExport> PlanExport(const Q4Model& model, const ExporterRow& row, const ExportOptions& options,
                                         ExportReport* report) {
  const std::string& input = model.path();
  PlannedExport planned;
  ExportPlan& plan = planned.plan;
  Q4_RETURN_IF_ERROR(ChooseSources(model, options, &plan, report));
  Q4_ASSIGN_OR_RETURN(planned.configs, ReadModelConfigs(model));
  const ModelConfigs& configs = planned.configs;
  Q4_RETURN_IF_ERROR(CheckGguf(model, configs, row.weights, report));
  Q4_ASSIGN_OR_RETURN(const std::vector<ModelPart> parts, TransformersParts(model, configs));
  MarkOutside(parts, configs, &plan);
  plan.is_component = configs.folders.empty() && !DiffusersClassOf(configs.root).empty();
  Q4_RETURN_IF_ERROR(InFile(MarkExperts(model, configs, &plan), input));
  Q4_RETURN_IF_ERROR(InFile(MarkUnloadable(parts, &plan), input));
  Q4_ASSIGN_OR_RETURN(plan.bnb, ReadBnbRecord(model));
  Q4_RETURN_IF_ERROR(InFile(row.exporter->Plan(options, &plan), input));
  CountSources(plan, report);
  Q4_ASSIGN_OR_RETURN(planned.small_files, row.exporter->SmallFiles(parts, options, plan, report));
  for (SmallFile& file : planned.small_files) {
    Q4_RETURN_IF_ERROR(InFile(DropRedirectsOf(file.name, &file.content), input));
  }
  Q4_RETURN_IF_ERROR(CheckForeign(model, configs, row.weights, report));
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> missing, WarnOfLeftOut(model));
  report->warnings.insert(report->warnings.end(), missing.begin(), missing.end());
  return planned;
}

}  // namespace q4
