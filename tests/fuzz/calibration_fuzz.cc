// Calibration files. The input is the header of a safetensors file up to its first NUL, and behind that the payload.
// What is accepted has finite moments from 0 on for every weight, the digest of the file, and weights that are found
// again; a Hessian is what it says or an error.
#include <cmath>
#include <string>
#include <vector>

#include "formats/base/digest.h"
#include "formats/calibration/calibration.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/memory_file_system.h"
#include "tests/support/safetensors_builder.h"

namespace q4::fuzz {
namespace {

void CheckInput(const Calibration& calibration, const InputStatistics& input) {
  Q4_FUZZ_CHECK(input.columns > 0 && input.matrices > 0 && input.tokens > 0);
  Q4_FUZZ_CHECK(input.idle <= input.matrices && (input.stacked || input.idle == 0));
  std::vector<float> moments(input.matrices * input.columns);
  Q4_FUZZ_CHECK(calibration.ReadMoments(input, moments).ok());
  for (const float moment : moments) Q4_FUZZ_CHECK(std::isfinite(moment) && moment >= 0);
  if (!input.has_hessian) return;
  std::vector<float> hessian(input.columns * input.columns);
  for (std::uint64_t matrix = 0; matrix < input.matrices; ++matrix) {
    if (const absl::Status read = calibration.ReadHessian(input, matrix, hessian); !read.ok()) {
      CheckError(read);
      continue;
    }
    for (const float product : hessian) Q4_FUZZ_CHECK(std::isfinite(product));
  }
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(calibration) {
  using namespace q4;
  const std::string_view all = fuzz::TextOf(data, size);
  const std::string_view header = all.substr(0, all.find('\0'));
  const std::string bytes = test::SafetensorsBytes(header, all.substr(std::min(header.size() + 1, all.size())));
  MemoryFileSystem fs;
  fs["c"].assign(bytes.begin(), bytes.end());
  const auto calibration = Calibration::Open(fs, "c");
  if (!calibration.ok()) {
    fuzz::CheckError(calibration.status());
    return 0;
  }
  Q4_FUZZ_CHECK((*calibration)->digest() ==
                HexOf(Sha256Of({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()})));
  Q4_FUZZ_CHECK((*calibration)->weights() > 0 && (*calibration)->tokens() > 0);
  for (const std::string_view name : {"a.weight", "m.a.weight", "b", ""}) {
    const WeightInput found = (*calibration)->Find(name);
    const std::vector<std::string_view> names = {name, "m.b", "b.weight"};
    const WeightInput matched = (*calibration)->Match(names)[0];
    Q4_FUZZ_CHECK(found.input == nullptr || (matched.input == found.input && matched.transposed == found.transposed));
    if (matched.input != nullptr) fuzz::CheckInput(**calibration, *matched.input);
  }
  return 0;
}
