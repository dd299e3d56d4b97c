// A comparison in words: the summary first, for whoever asks whether it matters, then what differs.
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/text.h"
#include "formats/q4/encoders.h"
#include "libconvert/base/text_table.h"
#include "libconvert/inspect/diff.h"
#include "libconvert/inspect/text.h"

namespace q4 {
namespace {

constexpr std::size_t kShownDifferences = 5;

std::string NmseText(const std::optional<double>& nmse) { return nmse ? fmt::format("{:.6g}", *nmse) : "not recorded"; }

// One or two lines.
std::string ChangeText(const TensorChange& change) {
  std::string text = fmt::format("~ tensor {}: ", Printable(change.name, kWholeName));
  // If it is stored alike there is nothing to show of either side.
  text += change.content_differs ? "content differs" : fmt::format("{} -> {}", change.before, change.after);
  // Which of the two is nearer to its source, as far as that was recorded.
  if (change.nmse_before || change.nmse_after) {
    text += fmt::format(", NMSE {} -> {}", NmseText(change.nmse_before), NmseText(change.nmse_after));
  }
  // On a line of its own, by how much.
  if (change.delta) {
    const TensorDelta& delta = *change.delta;
    text += fmt::format("\n    {}, by {:.6g} at most (element {}), NMSE between them {:.6g}",
                        Counted(delta.differing_elems, "element differs", "elements differ"), delta.max_abs,
                        Grouped(delta.max_abs_index), delta.nmse);
    if (delta.differing_codes) {
      text += fmt::format("; {} and {}", Counted(*delta.differing_codes, "code"),
                          Counted(*delta.differing_scales, "scale"));
    }
  }
  return text + "\n";
}

// What a tensor is stored as, without its shape: "nf4 b64 dq of BF16".
std::string WithoutShape(const std::string& stored) {
  return stored.substr(std::min(stored.find("] "), stored.size() - 2) + 2);
}

// "nf4 b64 dq of BF16 -> nf4 b128 dq of BF16: 14 tensors", a line for each kind of change.
std::string Kinds(const DiffReport& report) {
  std::map<std::pair<std::string, std::string>, std::uint64_t> kinds;
  for (const TensorChange& change : report.changed) {
    if (change.content_differs) {
      ++kinds[{"content differs", ""}];
    } else {
      ++kinds[{WithoutShape(change.before), WithoutShape(change.after)}];
    }
  }
  std::string text;
  for (const auto& [kind, count] : kinds) {
    std::string what = kind.first;
    if (!kind.second.empty()) what = kind.first == kind.second ? "another shape" : kind.first + " -> " + kind.second;
    text += Field(text.empty() ? "changed" : "", fmt::format("{}: {}", what, Counted(count, "tensor")));
  }
  return text;
}

std::string Summary(const DiffReport& report) {
  // The verdict, the strongest that holds.
  std::string text =
      fmt::format("{} equal, {} renamed, {} changed, {} removed, {} added: {}\n",
                  Counted(report.equal_tensors, "tensor"), Grouped(report.renamed.size()),
                  Grouped(report.changed.size()), Grouped(report.removed.size()), Grouped(report.added.size()),
                  report.same_root        ? "the same artifact by header and index (q4verify checks the payload)"
                  : !report.SameContent() ? "different"
                  : report.containers     ? "the same content, another artifact"
                                          : "the same content");
  const double left = static_cast<double>(report.left_bytes);
  text +=
      Field("size", fmt::format("{} -> {} ({:+.2f} %)", HumanBytes(report.left_bytes), HumanBytes(report.right_bytes),
                                left > 0 ? 100 * (static_cast<double>(report.right_bytes) / left - 1) : 0));
  if (report.left_error.tensors != 0 && report.right_error.tensors != 0) {
    const DerivedStats before = Derive(report.left_error.total), after = Derive(report.right_error.total);
    text += Field("error", fmt::format("SQNR {:.3f} -> {:.3f} dB, NMSE {:.6g} -> {:.6g}", before.sqnr_db, after.sqnr_db,
                                       before.nmse, after.nmse));
  }
  text += Kinds(report);
  for (const auto& [encoders, tensors] : report.encoders) {
    text += fmt::format("~ encoder {} -> {}: {}\n", Q4EncoderName(encoders.first), Q4EncoderName(encoders.second),
                        Counted(tensors, "tensor"));
  }
  // Without this line equal models would seem to have equal files.
  if (!report.files_compared) text += "files were not compared: a checkpoint in 4 bits has its own\n";
  if (report.provenance_differs) text += "~ provenance\n";
  return text;
}

// Those of `report.changed` that are shown, in the order of showing.
std::vector<const TensorChange*> ShownChanges(const DiffReport& report, bool all) {
  std::vector<const TensorChange*> changes;
  for (const TensorChange& change : report.changed) changes.push_back(&change);
  if (all || changes.size() <= kShownDifferences) return changes;
  // What cannot be measured, as of another shape, is further apart than any number.
  const auto apart = [](const TensorChange* change) {
    return change->delta ? std::pair(0, change->delta->nmse) : std::pair(1, 0.0);
  };
  std::stable_sort(changes.begin(), changes.end(), [&](const auto* a, const auto* b) { return apart(a) > apart(b); });
  changes.resize(kShownDifferences);
  return changes;
}

// `lines`, or the first of them and how many are left.
std::string Listed(const std::vector<std::string>& lines, bool all, std::string_view what) {
  std::string text;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!all && i == kShownDifferences) {
      return text + fmt::format("  ... and {} more {} (--all)\n", Grouped(lines.size() - i), what);
    }
    text += lines[i];
  }
  return text;
}

}  // namespace

std::string DiffReportText(const DiffReport& report, bool all) {
  std::string text = Summary(report);
  std::vector<std::string> removed, added, renamed, files;
  for (const std::string& name : report.removed) removed.push_back("- tensor " + Printable(name, kWholeName) + "\n");
  for (const std::string& name : report.added) added.push_back("+ tensor " + Printable(name, kWholeName) + "\n");
  for (const TensorRename& rename : report.renamed) {
    renamed.push_back(fmt::format("~ tensor {}: renamed to {}\n", Printable(rename.before, kWholeName),
                                  Printable(rename.after, kWholeName)));
  }
  for (const std::string& name : report.files_removed) files.push_back("- file " + Printable(name) + "\n");
  for (const std::string& name : report.files_added) files.push_back("+ file " + Printable(name) + "\n");
  for (const std::string& name : report.files_changed) files.push_back("~ file " + Printable(name) + "\n");
  text += Listed(removed, all, "are missing") + Listed(added, all, "are new") + Listed(renamed, all, "are renamed");
  const std::vector<const TensorChange*> changes = ShownChanges(report, all);
  if (changes.size() < report.changed.size()) {
    text += fmt::format("the {} of {} changed tensors that are furthest apart (--all for every one):\n", changes.size(),
                        Grouped(report.changed.size()));
  }
  for (const TensorChange* change : changes) text += ChangeText(*change);
  return text + Listed(files, all, "files differ");
}

}  // namespace q4
