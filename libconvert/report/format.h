// The words that all reports of a verification share, so that one thing has one name in each of them: in the text for a
// terminal, in Markdown, JUnit XML and HTML.
//
// All functions are pure. They return names as the files have them; the caller escapes them for its format.
#pragma once

#include <cstdint>
#include <string>

#include "libconvert/judge/verify_report.h"

namespace q4 {

// "nf4 b64 dq", "BF16": as q4inspect names it.
std::string TreatmentOf(const VerifyTensor& tensor);

// What a gate demands: "max-nmse: nmse at most 0.01". The limit has as many digits as it takes to read the same double
// back. Names are not escaped.
std::string GateRuleText(const GateVerdict& verdict);

// What a gate was held against: "tensor 'x'", "layer 'x'", "role 'x'", "model", "evaluation". Names are not escaped.
std::string GateSubject(const GateVerdict& verdict);

// Which part of the verification a finding came from. Issues 62xx compare with the source, 63xx are gates (and
// one on evaluations), and all others concern the container alone.
enum class FindingKind : std::uint8_t { kIntegrity, kComparison, kGate };
FindingKind KindOf(const VerifyFinding& finding);

}  // namespace q4
