// Three steps: put the tensors into a tree of nodes, number the subtrees, list the nodes as lines.
//
// Every subtree gets a number; two subtrees with equal children have the same one. Folding compares numbers, so it is
// linear in the size of the names. Names are not trusted: depth is bounded, since the steps are recursive.
#include "libconvert/inspect/tree.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"

namespace q4 {
namespace {

// Real models have about 10 levels.
constexpr int kMostDepth = 32;

// At most 9 digits; longer ones are names like others.
bool IsNumber(std::string_view text) {
  return !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string_view::npos;
}
std::uint64_t NumberOf(const std::string& text) { return std::stoull(text); }

// Numbers by value and before other names; these bytewise. "01" and "1" are two names.
struct ComponentLess {
  bool operator()(const std::string& a, const std::string& b) const {
    const bool a_number = IsNumber(a), b_number = IsNumber(b);
    if (a_number != b_number) return a_number;
    if (a_number && NumberOf(a) != NumberOf(b)) return NumberOf(a) < NumberOf(b);
    return a < b;
  }
};

// A module or a tensor, with the totals of everything below it.
struct Node {
  std::map<std::string, std::unique_ptr<Node>, ComponentLess> children;
  // A name may be both a tensor and a prefix of others.
  const InspectTensor* tensor = nullptr;
  std::uint64_t tensors = 0, elems = 0, stored_bytes = 0;
  // The same for subtrees that are alike. 0 also before they are numbered.
  std::size_t shape_number = 0;
};

// Adds a tensor below `root`, with the modules that its name goes through.
void Insert(const InspectTensor& tensor, Node* root) {
  std::string_view rest = tensor.name;
  Node* node = root;
  const auto count = [&tensor](Node* n) {
    ++n->tensors;
    n->elems += tensor.elems;
    n->stored_bytes += tensor.stored_bytes;
  };
  // The root counts everything and is no line.
  count(node);
  for (int depth = 1;; ++depth) {
    // At the last level the rest of the name is one component.
    const std::size_t dot = depth == kMostDepth ? std::string_view::npos : rest.find('.');
    std::unique_ptr<Node>& child = node->children[std::string(rest.substr(0, dot))];
    if (child == nullptr) child = std::make_unique<Node>();
    node = child.get();
    count(node);
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  node->tensor = &tensor;
}

std::string TreatmentAndShape(const InspectTensor& tensor) {
  return tensor.treatment + " " + ShapeString(tensor.shape);
}

// What a subtree is made of, by the numbers of its children, and the number that it got.
using KindCounts = std::map<std::string, std::size_t>;
// From the leaves up: a node's key is what it is itself and the names and numbers of its children. Line feeds separate
// them.
void NumberSubtrees(Node* node, KindCounts* kinds) {
  std::string key = node->tensor == nullptr ? "" : TreatmentAndShape(*node->tensor);
  for (auto& [name, child] : node->children) {
    NumberSubtrees(child.get(), kinds);
    key += fmt::format("\n{}\n{}", name, child->shape_number);
  }
  // The first subtree of a kind gives it its number.
  node->shape_number = kinds->try_emplace(std::move(key), kinds->size()).first->second;
}

// Lists the nodes below a root, depth first.
class Lister {
 public:
  std::vector<TreeLine> List(const Node& root) {
    Children(root);
    return std::move(lines_);
  }

 private:
  // Of all children that were folded into one line.
  struct Totals {
    std::uint64_t tensors, elems, stored_bytes;
  };

  // The lines of a node's children, like neighbours folded.
  void Children(const Node& node) {
    for (auto at = node.children.begin(); at != node.children.end();) {
      // As many consecutive numbers from here on as have the same subtree.
      auto end = std::next(at);
      std::uint64_t count = 1;
      Totals totals{at->second->tensors, at->second->elems, at->second->stored_bytes};
      while (IsNumber(at->first) && end != node.children.end() && IsNumber(end->first) &&
             NumberOf(end->first) == NumberOf(at->first) + count &&
             end->second->shape_number == at->second->shape_number) {
        totals.tensors += end->second->tensors;
        totals.elems += end->second->elems;
        totals.stored_bytes += end->second->stored_bytes;
        ++end;
        ++count;
      }
      std::string name = at->first;
      if (count > 1) name += fmt::format("..{} x{}", std::prev(end)->first, count);
      // Decides how the branch of this line is drawn, and those of all lines below it.
      last_.push_back(end == node.children.end());
      Line(name, *at->second, totals);
      last_.pop_back();
      at = end;
    }
  }

  // One line, and those below it. Of folded layers the first one stands for all.
  void Line(std::string name, const Node& start, const Totals& totals) {
    const Node* node = &start;
    // Modules with one child are joined to one line, except where the child is a number: "layers.0" alone would hide
    // that it is a list.
    while (node->tensor == nullptr && node->children.size() == 1 && !IsNumber(node->children.begin()->first)) {
      name += "." + node->children.begin()->first;
      node = node->children.begin()->second.get();
    }
    TreeLine line;
    line.depth = last_.size() - 1;
    line.last = last_;
    line.name = std::move(name);
    line.tensors = totals.tensors;
    line.elems = totals.elems;
    line.stored_bytes = totals.stored_bytes;
    if (node->tensor != nullptr) line.treatment = TreatmentAndShape(*node->tensor);
    lines_.push_back(std::move(line));
    Children(*node);
  }

  // For the line that is being listed and its ancestors, as in TreeLine.
  std::vector<bool> last_;
  std::vector<TreeLine> lines_;
};

// "│  ├─ " before the name. A line is drawn on below an ancestor that has further children.
std::string Branches(const TextStyle& style, const TreeLine& line) {
  std::string text;
  // The lines at the left edge have no branch.
  for (std::size_t i = 1; i < line.last.size(); ++i) {
    const bool own = i + 1 == line.last.size();
    if (own) {
      text += line.last[i] ? (style.unicode ? "└─ " : "`- ") : (style.unicode ? "├─ " : "|- ");
    } else {
      text += line.last[i] ? "   " : (style.unicode ? "│  " : "|  ");
    }
  }
  return text;
}

}  // namespace

std::vector<TreeLine> ModuleTree(const std::vector<const InspectTensor*>& tensors) {
  Node root;
  for (const InspectTensor* tensor : tensors) Insert(*tensor, &root);
  KindCounts kinds;
  NumberSubtrees(&root, &kinds);
  return Lister().List(root);
}

std::string ModuleTreeText(const std::vector<const InspectTensor*>& tensors, const TextStyle& style) {
  Table table({"<module", "?2tensors", "?3elements", "stored", "?1bits/element", "?4<stored as"});
  for (const TreeLine& line : ModuleTree(tensors)) {
    table.Add({Branches(style, line) + Printable(line.name, kWholeName), Grouped(line.tensors), Grouped(line.elems),
               HumanBytes(line.stored_bytes), BitsPer(line.stored_bytes, line.elems), Printable(line.treatment)});
  }
  return table.Text(style);
}

}  // namespace q4
