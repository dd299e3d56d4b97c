#include "libconvert/source/source_reader.h"

#include <cstring>
#include <vector>

#include "formats/source/checkpoint_issues.h"
#include "tests/support/catch.h"
#include "tests/support/memory_file_system.h"
#include "tests/support/safetensors_builder.h"

namespace q4 {
namespace {

TEST_CASE("elements of a plain tensor are its bytes") {
  MemoryFileSystem fs;
  const std::string file =
      test::SafetensorsBuilder().Add("a", "U8", {3}, "xyz").Add("b", "BF16", {2, 2}, "01234567").Build();
  fs["a.safetensors"].assign(file.begin(), file.end());
  const auto checkpoint = OpenCheckpoint(fs, "a.safetensors");
  REQUIRE(checkpoint.ok());
  const SourceReader reader(**checkpoint);
  const SourceTensor& tensor = *(*checkpoint)->Find("b");

  std::vector<std::uint8_t> out(4);
  REQUIRE(reader.Read(tensor, 1, out).ok());
  CHECK(std::memcmp(out.data(), "2345", 4) == 0);
  REQUIRE(reader.Read(tensor, 4, std::span<std::uint8_t>()).ok());
  CHECK(IssueNumberOf(reader.Read(tensor, 3, out)) == kReadOutsideTensor.number);
}

}  // namespace
}  // namespace q4
