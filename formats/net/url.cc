#include "formats/net/url.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "formats/base/shown_url.h"
#include "formats/base/status.h"
#include "formats/net/net_issues.h"

namespace q4 {
namespace {

constexpr std::string_view kSchemes[] = {"https://", "http://", "hf://", "s3://", "gs://"};
constexpr std::string_view kHub = "hf://";
constexpr std::size_t kUrlBytes = 8192;
constexpr unsigned kMostPort = 65535;

bool IsUnreserved(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_' || c == '~';
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Names as the hub allows them: letters, digits, '-', '_' and '.'; none begins with a dot.
bool IsHubName(std::string_view name) {
  return !name.empty() && name.size() <= 96 && name.front() != '.' && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
}

// A name of git: no dots in a row, nothing that a URL gives a meaning.
bool IsRevision(std::string_view name) {
  return !name.empty() && name.size() <= 250 && name.find("..") == std::string_view::npos && name.front() != '/' &&
         name.back() != '/' &&
         std::all_of(name.begin(), name.end(), [](char c) { return IsUnreserved(c) || c == '/' || c == '+'; });
}

absl::Status CheckInside(std::string_view inside) {
  for (const absl::string_view part : absl::StrSplit(absl::string_view(inside.data(), inside.size()), '/')) {
    if (part == "." || part == "..") return Fail(kBadUrl, {}, {}, "a path with '.' or '..'");
  }
  return absl::OkStatus();
}

}  // namespace

bool IsUrl(std::string_view path) {
  const std::string begin =
      absl::AsciiStrToLower(absl::string_view(path.data(), std::min<std::size_t>(path.size(), 8)));
  return std::any_of(std::begin(kSchemes), std::end(kSchemes),
                     [&](std::string_view scheme) { return begin.starts_with(scheme); });
}

std::string OtherScheme(std::string_view path) {
  const std::size_t colon = path.find("://");
  if (colon == std::string_view::npos || colon == 0 || IsUrl(path)) return {};
  const bool is_scheme = std::all_of(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(colon), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '+' || c == '-' || c == '.';
  });
  return is_scheme ? std::string(path.substr(0, colon + 3)) : std::string();
}

std::string CollapsedUrl(std::string_view path) {
  for (const std::string_view scheme : kSchemes) {
    const std::string_view once = scheme.substr(0, scheme.size() - 1);
    if (path.starts_with(once) && !path.starts_with(scheme)) return std::string(scheme);
  }
  return {};
}

absl::StatusOr<Url> ParseUrl(std::string_view text) {
  Url url;
  const std::size_t colon = text.find("://");
  if (colon == std::string_view::npos) return Fail(kBadUrl, {}, {}, "no scheme such as https://");
  url.scheme = absl::AsciiStrToLower(absl::string_view(text.data(), colon));
  if (url.scheme != "https" && url.scheme != "http") {
    return Fail(kBadUrl, {}, {}, GotExpected(url.scheme.substr(0, 20) + "://", "https://, hf://, s3:// or gs://"));
  }
  if (text.size() > kUrlBytes) return Fail(kBadUrl, {}, {}, fmt::format("longer than {} bytes", kUrlBytes));
  for (const char c : text) {
    if (c <= ' ' || c == 0x7f || c == '\\' || c == '"' || c == '<' || c == '>') {
      return Fail(kBadUrl, {}, {}, "a space or character that no URL has; write it as %20 and the like");
    }
  }
  text.remove_prefix(colon + 3);
  text = text.substr(0, text.find('#'));
  if (const std::size_t mark = text.find('?'); mark != std::string_view::npos) {
    url.query = text.substr(mark);
    text = text.substr(0, mark);
  }
  const std::size_t slash = std::min(text.find('/'), text.size());
  std::string_view authority = text.substr(0, slash);
  url.path = text.substr(slash);
  if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos) {
    url.userinfo = authority.substr(0, at);
    authority.remove_prefix(at + 1);
  }
  url.host = absl::AsciiStrToLower(absl::string_view(authority.data(), authority.size()));
  const bool good = !url.host.empty() && std::all_of(url.host.begin(), url.host.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_' || c == ':' ||
           c == '[' || c == ']';
  });
  if (!good) return Fail(kBadUrl, {}, {}, "no name of a server");
  // Behind the brackets of an address of IPv6.
  const std::size_t port = url.host.find(':', url.host.find(']') == std::string::npos ? 0 : url.host.find(']'));
  if (port != std::string::npos) {
    unsigned number = 0;
    const char* const end = url.host.data() + url.host.size();
    const auto [stop, error] = std::from_chars(url.host.data() + port + 1, end, number);
    if (stop != end || error != std::errc() || number < 1 || number > kMostPort) {
      return Fail(kBadUrl, {}, "port", GotExpected(url.host.substr(port + 1), fmt::format("1 to {}", kMostPort)));
    }
  }
  return url;
}

bool IsLoopback(const Url& url) {
  std::string_view host = url.host;
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1) == "[::1]";
  host = host.substr(0, host.find(':'));
  if (host == "localhost") return true;
  // 127.0.0.0/8, as an address and not as a name that begins so.
  return host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string_view::npos;
}

absl::Status CheckMayRead(const Url& url, bool allow_http, std::string_view where) {
  if (url.scheme == "https" || allow_http || IsLoopback(url)) return absl::OkStatus();
  return Fail(kInsecureUrl, {}, where, "http://" + url.host);
}

std::string EncodePath(std::string_view path) {
  std::string out;
  for (const char c : path) {
    if (IsUnreserved(c) || c == '/') {
      out.push_back(c);
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    }
  }
  return out;
}

std::string EncodeComponent(std::string_view text) {
  std::string out;
  for (const char c : EncodePath(text)) c == '/' ? out.append("%2F") : out.append(1, c);
  return out;
}

absl::StatusOr<std::string> DecodePath(std::string_view path) {
  std::string out;
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '%') {
      out.push_back(path[i]);
      continue;
    }
    const int high = i + 2 < path.size() ? HexDigit(path[i + 1]) : -1;
    const int low = high < 0 ? -1 : HexDigit(path[i + 2]);
    if (low < 0) return Fail(kBadUrl, {}, {}, "a % that begins no encoded character");
    const int value = high * 16 + low;
    if (value == '/' || value < 32 || value == 127) return Fail(kBadUrl, {}, {}, "a slash or control character as %XX");
    out.push_back(static_cast<char>(value));
    i += 2;
  }
  Q4_RETURN_IF_ERROR(CheckInside(out));
  return out;
}

std::string HubPath::root() const {
  return std::string(kHub) + repository + (revision.empty() ? "" : "@" + absl::StrReplaceAll(revision, {{"/", "%2F"}}));
}

absl::StatusOr<HubPath> ParseHubPath(std::string_view text) {
  constexpr char kForm[] = "hf://ORG/NAME, hf://ORG/NAME@REVISION or a file in it";
  const std::string whole(text);
  text.remove_prefix(kHub.size());
  while (text.ends_with('/')) text.remove_suffix(1);
  std::vector<std::string> parts = absl::StrSplit(absl::string_view(text.data(), text.size()), '/');
  if (parts.size() > 1 && parts[0] == "models") parts.erase(parts.begin());
  // "models" is no organization: what is called so would be taken for the first word of another name.
  if (parts.size() > 1 &&
      (parts[0] == "datasets" || parts[0] == "spaces" || parts[0] == "buckets" || parts[0] == "models")) {
    return Fail(kBadUrl, whole, {}, GotExpected(parts[0], "a model: " + std::string(kForm)));
  }
  HubPath path;
  // The revision stands behind the last name of the model, and may have slashes of its own: refs/pr/1, or %2F.
  std::size_t last = parts.size() > 1 && parts[0].find('@') == std::string::npos ? 1 : 0;
  std::string& name = parts[last];
  if (const std::size_t at = name.find('@'); at != std::string::npos) {
    path.revision = name.substr(at + 1);
    name.resize(at);
    if (path.revision == "refs" && last + 2 < parts.size()) {
      path.revision += "/" + parts[last + 1] + "/" + parts[last + 2];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(last) + 1,
                  parts.begin() + static_cast<std::ptrdiff_t>(last) + 3);
    }
    for (std::size_t i = 0; (i = path.revision.find('%', i)) != std::string::npos; ++i) {
      const std::string code = absl::AsciiStrToLower(path.revision.substr(i, 3));
      if (code != "%2f") return Fail(kBadUrl, whole, {}, GotExpected("a revision with %", "%2F for a slash only"));
      path.revision.replace(i, 3, "/");
    }
    if (!IsRevision(path.revision)) return Fail(kBadUrl, whole, {}, GotExpected("no revision behind @", kForm));
  }
  // Else the server would be asked for it by that name.
  if (LooksLikeHubToken(parts[0])) {
    return Fail(kBadUrl, whole, {}, "a token does not go into it: set HF_TOKEN, and give " + std::string(kForm));
  }
  for (std::size_t i = 0; i <= last; ++i) {
    if (!IsHubName(parts[i])) return Fail(kBadUrl, whole, {}, GotExpected("'" + parts[i] + "'", kForm));
  }
  path.repository = absl::StrJoin(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(last) + 1, "/");
  path.inside = absl::StrJoin(parts.begin() + static_cast<std::ptrdiff_t>(last) + 1, parts.end(), "/");
  Q4_RETURN_IF_ERROR(InFile(CheckInside(path.inside), whole));
  return path;
}

HubPath HubPathOfPage(const Url& url, std::string_view endpoint) {
  const bool is_hub =
      url.origin() == endpoint || (url.scheme == "https" && (url.host == "huggingface.co" || url.host == "hf.co"));
  if (!is_hub || !url.userinfo.empty()) return {};
  std::string_view text = url.path;
  while (text.starts_with('/')) text.remove_prefix(1);
  while (text.ends_with('/')) text.remove_suffix(1);
  std::vector<std::string> parts = absl::StrSplit(absl::string_view(text.data(), text.size()), '/');
  if (parts.size() < 2 || !IsHubName(parts[0]) || !IsHubName(parts[1])) return {};
  for (const char* const other : {"datasets", "spaces", "buckets", "api", "docs", "models", "blog"}) {
    if (parts[0] == other) return {};
  }
  HubPath path;
  path.repository = parts[0] + "/" + parts[1];
  if (parts.size() == 2) return path;
  if (parts.size() < 4 || (parts[2] != "tree" && parts[2] != "resolve" && parts[2] != "blob")) return {};
  const absl::StatusOr<std::string> inside = DecodePath(absl::StrJoin(parts.begin() + 4, parts.end(), "/"));
  path.revision = parts[3];
  for (std::size_t i = 0; (i = path.revision.find("%2F", i)) != std::string::npos;) path.revision.replace(i, 3, "/");
  if (!IsRevision(path.revision) || !inside.ok()) return {};
  path.inside = *inside;
  return path;
}

}  // namespace q4
