// libcurl's functions are found by name. Its binary interface has been the same since 2006 (libcurl.so.4), and Debian
// builds it under two names, one for each TLS library.
#if __has_include(<curl/curl.h>) && !defined(Q4_WITHOUT_CURL)

#include "formats/net/http.h"

#include <curl/curl.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/net/net_issues.h"

// The macros check types for calls that are linked.
#undef curl_easy_setopt
#undef curl_easy_getinfo

namespace q4 {
namespace {

// Far beyond any server's: what is longer fills memory.
constexpr std::size_t kHeaderBytes = 128u << 10;
constexpr std::size_t kHeaderLines = 512;
constexpr std::size_t kErrorBytes = 16u << 10;
constexpr long kBufferBytes = 512 << 10;  // the most that libcurl takes
constexpr long kConnectSeconds = 20;
constexpr long kLeastBytesPerSecond = 1;

struct Curl {
  decltype(&::curl_global_init) global_init = nullptr;
  decltype(&::curl_easy_init) easy_init = nullptr;
  decltype(&::curl_easy_reset) easy_reset = nullptr;
  decltype(&::curl_easy_cleanup) easy_cleanup = nullptr;
  decltype(&::curl_easy_perform) easy_perform = nullptr;
  decltype(&::curl_easy_setopt) easy_setopt = nullptr;
  decltype(&::curl_easy_getinfo) easy_getinfo = nullptr;
  decltype(&::curl_easy_strerror) easy_strerror = nullptr;
  decltype(&::curl_slist_append) slist_append = nullptr;
  decltype(&::curl_slist_free_all) slist_free_all = nullptr;
  std::string problem;  // "" when all are there
};

template <typename Function>
void Find(void* library, const char* name, Function* function, std::string* problem) {
  *function = reinterpret_cast<Function>(::dlsym(library, name));
  if (*function == nullptr) *problem = std::string("libcurl has no ") + name;
}

const Curl& LoadedCurl() {
  // Never closed: its threads of name resolution may outlive us.
  static const Curl curl = [] {
    Curl found;
    void* library = nullptr;
    for (const char* const name : {"libcurl.so.4", "libcurl-gnutls.so.4"}) {
      if (library == nullptr) library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) {
      found.problem = "this machine has no libcurl; install it (Debian, Ubuntu: libcurl4), or download the model first";
      return found;
    }
    Find(library, "curl_global_init", &found.global_init, &found.problem);
    Find(library, "curl_easy_init", &found.easy_init, &found.problem);
    Find(library, "curl_easy_reset", &found.easy_reset, &found.problem);
    Find(library, "curl_easy_cleanup", &found.easy_cleanup, &found.problem);
    Find(library, "curl_easy_perform", &found.easy_perform, &found.problem);
    Find(library, "curl_easy_setopt", &found.easy_setopt, &found.problem);
    Find(library, "curl_easy_getinfo", &found.easy_getinfo, &found.problem);
    Find(library, "curl_easy_strerror", &found.easy_strerror, &found.problem);
    Find(library, "curl_slist_append", &found.slist_append, &found.problem);
    Find(library, "curl_slist_free_all", &found.slist_free_all, &found.problem);
    if (found.problem.empty() && found.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
      found.problem = "libcurl does not start";
    }
    return found;
  }();
  return curl;
}

// Errors of the way, not of what was asked: another attempt may meet none.
bool MayPass(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

bool MayPass(int status) {
  return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

// One transfer, for the callbacks.
struct Transfer {
  HttpReply reply;
  const HttpSink& sink;
  const std::atomic<bool>* cancel;
  std::size_t header_bytes = 0;
  std::string refusal;  // why we ended it
};

extern "C" {
std::size_t q4_net_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::size_t bytes = size * count;
  HttpReply& reply = transfer.reply;
  transfer.header_bytes += bytes;
  if (transfer.header_bytes > kHeaderBytes || reply.headers.size() >= kHeaderLines) {
    transfer.refusal = fmt::format("more than {} bytes or {} lines of headers", kHeaderBytes, kHeaderLines);
    return 0;
  }
  std::string_view line(data, bytes);
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {
    // Each answer begins so; of several (100 Continue, a proxy's) the last one counts.
    reply.headers.clear();
    const std::size_t space = line.find(' ');
    reply.status = space == std::string_view::npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
    return bytes;
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return bytes;
  const std::string_view value = line.substr(colon + 1);
  reply.headers.emplace_back(absl::AsciiStrToLower(absl::string_view(line.data(), colon)),
                             absl::StripAsciiWhitespace(absl::string_view(value.data(), value.size())));
  return bytes;
}

std::size_t q4_net_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::size_t bytes = size * count;
  HttpReply& reply = transfer.reply;
  if (reply.status < 200 || reply.status >= 300) {
    const std::size_t room = kErrorBytes - reply.error_body.size();
    reply.error_body.append(data, std::min(bytes, room));
    reply.stopped = bytes >= room;
    return reply.stopped ? 0 : bytes;
  }
  reply.stopped = !transfer.sink(reply, {reinterpret_cast<const std::uint8_t*>(data), bytes});
  return reply.stopped ? 0 : bytes;
}

int q4_net_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& transfer = *static_cast<Transfer*>(user);
  return transfer.cancel != nullptr && transfer.cancel->load() ? 1 : 0;
}
}

}  // namespace

class Http::Connection {
 public:
  Connection() : easy_(LoadedCurl().easy_init()) {}
  ~Connection() { LoadedCurl().easy_cleanup(easy_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  HttpReply Get(const std::string& url, const std::vector<std::string>& headers, const HttpSink& sink,
                const NetSettings& settings, std::atomic<bool>* reached) {
    const Curl& curl = LoadedCurl();
    Transfer transfer{{}, sink, settings.cancel, 0, {}};
    curl_slist* lines = nullptr;
    for (const std::string& header : headers) lines = curl.slist_append(lines, header.c_str());
    curl.easy_reset(easy_);  // the connection stays
    char text[CURL_ERROR_SIZE] = "";
    const auto set = [setopt = curl.easy_setopt, easy = easy_](CURLoption option, auto value) {
      setopt(easy, option, value);
    };
    set(CURLOPT_URL, url.c_str());
    // Whatever a server or the environment says, nothing but these is spoken.
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_HTTPHEADER, lines);
    set(CURLOPT_USERAGENT, settings.user_agent.c_str());
    // Many connections of version 1.1 are faster than many streams in one.
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    if (!settings.ca_file.empty()) set(CURLOPT_CAINFO, settings.ca_file.c_str());
    if (!settings.ca_folder.empty()) set(CURLOPT_CAPATH, settings.ca_folder.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_BUFFERSIZE, kBufferBytes);
    set(CURLOPT_CONNECTTIMEOUT, std::min<long>(kConnectSeconds, settings.stall_seconds));
    set(CURLOPT_LOW_SPEED_LIMIT, kLeastBytesPerSecond);
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings.stall_seconds));
    set(CURLOPT_ERRORBUFFER, static_cast<char*>(text));
    set(CURLOPT_HEADERFUNCTION, &q4_net_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(&transfer));
    set(CURLOPT_WRITEFUNCTION, &q4_net_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&transfer));
    set(CURLOPT_XFERINFOFUNCTION, &q4_net_progress);
    set(CURLOPT_XFERINFODATA, static_cast<void*>(&transfer));
    set(CURLOPT_NOPROGRESS, 0L);
    const CURLcode code = curl.easy_perform(easy_);
    HttpReply& reply = transfer.reply;
    if (reply.status != 0) reached->store(true);
    curl_off_t sent = 0, first = 0;
    if (curl.easy_getinfo(easy_, CURLINFO_PRETRANSFER_TIME_T, &sent) == CURLE_OK &&
        curl.easy_getinfo(easy_, CURLINFO_STARTTRANSFER_TIME_T, &first) == CURLE_OK) {
      reply.wait_seconds = static_cast<double>(first - sent) / 1e6;
    }
    char* location = nullptr;
    if (curl.easy_getinfo(easy_, CURLINFO_REDIRECT_URL, &location) == CURLE_OK && location != nullptr) {
      reply.redirect = location;
    }
    curl.slist_free_all(lines);
    // Nothing of this call may be referred to by the handle that is kept.
    curl.easy_reset(easy_);
    if (!transfer.refusal.empty()) {
      reply.failure = transfer.refusal;
    } else if (code != CURLE_OK && !reply.stopped) {
      reply.failure = text[0] != '\0' ? std::string(text) : std::string(curl.easy_strerror(code));
      // Who never was there is not there, or has another name.
      const bool absent =
          code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT;
      reply.may_pass = MayPass(code) && (!absent || reached->load());
    } else {
      reply.may_pass = MayPass(reply.status);
    }
    return std::move(reply);
  }

 private:
  CURL* const easy_;
};

std::string_view HttpReply::Header(std::string_view name) const {
  const auto found =
      std::find_if(headers.begin(), headers.end(), [&](const auto& header) { return header.first == name; });
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

absl::StatusOr<std::unique_ptr<Http>> Http::Load(const NetSettings& settings) {
  if (!LoadedCurl().problem.empty()) return Fail(kNoNetwork, {}, {}, LoadedCurl().problem);
  return std::unique_ptr<Http>(new Http(settings));
}

Http::Http(const NetSettings& settings) : settings_(settings) {}
Http::~Http() = default;

std::unique_ptr<Http::Connection> Http::Take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return std::make_unique<Connection>();
  std::unique_ptr<Connection> connection = std::move(free_.back());
  free_.pop_back();
  return connection;
}

HttpReply Http::Get(const std::string& url, const std::vector<std::string>& headers, const HttpSink& sink) {
  std::unique_ptr<Connection> connection = Take();
  HttpReply reply = connection->Get(url, headers, sink, settings_, &reached_);
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(connection));
  return reply;
}

}  // namespace q4

#endif  // __has_include(<curl/curl.h>) && !defined(Q4_WITHOUT_CURL)
