// Signature Version 4 of AWS, which S3 and what speaks like it want: an HMAC over the request, with a key of the day.
// Ours, as libcurl's own is wrong or incomplete in versions that are in use (docs/decisions/0052). Pure.
#pragma once

#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/digest.h"

namespace q4 {

struct AwsKey {
  std::string id, secret;
  std::string token;  // of a session; "" for none
};

// Names and values of a query, neither encoded.
using QueryItems = std::vector<std::pair<std::string, std::string>>;

// What is signed of a request without a body.
struct SignedRequest {
  std::string method = "GET";
  std::string path = "/";  // not encoded
  QueryItems query;
  // Lower-case names, in their order: host and x-amz-* at least.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string payload_sha256;  // in hexadecimal
};

// The value of the header Authorization. `date`: "20130524T000000Z".
std::string SigV4(const SignedRequest& request, const AwsKey& key, std::string_view region, std::string_view service,
                  std::string_view date);

// All header lines that a GET of `path` at `host` needs, now.
std::vector<std::string> S3Headers(const std::string& host, const std::string& path, const QueryItems& query,
                                   const AwsKey& key, std::string_view region, std::time_t now);

// "a=b&c=d", encoded and sorted by name, as it is signed and sent.
std::string EncodeQuery(QueryItems query);

// HMAC-SHA-256.
Sha256 HmacSha256(std::string_view key, std::string_view text);

}  // namespace q4
