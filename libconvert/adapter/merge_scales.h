// rank_pattern and alpha_pattern of an adapter. Internal to this wing.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/adapter/adapter_config.h"
#include "libconvert/base/name_pattern.h"

namespace q4 {

// Immutable.
class MergeScales {
 public:
  // `path`: of the configuration. `modules`: how many will be asked about. Errors: kAdapterMethod for an expression
  // that Python compiles and RE2 does not, or for more work than anybody means.
  static absl::StatusOr<MergeScales> Make(const AdapterConfig& config, std::size_t modules, const std::string& path);

  std::uint64_t RankOf(const std::string& module) const;
  double AlphaOf(const std::string& module) const;

 private:
  template <typename T>
  using Patterns = std::vector<std::pair<NamePattern, T>>;

  std::uint64_t rank_ = 0;
  double alpha_ = 0;
  Patterns<std::uint64_t> ranks_;
  Patterns<double> alphas_;
};

}  // namespace q4
