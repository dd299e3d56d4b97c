// Which shards a part converts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "libconvert/parts/part_number.h"

namespace q4 {

// Shards [first, second).
using ShardRange = std::pair<std::size_t, std::size_t>;

// Cuts the shards into `count` runs, by what each has to read (`bytes`, of source files), so that the largest run is as
// small as can be. With as many shards as parts or more, every part has one at least; else the last parts have none.
// Pure: every machine gets the same.
std::vector<ShardRange> AssignShards(std::span<const std::uint64_t> bytes, std::uint64_t count);

// A list of numbers as schedulers take them: "3,7-9". They are ascending.
std::string ArrayText(const std::vector<std::uint64_t>& numbers);

}  // namespace q4
