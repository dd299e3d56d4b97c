// Calibration files: what is read of them, which input a weight has, and what is refused.
#include "formats/calibration/calibration.h"

#include <limits>
#include <string>
#include <vector>

#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "tests/support/calibration_builder.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/memory_file_system.h"

namespace q4 {
namespace {

using test::CalibrationBuilder;

constexpr char kPath[] = "a.safetensors";

class Opened {
 public:
  explicit Opened(const std::string& bytes) {
    fs_[kPath].assign(bytes.begin(), bytes.end());
    calibration_ = Calibration::Open(fs_, kPath);
  }
  const Calibration& operator*() const {
    REQUIRE(calibration_.ok());
    return **calibration_;
  }
  const Calibration* operator->() const { return &**this; }
  int issue() const { return IssueNumberOf(calibration_.status()); }
  std::string message() const { return MessageOf(calibration_.status()); }

 private:
  MemoryFileSystem fs_;
  absl::StatusOr<std::shared_ptr<const Calibration>> calibration_ = absl::UnknownError("");
};

int IssueOf(const CalibrationBuilder& builder) { return Opened(builder.Build()).issue(); }

std::string Hessian(std::vector<float> elements) { return test::BytesOfAll(elements); }

CalibrationBuilder WithHessian(const std::vector<float>& elements) {
  return CalibrationBuilder().Layer("a.weight", {4, 1}).Tensor("a.weight.hessian", "F32", {2, 2}, Hessian(elements));
}

}  // namespace

TEST_CASE("a calibration file is read: weights, moments, Hessians, digest") {
  const std::string bytes = CalibrationBuilder()
                                .Layer("l.q.weight", {1, 2, 3})
                                .Weight("l.k.weight", "l.q.weight")
                                .Tensor("l.q.weight.hessian", "F32", {3, 3}, Hessian({1, .5, 0, .5, 2, -1, 0, -1, 3}))
                                .Metadata("provenance", R"({"tool": "t"})")
                                .Build();
  const Opened file(bytes);
  CHECK(file->digest() == HexOf(Sha256Of({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()})));
  CHECK(file->provenance() == R"({"tool": "t"})");
  CHECK(file->weights() == 2);
  const InputStatistics* const input = file->Find("l.k.weight").input;
  REQUIRE(input != nullptr);
  CHECK(input == file->Find("l.q.weight").input);
  CHECK(file->Find("l.v.weight").input == nullptr);
  CHECK((input->columns == 3 && input->matrices == 1 && !input->stacked && input->tokens == 100 && input->idle == 0));
  std::vector<float> moments(3), hessian(9);
  REQUIRE(file->ReadMoments(*input, moments).ok());
  CHECK(moments == std::vector<float>{1, 2, 3});
  REQUIRE(input->has_hessian);
  REQUIRE(file->ReadHessian(*input, 0, hessian).ok());
  CHECK(hessian[5] == -1);
}

TEST_CASE("experts in a stack have numbers of their own, and may have met no token") {
  const CalibrationBuilder builder =
      CalibrationBuilder()
          .Weight("e", "e", true)
          .Tensor("e.second_moments", "F32", {3, 2}, test::BytesOfAll<float>({1, 2, 0, 0, 5, 6}))
          .Tensor("e.count", "I64", {3}, test::BytesOfAll<std::int64_t>({7, 0, 9}));
  const Opened file(builder.Build());
  const WeightInput found = file->Find("e");
  REQUIRE(found.input != nullptr);
  CHECK(found.transposed);
  CHECK((found.input->stacked && found.input->matrices == 3 && found.input->columns == 2));
  CHECK((found.input->tokens == 16 && found.input->idle == 1));
  // Of a layer that is not one of several experts, no tokens means no calibration.
  CHECK(IssueOf(CalibrationBuilder().Weight("a", "a").Input("a", {0, 0}, 0)) == 3622);
}

TEST_CASE("a name that is not in the file means the one that has a leading module more or less") {
  const std::string bytes = CalibrationBuilder()
                                .Layer("layers.0.weight", {1, 2})
                                .Layer("model.layers.1.weight", {3, 4})
                                .Layer("x.twice.weight", {5, 6})
                                .Layer("y.twice.weight", {7, 8})
                                .Layer("head.weight", {9, 9})
                                .Build();
  const Opened file(bytes);
  const std::vector<std::string_view> names = {"model.layers.0.weight", "layers.1.weight",     "twice.weight",
                                               "encoder.head.weight",   "decoder.head.weight", "other.weight"};
  const std::vector<WeightInput> inputs = file->Match(names);
  REQUIRE(inputs.size() == names.size());
  CHECK(inputs[0].input == file->Find("layers.0.weight").input);
  CHECK(inputs[1].input == file->Find("model.layers.1.weight").input);
  CHECK(inputs[2].input == nullptr);  // two names of the file end so
  CHECK(inputs[3].input == nullptr);  // two names of the checkpoint would have it
  CHECK(inputs[4].input == nullptr);
  CHECK(inputs[5].input == nullptr);
  // What the file names exactly is not given away.
  const std::vector<std::string_view> both = {"head.weight", "model.head.weight"};
  CHECK(file->Match(both)[0].input != nullptr);
  CHECK(file->Match(both)[1].input == nullptr);
}

TEST_CASE("numbers that no input has are refused when the file is opened") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float wrong : {nan, inf, -inf, -1.0F}) CHECK(IssueOf(CalibrationBuilder().Layer("a", {1, wrong})) == 3622);
  CHECK(Opened(CalibrationBuilder().Layer("a", {-0.0F, 3e38F}).Build()).issue() == 0);
  for (const std::int64_t wrong : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 62}) {
    CHECK(IssueOf(CalibrationBuilder().Weight("a", "a").Input("a", {1}, wrong)) == 3622);
  }
  CHECK(IssueOf(WithHessian({4, nan, 0, 1})) == 3622);
  // No tokens, but moments.
  CHECK(IssueOf(CalibrationBuilder()
                    .Weight("e", "e")
                    .Tensor("e.count", "I64", {2}, test::BytesOfAll<std::int64_t>({1, 0}))
                    .Tensor("e.second_moments", "F32", {2, 1}, test::BytesOfAll<float>({1, 1}))) == 3622);
  // Across the borders of pieces in which it is read.
  std::vector<float> many(600'000, 1);
  many[262'143] = many[599'999] = -1;
  const Opened file(CalibrationBuilder().Layer("a", many).Build());
  CHECK(file.issue() == 3622);
  CHECK(file.message().find("element 262143") != std::string::npos);
}

TEST_CASE("shapes, types and names are held against each other") {
  const auto ones = [](std::size_t n) { return test::BytesOfAll(std::vector<float>(n, 1)); };
  const auto with_moments = [&](std::string_view dtype, const std::vector<std::uint64_t>& shape, std::size_t floats) {
    return IssueOf(CalibrationBuilder()
                       .Weight("a", "a")
                       .Tensor("a.second_moments", dtype, shape, ones(floats))
                       .Tensor("a.count", "I64", {1}, test::BytesOfAll<std::int64_t>({1})));
  };
  CHECK(with_moments("F32", {2}, 2) == 0);
  CHECK(with_moments("F64", {2}, 4) == 3621);
  CHECK(with_moments("F32", {}, 1) == 3621);
  CHECK(with_moments("F32", {0}, 0) == 3621);
  CHECK(with_moments("F32", {1, 1, 2}, 2) == 3621);
  CHECK(with_moments("F32", {2, 2}, 4) == 3621);  // two experts, but one count
  CHECK(IssueOf(WithHessian({4, 0, 0, 1})) == 0);
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1, 1}).Tensor("a.hessian", "F32", {2, 1}, ones(2))) == 3621);
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Weight("b", "c")) == 3621);  // nothing of c
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Input("b", {1})) == 3620);   // b is nobody's
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Tensor("a.mean", "F32", {1}, ones(1))) == 3620);
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Weight("a", "a", true)) == 3620);  // both ways round
}

TEST_CASE("files of something else are told apart") {
  CHECK(Opened(test::SafetensorsBuilder().Metadata("format", "pt").Build()).issue() == 3620);
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Metadata("q4_calibration", "2")) == 5620);
  CHECK(IssueOf(CalibrationBuilder()) == 3620);  // no weight
  for (const char* const wrong : {"[]", R"({"a": 1})", "3"}) {
    CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Metadata("weights", wrong)) == 3620);
  }
  // Also where some of it is right.
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Metadata("weights", R"({"a": "a", "b": 3})")) == 3620);
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Metadata("transposed_weights", R"({"b": 3})")) == 3620);
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Metadata("weights", "{")) != 0);
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Metadata("weights", R"({"a": "a", "a": "b"})")) != 0);
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Metadata("provenance", "[]")) == 3620);
  CHECK(IssueOf(CalibrationBuilder().Layer("a", {1}).Metadata("note", std::string(9 << 20, 'x'))) == 3620);
  const std::string whole = CalibrationBuilder().Layer("a", {1, 2}).Build();
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(Opened(whole.substr(0, size)).issue() == 0);
}

TEST_CASE("what is another kind of file is called so") {
  const Opened imatrix("GGUF" + std::string(100, '\3'));
  CHECK(imatrix.issue() == 3620);
  CHECK(imatrix.message().find("it looks like") != std::string::npos);
}

TEST_CASE("whichever read of a calibration fails, it is said") {
  const std::string bytes = WithHessian({4, 1, 1, 1}).Build();
  for (std::int64_t call = 0;; ++call) {
    MemoryFileSystem files;
    files[kPath].assign(bytes.begin(), bytes.end());
    test::FaultyFileSystem fs(call, test::Removals::kSucceed, files);
    const auto opened = Calibration::Open(fs, kPath);
    absl::Status status = opened.status();
    if (status.ok()) {
      const InputStatistics& input = *(*opened)->Find("a.weight").input;
      std::vector<float> moments(2), hessian(4);
      status.Update((*opened)->ReadMoments(input, moments));
      status.Update((*opened)->ReadHessian(input, 0, hessian));
    }
    INFO("call " << call << ", " << fs.failed_call());
    CHECK(status.ok() != fs.failed());
    if (!fs.failed()) break;
  }
}

TEST_CASE("a Hessian is symmetric and has the second moments on its diagonal") {
  const auto read = [](const std::vector<float>& elements) {
    const Opened file(WithHessian(elements).Build());
    std::vector<float> hessian(4);
    return IssueNumberOf(file->ReadHessian(*file->Find("a.weight").input, 0, hessian));
  };
  CHECK(read({4, 1, 1, 1}) == 0);
  CHECK(read({4.001F, 1.0005F, 1, 1}) == 0);  // rounding
  CHECK(read({4, 1, -1, 1}) == 3623);
  CHECK(read({4, 1, 1, 2}) == 3623);
  CHECK(read({4, 3, 3, 1}) == 0);  // not positive definite: for those to find who factorize it
}

}  // namespace q4
