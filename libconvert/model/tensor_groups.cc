// Two steps. Split() takes each name apart into layer and path, without regard to other names. Then all distinct paths
// of the model are laid side by side: for every tail of a path it is counted how many paths end in it, and a path's
// role is its shortest tail that it shares with no other. Paths repeat from layer to layer, so there are few of them.
#include "libconvert/model/tensor_groups.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <unordered_map>

namespace q4 {
namespace {

// Tails of more components than this are not tried, only the whole path: names are untrusted and may be all dots.
constexpr std::size_t kLongestTail = 8;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsAllDigits(std::string_view component) {
  return !component.empty() && std::all_of(component.begin(), component.end(), IsDigit);
}

struct LayerAndPath {
  std::string layer, path;
};

LayerAndPath Split(std::string_view name) {
  LayerAndPath split;
  // The number of an expert follows a component such as "experts" or "local_experts". Experts of a layer are alike and
  // numerous, so their numbers belong to neither layer nor role.
  bool after_experts = false;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view component = name.substr(begin, end - begin);
    const bool is_number = IsAllDigits(component);
    // The first number is the layer's. What stood before it is part of the layer's name, so the path begins anew.
    if (is_number && begin != 0 && !after_experts && split.layer.empty()) {
      split.layer = name.substr(0, end);
      split.path.clear();
    } else if (!(is_number && after_experts)) {
      if (!split.path.empty()) split.path += '.';
      split.path += component;
    }
    after_experts = component.ends_with("experts");
    begin = end + 1;
  }
  // ".bias" stays: a bias is another thing than its weight, and both may have errors of their own.
  constexpr std::string_view kWeight = ".weight";
  if (split.path.ends_with(kWeight)) split.path.resize(split.path.size() - kWeight.size());
  return split;
}

// The tails of a path at its dots, shortest first, the whole path last.
std::vector<std::string_view> TailsOf(std::string_view path) {
  std::vector<std::string_view> tails;
  for (std::size_t dot = path.rfind('.'); dot != std::string_view::npos && dot != 0 && tails.size() < kLongestTail;
       dot = path.rfind('.', dot - 1)) {
    tails.push_back(path.substr(dot + 1));
  }
  tails.push_back(path);
  return tails;
}

}  // namespace

std::vector<TensorGroup> GroupTensors(const std::vector<std::string_view>& names) {
  std::vector<LayerAndPath> splits;
  splits.reserve(names.size());
  for (const std::string_view name : names) splits.push_back(Split(name));

  // Views into `splits`, which is not changed until the groups are made.
  std::map<std::string_view, std::string_view> role_of_path;
  for (const LayerAndPath& split : splits) role_of_path.emplace(split.path, split.path);
  std::unordered_map<std::string_view, std::uint32_t> paths_ending_in;
  for (const auto& [path, role] : role_of_path) {
    for (const std::string_view tail : TailsOf(path)) ++paths_ending_in[tail];
  }
  for (auto& [path, role] : role_of_path) {
    for (const std::string_view tail : TailsOf(path)) {
      // The whole path is the last tail. It may be the end of a longer path too, and is then the role all the same: two
      // distinct paths are never equal.
      role = tail;
      if (paths_ending_in[tail] == 1) break;
    }
  }

  std::vector<TensorGroup> groups;
  groups.reserve(names.size());
  for (LayerAndPath& split : splits) {
    const std::string role(role_of_path[split.path]);
    groups.push_back({std::move(split.layer), role});
  }
  return groups;
}

bool NaturalLess(std::string_view a, std::string_view b) {
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (!IsDigit(a[i]) || !IsDigit(b[j])) {
      if (a[i] != b[j]) return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
      ++i, ++j;
      continue;
    }
    // Leading zeros aside, the longer number is the larger one, and numbers of one length compare as texts. So none is
    // converted, and none can overflow.
    const auto number = [](std::string_view text, std::size_t* at) {
      while (*at < text.size() && text[*at] == '0') ++*at;
      const std::size_t begin = *at;
      while (*at < text.size() && IsDigit(text[*at])) ++*at;
      return text.substr(begin, *at - begin);
    };
    const std::string_view left = number(a, &i), right = number(b, &j);
    if (left.size() != right.size()) return left.size() < right.size();
    if (left != right) return left < right;
  }
  if (i < a.size() || j < b.size()) return j < b.size();
  return a < b;  // they differ in leading zeros at most
}

}  // namespace q4
