#include "tools/tool_main.h"

#include <new>
#include <stdexcept>
#include <system_error>

#include "tests/support/catch.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// The exit code of a tool whose job does this.
int ExitOf(const internal::Body& body) {
  const bool quiet = false;
  return internal::Run("q4test", quiet, body);
}

TEST_CASE("whatever a job throws ends in a documented exit code") {
  CHECK(ExitOf([]() -> absl::StatusOr<ToolResult> { throw std::runtime_error("?"); }) == 4);
  CHECK(ExitOf([]() -> absl::StatusOr<ToolResult> { throw std::bad_alloc(); }) == 2);
  CHECK(ExitOf([]() -> absl::StatusOr<ToolResult> {
          throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
        }) == 2);
  CHECK(ExitOf([]() -> absl::StatusOr<ToolResult> {
          throw std::system_error(std::make_error_code(std::errc::io_error));
        }) == 4);
  CHECK(ExitOf([]() -> absl::StatusOr<ToolResult> { return Fail(kInternalError, {}, {}); }) == 4);
}

TEST_CASE("what somebody forgot to escape does no harm") {
  using internal::Harmless;
  for (const std::string text :
       {"", "\n", "a\n\nb", "{\"a\": 1}\n", "b \xE2\x89\xA4 1 \xE2\x94\x80\n", "\x1b[1;31mred\x1b[0m\n", "\x1b[m"}) {
    CHECK(Harmless(text) == text);
  }
  CHECK(Harmless("a\x1b[2Jb\r\x1b") == "a\\x1b[2Jb\\x0d\\x1b");
  CHECK(Harmless("\x1b[31") == "\\x1b[31");
  CHECK(Harmless("\x1b]0;x\a\n\xE2\x80\xAE\xFF") == "\\x1b]0;x\\x07\n\\xe2\\x80\\xae\\xff");
}

}  // namespace
}  // namespace q4
