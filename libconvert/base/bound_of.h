// What a run may hold, and what has to be given as --max-memory so that it may: more where sources on servers have a
// share of the bound.
#pragma once

#include <cstdint>
#include <functional>

namespace q4 {

// From what the work may hold to what is given, in bytes. An empty one says the same number.
using BoundOf = std::function<std::uint64_t(std::uint64_t)>;

inline std::uint64_t GivenBound(const BoundOf& bound_of, std::uint64_t bytes) {
  return bound_of ? bound_of(bytes) : bytes;
}

}  // namespace q4
