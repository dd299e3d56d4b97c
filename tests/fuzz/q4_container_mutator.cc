// The input of q4_container_fuzz.cc: the index changes as an index does and the size in front of it follows.
#include "tests/fuzz/q4_index_mutation.h"

namespace q4::fuzz {
namespace {

constexpr std::size_t kSizeBytes = 2;
constexpr std::size_t kPrefixBytes = kSizeBytes + 64;  // and the header's fields
constexpr std::size_t kMostIndexBytes = 0xFFFF;

MutableBytes MutateContainer(std::span<const std::uint8_t> input, std::size_t max_size, unsigned seed) {
  if (input.size() < kPrefixBytes || seed % 4 == 0) return MutatePlainly(input, max_size);
  const std::span<const std::uint8_t> behind = input.subspan(kPrefixBytes);
  const std::size_t index_bytes = std::min<std::size_t>(input[0] + 256u * input[1], behind.size());
  const auto stored = behind.subspan(index_bytes);
  const std::size_t most = std::min(max_size - kPrefixBytes - stored.size(), kMostIndexBytes);
  const MutableBytes index = MutateQ4Index(behind.first(index_bytes), most, seed / 4);
  ByteWriter out;
  out.U8(static_cast<std::uint8_t>(index.size() & 0xFF));
  out.U8(static_cast<std::uint8_t>(index.size() >> 8));
  out.Bytes(input.subspan(kSizeBytes, kPrefixBytes - kSizeBytes));
  out.Bytes(index);
  out.Bytes(stored);
  return out.size() <= max_size ? out.Take() : MutatePlainly(input, max_size);
}

}  // namespace
}  // namespace q4::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed) {
  const q4::fuzz::MutableBytes out = q4::fuzz::MutateContainer({data, size}, max_size, seed);
  std::copy(out.begin(), out.end(), data);
  return out.size();
}
