// Where q4 is built without libcurl's header, or for machines without anything: no URL can be read, and whoever gives
// one is told why.
#if !__has_include(<curl/curl.h>) || defined(Q4_WITHOUT_CURL)

#include "formats/base/status.h"
#include "formats/net/http.h"
#include "formats/net/net_issues.h"

namespace q4 {

class Http::Connection {};

std::string_view HttpReply::Header(std::string_view /*name*/) const { return {}; }

absl::StatusOr<std::unique_ptr<Http>> Http::Load(const NetSettings& /*settings*/) {
  return Fail(kNoNetwork, {}, {}, "this build of q4 was made without libcurl; download the model first");
}

Http::Http(const NetSettings& settings) : settings_(settings) {}
Http::~Http() = default;
HttpReply Http::Get(const std::string& /*url*/, const std::vector<std::string>& /*headers*/, const HttpSink& /*sink*/) {
  return {};
}

}  // namespace q4

#endif  // !__has_include(<curl/curl.h>) || defined(Q4_WITHOUT_CURL)
