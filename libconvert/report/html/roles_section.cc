// What tensors of one role lose, all layers together: which kind of matrix the settings do not suit.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/html/terms.h"
#include "libconvert/report/summary.h"

namespace q4::html {

// Roles of kept tensors only have no statistics and are left out.
std::string RolesSection(const VerifyReport& report) {
  std::vector<const VerifyGroup*> roles;
  for (const VerifyGroup& group : report.groups) {
    if (group.kind == VerifyGroup::Kind::kRole && group.stats.tensors != 0) roles.push_back(&group);
  }
  if (roles.empty()) return {};
  // NaN would break the order that sorting needs; here it is the worst there is.
  const auto rank = [](const VerifyGroup* role) {
    const double nmse = Derive(role->stats.total).nmse;
    return std::isnan(nmse) ? HUGE_VAL : nmse;
  };
  std::stable_sort(roles.begin(), roles.end(),
                   [&](const VerifyGroup* a, const VerifyGroup* b) { return rank(a) > rank(b); });
  const bool beside_absmax = report.absmax.tensors != 0;
  std::vector<std::vector<std::string>> rows;
  for (const VerifyGroup* role : roles) {
    const Q4Stats& stats = role->stats.total;
    const DerivedStats derived = Derive(stats);
    rows.push_back({Name(role->name), Grouped(role->stats.tensors), SqnrText(derived.sqnr_db), ShortText(derived.nmse),
                    ShortText(stats.max_abs_err), fmt::format("{:.4f}", stats.max_gap_ratio), Grouped(stats.clipped),
                    fmt::format("{:.6f}", derived.cosine)});
    if (beside_absmax) rows.back().push_back(RatioText(role->absmax));
  }
  using enum TableColumn::Kind;
  std::vector<TableColumn> columns = {{"role"},
                                      {"tensors", kNumber},
                                      {"SQNR dB", kNumber},
                                      {"NMSE", kNumber},
                                      {"max |e|", kNumber},
                                      {"half steps", kNumber},
                                      {"clipped", kNumber},
                                      {"cosine", kNumber}};
  if (beside_absmax) columns.push_back({"of absmax", kNumber});
  return Section("roles", "Roles", "What tensors do in their layer, all layers together; the worst first.",
                 Terms({"role", "SQNR", "NMSE", "max |e|", "half steps", "clipped", "cosine"}) +
                     CardTable("Error by role", columns, rows));
}

}  // namespace q4::html
