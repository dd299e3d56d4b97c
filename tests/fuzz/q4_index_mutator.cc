#include "tests/fuzz/q4_index_mutation.h"

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed) {
  const q4::fuzz::MutableBytes out = q4::fuzz::MutateQ4Index({data, size}, max_size, seed);
  std::copy(out.begin(), out.end(), data);
  return out.size();
}
