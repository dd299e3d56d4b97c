// A verification as VerifyModel() could give it, made up: for the tests of the reports.
#pragma once

#include <cstddef>

#include "libconvert/judge/verify_report.h"

namespace q4::test {

// `layers` layers of a language model with 7 quantized and 2 unquantized tensors each, and everything a report can
// hold: layers, roles, scales, worst blocks, provenance. All is well with it. The same call gives the same report.
VerifyReport SampleReport(std::size_t layers = 4);

// Adds a gate on the NMSE of every quantized tensor, and on the model's, that `broken` tensors break; they fail.
void AddGates(std::size_t broken, VerifyReport* report);

// Adds problems of the container, of tensors and of files, and fails the tensors concerned.
void AddProblems(VerifyReport* report);

// Names that want to be HTML, XML, Markdown or terminal control. The tensors of a report get them, each one once.
const std::vector<std::string>& HostileNames();
void UseHostileNames(VerifyReport* report);

}  // namespace q4::test
