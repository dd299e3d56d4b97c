// The encoders mse and weighted on a GPU against the kernels of the cores, by memcmp (docs/numerics.md Q9, Q16, Q12.4).
// Those are held against the scalar reference by search_test.cc; small tensors are compared with the scalar kernels
// themselves.
#include <array>
#include <cmath>
#include <cstdio>
#include <string>

#include "kernels/cuda_kernels.h"
#include "tests/kernels/cuda_testing.h"

namespace q4::testing {
namespace {

struct MseCase {
  FloatType type;
  CodeBook book;
  std::uint32_t block_size;
  std::uint64_t n;
  int effort;
  // Of the encoder weighted: where features lie, without a pointer, and what they count. None: mse.
  ElementWeights place = {};
  std::vector<float> features = {};

  // The weights of all elements, for the cores.
  std::vector<float> Expanded() const {
    std::vector<float> weights(features.empty() ? 0 : n);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      weights[i] = features[FeatureOf(place, static_cast<std::uint32_t>(i))];
    }
    return weights;
  }
  std::uint64_t blocks() const { return BlockCount(n, block_size); }
  std::uint64_t groups() const { return GroupCount(blocks()); }
};

// Printed when the program ends.
struct MseTally {
  std::uint64_t comparisons = 0, differences = 0, negative = 0, rivals = 0;
  ~MseTally() {
    if (comparisons == 0) return;
    std::printf(
        "encoder mse: %llu comparisons with the cores, %llu differences; %llu negative scales, %llu blocks "
        "whose nested scale is that of absmax\n",
        static_cast<unsigned long long>(comparisons), static_cast<unsigned long long>(differences),
        static_cast<unsigned long long>(negative), static_cast<unsigned long long>(rivals));
  }
} mse_tally;

int MseDiffers(bool equal, const MseCase& c, const char* what) {
  ++mse_tally.comparisons;
  if (equal) return 0;
  if (++mse_tally.differences <= 20) {
    UNSCOPED_INFO(what << ": " << NameOf(c.type) << " " << NameOf(c.book) << " block " << c.block_size << " n " << c.n
                       << " effort " << c.effort);
  }
  return 1;
}

// What the cores make of a tensor: plain scales with their floors and codes, and nested ones.
struct OnCores {
  std::uint64_t first_bad;
  std::vector<float> scales, absmax, absmax2, decoded;
  std::vector<double> floors;
  std::vector<std::uint8_t> codes, scale_codes, nested_codes;
  std::vector<NestedLoss> losses;

  OnCores(const KernelTable& cores, const MseCase& c, const std::uint8_t* x)
      : scales(c.blocks()),
        absmax(c.blocks()),
        absmax2(c.groups()),
        decoded(c.blocks()),
        floors(c.blocks()),
        codes(PackedBytes(c.n)),
        scale_codes(c.blocks()),
        nested_codes(PackedBytes(c.n)),
        losses(c.groups()) {
    const std::vector<float> weights = c.Expanded();
    const float* const h = weights.empty() ? nullptr : weights.data();
    first_bad = cores.search_scales(c.type, c.book, x, h, c.n, c.block_size, c.effort, scales.data(), floors.data());
    if (first_bad != kAllFinite) return;
    cores.codes_under(c.type, c.book, x, c.n, c.block_size, scales.data(), codes.data());
    cores.absmax(c.type, x, c.n, c.block_size, absmax.data());
    Nest(cores, c, x, h);
    cores.dequantize_scales(scale_codes.data(), absmax2.data(), c.blocks(), 0, decoded.data());
    cores.codes_under(c.type, c.book, x, c.n, c.block_size, decoded.data(), nested_codes.data());
  }

 private:
  // Q9.8 and the sums of Q9.9, in this test's own words.
  void Nest(const KernelTable& cores, const MseCase& c, const std::uint8_t* x, const float* h) {
    cores.quantize_scales(scales.data(), c.blocks(), 0, scale_codes.data(), absmax2.data());
    std::vector<std::uint8_t> rivals(c.blocks());
    CodesUnderGroups(absmax.data(), c.blocks(), absmax2.data(), rivals.data());
    const auto errors_of = [&](const std::vector<std::uint8_t>& chosen) {
      std::vector<double> errors(c.blocks());
      cores.dequantize_scales(chosen.data(), absmax2.data(), c.blocks(), 0, decoded.data());
      cores.block_errors(c.type, c.book, x, h, c.n, c.block_size, decoded.data(), errors.data());
      return errors;
    };
    const std::vector<double> own = errors_of(scale_codes), other = errors_of(rivals);
    for (std::uint64_t k = 0; k < c.blocks(); ++k) {
      const bool takes_rival = other[k] < own[k];
      if (takes_rival) scale_codes[k] = rivals[k];
      NestedLoss& loss = losses[k / kScaleGroup];
      loss.error += takes_rival ? other[k] : own[k];
      loss.absmax_floor += floors[k];
      mse_tally.rivals += takes_rival;
      mse_tally.negative += scales[k] < 0;
    }
  }
};

// The same on the device.
int CompareMse(const KernelTable& cores, const MseCase& c, const std::vector<std::uint8_t>& host_x) {
  ArenaScope scope;
  const OnCores expected(cores, c, host_x.data());
  const DeviceBytes x(host_x.data(), host_x.size());
  DeviceBytes scales(4 * c.blocks()), absmax(4 * c.blocks()), floors(8 * c.blocks()), first_bad(8);
  DeviceBytes scale_codes(c.blocks()), absmax2(4 * c.groups()), losses(sizeof(NestedLoss) * c.groups()), zero(4);
  DeviceBytes codes(PackedBytes(c.n)), alone(4 * c.blocks());
  cuda::SearchScalesArgs args = {c.type,
                                 c.book,
                                 x.as<void>(),
                                 c.n,
                                 c.block_size,
                                 c.effort,
                                 scales.as<float>(),
                                 absmax.as<float>(),
                                 floors.as<double>(),
                                 first_bad.as<std::uint64_t>(),
                                 c.place};
  const DeviceBytes features(c.features.data(), 4 * c.features.size());
  if (!c.features.empty()) args.weights.features = features.as<float>();
  RequireOk(cuda::SearchScales(args, nullptr));
  int differing = MseDiffers(first_bad.Value<std::uint64_t>() == expected.first_bad, c, "first bad index");
  // Even then nothing is written elsewhere, and nothing fails.
  RequireOk(cuda::NestSearchedScales(
      {args, scale_codes.as<std::uint8_t>(), absmax2.as<float>(), losses.as<NestedLoss>(), zero.as<float>()}, nullptr));
  if (expected.first_bad != kAllFinite) {
    (void)scale_codes.Download();
    return differing;
  }
  differing += MseDiffers(scales.Holds(expected.scales.data()), c, "scales");
  differing += MseDiffers(absmax.Holds(expected.absmax.data()), c, "scales of absmax");
  differing += MseDiffers(floors.Holds(expected.floors.data()), c, "floors");
  differing += MseDiffers(scale_codes.Holds(expected.scale_codes.data()), c, "scale codes");
  differing += MseDiffers(absmax2.Holds(expected.absmax2.data()), c, "group scales");
  differing += MseDiffers(losses.Holds(expected.losses.data()), c, "losses");
  const auto codes_under = [&](const DeviceBytes& used, const std::vector<std::uint8_t>& wanted, const char* what) {
    RequireOk(cuda::CodesUnder(
        {c.type, c.book, x.as<void>(), c.n, c.block_size, used.as<float>(), codes.as<std::uint8_t>()}, nullptr));
    differing += MseDiffers(codes.Holds(wanted.data()), c, what);
  };
  codes_under(scales, expected.codes, "codes");
  codes_under(DeviceBytes(expected.decoded.data(), 4 * c.blocks()), expected.nested_codes, "codes, nested");
  // Without floors.
  args.scales = alone.as<float>();
  args.floors = nullptr;
  RequireOk(cuda::SearchScales(args, nullptr));
  differing += MseDiffers(alone.Holds(expected.scales.data()), c, "scales without floors");
  return differing;
}

std::vector<std::uint8_t> ElementsOf(const MseCase& c, Content content, Random* random) {
  std::vector<std::uint8_t> x(c.n * FloatSize(c.type));
  FillElements(c.type, content, c.block_size, c.n, random, x.data());
  return x;
}

Content MseContentAt(std::uint64_t i) { return static_cast<Content>(i % static_cast<std::uint64_t>(Content::kCount)); }

}  // namespace

TEST_CASE("mse: every size from 0 to 4097") {
  const std::uint32_t block_size = GENERATE(32u, 64u, 128u, 256u, 4096u);
  Random random(7000 + block_size);
  int differing = 0;
  for (std::uint64_t n = 0; n <= 4097; n += Reduced() ? 467 : 1) {
    const std::uint64_t turn = n + n / 42;
    // The exact sweep is slow on the cores: a few of the sizes.
    const int effort = n % 16 == 3 ? 3 : 1 + static_cast<int>(turn % 2);
    const MseCase c{kTypes[turn % 3], kBooks[turn / 3 % 2], block_size, n, effort};
    differing += CompareMse(BestCpuKernels(), c, ElementsOf(c, MseContentAt(turn), &random));
  }
  CHECK(differing == 0);
}

TEST_CASE("mse: every block size, type, code book, content and effort") {
  const std::uint32_t block_size = GENERATE(32u, 64u, 128u, 256u, 512u, 1024u, 2048u, 4096u);
  Random random(8000 + block_size);
  int differing = 0;
  std::uint64_t turn = 0;
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      for (int content = 0; content < static_cast<int>(Content::kCount); ++content) {
        for (int effort = kLeastEffort; effort <= kMostEffort; ++effort) {
          if (Reduced() && ++turn % 31 != 0) continue;
          const MseCase c{type, book, block_size, 3 * block_size + block_size / 2 + random.Below(40), effort};
          differing += CompareMse(ScalarKernels(), c, ElementsOf(c, static_cast<Content>(content), &random));
        }
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("mse: several groups of 256 blocks, and many warps") {
  const std::uint32_t block_size = GENERATE(32u, 64u, 128u, 256u, 512u, 4096u);
  Random random(9000 + block_size);
  int differing = 0;
  const std::uint64_t largest = Reduced() ? 20'000 : 3'000'000;
  for (std::uint64_t turn = 0; turn < (Reduced() ? 2 : 8); ++turn) {
    const std::uint64_t n = block_size * 260 + random.Below(largest) + turn % 2 * 3;
    const MseCase c{kTypes[turn % 3], kBooks[turn / 3 % 2], block_size, n, 1 + static_cast<int>(turn % 2)};
    differing +=
        CompareMse(BestCpuKernels(), c, ElementsOf(c, turn < 4 ? Content::kNormal : MseContentAt(turn), &random));
  }
  CHECK(differing == 0);
}

// Blocks whose largest magnitudes span the whole range of fp32, TINY and what is above 2^126, whose reciprocal is
// subnormal, included; and blocks of few equal values, to which absmax does no harm (Q9.9).
TEST_CASE("mse: largest magnitudes of every size, and blocks of few values") {
  Random random(10000);
  int differing = 0;
  for (const CodeBook book : kBooks) {
    for (const std::uint32_t block_size : {32u, 64u, 256u, 1024u}) {
      for (int kind = 0; kind < 3; ++kind) {
        const std::uint64_t blocks = Reduced() ? 12 : kind == 2 ? 300 : 277;
        const MseCase c{FloatType::kF32, book, block_size, blocks * block_size + 17, kind == 1 ? 3 : 2};
        std::vector<std::uint8_t> x(4 * c.n);
        for (std::uint64_t i = 0; i < c.n; ++i) {
          // 2^-149 to 2^127; few blocks take larger steps.
          const std::uint64_t k = i / block_size * (Reduced() ? 24 : 1);
          const float size = kind == 2 ? 0.02f : std::ldexp(1.0f, static_cast<int>(k % 277) - 149);
          float v = kind == 2 ? 0.02f * static_cast<float>(random.Below(3)) : size * random.Normal() * 0.3f;
          if (!IsFinite(v)) v = FloatOf(0x7F7FFFFF);
          StoreElement(c.type, x.data(), i, v);
        }
        differing += CompareMse(BestCpuKernels(), c, x);
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("mse: the first non-finite element is named, and nothing else happens") {
  Random random(11000);
  int differing = 0;
  for (const FloatType type : kTypes) {
    for (const std::uint32_t block_size : {32u, 64u, 4096u}) {
      for (int turn = 0; turn < (Reduced() ? 2 : 12); ++turn) {
        const MseCase c{type, kBooks[turn % 2], block_size, 2 * block_size + 19, 1 + turn % 3};
        std::vector<std::uint8_t> x = ElementsOf(c, Content::kNormal, &random);
        const std::uint32_t kinds[] = {0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000};
        for (int bad = 0; bad < 2; ++bad) StoreElement(type, x.data(), random.Below(c.n), FloatOf(kinds[turn % 4]));
        differing += CompareMse(BestCpuKernels(), c, x);
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("mse: codes under scales that no search chooses") {
  Random random(12000);
  const float strange[] = {0.0f, -0.0f, kTiny, -kTiny, 0x1p-149f, -0x1p-130f, FloatOf(0x7F7FFFFF), FloatOf(0xFF7FFFFF)};
  int differing = 0;
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      for (int content = 0; content < static_cast<int>(Content::kCount); ++content) {
        if (Reduced() && content % 3 != 0) continue;
        ArenaScope scope;
        const MseCase c{type, book, content % 2 == 0 ? 64u : 32u, 5000 + random.Below(99), 2};
        const std::vector<std::uint8_t> host_x = ElementsOf(c, static_cast<Content>(content), &random);
        std::vector<float> host_scales(c.blocks());
        for (float& s : host_scales) s = random.Below(2) == 0 ? strange[random.Below(8)] : random.FinitePattern();
        std::vector<std::uint8_t> expected(PackedBytes(c.n));
        ScalarKernels().codes_under(type, book, host_x.data(), c.n, c.block_size, host_scales.data(), expected.data());
        const DeviceBytes x(host_x.data(), host_x.size()), scales(host_scales.data(), 4 * host_scales.size());
        DeviceBytes codes(PackedBytes(c.n));
        RequireOk(cuda::CodesUnder(
            {type, book, x.as<void>(), c.n, c.block_size, scales.as<float>(), codes.as<std::uint8_t>()}, nullptr));
        differing += MseDiffers(codes.Holds(expected.data()), c, "codes under strange scales");
      }
    }
  }
  CHECK(differing == 0);
}

// Nested scales too: the offset is 0, so that a group needs nothing of the rest of the tensor.
TEST_CASE("mse: slabs of a tensor make what the whole tensor makes") {
  Random random(13000);
  const MseCase whole{FloatType::kBF16, CodeBook::kNf4, 64, 3 * 256 * 64 + 700, 2};
  const std::vector<std::uint8_t> x = ElementsOf(whole, Content::kNormal, &random);
  const OnCores expected(BestCpuKernels(), whole, x.data());
  const std::uint64_t cut = 256 * 64, cut_blocks = 256;
  int differing = 0;
  for (std::uint64_t slab = 0; slab < 4; ++slab) {
    MseCase c = whole;
    c.n = slab == 3 ? 700 : cut;
    const std::vector<std::uint8_t> part(x.begin() + static_cast<std::ptrdiff_t>(2 * slab * cut),
                                         x.begin() + static_cast<std::ptrdiff_t>(2 * (slab * cut + c.n)));
    differing += CompareMse(BestCpuKernels(), c, part);
    const OnCores alone(BestCpuKernels(), c, part.data());
    for (std::uint64_t k = 0; k < c.blocks(); ++k) {
      CHECK(BitsOf(alone.scales[k]) == BitsOf(expected.scales[slab * cut_blocks + k]));
      CHECK(alone.scale_codes[k] == expected.scale_codes[slab * cut_blocks + k]);
    }
  }
  CHECK(differing == 0);
}

// Columns and rows that do not end with blocks, stacks, weights stored as (in, out), slabs that begin anywhere;
// features that count alike, that spread as real ones do, and those of the least and the largest weight.
TEST_CASE("weighted: every block size, type, code book and effort, and every way that features lie") {
  const std::uint32_t block_size = GENERATE(32u, 64u, 128u, 256u, 512u, 4096u);
  Random random(14000 + block_size);
  int differing = 0;
  std::uint64_t turn = 0;
  for (const std::uint32_t columns : {1u, 7u, 61u, 64u, 100u, 768u, 5000u}) {
    for (const std::uint64_t rows : {std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{4096}}) {
      for (const bool transposed : {false, true}) {
        for (int effort = kLeastEffort; effort <= kMostEffort; ++effort, ++turn) {
          if (Reduced() && turn % 31 != 0) continue;
          const bool is_large = effort != kMostEffort && turn % 9 == 0 && !Reduced();
          MseCase c{kTypes[turn % 3], kBooks[turn / 3 % 2], block_size,
                    3 * block_size + block_size / 2 + random.Below(40) + (is_large ? 260 * block_size : 0), effort};
          c.place = {nullptr,   rows, columns, static_cast<std::uint32_t>(random.Below(columns)), random.Below(rows),
                     transposed};
          const std::uint64_t last = FeatureOf(c.place, static_cast<std::uint32_t>(c.n - 1));
          c.features.resize(transposed ? last + 1 : (last / columns + 1) * columns);
          for (float& h : c.features) {
            h = turn % 4 == 0   ? 1.0f
                : turn % 4 == 1 ? (random.Below(2) == 0 ? 0x1p-20f : 0x1p+48f)
                                : static_cast<float>(std::exp(static_cast<double>(random.Normal())));
          }
          differing += CompareMse(turn % 2 == 0 ? ScalarKernels() : BestCpuKernels(), c,
                                  ElementsOf(c, MseContentAt(turn / 2), &random));
        }
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("weighted: too many elements or columns are refused") {
  ArenaScope scope;
  DeviceBytes x(4096), scales(256), absmax(256), bad(8), features(4);
  cuda::SearchScalesArgs args = {FloatType::kBF16,
                                 CodeBook::kNf4,
                                 x.as<void>(),
                                 1024,
                                 64,
                                 2,
                                 scales.as<float>(),
                                 absmax.as<float>(),
                                 nullptr,
                                 bad.as<std::uint64_t>(),
                                 {features.as<float>(), 1, 1, 0, 0, true}};
  args.weights.columns = static_cast<std::uint32_t>(kMostWeightedColumns + 1);
  CHECK_FALSE(cuda::SearchScales(args, nullptr).ok());
  args.weights.columns = 0;
  CHECK_FALSE(cuda::SearchScales(args, nullptr).ok());
  args.weights.columns = 1;
  args.n = kMostWeightedElems + 64;
  CHECK_FALSE(cuda::SearchScales(args, nullptr).ok());
}

TEST_CASE("mse: what is misaligned, missing or no block size is refused") {
  ArenaScope scope;
  DeviceBytes x(4096), codes(512), scales(256), absmax(256), floors(512), bad(8), zero(4), losses(64);
  const cuda::SearchScalesArgs good = {FloatType::kBF16,
                                       CodeBook::kNf4,
                                       x.as<void>(),
                                       1024,
                                       64,
                                       2,
                                       scales.as<float>(),
                                       absmax.as<float>(),
                                       floors.as<double>(),
                                       bad.as<std::uint64_t>(),
                                       {}};
  RequireOk(cuda::Fill(x.as<void>(), 0, 4096, nullptr));
  CHECK(cuda::SearchScales(good, nullptr).ok());
  const auto refused = [&](auto change) {
    cuda::SearchScalesArgs args = good;
    change(args);
    return !cuda::SearchScales(args, nullptr).ok();
  };
  CHECK(refused([](cuda::SearchScalesArgs& args) { args.block_size = 48; }));
  CHECK(refused([](cuda::SearchScalesArgs& args) { args.block_size = 8192; }));
  CHECK(refused([](cuda::SearchScalesArgs& args) { args.effort = 0; }));
  CHECK(refused([](cuda::SearchScalesArgs& args) { args.effort = 4; }));
  CHECK(refused([](cuda::SearchScalesArgs& args) { args.absmax = nullptr; }));
  CHECK(refused([](cuda::SearchScalesArgs& args) { args.first_bad = nullptr; }));
  CHECK(refused([](cuda::SearchScalesArgs& args) { args.x = static_cast<const std::uint8_t*>(args.x) + 2; }));
  CHECK(refused([](cuda::SearchScalesArgs& args) { ++args.scales; }));
  cuda::NestSearchedArgs nest = {good, codes.as<std::uint8_t>(), scales.as<float>(), losses.as<NestedLoss>(),
                                 zero.as<float>()};
  nest.searched.floors = nullptr;
  CHECK_FALSE(cuda::NestSearchedScales(nest, nullptr).ok());
  nest = {good, codes.as<std::uint8_t>() + 1, scales.as<float>(), losses.as<NestedLoss>(), zero.as<float>()};
  CHECK_FALSE(cuda::NestSearchedScales(nest, nullptr).ok());
  cuda::CodesUnderArgs under = {FloatType::kBF16,   CodeBook::kNf4,          x.as<void>(), 1024, 64,
                                scales.as<float>(), codes.as<std::uint8_t>()};
  under.block_size = 16;
  CHECK_FALSE(cuda::CodesUnder(under, nullptr).ok());
  under.block_size = 64;
  under.codes += 1;
  CHECK_FALSE(cuda::CodesUnder(under, nullptr).ok());
}

}  // namespace q4::testing
