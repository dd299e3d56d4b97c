// The words that all reports of a verification share, so that one thing has one name in each of them.
#pragma once

#include <cstdint>
#include <string>

#include "libconvert/judge/verify_report.h"

namespace q4 {

// "nf4 b64 dq", "BF16": as q4inspect names it.
std::string TreatmentOf(const VerifyTensor& tensor);

// "max-nmse: nmse at most 0.01", what a gate demands; names are not escaped.
std::string GateRuleText(const GateVerdict& verdict);

// "tensor 'x'", "layer 'x'", "role 'x'", "model", what a gate was held against.
std::string GateSubject(const GateVerdict& verdict);

// Which part of the verification a finding came from. Issues 62xx compare with the source, 63xx are gates, and
// all others concern the container alone.
enum class FindingKind : std::uint8_t { kIntegrity, kComparison, kGate };
FindingKind KindOf(const VerifyFinding& finding);

}  // namespace q4
