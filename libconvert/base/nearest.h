// "Did you mean": the names nearest to one that does not exist. For messages about flags, values, keys and tensors.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// At most `most` of `names` that are near `text`, the nearest first, ties in the order given. Near: what must be
// inserted, deleted, replaced or swapped with its neighbour (restricted Damerau-Levenshtein distance; upper and lower
// case, '-', '_' and '.' count as equal) is no more than a third of the longer name, at least one character; or, for a
// text of three characters and more, the name contains it. Texts above 256 bytes have no neighbours. Cost: the product
// of the lengths for each name, so callers bound the number of names.
std::vector<std::string> NearestNames(std::string_view text, const std::vector<std::string>& names, std::size_t most);

// "; did you mean 'a' or 'b'?" for a message, or "" where nothing is near. Not escaped: Fail() does that.
std::string DidYouMean(std::string_view text, const std::vector<std::string>& names, std::size_t most = 2);

}  // namespace q4
