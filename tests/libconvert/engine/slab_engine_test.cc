// The pipeline over an engine whose device fails at any step: the run ends with the device's message and leaves
// nothing.
#include "libconvert/engine/slab_engine.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "fmt/format.h"
#include "libconvert/engine/device.h"
#include "libconvert/engine/device_issues.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/sanitizer.h"

namespace q4 {
namespace {

using test::FileSha256;
using test::kMiB;
using test::Setup;

enum class Step { kBegin, kChooseScales, kQuantize, kQuantizeAndKeep, kFinish };

// Counts calls of one step and fails the chosen one.
struct Fault {
  Step step;
  int at;  // from 0
  std::atomic<int> calls{0};

  absl::Status Meet(Step met) {
    if (met != step || calls++ != at) return absl::OkStatus();
    return Fail(kDeviceFailed, {}, "cuda:0", "could not copy to the device: out of luck");
  }
};

class FaultyWork : public SlabWork {
 public:
  FaultyWork(std::unique_ptr<SlabWork> work, Fault* fault) : work_(std::move(work)), fault_(*fault) {}

  FirstBad ChooseScales(std::shared_ptr<Buffer> x, float* scales) override {
    Q4_RETURN_IF_ERROR(fault_.Meet(Step::kChooseScales));
    return work_->ChooseScales(std::move(x), scales);
  }
  FirstBad Quantize(std::shared_ptr<Buffer> x, const float* decoded, std::vector<std::uint8_t>* codes, float* scales,
                    TiledStats* statistics) override {
    Q4_RETURN_IF_ERROR(fault_.Meet(Step::kQuantize));
    return work_->Quantize(std::move(x), decoded, codes, scales, statistics);
  }
  FirstBad QuantizeAndKeep(std::shared_ptr<Buffer> x, float* scales) override {
    Q4_RETURN_IF_ERROR(fault_.Meet(Step::kQuantizeAndKeep));
    return work_->QuantizeAndKeep(std::move(x), scales);
  }
  absl::Status Finish(const float* decoded, std::vector<std::uint8_t>* codes, TiledStats* statistics) override {
    Q4_RETURN_IF_ERROR(fault_.Meet(Step::kFinish));
    return work_->Finish(decoded, codes, statistics);
  }

 private:
  std::unique_ptr<SlabWork> work_;
  Fault& fault_;
};

class FaultyEngine : public SlabEngine {
 public:
  explicit FaultyEngine(Fault* fault) : engine_(MakeCpuSlabEngine(BestCpuKernels())), fault_(*fault) {}

  absl::StatusOr<std::unique_ptr<SlabWork>> Begin(const Q4Tensor& tensor, const SlabPlace& slab) override {
    Q4_RETURN_IF_ERROR(fault_.Meet(Step::kBegin));
    Q4_ASSIGN_OR_RETURN(std::unique_ptr<SlabWork> work, engine_->Begin(tensor, slab));
    return std::make_unique<FaultyWork>(std::move(work), &fault_);
  }
  void Recycle(std::vector<std::uint8_t> codes) override { engine_->Recycle(std::move(codes)); }
  bool keeps_on_host() const override { return true; }
  std::uint64_t device_keep_bytes() const override { return 0; }
  BufferMemory& buffer_memory() override { return engine_->buffer_memory(); }
  std::uint64_t RingBytes(std::uint64_t max_memory) const override { return max_memory / 4; }
  std::uint64_t scratch_bytes_per_thread() const override { return engine_->scratch_bytes_per_thread(); }

 private:
  std::unique_ptr<SlabEngine> engine_;
  Fault& fault_;
};

}  // namespace

TEST_CASE("a device that fails at any step ends the run with its message and leaves nothing", "[threads]") {
  Setup setup;
  int faults = 0;
  for (const bool nested : {true, false}) {
    setup.options.policy.defaults.nested = nested;
    // Slabs are kept between two passes, unless the tensor itself may have to be kept: then they are read twice.
    for (const bool keep_nonfinite : {false, true}) {
      setup.options.keep_nonfinite = keep_nonfinite;
      for (const Step step :
           {Step::kBegin, Step::kChooseScales, Step::kQuantize, Step::kQuantizeAndKeep, Step::kFinish}) {
        for (const int at : {0, 1, 3}) {
          if (test::kThreadSanitizer && at != 1) continue;
          Fault fault{step, at};
          FaultyEngine engine(&fault);
          RunOptions run;
          run.threads = 3;
          run.max_memory = 1024 * kMiB;
          run.engine = &engine;
          run.pace.time = std::chrono::hours(1);  // also a slow run is a short one, which leaves nothing
          std::filesystem::remove(setup.dir.File("out.q4"));
          const absl::StatusOr<ConvertReport> report = setup.Run(run);
          const bool met = fault.calls.load() > at;
          INFO("nested " << nested << ", keep " << keep_nonfinite << ", step " << static_cast<int>(step) << ", call "
                         << at << ": " << MessageOf(report.status()));
          REQUIRE(report.ok() == !met);
          if (!met) continue;
          ++faults;
          CHECK(IsDeviceFailure(report.status()));
          CHECK(MessageOf(report.status()).find("out of luck") != std::string::npos);
          CHECK_FALSE(std::filesystem::exists(setup.dir.File("out.q4")));
          CHECK_FALSE(std::filesystem::exists(setup.dir.File("out.q4.partial")));
        }
      }
    }
  }
  CHECK(faults >= (test::kThreadSanitizer ? 7 : 20));
}

TEST_CASE("what was noted before a device failed is gone on with on the cores", "[threads]") {
  Setup setup;
  REQUIRE(setup.Run({}, "right.q4").ok());
  const std::string right = FileSha256(setup.dir.File("right.q4"));
  int resumed = 0;
  for (int at = 0; at < 8; ++at) {
    Fault fault{Step::kFinish, at};
    FaultyEngine engine(&fault);
    RunOptions run;
    run.threads = 1;
    run.pace.bytes = 1;
    run.force = true;
    run.engine = &engine;
    const absl::StatusOr<ConvertReport> failed = setup.Run(run);
    if (failed.ok()) break;
    CHECK(IsDeviceFailure(failed.status()));
    const bool noted = std::filesystem::exists(setup.dir.File("out.q4.journal"));
    CHECK(std::filesystem::exists(setup.dir.File("out.q4.partial")) == noted);
    run.engine = nullptr;
    const absl::StatusOr<ConvertReport> report = setup.Run(run);
    INFO(MessageOf(report.status()));
    REQUIRE(report.ok());
    resumed += !report->notes.empty() && report->notes.front().starts_with("resumed");
    CHECK(FileSha256(setup.dir.File("out.q4")) == right);
    std::filesystem::remove(setup.dir.File("out.q4"));
  }
  CHECK(resumed > 0);
}

TEST_CASE("the memory that a refusal asks for is enough, and no less is, where an engine's ring grows with the bound") {
  Setup setup;
  Fault fault{Step::kBegin, -1};
  FaultyEngine engine(&fault);
  RunOptions run;
  run.threads = 2;
  run.engine = &engine;
  run.max_memory = kMiB;
  const std::string refusal = MessageOf(setup.Run(run).status());
  const std::string before = "at least ";
  REQUIRE(refusal.find(before) != std::string::npos);
  const std::uint64_t asked = std::stoull(refusal.substr(refusal.find(before) + before.size()));
  CHECK(asked > kMiB);
  run.max_memory = asked - 1;
  CHECK(MessageOf(setup.Run(run).status()).find(fmt::format("{}{} bytes", before, asked)) != std::string::npos);
  run.max_memory = asked;
  CHECK(setup.Run(run).ok());
}

}  // namespace q4
