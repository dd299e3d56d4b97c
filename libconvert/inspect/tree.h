// The module tree of a model: tensors by the dots in their names, layers that are alike shown once.
#pragma once

#include <string>
#include <vector>

#include "libconvert/base/text_style.h"
#include "libconvert/inspect/inspect.h"

namespace q4 {

// One line of the tree.
struct TreeLine {
  std::size_t depth = 0;
  std::vector<bool>
      last;          // of this line and each of its ancestors, from the top: whether it is its parent's last child
  std::string name;  // one or several components: "layers", "0..31 x32", "up_proj.weight"
  std::uint64_t tensors = 0, elems = 0, stored_bytes = 0;  // of everything below; under folded layers: in one of them
  std::string treatment;  // of a tensor: as in InspectTensor, and its shape; "" of a module
};

// `tensors` are bytewise sorted by name. Children are in the order of their names, numbers by value. Consecutive
// numbers whose subtrees are alike (names, shapes, treatments) become one line. A module with one child shares a line
// with it. Components beyond the 32nd stay joined.
std::vector<TreeLine> ModuleTree(const std::vector<const InspectTensor*>& tensors);

// The tree as text, one line each, with counts, sizes and bits per element.
std::string ModuleTreeText(const std::vector<const InspectTensor*>& tensors, const TextStyle& style);

}  // namespace q4
