// Every SIMD backend against the scalar reference, bit for bit, on elements, scales and codes of the input's choice.
#include <algorithm>
#include <vector>

#include "tests/fuzz/fuzz_target.h"
#include "tests/kernels/kernel_testing.h"

namespace q4::fuzz {
namespace {

using testing::GuardedBytes;

struct Case {
  FloatType type;
  CodeBook book;
  std::uint32_t block_size;
  std::uint64_t misalignment;
  std::uint64_t n = 0;
  std::vector<std::uint8_t> elements = {};  // n of them
  std::vector<std::uint8_t> other = {};     // as many bytes as codes, and as scales, would take

  std::uint64_t blocks() const { return BlockCount(n, block_size); }
};

Case TakeCase(FuzzInput input) {
  Case c{testing::kTypes[input.Below(3)], testing::kBooks[input.Below(2)], 32u << input.Below(8), input.Below(16)};
  // Three parts of the elements, one part of what stands in for codes and scales.
  const auto elements = input.Take(input.remaining() / 4 * 3);
  c.n = elements.size() / FloatSize(c.type);
  c.elements.assign(elements.begin(), elements.end());
  const auto other = input.Rest();
  c.other.assign(other.begin(), other.end());
  c.other.resize(PackedBytes(c.n) + 4 * c.blocks());
  return c;
}

// What one backend makes of a case. Equal for all backends.
struct Outputs {
  explicit Outputs(const Case& c)
      : scales(4 * c.blocks()),
        codes(PackedBytes(c.n), c.misalignment),
        nested_codes(c.blocks(), c.misalignment),
        nested_scales(4 * GroupCount(c.blocks())),
        decoded_scales(4 * c.blocks()),
        sums(sizeof(GroupSums) * GroupCount(c.blocks())),
        stats(sizeof(SlabStats)) {
    for (const FloatType type : testing::kTypes) {
      dequantized.emplace_back(c.n * FloatSize(type), c.misalignment);
      converted.emplace_back(c.n * FloatSize(type), c.misalignment);
    }
  }

  std::uint64_t first_bad = 0;
  std::vector<std::uint64_t> overflows;
  GuardedBytes scales, codes, nested_codes, nested_scales, decoded_scales, sums, stats;
  std::vector<GuardedBytes> dequantized, converted;  // to each type
  bool operator==(const Outputs&) const = default;

  bool CanariesIntact() const {
    bool intact = true;
    for (const GuardedBytes* bytes : {&scales, &codes, &nested_codes, &nested_scales, &decoded_scales, &sums, &stats}) {
      intact = intact && bytes->CanariesIntact();
    }
    for (const auto* list : {&dequantized, &converted}) {
      for (const GuardedBytes& bytes : *list) intact = intact && bytes.CanariesIntact();
    }
    return intact;
  }
};

void Nest(const KernelTable& kernels, const Case& c, Outputs* out) {
  Sum256 sum;
  sum.Add({out->scales.as<float>(), c.blocks()});
  const float offset = c.blocks() == 0 ? 0.0f : NestedOffset(sum.total(), c.blocks());
  kernels.quantize_scales(out->scales.as<float>(), c.blocks(), offset, out->nested_codes.data(),
                          out->nested_scales.as<float>());
  kernels.dequantize_scales(out->nested_codes.data(), out->nested_scales.as<float>(), c.blocks(), offset,
                            out->decoded_scales.as<float>());
}

Outputs Run(const KernelTable& kernels, const Case& c) {
  Outputs out(c);
  GuardedBytes x(c.n * FloatSize(c.type), c.misalignment);
  std::copy_n(c.elements.begin(), x.size(), x.data());
  for (std::size_t i = 0; i < out.converted.size(); ++i) {
    out.overflows.push_back(kernels.convert(c.type, x.data(), c.n, testing::kTypes[i], out.converted[i].data()));
  }

  // Scales and codes that no encoder made: any bits.
  std::vector<float> scales(c.blocks());
  std::copy_n(c.other.begin(), 4 * scales.size(), reinterpret_cast<std::uint8_t*>(scales.data()));
  const std::uint8_t* codes = c.other.data() + 4 * scales.size();
  for (std::size_t i = 0; i < out.dequantized.size(); ++i) {
    kernels.dequantize(c.book, codes, scales.data(), c.n, c.block_size, testing::kTypes[i], out.dequantized[i].data());
  }

  out.first_bad = kernels.absmax(c.type, x.data(), c.n, c.block_size, out.scales.as<float>());
  const GuardedBytes absmax = out.scales;
  const std::uint64_t bad =
      kernels.quantize(c.type, c.book, x.data(), c.n, c.block_size, out.codes.data(), out.scales.as<float>());
  Q4_FUZZ_CHECK(bad == out.first_bad);
  if (bad != kAllFinite) {
    Q4_FUZZ_CHECK(out.CanariesIntact());
    // Unspecified beside an element that is not finite.
    out.scales = GuardedBytes(0);
    out.codes = GuardedBytes(0);
    return out;
  }
  Q4_FUZZ_CHECK(out.scales == absmax);
  Nest(kernels, c, &out);
  kernels.error_stats(c.type, c.book, x.data(), codes, scales.data(), c.n, c.block_size, out.sums.as<GroupSums>(),
                      out.stats.as<SlabStats>());
  return out;
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(kernels) {
  using namespace q4;
  const fuzz::Case c = fuzz::TakeCase(fuzz::FuzzInput(data, size));
  const fuzz::Outputs expected = fuzz::Run(ScalarKernels(), c);
  Q4_FUZZ_CHECK(expected.CanariesIntact());
  for (const KernelTable* backend : testing::SimdBackends()) {
    const fuzz::Outputs outputs = fuzz::Run(*backend, c);
    Q4_FUZZ_CHECK(outputs.CanariesIntact());
    Q4_FUZZ_CHECK(outputs == expected);
  }
  return 0;
}
