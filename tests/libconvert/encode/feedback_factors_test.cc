#include "libconvert/encode/feedback_factors.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace q4 {
namespace {

// Tensors t0, t1, ... whose inputs are given by letters: "kokg" is k_proj, o_proj, q_proj, gate_proj.
struct Order {
  explicit Order(const std::string& letters) : tensors(letters.size()) {
    for (InputStatistics& input : inputs) input.columns = 128;
    for (std::size_t i = 0; i < letters.size(); ++i) {
      uses.push_back({&tensors[i], &inputs[static_cast<std::size_t>(letters[i] - 'a')]});
    }
  }
  InputStatistics& input(char letter) { return inputs[static_cast<std::size_t>(letter - 'a')]; }

  std::vector<SourceTensor> tensors;
  std::array<InputStatistics, 26> inputs{};
  std::vector<FeedbackUse> uses;
};

constexpr std::uint64_t kRoom = 1 << 30;

// Goes through all uses; how many factors had to be made.
int Made(Order& order, std::uint64_t room) {
  FeedbackFactors factors(order.uses, room);
  int made = 0;
  for (const FeedbackUse& use : order.uses) {
    factors.Begin(*use.tensor);
    for (std::uint64_t m = 0; m < use.input->matrices; ++m) {
      if (factors.Find(*use.input, m) != nullptr) continue;
      ++made;
      factors.Offer(*use.input, m, std::make_shared<FeedbackFactor>());
      CHECK(factors.held() <= factors.room());
    }
  }
  CHECK(factors.room() == room);
  return made;
}

TEST_CASE("a factor is made once for all tensors with its input, whatever lies between them") {
  Order order("kokkggd");
  CHECK(Made(order, kRoom) == 4);
  CHECK(Made(order, FeedbackFactors::RoomFor(order.uses)) == 4);
  CHECK(Made(order, 0) == 7);
}

TEST_CASE("the room that is asked for is what is held at once, and of inputs with several tensors alone") {
  const std::uint64_t one = FeedbackFactorBytes(128);
  CHECK(FeedbackFactors::RoomFor(Order("abcd").uses) == 0);
  CHECK(FeedbackFactors::RoomFor({}) == 0);
  CHECK(FeedbackFactors::RoomFor(Order("kokkggd").uses) == one);
  CHECK(FeedbackFactors::RoomFor(Order("abab").uses) == 2 * one);
  CHECK(FeedbackFactors::RoomFor(Order("abcabc").uses) == 3 * one);
}

TEST_CASE("what is wanted first is kept where there is no room for all") {
  const std::uint64_t one = FeedbackFactorBytes(128);
  Order order("abba");
  // The later one gives way, and is made again.
  CHECK(Made(order, one) == 3);
  Order far("abab");
  CHECK(Made(far, one) == 3);
  Order large("aab");
  large.input('a').columns = 256;
  CHECK(Made(large, one) == 3);
}

TEST_CASE("a factor of many columns does not drive out small ones in vain") {
  Order order("acbbac");
  order.input('c').columns = 1024;
  const std::uint64_t one = FeedbackFactorBytes(128);
  CHECK(Made(order, 2 * one) == 4);  // c twice
}

TEST_CASE("matrices of a stack never take turns in a room that is too small for all of them") {
  Order order("ee");
  order.input('e').matrices = 4;
  const std::uint64_t one = FeedbackFactorBytes(128);
  CHECK(FeedbackFactors::RoomFor(order.uses) == 4 * one);
  CHECK(Made(order, 4 * one) == 4);
  CHECK(Made(order, 2 * one) == 6);
}

TEST_CASE("work may begin in the middle, and what is over is dropped") {
  Order order("aabb");
  FeedbackFactors factors(order.uses, kRoom);
  factors.Begin(order.tensors[1]);
  factors.Offer(order.input('a'), 0, std::make_shared<FeedbackFactor>());
  CHECK(factors.held() == 0);
  factors.Begin(order.tensors[2]);
  factors.Offer(order.input('b'), 0, std::make_shared<FeedbackFactor>());
  CHECK(factors.held() == FeedbackFactorBytes(128));
  CHECK(factors.Find(order.input('b'), 0) != nullptr);
  factors.Begin(order.tensors[3]);
  CHECK(factors.Find(order.input('b'), 0) != nullptr);
}

}  // namespace
}  // namespace q4
