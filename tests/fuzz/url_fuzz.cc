// URLs and paths of models on servers. What is accepted has a server and a path that a request may carry; a decoded
// path is found again by encoding it; what a model of the hub is called says the same when it is read anew.
#include <algorithm>

#include "formats/net/url.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

bool HasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

// Nothing that would end a line of a request.
void CheckUrl(const Url& url) {
  Q4_FUZZ_CHECK(url.scheme == "http" || url.scheme == "https");
  Q4_FUZZ_CHECK(!url.host.empty());
  Q4_FUZZ_CHECK(url.path.empty() || url.path.starts_with('/'));
  Q4_FUZZ_CHECK(url.query.empty() || url.query.starts_with('?'));
  for (const std::string_view part : {url.userinfo, url.host, url.path, url.query}) {
    Q4_FUZZ_CHECK(!HasControl(part) && part.find(' ') == std::string_view::npos);
  }
  const auto again = ParseUrl(url.origin() + url.path + url.query);
  Q4_FUZZ_CHECK(again.ok() && again->origin() == url.origin() && again->path == url.path && again->query == url.query);
  if (!CheckMayRead(url, false, "u").ok()) Q4_FUZZ_CHECK(url.scheme == "http" && !IsLoopback(url));
  Q4_FUZZ_CHECK(CheckMayRead(url, true, "u").ok());
}

void CheckHubPath(const HubPath& path) {
  Q4_FUZZ_CHECK(!path.repository.empty());
  const auto again = ParseHubPath(path.root() + (path.inside.empty() ? "" : "/" + path.inside));
  Q4_FUZZ_CHECK(again.ok() && again->repository == path.repository && again->revision == path.revision &&
                again->inside == path.inside);
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(url) {
  using namespace q4;
  const std::string_view text = fuzz::TextOf(data, size);
  Q4_FUZZ_CHECK(!IsUrl(text) || OtherScheme(text).empty());
  if (const auto url = ParseUrl(text); url.ok()) {
    fuzz::CheckUrl(*url);
    for (const std::string& endpoint : {std::string("https://huggingface.co"), url->origin()}) {
      const HubPath page = HubPathOfPage(*url, endpoint);
      if (!page.repository.empty()) fuzz::CheckHubPath(page);
    }
  } else {
    fuzz::CheckError(url.status());
  }
  if (const auto decoded = DecodePath(text); decoded.ok()) {
    const auto again = DecodePath(EncodePath(*decoded));
    // What is no code stays as it is: those who decode have parsed the URL before.
    Q4_FUZZ_CHECK(fuzz::HasControl(*decoded) == fuzz::HasControl(text));
    if (!fuzz::HasControl(text)) Q4_FUZZ_CHECK(again.ok() && *again == *decoded);
  } else {
    fuzz::CheckError(decoded.status());
  }
  if (const auto path = ParseHubPath("hf://" + std::string(text)); path.ok()) {
    fuzz::CheckHubPath(*path);
  } else {
    fuzz::CheckError(path.status());
  }
  Q4_FUZZ_CHECK(EncodeComponent(text).find_first_of("/?#&= ") == std::string::npos);
  return 0;
}
