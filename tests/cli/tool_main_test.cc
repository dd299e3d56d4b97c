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

}  // namespace
}  // namespace q4
