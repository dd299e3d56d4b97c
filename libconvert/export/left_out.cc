// The container's own words: whoever exports need not be the one who read the warnings of the conversion.
#include "libconvert/export/left_out.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/custom_code.h"
#include "libconvert/model/provenance_view.h"

namespace q4 {

absl::StatusOr<std::vector<std::string>> WarnOfLeftOut(const Q4Model& model) {
  std::vector<std::string> warnings;
  CodeNeeds needs;
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) {
      if (!MayNeedCode(file.name) || file.raw_bytes > limits::kConfigJsonBytes) continue;
      Q4_ASSIGN_OR_RETURN(const std::string text, shard->ReadFile(file));
      AddCodeNeeds(file.name, text, &needs);
    }
  }
  for (Note& note : CodeNotes(needs, "the original model")) warnings.push_back(std::move(note.text));

  const absl::StatusOr<ProvenanceView> view = ParseProvenance(ModelProvenance(model), model.path());
  if (!view.ok()) return warnings;
  constexpr std::size_t kShown = 5;
  std::string names;
  std::size_t missed = 0;
  for (const LeftOutFile& file : view->left_out) {
    // Those have their own line above.
    if (!file.warning || (!needs.files.empty() && file.name.ends_with(".py"))) continue;
    if (++missed <= kShown) {
      names +=
          fmt::format("{}{} ({})", missed == 1 ? "" : ", ", Printable(Shown{file.name}), Printable(Shown{file.reason}));
    }
  }
  if (missed > kShown) names += fmt::format(" and {} more", missed - kShown);
  if (missed != 0) warnings.push_back("the container was made without files that a loader may miss: " + names);
  return warnings;
}

}  // namespace q4
