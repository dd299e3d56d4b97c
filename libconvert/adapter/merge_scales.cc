// PEFT asks re.match(r"(.*\.)?(KEY)$", module), key by key: the whole name or what follows one of its dots.
#include "libconvert/adapter/merge_scales.h"

#include "fmt/format.h"
#include "formats/adapter/adapter_issues.h"
#include "formats/base/status.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// Keys times modules: 4,000 of each.
constexpr std::uint64_t kMostMatches = std::uint64_t{1} << 24;
// An expression takes as long to compile as to ask it about so many names.
constexpr std::uint64_t kMatchesOfCompiling = 1024;

template <typename T>
absl::Status Compile(const std::vector<std::pair<std::string, T>>& keys, std::string_view member, std::size_t modules,
                     const std::string& path, std::vector<std::pair<NamePattern, T>>* patterns) {
  if (keys.size() * std::max<std::uint64_t>(modules, kMatchesOfCompiling) > kMostMatches) {
    return Fail(kAdapterMethod, path, member, fmt::format("{} expressions for {} modules", keys.size(), modules));
  }
  for (const auto& [key, number] : keys) {
    absl::StatusOr<NamePattern> pattern = NamePattern::Parse(fmt::format("^(.*\\.)?({})$", key), member);
    if (!pattern.ok()) {
      return Fail(kAdapterMethod, path, fmt::format("{}, '{}'", member, key),
                  "no expression of RE2; write out the names of the modules");
    }
    patterns->emplace_back(*std::move(pattern), number);
  }
  return absl::OkStatus();
}

template <typename T>
T FirstOf(const std::vector<std::pair<NamePattern, T>>& patterns, const std::string& module, T otherwise) {
  for (const auto& [pattern, number] : patterns) {
    if (pattern.Matches(module)) return number;
  }
  return otherwise;
}

}  // namespace

absl::StatusOr<MergeScales> MergeScales::Make(const AdapterConfig& config, std::size_t modules,
                                              const std::string& path) {
  MergeScales scales;
  scales.rank_ = config.rank;
  scales.alpha_ = config.alpha;
  Q4_RETURN_IF_ERROR(Compile(config.rank_pattern, "rank_pattern", modules, path, &scales.ranks_));
  Q4_RETURN_IF_ERROR(Compile(config.alpha_pattern, "alpha_pattern", modules, path, &scales.alphas_));
  return scales;
}

std::uint64_t MergeScales::RankOf(const std::string& module) const { return FirstOf(ranks_, module, rank_); }

double MergeScales::AlphaOf(const std::string& module) const { return FirstOf(alphas_, module, alpha_); }

}  // namespace q4
