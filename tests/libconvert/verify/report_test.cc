// What a verification reports beyond its findings: groups, spread of the scales, worst blocks, samples, subsets.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/scale_spread.h"
#include "libconvert/report/json.h"
#include "libconvert/report/text.h"
#include "libconvert/scheme/slab.h"
#include "libconvert/verify/sample.h"
#include "libconvert/verify/verify.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/model_pair.h"
#include "tests/support/must.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

using test::BytesOf;
using test::NormalValues;
using test::Q4Builder;

// fp32 tensors, quantized to nf4 with blocks of 64 or kept, and the source they come from.
class Model {
 public:
  explicit Model(const std::string& config = "{}") { pair_.AddFile("config.json", config); }
  void Add(const std::string& name, const Shape& shape, const std::vector<float>& values, bool nested = false,
           Q4Scheme scheme = Q4Scheme::kNf4) {
    pair_.AddQuantized(name, DType::kF32, shape, BytesOf(values), scheme, 64, nested);
  }
  void AddKept(const std::string& name, const Shape& shape, const std::vector<float>& values) {
    pair_.AddKept(name, DType::kF32, shape, BytesOf(values));
  }
  Q4Builder& builder() { return pair_.container; }
  absl::StatusOr<VerifyReport> Verify(VerifyOptions options = {}, bool against = true) {
    pair_.WriteSource();
    pair_.WriteContainer();
    if (against) options.against = pair_.source();
    return VerifyModel(PosixFileSystem(), pair_.path(), options);
  }
  VerifyReport Report(const VerifyOptions& options = {}, bool against = true) {
    return test::Must(Verify(options, against));
  }

 private:
  test::ModelPair pair_;
};

// Exchanges two bytes of the block that begins with byte `begin`: only the source tells.
void ExchangeCodes(test::Bytes* codes, std::uint64_t begin) {
  std::uint64_t other = begin + 1;
  while ((*codes)[other] == (*codes)[begin]) ++other;
  std::swap((*codes)[begin], (*codes)[other]);
}

std::string AllFindings(const VerifyReport& report) {
  std::string text;
  for (const VerifyFinding& finding : report.findings) text += finding.message + "\n";
  return text;
}

TEST_CASE("groups hold the totals of their tensors, layers in natural order") {
  Model model(R"({"architectures":["TestForCausalLM"],"model_type":"test"})");
  for (const char* layer : {"m.layers.10.", "m.layers.2."}) {
    model.Add(layer + std::string("attn.q_proj.weight"), {64, 33}, NormalValues(64 * 33, 1));
    model.Add(layer + std::string("mlp.up.weight"), {64, 64}, NormalValues(64 * 64, 2));
  }
  model.AddKept("m.norm.weight", {64}, NormalValues(64, 3));
  const VerifyReport report = model.Report();
  CHECK(report.passed());
  CHECK(report.architecture == "TestForCausalLM");
  CHECK(report.model_type == "test");
  REQUIRE(report.groups.size() == 4);
  CHECK(report.groups[0].name == "m.layers.2");
  CHECK(report.groups[1].name == "m.layers.10");
  CHECK(report.groups[2].name == "q_proj");
  CHECK(report.groups[3].name == "up");
  CHECK(report.groups[3].kind == VerifyGroup::Kind::kRole);
  CHECK(report.groups[3].stats.tensors == 2);
  CHECK(report.groups[3].stats.total.count == 2 * 64 * 64);
  CHECK(report.groups[0].stats.total.sum_e2 == report.tensors[2].stats.sum_e2 + report.tensors[3].stats.sum_e2);
  CHECK(report.tensors[0].layer == "m.layers.10");
  CHECK(report.tensors[4].role == "norm");
  CHECK(report.tensors[0].stored_bytes == 33 * 32 + 33 * 4);
  CHECK(report.tensors[0].compared_elems == 64 * 33);
  const std::string text = VerifyReportText(report);
  CHECK(text.find("q_proj") != std::string::npos);
  CHECK(text.find("TestForCausalLM (test)") != std::string::npos);
  CHECK(std::count(text.begin(), text.end(), '\n') <= 24);
}

TEST_CASE("the spread of scales counts every decoded scale once") {
  for (const bool nested : {false, true}) {
    Model model;
    std::vector<float> values = NormalValues(64 * 1000, 4);
    std::fill(values.begin(), values.begin() + 128, 0.0f);
    model.Add("w.weight", {1000, 64}, values, nested);
    const VerifyReport report = model.Report({}, false);
    const ScaleSpread& spread = report.tensors[0].scales;
    CHECK(spread.count == 1000);
    std::uint64_t counted = spread.zeros;
    for (const auto& [exponent, count] : spread.by_exponent) counted += count;
    CHECK(counted == 1000);
    if (!nested) CHECK(spread.zeros == 2);
    if (!nested) CHECK(spread.min == 0);
    CHECK(spread.max > 0.03f);
    CHECK(spread.max < 0.2f);
    CHECK(report.scales.count == 1000);
  }
  ScaleSpread spread;
  const float odd[] = {0.0f, -0.0f, 1e-45f, -0x1p-127f, 1.0f, -1.5f, 1.999f, 2.0f};
  AddScales(odd, &spread);
  CHECK(spread.zeros == 2);
  CHECK(spread.by_exponent == std::map<int, std::uint64_t>{{-149, 1}, {-127, 1}, {0, 3}, {1, 1}});
  CHECK(spread.min == -1.5f);
  CHECK(spread.max == 2.0f);
}

// The definition, in the plainest way.
std::vector<WorstBlock> WorstBlocksOf(const std::vector<float>& x, const test::BuiltTensor& built) {
  std::vector<WorstBlock> blocks;
  const Q4Tensor& tensor = built.entry;
  const auto* scales = reinterpret_cast<const float*>(built.parts.at(Q4Part::kScales).data());
  std::vector<float> y(x.size());
  ScalarKernels().dequantize(CodeBookOf(tensor.scheme), built.parts.at(Q4Part::kCodes).data(), scales, x.size(),
                             tensor.block_size, FloatType::kF32, y.data());
  for (std::uint64_t block = 0; block < tensor.blocks(); ++block) {
    double lanes[16] = {};
    const std::uint64_t end = std::min<std::uint64_t>(x.size(), (block + 1) * tensor.block_size);
    for (std::uint64_t i = block * tensor.block_size; i < end; ++i) {
      const double e = double{x[i]} - double{y[i]};
      lanes[i % 16] += e * e;
    }
    for (int width = 8; width > 0; width /= 2) {
      for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    WorstBlock worst{block, lanes[0], scales[block], {}};
    for (std::uint64_t i = block * tensor.block_size; i < end; ++i) worst.elements.push_back({i, x[i], y[i]});
    std::stable_sort(worst.elements.begin(), worst.elements.end(), [](const WorstElement& a, const WorstElement& b) {
      return std::fabs(double{a.source} - double{a.decoded}) > std::fabs(double{b.source} - double{b.decoded});
    });
    if (worst.elements.size() > kWorstElements) worst.elements.resize(kWorstElements);
    blocks.push_back(std::move(worst));
  }
  std::stable_sort(blocks.begin(), blocks.end(), [](const auto& a, const auto& b) { return a.sum_e2 > b.sum_e2; });
  blocks.resize(std::min(blocks.size(), kWorstBlocks));
  return blocks;
}

TEST_CASE("the worst blocks are exactly those of the definition, for any number of threads") {
  Model model;
  std::vector<float> values = NormalValues(1'000'003, 5);
  for (std::size_t i = 700'000; i < 700'064; ++i) values[i] = values[i - 200'000];  // two equal blocks in two pieces
  for (const std::size_t at : {500'032, 700'032}) values[at] = 3;
  values[1'000'002] = 2;
  model.Add("w.weight", {1'000'003}, values);
  const std::vector<WorstBlock> expected = WorstBlocksOf(values, model.builder().Find("w.weight"));
  for (const unsigned threads : {1u, 2u, 5u}) {
    VerifyOptions options;
    options.threads = threads;
    const VerifyReport report = model.Report(options);
    INFO(AllFindings(report));
    CHECK(report.passed());
    const std::vector<WorstBlock>& got = report.tensors[0].worst_blocks;
    REQUIRE(got.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(got[i].block == expected[i].block);
      CHECK(got[i].sum_e2 == expected[i].sum_e2);
      CHECK(got[i].scale == expected[i].scale);
      REQUIRE(got[i].elements.size() == expected[i].elements.size());
      for (std::size_t j = 0; j < got[i].elements.size(); ++j) {
        CHECK(got[i].elements[j].index == expected[i].elements[j].index);
        CHECK(got[i].elements[j].source == expected[i].elements[j].source);
        CHECK(got[i].elements[j].decoded == expected[i].elements[j].decoded);
      }
    }
    CHECK(got[0].sum_e2 == report.tensors[0].stats.worst_block_e2);
    CHECK(got[0].block == report.tensors[0].stats.worst_block);
  }
}

TEST_CASE("a tensor without error has no worst block, nor has one that was not compared") {
  Model model;
  model.Add("exact.weight", {2, 64}, std::vector<float>(128, 1.0f));
  CHECK(model.Report().tensors[0].worst_blocks.empty());
  CHECK(model.Report({}, false).tensors[0].worst_blocks.empty());
}

TEST_CASE("equal tensors of the source must be equal in the container") {
  const std::vector<float> values = NormalValues(64 * 64, 6);
  SECTION("treated alike") {
    Model model(R"({"tie_word_embeddings":true})");
    model.Add("embed.weight", {64, 64}, values);
    model.Add("head.weight", {64, 64}, values);
    CHECK(model.Report().passed());
  }
  SECTION("treated differently where embeddings are tied") {
    Model model(R"({"tie_word_embeddings":true})");
    model.AddKept("embed.weight", {64, 64}, values);
    model.Add("head.weight", {64, 64}, values);
    const VerifyReport report = model.Report();
    REQUIRE(report.findings.size() == 1);
    CHECK(report.findings[0].issue == kTiedDiffer.number);
    CHECK(report.findings[0].tensor == "head.weight");
    CHECK(report.findings[0].message.find("it equals 'embed.weight'") != std::string::npos);
  }
  SECTION("treated differently where nothing says that they are tied") {
    Model model;
    model.AddKept("embed.weight", {64, 64}, values);
    model.Add("head.weight", {64, 64}, values);
    CHECK(model.Report().passed());
  }
}

TEST_CASE("a subset compares what it names and nothing else") {
  Model model;
  model.Add("a.weight", {64, 64}, NormalValues(64 * 64, 7));
  model.Add("b.weight", {64, 64}, NormalValues(64 * 64, 8));
  ExchangeCodes(&model.builder().Find("b.weight").parts[Q4Part::kCodes], 0);
  VerifyOptions options;
  options.only = *NamePattern::Parse("^a", "--tensor");
  const VerifyReport report = model.Report(options);
  CHECK(report.passed());
  CHECK(report.only == "^a");
  CHECK(report.tensors[0].compared);
  CHECK_FALSE(report.tensors[1].compared);
  CHECK_FALSE(report.stats_recomputed);
  options.only = *NamePattern::Parse("^b", "--tensor");
  CHECK_FALSE(model.Report(options).passed());
  options.only = *NamePattern::Parse("nothing", "--tensor");
  CHECK(IssueNumberOf(model.Verify(options).status()) == kNothingSelected.number);
}

TEST_CASE("a sample is a choice by its seed, one slab of each tensor at least") {
  Sha256 root{};
  root[3] = 7;
  const SlabSample sample(root, 10, 5);
  CHECK(sample.SlabsOf("w", 1) == std::vector<std::uint64_t>{0});
  const std::vector<std::uint64_t> slabs = sample.SlabsOf("w", 10'000);
  CHECK(slabs == SlabSample(root, 10, 5).SlabsOf("w", 10'000));
  CHECK(slabs != sample.SlabsOf("v", 10'000));
  CHECK(slabs != SlabSample(root, 10, 6).SlabsOf("w", 10'000));
  CHECK(slabs.size() > 900);
  CHECK(slabs.size() < 1100);
  CHECK(std::is_sorted(slabs.begin(), slabs.end()));
  const std::vector<std::uint64_t> more = SlabSample(root, 20, 5).SlabsOf("w", 10'000);
  CHECK(std::includes(more.begin(), more.end(), slabs.begin(), slabs.end()));
  CHECK(SlabSample(root, 1e-9, 5).SlabsOf("w", 50).size() == 1);
  CHECK(SlabSample(root, 100, 5).SlabsOf("w", 50).size() == 50);
}

TEST_CASE("what lies in the sample is compared, and the report says how much that was") {
  Model model;
  const std::vector<float> values = NormalValues(3 * kQ4ChunkElems + 77, 9);
  model.Add("w.weight", {3 * kQ4ChunkElems + 77}, values, true);
  VerifyOptions options;
  options.sample_percent = 20;
  VerifyReport right = model.Report(options);
  // A fifth of four slabs is all of them in one draw of 600.
  for (int draw = 0; draw < 5 && right.tensors[0].compared; ++draw) right = model.Report(options);
  INFO(AllFindings(right));
  CHECK(right.passed());
  CHECK(right.sample_percent == 20);
  CHECK_FALSE(right.tensors[0].compared);
  CHECK(right.tensors[0].has_stats);
  const std::vector<std::uint64_t> slabs = SlabSample(right.root, 20, right.sample_seed).SlabsOf("w.weight", 4);
  REQUIRE(slabs.size() < 4);
  std::uint64_t elems = 0;
  for (const std::uint64_t slab : slabs) elems += slab == 3 ? 77 : kQ4ChunkElems;
  CHECK(right.tensors[0].compared_elems == elems);
  // Nobody knows the next sample, and it can be had again.
  CHECK(model.Report(options).sample_seed != right.sample_seed);
  options.sample_seed = right.sample_seed;
  CHECK(model.Report(options).tensors[0].compared_elems == elems);
  options.sample_seed.reset();
  // Whatever the sample now is, the finding must follow it.
  for (std::uint64_t slab = 0; slab < 3; ++slab) {
    ExchangeCodes(&model.builder().Find("w.weight").parts[Q4Part::kCodes], slab * kQ4ChunkElems / 2);
    const VerifyReport report = model.Report(options);
    const std::vector<std::uint64_t> chosen = SlabSample(report.root, 20, report.sample_seed).SlabsOf("w.weight", 4);
    const bool hit = std::any_of(chosen.begin(), chosen.end(), [&](std::uint64_t c) { return c <= slab; });
    CHECK(report.passed() == !hit);
  }
  SECTION("and the record of the whole may not contradict it") {
    model.builder().Find("w.weight").stats.max_abs_err *= 1e-3;
    CHECK_FALSE(model.Report(options).passed());
  }
}

}  // namespace
}  // namespace q4
