// The CUDA kernels against the scalar reference, by memcmp: never a tolerance. numerics.md Q12.4.
#include "kernels/cuda_kernels.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <string>

#include "kernels/scalar_kernels.h"
#include "tests/kernels/cuda_testing.h"

namespace q4::testing {
namespace {

// Printed when the program ends.
struct Tally {
  std::uint64_t comparisons = 0, differences = 0;
  ~Tally() {
    if (comparisons == 0) return;
    std::printf("cuda_kernels: %llu comparisons with the scalar reference, %llu differences\n",
                static_cast<unsigned long long>(comparisons), static_cast<unsigned long long>(differences));
  }
} tally;

struct Case {
  FloatType type;
  CodeBook book;
  std::uint32_t block_size;
  std::uint64_t n;
  Content content;

  std::uint64_t blocks() const { return BlockCount(n, block_size); }
  std::uint64_t groups() const { return GroupCount(blocks()); }
};

int Differs(bool equal, const Case& c, const char* what) {
  ++tally.comparisons;
  if (equal) return 0;
  if (++tally.differences <= 20) {
    UNSCOPED_INFO(what << ": " << NameOf(c.type) << " " << NameOf(c.book) << " block " << c.block_size << " n " << c.n
                       << " content " << static_cast<int>(c.content));
  }
  return 1;
}

std::vector<std::uint8_t> Elements(const Case& c, Random* random) {
  std::vector<std::uint8_t> x(c.n * FloatSize(c.type));
  FillElements(c.type, c.content, c.block_size, c.n, random, x.data());
  return x;
}

// The reference's output for one tensor.
struct Expected {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::uint64_t first_bad;

  Expected(const Case& c, const std::vector<std::uint8_t>& x) : codes(PackedBytes(c.n)), scales(c.blocks()) {
    first_bad = scalar::Quantize(c.type, c.book, x.data(), c.n, c.block_size, codes.data(), scales.data());
  }
};

struct ExpectedStats {
  std::vector<GroupSums> groups;
  SlabStats stats;

  ExpectedStats(const Case& c, const std::vector<std::uint8_t>& x, const std::uint8_t* codes, const float* scales)
      : groups(c.groups()) {
    scalar::ErrorStats(c.type, c.book, x.data(), codes, scales, c.n, c.block_size, groups.data(), &stats);
  }
};

int CompareQuantize(const Case& c, const DeviceBytes& x, const Expected& expected) {
  DeviceBytes codes(PackedBytes(c.n)), scales(4 * c.blocks()), absmax(4 * c.blocks()), first_bad(8), absmax_bad(8);
  cuda::QuantizeArgs args = {c.type,
                             c.book,
                             x.as<void>(),
                             c.n,
                             c.block_size,
                             codes.as<std::uint8_t>(),
                             scales.as<float>(),
                             first_bad.as<std::uint64_t>()};
  RequireOk(cuda::Quantize(args, nullptr));
  args.codes = nullptr;
  args.scales = absmax.as<float>();
  args.first_bad = absmax_bad.as<std::uint64_t>();
  RequireOk(cuda::Quantize(args, nullptr));
  int differing = Differs(first_bad.Value<std::uint64_t>() == expected.first_bad, c, "first bad index");
  differing += Differs(absmax_bad.Value<std::uint64_t>() == expected.first_bad, c, "first bad index of absmax");
  if (expected.first_bad != kAllFinite) return differing;
  differing += Differs(codes.Holds(expected.codes.data()), c, "codes");
  differing += Differs(scales.Holds(expected.scales.data()), c, "scales");
  differing += Differs(absmax.Holds(expected.scales.data()), c, "scales alone");
  return differing;
}

int CompareDequantize(const Case& c, const DeviceBytes& codes, const DeviceBytes& scales,
                      const std::uint8_t* host_codes, const float* host_scales, FloatType out_type) {
  std::vector<std::uint8_t> expected(c.n * FloatSize(out_type));
  scalar::Dequantize(c.book, host_codes, host_scales, c.n, c.block_size, out_type, expected.data());
  DeviceBytes out(expected.size());
  RequireOk(cuda::Dequantize(
      {c.book, codes.as<std::uint8_t>(), scales.as<float>(), {}, c.n, c.block_size, out_type, out.as<void>()},
      nullptr));
  return Differs(out.Holds(expected.data()), c, "dequantized");
}

int CompareStats(const Case& c, const std::vector<std::uint8_t>& host_x, const DeviceBytes& x,
                 const std::uint8_t* host_codes, const float* host_scales) {
  const ExpectedStats expected(c, host_x, host_codes, host_scales);
  const DeviceBytes codes(host_codes, PackedBytes(c.n)), scales(host_scales, 4 * c.blocks());
  DeviceBytes groups(sizeof(GroupSums) * c.groups()), stats(sizeof(SlabStats)), workspace(cuda::ErrorStatsWorkspace());
  RequireOk(cuda::ErrorStats({c.type, c.book, x.as<void>(), codes.as<std::uint8_t>(), scales.as<float>(), c.n,
                              c.block_size, groups.as<GroupSums>(), stats.as<SlabStats>(), workspace.as<void>()},
                             nullptr));
  int differing = Differs(groups.Holds(expected.groups.data()), c, "group sums");
  differing += Differs(stats.Holds(&expected.stats), c, "statistics");
  return differing;
}

int CompareQuantizeWithStats(const Case& c, const std::vector<std::uint8_t>& host_x, const DeviceBytes& x,
                             const Expected& expected) {
  const ExpectedStats expected_stats(c, host_x, expected.codes.data(), expected.scales.data());
  DeviceBytes codes(PackedBytes(c.n)), scales(4 * c.blocks()), first_bad(8);
  DeviceBytes groups(sizeof(GroupSums) * c.groups()), stats(sizeof(SlabStats)), workspace(cuda::ErrorStatsWorkspace());
  RequireOk(cuda::QuantizeWithStats({{c.type, c.book, x.as<void>(), c.n, c.block_size, codes.as<std::uint8_t>(),
                                      scales.as<float>(), first_bad.as<std::uint64_t>()},
                                     groups.as<GroupSums>(),
                                     stats.as<SlabStats>(),
                                     workspace.as<void>()},
                                    nullptr));
  int differing = Differs(first_bad.Value<std::uint64_t>() == kAllFinite, c, "first bad index, with statistics");
  differing += Differs(codes.Holds(expected.codes.data()), c, "codes, with statistics");
  differing += Differs(scales.Holds(expected.scales.data()), c, "scales, with statistics");
  differing += Differs(groups.Holds(expected_stats.groups.data()), c, "group sums in the pass");
  differing += Differs(stats.Holds(&expected_stats.stats), c, "statistics in the pass");
  return differing;
}

// Nested scales from given scales, all steps; the decoded scales in *decoded.
int CompareNested(const Case& c, const DeviceBytes& codes, const std::uint8_t* host_codes,
                  const std::vector<float>& host_scales, std::vector<float>* decoded) {
  const std::uint64_t blocks = host_scales.size(), groups = GroupCount(blocks);
  Sum256 sum256;
  sum256.Add(host_scales);
  const float host_offset = NestedOffset(sum256.total(), blocks);
  std::vector<std::uint8_t> expected_codes(blocks);
  std::vector<float> expected_absmax2(groups);
  decoded->resize(blocks);
  scalar::QuantizeScales(host_scales.data(), blocks, host_offset, expected_codes.data(), expected_absmax2.data());
  scalar::DequantizeScales(expected_codes.data(), expected_absmax2.data(), blocks, host_offset, decoded->data());

  const DeviceBytes scales(host_scales.data(), 4 * blocks);
  DeviceBytes sum(sizeof(cuda::ScaleSum)), offset(4), workspace(cuda::SumScalesWorkspace(blocks));
  RequireOk(cuda::Fill(sum.as<void>(), 0, sizeof(cuda::ScaleSum), nullptr));
  RequireOk(cuda::SumScales(
      {scales.as<float>(), blocks, sum.as<cuda::ScaleSum>(), offset.as<float>(), blocks, workspace.as<void>()},
      nullptr));
  int differing = Differs(BitsOf(offset.Value<float>()) == BitsOf(host_offset), c, "offset");
  const double total = sum.Value<cuda::ScaleSum>().total, host_total = sum256.total();
  differing += Differs(std::memcmp(&total, &host_total, sizeof(total)) == 0, c, "scale sum");

  DeviceBytes scale_codes(blocks), absmax2(4 * groups), decoded_scales(4 * blocks);
  RequireOk(cuda::QuantizeScales(
      {scales.as<float>(), blocks, offset.as<float>(), scale_codes.as<std::uint8_t>(), absmax2.as<float>()}, nullptr));
  differing += Differs(scale_codes.Holds(expected_codes.data()), c, "scale codes");
  differing += Differs(absmax2.Holds(expected_absmax2.data()), c, "absmax2");
  const cuda::NestedScales nested = {scale_codes.as<std::uint8_t>(), absmax2.as<float>(), offset.as<float>()};
  RequireOk(cuda::DequantizeScales({nested, blocks, decoded_scales.as<float>()}, nullptr));
  differing += Differs(decoded_scales.Holds(decoded->data()), c, "decoded scales");

  for (const FloatType out_type : kTypes) {
    std::vector<std::uint8_t> expected(c.n * FloatSize(out_type));
    scalar::Dequantize(c.book, host_codes, decoded->data(), c.n, c.block_size, out_type, expected.data());
    DeviceBytes out(expected.size());
    RequireOk(cuda::Dequantize(
        {c.book, codes.as<std::uint8_t>(), nullptr, nested, c.n, c.block_size, out_type, out.as<void>()}, nullptr));
    differing += Differs(out.Holds(expected.data()), c, "dequantized from nested scales");
  }
  return differing;
}

int CompareAll(const Case& c, Random* random) {
  ArenaScope scope;
  const std::vector<std::uint8_t> host_x = Elements(c, random);
  const DeviceBytes x(host_x.data(), host_x.size());
  const Expected expected(c, host_x);
  int differing = CompareQuantize(c, x, expected);
  differing += CompareStats(c, host_x, x, expected.codes.data(), expected.scales.data());
  differing += CompareQuantizeWithStats(c, host_x, x, expected);

  const DeviceBytes codes(expected.codes.data(), expected.codes.size());
  const DeviceBytes scales(expected.scales.data(), 4 * expected.scales.size());
  for (const FloatType out_type : kTypes) {
    differing += CompareDequantize(c, codes, scales, expected.codes.data(), expected.scales.data(), out_type);
  }
  std::vector<float> decoded;
  differing += CompareNested(c, codes, expected.codes.data(), expected.scales, &decoded);
  differing += CompareStats(c, host_x, x, expected.codes.data(), decoded.data());

  // Codes and scales that no encoder makes: clipping, tiny and negative scales.
  std::vector<std::uint8_t> strange_codes(expected.codes.size());
  for (std::uint8_t& byte : strange_codes) byte = static_cast<std::uint8_t>(random->Bits());
  if (c.n % 2 != 0) strange_codes.back() &= 0xF0;
  std::vector<float> strange_scales = expected.scales;
  for (float& s : strange_scales) {
    const std::uint64_t kind = random->Below(8);
    s = kind == 0 ? 0.0f : kind == 1 ? 0x1p-140f : kind == 2 ? -s : s * static_cast<float>(0.5 + random->Uniform());
  }
  differing += CompareStats(c, host_x, x, strange_codes.data(), expected.scales.data());
  differing += CompareStats(c, host_x, x, expected.codes.data(), strange_scales.data());

  // Scales as a search makes them, of either sign, with codes chosen under them.
  std::vector<float> searched_scales = expected.scales;
  for (float& s : searched_scales)
    s *= static_cast<float>(0.7 + 0.6 * random->Uniform()) * (random->Below(2) == 0 ? -1.0f : 1.0f);
  BestCpuKernels().codes_under(c.type, c.book, host_x.data(), c.n, c.block_size, searched_scales.data(),
                               strange_codes.data());
  differing += CompareStats(c, host_x, x, strange_codes.data(), searched_scales.data());
  return differing;
}

Content ContentAt(std::uint64_t i) { return static_cast<Content>(i % static_cast<std::uint64_t>(Content::kCount)); }

}  // namespace

TEST_CASE("every size from 0 to 4097") {
  const std::uint32_t block_size = GENERATE(32u, 64u, 4096u);
  Random random(block_size);
  int differing = 0;
  for (std::uint64_t n = 0; n <= 4097; n += Reduced() ? 151 : 1) {
    ArenaScope scope;
    const std::uint64_t turn = n + n / 42;  // decouples the choices from one another and from n's remainders
    const Case c{kTypes[turn % 3], kBooks[turn / 3 % 2], block_size, n, ContentAt(turn)};
    const std::vector<std::uint8_t> host_x = Elements(c, &random);
    const DeviceBytes x(host_x.data(), host_x.size());
    const Expected expected(c, host_x);
    differing += CompareQuantize(c, x, expected);
    const DeviceBytes codes(expected.codes.data(), expected.codes.size());
    const DeviceBytes scales(expected.scales.data(), 4 * expected.scales.size());
    differing +=
        CompareDequantize(c, codes, scales, expected.codes.data(), expected.scales.data(), kTypes[turn / 7 % 3]);
    if (n % 4 == 1) differing += CompareQuantizeWithStats(c, host_x, x, expected);
    if (n % 4 == 3) differing += CompareStats(c, host_x, x, expected.codes.data(), expected.scales.data());
  }
  CHECK(differing == 0);
}

TEST_CASE("every block size, type, code book and content at telling sizes") {
  const std::uint32_t block_size = GENERATE(32u, 64u, 128u, 256u, 512u, 1024u, 2048u, 4096u);
  Random random(1000 + block_size);
  int differing = 0;
  std::uint64_t turn = 0;
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      for (int content = 0; content < static_cast<int>(Content::kCount); ++content) {
        const std::uint64_t sizes[] = {1,
                                       std::uint64_t{block_size} - 1,
                                       block_size,
                                       std::uint64_t{2} * block_size + 7,
                                       std::uint64_t{5} * block_size + block_size / 2,
                                       std::uint64_t{33} * block_size + 5};
        for (const std::uint64_t n : sizes) {
          if (Reduced() && ++turn % 17 != 0) continue;
          differing += CompareAll({type, book, block_size, n, static_cast<Content>(content)}, &random);
        }
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("several groups of 256 blocks, and many warps") {
  const std::uint32_t block_size = GENERATE(32u, 64u, 128u, 256u, 512u, 1024u, 2048u, 4096u);
  Random random(2000 + block_size);
  int differing = 0;
  const std::uint64_t largest = Reduced() ? 100'000 : 3'000'000;
  for (std::uint64_t turn = 0; turn < (Reduced() ? 3 : 14); ++turn) {
    const std::uint64_t n = block_size * 16 + random.Below(largest) + turn % 2 * 3;
    differing += CompareAll({kTypes[turn % 3], kBooks[turn / 3 % 2], block_size, n, ContentAt(turn)}, &random);
  }
  CHECK(differing == 0);
}

TEST_CASE("the first non-finite element is named, whatever follows it") {
  Random random(3000);
  int differing = 0;
  for (const FloatType type : kTypes) {
    for (const std::uint32_t block_size : {32u, 128u, 4096u}) {
      const std::uint64_t n = 2 * block_size + 19;
      for (std::uint64_t bad = 0; bad < n; bad += Reduced() ? 1 + n / 5 : 1 + n / 300) {
        ArenaScope scope;
        const Case c{type, CodeBook::kNf4, block_size, n, Content::kNormal};
        std::vector<std::uint8_t> host_x = Elements(c, &random);
        const std::uint32_t kinds[] = {0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000};
        StoreElement(type, host_x.data(), bad, FloatOf(kinds[bad % 4]));
        if (bad % 2 == 0) StoreElement(type, host_x.data(), bad + random.Below(n - bad), FloatOf(kinds[(bad + 1) % 4]));
        const DeviceBytes x(host_x.data(), host_x.size());
        differing += CompareQuantize(c, x, Expected(c, host_x));

        DeviceBytes codes(PackedBytes(n)), scales(4 * c.blocks()), first_bad(8);
        DeviceBytes groups(sizeof(GroupSums) * c.groups()), stats(sizeof(SlabStats)),
            workspace(cuda::ErrorStatsWorkspace());
        RequireOk(cuda::Fill(codes.as<void>(), 0, PackedBytes(n), nullptr));
        RequireOk(cuda::Fill(scales.as<void>(), 0, 4 * c.blocks(), nullptr));
        RequireOk(cuda::QuantizeWithStats({{type, c.book, x.as<void>(), n, block_size, codes.as<std::uint8_t>(),
                                            scales.as<float>(), first_bad.as<std::uint64_t>()},
                                           groups.as<GroupSums>(),
                                           stats.as<SlabStats>(),
                                           workspace.as<void>()},
                                          nullptr));
        differing += Differs(first_bad.Value<std::uint64_t>() == bad, c, "first bad index, with statistics");
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("infinite and NaN scales") {
  Random random(4000);
  int differing = 0;
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      ArenaScope scope;
      const Case c{type, book, 64, 64 * 29 + 5, Content::kNormal};
      const std::vector<std::uint8_t> host_x = Elements(c, &random);
      const DeviceBytes x(host_x.data(), host_x.size());
      Expected expected(c, host_x);
      expected.scales[2] = FloatOf(kF32Infinity);
      expected.scales[5] = FloatOf(kF32Infinity | kF32SignBit);
      for (int round = 0; round < 2; ++round) {
        const DeviceBytes codes(expected.codes.data(), expected.codes.size());
        const DeviceBytes scales(expected.scales.data(), 4 * expected.scales.size());
        differing += CompareStats(c, host_x, x, expected.codes.data(), expected.scales.data());
        for (const FloatType out_type : kTypes) {
          differing += CompareDequantize(c, codes, scales, expected.codes.data(), expected.scales.data(), out_type);
        }
        expected.scales[7] = FloatOf(0x7FC00001);
        expected.scales[29] = FloatOf(kF32Infinity);  // the tail block
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("the sum of the scales, in any order and one by one") {
  Random random(5000);
  int differing = 0, fallbacks = 0, sums = 0;
  for (const std::uint64_t blocks : {std::uint64_t{1}, std::uint64_t{255}, std::uint64_t{256}, std::uint64_t{257},
                                     std::uint64_t{70'001}, std::uint64_t{1'300'003}}) {
    if (Reduced() && blocks > 100'000) continue;
    for (int kind = 0; kind < 6; ++kind) {
      ArenaScope scope;
      const Case c{FloatType::kF32, CodeBook::kNf4, 32, blocks * 32, Content::kNormal};
      std::vector<float> host_scales(blocks);
      for (float& s : host_scales) {
        s = kind == 0   ? 0.0f
            : kind == 1 ? RoundTo(FloatType::kBF16, 0.02f * std::fabs(random.Normal()))
            : kind == 2 ? 0.02f + 0.01f * static_cast<float>(random.Uniform())
            : kind == 3 ? std::fabs(random.FinitePattern())
            : kind == 4 ? 0x1p-140f * static_cast<float>(random.Below(9))
                        : std::fabs(random.Normal()) * (random.Below(3) == 0 ? 0x1p-40f : 1.0f);
      }
      // In three slabs, which carry the sum.
      const std::uint64_t cut1 = blocks / 3 / 256 * 256, cut2 = blocks / 2 / 256 * 256;
      const std::uint64_t begins[] = {0, cut1, cut2}, ends[] = {cut1, cut2, blocks};
      Sum256 expected;
      expected.Add(host_scales);
      const DeviceBytes scales(host_scales.data(), 4 * blocks);
      DeviceBytes sum(sizeof(cuda::ScaleSum)), offset(4), workspace(cuda::SumScalesWorkspace(blocks));
      RequireOk(cuda::Fill(sum.as<void>(), 0, sizeof(cuda::ScaleSum), nullptr));
      for (int slab = 0; slab < 3; ++slab) {
        RequireOk(
            cuda::SumScales({scales.as<float>() + begins[slab], ends[slab] - begins[slab], sum.as<cuda::ScaleSum>(),
                             slab == 2 ? offset.as<float>() : nullptr, blocks, workspace.as<void>()},
                            nullptr));
      }
      const auto result = sum.Value<cuda::ScaleSum>();
      const double expected_total = expected.total();
      differing += Differs(std::memcmp(&result.total, &expected_total, sizeof(double)) == 0, c, "scale sum");
      differing += Differs(BitsOf(offset.Value<float>()) == BitsOf(NestedOffset(expected_total, blocks)), c, "offset");
      INFO("kind " << kind << " blocks " << blocks);
      if (kind <= 2 || kind == 4) CHECK(result.used_fallback == 0);
      if (kind == 3 && blocks > 300) CHECK(result.used_fallback == 1);
      fallbacks += result.used_fallback;
      ++sums;
    }
  }
  CHECK(differing == 0);
  CHECK(fallbacks > 0);
  std::printf("scale sums: %d, of which one by one: %d\n", sums, fallbacks);
}

TEST_CASE("nested scales: zero groups, one value, wide ranges") {
  Random random(6000);
  int differing = 0;
  for (std::uint64_t blocks = 1; blocks <= 1030; blocks += Reduced() ? 97 : 1) {
    ArenaScope scope;
    const Case c{FloatType::kF32, CodeBook::kNf4, 32, 0, Content::kNormal};
    std::vector<float> scales(blocks), decoded;
    const std::uint64_t kind = blocks % 5;
    for (float& s : scales) {
      s = kind == 0   ? 0.0f
          : kind == 1 ? 0.25f
          : kind == 2 ? std::fabs(random.FinitePattern())
          : kind == 3 ? 0x1p-140f * static_cast<float>(random.Below(9))
                      : 0.02f * std::fabs(random.Normal());
    }
    const DeviceBytes no_codes(0);
    differing += CompareNested(c, no_codes, nullptr, scales, &decoded);
  }
  CHECK(differing == 0);
}

TEST_CASE("what is misaligned or no block size is refused") {
  ArenaScope scope;
  DeviceBytes x(4096), codes(512), scales(256), bad(8), groups(4096), stats(sizeof(SlabStats)),
      workspace(cuda::ErrorStatsWorkspace());
  cuda::QuantizeArgs args = {FloatType::kBF16,         CodeBook::kNf4,     x.as<void>(),           1024, 64,
                             codes.as<std::uint8_t>(), scales.as<float>(), bad.as<std::uint64_t>()};
  CHECK(cuda::Quantize(args, nullptr).ok());
  for (const std::uint32_t block_size : {0u, 16u, 48u, 8192u}) {
    args.block_size = block_size;
    CHECK_FALSE(cuda::Quantize(args, nullptr).ok());
    CHECK_FALSE(
        cuda::QuantizeWithStats({args, groups.as<GroupSums>(), stats.as<SlabStats>(), workspace.as<void>()}, nullptr)
            .ok());
  }
  args.block_size = 64;
  args.x = x.as<std::uint8_t>() + 2;
  CHECK_FALSE(cuda::Quantize(args, nullptr).ok());
  args.x = x.as<void>();
  args.codes = codes.as<std::uint8_t>() + 1;
  CHECK_FALSE(cuda::Quantize(args, nullptr).ok());
  CHECK_FALSE(cuda::Dequantize({CodeBook::kNf4,
                                codes.as<std::uint8_t>(),
                                scales.as<float>(),
                                {},
                                64,
                                64,
                                FloatType::kBF16,
                                x.as<std::uint8_t>() + 4},
                               nullptr)
                  .ok());
  RequireOk(cuda::Synchronize(nullptr));
}

}  // namespace q4::testing
