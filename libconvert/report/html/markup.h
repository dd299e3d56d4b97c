// The pieces of markup that all sections of the HTML report use. Internal to libconvert/report/.
//
// Two kinds of strings meet here. *Text* is what a file, a name or a message says; it goes through Text(), Name() or
// JsonText() before it is put anywhere. *Markup* is the result, and is put in as it is. Parameters called `markup`,
// `lead`, `head` and `body` take markup; `id`, `title` and `label` take literals of this program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/text.h"
#include "libconvert/judge/verify_report.h"

namespace q4::html {

// As much of a path as is shown: the longest that Linux opens.
inline constexpr std::size_t kPathBytes = 4096;

// Untrusted text as the content of an element or of an attribute in quotes. Control characters are shown as \xNN, what
// exceeds `max_bytes`, counted before escaping for HTML, as "...".
std::string Text(std::string_view text, std::size_t max_bytes = 400);

// Of what was escaped before, as the message of a finding.
std::string Text(Shown shown, std::size_t max_bytes = 400);

// The same in a <code>: names, paths, patterns. They may be broken behind a '.' or a '/', and elsewhere only if one
// part alone is too long.
std::string Name(std::string_view name, std::size_t max_bytes = 400);

// A link to the row of the tensor called `name`, showing its name. For one that is not in the report, such as a tensor
// that the container lacks, only the name. Finds it by bisection: report.tensors is sorted.
std::string TensorLink(const VerifyReport& report, std::string_view name);

// What a gate judges, with a link if it is a tensor; and "≤ 0.01".
std::string SubjectLink(const VerifyReport& report, const GateVerdict& verdict);
std::string LimitText(const GateVerdict& verdict);

// A section with a heading that the page's navigation leads to. `lead` is markup under the heading; may be empty.
std::string Section(std::string_view id, std::string_view title, std::string_view lead, std::string_view body);

// A column of a table: its heading, markup, and what is in it.
struct TableColumn {
  enum class Kind : std::uint8_t { kText, kNumber, kWide };  // kWide: of more than one line
  std::string_view heading;
  Kind kind = Kind::kText;
};

// A table; of markup, a cell for each column. Where the window is too narrow for it each row is a card: the first cell
// its title, each other one beside its heading, empty ones left out. `label` is read out by a screen reader.
std::string CardTable(std::string_view label, const std::vector<TableColumn>& columns,
                      const std::vector<std::vector<std::string>>& rows);

// What CardTable() puts around a table: no name, however long, makes the page wider than the window. `id` may be "".
std::string TableBox(std::string_view label, std::string_view id, std::string_view head, std::string_view body);

// Values inside the JSON block: ASCII only, and nothing in it can end the block. Numbers that do not exist are null.
std::string JsonText(std::string_view text);
std::string JsonNumber(double value);

// Numbers as in the other reports. SQNR in dB with three decimals, "20.612"; anything else with four digits,
// "0.008684", "0.0961". Infinity is "inf".
std::string SqnrText(double sqnr_db);
std::string ShortText(double value);

}  // namespace q4::html
