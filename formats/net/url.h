// URLs as texts: what they consist of, what of them may be read, and paths of models in them.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace q4 {

// "https://user:secret@host:80/a%20b?x=1"
struct Url {
  std::string scheme;    // "https" or "http"
  std::string userinfo;  // "user:secret", as written
  std::string host;      // with its port, where one is given; in lower case
  std::string path;      // "/a%20b", as written; "" where there is none
  std::string query;     // "?x=1", with the question mark

  bool operator==(const Url&) const = default;
  // "https://host:80", which decides who may see credentials.
  std::string origin() const { return scheme + "://" + host; }
};

// Whether `path` is a URL and no file: begins with a scheme that formats/net reads.
bool IsUrl(std::string_view path);

// The scheme of what is written as a URL and is none that is read: "ftp://"; "" for all else.
std::string OtherScheme(std::string_view path);

// "hf://" of "hf:/ORG/NAME": a URL that went through a path of a file system, as Python's Path("hf://ORG/NAME"), which
// joins slashes. "" for all else.
std::string CollapsedUrl(std::string_view path);

// `text` as an http or https URL. kBadUrl, in which the text is not repeated: it may hold a secret.
absl::StatusOr<Url> ParseUrl(std::string_view text);

// Whether the server is this machine.
bool IsLoopback(const Url& url);

// kInsecureUrl for http:// unless it is this machine's, or `allow_http`. `where` is for the message.
absl::Status CheckMayRead(const Url& url, bool allow_http, std::string_view where);

// Each component percent-encoded as RFC 3986 wants it, slashes kept.
std::string EncodePath(std::string_view path);
// One value of a query, or one component: slashes too.
std::string EncodeComponent(std::string_view text);
// The reverse. kBadUrl for what is no encoding, and for %2F, %00 and other control characters, which no name has.
absl::StatusOr<std::string> DecodePath(std::string_view path);

// A model of the Hub: "hf://ORG/NAME@REVISION/PATH".
struct HubPath {
  std::string repository;  // "ORG/NAME", or "NAME" of the oldest models
  std::string revision;    // a branch, tag, commit or "refs/pr/1"; "" for the main branch
  std::string inside;      // of a file or folder in it; "" for the model

  // "hf://ORG/NAME@REVISION", a slash of the revision as %2F.
  std::string root() const;
};
// `text` begins with "hf://". kBadUrl.
absl::StatusOr<HubPath> ParseHubPath(std::string_view text);
// What `url` shows if it is a page or file of the hub at `endpoint`: /ORG/NAME, /ORG/NAME/tree/REVISION,
// /ORG/NAME/resolve/REVISION/FILE, /ORG/NAME/blob/REVISION/FILE. An empty repository for any other.
HubPath HubPathOfPage(const Url& url, std::string_view endpoint);

}  // namespace q4
