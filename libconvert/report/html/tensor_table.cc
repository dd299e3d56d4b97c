// The table of all tensors, readable as it stands. page.js takes its rows apart by position: row i is tensor i of
// TensorData() and of the report. Hence no row may be left out here, whatever is in it.
#include <array>
#include <string>
#include <string_view>

#include "fmt/format.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/format.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
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

// End tags that HTML lets one leave out are left out: a model may have tens of thousands of rows.
std::string TensorRow(const VerifyTensor& tensor, std::size_t index, bool beside_absmax) {
  std::string row =
      fmt::format("<tr id=\"t{}\"><th scope=\"row\">{}<td{}<td>{}<td>{}<td>{}<td>{}", index, Name(tensor.name),
                  tensor.passed ? ">✓" : " class=\"failed\">✕ failed", TreatmentOf(tensor), ShapeString(tensor.shape),
                  Grouped(tensor.elems), BitsPer(tensor.stored_bytes, tensor.elems));
  const std::string absmax = beside_absmax ? "<td>" + RatioText(tensor.absmax) : std::string();
  // Five empty cells for the columns of errors; a zero would look like a measured one.
  if (!tensor.quantized() || !tensor.has_stats) return row + "<td><td><td><td><td>" + absmax + "\n";
  // Half steps have four decimals, because the limit of a right code is 1 and values just above it tell most.
  const DerivedStats derived = Derive(tensor.stats);
  return row + fmt::format("<td>{}<td>{}<td>{}<td>{:.4f}<td>{}{}\n", SqnrText(derived.sqnr_db), ShortText(derived.nmse),
                           ShortText(tensor.stats.max_abs_err), tensor.stats.max_gap_ratio,
                           Grouped(tensor.stats.clipped), absmax);
}

}  // namespace

// Never "": page.js relies on the table, even for a container without tensors.
std::string TensorsSection(const VerifyReport& report) {
  std::string head, rows;
  const bool beside_absmax = report.absmax.tensors != 0;
  const auto add = [&head](const Column& column) {
    head += fmt::format("<th scope=\"col\" data-field=\"{}\">{}", column.field, column.heading);
  };
  for (const Column& column : kColumns) add(column);
  if (beside_absmax) add(kAbsmaxColumn);
  for (std::size_t i = 0; i < report.tensors.size(); ++i) rows += TensorRow(report.tensors[i], i, beside_absmax);
  // page.js shows the controls, which do nothing without it.
  return Section(
      "tensors", "Tensors", "",
      "<div id=\"controls\" hidden>\n"
      "<label>Search <input id=\"search\" type=\"search\" placeholder=\"part of a name\" autocomplete=\"off\" "
      "spellcheck=\"false\"></label>\n"
      "<label>Role <select id=\"role\"><option value=\"\">all</option></select></label>\n"
      "<label><input id=\"only-failed\" type=\"checkbox\"> failed only</label>\n"
      "<output id=\"shown\" aria-live=\"polite\"></output>\n</div>\n"
      "<div class=\"scroll\" role=\"region\" aria-label=\"All tensors\" tabindex=\"0\"><table id=\"tensor-table\">\n"
      "<thead><tr>" +
          head + "</thead>\n<tbody>\n" + rows +
          "</table></div>\n<p><button id=\"more\" type=\"button\" hidden></button></p>\n");
}

}  // namespace q4::html
