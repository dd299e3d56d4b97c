#include "libconvert/report_text.h"

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "formats/base/text.h"
#include "libconvert/text_table.h"

namespace q4 {

std::string VerifyReportText(const VerifyReport& report) {
  std::uint64_t quantized = 0, compared = 0, failed = 0;
  for (const VerifyTensor& tensor : report.tensors) {
    quantized += tensor.scheme != Q4Scheme::kRaw;
    compared += tensor.compared;
    failed += !tensor.passed;
  }
  std::string text = fmt::format("{}: {}\n", Printable(report.path, 4096), report.passed() ? "passed" : "FAILED");
  text += Field("integrity", fmt::format("{} in {} chunks, {}", HumanBytes(report.file_bytes), Grouped(report.chunks),
                                         ShardsText(report.shards, report.shard_count)));
  text += Field("seal", "sha256:" + HexOf(report.root));
  text += Field("tensors", fmt::format("{}, {} of them quantized", Grouped(report.tensors.size()), Grouped(quantized)));
  if (!report.source.empty()) {
    text += Field("against", fmt::format("{}: {} tensors, {}", Printable(report.source, 4096), Grouped(compared),
                                         HumanBytes(report.source_bytes)));
  }
  if (report.model.tensors != 0) {
    text += Field("error", ErrorSummary(report.model) + (report.stats_recomputed ? " (recomputed)" : " (as recorded)"));
  }
  if (!report.passed()) {
    text += Field("problems", fmt::format("{}, in {} tensors", Grouped(report.finding_count), Grouped(failed)));
  }
  return text;
}

}  // namespace q4
