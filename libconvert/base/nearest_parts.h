// "Did you mean" for patterns over tensor names: the tensors nearest to an expression that matches none. nearest.h
// compares whole names; an expression has a few words of one.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// Calls its argument with every name, in an order that is always the same.
using ForEachName = std::function<void(const std::function<void(std::string_view)>&)>;

// Up to three names, the nearest first, of equal ones the earlier. What counts is how alike the words of `pattern`
// ("layers", "0" of "layers\.0\.") and the parts of a name between its dots are, by edit distance, whatever their
// order. Not near is what has less than half in common. The work is bounded: a few words of a few dozen letters are
// compared with a few thousand different parts; beyond that parts count as unlike.
std::vector<std::string> NearestByParts(std::string_view pattern, const ForEachName& for_each);

// "; did you mean 'a', 'b' or 'c'?" for a message, or "" where nothing is near. Not escaped: Fail() does that.
std::string DidYouMeanByParts(std::string_view pattern, const ForEachName& for_each);

// The same for a list of things, of which `name_of` says the name.
template <typename List, typename NameOf>
std::string DidYouMeanByParts(std::string_view pattern, const List& list, const NameOf& name_of) {
  return DidYouMeanByParts(pattern, [&](const std::function<void(std::string_view)>& visit) {
    for (const auto& item : list) visit(name_of(item));
  });
}

}  // namespace q4
