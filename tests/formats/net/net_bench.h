// What tests of formats/net share: requests to a server of the test (tests/support/answering_server.h), without waits.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/net/http.h"
#include "formats/net/net_settings.h"
#include "formats/net/remote_object.h"
#include "formats/net/transfer.h"
#include "tests/support/answering_server.h"
#include "tests/support/catch.h"

namespace q4::test {

inline NetSettings QuickSettings() {
  NetSettings settings;
  settings.attempts = 3;
  settings.first_wait_seconds = 0.001;
  return settings;
}

// libcurl, and a server that answers as the test says.
class NetBench {
 public:
  explicit NetBench(AnsweringServer::Answer answer, NetSettings given = QuickSettings())
      : server(std::move(answer)), settings(std::move(given)) {
    absl::StatusOr<std::unique_ptr<Http>> loaded = Http::Load(settings);
    REQUIRE(loaded.ok());  // libcurl is what scripts/install_deps.sh installs
    http = *std::move(loaded);
    transfer = std::make_unique<NetTransfer>(*http, settings);
  }

  NetTarget Target(const std::string& path) const {
    NetTarget target;
    target.url = server.origin() + path;
    target.name = "model" + path;
    target.when_denied = "; ask for a key";
    return target;
  }

  AnsweringServer server;
  NetSettings settings;
  std::unique_ptr<Http> http;
  std::unique_ptr<NetTransfer> transfer;
};

}  // namespace q4::test
