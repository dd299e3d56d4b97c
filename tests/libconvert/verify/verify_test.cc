// A small model whose container is then changed in meaning, with right digests, or in bytes. Each change must be found
// and named.
#include "libconvert/verify/verify.h"

#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/reader.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/report/json.h"
#include "libconvert/report/text.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/model_pair.h"
#include "tests/support/must.h"
#include "tests/support/provenance.h"
#include "tests/support/q4_builder.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

using test::Bytes;
using test::NormalBytes;
using test::Q4Builder;

constexpr const char* kPlain = "layers.0.plain.weight";
constexpr const char* kNested = "layers.0.nested.weight";
constexpr const char* kLarge = "layers.1.large.weight";
constexpr const char* kNorm = "norm.weight";

// A source checkpoint on disk and a container made from it, as the converter would.
class Fixture {
 public:
  Fixture() {
    pair_.AddKept("empty", DType::kF32, {0, 4}, {});
    pair_.AddQuantized(kNested, DType::kBF16, {77, 333}, NormalBytes(DType::kBF16, 77 * 333, 1), Q4Scheme::kNf4, 64,
                       true);
    pair_.AddQuantized(kPlain, DType::kF32, {33, 65}, NormalBytes(DType::kF32, 33 * 65, 2), Q4Scheme::kFp4, 32, false);
    // More than one chunk of codes, with a tail block and an odd count.
    const std::uint64_t columns = kQ4ChunkElems / 5 + 1003;
    pair_.AddQuantized(kLarge, DType::kF16, {5, columns}, NormalBytes(DType::kF16, 5 * columns, 4), Q4Scheme::kNf4, 64,
                       true);
    pair_.AddKept(kNorm, DType::kBF16, {64}, NormalBytes(DType::kBF16, 64, 3));
    pair_.AddKept("steps", DType::kI64, {1}, Bytes(8, 7));
    pair_.AddFile("config.json", R"({"model_type":"test"})");
    pair_.WriteSource();
  }

  Q4Builder Convert() const { return pair_.container; }

  std::string container() const { return pair_.path(); }
  std::string source() const { return pair_.source(); }
  const test::TempDir& dir() const { return pair_.dir(); }

  VerifyReport Verify(Q4Builder builder, bool against = true, VerifyOptions options = {}) const {
    pair_.WriteContainer(std::move(builder));
    return VerifyFile(against, std::move(options));
  }
  VerifyReport VerifyFile(bool against, VerifyOptions options = {}) const {
    if (against) options.against = source();
    return test::Must(VerifyModel(PosixFileSystem(), container(), options));
  }

 private:
  test::ModelPair pair_;
};

// Without the finding that a tensor's statistics are gone: changes of codes and scales take them away.
VerifyReport WithoutLostStats(VerifyReport report) {
  report.finding_count -= std::erase_if(
      report.findings, [](const VerifyFinding& finding) { return finding.issue == kStatsNotRecorded.number; });
  return report;
}

// Exactly one finding, of this rule and tensor, whose message holds `text`.
void CheckOnlyFinding(const VerifyReport& report, const Issue& issue, const std::string& tensor,
                      const std::string& text = {}) {
  INFO(VerifyReportJson(report));
  REQUIRE(report.findings.size() == 1);
  CHECK(report.finding_count == 1);
  CHECK(report.findings[0].issue == issue.number);
  CHECK(report.findings[0].tensor == tensor);
  CHECK(report.findings[0].message.find(text) != std::string::npos);
  for (const VerifyTensor& entry : report.tensors) CHECK(entry.passed == (entry.name != tensor));
}

TEST_CASE("a right container passes, alone and against its source, with any number of threads and every kernel") {
  const Fixture fixture;
  const VerifyReport alone = fixture.Verify(fixture.Convert(), false);
  CHECK(alone.passed());
  CHECK(alone.tensors.size() == 6);
  CHECK_FALSE(alone.stats_recomputed);
  CHECK(alone.model.tensors == 3);

  std::string first;
  std::vector<std::pair<unsigned, const KernelTable*>> runs = {{1, &BestCpuKernels()}, {2, &BestCpuKernels()}};
  for (const KernelTable* kernels : test::AllCpuKernels()) runs.emplace_back(7, kernels);
  for (const auto& [threads, kernels] : runs) {
    VerifyOptions options;
    options.threads = threads;
    options.kernels = kernels;
    const VerifyReport report = fixture.VerifyFile(true, options);
    INFO(kernels->name << ", " << VerifyReportJson(report));
    CHECK(report.passed());
    CHECK(report.stats_recomputed);
    for (const VerifyTensor& tensor : report.tensors) CHECK(tensor.compared);
    if (first.empty()) first = VerifyReportJson(report);
    CHECK(VerifyReportJson(report) == first);
  }
  CHECK(VerifyReportText(alone).find("passed") != std::string::npos);
}

TEST_CASE("a compressed container passes too") {
  const Fixture fixture;
  Q4Builder builder = fixture.Convert();
  builder.compression.zstd = true;
  CHECK(fixture.Verify(std::move(builder)).passed());
}

TEST_CASE("each kind of change of meaning is found and named") {
  const Fixture fixture;
  Q4Builder builder = fixture.Convert();

  SECTION("a code") {
    builder.Find(kPlain).parts[Q4Part::kCodes][100] ^= 0x10;  // the high nibble: element 200
    builder.Find(kPlain).entry.has_stats = false;
    const VerifyReport report = WithoutLostStats(fixture.Verify(std::move(builder)));
    REQUIRE(report.finding_count >= 1);
    CHECK(report.findings[0].issue == kCodesDiffer.number);
    CHECK(report.findings[0].tensor == kPlain);
    CHECK(report.findings[0].message.find("element 200: got ") != std::string::npos);
    CHECK(report.findings[0].message.find("1 in all") != std::string::npos);
  }
  SECTION("a code in the second chunk, and nothing else: statistics follow") {
    test::BuiltTensor& large = builder.Find(kLarge);
    large.parts[Q4Part::kCodes][kQ4ChunkElems / 2 + 3] ^= 0x01;  // the low nibble
    large.entry.has_stats = false;
    CheckOnlyFinding(WithoutLostStats(fixture.Verify(std::move(builder))), kCodesDiffer, kLarge,
                     "element " + std::to_string(kQ4ChunkElems + 7));
  }
  SECTION("a scale") {
    builder.Find(kPlain).Floats(Q4Part::kScales)[5] *= 1.02f;
    builder.Find(kPlain).entry.has_stats = false;
    const VerifyReport report = WithoutLostStats(fixture.Verify(std::move(builder)));
    REQUIRE(report.finding_count >= 1);
    CHECK(report.findings[0].issue == kScalesDiffer.number);
    CHECK(report.findings[0].message.find("block 5: got ") != std::string::npos);
  }
  SECTION("a scale code") {
    builder.Find(kNested).parts[Q4Part::kScaleCodes][300] ^= 1;
    builder.Find(kNested).entry.has_stats = false;
    CheckOnlyFinding(WithoutLostStats(fixture.Verify(std::move(builder))), kScaleCodesDiffer, kNested,
                     "block 300: got ");
  }
  SECTION("a group scale") {
    builder.Find(kNested).Floats(Q4Part::kScales2)[1] *= 1.5f;
    builder.Find(kNested).entry.has_stats = false;
    CheckOnlyFinding(WithoutLostStats(fixture.Verify(std::move(builder))), kScales2Differ, kNested, "group 1: got ");
  }
  SECTION("the scale offset") {
    builder.Find(kNested).entry.nested_offset *= 1.0f + 0x1p-23f;
    builder.Find(kNested).entry.has_stats = false;
    const VerifyReport report = WithoutLostStats(fixture.Verify(std::move(builder)));
    REQUIRE(report.finding_count >= 1);
    CHECK(report.findings[0].issue == kOffsetDiffers.number);
    CHECK(report.findings[0].tensor == kNested);
  }
  SECTION("a recorded statistic") {
    builder.Find(kNested).stats.sum_e2 *= 1 + 0x1p-52;
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kStatsDiffer, kNested, "sum_e2: got ");
  }
  SECTION("two recorded code counts") {
    ++builder.Find(kPlain).stats.hist[3];
    --builder.Find(kPlain).stats.hist[4];
    CheckOnlyFinding(fixture.Verify(std::move(builder), false), kStatsRefuted, kPlain, "hist[3]: got ");
  }
  SECTION("an unquantized value") {
    builder.Find(kNorm).parts[Q4Part::kData][21] ^= 1;
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kDataDiffers, kNorm, "element 10: got 0x");
  }
  SECTION("a missing tensor") {
    builder.Remove(kNorm);
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kTensorMissing, kNorm);
  }
  SECTION("an extra tensor") {
    builder.AddRaw("zz", DType::kU8, {3}, Bytes(3));
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kTensorExtra, "zz");
  }
  SECTION("a renamed tensor") {
    builder.Find(kNorm).entry.name = "normal.weight";
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kTensorRenamed, "normal.weight", kNorm);
  }
  SECTION("a transposed tensor") {
    std::swap(builder.Find(kPlain).entry.shape[0], builder.Find(kPlain).entry.shape[1]);
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kShapeDiffers, kPlain, "got [65, 33], expected [33, 65]");
  }
  SECTION("another dtype of equal size") {
    builder.Find(kNorm).entry.dtype = DType::kF16;
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kDTypeDiffers, kNorm, "got F16, expected BF16");
  }
  SECTION("an embedded file") {
    builder.AddFile("config.json", R"({"model_type":"best"})");
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kFileDiffers, "", "from byte 15 on");
  }
  SECTION("an embedded file that the source lacks") {
    builder.AddFile("generation_config.json", "{}");
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kFileExtra, "", "generation_config.json");
  }
}

TEST_CASE("a companion file that is not embedded is missed") {
  const Fixture fixture;
  fixture.dir().Write("src/tokenizer_config.json", "{}");
  CheckOnlyFinding(fixture.Verify(fixture.Convert()), kFileMissing, "", "tokenizer_config.json");
}

TEST_CASE("a dtype conversion is accepted exactly when the container says it was asked for") {
  const Fixture fixture;
  Q4Builder builder = fixture.Convert();
  test::BuiltTensor& norm = builder.Find(kNorm);
  Bytes widened(64 * sizeof(float));
  ScalarKernels().convert(FloatType::kBF16, norm.parts[Q4Part::kData].data(), 64, FloatType::kF32, widened.data());
  norm.parts[Q4Part::kData] = widened;
  norm.entry.dtype = DType::kF32;

  SECTION("not asked for") {
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kDTypeDiffers, kNorm, "got F32, expected BF16");
  }
  const auto asking = [&](const char* dtype) {
    std::vector<Q4Tensor> tensors;
    for (const test::BuiltTensor& tensor : builder.tensors()) tensors.push_back(tensor.entry);
    return test::ProvenanceOf(test::RecordedOptionsFor(tensors, dtype),
                              Json::array({test::SourceFileRecordOf(fixture.source(), "model.safetensors")}));
  };
  SECTION("another one asked for") {
    builder.provenance = asking("F16");
    builder.Remove("empty");
    CheckOnlyFinding(fixture.Verify(builder, false), kTreatmentDiffers, kNorm, "got F32, expected F16");
  }
  builder.provenance = asking("F32");
  SECTION("asked for") { CHECK(fixture.Verify(std::move(builder)).passed()); }
  SECTION("asked for, and wrong") {
    builder.Find(kNorm).parts[Q4Part::kData][0] ^= 1;
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kDataDiffers, kNorm, "element 0: got 0x");
  }
}

TEST_CASE("source files are held against the recorded digests") {
  const Fixture fixture;
  Q4Builder builder = fixture.Convert();
  Json document = *ParseJson(builder.provenance, "provenance", 64);
  Json& file = document["source"]["files"][0];
  std::string digest = file["sha256"];
  SECTION("right") { CHECK(fixture.Verify(std::move(builder)).passed()); }
  SECTION("wrong digest") {
    digest[0] = digest[0] == '0' ? '1' : '0';
    file["sha256"] = digest;
    builder.provenance = document.dump();
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kSourceFileDiffers, "", "sha256 got ");
  }
  SECTION("wrong size") {
    file["size"] = file["size"].get<std::uint64_t>() + 1;
    builder.provenance = document.dump();
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kSourceFileDiffers, "", "bytes");
  }
  SECTION("another name") {
    file["name"] = "other.safetensors";
    builder.provenance = document.dump();
    const VerifyReport report = fixture.Verify(std::move(builder));
    REQUIRE(report.findings.size() == 2);
    for (const VerifyFinding& finding : report.findings) CHECK(finding.issue == kSourceFileDiffers.number);
  }
  SECTION("none") {
    document["source"]["files"] = Json::array();
    builder.provenance = document.dump();
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kSourceFileDiffers, "", "no shard records it");
  }
  SECTION("another format") {
    document["source"]["format"] = "safetensors-sharded";
    builder.provenance = document.dump();
    CheckOnlyFinding(fixture.Verify(std::move(builder)), kSourceFileDiffers, "", "source, format");
  }
}

TEST_CASE("whatever a container says of itself, or does not, its tensors are compared with the source") {
  const Fixture fixture;
  const VerifyOptions options;
  for (const char* text : {"", "[]", "{}", "null", "no JSON", R"({"source":{"files":[]}})"}) {
    INFO(text);
    Q4Builder builder = fixture.Convert();
    builder.provenance = text;
    CheckOnlyFinding(fixture.Verify(builder, false), kQ4ProvenanceForm, "");
    CheckOnlyFinding(fixture.Verify(builder), kQ4ProvenanceForm, "");
    builder.Find(kNorm).parts[Q4Part::kData][21] ^= 1;
    const VerifyReport report = fixture.Verify(std::move(builder));
    CHECK(report.finding_count == 2);
    CHECK(report.findings.back().issue == kDataDiffers.number);
  }
  // What another version says in other words is not damage.
  for (const char* member : {R"("schema":2,)", R"("schema":99,)"}) {
    Q4Builder builder = fixture.Convert();
    builder.provenance.insert(1, member);
    fixture.Convert().Write(PosixFileSystem(), fixture.container());
    builder.Write(PosixFileSystem(), fixture.container());
    CHECK(ExitCodeOf(VerifyModel(PosixFileSystem(), fixture.container(), options).status()) == ExitCode::kUnsupported);
  }
}

TEST_CASE("recorded statistics that contradict themselves are found without the source") {
  const Fixture fixture;
  Q4Builder builder = fixture.Convert();
  Q4Stats& stats = builder.Find(kPlain).stats;
  SECTION("sums") { stats.sum_e = 2 * stats.sum_abs_e; }
  SECTION("largest error") { stats.max_abs_err = 2 * stats.sum_abs_e; }
  SECTION("squares") { stats.sum_e2 = stats.sum_abs_e; }
  SECTION("worst block") { stats.worst_block_e2 = 2 * stats.sum_e2; }
  CheckOnlyFinding(fixture.Verify(std::move(builder), false), kStatsInconsistent, kPlain);
}

TEST_CASE("the bound of Q8.8 is held against recorded statistics") {
  const Fixture fixture;
  Q4Builder builder = fixture.Convert();
  SECTION("clipped") { builder.Find(kPlain).stats.clipped = 1; }
  SECTION("farther than half a step") { builder.Find(kPlain).stats.max_gap_ratio = 1.001; }
  CheckOnlyFinding(fixture.Verify(std::move(builder), false), kErrorBound, kPlain);
}

TEST_CASE("damaged bytes are found, and the tensor and the chunk are named") {
  const Fixture fixture;
  const VerifyReport right = fixture.Verify(fixture.Convert(), false);
  REQUIRE(right.passed());
  const auto reader = Q4Reader::Open(PosixFileSystem(), fixture.container());
  REQUIRE(reader.ok());
  const Q4Index& index = (*reader)->index();
  const Q4Tensor& large = index.tensors[static_cast<std::size_t>((*reader)->FindTensor(kLarge))];
  const Q4Tensor& norm = index.tensors[static_cast<std::size_t>((*reader)->FindTensor(kNorm))];
  const std::uint64_t second = large.Part(Q4Part::kCodes)->first_chunk + 1;

  std::fstream file(fixture.container(), std::ios::in | std::ios::out | std::ios::binary);
  const auto flip = [&](std::uint64_t offset) {
    file.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(file.get() ^ 4);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(byte);
    file.flush();
  };
  flip(index.chunks[second].offset + 1000);
  SECTION("one chunk") {
    for (const bool against : {false, true}) {
      const VerifyReport report = fixture.VerifyFile(against);
      INFO(VerifyReportJson(report));
      REQUIRE(report.findings.size() == 1);
      CHECK(report.findings[0].tensor == kLarge);
      CHECK(report.findings[0].message.find("codes") != std::string::npos);
      CHECK(report.findings[0].message.find(kLarge) != std::string::npos);
    }
  }
  SECTION("every problem is listed, not only the first") {
    flip(index.chunks[norm.Part(Q4Part::kData)->first_chunk].offset);
    const VerifyReport report = fixture.VerifyFile(false);
    CHECK(report.finding_count == 2);
    std::vector<std::string> tensors{report.findings[0].tensor, report.findings[1].tensor};
    std::sort(tensors.begin(), tensors.end());
    CHECK(tensors == std::vector<std::string>{kLarge, kNorm});
  }
}

TEST_CASE("scales that are not finite and wrong padding nibbles are found without the source") {
  const Fixture fixture;
  Q4Builder builder = fixture.Convert();
  const auto only = [&](const std::string& tensor, const std::string& text) {
    const VerifyReport report = fixture.Verify(std::move(builder), false);
    INFO(VerifyReportJson(report));
    REQUIRE(report.findings.size() == 1);
    CHECK(report.findings[0].tensor == tensor);
    CHECK(report.findings[0].message.find(text) != std::string::npos);
  };
  SECTION("NaN") {
    builder.Find(kPlain).Floats(Q4Part::kScales)[2] = std::numeric_limits<float>::quiet_NaN();
    only(kPlain, "nan");
  }
  SECTION("negative") {
    builder.Find(kPlain).Floats(Q4Part::kScales)[2] *= -1;
    only(kPlain, "scale");
  }
  SECTION("finite parts that decode to infinity") {
    test::BuiltTensor& nested = builder.Find(kNested);
    nested.Floats(Q4Part::kScales2)[0] = std::numeric_limits<float>::max();
    nested.parts[Q4Part::kScaleCodes][7] = 255;
    nested.entry.nested_offset = std::numeric_limits<float>::max();
    only(kNested, "decodes to inf");
  }
  SECTION("padding nibble") {
    builder.Find(kPlain).parts[Q4Part::kCodes].back() ^= 1;
    only(kPlain, "padding nibble");
  }
}

TEST_CASE("limits are held per tensor and for the model, each breach named") {
  const Fixture fixture;
  const VerifyReport right = fixture.Verify(fixture.Convert(), false);
  const double worst_nmse = Derive(right.tensors[1].stats).nmse;
  VerifyOptions options;
  SECTION("not reached") {
    options.max_nmse = 0.5;
    options.min_sqnr_db = 3;
    options.max_abs_error = 1;
    CHECK(fixture.VerifyFile(false, options).passed());
  }
  SECTION("NMSE") {
    options.max_nmse = worst_nmse / 100;
    const VerifyReport report = fixture.VerifyFile(false, options);
    CHECK(report.finding_count == 4);  // three tensors and the model
    for (const VerifyFinding& finding : report.findings) CHECK(finding.issue == kNmseTooHigh.number);
    CHECK(report.findings.back().message.find("model: ") != std::string::npos);
  }
  SECTION("SQNR") {
    options.min_sqnr_db = 100;
    CHECK(fixture.VerifyFile(true, options).findings.at(0).issue == kSqnrTooLow.number);
  }
  SECTION("largest error") {
    options.max_abs_error = 0;
    CHECK(fixture.VerifyFile(true, options).findings.at(0).issue == kAbsErrorTooHigh.number);
  }
  SECTION("nothing recorded to judge") {
    Q4Builder builder = fixture.Convert();
    builder.Find(kPlain).entry.has_stats = false;
    options.max_nmse = 0.5;
    CheckOnlyFinding(WithoutLostStats(fixture.Verify(builder, false, options)), kNoStatsToJudge, kPlain);
    CheckOnlyFinding(fixture.VerifyFile(true, options), kStatsNotRecorded, kPlain);
  }
}

TEST_CASE("findings beyond the listed ones are counted") {
  test::TempDir dir;
  Q4Builder builder;
  for (int i = 0; i < 150; ++i) {
    std::string name = "t" + std::to_string(1000 + i);
    builder.AddRaw(name, DType::kU8, {1}, Bytes(1));
  }
  builder.Write(PosixFileSystem(), dir.File("many.q4"));
  dir.Write("src/model.safetensors", test::SafetensorsBuilder().Add("other", "F32", {1}, "abcd").Build());
  VerifyOptions options;
  options.against = dir.File("src");
  const auto report = VerifyModel(PosixFileSystem(), dir.File("many.q4"), options);
  REQUIRE(report.ok());
  CHECK(report->finding_count == 153);  // neither options nor a source are on record
  CHECK(report->findings.size() == kMaxFindings);
}

TEST_CASE("cancelling ends with the interrupted exit code, and progress reaches the total") {
  const Fixture fixture;
  fixture.Convert().Write(PosixFileSystem(), fixture.container());
  VerifyOptions options;
  options.against = fixture.source();
  const auto last = [&] {
    Progress shown;
    REQUIRE(VerifyModel(PosixFileSystem(), fixture.container(), options, [&](const Progress& p) { shown = p; }).ok());
    CHECK(shown.total_bytes > 0);
    CHECK(shown.done_bytes == shown.total_bytes);
    CHECK(shown.done_tensors == shown.total_tensors);
    return shown;
  };
  const Progress whole = last();
  CHECK(whole.total_tensors > 1);
  options.only = *NamePattern::Parse(kPlain, "--tensor");
  const Progress one = last();
  CHECK(one.total_tensors == 1);
  CHECK(one.total_bytes < whole.total_bytes);
  options.only.reset();
  options.sample_percent = 1;
  CHECK(last().total_tensors == whole.total_tensors);
  options.against.clear();
  CHECK(last().total_tensors == 0);
  options.against = fixture.source();
  const std::atomic<bool> cancel{true};
  options.cancel = &cancel;
  const auto report = VerifyModel(PosixFileSystem(), fixture.container(), options);
  CHECK(ExitCodeOf(report.status()) == ExitCode::kInterrupted);
}

}  // namespace
}  // namespace q4
