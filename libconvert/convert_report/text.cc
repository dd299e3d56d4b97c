// Plan and report as text. Both are made of the same functions for sizes, treatments and totals; derived figures (SQNR,
// percentages) are computed for output only and stored nowhere (numerics Q8.5). Names of tensors and files come from
// the input and pass through Printable(): a name cannot move the cursor or forge a line.
#include "formats/base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "libconvert/base/text_table.h"
#include "libconvert/convert/feedback_cost.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert_report/convert_report.h"
#include "libconvert/convert_report/totals.h"
#include "libconvert/model/stats.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

// A line for each treatment, in the order of their names. The same for a plan and for a finished conversion, so that a
// reader can hold one beside the other.
std::string TreatmentTable(const std::vector<const Q4Tensor*>& tensors) {
  struct Row {
    std::uint64_t tensors = 0, elems = 0, bytes = 0;
  };
  std::map<std::string, Row> rows;
  for (const Q4Tensor* tensor : tensors) {
    Row& row = rows[TreatmentName(*tensor)];
    ++row.tensors;
    row.elems += tensor->elems;
    row.bytes += PayloadBytes(*tensor);
  }
  Table table({"<treatment", "tensors", "elements", "size", "bits/element"});
  for (const auto& [name, row] : rows) {
    table.Add({name, Grouped(row.tensors), Grouped(row.elems), HumanBytes(row.bytes), BitsPer(row.bytes, row.elems)});
  }
  return table.Text();
}

// " of F8_E4M3 'a.weight', 'a.weight_scale_inv'", " merged of BF16 'a.weight', 'a.lora_A.weight', 'a.lora_B.weight'":
// what a tensor is made of that is not stored as it is read.
std::string StoredText(const SourceTensor& source) {
  const StoredParts parts = StoredPartsOf(source);
  std::string text;
  for (const std::string_view name : parts.names) {
    const std::string_view verb = parts.merged ? " merged of " : " of ";
    text +=
        fmt::format("{} '{}'", text.empty() ? fmt::format("{}{}", verb, DTypeName(parts.dtype)) : ",", Printable(name));
  }
  return text;
}

// A line for each tensor and file in the order of writing.
std::string EveryTensor(const Checkpoint& checkpoint, const ConversionPlan& plan) {
  std::string text;
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    const PlannedShard& shard = plan.shards[s];
    // Counted from 1, as in the names of the files.
    if (plan.shards.size() > 1) {
      text += fmt::format("part {} of {}: {} bytes\n", s + 1, plan.shards.size(), Grouped(shard.file_bytes));
    }
    for (const PlannedTensor& planned : shard.tensors) {
      // The dtype of the source and the shape of both: with --keep-dtype the treatment says what becomes of it.
      const Q4Tensor& tensor = shard.index.tensors[planned.tensor];
      const SourceTensor& source = checkpoint.tensors()[planned.source];
      text += fmt::format("{:<14} {:>14}  {} {} {}{}  ({})\n", TreatmentName(tensor), Grouped(PayloadBytes(tensor)),
                          Printable(tensor.name), DTypeName(source.dtype), ShapeString(tensor.shape),
                          StoredText(source), Printable(planned.decision.reason));
    }
    for (const CompanionFile& file : shard.files) {
      text += fmt::format("{:<14} {:>14}  {}\n", "file", Grouped(file.size), Printable(file.name));
    }
  }
  return text;
}

// Files that are carried, in a line, and those that are not, each with the reason.
std::string FilesText(const Checkpoint& checkpoint, const ConversionPlan& plan) {
  std::uint64_t files = 0, bytes = 0;
  for (const PlannedShard& shard : plan.shards) {
    for (const CompanionFile& file : shard.files) {
      ++files;
      bytes += file.size;
    }
  }
  std::string text;
  if (files != 0) {
    text += fmt::format("carried   {}, {}\n", Counted(files, "file"), HumanBytes(bytes));
  }
  for (const LeftOutFile& file : checkpoint.left_out()) {
    text += fmt::format("left out  {}  ({})\n", Printable(Shown{file.name}), file.reason);
  }
  return text.empty() ? text : text + "\n";
}

// Why tensors stay unquantized, a line for each reason, those of the most bytes first. "" where there are none.
std::string KeptTable(const ConversionPlan& plan) {
  struct Row {
    std::uint64_t tensors = 0, bytes = 0;
    std::string_view first;
  };
  std::map<std::string_view, Row> rows;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& planned : shard.tensors) {
      const Q4Tensor& tensor = shard.index.tensors[planned.tensor];
      if (tensor.quantized()) continue;
      Row& row = rows[planned.decision.reason];
      if (row.tensors++ == 0) row.first = tensor.name;
      row.bytes += PayloadBytes(tensor);
    }
  }
  if (rows.empty()) return {};
  std::vector<std::pair<std::string_view, Row>> sorted(rows.begin(), rows.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.bytes > b.second.bytes; });
  Table table({"<kept because", "tensors", "size", "<the first"});
  for (const auto& [reason, row] : sorted) {
    table.Add({Printable(reason), Grouped(row.tensors), HumanBytes(row.bytes), Printable(row.first, kWholeName)});
  }
  return table.Text() + "\n";
}

// What stays in fp32 and would be half as large, where that is a fifth of the output at least.
std::string SmallerText(const std::vector<const Q4Tensor*>& tensors, const ConversionPlan& plan,
                        const ConvertOptions& options) {
  std::uint64_t wide = 0;
  for (const Q4Tensor* tensor : tensors) {
    if (!tensor->quantized() && tensor->dtype == DType::kF32) wide += PayloadBytes(*tensor);
  }
  if (options.keep_dtype || options.compression.zstd || wide < plan.output_bytes / 5) return {};
  return fmt::format("hint    what stays in fp32 is {:.0f} % of the output; --keep-dtype bf16 makes it about {}\n",
                     100.0 * static_cast<double>(wide) / static_cast<double>(plan.output_bytes),
                     HumanBytes(plan.output_bytes - wide / 2));
}

}  // namespace

std::uint64_t PayloadBytes(const Q4Tensor& tensor) {
  std::uint64_t bytes = 0;
  for (const Q4Part part : Q4PartKindsOf(tensor)) bytes += Q4PartRawBytes(tensor, part);
  return bytes;
}

ModelStats TotalsOf(const ConvertReport& report) {
  // Shards hold tensors in payload order, each sorted by name; the totals are defined in name order over all (Q8.11).
  std::map<std::string_view, const Q4Stats*> by_name;
  for (const ConvertedShard& shard : report.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) {
      if (tensor.has_stats) by_name.emplace(tensor.name, tensor.stats.get());
    }
  }
  ModelStats totals;
  for (const auto& [name, stats] : by_name) AddTensor(name, *stats, &totals);
  return totals;
}

std::string PlanText(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads, bool all, const std::string& output, const BoundOf& bound_of) {
  std::string text = all ? EveryTensor(checkpoint, plan) + "\n" : std::string();
  std::vector<const Q4Tensor*> tensors;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& planned : shard.tensors) tensors.push_back(&shard.index.tensors[planned.tensor]);
  }
  text += TreatmentTable(tensors) + "\n" + KeptTable(plan) + FilesText(checkpoint, plan);
  if (!plan.choice_text.empty()) text += plan.choice_table + "\n" + plan.choice_text;
  text += fmt::format("{} of {} quantized{}\n\n", Grouped(plan.quantized_tensors),
                      Counted(plan.quantized_tensors + plan.kept_tensors, "tensor"), all ? "" : " (-v lists all)");
  text += fmt::format("source  {} bytes of tensors ({})\n", Grouped(plan.stored_bytes), HumanBytes(plan.stored_bytes));
  text += fmt::format(
      "output  {}{} bytes ({}), {:.1f} % of the source\n", options.compression.zstd ? "at most " : "",
      Grouped(plan.output_bytes), HumanBytes(plan.output_bytes),
      100.0 * static_cast<double>(plan.output_bytes) / std::max(static_cast<double>(plan.stored_bytes), 1.0));
  if (!output.empty()) {
    text += fmt::format("writes  {}{}\n", Printable(output, 4096),
                        plan.shards.size() > 1 ? fmt::format(" in {} parts", Grouped(plan.shards.size())) : "");
  }
  // Of the cores, because a plan is made without starting a GPU.
  text += fmt::format("memory  at least {} bytes with {} (--max-memory)\n",
                      Grouped(GivenBound(bound_of, MinimumPipelineMemory(checkpoint, plan, options, threads))),
                      Counted(threads, "thread"));
  if (const FeedbackCost cost = FeedbackCostOf(checkpoint, plan); cost.tensors != 0) {
    const double seconds = cost.CoreSeconds(BestCpuKernels());
    text +=
        fmt::format("time    feedback takes about {} of processor time ({} with {}) for {}\n", AboutSeconds(seconds),
                    AboutSeconds(seconds / threads), Counted(threads, "thread"), Counted(cost.tensors, "tensor"));
  }
  return text + SmallerText(tensors, plan, options);
}

std::string ConvertReportText(const ConvertReport& report, double seconds) {
  std::vector<const Q4Tensor*> all;
  for (const ConvertedShard& shard : report.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) all.push_back(&tensor);
  }
  // A model without a quantized tensor has no error to speak of: the line is left out.
  const ModelStats totals = TotalsOf(report);
  const DerivedStats derived = Derive(totals.total);
  std::string text = TreatmentTable(all) + "\n" + report.choice_text;
  if (totals.tensors != 0) {
    text += fmt::format("error   SQNR {:.3f} dB, NMSE {:.6g}, largest error {:.6g} in '{}'\n", derived.sqnr_db,
                        derived.nmse, totals.total.max_abs_err, Printable(totals.max_abs_err_tensor));
  }
  if (!report.gates.empty()) {
    text += fmt::format("gates   {}\n", Counted(report.gates.size(), "limit holds", "limits hold"));
  }
  // Percent of the tensors' bytes. A checkpoint without any must not divide by zero.
  text += fmt::format(
      "size    {} -> {} ({:.1f} %) in {:.2f} s\n", HumanBytes(report.source_bytes), HumanBytes(report.output_bytes),
      100.0 * static_cast<double>(report.output_bytes) / std::max(static_cast<double>(report.source_bytes), 1.0),
      seconds);
  // Paths are long and wanted whole: to be copied from the terminal.
  for (const ConvertedShard& shard : report.shards) {
    text += fmt::format("wrote   {}\nseal    sha256:{}\n", Printable(shard.path, 4096), HexOf(shard.seal.root));
  }
  if (!report.index_path.empty()) text += fmt::format("wrote   {}\n", Printable(report.index_path, 4096));
  return text;
}

}  // namespace q4
