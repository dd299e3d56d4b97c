// What q4verify and q4inspect --diff can find wrong (6xxx). Damage to a container's bytes has its own rules (7xxx).
//
// Exit code 6 (kCheckFailed) means that a check was made and failed; the run still looks at everything else.
// docs/errors.md is generated from these lines, and tests hold both together.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Many tensors: what is kept of each is more than --max-memory.
inline constexpr Issue kVerifyMemory{1650, ExitCode::kUsage, "less memory than this verification needs"};
// Of the container alone, beyond formats/q4/q4_issues.h. Told without the source.
inline constexpr Issue kStatsInconsistent{6011, ExitCode::kCheckFailed, "recorded statistics contradict each other"};
// The bound of numerics Q8.8.
inline constexpr Issue kErrorBound{6012, ExitCode::kCheckFailed, "an element lies farther off than its code allows"};

// Of the container and the checkpoint it was made from.
inline constexpr Issue kTensorMissing{6201, ExitCode::kCheckFailed, "tensor of the source is missing"};
inline constexpr Issue kTensorExtra{6202, ExitCode::kCheckFailed, "tensor is not in the source"};
// Said of one missing and one extra tensor that no other missing or extra one equals in shape and dtype.
inline constexpr Issue kTensorRenamed{6203, ExitCode::kCheckFailed, "tensor of the source has another name here"};
inline constexpr Issue kShapeDiffers{6204, ExitCode::kCheckFailed, "shape differs from the source"};
inline constexpr Issue kDTypeDiffers{6205, ExitCode::kCheckFailed, "dtype differs from the source"};
inline constexpr Issue kDataDiffers{6206, ExitCode::kCheckFailed, "unquantized data differ from the source"};
// Known by encoding the source anew: docs/numerics.md Q4 leaves the encoder no choice.
inline constexpr Issue kCodesDiffer{6207, ExitCode::kCheckFailed, "codes are not those the encoder must choose"};
// Of fp32 scales; the parts of nested ones have the three rules that follow.
inline constexpr Issue kScalesDiffer{6208, ExitCode::kCheckFailed, "scales are not those of the source"};
inline constexpr Issue kScaleCodesDiffer{6209, ExitCode::kCheckFailed, "scale codes are not those of the source"};
inline constexpr Issue kScales2Differ{6210, ExitCode::kCheckFailed, "second-level scales are not those of the source"};
inline constexpr Issue kOffsetDiffers{6211, ExitCode::kCheckFailed, "scale offset is not that of the source"};
inline constexpr Issue kStatsDiffer{6212, ExitCode::kCheckFailed, "recorded statistics are not those of the source"};
inline constexpr Issue kSourceNotFinite{6213, ExitCode::kCheckFailed,
                                        "quantized tensor holds NaN or infinity in the source"};
inline constexpr Issue kFileMissing{6214, ExitCode::kCheckFailed, "companion file of the source is not embedded"};
inline constexpr Issue kFileExtra{6215, ExitCode::kCheckFailed, "embedded file is not beside the source"};
inline constexpr Issue kFileDiffers{6216, ExitCode::kCheckFailed, "embedded file differs from the source"};
inline constexpr Issue kSourceFileDiffers{6217, ExitCode::kCheckFailed,
                                          "source file is not the one the container was made from"};
inline constexpr Issue kTiedDiffer{6218, ExitCode::kCheckFailed, "tensors that are equal in the source differ here"};
// Of what a loader would miss: weights that no index names, files of unknown kinds. What is recorded as left out was
// told to whoever converted.
inline constexpr Issue kNotRecorded{6520, ExitCode::kCheckFailed,
                                    "lies in the source's folder, and the container neither carries nor names it"};
// Exit code 1: the pattern of --tensor is the caller's mistake, and nothing was checked.
inline constexpr Issue kNothingSelected{6219, ExitCode::kUsage, "no tensor has a name that matches"};

// What was done, against the record of it.
inline constexpr Issue kTreatmentDiffers{6630, ExitCode::kCheckFailed,
                                         "tensor is not treated as the recorded options ask"};
inline constexpr Issue kOptionsNotRecorded{6631, ExitCode::kCheckFailed,
                                           "the container does not record the options it was made with, so that no "
                                           "tensor's treatment can be held against them"};
inline constexpr Issue kOptionContradicted{6632, ExitCode::kCheckFailed,
                                           "a recorded option cannot be what the container was made with"};
inline constexpr Issue kStatsNotRecorded{6637, ExitCode::kCheckFailed,
                                         "the recorded encoder records statistics, and this tensor has none"};
// Of the container alone: no source makes the named encoder choose so.
inline constexpr Issue kCodesImpossible{6638, ExitCode::kCheckFailed,
                                        "codes or scales that the named encoder never chooses"};
// Of encoders whose work cannot be computed again (libconvert/encode/encoder.h).
inline constexpr Issue kCodesNotNearest{6633, ExitCode::kCheckFailed, "codes are not the nearest under their scales"};
inline constexpr Issue kAboveProofBound{6634, ExitCode::kCheckFailed,
                                        "the error is above what the encoder that is named can make"};
inline constexpr Issue kUnproven{6635, ExitCode::kCheckFailed,
                                 "bounded, not proven: the named encoder leaves no unique answer (--require-proof)"};
// What was named as the original is none: every number would differ, and none would say why.
inline constexpr Issue kAgainstContainer{5450, ExitCode::kUnsupported,
                                         "--against takes the original, and this is a container; q4inspect FILE --diff "
                                         "OTHER compares two containers"};
inline constexpr Issue kAgainstQuantized{5451, ExitCode::kUnsupported,
                                         "the weights are in 4 bits already, and the container was not made of them; "
                                         "give the checkpoint that it was made of"};
// A calibration that was given, beside the record of the one that was used.
inline constexpr Issue kCalibrationNotRecorded{
    1622, ExitCode::kUsage, "the container was made without a calibration; leave --calibration away"};
inline constexpr Issue kCalibrationDiffers{6620, ExitCode::kCheckFailed,
                                           "the calibration file is not the one that the container was made with"};
inline constexpr Issue kStatsRefuted{6636, ExitCode::kCheckFailed,
                                     "recorded statistics are not those of the codes and scales"};

// Thresholds. Of the flags --max-nmse, --min-sqnr and --max-abs-error; gate files report kGateBreached.
inline constexpr Issue kNmseTooHigh{6301, ExitCode::kCheckFailed, "NMSE exceeds the limit"};
inline constexpr Issue kSqnrTooLow{6302, ExitCode::kCheckFailed, "SQNR is below the limit"};
inline constexpr Issue kAbsErrorTooHigh{6303, ExitCode::kCheckFailed, "largest error exceeds the limit"};
inline constexpr Issue kNoStatsToJudge{6304, ExitCode::kCheckFailed,
                                       "no statistics recorded to hold against the limit; use --against"};
inline constexpr Issue kGateBreached{6305, ExitCode::kCheckFailed, "a gate is broken"};
// See docs/gates.md: a rule may be marked "optional".
inline constexpr Issue kGateMatchesNothing{6306, ExitCode::kCheckFailed,
                                           "a gate's rule matches nothing, so it tests nothing"};
inline constexpr Issue kWorseThanBaseline{6307, ExitCode::kCheckFailed, "the error is worse than in the baseline"};
inline constexpr Issue kBaselineTensorGone{6308, ExitCode::kCheckFailed, "tensor of the baseline is missing"};

// Of a tensor that was not compared with the source, or whose source has no elements.
inline constexpr Issue kNotBesideAbsmax{6670, ExitCode::kCheckFailed,
                                        "a gate limits the error beside absmax', which was not measured"};

// Of what is given: the provenance says that an adapter was merged.
inline constexpr Issue kAdapterNotGiven{1830, ExitCode::kUsage,
                                        "the container was made with an adapter, and the source is without"};

// Exit code 7, and no report: it would be one of a part.
inline constexpr Issue kVerifyInterrupted{6901, ExitCode::kInterrupted, "interrupted before everything was checked"};

}  // namespace q4
