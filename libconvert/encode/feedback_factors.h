// Factors of Hessians (docs/numerics.md Q17.4) that several tensors have in common: query, key and value of a layer
// have one input, and so have gate and up. A factor takes columns^3 / 6 products, as many as the codes of columns / 21
// rows, so it counts where tensors have few rows; it is kept from one tensor to the next, as far as there is room for
// it. What is kept changes no bit: a factor follows from its Hessian.
//
// Tensors are worked on in an order that is known beforehand, so that it is known of each factor whether it is wanted
// again and when. What is wanted first is kept first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "formats/calibration/calibration.h"
#include "formats/tensor/source_tensor.h"
#include "kernels/feedback.h"

namespace q4 {

// A tensor whose codes ChooseFeedbackCodes() will choose.
struct FeedbackUse {
  const SourceTensor* tensor = nullptr;
  const InputStatistics* input = nullptr;
};

// For one thread at a time.
class FeedbackFactors {
 public:
  // `uses`: in the order of work; they and what they point to outlive this. `room`: bytes that kept factors may take
  // together; 0 keeps none.
  FeedbackFactors(std::vector<FeedbackUse> uses, std::uint64_t room);

  // The room with which no factor is made twice.
  static std::uint64_t RoomFor(const std::vector<FeedbackUse>& uses);

  // Work goes on to this tensor, which is one of the uses; those before it are over, done or not. What nobody wants any
  // more is dropped.
  void Begin(const SourceTensor& tensor);
  // That of a matrix, if it is kept; else nullptr.
  std::shared_ptr<const FeedbackFactor> Find(const InputStatistics& input, std::uint64_t matrix) const;
  // Keeps one that was made for the tensor at hand, if it is wanted again and there is room: beside those that are
  // wanted before it, and in place of others.
  void Offer(const InputStatistics& input, std::uint64_t matrix, std::shared_ptr<const FeedbackFactor> factor);

  // Bytes of those that are kept, and the most that they may become.
  std::uint64_t held() const { return held_; }
  std::uint64_t room() const { return room_; }

 private:
  using Key = std::pair<const InputStatistics*, std::uint64_t>;
  // The number of the first use of `input` from `first` on; the number of all uses if there is none.
  std::size_t NextUse(const InputStatistics* input, std::size_t first) const;
  void Drop(std::map<Key, std::shared_ptr<const FeedbackFactor>>::iterator kept);

  const std::vector<FeedbackUse> uses_;
  const std::uint64_t room_;
  std::map<const SourceTensor*, std::size_t> number_;                  // of a use
  std::map<const InputStatistics*, std::vector<std::size_t>> wanted_;  // by input, numbers of uses in order
  std::size_t at_hand_ = 0;
  std::uint64_t held_ = 0;
  std::map<Key, std::shared_ptr<const FeedbackFactor>> kept_;
};

}  // namespace q4
