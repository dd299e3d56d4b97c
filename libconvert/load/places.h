// Where each part of a plan lies in the memory that a caller gives. Internal to libconvert/load/.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/load/fill.h"

namespace q4 {

// The place of one of LoadPlan::parts.
struct PartPlace {
  std::uint8_t* data = nullptr;  // null without bytes
  // The block, whose bytes between parts may be written; -1 where the part has memory of its own.
  std::int64_t region = -1;
  bool mapped = false;
};

// One place for each of plan.parts. kLoadPlace (exit code 1) unless `places` are as fill.h wants them.
absl::StatusOr<std::vector<PartPlace>> PlacesOfParts(const LoadPlan& plan, const LoadPlaces& places);

}  // namespace q4
