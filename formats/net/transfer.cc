#include "formats/net/transfer.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <ctime>
#include <thread>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/net/net_issues.h"
#include "formats/net/url.h"

namespace q4 {
namespace {

constexpr int kMostRedirects = 8;
constexpr auto kSlice = std::chrono::milliseconds(20);

absl::StatusOr<std::string> OriginOf(const std::string& url) {
  Q4_ASSIGN_OR_RETURN(const Url parsed, ParseUrl(url));
  return parsed.origin();
}

// Seconds, or a date; negative for what is neither.
double SecondsOf(std::string_view text) {
  double seconds = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc() && end == text.data() + text.size() && std::isfinite(seconds)) return std::max(seconds, 0.0);
  struct tm date {};
  if (::strptime(std::string(text).c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date) == nullptr) return -1;
  return std::max(0.0, std::difftime(::timegm(&date), std::time(nullptr)));
}

// What the server asks for; negative if nothing. The hub's own header has the rest of a window: "...;t=120".
double AskedWait(const HttpReply& reply) {
  if (const std::string_view after = reply.Header("retry-after"); !after.empty()) return SecondsOf(after);
  const std::string_view limit = reply.Header("ratelimit");
  const std::size_t at = limit.find(";t=");
  return reply.status == 429 && at != std::string_view::npos ? SecondsOf(limit.substr(at + 3)) : -1;
}

// A file of text may begin with anything, and a README with HTML.
bool BeginsAsPage(std::string_view body, std::string_view name) {
  if (name.ends_with(".md") || name.ends_with(".txt") || name.ends_with(".jinja")) return false;
  if (body.starts_with("\xef\xbb\xbf")) body.remove_prefix(3);
  const std::size_t begin = std::min(body.find_first_not_of(" \t\r\n"), body.size());
  const std::string first =
      absl::AsciiStrToLower(absl::string_view(body.data() + begin, body.size() - begin).substr(0, 14));
  return first.starts_with("<!doctype html") || first.starts_with("<html");
}

// "<title>Log in</title>" -> "Log in"
std::string TitleOf(std::string_view body) {
  const std::size_t begin = body.find("<title>");
  const std::size_t end = begin == std::string_view::npos ? begin : body.find("</title>", begin);
  if (end == std::string_view::npos) return {};
  const std::string_view title = body.substr(begin + 7, end - begin - 7);
  return std::string(absl::StripAsciiWhitespace(absl::string_view(title.data(), title.size())));
}

}  // namespace

absl::StatusOr<NetReply> NetTransfer::Get(const NetTarget& target, const std::vector<std::string>& headers,
                                          const HttpSink& sink) const {
  return GetFrom(target.url, target, headers, sink);
}

absl::StatusOr<NetReply> NetTransfer::GetFrom(const std::string& url, const NetTarget& target,
                                              const std::vector<std::string>& headers, const HttpSink& sink) const {
  Q4_ASSIGN_OR_RETURN(const Url home, ParseUrl(target.url));
  NetReply reply;
  reply.url = url;
  for (int hops = 0;; ++hops) {
    Q4_ASSIGN_OR_RETURN(const std::string origin, OriginOf(reply.url));
    // Bytes as they are: an encoding of the transfer would make ranges mean something else.
    std::vector<std::string> lines = {"Accept-Encoding: identity"};
    lines.insert(lines.end(), headers.begin(), headers.end());
    // Only the server that the credentials are for ever sees them, and for what was asked of it: signatures are of one
    // URL.
    if (target.credentials && origin == home.origin() &&
        (home.scheme == "https" || IsLoopback(home) || settings_.allow_http)) {
      for (std::string& line : target.credentials()) lines.push_back(std::move(line));
    }
    static_cast<HttpReply&>(reply) = http_.Get(reply.url, lines, sink);
    if (reply.status < 300 || reply.status >= 400 || reply.redirect.empty() || !reply.failure.empty()) return reply;
    // What the way leads through is decided here and not by libcurl: from https only to https, so that nobody on the
    // way can lead us to a service of this machine or its network, and to nothing but a web server.
    const absl::StatusOr<Url> next = ParseUrl(reply.redirect);
    if (!next.ok()) return Fail(kBadRedirect, target.name, {}, "to no http:// or https:// URL");
    Q4_ASSIGN_OR_RETURN(const Url here, ParseUrl(reply.url));
    if (next->scheme != "https" && (here.scheme == "https" || !CheckMayRead(*next, settings_.allow_http, {}).ok())) {
      return Fail(kBadRedirect, target.name, {}, "from " + here.origin() + " to " + next->origin());
    }
    if (hops == kMostRedirects) return Fail(kBadRedirect, target.name, {}, fmt::format("more than {} times", hops));
    reply.url = reply.redirect;
    reply.redirected = true;
  }
}

absl::StatusOr<std::string> NetTransfer::GetText(const NetTarget& target, std::uint64_t limit, NetReply* out) const {
  NetRetry retry(*this);
  for (;;) {
    std::string text;
    const HttpSink sink = [&](const HttpReply&, std::span<const std::uint8_t> bytes) {
      if (text.size() + bytes.size() > limit) return false;
      text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return true;
    };
    Q4_ASSIGN_OR_RETURN(NetReply reply, Get(target, {}, sink));
    if (reply.may_pass) {
      Q4_RETURN_IF_ERROR(retry.Wait(target, reply));
      continue;
    }
    if (!reply.failure.empty() || reply.status != 200) return ErrorOf(target, reply);
    Q4_RETURN_IF_ERROR(CheckNoPage(target, reply, text));
    if (reply.stopped) return Fail(kListingTooLarge, target.name, {}, fmt::format("more than {} bytes", limit));
    if (out != nullptr) *out = std::move(reply);
    return text;
  }
}

absl::Status NetTransfer::CheckNoPage(const NetTarget& target, const NetReply& reply,
                                      std::string_view beginning) const {
  const bool is_named = target.name.ends_with(".html") || target.name.ends_with(".htm");
  const std::string type = absl::AsciiStrToLower(std::string(reply.Header("content-type")));
  if (is_named || (!type.starts_with("text/html") && !BeginsAsPage(beginning, target.name))) return absl::OkStatus();
  std::string page = Scrub(TitleOf(beginning).substr(0, 100), settings_);
  if (!page.empty()) page = "'" + page + "'";
  // Of a login that a redirect led to; its query may hold what nobody else should see.
  if (const absl::StatusOr<Url> url = ParseUrl(reply.url); url.ok() && reply.redirected) {
    page += (page.empty() ? "" : ", ") + url->origin() + url->path;
  }
  if (!page.empty()) page += ": ";
  return Fail(kPageForFile, target.name, {},
              page +
                  "a login, or what a site shows for each name that it does not have; open the URL in a browser, and "
                  "give one that sends the file itself" +
                  target.when_denied);
}

absl::Status NetTransfer::ErrorOf(const NetTarget& target, const NetReply& reply, std::string_view where) const {
  if (settings_.cancel != nullptr && settings_.cancel->load()) return Fail(kNetInterrupted, target.name, where);
  if (!reply.failure.empty()) return Fail(kServerFailed, target.name, where, Scrub(reply.failure, settings_));
  // The hub says what it means in headers.
  std::string detail = fmt::format("HTTP {}", reply.status);
  std::string said(reply.Header("x-error-message"));
  // A bucket says it in its body: <Code>NoSuchBucket</Code>.
  if (const std::size_t code = reply.error_body.find("<Code>"); said.empty() && code != std::string::npos) {
    said = reply.error_body.substr(code + 6, reply.error_body.find("</Code>", code) - code - 6);
  }
  if (!said.empty()) detail += ": " + Scrub(said.substr(0, 200), settings_);
  if (reply.status == 404 || reply.status == 410) return Fail(kCannotOpen, target.name, where, detail);
  if (reply.status == 401 || reply.status == 403 || reply.status == 407) {
    if (reply.status == 407) return Fail(kAccessDenied, target.name, where, detail + ", by a proxy");
    return Fail(kAccessDenied, target.name, where, detail + target.when_denied);
  }
  return Fail(kServerFailed, target.name, where, detail);
}

absl::Status NetRetry::Wait(const NetTarget& target, const NetReply& reply, std::string_view where) {
  const NetSettings& settings = transfer_.settings();
  const auto cancelled = [&] {
    return (settings.cancel != nullptr && settings.cancel->load()) || (stop_ != nullptr && stop_->load());
  };
  if (cancelled()) return Fail(kNetInterrupted, target.name, where);
  const auto give_up = [&](std::string_view why) {
    return Fail(
        kServerFailed, target.name, where,
        fmt::format("{}; {}",
                    reply.failure.empty() ? fmt::format("HTTP {}", reply.status) : Scrub(reply.failure, settings),
                    why));
  };
  ++failed_;
  if (failed_ >= settings.attempts) return give_up(fmt::format("tried {} times", failed_));
  double seconds = std::min(settings.first_wait_seconds * std::ldexp(1.0, failed_ - 1), 30.0);
  // Up to half of it more, so that many readers do not come back at once. Nothing but time depends on it.
  const auto ticks = std::chrono::steady_clock::now().time_since_epoch().count();
  seconds *= 1.0 + static_cast<double>(ticks % 1000) / 2000.0;
  if (const double asked = AskedWait(reply); asked >= 0) {
    if (asked > settings.most_wait_seconds) {
      return give_up(fmt::format("it asks to come back in {:.0f} s: run the same command again then", asked));
    }
    seconds = std::max(asked, settings.first_wait_seconds);
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    if (cancelled()) return Fail(kNetInterrupted, target.name, where);
    std::this_thread::sleep_for(kSlice);
  }
  return absl::OkStatus();
}

}  // namespace q4
