#include "libconvert/load/places.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "libconvert/load/load_issues.h"

namespace q4 {
namespace {

// What kernels want of the addresses that they are given.
constexpr std::uintptr_t kPlaceAlignment = 16;

std::uintptr_t AddressOf(std::span<const std::uint8_t> place) { return reinterpret_cast<std::uintptr_t>(place.data()); }

// `name` of a number is for messages.
template <typename BytesOf, typename Name>
absl::Status CheckPlaces(const LoadPlan& plan, std::span<const std::span<std::uint8_t>> places, std::size_t expected,
                         std::string_view what, const BytesOf& bytes_of, const Name& name) {
  if (places.size() != expected) {
    return Fail(kLoadPlace, plan.model->path(), what,
                GotExpected(fmt::to_string(places.size()), fmt::format("{}, one for each", expected)));
  }
  std::vector<std::pair<std::uintptr_t, std::size_t>> by_address;
  for (std::size_t i = 0; i < expected; ++i) {
    const std::uint64_t bytes = bytes_of(i);
    if (bytes == 0) continue;
    if (places[i].size() < bytes) {
      return Fail(kLoadPlace, plan.model->path(), name(i),
                  GotExpected(fmt::format("{} bytes", places[i].size()), fmt::format("{} bytes", bytes)));
    }
    if (places[i].data() == nullptr || AddressOf(places[i]) % kPlaceAlignment != 0) {
      return Fail(kLoadPlace, plan.model->path(), name(i),
                  GotExpected(fmt::format("address {:#x}", AddressOf(places[i])),
                              fmt::format("a multiple of {} other than 0", kPlaceAlignment)));
    }
    by_address.emplace_back(AddressOf(places[i]), i);
  }
  std::sort(by_address.begin(), by_address.end());
  for (std::size_t i = 1; i < by_address.size(); ++i) {
    const auto [before, number] = by_address[i - 1];
    if (by_address[i].first - before < bytes_of(number)) {
      return Fail(kLoadPlace, plan.model->path(), name(by_address[i].second),
                  fmt::format("its memory overlaps that of {}", name(number)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<PartPlace>> PlacesOfParts(const LoadPlan& plan, const LoadPlaces& places) {
  const auto name = [&](std::size_t i) {
    const LoadPart& part = plan.parts[i];
    return fmt::format("tensor '{}', {}", plan.tensors[part.tensor].entry->name, LoadPartName(part.kind));
  };
  std::vector<PartPlace> result(plan.parts.size());
  if (!places.parts.empty()) {
    Q4_RETURN_IF_ERROR(CheckPlaces(
        plan, places.parts, plan.parts.size(), "places of parts", [&](std::size_t i) { return plan.parts[i].bytes; },
        name));
    if (!places.mapped.empty() && places.mapped.size() != result.size()) {
      return Fail(kLoadPlace, plan.model->path(), "mapped parts",
                  GotExpected(fmt::to_string(places.mapped.size()), fmt::format("{}, one for each", result.size())));
    }
    for (std::size_t i = 0; i < result.size(); ++i) {
      if (plan.parts[i].bytes == 0) continue;
      const bool mapped = !places.mapped.empty() && places.mapped[i];
      if (mapped && !StoredPlaceOf(plan, i)) {
        return Fail(kLoadPlace, plan.model->path(), name(i), "it is not stored as it is loaded, and cannot be mapped");
      }
      result[i] = {places.parts[i].data(), -1, mapped};
    }
    return result;
  }
  Q4_RETURN_IF_ERROR(CheckPlaces(
      plan, places.blocks, plan.blocks.size(), "places of blocks", [&](std::size_t i) { return plan.blocks[i]; },
      [](std::size_t i) { return fmt::format("block {}", i); }));
  for (std::size_t i = 0; i < result.size(); ++i) {
    const LoadPart& part = plan.parts[i];
    if (part.bytes == 0) continue;
    result[i] = {places.blocks[part.block].data() + part.offset, static_cast<std::int64_t>(part.block)};
  }
  return result;
}

}  // namespace q4
