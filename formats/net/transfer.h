// Requests as the readers need them: redirects followed by our rules, waits between attempts, errors as statuses.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/net/http.h"
#include "formats/net/net_settings.h"

namespace q4 {

// What is asked for.
struct NetTarget {
  std::string url;
  // Makes the header lines that let us in, for a GET of `url` as it is now. Never sent to another origin, nor over http
  // to another machine. Empty: none.
  std::function<std::vector<std::string>()> credentials;
  // What to do about 401 and 403: "; set HF_TOKEN to ...".
  std::string when_denied;
  // As messages name it: without secrets.
  std::string name;
};

// An answer, and where it came from.
struct NetReply : HttpReply {
  std::string url;          // that answered
  bool redirected = false;  // it is not the target's
};

class NetTransfer {
 public:
  // Both must outlive it.
  NetTransfer(Http& http, const NetSettings& settings) : http_(http), settings_(settings) {}

  // One request, and those that redirects make of it. kBadRedirect. An answer of any status is no error.
  absl::StatusOr<NetReply> Get(const NetTarget& target, const std::vector<std::string>& headers,
                               const HttpSink& sink) const;
  // The same of a URL that an earlier answer came from, without credentials unless it is the target's own.
  absl::StatusOr<NetReply> GetFrom(const std::string& url, const NetTarget& target,
                                   const std::vector<std::string>& headers, const HttpSink& sink) const;
  // A small document: a listing. kListingTooLarge beyond `limit`; the errors of ErrorOf(). `reply` may be nullptr.
  absl::StatusOr<std::string> GetText(const NetTarget& target, std::uint64_t limit, NetReply* reply) const;

  // kPageForFile if a success is a page for people (HTML), by its type or how its body begins, unless the name is that
  // of a page. `beginning`: of the body, as far as it is known.
  absl::Status CheckNoPage(const NetTarget& target, const NetReply& reply, std::string_view beginning) const;
  // What an answer means that is no success.
  absl::Status ErrorOf(const NetTarget& target, const NetReply& reply, std::string_view where = {}) const;

  const NetSettings& settings() const { return settings_; }

 private:
  Http& http_;
  const NetSettings& settings_;
};

// The attempts of one piece of work.
class NetRetry {
 public:
  // `stop`: ends a wait when it becomes true, as the settings' own does. May be nullptr.
  explicit NetRetry(const NetTransfer& transfer, const std::atomic<bool>* stop = nullptr)
      : transfer_(transfer), stop_(stop) {}
  // After an answer that may pass: waits, as long as the server asks for or twice as long as before, and returns OK for
  // another attempt; else the error. kNetInterrupted.
  absl::Status Wait(const NetTarget& target, const NetReply& reply, std::string_view where = {});
  // Something came: attempts are counted anew.
  void Progress() { failed_ = 0; }

 private:
  const NetTransfer& transfer_;
  const std::atomic<bool>* const stop_;
  int failed_ = 0;
};

}  // namespace q4
