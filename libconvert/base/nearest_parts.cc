// A word of the pattern is compared once with each different part that any name has: a model has thousands of names and
// a few hundred parts. The score of a name is then the mean over the words of the distance to its nearest part.
#include "libconvert/base/nearest_parts.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <map>
#include <utility>

#include "libconvert/base/nearest.h"

namespace q4 {
namespace {

constexpr std::size_t kWords = 8, kWordBytes = 48, kParts = 4096, kShown = 3;
// Of 1000: half of the letters are others.
constexpr unsigned kNear = 500;

bool IsWordCharacter(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-'; }

// A run of letters and digits that stands for itself, and the alternative ("a|b" has two) that it belongs to.
struct Word {
  std::string text;
  std::size_t alternative = 0;
};

// "layers\.0\.mlp" has three.
std::vector<Word> WordsOf(std::string_view pattern) {
  std::vector<Word> words(1);
  for (std::size_t i = 0; i < pattern.size() && words.size() <= kWords; ++i) {
    Word& last = words.back();
    if (IsWordCharacter(pattern[i])) {
      if (last.text.size() < kWordBytes) last.text += pattern[i];
      continue;
    }
    const std::size_t alternative = last.alternative + (pattern[i] == '|');
    if (last.text.empty()) {
      last.alternative = alternative;
    } else {
      words.push_back({{}, alternative});
    }
    i += pattern[i] == '\\';  // \d, \b, \.: none is a letter of a name
  }
  if (words.back().text.empty() || words.size() > kWords) words.pop_back();
  return words;
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
  explicit Scores(std::vector<Word> words) : words_(std::move(words)) {}

  // The mean over the words of the alternative that is nearest; the smaller the nearer.
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
    unsigned least = 1000;
    for (std::size_t i = 0, j = 0; i < words_.size(); i = j) {
      unsigned sum = 0;
      for (; j < words_.size() && words_[j].alternative == words_[i].alternative; ++j) sum += best[j];
      least = std::min(least, sum / static_cast<unsigned>(j - i));
    }
    return least;
  }

 private:
  const std::array<unsigned, kWords>& OfPart(std::string_view part) {
    if (part.size() > kWordBytes) return unlike_;
    const auto known = parts_.find(part);
    if (known != parts_.end()) return known->second;
    if (parts_.size() == kParts) return unlike_;
    std::array<unsigned, kWords> scores = unlike_;
    for (std::size_t i = 0; i < words_.size(); ++i) scores[i] = Unlikeness(words_[i].text, part);
    return parts_.emplace(part, scores).first->second;
  }

  std::vector<Word> words_;
  std::map<std::string, std::array<unsigned, kWords>, std::less<>> parts_;
  std::array<unsigned, kWords> unlike_ = [] {
    std::array<unsigned, kWords> all;
    all.fill(1000);
    return all;
  }();
};

}  // namespace

std::vector<std::string> NearestByParts(std::string_view pattern, const ForEachName& for_each) {
  std::vector<Word> words = WordsOf(pattern);
  if (words.empty()) return {};
  Scores scores(std::move(words));
  std::vector<std::pair<unsigned, std::string>> best;
  for_each([&](std::string_view name) {
    const unsigned score = scores.Of(name);
    if (score > kNear || (best.size() == kShown && score >= best.back().first)) return;
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
