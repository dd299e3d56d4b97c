// Everything that a file can influence passes through Text(), Name() or JsonText(); no other function of this folder
// puts such bytes into the page. Whoever looks for a way to inject markup needs to read this file alone, and the calls
// of fmt::format() in the sections.
#include "libconvert/report/html/markup.h"

#include <algorithm>
#include <cmath>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/text.h"

namespace q4::html {

// Printable() first, which counts bytes, then the entities, so that a cut never splits one. The five characters are
// those that end an element's text or a quoted attribute, whichever quotes it has.
namespace {

std::string Entities(std::string_view printable) {
  std::string escaped;
  for (const char c : printable) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped.push_back(c);
    }
  }
  return escaped;
}

}  // namespace

std::string Text(std::string_view text, std::size_t max_bytes) { return Entities(Printable(text, max_bytes)); }
std::string Text(Shown shown, std::size_t max_bytes) { return Entities(Printable(shown, max_bytes)); }

std::string Name(std::string_view name, std::size_t max_bytes) {
  // Entities have neither '.' nor '/', so no tag lands in one.
  const std::string text = Text(name, max_bytes);
  std::string broken;
  for (std::size_t i = 0; i < text.size(); ++i) {
    broken.push_back(text[i]);
    const bool is_end = i + 1 == text.size() || text[i + 1] == '.' || text[i + 1] == '/';
    if ((text[i] == '.' || text[i] == '/') && i != 0 && !is_end) broken += "<wbr>";
  }
  return "<code>" + broken + "</code>";
}

std::string TensorLink(const VerifyReport& report, std::string_view name) {
  // Sorted bytewise by name, as verify_report.h promises.
  const auto at =
      std::lower_bound(report.tensors.begin(), report.tensors.end(), name,
                       [](const VerifyTensor& tensor, std::string_view wanted) { return tensor.name < wanted; });
  if (at == report.tensors.end() || at->name != name) return Name(name);
  // Rows are numbered, not named: a name from a file would have to be safe in an id and in a URL.
  return fmt::format("<a href=\"#t{}\">{}</a>", at - report.tensors.begin(), Name(name));
}

// Only tensors have a row in the page that a link could lead to.
std::string SubjectLink(const VerifyReport& report, const GateVerdict& verdict) {
  switch (verdict.scope) {
    case GateVerdict::Scope::kTensor:
      return TensorLink(report, verdict.subject);
    case GateVerdict::Scope::kLayer:
      return "layer " + Name(verdict.subject);
    case GateVerdict::Scope::kRole:
      return "role " + Name(verdict.subject);
    case GateVerdict::Scope::kEvaluation:
      return "evaluation";
    case GateVerdict::Scope::kModel:
      break;
  }
  return "model";
}

// Six digits: a limit that comes from a baseline has as many as a double can hold.
std::string LimitText(const GateVerdict& verdict) {
  return fmt::format("{} {:.6g}", verdict.is_maximum ? "≤" : "≥", verdict.limit);
}

std::string Section(std::string_view id, std::string_view title, std::string_view lead, std::string_view body) {
  return fmt::format(
      "<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n<h2 id=\"{0}-title\">{1}</h2>\n{2}{3}</section>\n", id,
      title, lead.empty() ? "" : fmt::format("<p class=\"lead\">{}</p>\n", lead), body);
}

// The container scrolls when a single word of a hostile name is wider than the window; tabindex lets the keyboard do
// that, and a region needs a label then.
std::string TableBox(std::string_view label, std::string_view id, std::string_view head, std::string_view body) {
  return fmt::format(
      "<div class=\"scroll\" role=\"region\" aria-label=\"{}\" tabindex=\"0\"><table{}>\n<thead><tr>{}</tr></thead>\n"
      "<tbody>\n{}</tbody></table></div>\n",
      label, id.empty() ? "" : fmt::format(" id=\"{}\"", id), head, body);
}

std::string CardTable(std::string_view label, const std::vector<TableColumn>& columns,
                      const std::vector<std::vector<std::string>>& rows) {
  constexpr std::string_view kClasses[] = {"", " class=\"n\"", " class=\"wide\""};
  std::string head, body;
  for (const TableColumn& column : columns) {
    head += fmt::format("<th scope=\"col\"{}>{}", kClasses[static_cast<std::size_t>(column.kind)], column.heading);
  }
  for (const std::vector<std::string>& row : rows) {
    body += "<tr>";
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const std::string_view style = kClasses[static_cast<std::size_t>(columns[i].kind)];
      // page.css shows the attribute in cards alone.
      body += i == 0 ? fmt::format("<td{}>{}</td>", style, row[i])
                     : fmt::format("<td{} data-label=\"{}\">{}</td>", style, columns[i].heading, row[i]);
    }
    body += "</tr>\n";
  }
  return TableBox(label, "", head, body);
}

std::string JsonText(std::string_view text) {
  std::string escaped;
  // The dump is asked for ASCII, so that no encoding of the page can change its meaning.
  for (const char c : Json(Printable(text, 400)).dump(-1, ' ', true)) {
    // Harmless in JSON, but "</script" and "<!--" would mean something to the HTML parser.
    if (c == '<' || c == '>' || c == '&') {
      escaped += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      escaped.push_back(c);
    }
  }
  return escaped;
}

// JSON has neither infinity nor NaN; page.js shows null as "-".
std::string JsonNumber(double value) { return std::isfinite(value) ? fmt::format("{:.6g}", value) : "null"; }

std::string SqnrText(double sqnr_db) { return fmt::format("{:.3f}", sqnr_db); }
// Zeros at the end too: in a column, digits of the same worth stand below each other.
std::string ShortText(double value) {
  if (value == 0) return "0";
  std::string text = fmt::format("{:#.4g}", value);
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace q4::html
