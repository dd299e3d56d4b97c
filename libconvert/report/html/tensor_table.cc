// The table of all tensors, readable as it stands: failed ones first, then by NMSE, then those that were kept, which a
// check box without any script folds away. The row of id "t7" is tensor 7 of TensorData() and of the report, and
// page.js finds it by that; hence no row may be left out here, whatever is in it.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "fmt/format.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/format.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/html/terms.h"
#include "libconvert/report/summary.h"

namespace q4::html {
namespace {

// A column's heading, and the field of TensorData() that it is sorted by.
struct Column {
  const char* field;
  const char* heading;
};
// Fields without a column, such as bias or entropy, are shown when a row is opened.
constexpr std::array<Column, 11> kColumns{{{"name", "tensor"},
                                           {"passed", "state"},
                                           {"treatment", "treatment"},
                                           {"shape", "shape"},
                                           {"elems", "elements"},
                                           {"bits", "bits"},
                                           {"sqnr_db", "SQNR dB"},
                                           {"nmse", "NMSE"},
                                           {"max_abs_err", "max |e|"},
                                           {"max_gap_ratio", "half steps"},
                                           {"clipped", "clipped"}}};

// There where errors were measured beside absmax'.
constexpr Column kAbsmaxColumn{"absmax", "of absmax"};

std::vector<Column> ColumnsOf(const VerifyReport& report) {
  std::vector<Column> columns(kColumns.begin(), kColumns.end());
  if (report.absmax.tensors != 0) columns.push_back(kAbsmaxColumn);
  return columns;
}

// Kept tensors in which nothing is wrong are folded away, unless there are no others.
bool IsFolded(const VerifyTensor& tensor) { return !tensor.quantized() && tensor.passed; }

// End tags that HTML lets one leave out are left out: a model may have tens of thousands of rows. The row's own stays:
// a line feed in its last cell would keep the cell from being :empty, which cards leave out.
std::string TensorRow(const VerifyTensor& tensor, std::size_t index, bool is_folded, bool beside_absmax) {
  std::string row = fmt::format(
      "<tr id=\"t{}\"{}><th scope=\"row\">{}<td{}<td>{}<td>{}<td>{}<td>{}", index, is_folded ? " class=\"kept\"" : "",
      Name(tensor.name), tensor.passed ? ">✓" : " class=\"failed\">✕ failed", TreatmentOf(tensor),
      ShapeString(tensor.shape), Grouped(tensor.elems), BitsPer(tensor.stored_bytes, tensor.elems));
  const std::string absmax = beside_absmax ? "<td>" + RatioText(tensor.absmax) : std::string();
  // Five empty cells for the columns of errors; a zero would look like a measured one.
  if (!tensor.quantized() || !tensor.has_stats) return row + "<td><td><td><td><td>" + absmax + "</tr>\n";
  // Half steps have four decimals, because the limit of a right code is 1 and values just above it tell most.
  const DerivedStats derived = Derive(tensor.stats);
  return row + fmt::format("<td>{}<td>{}<td>{}<td>{:.4f}<td>{}{}</tr>\n", SqnrText(derived.sqnr_db),
                           ShortText(derived.nmse), ShortText(tensor.stats.max_abs_err), tensor.stats.max_gap_ratio,
                           Grouped(tensor.stats.clipped), absmax);
}

// Numbers of tensors, in the order of the rows.
std::vector<std::size_t> RowOrder(const VerifyReport& report) {
  struct Rank {
    std::size_t index;
    bool passed, has_error;
    double nmse;  // not NaN, which would break the order that sorting needs
  };
  std::vector<Rank> ranks;
  for (std::size_t i = 0; i < report.tensors.size(); ++i) {
    const VerifyTensor& tensor = report.tensors[i];
    const bool has_error = tensor.quantized() && tensor.has_stats;
    const double nmse = has_error ? Derive(tensor.stats).nmse : 0;
    ranks.push_back({i, tensor.passed, has_error, std::isnan(nmse) ? HUGE_VAL : nmse});
  }
  std::stable_sort(ranks.begin(), ranks.end(), [](const Rank& a, const Rank& b) {
    if (a.passed != b.passed) return b.passed;
    if (a.has_error != b.has_error) return a.has_error;
    return a.nmse > b.nmse;
  });
  std::vector<std::size_t> order;
  for (const Rank& rank : ranks) order.push_back(rank.index);
  return order;
}

}  // namespace

// The state's column has no heading in cards: its sign says all.
std::string TensorColumnsStyle(const VerifyReport& report) {
  std::string style = "@media screen and (max-width: 62rem) {\n";
  const std::vector<Column> columns = ColumnsOf(report);
  for (std::size_t i = 1; i < columns.size(); ++i) {
    style += fmt::format("#tensor-table td:nth-child({})::before {{ content: \"{}\"; }}\n", i + 1, columns[i].heading);
  }
  return style + "}\n";
}

// Never "": page.js relies on the table, even for a container without tensors.
std::string TensorsSection(const VerifyReport& report) {
  std::string head, rows;
  for (const Column& column : ColumnsOf(report)) {
    head += fmt::format("<th scope=\"col\" data-field=\"{}\">{}", column.field, column.heading);
  }
  const auto kept = static_cast<std::size_t>(std::count_if(report.tensors.begin(), report.tensors.end(), IsFolded));
  const bool folds = kept != 0 && kept != report.tensors.size();
  for (const std::size_t i : RowOrder(report)) {
    rows += TensorRow(report.tensors[i], i, folds && IsFolded(report.tensors[i]), report.absmax.tensors != 0);
  }
  // page.js shows the controls, which do nothing without it; the check box for kept tensors does.
  return Section(
      "tensors", "Tensors", "The worst first.",
      Terms({"treatment", "bits", "SQNR", "NMSE", "max |e|", "half steps", "clipped"}) +
          "<div id=\"controls\" hidden>\n"
          "<label>Search <input id=\"search\" type=\"search\" placeholder=\"part of a name\" autocomplete=\"off\" "
          "spellcheck=\"false\"></label>\n"
          "<label>Role <select id=\"role\"><option value=\"\">all</option></select></label>\n"
          "<label>Sort by <select id=\"sort\"><option value=\"\">worst first</option></select></label>\n"
          "<label><input id=\"only-failed\" type=\"checkbox\"> failed only</label>\n"
          "<output id=\"shown\" aria-live=\"polite\"></output>\n</div>\n" +
          (folds
               ? fmt::format("<input id=\"show-kept\" type=\"checkbox\"> <label for=\"show-kept\">also the {} that {} "
                             "kept</label>\n",
                             Grouped(kept), kept == 1 ? "was" : "were")
               : "") +
          TableBox("All tensors", "tensor-table", head, rows) +
          "<p><button id=\"more\" type=\"button\" hidden></button></p>\n");
}

}  // namespace q4::html
