// The kernel tables and the choice among them. Each SIMD target's functions live in a namespace of that target's name.
//
// Highway compiles this file once for each target. Three parts follow: what all passes need, once; a table in each
// target's namespace; and, in one pass (HWY_ONCE), the scalar table, the list of tables and the choice. Highway's own
// dynamic dispatch is not used: tests and benchmarks need every table, by name, and not only the best one.
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dispatch.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/kernels.h"
#include "kernels/scalar_kernels.h"
#include "kernels/simd_kernels-inl.h"

// The part that is compiled once, before any target's table.
#ifndef Q4_KERNELS_DISPATCH_ONCE_
#define Q4_KERNELS_DISPATCH_ONCE_
namespace q4 {
namespace {

// The table of the target with this bit; null where none was compiled.
template <std::int64_t kTarget>
constexpr const KernelTable* kTableOf = nullptr;

}  // namespace
}  // namespace q4
#endif  // Q4_KERNELS_DISPATCH_ONCE_

#if Q4_IS_SIMD_TARGET
namespace q4::HWY_NAMESPACE {

#define Q4_STRING_OF(name) #name
#define Q4_EXPANDED_STRING_OF(name) Q4_STRING_OF(name)

// Constant-initialised, so that no code of this target runs before dispatch. The namespace is "N_" and the target's
// name.
constexpr KernelTable kTable = {
    .name = &Q4_EXPANDED_STRING_OF(HWY_NAMESPACE)[2],
    .absmax = Absmax,
    .quantize = Quantize,
    .search_scales = SearchScales,
    .codes_under = CodesUnder,
    .block_errors = BlockErrors,
    .dequantize = Dequantize,
    .quantize_scales = QuantizeScales,
    .dequantize_scales = scalar::DequantizeScales,  // a table look-up, a multiply and an add: memory sets its pace
    .error_stats = ErrorStats,
    .convert = Convert,
    .add_product = AddProduct,
    .add_products = AddProducts,
    .subtract_products = SubtractProducts,
    .feedback_panel = FeedbackPanel,
};

}  // namespace q4::HWY_NAMESPACE

namespace q4 {
namespace {

template <>
constexpr const KernelTable* kTableOf<HWY_TARGET> = &HWY_NAMESPACE::kTable;

}  // namespace
}  // namespace q4
#endif  // Q4_IS_SIMD_TARGET

#if HWY_ONCE
namespace q4 {
namespace {

// The reference, in the form of a backend.
constexpr KernelTable kScalarTable = {
    .name = "scalar",
    .absmax = scalar::Absmax,
    .quantize = scalar::Quantize,
    .search_scales = scalar::SearchScales,
    .codes_under = scalar::CodesUnder,
    .block_errors = scalar::BlockErrors,
    .dequantize = scalar::Dequantize,
    .quantize_scales = scalar::QuantizeScales,
    .dequantize_scales = scalar::DequantizeScales,
    .error_stats = scalar::ErrorStats,
    .convert = scalar::Convert,
    .add_product = scalar::AddProduct,
    .add_products = scalar::AddProducts,
    .subtract_products = scalar::SubtractProducts,
    .feedback_panel = scalar::FeedbackPanel,
};

// A target that was compiled in. `bit` is its HWY_* constant.
struct CompiledTarget {
  std::int64_t bit;
  const KernelTable* table;
};

// Every compiled table, slowest first: Highway gives better targets lower bits.
template <std::size_t... kBits>
std::vector<CompiledTarget> CompiledTargets(std::index_sequence<kBits...>) {
  std::vector<CompiledTarget> targets;
  // Tries every bit that a target could have; where kTableOf was not specialized there is nothing to add.
  const auto add = [&targets](std::int64_t bit, const KernelTable* table) {
    if (table != nullptr) targets.push_back({bit, table});
  };
  (add(std::int64_t{1} << (62 - kBits), kTableOf<std::int64_t{1} << (62 - kBits)>), ...);
  return targets;
}

std::vector<CompiledTarget> CompiledTargets() { return CompiledTargets(std::make_index_sequence<63>()); }

// An unknown or unsupported name in Q4_CPU_TARGET is ignored rather than reported: a library has nobody to tell.
const KernelTable& ChooseCpuKernels() {
  const char* forced = std::getenv("Q4_CPU_TARGET");
  if (forced != nullptr && std::string_view(forced) == kScalarTable.name) return kScalarTable;
  const std::vector<const KernelTable*> tables = SimdKernels();
  for (const KernelTable* table : tables) {
    if (forced != nullptr && std::string_view(forced) == table->name) return *table;
  }
  return tables.empty() ? kScalarTable : *tables.back();
}

}  // namespace

const KernelTable& ScalarKernels() { return kScalarTable; }

const KernelTable& BestCpuKernels() {
  // Chosen at the first call, by one thread while others wait; it never changes afterwards.
  static const KernelTable& chosen = ChooseCpuKernels();
  return chosen;
}

std::vector<const KernelTable*> SimdKernels() {
  std::vector<const KernelTable*> tables;
  const std::int64_t supported = hwy::SupportedTargets();
  for (const CompiledTarget& target : CompiledTargets()) {
    // Highway asks the CPU and the operating system, which must save the wide registers.
    if ((target.bit & supported) != 0) tables.push_back(target.table);
  }
  return tables;
}

std::vector<const char*> UnsupportedSimdTargets() {
  std::vector<const char*> names;
  const std::int64_t supported = hwy::SupportedTargets();
  for (const CompiledTarget& target : CompiledTargets()) {
    if ((target.bit & supported) == 0) names.push_back(target.table->name);
  }
  return names;
}

}  // namespace q4
#endif  // HWY_ONCE
