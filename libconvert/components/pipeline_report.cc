// Paths and names come from the input: text passes them through Printable(), JSON escapes them by itself.
#include "libconvert/components/pipeline_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/base/counted.h"
#include "formats/base/text.h"
#include "libconvert/base/json_document.h"
#include "libconvert/components/pipeline_json.h"
#include "libconvert/convert_report/convert_report.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/report/json.h"

namespace q4 {
namespace {

// What is carried, by component: the first part of the name, or the pipeline's own folder.
struct CarriedSum {
  std::string name;
  std::uint64_t files = 0, bytes = 0;
};

void AddCarried(std::string_view path, std::uint64_t bytes, std::vector<CarriedSum>* sums) {
  const std::size_t slash = path.find('/');
  const std::string_view name = slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
  if (sums->empty() || sums->back().name != name) {
    const auto found = std::find_if(sums->begin(), sums->end(), [&](const auto& sum) { return sum.name == name; });
    if (found != sums->end()) {
      ++found->files;
      found->bytes += bytes;
      return;
    }
    sums->push_back({std::string(name), 0, 0});
  }
  ++sums->back().files;
  sums->back().bytes += bytes;
}

std::string CarriedText(const std::vector<CarriedSum>& sums) {
  std::string text;
  for (const CarriedSum& sum : sums) {
    text +=
        fmt::format("carried  {:<20} {:<10} {:>10}\n", sum.name.empty() ? "(the pipeline's own)" : Printable(sum.name),
                    Counted(sum.files, "file"), HumanBytes(sum.bytes));
  }
  return text;
}

Json LeftOutOf(const std::vector<LeftOutFile>& files) {
  Json json = Json::array();
  for (const LeftOutFile& file : files) {
    json.push_back({{"name", file.name}, {"reason", file.reason}, {"warning", file.warning}});
  }
  return json;
}

// A line for each, but for what is not recorded.
std::string LeftOutText(const std::vector<LeftOutFile>& files) {
  std::string text;
  for (const LeftOutFile& file : files) {
    if (file.recorded) text += fmt::format("left out {}  ({})\n", Printable(Shown{file.name}), file.reason);
  }
  return text;
}

}  // namespace

std::string PipelinePlanText(const PipelineSource& source, const PipelinePlan& plan, const ConvertOptions& options,
                             unsigned threads, bool all, const std::string& output, const BoundOf& bound_of) {
  std::string text;
  for (const PlannedComponent& planned : plan.components) {
    text += fmt::format("component {} ({})\n", planned.component->name, Printable(planned.component->class_name));
    text += PlanText(*planned.component->checkpoint, planned.plan, planned.options, threads, all, {}, bound_of) + "\n";
  }
  std::vector<CarriedSum> sums;
  for (const CompanionFile& file : source.files) AddCarried(file.name, file.size, &sums);
  // Those of a component that is quantized stand in its plan.
  std::vector<LeftOutFile> others;
  for (const LeftOutFile& file : source.left_out) {
    const bool told = std::any_of(plan.components.begin(), plan.components.end(), [&file](const PlannedComponent& at) {
      return file.name.starts_with(at.component->name + "/");
    });
    if (!told) others.push_back(file);
  }
  if (!plan.choice_text.empty()) text += plan.choice_table + "\n" + plan.choice_text + "\n";
  text += CarriedText(sums) + LeftOutText(others);
  text +=
      fmt::format("pipeline {}: {} of {} quantized; output {}{} bytes ({}) and q4-pipeline.json\n",
                  Printable(source.class_name), plan.components.size(), Counted(source.components.size(), "component"),
                  options.compression.zstd ? "at most " : "", plan.output_bytes(), HumanBytes(plan.output_bytes()));
  return text + fmt::format("writes {}\n", Printable(output, 4096));
}

std::string PipelinePlanJson(const PipelineSource& source, const PipelinePlan& plan, const ConvertOptions& options,
                             unsigned threads, const std::string& output, const BoundOf& bound_of) {
  Json json = NewDocument("q4convert-pipeline-plan");
  json["output"] = output;
  json["class"] = TextOrNull(source.class_name);
  json["output_bytes"] = plan.output_bytes();
  json["output_bytes_exact"] = !options.compression.zstd;
  Json components = Json::array();
  for (const PlannedComponent& planned : plan.components) {
    components.push_back({{"name", planned.component->name},
                          {"class", planned.component->class_name},
                          {"plan", DocumentOf(PlanJson(*planned.component->checkpoint, planned.plan, planned.options,
                                                       threads, {}, bound_of))}});
  }
  json["components"] = std::move(components);
  Json carried = Json::array();
  for (const CompanionFile& file : source.files) carried.push_back({{"path", file.name}, {"bytes", file.size}});
  json["carried"] = std::move(carried);
  json["left_out"] = LeftOutOf(source.left_out);
  Json warnings = Json::array(), notes = Json::array();
  for (const Note& note : plan.notes) (note.warning ? warnings : notes).push_back(note.text);
  json["warnings"] = std::move(warnings);
  json["notes"] = std::move(notes);
  if (plan.choice != nullptr) json["choice"] = *plan.choice;
  return JsonReportText(json);
}

std::string PipelineReportText(const PipelineReport& report, double seconds) {
  std::string text;
  for (const PipelineReport::Component& component : report.components) {
    text += fmt::format("component {} ({}){}\n", component.name, Printable(component.class_name),
                        component.resumed ? ", converted by an earlier run" : "");
    text += ConvertReportText(component.report, component.report.convert_seconds);
  }
  std::vector<CarriedSum> sums;
  for (const SealedFile& file : report.carried) AddCarried(file.path, file.bytes, &sums);
  text += report.choice_text + CarriedText(sums) + LeftOutText(report.left_out);
  text += fmt::format(
      "size     {} -> {} ({:.1f} %) in {:.2f} s\n", HumanBytes(report.source_bytes), HumanBytes(report.output_bytes),
      100.0 * static_cast<double>(report.output_bytes) / std::max(static_cast<double>(report.source_bytes), 1.0),
      seconds);
  text += fmt::format("pipeline {}\nwrote    {}\nseal     sha256:{}\n", Printable(report.class_name),
                      Printable(report.output, 4096), HexOf(report.root));
  return text;
}

std::string PipelineReportJson(const PipelineReport& report, double seconds) {
  Json json = NewDocument("q4convert-pipeline-report");
  const bool passed = report.passed();
  json["passed"] = passed;
  json["output"] = passed ? Json(report.output) : Json(nullptr);
  json["class"] = TextOrNull(report.class_name);
  json["root_sha256"] = passed ? Json(HexOf(report.root)) : Json(nullptr);
  json["source_bytes"] = report.source_bytes;
  json["output_bytes"] = report.output_bytes;
  json["seconds"] = seconds;
  Json components = Json::array();
  for (const PipelineReport::Component& component : report.components) {
    Json document = DocumentOf(ConvertReportJson(component.report, component.report.convert_seconds));
    if (!passed) {
      // Also those whose own gates hold: the folder was not published.
      document["outputs"] = Json::array();
      document["index"] = nullptr;
    }
    components.push_back({{"name", component.name},
                          {"class", component.class_name},
                          {"resumed", component.resumed},
                          {"report", std::move(document)}});
  }
  json["finding_count"] = report.gate_finding_count;
  json["findings"] = Json::array();
  for (const VerifyFinding& finding : report.gate_findings) json["findings"].push_back(FindingJson(finding));
  json["components"] = std::move(components);
  Json carried = Json::array();
  for (const SealedFile& file : report.carried) {
    carried.push_back({{"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  json["carried"] = std::move(carried);
  json["left_out"] = LeftOutOf(report.left_out);
  json["warnings"] = report.warnings;
  json["notes"] = report.notes;
  if (report.choice != nullptr) json["choice"] = *report.choice;
  return JsonReportText(json);
}

}  // namespace q4
