// Whether each tensor was treated as the container says it was made: type, block size, nesting, encoder and whether it
// is quantized at all, held against the recorded options, their recipe and patterns, and the policy. Codes that are
// right for one treatment are right for no other, so a forger who codes a tensor again, or takes its encoder away to
// escape the proof, contradicts the record.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "formats/base/file.h"
#include "formats/calibration/calibration.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/verify/context.h"

namespace q4 {

// Decides every tensor again and adds kTreatmentDiffers for each that is treated otherwise, kStatsNotRecorded for each
// that lost its statistics, and kOptionContradicted for what the options say of the container as a whole. `source` may
// be nullptr: then the container's own tensors are decided. `calibration`: the recorded one, or nullptr; without it a
// tensor of mse where a calibrated encoder was asked for may be one that the calibration does not name. Three
// differences are excused by the data, and two of them looked for there: a tensor that holds NaN or infinity is kept
// with --on-nonfinite keep, one whose nested scales would overflow keeps fp32 scales (numerics Q5.12), and nested mse
// gives way to absmax where that is as good (Q9.9).
//
// Which tensors are quantized is judged where that can be known: the container was written by this version of
// q4convert, whose policy is the one here, and all tensors of the model are there. Type, block size, nesting and
// encoder of what is quantized are judged always. Sets context.report->strength.policy.
//
// Where the document records no options, nothing is judged; with a source that is kOptionsNotRecorded. Fails only if
// the container or the source cannot be read, or with kVerifyInterrupted. REQUIRES: CheckChunks() has been here, for
// the spread of scales.
absl::Status CheckTreatments(FileSystem& fs, const Q4Model& model, const Checkpoint* source,
                             const Calibration* calibration, const ProvenanceView& provenance,
                             const VerifyContext& context);

}  // namespace q4
