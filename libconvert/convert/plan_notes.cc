// A function for each matter that is worth a note, called by PlanNotes() in the order in which people read: what was
// odd about the input, what is not carried, what was decided.
#include "libconvert/convert/plan_notes.h"

#include <fmt/format.h>

#include <cstddef>

#include "formats/base/text.h"

namespace q4 {
namespace {

// One line for all of them; the list with the reasons is in the plan and in the report.
void NoteLeftOut(const Checkpoint& checkpoint, std::vector<Note>* notes) {
  constexpr std::size_t kShown = 5;
  std::string names;
  std::size_t missed = 0;
  for (const LeftOutFile& file : checkpoint.left_out()) {
    if (!file.warning) continue;
    if (++missed <= kShown)
      names += fmt::format("{}{} ({})", missed == 1 ? "" : ", ", Printable(file.name), file.reason);
  }
  if (missed == 0) return;
  if (missed > kShown) names += fmt::format(" and {} more", missed - kShown);
  notes->push_back({true, "left out, and a loader may miss: " + names});
}

}  // namespace

std::vector<Note> PlanNotes(const Checkpoint& checkpoint, const std::string& /*config_json*/,
                            const ConversionPlan& /*plan*/) {
  std::vector<Note> notes = checkpoint.notes();
  NoteLeftOut(checkpoint, &notes);
  return notes;
}

}  // namespace q4
