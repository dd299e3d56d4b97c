#include "formats/base/status_parts.h"

#include <string>

#include "formats/base/status.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

constexpr Issue kRule{3999, ExitCode::kInvalidInput, "a rule"};

TEST_CASE("a status tells its file and its tensor as they are, whatever the message escapes") {
  const absl::Status status = Fail(kRule, "a\x1b.q4", "tensor 'it's \n', codes, chunk 2");
  CHECK(FileOf(status) == "a\x1b.q4");
  CHECK(TensorOf(status) == "it's \n");
  CHECK(FileOf(Fail(kRule, {}, "tensor 'x'")).empty());
  for (const std::string place : {"", "header", "tensor", "tensor '", "tensor x", "'x'"}) {
    CHECK(TensorOf(Fail(kRule, "f", place)).empty());
  }
  CHECK(TensorOf(Fail(kRule, "f", "tensor ''")).empty());
  CHECK(FileOf(absl::OkStatus()).empty());
  CHECK(TensorOf(absl::InternalError("?")).empty());
}

TEST_CASE("a file that is named later is the one") {
  const absl::Status named = InFile(Fail(kRule, {}, "tensor 'x'"), "b");
  CHECK(FileOf(named) == "b");
  CHECK(TensorOf(named) == "x");
  CHECK(IssueNumberOf(named) == 3999);
}

}  // namespace
}  // namespace q4
