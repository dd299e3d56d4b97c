#include "libconvert/encode/feedback_factors.h"

#include <algorithm>

namespace q4 {

FeedbackFactors::FeedbackFactors(std::vector<FeedbackUse> uses, std::uint64_t room)
    : uses_(std::move(uses)), room_(room) {
  for (std::size_t i = 0; i < uses_.size(); ++i) {
    number_.emplace(uses_[i].tensor, i);
    wanted_[uses_[i].input].push_back(i);
  }
}

std::uint64_t FeedbackFactors::RoomFor(const std::vector<FeedbackUse>& uses) {
  struct Span {
    std::size_t first, last;
  };
  std::map<const InputStatistics*, Span> spans;
  for (std::size_t i = 0; i < uses.size(); ++i) spans.emplace(uses[i].input, Span{i, i}).first->second.last = i;
  // From its first use to its last one a factor is there.
  std::uint64_t held = 0, most = 0;
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const Span& span = spans.at(uses[i].input);
    const std::uint64_t bytes = uses[i].input->matrices * FeedbackFactorBytes(uses[i].input->columns);
    if (span.first == i && span.last != i) held += bytes;
    most = std::max(most, held);
    if (span.last == i && span.first != i) held -= bytes;
  }
  return most;
}

std::size_t FeedbackFactors::NextUse(const InputStatistics* input, std::size_t first) const {
  const auto found = wanted_.find(input);
  if (found == wanted_.end()) return uses_.size();
  const auto next = std::lower_bound(found->second.begin(), found->second.end(), first);
  return next == found->second.end() ? uses_.size() : *next;
}

void FeedbackFactors::Drop(std::map<Key, std::shared_ptr<const FeedbackFactor>>::iterator kept) {
  held_ -= FeedbackFactorBytes(kept->first.first->columns);
  kept_.erase(kept);
}

void FeedbackFactors::Begin(const SourceTensor& tensor) {
  at_hand_ = number_.at(&tensor);
  for (auto kept = kept_.begin(); kept != kept_.end();) {
    const auto each = kept++;
    if (NextUse(each->first.first, at_hand_) == uses_.size()) Drop(each);
  }
}

std::shared_ptr<const FeedbackFactor> FeedbackFactors::Find(const InputStatistics& input, std::uint64_t matrix) const {
  const auto kept = kept_.find({&input, matrix});
  return kept == kept_.end() ? nullptr : kept->second;
}

void FeedbackFactors::Offer(const InputStatistics& input, std::uint64_t matrix,
                            std::shared_ptr<const FeedbackFactor> factor) {
  const std::size_t next = NextUse(&input, at_hand_ + 1);
  const std::uint64_t bytes = FeedbackFactorBytes(input.columns);
  if (next == uses_.size() || bytes > room_ || kept_.contains({&input, matrix})) return;
  // Those wanted later give way, the last one first; none of them unless that is enough. Matrices of the stack at hand
  // count as wanted now, so that they never take turns.
  std::vector<std::pair<std::size_t, Key>> later;
  for (const auto& [key, kept] : kept_) {
    if (const std::size_t use = NextUse(key.first, at_hand_); use > next) later.emplace_back(use, key);
  }
  std::sort(later.rbegin(), later.rend());
  std::uint64_t left = held_;
  std::size_t gone = 0;
  while (left + bytes > room_ && gone < later.size()) left -= FeedbackFactorBytes(later[gone++].second.first->columns);
  if (left + bytes > room_) return;
  for (std::size_t i = 0; i < gone; ++i) Drop(kept_.find(later[i].second));
  kept_.emplace(Key{&input, matrix}, std::move(factor));
  held_ += bytes;
}

}  // namespace q4
