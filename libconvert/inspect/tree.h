// The module tree of a model: tensors by the dots in their names, with layers that are alike shown once. A model of 80
// layers is read on one screen, and a layer that is treated differently from the others stands out.
#pragma once

#include <string>
#include <vector>

#include "libconvert/base/text_style.h"
#include "libconvert/inspect/inspect.h"

namespace q4 {

// One line of the tree, for a module or a tensor.
struct TreeLine {
  // 0 for the lines at the left edge.
  std::size_t depth = 0;
  // Of this line and each of its ancestors, from the top: whether it is its parent's last child.
  std::vector<bool> last;
  // One or several components: "layers", "0..31 x32", "up_proj.weight".
  std::string name;
  // Of everything below; of folded layers all together, but under them of one of them alone.
  std::uint64_t tensors = 0, elems = 0, stored_bytes = 0;
  // Of a tensor: as in InspectTensor, and its shape; "" of a module.
  std::string treatment;
};

// The lines of the tree from top to bottom. `tensors` are bytewise sorted by name. Children are in the order of their
// names, numbers by value. Consecutive numbers whose subtrees are alike (names, shapes, treatments) become one line. A
// module with one child shares a line with it. Components beyond the 32nd stay joined, which bounds the depth for
// untrusted names.
std::vector<TreeLine> ModuleTree(const std::vector<const InspectTensor*>& tensors);

// The tree as a table, with counts, sizes and bits per element. Names are escaped; `style` says how branches are drawn.
std::string ModuleTreeText(const std::vector<const InspectTensor*>& tensors, const TextStyle& style);

}  // namespace q4
