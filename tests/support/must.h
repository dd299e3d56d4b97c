// Results that a test needs and that are not what it tests.
#pragma once

#include <utility>

#include "absl/status/statusor.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"

namespace q4::test {

// The value; where there is none the test ends and shows the message.
template <typename T>
T Must(absl::StatusOr<T> result) {
  INFO(MessageOf(result.status()));
  REQUIRE(result.ok());
  return *std::move(result);
}

}  // namespace q4::test
