// A report for gates and baselines to judge: two layers of one quantized and one kept tensor each.
#pragma once

#include <string>

#include "libconvert/judge/verify_groups.h"
#include "libconvert/judge/verify_report.h"

namespace q4::fuzz {

inline VerifyReport SmallReport() {
  VerifyReport report;
  report.path = "model.q4";
  for (int layer = 0; layer < 2; ++layer) {
    const std::string stem = "model.layers." + std::to_string(layer) + ".mlp.";
    VerifyTensor& weight = report.tensors.emplace_back();
    weight.name = stem + "up_proj.weight";
    weight.scheme = Q4Scheme::kNf4;
    weight.encoder = Q4Encoder::kAbsmax;
    weight.block_size = 64;
    weight.elems = weight.stats.count = 128;
    weight.has_stats = true;
    weight.stats.sum_e2 = 0.01 * (layer + 1);
    weight.stats.sum_x2 = 1;
    report.tensors.emplace_back().name = stem + "norm.weight";
  }
  AssignGroups(&report.tensors);
  SumUpStats(&report);
  return report;
}

}  // namespace q4::fuzz
