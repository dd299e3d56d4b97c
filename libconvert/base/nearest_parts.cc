// A word of the pattern is compared once with each different part that any name has: a model has thousands of names and
// a few hundred parts. The score of a name is then the sum over the words of the distance to its nearest part.
#include "libconvert/base/nearest_parts.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <map>
#include <numeric>
#include <utility>

namespace q4 {
namespace {

constexpr std::size_t kWords = 8, kWordBytes = 48, kParts = 4096, kShown = 3;

bool IsWordCharacter(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-'; }

// The runs of letters and digits in a regular expression that stand for themselves: "layers\.0\.mlp" has three.
std::vector<std::string> WordsOf(std::string_view pattern) {
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < pattern.size() && words.size() <= kWords; ++i) {
    if (pattern[i] == '\\') {
      ++i;  // \d, \b, \.: none is a letter of a name
    } else if (IsWordCharacter(pattern[i])) {
      if (words.back().size() < kWordBytes) words.back() += pattern[i];
      continue;
    }
    if (!words.back().empty()) words.emplace_back();
  }
  if (words.back().empty() || words.size() > kWords) words.pop_back();
  return words;
}

// Levenshtein's. Both are short.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::array<std::size_t, kWordBytes + 1> row{};
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

// In thousandths of the longer one: 0 for equal, 1000 for nothing in common.
unsigned Unlikeness(std::string_view word, std::string_view part) {
  if (part.empty()) return 1000;
  // "q_proj" of "self_attn_q_proj": near, but not as near as the same.
  if (word.size() >= 3 && part.find(word) != std::string_view::npos) return word == part ? 0 : 150;
  return static_cast<unsigned>(1000 * EditDistance(word, part) / std::max(word.size(), part.size()));
}

class Scores {
 public:
  explicit Scores(std::vector<std::string> words) : words_(std::move(words)) {}

  // The sum over the words; the smaller the nearer.
  unsigned Of(std::string_view name) {
    std::array<unsigned, kWords> best;
    best.fill(1000);
    while (true) {
      const std::size_t dot = name.find('.');
      const auto& part = OfPart(name.substr(0, dot));
      for (std::size_t i = 0; i < words_.size(); ++i) best[i] = std::min(best[i], part[i]);
      if (dot == std::string_view::npos) break;
      name.remove_prefix(dot + 1);
    }
    return std::accumulate(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(words_.size()), 0u);
  }

  // Of a name whose words are half like those wanted.
  unsigned limit() const { return static_cast<unsigned>(words_.size()) * 500; }

 private:
  const std::array<unsigned, kWords>& OfPart(std::string_view part) {
    if (part.size() > kWordBytes) return unlike_;
    const auto known = parts_.find(part);
    if (known != parts_.end()) return known->second;
    if (parts_.size() == kParts) return unlike_;
    std::array<unsigned, kWords> scores = unlike_;
    for (std::size_t i = 0; i < words_.size(); ++i) scores[i] = Unlikeness(words_[i], part);
    return parts_.emplace(part, scores).first->second;
  }

  std::vector<std::string> words_;
  std::map<std::string, std::array<unsigned, kWords>, std::less<>> parts_;
  std::array<unsigned, kWords> unlike_ = [] {
    std::array<unsigned, kWords> all;
    all.fill(1000);
    return all;
  }();
};

}  // namespace

std::vector<std::string> NearestByParts(std::string_view pattern, const ForEachName& for_each) {
  std::vector<std::string> words = WordsOf(pattern);
  if (words.empty()) return {};
  Scores scores(std::move(words));
  std::vector<std::pair<unsigned, std::string>> best;
  for_each([&](std::string_view name) {
    const unsigned score = scores.Of(name);
    if (score > scores.limit() || (best.size() == kShown && score >= best.back().first)) return;
    // Behind those that are as near, so that the earlier name stays first.
    const auto at = std::upper_bound(best.begin(), best.end(), score,
                                     [](unsigned value, const auto& entry) { return value < entry.first; });
    best.emplace(at, score, std::string(name));
    if (best.size() > kShown) best.pop_back();
  });
  std::vector<std::string> names;
  for (auto& [score, name] : best) names.push_back(std::move(name));
  return names;
}

std::string DidYouMeanByParts(std::string_view pattern, const ForEachName& for_each) {
  const std::vector<std::string> names = NearestByParts(pattern, for_each);
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    out += (i == 0 ? "; did you mean '" : i + 1 == names.size() ? " or '" : ", '") + names[i] + "'";
  }
  return out.empty() ? out : out + "?";
}

}  // namespace q4
