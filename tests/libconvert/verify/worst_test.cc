// The bound that Q8.8 gives each element near the worst blocks. The blocks themselves: report_test.cc.
#include "libconvert/verify/worst.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "formats/source/checkpoint.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/model_pair.h"
#include "tests/support/q4_builder.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

constexpr std::uint32_t kBlock = 64;
constexpr std::uint64_t kElems = 40 * kBlock + 7;

// One fp32 tensor "w.weight" and its container, which can be changed.
class OneTensor {
 public:
  OneTensor(Q4Scheme scheme, bool nested) {
    std::vector<float> values = test::NormalValues(kElems, 3);
    for (std::size_t i = 0; i < kBlock; ++i) values[i] = 0;
    pair_.AddQuantized("w.weight", DType::kF32, {kElems}, test::BytesOf(values), scheme, kBlock, nested);
    pair_.WriteSource();
  }

  // Gives element `at` the code `code`; returns the one it had.
  int SetCode(std::uint64_t at, int code) {
    test::Bytes& codes = pair_.container.Find("w.weight").parts.at(Q4Part::kCodes);
    const int old = test::GetCode(codes, at);
    test::SetCode(&codes, at, static_cast<std::uint8_t>(code));
    return old;
  }

  std::string BrokenBound() {
    pair_.WriteContainer();
    const auto reader = Q4Reader::Open(PosixFileSystem(), pair_.path());
    const auto source = OpenCheckpoint(PosixFileSystem(), pair_.source());
    REQUIRE(reader.ok());
    REQUIRE(source.ok());
    const TensorPair pair{reader->get(), &(*reader)->index().tensors[0], (*source)->Find("w.weight"), 0};
    ChunkCache cache;
    std::vector<std::string> bounds;
    for (const KernelTable* kernels : test::AllCpuKernels()) {
      const PieceTools tools{*kernels, **source, kDefaultEffort, /*compare_absmax=*/false, &cache, nullptr, nullptr};
      const absl::StatusOr<WorstBlocks> found = FindWorstBlocks(pair, tools, {{0, kElems, 0, 1}});
      REQUIRE(found.ok());
      bounds.push_back(found->broken_bound);
    }
    CHECK(std::count(bounds.begin(), bounds.end(), bounds.front()) == static_cast<std::ptrdiff_t>(bounds.size()));
    return bounds.front();
  }

 private:
  test::ModelPair pair_;
};

TEST_CASE("no element of the absmax encoder lies beyond its bound") {
  for (const Q4Scheme scheme : {Q4Scheme::kNf4, Q4Scheme::kFp4}) {
    CHECK(OneTensor(scheme, false).BrokenBound() == "");
    CHECK(OneTensor(scheme, true).BrokenBound() == "");
  }
}

TEST_CASE("every code but the nearest lies beyond its bound, and the element is named") {
  const Q4Scheme scheme = GENERATE(Q4Scheme::kNf4, Q4Scheme::kFp4);
  OneTensor tensor(scheme, false);
  for (const std::uint64_t at : {std::uint64_t{kBlock}, std::uint64_t{777}, kElems - 1}) {
    const int right = tensor.SetCode(at, 0);
    const float right_value = CodeValues(CodeBookOf(scheme))[static_cast<std::size_t>(right)];
    for (int code = 0; code < 16; ++code) {
      tensor.SetCode(at, code);
      const std::string broken = tensor.BrokenBound();
      INFO("element " << at << ", code " << code << " for " << right << ": " << broken);
      if (CodeValues(CodeBookOf(scheme))[static_cast<std::size_t>(code)] == right_value) {
        CHECK(broken == "");
      } else {
        CHECK(broken.starts_with("element " + std::to_string(at) + ": error "));
      }
    }
    tensor.SetCode(at, right);
  }
}

TEST_CASE("with double-quantized scales a far code lies beyond its bound") {
  OneTensor tensor(Q4Scheme::kNf4, true);
  const std::uint64_t at = 777;
  const int right = tensor.SetCode(at, 0);
  tensor.SetCode(at, right < 8 ? right + 4 : right - 4);
  CHECK(tensor.BrokenBound().starts_with("element 777: error "));
}

}  // namespace
}  // namespace q4
