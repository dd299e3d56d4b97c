// The distance is computed row by row, with the two rows before it that a swap needs. Names that contain the text come
// before those that only resemble it: people leave out the parts of a long name that they do not remember.
#include "libconvert/base/nearest.h"

#include <algorithm>
#include <utility>

namespace q4 {
namespace {

constexpr std::size_t kMaxTextBytes = 256;
// Shorter texts are contained in too many names.
constexpr std::size_t kMinContained = 3;

char Folded(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c - 'A' + 'a');
  return c == '-' || c == '.' ? '_' : c;
}

std::string Folded(std::string_view text) {
  std::string folded(text);
  std::transform(folded.begin(), folded.end(), folded.begin(), [](char c) { return Folded(c); });
  return folded;
}

}  // namespace

std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(last, row);
  }
  return last[b.size()];
}

std::vector<std::string> NearestNames(std::string_view text, const std::vector<std::string>& names, std::size_t most) {
  std::vector<std::pair<std::size_t, const std::string*>> near;
  if (text.empty() || text.size() > kMaxTextBytes) return {};
  const std::string wanted = Folded(text);
  for (const std::string& name : names) {
    if (name.size() > kMaxTextBytes) continue;
    const std::string candidate = Folded(name);
    const std::size_t allowed = std::max<std::size_t>(1, std::max(wanted.size(), candidate.size()) / 3);
    if (wanted.size() >= kMinContained && candidate.find(wanted) != std::string::npos) {
      near.emplace_back(0, &name);
    } else if (const std::size_t distance = EditDistance(wanted, candidate); distance <= allowed) {
      near.emplace_back(distance, &name);
    }
  }
  std::stable_sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> nearest;
  for (std::size_t i = 0; i < std::min(most, near.size()); ++i) nearest.push_back(*near[i].second);
  return nearest;
}

std::string DidYouMean(std::string_view text, const std::vector<std::string>& names, std::size_t most) {
  std::string out;
  for (const std::string& name : NearestNames(text, names, most)) {
    out += (out.empty() ? "; did you mean '" : " or '") + name + "'";
  }
  return out.empty() ? out : out + "?";
}

std::string UnknownKey(std::string_view key, const std::vector<std::string>& keys, std::string_view list) {
  const std::string meant = DidYouMean(key, keys, 1);
  return "'" + std::string(key) + "'" + (meant.empty() ? ";" : meant) + " there are " + std::string(list);
}

}  // namespace q4
