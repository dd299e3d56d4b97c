// How servers are reached: endpoints, credentials, patience. Values, so that tests give their own; the environment is
// read in one place. No secret of these is ever in a message (Scrub()), a file or a log, and each goes to the server
// that it is for and to no other.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/net/sigv4.h"

namespace q4 {

struct NetSettings {
  std::string user_agent = "q4";
  // Of the Hugging Face Hub or a mirror of it, without a slash at the end.
  std::string hub_endpoint = "https://huggingface.co";
  std::string hub_token;                    // "": only what everybody may read
  std::string hub_token_from = "HF_TOKEN";  // the variable or file that it is of, for messages
  // Of S3 and what speaks like it. An endpoint of its own ("http://127.0.0.1:9000") has the bucket in its paths.
  AwsKey aws_key;
  std::string aws_region = "us-east-1";
  std::string aws_endpoint;
  // Of Google's storage: a key for signatures, or a token.
  AwsKey gcs_key;
  std::string gcs_token;
  std::string gcs_endpoint = "https://storage.googleapis.com";
  // For servers whose certificate is of an authority that the system does not know; "" for what the system knows.
  std::string ca_file, ca_folder;
  bool allow_http = false;
  // A transfer is given up and tried again when no byte has come for so long.
  int stall_seconds = 30;
  // How often one request is sent when no byte comes, and the wait after the first time, which doubles.
  int attempts = 7;
  double first_wait_seconds = 0.25;
  // A server that asks for a longer wait (Retry-After) ends the run, which can be resumed.
  double most_wait_seconds = 600;
  // What is read ahead and kept of small files, together.
  std::uint64_t memory = std::uint64_t{64} << 20;
  // Waiting ends when it becomes true. May be nullptr.
  const std::atomic<bool>* cancel = nullptr;
};

// What the environment says: HF_ENDPOINT; HF_TOKEN (HUGGING_FACE_HUB_TOKEN), or the file that `hf auth login` writes,
// as huggingface_hub finds it;
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION (AWS_DEFAULT_REGION), AWS_ENDPOINT_URL_S3
// (AWS_ENDPOINT_URL); GOOGLE_OAUTH_ACCESS_TOKEN, GCS_HMAC_ACCESS_ID, GCS_HMAC_SECRET, GCS_ENDPOINT_URL; CURL_CA_BUNDLE,
// SSL_CERT_FILE, SSL_CERT_DIR as curl takes them; Q4_ALLOW_HTTP, Q4_NET_TIMEOUT, Q4_NET_ATTEMPTS. kBadNetSetting,
// kInsecureUrl.
absl::StatusOr<NetSettings> NetSettingsFromEnvironment();

// `text` without the secrets of `settings`, for what comes from a server and is shown.
std::string Scrub(std::string text, const NetSettings& settings);

}  // namespace q4
