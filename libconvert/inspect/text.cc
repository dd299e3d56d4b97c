// Each function makes one block of a report out of fields ("name value" lines) and tables (text_table.h). All names and
// texts from files go through Printable(), which escapes control characters: a file must not be able to write to the
// terminal. Numbers are rounded to what a person reads; --json has them exactly.
#include "libconvert/inspect/text.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/q4/encoders.h"
#include "formats/q4/parts.h"
#include "kernels/kernels.h"
#include "libconvert/base/text_table.h"
#include "libconvert/inspect/tree.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

std::string SourceText(const SourceFileRecord& source) {
  return fmt::format("{}, {}, {}:{}", Printable(source.name), HumanBytes(source.size), source.digest_kind,
                     Printable(source.digest));
}

// Who made the container, with which options, of which files. A statement of the writer, shown as such.
std::string ProvenanceText(const InspectReport& report, const TextStyle& style) {
  const absl::StatusOr<ProvenanceView> view = ParseProvenance(report.provenance, report.path);
  // The rest of the summary is shown in any case.
  if (!view.ok()) return Field("made by", "unknown: " + MessageOf(view.status()), style);
  std::string text = Field("made by", Printable(fmt::format("{}, arithmetic {}", view->tool(), view->numerics)), style);
  text += Field("options", Printable(ConversionOptions(*view), 400), style);
  // Large models have dozens of source files, and the summary is to fit one screen.
  constexpr std::size_t kShownSources = 3;
  for (std::size_t i = 0; i < view->sources.size() && i < kShownSources; ++i) {
    // Only the first line bears the name.
    text += Field(i == 0 ? "source" : "", SourceText(view->sources[i]), style);
  }
  if (view->sources.size() > kShownSources) {
    text += Field("", "and " + Counted(view->sources.size() - kShownSources, "more file"));
  }
  for (std::size_t i = 0; i < view->adapter.size() && i < kShownSources; ++i) {
    text += Field(i == 0 ? "adapter" : "", SourceText(view->adapter[i]), style);
  }
  for (const SourceFileRecord& file : view->calibration) text += Field("calibration", SourceText(file), style);
  return text;
}

// So many that the summary fits one screen; --json has all.
constexpr std::size_t kShownTreatments = 12;

// How the tensors are stored, a line for each treatment. What does not fit is added up in the last line.
std::string TreatmentTable(const InspectReport& report, const TextStyle& style) {
  Table table({"<treatment", "tensors", "elements", "stored", "bits/element"});
  // Adds up the treatments that are not listed.
  InspectTreatment rest;
  for (std::size_t i = 0; i < report.treatments.size(); ++i) {
    const InspectTreatment& row = report.treatments[i];
    // Quantized treatments come first, so that these are shown.
    if (i >= kShownTreatments) {
      rest.tensors += row.tensors;
      rest.elems += row.elems;
      rest.stored_bytes += row.stored_bytes;
      continue;
    }
    table.Add({Printable(row.treatment), Grouped(row.tensors), Grouped(row.elems), HumanBytes(row.stored_bytes),
               BitsPer(row.stored_bytes, row.elems)});
  }
  if (rest.tensors != 0) {
    table.Add({fmt::format("{} more", report.treatments.size() - kShownTreatments), Grouped(rest.tensors),
               Grouped(rest.elems), HumanBytes(rest.stored_bytes), BitsPer(rest.stored_bytes, rest.elems)});
  }
  return table.Text(style);
}

// What q4inspect prints without options.
std::string SummaryText(const InspectReport& report, const TextStyle& style) {
  std::string text = Paint(style, Tone::kHeading, Printable(report.path, 4096)) + "\n";
  if (!report.architecture.empty() || !report.model_type.empty()) {
    text += Field("model", Printable(report.architecture) +
                               (report.model_type.empty() ? "" : " (" + Printable(report.model_type) + ")") +
                               (report.model_name.empty() ? "" : ", '" + Printable(report.model_name) + "'"));
  }
  // A shard that was given alone is shown as one of several.
  text +=
      Field("format",
            fmt::format("{}, {}, {} ({} bytes)", report.format, ShardsText(report.shards.size(), report.shard_count),
                        HumanBytes(report.file_bytes), Grouped(report.file_bytes)),
            style);
  text +=
      Field("elements",
            fmt::format("{} in {}, {} quantized ({})", Grouped(report.elems), Counted(report.tensor_count, "tensor"),
                        Grouped(report.quantized_elems), Percent(report.quantized_elems, report.elems)),
            style);
  text += Field(
      "bits/element",
      fmt::format("{} of quantized weights, {} of the whole model",
                  BitsPer(report.quantized_bytes, report.quantized_elems), BitsPer(report.file_bytes, report.elems)),
      style);
  // Of a checkpoint nobody is known, and absmax is what everybody expects.
  std::string encoders;
  bool others = false;
  for (const InspectEncoder& row : report.encoders) {
    others = others || !FindQ4Encoder(row.encoder)->implied;
    encoders += fmt::format("{}{} {}", encoders.empty() ? "" : ", ", Q4EncoderName(row.encoder),
                            Counted(row.tensors, "tensor"));
  }
  if (others) text += Field("encoders", encoders + " (--scales)", style);
  // A checkpoint has neither this nor recorded statistics nor a root.
  if (!report.provenance.empty()) text += ProvenanceText(report, style);
  if (report.model.tensors != 0) text += Field("error", ErrorSummary(report.model), style);
  // Opening a container checks header and index. The report says so, and that this is not all.
  if (report.root) {
    text += Field("seal", "sha256:" + HexOf(*report.root), style);
    text += Field("", "header and index are intact; q4verify checks the rest");
    const bool whole = report.shards.size() == report.shard_count;
    text += Field("content",
                  report.content ? "sha256:" + HexOf(*report.content)
                  : whole        ? "compressed; --content reads it and tells its identity"
                                 : "of one shard; that of the model is told of all",
                  style);
  }
  // Files are only counted here; --files lists them.
  std::uint64_t file_bytes = 0;
  for (const InspectFile& file : report.files) file_bytes += file.bytes;
  text += Field(report.root ? "embedded" : "beside it",
                fmt::format("{}, {} (--files)", Counted(report.files.size(), "file"), HumanBytes(file_bytes)));
  const auto missed = std::count_if(report.left_out.begin(), report.left_out.end(),
                                    [](const LeftOutFile& file) { return file.warning; });
  if (!report.left_out.empty()) {
    text += Field("left out", fmt::format("{}, {} of which a loader may miss (--files)",
                                          Counted(report.left_out.size(), "file"), missed));
  }
  return text + "\n" + TreatmentTable(report, style);
}

// Names come last, since they are the longest column.
// `errors`: with the error of each.
std::string TensorTable(const std::vector<const InspectTensor*>& tensors, bool errors, const TextStyle& style) {
  std::vector<std::string> headings = {"<treatment", "?2elements", "?5stored", "?1bits/element"};
  if (errors) headings.insert(headings.end(), {"SQNR dB", "?4NMSE"});
  headings.insert(headings.end(), {"?3<shape", "<name"});
  Table table(std::move(headings));
  for (const InspectTensor* tensor : tensors) {
    std::vector<std::string> row = {Printable(tensor->treatment), Grouped(tensor->elems), Grouped(tensor->stored_bytes),
                                    BitsPer(tensor->stored_bytes, tensor->elems)};
    if (errors && tensor->has_stats) {
      const DerivedStats derived = Derive(tensor->stats);
      row.insert(row.end(), {fmt::format("{:.3f}", derived.sqnr_db), fmt::format("{:.4g}", derived.nmse)});
    } else if (errors) {
      row.insert(row.end(), {"-", "-"});
    }
    row.insert(row.end(), {ShapeString(tensor->shape), Printable(tensor->name, kWholeName)});
    table.Add(std::move(row));
  }
  return table.Text(style);
}

// Error statistics of the listed tensors, and of the model in the last line; where not all are listed, of those before.
std::string StatsTable(const std::vector<const InspectTensor*>& tensors, const InspectReport& report,
                       const TextStyle& style) {
  Table table({"SQNR dB", "NMSE", "?3RMSE", "?1bias", "?2cosine", "?6max |e|", "?5half steps", "?4clipped", "<name"});
  // One line, of a tensor or of the model.
  const auto add = [&table](const Q4Stats& stats, const std::string& name) {
    const DerivedStats derived = Derive(stats);
    table.Add({fmt::format("{:.3f}", derived.sqnr_db), fmt::format("{:.4g}", derived.nmse),
               fmt::format("{:.4g}", derived.rmse), fmt::format("{:.3g}", derived.bias),
               fmt::format("{:.7f}", derived.cosine), fmt::format("{:.4g}", stats.max_abs_err),
               fmt::format("{:.4f}", stats.max_gap_ratio), Grouped(stats.clipped), name});
  };
  // Quantized tensors without statistics are counted instead of listed; kept ones have none by nature.
  std::size_t without = 0;
  std::map<std::string_view, const Q4Stats*> listed;  // by name, as their sums are defined (Q8.11)
  for (const InspectTensor* tensor : tensors) {
    if (tensor->has_stats) {
      add(tensor->stats, Printable(tensor->name, kWholeName));
      listed.emplace(tensor->name, &tensor->stats);
    } else if (tensor->quantized()) {
      ++without;
    }
  }
  const ModelStats& model = report.model;
  if (!listed.empty() && listed.size() < model.tensors) {
    ModelStats sum;
    for (const auto& [name, stats] : listed) AddTensor(name, *stats, &sum);
    add(sum.total, fmt::format("(these {})", Counted(sum.tensors, "tensor")));
  }
  if (model.tensors != 0) add(model.total, fmt::format("(model: {})", Counted(model.tensors, "tensor")));
  std::string text = table.Text(style);
  if (without != 0)
    text += fmt::format("  {} no recorded statistics\n",
                        Counted(without, "quantized tensor has", "quantized tensors have"));
  return text;
}

// One line per code, in the order of the code values, with a bar. Bars are relative to the code that is used most.
std::string HistogramText(const Scheme& scheme, const std::array<std::uint64_t, 16>& hist, const TextStyle& style) {
  const auto values = scheme.code_values();
  std::array<std::size_t, 16> order;
  for (std::size_t code = 0; code < order.size(); ++code) order[code] = code;
  // FP4 has 0 twice; code numbers then decide.
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::uint64_t total = 0, most = 0;
  for (std::uint64_t count : hist) {
    total += count;
    most = std::max(most, count);
  }
  constexpr std::size_t kBarColumns = 40;
  Table table({"code", "value", "count", "share", "<"});
  for (std::size_t code : order) {
    const double fraction = most == 0 ? 0 : static_cast<double>(hist[code]) / static_cast<double>(most);
    table.Add({std::to_string(code), fmt::format("{:+.6f}", values[code]), Grouped(hist[code]),
               Percent(hist[code], total), BarText(style, fraction, kBarColumns)});
  }
  return table.Text(style);
}

// Code usage of the listed tensors together, for each scheme by itself, since a code means another value in each.
std::string HistogramsText(const std::vector<const InspectTensor*>& tensors, const TextStyle& style) {
  std::string text;
  for (const Scheme& scheme : Schemes()) {
    // Only the counts of codes are added up in it.
    Q4Stats total;
    std::uint64_t counted = 0;
    for (const InspectTensor* tensor : tensors) {
      if (!tensor->has_stats || tensor->scheme != scheme.id) continue;
      ++counted;
      for (std::size_t code = 0; code < total.hist.size(); ++code) total.hist[code] += tensor->stats.hist[code];
    }
    if (counted == 0) continue;
    text += fmt::format("codes of {}, {:.4f} bits of entropy per code\n",
                        Counted(counted, std::string(scheme.name()) + " tensor"), CodeEntropyBits(total));
    text += HistogramText(scheme, total.hist, style);
  }
  // Said in words, since no answer would look like a failure.
  return text.empty() ? "no tensor has recorded code counts\n" : text;
}

// "0.00123 to 0.0456": of the magnitudes that are not 0.
std::string SizesText(const ScaleSpread& spread) {
  return fmt::format("{:.4g} to {:.4g}", spread.least_size, spread.greatest_size);
}

// Scales of the listed tensors, then of all of them by encoder.
std::string ScalesTable(const std::vector<const InspectTensor*>& tensors, const std::vector<InspectScales>& scales,
                        const TextStyle& style) {
  Table table({"<encoder", "?3scales", "negative", "?2|scale|", "?1zero", "<name"});
  std::uint64_t not_finite = 0;
  const auto add = [&](Q4Encoder encoder, const ScaleSpread& spread, const std::string& name) {
    table.Add({std::string(Q4EncoderName(encoder)), Grouped(spread.count), Percent(spread.negative, spread.count),
               SizesText(spread), Grouped(spread.zeros), name});
  };
  std::map<Q4Encoder, std::pair<std::uint64_t, ScaleSpread>> totals;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i]->quantized()) continue;
    not_finite += scales[i].not_finite;
    add(tensors[i]->encoder, scales[i].spread, Printable(tensors[i]->name, kWholeName));
    auto& [count, total] = totals[tensors[i]->encoder];
    ++count;
    AddSpread(scales[i].spread, &total);
  }
  if (totals.empty()) return "no tensor has scales\n";
  for (const auto& [encoder, total] : totals) {
    add(encoder, total.second, fmt::format("({})", Counted(total.first, "tensor")));
  }
  std::string text = table.Text(style);
  if (not_finite != 0)
    text += fmt::format("  {} NaN or infinite and left out\n", Counted(not_finite, "scale is", "scales are"));
  return text;
}

// Embedded files, or those beside a checkpoint.
std::string FilesTable(const InspectReport& report, const TextStyle& style) {
  Table table({"bytes", "<file"});
  for (const InspectFile& file : report.files) table.Add({Grouped(file.bytes), Printable(file.name, kWholeName)});
  std::string text = table.Text(style);
  if (report.left_out.empty()) return text;
  // Names are those of a folder or of a provenance, which anybody may have written.
  Table left_out({"<left out", "<why"});
  for (const LeftOutFile& file : report.left_out) {
    left_out.Add({Printable(Shown{file.name}, kWholeName),
                  Printable(Shown{file.reason}) + (file.warning ? "; a loader may miss it" : "")});
  }
  return text + "\n" + left_out.Text(style);
}

}  // namespace

std::string InspectReportText(const InspectReport& report, const InspectDetail& detail, const TextStyle& style) {
  std::string text;
  if (detail.tree) text += ModuleTreeText(detail.tensors, style);
  if (detail.list_tensors) text += TensorTable(detail.tensors, detail.errors, style);
  if (detail.stats) text += StatsTable(detail.tensors, report, style);
  if (detail.hist) text += HistogramsText(detail.tensors, style);
  if (detail.scales) text += ScalesTable(detail.tensors, *detail.scales, style);
  if (detail.files) text += FilesTable(report, style);
  // Without any detail the summary is what is asked for.
  return text.empty() ? SummaryText(report, style) : text;
}

std::string InspectTensorText(const InspectTensor& tensor, const InspectDetail& detail, const TextStyle& style) {
  std::string text = Paint(style, Tone::kHeading, Printable(tensor.name, kWholeName)) + "\n";
  text += Field("shape", fmt::format("{} {}, {}", ShapeString(tensor.shape), DTypeName(tensor.dtype),
                                     Counted(tensor.elems, "element")));
  text += Field("treatment", Printable(tensor.treatment));
  text += Field("stored", fmt::format("{} bytes from offset {}, {} bits/element", Grouped(tensor.stored_bytes),
                                      Grouped(tensor.offset), BitsPer(tensor.stored_bytes, tensor.elems)));
  // Only containers report it; a checkpoint's tensors have no parts here.
  for (const std::string& name : tensor.stored_names) text += Field("made of", Printable(name));
  if (tensor.nested && !tensor.parts.empty()) text += Field("offset", fmt::format("{:.6g}", tensor.nested_offset));
  if (detail.scales && tensor.quantized()) {
    const InspectScales& scales = detail.scales->front();
    text += Field("scales", fmt::format("{}, {} negative, magnitudes {}, {} zero", Grouped(scales.spread.count),
                                        Percent(scales.spread.negative, scales.spread.count), SizesText(scales.spread),
                                        Grouped(scales.spread.zeros)));
    if (scales.not_finite != 0) text += Field("", fmt::format("{} are NaN or infinite", Grouped(scales.not_finite)));
  }
  // Of a container: the parts with their chunks.
  if (!tensor.parts.empty()) {
    Table table({"<part", "bytes", "stored", "chunks", "compressed"});
    for (const InspectPart& part : tensor.parts) {
      table.Add({Q4PartName(part.part), Grouped(part.raw_bytes), Grouped(part.stored_bytes), Grouped(part.chunks),
                 Grouped(part.compressed_chunks)});
    }
    text += "\n" + table.Text(style);
  }
  // All below is about the recorded error.
  if (!tensor.has_stats) return text;
  const Q4Stats& stats = tensor.stats;
  const DerivedStats derived = Derive(stats);
  text += "\n";
  text += Field("SQNR", fmt::format("{:.4f} dB", derived.sqnr_db));
  text += Field("NMSE", fmt::format("{:.6g}", derived.nmse));
  text += Field("RMSE", fmt::format("{:.6g}", derived.rmse));
  text += Field("mean |e|", fmt::format("{:.6g}", derived.mae));
  text += Field("bias", fmt::format("{:.6g}", derived.bias));
  text += Field("cosine", fmt::format("{:.9f}", derived.cosine));
  text += Field("max |e|", fmt::format("{:.6g} at element {}", stats.max_abs_err, Grouped(stats.max_abs_err_index)));
  // 1 is the most that the nearest code can be off (Q8.7). More tells of nested scales, of another encoder, or of a
  // fault.
  text += Field("half steps", fmt::format("{:.6g} at most", stats.max_gap_ratio));
  text +=
      Field("worst block", fmt::format("{}, sum of squares {:.6g}", Grouped(stats.worst_block), stats.worst_block_e2));
  text += Field("blocks", fmt::format("{} zero, {} tiny", Grouped(stats.zero_blocks), Grouped(stats.tiny_blocks)));
  text += Field("elements", fmt::format("{} clipped, {} overflowing", Grouped(stats.clipped), Grouped(stats.overflow)));
  text += Field("entropy", fmt::format("{:.4f} bits per code", CodeEntropyBits(stats)));
  // Statistics are recorded of quantized tensors alone, so that there is a code book.
  return text + "\n" + HistogramText(SchemeOf(tensor), stats.hist, style);
}

std::string DumpText(const std::vector<DumpValue>& dump) {
  // All values are of one tensor.
  const bool quantized = !dump.empty() && dump.front().code >= 0;
  Table table(quantized ? std::vector<std::string>{"element", "code", "scale", "value"}
                        : std::vector<std::string>{"element", "value"});
  for (const DumpValue& value : dump) {
    if (quantized) {
      table.Add({std::to_string(value.index), std::to_string(value.code), fmt::to_string(value.scale), value.value});
    } else {
      table.Add({std::to_string(value.index), value.value});
    }
  }
  return table.Text();
}

}  // namespace q4
