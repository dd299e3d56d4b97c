#include "libconvert/verify/code_facts.h"

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "libconvert/judge/verify_issues.h"
#include "libconvert/report/json.h"
#include "libconvert/verify/verify.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/q4_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

using test::BuiltTensor;
using test::Bytes;
using test::BytesOf;
using test::NormalValues;
using test::Q4Builder;

VerifyReport Verify(Q4Builder& builder) {
  const test::TempDir dir;
  builder.Write(PosixFileSystem(), dir.File("m.q4"));
  return test::Must(VerifyModel(PosixFileSystem(), dir.File("m.q4"), {}));
}

// Weights that test the corners: where nothing is left of a sum, or everything is in one element.
std::vector<float> Weights(const std::string& kind, std::uint64_t count) {
  std::vector<float> x = NormalValues(count, 11);
  std::mt19937 random(5);
  for (std::uint64_t i = 0; i < count; ++i) {
    if (kind == "zeros") x[i] = i % 2 == 0 ? 0.0f : -0.0f;
    if (kind == "some zeros" && i / 64 % 3 == 0) x[i] = 0;
    if (kind == "subnormal") x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(random() % 0x00FFFFFF));
    if (kind == "about TINY") x[i] *= 1e-36f;
    if (kind == "mixed" && i / 64 % 2 == 0) x[i] *= 1e-38f;
    if (kind == "large") x[i] *= 1e38f;
    if (kind == "outliers" && random() % 500 == 0) x[i] = 1e6f;
    if (kind == "constant") x[i] = 0.125f;
    if (kind == "sparse" && random() % 20 != 0) x[i] = 0;
  }
  return x;
}

TEST_CASE("statistics that were computed agree with codes and scales, whatever the weights") {
  std::uint64_t tried = 0;
  for (const char* kind : {"normal", "zeros", "some zeros", "subnormal", "about TINY", "mixed", "large", "outliers",
                           "constant", "sparse"}) {
    for (const std::uint64_t count : {1ull, 33ull, 4096ull, 20'001ull}) {
      const std::vector<float> x = Weights(kind, count);
      for (const Q4Scheme scheme : {Q4Scheme::kNf4, Q4Scheme::kFp4}) {
        for (const std::uint32_t block_size : {32u, 64u, 4096u}) {
          Q4Builder builder;
          builder.AddQuantized("plain", DType::kF32, {count}, BytesOf(x), scheme, block_size, false);
          builder.AddQuantized("nested", DType::kF32, {count}, BytesOf(x), scheme, block_size, true);
          const VerifyReport report = Verify(builder);
          INFO(kind << " " << count << " " << block_size << (report.passed() ? "" : report.findings[0].message));
          CHECK(report.passed());
          ++tried;
        }
      }
    }
  }
  CHECK(tried == 240);
}

// What one change of a right tensor of 100 blocks, the last of them cut, is reported as.
std::vector<int> IssuesOf(bool nested, const std::function<void(BuiltTensor&)>& change, DType dtype = DType::kF32,
                          Q4Scheme scheme = Q4Scheme::kNf4, std::string* message = nullptr) {
  Q4Builder builder;
  const std::uint64_t count = 99 * 64 + 7;
  Bytes bytes(count * ItemSize(dtype));
  const std::vector<float> x = NormalValues(count, 3);
  ScalarKernels().convert(FloatType::kF32, x.data(), count, FloatTypeOf(dtype), bytes.data());
  change(builder.AddQuantized("w", dtype, {count}, bytes, scheme, 64, nested));
  std::vector<int> issues;
  for (const VerifyFinding& finding : Verify(builder).findings) {
    issues.push_back(finding.issue);
    if (message != nullptr) *message = finding.message;
  }
  return issues;
}

TEST_CASE("statistics that codes and scales refute are found without the source") {
  const std::vector<int> refuted{kStatsRefuted.number};
  for (const Q4Scheme scheme : {Q4Scheme::kNf4, Q4Scheme::kFp4}) {
    for (const bool nested : {false, true}) {
      const auto issues = [&](const std::function<void(BuiltTensor&)>& change) {
        return IssuesOf(nested, change, DType::kF32, scheme);
      };
      // The histogram of other codes.
      CHECK(issues([](BuiltTensor& t) { --t.stats.hist[7], ++t.stats.hist[8]; }) == refuted);
      CHECK(issues([](BuiltTensor& t) { std::swap(t.stats.hist[1], t.stats.hist[2]); }) == refuted);
      CHECK(issues([](BuiltTensor& t) { t.parts[Q4Part::kCodes][100] ^= 0x11; }) == refuted);
      // Sums that belong to other scales, by much and by a little.
      CHECK(issues([](BuiltTensor& t) { t.stats.sum_xy *= 1.001; }) == refuted);
      CHECK(issues([](BuiltTensor& t) { t.stats.sum_x2 *= 0.999; }) == refuted);
      CHECK(issues([](BuiltTensor& t) {
              for (double* sum : {&t.stats.sum_x2, &t.stats.sum_xy, &t.stats.sum_e2, &t.stats.worst_block_e2}) {
                *sum *= 0.25;
              }
            }) == refuted);
      // Blocks and elements that there are not.
      CHECK(issues([](BuiltTensor& t) { t.stats.zero_blocks = 1; }) == refuted);
      CHECK(issues([](BuiltTensor& t) { t.stats.tiny_blocks = 1; }) == refuted);
      CHECK(issues([](BuiltTensor& t) { t.stats.overflow = 1; }) == refuted);
    }
  }
  // The sums agree with each other and with the codes, but no source of these scales is so large or so small.
  for (const double sum : {2.0, 1e-6}) {
    std::string message;
    const auto change = [&](BuiltTensor& t) {
      const double y2 = t.stats.sum_e2 - t.stats.sum_x2 + 2 * t.stats.sum_xy;
      t.stats.sum_x2 = sum * static_cast<double>(t.entry.elems);
      t.stats.sum_xy = (y2 + t.stats.sum_x2 - t.stats.sum_e2) / 2;
    };
    CHECK(IssuesOf(false, change, DType::kF32, Q4Scheme::kNf4, &message) == refuted);
    CHECK(message.find("sum_x2") != std::string::npos);
  }
  for (const float factor : {0.0f, 1.01f, 0.5f, 1e30f}) {
    CHECK(IssuesOf(false, [&](BuiltTensor& t) { t.Floats(Q4Part::kScales)[5] *= factor; }) == refuted);
  }
  CHECK(IssuesOf(true, [](BuiltTensor& t) { t.parts[Q4Part::kScaleCodes][5] ^= 0x40; }) == refuted);
  CHECK(IssuesOf(true, [](BuiltTensor& t) { t.Floats(Q4Part::kScales2)[0] *= 1.5f; }) == refuted);
  CHECK(IssuesOf(true, [](BuiltTensor& t) { t.entry.nested_offset *= 1.1f; }) == refuted);
  // Elements that overflow the dtype, and are not counted.
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const auto change = [&](BuiltTensor& t) {
      const float scale = dtype == DType::kF16 ? 7e4f : std::numeric_limits<float>::max();
      Bytes& codes = t.parts[Q4Part::kCodes];
      --t.stats.hist[test::GetCode(codes, 0)];
      test::SetCode(&codes, 0, 0);  // -1
      ++t.stats.hist[0];
      t.Floats(Q4Part::kScales)[0] = scale;
    };
    std::string message;
    CHECK(IssuesOf(false, change, dtype, Q4Scheme::kNf4, &message) == refuted);
    CHECK(message.find("overflow: got 0") != std::string::npos);
  }
}

TEST_CASE("a block of absmax has an outermost code, unless it is of zeros or tiny") {
  const std::vector<int> impossible{kCodesImpossible.number};
  for (const bool nested : {false, true}) {
    for (const Q4Scheme scheme : {Q4Scheme::kNf4, Q4Scheme::kFp4}) {
      // As a forger would: the statistics are taken away.
      const std::vector<int> issues = IssuesOf(
          nested,
          [&](BuiltTensor& t) {
            const std::uint8_t lowest = scheme == Q4Scheme::kNf4 ? 0 : 11, highest = scheme == Q4Scheme::kNf4 ? 15 : 3;
            Bytes& codes = t.parts[Q4Part::kCodes];
            for (std::uint64_t i = 64; i < 128; ++i) {
              if (test::GetCode(codes, i) == lowest) test::SetCode(&codes, i, scheme == Q4Scheme::kNf4 ? 1 : 10);
              if (test::GetCode(codes, i) == highest) test::SetCode(&codes, i, scheme == Q4Scheme::kNf4 ? 14 : 2);
            }
            t.entry.has_stats = false;
          },
          DType::kF32, scheme);
      CHECK(issues == impossible);
    }
  }
  // Whoever searches scales may cut extremes off, under scales of 16 bits; those of more are the largest magnitude, as
  // absmax' are, unless codes are moved afterwards.
  for (const bool is_chosen : {true, false}) {
    for (const Q4Encoder encoder : {Q4Encoder::kMse, Q4Encoder::kFeedback}) {
      const auto cut = [&](BuiltTensor& t) {
        t.entry.encoder = encoder;
        for (std::uint64_t i = 0; i < 64; ++i) test::SetCode(&t.parts[Q4Part::kCodes], i, 8);
        if (is_chosen) t.Floats(Q4Part::kScales)[0] = 0.5f;
        t.entry.has_stats = false;
      };
      CHECK(IssuesOf(false, cut).empty() == (is_chosen || encoder == Q4Encoder::kFeedback));
    }
  }
}

}  // namespace
}  // namespace q4
