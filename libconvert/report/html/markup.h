// The pieces of markup that all sections of the HTML report use. Internal to libconvert/report/.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "libconvert/judge/verify_report.h"

namespace q4::html {

// As much of a path as is shown.
inline constexpr std::size_t kPathBytes = 4096;

// Untrusted text as the content of an element or of a quoted attribute. Control characters are shown as \xNN, what
// exceeds `max_bytes` as "...".
std::string Text(std::string_view text, std::size_t max_bytes = 400);

// The same in a <code>: names, paths, patterns.
std::string Name(std::string_view name, std::size_t max_bytes = 400);

// A link to the row of tensor `index` of the report, showing its name. For one that is not in the report, only the
// name.
std::string TensorLink(const VerifyReport& report, std::string_view name);

// A section with a heading that the page's navigation leads to. `lead` is markup under the heading; may be empty.
std::string Section(std::string_view id, std::string_view title, std::string_view lead, std::string_view body);

// A table in a container that scrolls when it is too wide. `head` and `body` are rows.
std::string ScrollTable(std::string_view label, std::string_view head, std::string_view body);

// "<td class=n>", a number in a column of its own, and a cell of text; both take markup.
std::string NumberCell(std::string_view markup);
std::string TextCell(std::string_view markup);

// Values inside the JSON block: ASCII only, and nothing in it can end the block. Numbers that do not exist are null.
std::string JsonText(std::string_view text);
std::string JsonNumber(double value);

// "20.612", "0.008684", "0.0961" as in the other reports.
std::string SqnrText(double sqnr_db);
std::string ShortText(double value);

}  // namespace q4::html
