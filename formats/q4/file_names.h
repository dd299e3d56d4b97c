// Which names embedded files may have (docs/format.md F5.4 to F5.6). An export writes these files, so a name must mean
// the same file on every system (formats/names/portable_names.h), and be of a kind that no loader takes for weights and
// nobody runs. The one rule for writer, reader, converter and exporter. Pure; names are untrusted text.
#pragma once

#include <string_view>

namespace q4 {

// What is wrong with `name` as that of an embedded file, in words for people; "" if nothing is. Names are asked one by
// one here; PortableNames holds them against each other.
std::string_view Q4FileNameProblem(std::string_view name);

}  // namespace q4
