#include "formats/net/sigv4.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "fmt/format.h"
#include "formats/net/url.h"

namespace q4 {
namespace {

// Of no bytes.
constexpr char kEmptySha256[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

std::span<const std::uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string_view TextOf(const Sha256& digest) { return {reinterpret_cast<const char*>(digest.data()), digest.size()}; }

}  // namespace

Sha256 HmacSha256(std::string_view key, std::string_view text) {
  constexpr std::size_t kBlock = 64;
  std::array<std::uint8_t, kBlock> inner{}, outer{};
  const Sha256 short_key = Sha256Of(BytesOf(key));
  if (key.size() > kBlock) key = TextOf(short_key);
  for (std::size_t i = 0; i < kBlock; ++i) {
    const std::uint8_t byte = i < key.size() ? static_cast<std::uint8_t>(key[i]) : 0;
    inner[i] = byte ^ 0x36;
    outer[i] = byte ^ 0x5c;
  }
  Sha256Stream first, second;
  first.Update(inner);
  first.Update(BytesOf(text));
  const Sha256 digest = first.Finish();
  second.Update(outer);
  second.Update(digest);
  return second.Finish();
}

std::string EncodeQuery(QueryItems query) {
  for (auto& [name, value] : query) name = EncodeComponent(name), value = EncodeComponent(value);
  std::sort(query.begin(), query.end());
  std::string out;
  for (const auto& [name, value] : query) out += (out.empty() ? "" : "&") + name + "=" + value;
  return out;
}

std::string SigV4(const SignedRequest& request, const AwsKey& key, std::string_view region, std::string_view service,
                  std::string_view date) {
  std::string headers, names;
  for (const auto& [name, value] : request.headers) {
    headers += name + ":" + value + "\n";
    names += (names.empty() ? "" : ";") + name;
  }
  const std::string canonical = request.method + "\n" + EncodePath(request.path) + "\n" + EncodeQuery(request.query) +
                                "\n" + headers + "\n" + names + "\n" + request.payload_sha256;
  const std::string scope = fmt::format("{}/{}/{}/aws4_request", date.substr(0, 8), region, service);
  const std::string text =
      fmt::format("AWS4-HMAC-SHA256\n{}\n{}\n{}", date, scope, HexOf(Sha256Of(BytesOf(canonical))));
  Sha256 signing = HmacSha256("AWS4" + key.secret, date.substr(0, 8));
  for (const std::string_view part : {region, service, std::string_view("aws4_request")}) {
    signing = HmacSha256(TextOf(signing), part);
  }
  return fmt::format("AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}", key.id, scope, names,
                     HexOf(HmacSha256(TextOf(signing), text)));
}

std::vector<std::string> S3Headers(const std::string& host, const std::string& path, const QueryItems& query,
                                   const AwsKey& key, std::string_view region, std::time_t now) {
  struct tm parts {};
  ::gmtime_r(&now, &parts);
  char date[17];
  std::strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &parts);
  SignedRequest request;
  request.path = path;
  request.query = query;
  request.payload_sha256 = kEmptySha256;
  request.headers = {{"host", host}, {"x-amz-content-sha256", kEmptySha256}, {"x-amz-date", date}};
  if (!key.token.empty()) request.headers.emplace_back("x-amz-security-token", key.token);
  std::vector<std::string> lines;
  for (const auto& [name, value] : request.headers) {
    if (name != "host") lines.push_back(name + ": " + value);  // which libcurl sends
  }
  lines.push_back("Authorization: " + SigV4(request, key, region, "s3", date));
  return lines;
}

}  // namespace q4
