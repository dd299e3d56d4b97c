// One request and its answer, by libcurl: GET, no redirect followed, nothing tried again. The only file that reaches
// libcurl, which is loaded when the first URL is read (docs/decisions/0052), so that whoever reads files has nothing of
// it: no library at start, no memory, no dependency.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/net/net_settings.h"

namespace q4 {

struct HttpReply {
  int status = 0;                                            // 0: no answer came
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  // Why it did not come to its end, in libcurl's words; "" if it did, or if the sink stopped it.
  std::string failure;
  bool may_pass = false;  // trying again may help: `failure`, or a status such as 503
  bool stopped = false;   // by the sink
  // From the request to the first byte of the answer.
  double wait_seconds = 0;
  // Where an answer of 3xx leads, as an absolute URL; else "".
  std::string redirect;
  // The beginning of a body that is no success, for messages.
  std::string error_body;

  // Of the first header of this name (lower case), "" if there is none.
  std::string_view Header(std::string_view name) const;
};

// Takes the body of an answer of 2xx, piece by piece, with its status and headers; false stops the transfer.
using HttpSink = std::function<bool(const HttpReply& reply, std::span<const std::uint8_t> bytes)>;

// Connections are kept and used again. Thread-safe.
class Http {
 public:
  // kNoNetwork where there is no libcurl. `settings` must outlive the result.
  static absl::StatusOr<std::unique_ptr<Http>> Load(const NetSettings& settings);
  ~Http();

  // `url`: http or https. `headers`: lines "Name: value" without line breaks.
  HttpReply Get(const std::string& url, const std::vector<std::string>& headers, const HttpSink& sink);

 private:
  class Connection;
  explicit Http(const NetSettings& settings);
  std::unique_ptr<Connection> Take();

  const NetSettings& settings_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Connection>> free_;
  std::atomic<bool> reached_{false};  // some server has answered
};

}  // namespace q4
