// What a user should know before a conversion runs: --dry-run shows it, and the conversion and its report repeat it.
// Pure: a plan has the same notes on every machine. Internal to libconvert/convert/.
#pragma once

#include <string>
#include <vector>

#include "formats/base/note.h"
#include "formats/source/checkpoint.h"
#include "libconvert/plan/plan.h"
#include "libconvert/policy/calibrated.h"

namespace q4 {

// The notes of a plan that is complete but for them: those of the checkpoint in their order, a warning for all files
// that are left out although a loader would miss them, then one function's notes after the other. Each says its matter
// once, with a count and an example, however many tensors are concerned. `config_json`: the text of config.json or "".
std::vector<Note> PlanNotes(const Checkpoint& checkpoint, const ModelConfigs& configs, const ConversionPlan& plan);

// Notes on what a calibration decided: which tensors have no input in it, and experts that it says nothing of.
void NoteCalibration(const Checkpoint& checkpoint, const CalibratedDecisions& calibrated, std::vector<Note>* notes);

}  // namespace q4
