// "Did you mean": the names nearest to one that does not exist. For messages about flags, values, keys and tensors.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// What must be inserted, deleted, replaced or swapped with its neighbour to make `b` of `a`: the restricted
// Damerau-Levenshtein distance, of bytes. Costs the product of the lengths.
std::size_t EditDistance(std::string_view a, std::string_view b);

// At most `most` of `names` that are near `text`, the nearest first, ties in the order given. Near: the edit distance
// (upper and lower case, '-', '_' and '.' count as equal) is no more than a third of the longer name, at least one
// character; or, for a text of three characters and more, the name contains it. Texts above 256 bytes have no
// neighbours. Cost: the product of the lengths for each name, so callers bound the number of names.
std::vector<std::string> NearestNames(std::string_view text, const std::vector<std::string>& names, std::size_t most);

// "; did you mean 'a' or 'b'?" for a message, or "" where nothing is near. Not escaped: Fail() does that.
std::string DidYouMean(std::string_view text, const std::vector<std::string>& names, std::size_t most = 2);

// "'max_nsme'; did you mean 'max_nmse'? there are ...": for a key that does not exist in a JSON file with a fixed set
// of `keys`, which `list` tells in words. Not escaped: Fail() does that.
std::string UnknownKey(std::string_view key, const std::vector<std::string>& keys, std::string_view list);

}  // namespace q4
