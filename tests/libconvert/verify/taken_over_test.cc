// Weights that are taken over from a bitsandbytes checkpoint: several slabs, odd sizes, and a checkpoint that is not
// the one. It is made by q4export here; tests/python/bnb_taken_over_check.py takes the library's own.
#include <functional>
#include <string>

#include "formats/base/limits.h"
#include "formats/q4/q4_issues.h"
#include "libconvert/convert/convert.h"
#include "libconvert/export/export.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/report/json.h"
#include "libconvert/verify/verify.h"
#include "tests/support/convert_setup.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::Must;

std::string Content(const std::string& path) { return Must(ReadWholeFile(PosixFileSystem(), path, 1u << 30)); }

// The model of convert_setup.h, quantized, exported for bitsandbytes, and taken over from there.
class TakenOver {
 public:
  TakenOver(bool nested, std::optional<DType> storage, std::uint64_t shard_bytes = 0) {
    const std::string source = test::WriteModel(dir_);
    ConvertOptions options;
    options.policy.defaults.nested = nested;
    test::MustConvert(source, options, dir_.File("first.q4"));
    Export(dir_.File("first.q4"), bnb(), storage, shard_bytes);
    const auto checkpoint = Must(OpenCheckpoint(PosixFileSystem(), bnb(), {.take_over = true}));
    REQUIRE(checkpoint->taken_over());
    const ConversionPlan plan =
        Must(PlanConversion(*checkpoint, Must(checkpoint->Configs(PosixFileSystem())), ConvertOptions()));
    Must(RunConversion(PosixFileSystem(), *checkpoint, plan, ConvertOptions(), RunOptions(), container()));
  }

  std::string original() const { return dir_.path(); }
  std::string bnb() const { return dir_.File("bnb"); }
  std::string again() const { return dir_.File("again"); }
  std::string container() const { return dir_.File("taken.q4"); }

  static void Export(const std::string& from, const std::string& to, std::optional<DType> storage,
                     std::uint64_t shard_bytes = 0) {
    ExportOptions options;
    options.shard_bytes = shard_bytes;
    options.quant_storage = storage;
    Must(ExportModel(PosixFileSystem(), from, to, options));
  }

  VerifyReport Verify(const std::string& against) const {
    VerifyOptions options;
    options.kernels = &BestCpuKernels();
    options.against = against;
    return Must(VerifyModel(PosixFileSystem(), container(), options, {}));
  }

 private:
  test::TempDir dir_;
};

}  // namespace

TEST_CASE("weights that are taken over come back as they were, slab by slab", "[verify][bnb]") {
  const auto nested = GENERATE(false, true);
  const auto storage = GENERATE(std::optional<DType>(), std::optional<DType>(DType::kU8));
  const TakenOver taken(nested, storage);
  const VerifyReport same = taken.Verify(taken.bnb());
  CHECK(same.passed());
  CHECK_FALSE(same.against_original);
  std::uint64_t quantized = 0;
  for (const VerifyTensor& tensor : same.tensors) {
    CHECK(tensor.proof == TensorProof::kEqual);
    CHECK_FALSE(tensor.has_stats);
    quantized += tensor.quantized();
  }
  CHECK(quantized == 4);
  TakenOver::Export(taken.container(), taken.again(), std::nullopt);
  CHECK(Content(taken.again() + "/model.safetensors") == Content(taken.bnb() + "/model.safetensors"));
  CHECK(Content(taken.again() + "/config.json") == Content(taken.bnb() + "/config.json"));
  // Against what they were quantized from: in the bounds of absmax, with statistics.
  const VerifyReport original = taken.Verify(taken.original() + "/model.safetensors");
  CHECK(original.against_original);
  CHECK(VerifyReportJson(original).find("\"against_original\": true") != std::string::npos);
  CHECK(VerifyReportJson(same).find("\"against_original\": false") != std::string::npos);
  CHECK(original.passed());
  for (const VerifyTensor& tensor : original.tensors) {
    if (!tensor.quantized()) continue;
    CHECK(tensor.proof == TensorProof::kBounded);
    CHECK(tensor.has_stats);
  }
}

TEST_CASE("shards that are taken over come back as they were, and lies about them are told", "[verify][bnb]") {
  const TakenOver taken(GENERATE(false, true), std::nullopt, 50'000);
  TakenOver::Export(taken.container(), taken.again(), std::nullopt);
  std::size_t files = 0;
  for (const std::string& name : Must(PosixFileSystem().ListDirectory(taken.bnb()))) {
    if (name == "q4_export.json") continue;
    CHECK(Content(taken.again() + "/" + name) == Content(taken.bnb() + "/" + name));
    files += name.ends_with(".safetensors");
  }
  CHECK(files > 2);
  CHECK(taken.Verify(taken.bnb()).passed());

  const auto model = Must(OpenContainer(PosixFileSystem(), taken.container()));
  const Json document = Must(ReadProvenance(*model)).document;
  REQUIRE(BnbRecordOf(*model, document).ok());
  const Json runs = document.at("bitsandbytes").at("files");
  REQUIRE(runs.size() > 2);
  const auto told = [&](const std::function<void(Json&)>& lie) {
    Json changed = runs, other = document;
    lie(changed);
    other["bitsandbytes"]["files"] = std::move(changed);
    return IssueNumberOf(BnbRecordOf(*model, other).status()) == kQ4ProvenanceForm.number;
  };
  const auto put = [](std::size_t run, const char* member, std::uint64_t value) {
    return [=](Json& changed) { changed[run][member] = value; };
  };
  CHECK(told(put(0, "tensors", 0)));
  CHECK(told(put(0, "tensors", runs[0].at("tensors").get<std::uint64_t>() + 1)));
  CHECK(told(put(0, "tensors", runs[0].at("tensors").get<std::uint64_t>() - 1)));
  CHECK(told(put(0, "tensors", UINT64_MAX)));
  CHECK(told(put(0, "file", limits::kShards)));
  CHECK(told(put(0, "file", UINT64_MAX)));
  CHECK(told(put(0, "file", limits::kShards - 1)));
  CHECK(told(put(1, "file", runs[0].at("file").get<std::uint64_t>())));
  CHECK(told([&](Json& changed) { changed.push_back(runs[0]); }));
  CHECK(told([&](Json& changed) { changed = Json::array({runs[0]}); }));
  Json without = document;
  without["bitsandbytes"].erase("files");
  without["bitsandbytes"]["index"] = Json{{"total_size", 1u}};
  CHECK(IssueNumberOf(BnbRecordOf(*model, without).status()) == kQ4ProvenanceForm.number);
  // All in one file, which nobody would write down.
  CHECK(told([&](Json& changed) {
    std::uint64_t all = 0;
    for (const Json& run : runs) all += run.at("tensors").get<std::uint64_t>();
    changed = Json::array({Json{{"file", 0u}, {"tensors", all}}});
  }));
}

}  // namespace q4
