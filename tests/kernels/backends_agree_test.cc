// Every SIMD backend against the scalar reference, by memcmp: never a tolerance. numerics.md Q12.4.
#include <array>
#include <cstdio>
#include <string>

#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {
namespace {

// Printed when the program ends.
struct Tally {
  std::uint64_t blocks = 0, differences = 0;
  ~Tally() {
    if (blocks == 0) return;
    std::printf("backends_agree: %zu targets, %.1f M blocks, %llu differences\n", SimdBackends().size(),
                static_cast<double>(blocks) * 1e-6, static_cast<unsigned long long>(differences));
  }
} tally;

struct Case {
  FloatType type;
  CodeBook book;
  std::uint32_t block_size;
  std::uint64_t n;
  Content content;
  std::uint64_t misalignment;

  std::uint64_t blocks() const { return BlockCount(n, block_size); }
};

bool Differs(bool equal, const Case& c, const KernelTable& backend, const char* what) {
  if (equal) return false;
  if (++tally.differences > 20) return true;  // enough said
  UNSCOPED_INFO(backend.name << " " << what << ": " << NameOf(c.type) << " " << NameOf(c.book) << " block "
                             << c.block_size << " n " << c.n << " content " << static_cast<int>(c.content)
                             << " misalignment " << c.misalignment);
  return true;
}

// One backend's outputs for one case.
struct Outputs {
  explicit Outputs(const Case& c)
      : codes(PackedBytes(c.n), c.misalignment), scales(4 * c.blocks()), absmax(4 * c.blocks()) {}

  GuardedBytes codes, scales, absmax;
  bool operator==(const Outputs&) const = default;
};

// Quantizes with every backend; returns the scalar result. Counts what differs into *differing.
Outputs CompareQuantize(const Case& c, const GuardedBytes& x, int* differing) {
  const auto run = [&](const KernelTable& backend) {
    Outputs out(c);
    const std::uint64_t a = backend.absmax(c.type, x.data(), c.n, c.block_size, out.absmax.as<float>());
    const std::uint64_t b =
        backend.quantize(c.type, c.book, x.data(), c.n, c.block_size, out.codes.data(), out.scales.as<float>());
    const bool intact = out.codes.CanariesIntact() && out.scales.CanariesIntact() && out.absmax.CanariesIntact();
    *differing +=
        Differs(a == kAllFinite && b == kAllFinite && intact && out.scales == out.absmax, c, backend, "contract");
    return out;
  };
  Outputs expected = run(ScalarKernels());
  for (const KernelTable* backend : SimdBackends()) {
    tally.blocks += c.blocks();
    *differing += Differs(run(*backend) == expected, c, *backend, "quantize");
  }
  return expected;
}

int CompareDequantize(const Case& c, const std::uint8_t* codes, const float* scales, FloatType out_type) {
  int differing = 0;
  GuardedBytes expected(c.n * FloatSize(out_type), c.misalignment);
  ScalarKernels().dequantize(c.book, codes, scales, c.n, c.block_size, out_type, expected.data());
  for (const KernelTable* backend : SimdBackends()) {
    GuardedBytes out(expected.size(), c.misalignment);
    backend->dequantize(c.book, codes, scales, c.n, c.block_size, out_type, out.data());
    tally.blocks += c.blocks();
    differing += Differs(out == expected && out.CanariesIntact(), c, *backend, "dequantize");
  }
  return differing;
}

int CompareErrorStats(const Case& c, const GuardedBytes& x, const std::uint8_t* codes, const float* scales) {
  int differing = 0;
  const std::uint64_t group_bytes = GroupCount(c.blocks()) * sizeof(GroupSums);
  GuardedBytes expected_groups(group_bytes);
  SlabStats expected;
  ScalarKernels().error_stats(c.type, c.book, x.data(), codes, scales, c.n, c.block_size,
                              expected_groups.as<GroupSums>(), &expected);
  for (const KernelTable* backend : SimdBackends()) {
    GuardedBytes groups(group_bytes);
    SlabStats stats;
    backend->error_stats(c.type, c.book, x.data(), codes, scales, c.n, c.block_size, groups.as<GroupSums>(), &stats);
    tally.blocks += c.blocks();
    differing += Differs(groups == expected_groups && groups.CanariesIntact(), c, *backend, "error sums");
    differing += Differs(std::memcmp(&stats, &expected, sizeof(stats)) == 0, c, *backend, "error statistics");
  }
  return differing;
}

int CompareNested(const Case& c, const float* scales, float offset, std::vector<float>* decoded) {
  int differing = 0;
  const std::uint64_t blocks = c.blocks();
  struct Nested {
    GuardedBytes codes, absmax2, decoded;
    bool operator==(const Nested&) const = default;
  };
  const auto run = [&](const KernelTable& backend) {
    Nested out{GuardedBytes(blocks, c.misalignment), GuardedBytes(4 * GroupCount(blocks)), GuardedBytes(4 * blocks)};
    backend.quantize_scales(scales, blocks, offset, out.codes.data(), out.absmax2.as<float>());
    backend.dequantize_scales(out.codes.data(), out.absmax2.as<float>(), blocks, offset, out.decoded.as<float>());
    const bool intact = out.codes.CanariesIntact() && out.absmax2.CanariesIntact() && out.decoded.CanariesIntact();
    differing += Differs(intact, c, backend, "canary");
    return out;
  };
  Nested expected = run(ScalarKernels());
  for (const KernelTable* backend : SimdBackends()) {
    tally.blocks += blocks;
    differing += Differs(run(*backend) == expected, c, *backend, "nested scales");
  }
  decoded->assign(expected.decoded.as<float>(), expected.decoded.as<float>() + blocks);
  return differing;
}

// Everything that can be done with one input.
int CompareAll(const Case& c, Random* random) {
  int differing = 0;
  GuardedBytes x(c.n * FloatSize(c.type), c.misalignment);
  FillElements(c.type, c.content, c.block_size, c.n, random, x.data());
  Outputs quantized = CompareQuantize(c, x, &differing);
  const float* scales = quantized.scales.as<float>();
  std::vector<float> own(scales, scales + c.blocks());

  Sum256 sum;
  sum.Add(own);
  const float offset = c.blocks() == 0 ? 0.0f : NestedOffset(sum.total(), c.blocks());
  std::vector<float> nested;
  differing += CompareNested(c, own.data(), offset, &nested);

  std::vector<float> strange = own;  // signs, zeros, magnitudes the encoder would not give
  for (float& s : strange) {
    switch (random->Below(5)) {
      case 0:
        s = -s;
        break;
      case 1:
        s *= static_cast<float>(random->Uniform());
        break;
      case 2:
        s = random->FinitePattern();
        break;
      case 3:
        s *= 1 + 0.05f * random->Normal();
        break;
      default:
        s = random->Below(4) == 0 ? 0.0f : 0x1p-127f;
        break;
    }
  }
  std::vector<float> repeated(c.blocks(), c.blocks() == 0 ? 0.0f : own[0]);

  for (const auto& candidate : {own, nested, strange, repeated}) {
    differing += CompareErrorStats(c, x, quantized.codes.data(), candidate.data());
    for (const FloatType out_type : kTypes) {
      differing += CompareDequantize(c, quantized.codes.data(), candidate.data(), out_type);
    }
  }

  std::vector<std::uint8_t> wrong_codes(PackedBytes(c.n));  // a few, or all
  const bool all_wrong = random->Below(2) == 0;
  for (std::uint64_t i = 0; i < wrong_codes.size(); ++i) {
    wrong_codes[i] = quantized.codes.data()[i];
    if (all_wrong || random->Below(50) == 0) wrong_codes[i] = static_cast<std::uint8_t>(random->Bits());
  }
  differing += CompareErrorStats(c, x, wrong_codes.data(), own.data());
  differing += CompareErrorStats(c, x, wrong_codes.data(), strange.data());
  return differing;
}

Content ContentAt(std::uint64_t i) { return static_cast<Content>(i % static_cast<std::uint64_t>(Content::kCount)); }

}  // namespace

TEST_CASE("every size from 0 to 4097") {
  const std::uint32_t block_size = GENERATE(32u, 64u, 4096u);
  Random random(block_size);
  int differing = 0;
  for (std::uint64_t n = 0; n <= 4097; ++n) {
    const std::uint64_t turn = n + n / 42;  // decouples the choices from one another and from n's remainders
    const Case c{kTypes[turn % 3], kBooks[turn / 3 % 2], block_size, n, ContentAt(turn), n % 17};
    GuardedBytes x(n * FloatSize(c.type), c.misalignment);
    FillElements(c.type, c.content, c.block_size, n, &random, x.data());
    Outputs quantized = CompareQuantize(c, x, &differing);
    differing += CompareDequantize(c, quantized.codes.data(), quantized.scales.as<float>(), kTypes[turn / 7 % 3]);
    if (n % 8 == 1) differing += CompareErrorStats(c, x, quantized.codes.data(), quantized.scales.as<float>());
  }
  CHECK(differing == 0);
}

TEST_CASE("every block size, type, code book and content at telling sizes") {
  const std::uint32_t block_size = GENERATE(32u, 64u, 128u, 256u, 512u, 1024u, 2048u, 4096u);
  Random random(1000 + block_size);
  int differing = 0;
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      for (int content = 0; content < static_cast<int>(Content::kCount); ++content) {
        for (const std::uint64_t n :
             {std::uint64_t{1}, std::uint64_t{block_size} - 1, std::uint64_t{block_size},
              std::uint64_t{2} * block_size + 7, std::uint64_t{5} * block_size + block_size / 2}) {
          differing +=
              CompareAll({type, book, block_size, n, static_cast<Content>(content), random.Below(16)}, &random);
        }
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("several groups of 256 blocks") {
  const std::uint32_t block_size = GENERATE(32u, 64u);
  Random random(2000 + block_size);
  int differing = 0;
  for (std::uint64_t turn = 0; turn < 14; ++turn) {
    const std::uint64_t n = block_size * (kScaleGroup + random.Below(600)) + random.Below(2) * random.Below(block_size);
    differing += CompareAll({kTypes[turn % 3], kBooks[turn % 2], block_size, n, ContentAt(turn), turn % 5}, &random);
  }
  CHECK(differing == 0);
}

TEST_CASE("results larger than caches, which are written past them") {
  struct Large {
    FloatType out_type;
    CodeBook book;
    std::uint32_t block_size;
    std::uint64_t misalignment;
  };
  const Large large =
      GENERATE(Large{FloatType::kF32, CodeBook::kNf4, 64, 0}, Large{FloatType::kF32, CodeBook::kFp4, 32, 0},
               Large{FloatType::kF16, CodeBook::kFp4, 64, 0}, Large{FloatType::kF16, CodeBook::kNf4, 32, 0},
               Large{FloatType::kBF16, CodeBook::kNf4, 4096, 0}, Large{FloatType::kBF16, CodeBook::kFp4, 32, 0},
               Large{FloatType::kBF16, CodeBook::kFp4, 64, 32}, Large{FloatType::kF32, CodeBook::kNf4, 128, 4});
  // 16 MiB, three blocks more and a part of one.
  const std::uint64_t n = (std::uint64_t{16} << 20) / FloatSize(large.out_type) + 3 * large.block_size + 7;
  const Case c{large.out_type, large.book, large.block_size, n, Content::kNormal, large.misalignment};
  Random random(7000 + n);
  std::vector<std::uint8_t> codes(PackedBytes(n));
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.Bits() >> 32);
  std::vector<float> scales(c.blocks());
  for (float& scale : scales) scale = random.Below(8) == 0 ? random.FinitePattern() : 0.05f * random.Normal();
  CHECK(CompareDequantize(c, codes.data(), scales.data(), large.out_type) == 0);
}

TEST_CASE("the first non-finite element is named, whatever follows it") {
  Random random(3000);
  int differing = 0;
  for (const FloatType type : kTypes) {
    for (const std::uint32_t block_size : {32u, 128u}) {
      const std::uint64_t n = 2 * block_size + 19;
      for (std::uint64_t bad = 0; bad < n; ++bad) {
        const Case c{type, CodeBook::kNf4, block_size, n, Content::kNormal, bad % 3};
        GuardedBytes x(n * FloatSize(type), c.misalignment);
        FillElements(type, c.content, block_size, n, &random, x.data());
        const std::uint32_t kinds[] = {0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000};
        StoreElement(type, x.data(), bad, FloatOf(kinds[bad % 4]));
        if (bad % 2 == 0) StoreElement(type, x.data(), bad + random.Below(n - bad), FloatOf(kinds[(bad + 1) % 4]));
        for (const KernelTable* backend : AllBackends()) {
          Outputs out(c);
          const auto a = backend->absmax(type, x.data(), n, block_size, out.absmax.as<float>());
          const auto b =
              backend->quantize(type, c.book, x.data(), n, block_size, out.codes.data(), out.scales.as<float>());
          const bool intact = out.codes.CanariesIntact() && out.scales.CanariesIntact() && out.absmax.CanariesIntact();
          differing += Differs(a == bad && b == bad && intact, c, *backend, "index of the first non-finite element");
        }
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("infinite and NaN scales give the same statistics everywhere") {
  Random random(4000);
  int differing = 0;
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      const Case c{type, book, 64, 64 * 9 + 5, Content::kNormal, 1};
      GuardedBytes x(c.n * FloatSize(type), c.misalignment);
      FillElements(type, c.content, c.block_size, c.n, &random, x.data());
      Outputs quantized = CompareQuantize(c, x, &differing);
      float* scales = quantized.scales.as<float>();
      scales[2] = FloatOf(kF32Infinity);
      scales[5] = FloatOf(kF32Infinity | kF32SignBit);
      differing += CompareErrorStats(c, x, quantized.codes.data(), scales);
      for (const FloatType out_type : kTypes)
        differing += CompareDequantize(c, quantized.codes.data(), scales, out_type);
      scales[7] = FloatOf(0x7FC00001);
      scales[9] = FloatOf(kF32Infinity);
      differing += CompareErrorStats(c, x, quantized.codes.data(), scales);
      for (const FloatType out_type : kTypes)
        differing += CompareDequantize(c, quantized.codes.data(), scales, out_type);
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("nested scales: zero groups, one value, wide ranges, every count") {
  Random random(5000);
  int differing = 0;
  for (std::uint64_t blocks = 0; blocks <= 1030; ++blocks) {
    const Case c{FloatType::kF32, CodeBook::kNf4, 32, blocks * 32, Content::kNormal, blocks % 7};
    std::vector<float> scales(blocks), decoded;
    const std::uint64_t kind = blocks % 6;
    for (float& s : scales) {
      s = kind == 0   ? 0.0f
          : kind == 1 ? 0.25f
          : kind == 2 ? std::fabs(random.FinitePattern())
          : kind == 3 ? 0x1p-140f * static_cast<float>(random.Below(9))
                      : 0.02f * std::fabs(random.Normal());
    }
    float offset = kind == 1 ? 0.25f : kind == 5 ? 0.0f : 0.016f;
    if (kind == 0) offset = 0;
    differing += CompareNested(c, scales.data(), offset, &decoded);
  }
  CHECK(differing == 0);
}

TEST_CASE("conversions") {
  Random random(6000);
  for (const FloatType in_type : kTypes) {
    for (const FloatType out_type : kTypes) {
      for (std::uint64_t n = 0; n < 200; ++n) {
        const std::uint64_t size = n == 199 ? 100'003 : n;
        GuardedBytes x(size * FloatSize(in_type), n % 5), expected(size * FloatSize(out_type), n % 3);
        for (std::uint64_t i = 0; i < x.size(); ++i)
          x.data()[i] = static_cast<std::uint8_t>(random.Bits());  // NaNs too
        const std::uint64_t overflows = ScalarKernels().convert(in_type, x.data(), size, out_type, expected.data());
        for (const KernelTable* backend : SimdBackends()) {
          GuardedBytes out(expected.size(), n % 3);
          INFO(backend->name << " " << NameOf(in_type) << " to " << NameOf(out_type) << " n " << size);
          CHECK(backend->convert(in_type, x.data(), size, out_type, out.data()) == overflows);
          CHECK(out == expected);
          CHECK(out.CanariesIntact());
        }
      }
    }
  }
}

}  // namespace q4::testing
