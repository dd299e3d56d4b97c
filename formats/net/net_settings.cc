#include "formats/net/net_settings.h"

#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "formats/net/net_issues.h"
#include "formats/net/url.h"

namespace q4 {
namespace {

// A token has some 40 characters.
constexpr std::uint64_t kTokenFileBytes = 4096;

std::string Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(absl::StripAsciiWhitespace(value));
}

bool IsTrue(const std::string& value) {
  const std::string lower = absl::AsciiStrToLower(value);
  return lower == "1" || lower == "true" || lower == "yes" || lower == "on";
}

// Where `hf auth login` has put the token; `*from` becomes how messages name the place. What cannot be read counts as
// none, as it does for huggingface_hub.
std::string TokenFile(std::string* from) {
  if (IsTrue(Environment("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) return {};
  std::string path = Environment("HF_TOKEN_PATH");
  if (path.empty()) {
    std::string home = Environment("HF_HOME");
    if (home.empty()) {
      std::string cache = Environment("XDG_CACHE_HOME");
      if (cache.empty() && !Environment("HOME").empty()) cache = Environment("HOME") + "/.cache";
      if (!cache.empty()) home = cache + "/huggingface";
    }
    if (home.empty()) return {};
    path = home + "/token";
  }
  *from = Environment("HF_TOKEN_PATH").empty() ? path : "HF_TOKEN_PATH " + path;
  const auto text = ReadWholeFile(PosixFileSystem(), path, kTokenFileBytes);
  return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : std::string();
}

// A header is a line: what would begin another one is no token.
absl::Status CheckToken(std::string_view name, const std::string& token) {
  for (const char c : token) {
    if (c <= ' ' || c > '~') return Fail(kBadNetSetting, {}, name, "got a character that no token has");
  }
  return absl::OkStatus();
}

// The first variable that is set; where none is, the first one, which is empty.
const char* FirstOf(std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    if (!Environment(name).empty()) return name;
  }
  return *names.begin();
}

// It becomes a part of the name of a host that keys are sent to: nothing that makes it another host.
absl::Status CheckRegion(const char* name, const std::string& region) {
  if (region.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos) return absl::OkStatus();
  return Fail(kBadNetSetting, {}, name, GotExpected(region, "letters a to z, digits and '-', as in eu-central-1"));
}

// A server and perhaps a path, in the variable `name`; "" where it is not set.
absl::StatusOr<std::string> Endpoint(const NetSettings& settings, std::initializer_list<const char*> names) {
  const char* const name = FirstOf(names);
  std::string endpoint = Environment(name);
  while (endpoint.ends_with('/')) endpoint.pop_back();
  if (endpoint.empty()) return endpoint;
  const absl::StatusOr<Url> url = ParseUrl(endpoint);
  if (!url.ok() || !url->query.empty() || !url->userinfo.empty()) {
    return Fail(kBadNetSetting, {}, name, "got no https://SERVER or https://SERVER/PATH");
  }
  Q4_RETURN_IF_ERROR(CheckMayRead(*url, settings.allow_http, name));
  return url->origin() + url->path;
}

// The whole number of the variable `name`, 1 to `most`; what it is set to before where it is not given.
absl::Status SetNumber(const char* name, int most, int* number) {
  const std::string text = Environment(name);
  if (text.empty()) return absl::OkStatus();
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  if (error == std::errc() && end == text.data() + text.size() && *number >= 1 && *number <= most)
    return absl::OkStatus();
  return Fail(kBadNetSetting, {}, name, GotExpected(text, fmt::format("a whole number, 1 to {}", most)));
}

// A key is an id and its secret.
absl::Status CheckKey(const char* id_name, const char* secret_name, const AwsKey& key) {
  if (key.id.empty() == key.secret.empty()) return absl::OkStatus();
  return Fail(kBadNetSetting, {}, key.id.empty() ? id_name : secret_name, "the other half of the key is set alone");
}

}  // namespace

absl::StatusOr<NetSettings> NetSettingsFromEnvironment() {
  NetSettings settings;
  settings.allow_http = IsTrue(Environment("Q4_ALLOW_HTTP"));
  Q4_ASSIGN_OR_RETURN(const std::string hub, Endpoint(settings, {"HF_ENDPOINT"}));
  if (!hub.empty()) settings.hub_endpoint = hub;
  settings.hub_token_from = FirstOf({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"});
  settings.hub_token = Environment(settings.hub_token_from.c_str());
  if (settings.hub_token.empty()) settings.hub_token = TokenFile(&settings.hub_token_from);
  settings.aws_key = {Environment("AWS_ACCESS_KEY_ID"), Environment("AWS_SECRET_ACCESS_KEY"),
                      Environment("AWS_SESSION_TOKEN")};
  const char* const region_name = FirstOf({"AWS_REGION", "AWS_DEFAULT_REGION"});
  if (const std::string region = Environment(region_name); !region.empty()) settings.aws_region = region;
  Q4_RETURN_IF_ERROR(CheckRegion(region_name, settings.aws_region));
  Q4_ASSIGN_OR_RETURN(settings.aws_endpoint, Endpoint(settings, {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"}));
  settings.gcs_key = {Environment("GCS_HMAC_ACCESS_ID"), Environment("GCS_HMAC_SECRET"), ""};
  settings.gcs_token = Environment("GOOGLE_OAUTH_ACCESS_TOKEN");
  Q4_ASSIGN_OR_RETURN(const std::string google, Endpoint(settings, {"GCS_ENDPOINT_URL"}));
  if (!google.empty()) settings.gcs_endpoint = google;
  Q4_RETURN_IF_ERROR(CheckKey("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", settings.aws_key));
  Q4_RETURN_IF_ERROR(CheckKey("GCS_HMAC_ACCESS_ID", "GCS_HMAC_SECRET", settings.gcs_key));
  // Each goes into a line of headers.
  for (const auto& [name, value] : {std::pair(settings.hub_token_from.c_str(), &settings.hub_token),
                                    {"AWS_ACCESS_KEY_ID", &settings.aws_key.id},
                                    {"AWS_SESSION_TOKEN", &settings.aws_key.token},
                                    {"GCS_HMAC_ACCESS_ID", &settings.gcs_key.id},
                                    {"GOOGLE_OAUTH_ACCESS_TOKEN", &settings.gcs_token}}) {
    Q4_RETURN_IF_ERROR(CheckToken(name, *value));
  }
  settings.ca_file = Environment("CURL_CA_BUNDLE");
  if (settings.ca_file.empty()) settings.ca_file = Environment("SSL_CERT_FILE");
  settings.ca_folder = Environment("SSL_CERT_DIR");
  Q4_RETURN_IF_ERROR(SetNumber("Q4_NET_TIMEOUT", 3600, &settings.stall_seconds));
  Q4_RETURN_IF_ERROR(SetNumber("Q4_NET_ATTEMPTS", 1000, &settings.attempts));
  return settings;
}

std::string Scrub(std::string text, const NetSettings& settings) {
  for (const std::string* secret : {&settings.hub_token, &settings.aws_key.secret, &settings.aws_key.token,
                                    &settings.gcs_key.secret, &settings.gcs_token}) {
    if (secret->empty()) continue;
    for (std::size_t at = text.find(*secret); at != std::string::npos; at = text.find(*secret)) {
      text.replace(at, secret->size(), "***");
    }
  }
  return text;
}

}  // namespace q4
