#include "formats/base/shown_url.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <vector>

namespace q4 {
namespace {

constexpr std::string_view kHidden = "***";
constexpr std::size_t kLeastSecret = 4;

bool IsPort(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// How much of `rest`, what follows "://", is userinfo, without its '@'; 0 for none.
std::size_t UserinfoBytes(std::string_view rest, bool is_hub) {
  if (is_hub) {
    const std::string_view first = rest.substr(0, rest.find_first_of("/?#@' \t\n"));
    if (LooksLikeHubToken(first)) return first.size();
  }
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  std::size_t at = authority.rfind('@');
  if (at == std::string_view::npos) {
    // A password with a slash that was not encoded: "key:sec/ret@host". What follows a colon would else be a port.
    const std::size_t colon = authority.rfind(':');
    if (colon == std::string_view::npos || IsPort(authority.substr(colon + 1))) return 0;
    at = rest.substr(0, rest.find_first_of(" \t\n")).rfind('@');
    if (at == std::string_view::npos) return 0;
  }
  const std::string_view userinfo = rest.substr(0, at);
  return is_hub && userinfo.find(':') == std::string_view::npos ? 0 : at;
}

// The end of a query: a space, or the quote that a message has put behind it.
std::size_t QueryEnd(std::string_view text, std::size_t begin) {
  std::size_t end = begin;
  while (end < text.size() && std::isspace(static_cast<unsigned char>(text[end])) == 0) ++end;
  while (end > begin && std::string_view("'\"),;").find(text[end - 1]) != std::string_view::npos) --end;
  return end;
}

// `secrets` may be nullptr.
std::string Hide(std::string_view text, std::vector<std::string_view>* secrets) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t colon = text.find("://"); colon != std::string_view::npos; colon = text.find("://", done)) {
    const std::size_t begin = colon + 3;
    const bool is_hub = colon >= 2 && (text[colon - 2] | 32) == 'h' && (text[colon - 1] | 32) == 'f';
    out += text.substr(done, begin - done);
    done = begin;
    if (const std::size_t userinfo = UserinfoBytes(text.substr(begin), is_hub); userinfo > 0) {
      out += kHidden;
      if (secrets != nullptr) secrets->push_back(text.substr(begin, userinfo));
      done += userinfo;
    }
    const std::size_t end = std::min(text.find_first_of(" \t\n?", done), text.size());
    if (end == text.size() || text[end] != '?') continue;
    out += text.substr(done, end + 1 - done);
    out += kHidden;
    done = QueryEnd(text, end + 1);
    if (secrets != nullptr) secrets->push_back(text.substr(end + 1, done - end - 1));
  }
  return out.append(text.substr(done));
}

}  // namespace

bool LooksLikeHubToken(std::string_view name) {
  // "hf_" and 34, "api_org_" and more.
  constexpr std::size_t kLeastToken = 16, kLeastPlain = 30;
  std::size_t least = kLeastPlain;
  for (const std::string_view prefix : {"hf_", "api_org_", "api_"}) {
    if (!name.starts_with(prefix)) continue;
    name.remove_prefix(prefix.size());
    least = kLeastToken;
    break;
  }
  return name.size() >= least &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) != 0; });
}

std::string WithoutUrlSecrets(std::string_view text, std::string_view about) {
  std::vector<std::string_view> secrets;
  if (about.find("://") != std::string_view::npos) Hide(about, &secrets);
  std::string out = Hide(text, nullptr);
  for (const std::string_view secret : secrets) {
    // What is shorter is found in words too, and is no secret.
    if (secret.size() < kLeastSecret || secret == kHidden) continue;
    for (std::size_t at = 0; (at = out.find(secret, at)) != std::string::npos; at += kHidden.size()) {
      out.replace(at, secret.size(), kHidden);
    }
  }
  return out;
}

}  // namespace q4
