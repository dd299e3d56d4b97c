// Containers whose digests and statistics are right and whose weights are not, or that claim another encoder or
// treatment than theirs; and honest work of encoders that cannot be computed again, which must pass.
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "formats/q4/encoders.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/report/json.h"
#include "libconvert/verify/verify.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/model_pair.h"
#include "tests/support/must.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

using test::BuiltTensor;
using test::Bytes;
using test::NormalBytes;
using test::NormalValues;

constexpr const char* kClaimedName = "layers.0.weight";
constexpr std::uint64_t kClaimedRows = 40, kClaimedColumns = 333, kClaimedElems = kClaimedRows * kClaimedColumns;
constexpr std::uint32_t kClaimedBlock = 64;

// One quantized tensor and its source. `encoder` is claimed, and on record.
class Claimed {
 public:
  Claimed(Q4Encoder encoder, bool nested, Q4Scheme scheme = Q4Scheme::kNf4)
      : bytes_(NormalBytes(DType::kF32, kClaimedElems, 7)), values_(NormalValues(kClaimedElems, 7)) {
    pair_.AddQuantized(kClaimedName, DType::kF32, {kClaimedRows, kClaimedColumns}, bytes_, scheme, kClaimedBlock,
                       nested);
    tensor().entry.encoder = encoder;
    pair_.WriteSource();
  }
  BuiltTensor& tensor() { return pair_.container.Find(kClaimedName); }
  const std::vector<float>& values() const { return values_; }

  // As a reader decodes them.
  std::vector<float> Scales() {
    const Q4Tensor& entry = tensor().entry;
    std::vector<float> scales(entry.blocks());
    if (entry.nested) {
      ScalarKernels().dequantize_scales(tensor().parts[Q4Part::kScaleCodes].data(), tensor().Floats(Q4Part::kScales2),
                                        entry.blocks(), entry.nested_offset, scales.data());
    } else {
      std::copy_n(tensor().Floats(Q4Part::kScales), entry.blocks(), scales.begin());
    }
    return scales;
  }
  // Makes it what the encoder mse makes of the source.
  void Search(int effort = kDefaultEffort) {
    const SearchingEncoder& encoder = *EncoderOf(Q4Encoder::kMse).searching();
    const SlabShape shape = SlabShapeOf(tensor().entry, kClaimedElems, effort);
    const std::uint64_t blocks = tensor().entry.blocks();
    std::vector<float> scales(blocks);
    std::uint8_t* const codes = tensor().parts[Q4Part::kCodes].data();
    if (!tensor().entry.nested) {
      REQUIRE(encoder.ChooseCodes(ScalarKernels(), shape, bytes_.data(), scales.data(), codes) == kAllFinite);
      std::copy(scales.begin(), scales.end(), tensor().Floats(Q4Part::kScales));
      return;
    }
    std::vector<NestedLoss> losses(GroupCount(blocks));
    REQUIRE(encoder.ChooseNested(ScalarKernels(), shape, bytes_.data(),
                                 {scales.data(), tensor().parts[Q4Part::kScaleCodes].data(),
                                  tensor().Floats(Q4Part::kScales2), losses.data()}) == kAllFinite);
    tensor().entry.nested_offset = 0;
    encoder.CodesUnder(ScalarKernels(), shape, bytes_.data(), Scales().data(), codes);
  }
  // Gives every element the nearest code under these scales.
  void Nearest(const std::vector<float>& scales) {
    const auto book = CodeValues(CodeBookOf(tensor().entry));
    for (std::uint64_t i = 0; i < kClaimedElems; ++i) {
      const double x = values_[i], scale = scales[i / kClaimedBlock];
      const auto error = [&](float value) { return std::fabs(x - double{value} * scale); };
      const auto best =
          std::min_element(book.begin(), book.end(), [&](float a, float b) { return error(a) < error(b); });
      test::SetCode(&tensor().parts[Q4Part::kCodes], i, static_cast<std::uint8_t>(best - book.begin()));
    }
  }

  VerifyReport Verify(bool require_proof = false, bool against = true) {
    // The statistics of what is there now: a forger can compute.
    const Q4Tensor& entry = tensor().entry;
    const std::vector<float> scales = Scales();
    std::vector<GroupSums> groups(GroupCount(entry.blocks()));
    SlabStats slab;
    ScalarKernels().error_stats(FloatType::kF32, CodeBookOf(entry), bytes_.data(),
                                tensor().parts[Q4Part::kCodes].data(), scales.data(), kClaimedElems, kClaimedBlock,
                                groups.data(), &slab);
    TensorStatsAccumulator stats;
    stats.AddSlab(0, kClaimedBlock, slab, groups);
    tensor().stats = stats.Finish();
    pair_.WriteContainer();
    VerifyOptions options;
    options.require_proof = require_proof;
    if (against) options.against = pair_.source();
    return test::Must(VerifyModel(PosixFileSystem(), pair_.path(), options));
  }

 private:
  test::ModelPair pair_;
  const Bytes bytes_;
  const std::vector<float> values_;
};

std::vector<int> Issues(const VerifyReport& report) {
  std::vector<int> issues;
  for (const VerifyFinding& finding : report.findings) issues.push_back(finding.issue);
  return issues;
}

TEST_CASE("what absmax made is proven under its own name, and bounded under that of nobody") {
  for (const bool nested : {false, true}) {
    for (const Q4Scheme scheme : {Q4Scheme::kNf4, Q4Scheme::kFp4}) {
      Claimed absmax(Q4Encoder::kAbsmax, nested, scheme);
      const VerifyReport report = absmax.Verify(/*require_proof=*/true);
      CHECK(report.passed());
      CHECK(report.tensors[0].proof == TensorProof::kRecomputed);
      // Under the name of an encoder that makes something else of it.
      Claimed mse(Q4Encoder::kMse, nested, scheme);
      CHECK_FALSE(mse.Verify().passed());
      CHECK(mse.Verify().tensors[0].proof == TensorProof::kFailed);
      // No options ask for codes of nobody: a container that has them must be the work of a version that records them.
      Claimed none(Q4Encoder::kNone, nested, scheme);
      CHECK(Issues(none.Verify()) == std::vector<int>{kTreatmentDiffers.number});
      CHECK(none.Verify().tensors[0].proof == TensorProof::kBounded);
    }
  }
}

TEST_CASE("nested mse may give way to absmax, and only nested") {
  for (const bool nested : {false, true}) {
    Claimed claimed(Q4Encoder::kMse, nested);
    claimed.tensor().entry.encoder = Q4Encoder::kAbsmax;
    const VerifyReport report = claimed.Verify(/*require_proof=*/true);
    CHECK(report.tensors[0].proof == TensorProof::kRecomputed);
    CHECK(Issues(report) == (nested ? std::vector<int>{} : std::vector<int>{kTreatmentDiffers.number}));
  }
}

TEST_CASE("what mse makes is proven bit for bit, by the effort on record") {
  for (const bool nested : {false, true}) {
    for (const Q4Scheme scheme : {Q4Scheme::kNf4, Q4Scheme::kFp4}) {
      Claimed claimed(Q4Encoder::kMse, nested, scheme);
      claimed.Search();
      const VerifyReport report = claimed.Verify(/*require_proof=*/true);
      INFO(VerifyReportJson(report));
      CHECK(report.passed());
      CHECK(report.tensors[0].proof == TensorProof::kRecomputed);
      if (scheme == Q4Scheme::kNf4) CHECK(report.tensors[0].scales.min < 0);
    }
    const auto found = [nested](const std::function<void(Claimed&)>& forge, int issue) {
      Claimed claimed(Q4Encoder::kMse, nested);
      claimed.Search();
      forge(claimed);
      const std::vector<int> issues = Issues(claimed.Verify());
      CHECK(std::count(issues.begin(), issues.end(), issue) == 1);
    };
    found([](Claimed& c) { c.Search(/*effort=*/1); }, (nested ? kScaleCodesDiffer : kScalesDiffer).number);
    found([](Claimed& c) { test::SetCode(&c.tensor().parts[Q4Part::kCodes], 70, 3); }, kCodesDiffer.number);
    // Nearest under scales that lose as little, but are not those.
    found(
        [nested](Claimed& c) {
          if (nested) {
            ++c.tensor().parts[Q4Part::kScaleCodes][5];
          } else {
            c.tensor().Floats(Q4Part::kScales)[5] *= 1.01f;
          }
          c.Nearest(c.Scales());
        },
        (nested ? kScaleCodesDiffer : kScalesDiffer).number);
    if (nested) found([](Claimed& c) { c.tensor().entry.nested_offset = 1e-30f; }, kOffsetDiffers.number);
  }
}

TEST_CASE("whoever changes the name of the encoder is found by the source, and mostly without it") {
  const auto contains = [](const VerifyReport& report, int issue) {
    const std::vector<int> issues = Issues(report);
    return std::count(issues.begin(), issues.end(), issue) == 1;
  };
  for (const bool nested : {false, true}) {
    for (const Q4Scheme scheme : {Q4Scheme::kNf4, Q4Scheme::kFp4}) {
      INFO((nested ? "nested " : "plain ") << static_cast<int>(scheme));
      // mse's work as that of absmax: codes cannot be absmax'.
      Claimed as_absmax(Q4Encoder::kAbsmax, nested, scheme);
      as_absmax.Search();
      CHECK(contains(as_absmax.Verify(), nested ? kScales2Differ.number : kScalesDiffer.number));
      CHECK_FALSE(as_absmax.Verify().passed());
      CHECK_FALSE(as_absmax.Verify(false, /*against=*/false).passed());
      // absmax' work as mse's: an offset tells; without one, so might mse have kept every scale.
      Claimed as_mse(Q4Encoder::kMse, nested, scheme);
      CHECK(contains(as_mse.Verify(), kCodesDiffer.number));
      CHECK(contains(as_mse.Verify(false, /*against=*/false), kCodesImpossible.number) == nested);
    }
  }
}

TEST_CASE("scales that no search chooses are found without the source") {
  const auto found = [](bool nested, Q4Scheme scheme, const std::function<void(Claimed&)>& forge) {
    Claimed claimed(Q4Encoder::kMse, nested, scheme);
    claimed.Search();
    CHECK(claimed.Verify(false, /*against=*/false).passed());
    forge(claimed);
    claimed.Nearest(claimed.Scales());
    const VerifyReport report = claimed.Verify(false, /*against=*/false);
    REQUIRE(Issues(report) == std::vector<int>{kCodesImpossible.number});
    return report.findings[0].message;
  };
  const auto scales = [](Claimed& c) { return c.tensor().Floats(Q4Part::kScales); };
  CHECK(found(false, Q4Scheme::kNf4, [&](Claimed& c) {
          scales(c)[5] = -0.0123456f;
        }).find("block 5: a negative scale of") != std::string::npos);
  CHECK(found(false, Q4Scheme::kNf4, [&](Claimed& c) { scales(c)[5] = -1e-39f; }).find("next to nothing") !=
        std::string::npos);
  CHECK(found(false, Q4Scheme::kFp4, [&](Claimed& c) { scales(c)[7] *= -1; }).find("gains nothing") !=
        std::string::npos);
  // Twice the largest magnitude, in more than 16 bits: no code is an outermost one.
  CHECK(found(false, Q4Scheme::kNf4, [&](Claimed& c) {
          scales(c)[9] = std::nextafter(std::fabs(scales(c)[9]) * 4, 1e9f);
        }).find("not those of the largest") != std::string::npos);
  CHECK(found(true, Q4Scheme::kNf4, [](Claimed& c) {
          c.tensor().entry.nested_offset = 1e-30f;
        }).find("nested_offset") != std::string::npos);
  CHECK(found(true, Q4Scheme::kFp4, [](Claimed& c) {
          c.tensor().parts[Q4Part::kScaleCodes][3] = 10;
        }).find("gains nothing") != std::string::npos);
}

TEST_CASE("codes made again under decoded scales are within the bounds of what nobody of ours made") {
  Claimed claimed(Q4Encoder::kNone, true);
  claimed.Nearest(claimed.Scales());
  CHECK(Issues(claimed.Verify()) == std::vector<int>{kTreatmentDiffers.number});
  CHECK(claimed.Verify().tensors[0].proof == TensorProof::kBounded);
}

TEST_CASE("whoever claims an encoder that cannot be computed again is held to its bounds") {
  for (const bool nested : {false, true}) {
    INFO((nested ? "nested" : "plain"));
    Claimed claimed(Q4Encoder::kNone, nested);
    std::vector<int> expected = {kTreatmentDiffers.number};
    Bytes& codes = claimed.tensor().parts[Q4Part::kCodes];
    SECTION("random codes") {
      std::mt19937 random(1);
      for (std::uint64_t i = 0; i < kClaimedElems; ++i)
        test::SetCode(&codes, i, static_cast<std::uint8_t>(random() % 16));
      expected.insert(expected.end(), {kCodesNotNearest.number, kAboveProofBound.number});
      CHECK(Issues(claimed.Verify()) == expected);
    }
    SECTION("a chosen code") {
      test::SetCode(&codes, 5000, static_cast<std::uint8_t>((test::GetCode(codes, 5000) + 1) % 16));
      const VerifyReport report = claimed.Verify();
      expected.push_back(kCodesNotNearest.number);
      // One step of this element is more than the bound leaves to bitsandbytes.
      expected.push_back(kAboveProofBound.number);
      CHECK(Issues(report) == expected);
      CHECK(report.tensors[0].proof == TensorProof::kFailed);
      CHECK(report.findings[1].message.find("element 5000") != std::string::npos);
    }
    SECTION("scales of one's own, with the nearest codes") {
      if (nested) {
        claimed.tensor().entry.nested_offset *= 1.5f;
      } else {
        for (std::uint64_t block = 0; block < 100; ++block) claimed.tensor().Floats(Q4Part::kScales)[block] *= 1.5f;
      }
      claimed.Nearest(claimed.Scales());
      expected.push_back(kAboveProofBound.number);
      CHECK(Issues(claimed.Verify()) == expected);
    }
    SECTION("no scales") {
      if (nested) {
        std::fill_n(claimed.tensor().Floats(Q4Part::kScales2), 1, 0.0f);
        claimed.tensor().entry.nested_offset = 0;
      } else {
        std::fill_n(claimed.tensor().Floats(Q4Part::kScales), 50, 0.0f);
      }
      const std::vector<int> got = Issues(claimed.Verify());
      CHECK(std::count(got.begin(), got.end(), kAboveProofBound.number) == 1);
    }
  }
}

TEST_CASE("a tensor that is treated otherwise than the record asks is found, with and without the source") {
  test::ModelPair pair;
  const Bytes bytes = NormalBytes(DType::kBF16, kClaimedElems, 3);
  pair.AddQuantized("a.weight", DType::kBF16, {kClaimedRows, kClaimedColumns}, bytes, Q4Scheme::kNf4, 64, true);
  pair.AddQuantized("b.weight", DType::kBF16, {kClaimedRows, kClaimedColumns}, bytes, Q4Scheme::kNf4, 64, false);
  pair.AddKept("c.weight", DType::kBF16, {kClaimedRows, kClaimedColumns}, bytes);
  pair.WriteSource();
  const auto replace = [&](const std::string& name, const auto& add) {
    test::Q4Builder changed = pair.container;
    changed.Remove(name);
    add(&changed);
    pair.WriteContainer(changed);
    for (const bool against : {false, true}) {
      VerifyOptions options;
      if (against) options.against = pair.source();
      const VerifyReport report = test::Must(VerifyModel(PosixFileSystem(), pair.path(), options));
      INFO(VerifyReportJson(report));
      REQUIRE_FALSE(report.passed());
      const bool lost = !changed.Find(name).entry.has_stats && changed.Find(name).entry.quantized();
      CHECK(report.findings[0].issue == (lost ? kStatsNotRecorded : kTreatmentDiffers).number);
      CHECK(report.findings[0].tensor == name);
    }
  };
  const auto quantized = [&](const std::string& name, Q4Scheme scheme, std::uint32_t block_size, bool nested) {
    replace(name, [&](test::Q4Builder* builder) {
      builder->AddQuantized(name, DType::kBF16, {kClaimedRows, kClaimedColumns}, bytes, scheme, block_size, nested);
    });
  };
  quantized("a.weight", Q4Scheme::kFp4, 4096, true);
  quantized("a.weight", Q4Scheme::kFp4, 64, true);
  quantized("a.weight", Q4Scheme::kNf4, 128, true);
  quantized("a.weight", Q4Scheme::kNf4, 64, false);
  quantized("b.weight", Q4Scheme::kNf4, 64, true);
  quantized("c.weight", Q4Scheme::kNf4, 64, true);
  for (const char* name : {"a.weight", "b.weight"}) {
    replace(name, [&](test::Q4Builder* builder) {
      builder->AddRaw(name, DType::kBF16, {kClaimedRows, kClaimedColumns}, bytes);
    });
  }
  replace("b.weight", [&](test::Q4Builder* builder) {
    builder->AddQuantized("b.weight", DType::kBF16, {kClaimedRows, kClaimedColumns}, bytes, Q4Scheme::kNf4, 64, false)
        .entry.has_stats = false;
  });
}

}  // namespace
}  // namespace q4
