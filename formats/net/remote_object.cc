#include "formats/net/remote_object.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/content_tag.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/net/net_issues.h"

namespace q4 {
namespace {

// "bytes 0-99/1234"
struct ContentRange {
  std::uint64_t begin = 0, end = 0, total = 0;  // end: exclusive
};

std::optional<ContentRange> ParseContentRange(std::string_view text) {
  ContentRange range;
  std::uint64_t last = 0;
  const auto number = [&](char behind, std::uint64_t* out) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
    if (error != std::errc()) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (behind == '\0') return text.empty();
    if (!text.starts_with(behind)) return false;
    text.remove_prefix(1);
    return true;
  };
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  if (!number('-', &range.begin) || !number('/', &last) || !number('\0', &range.total)) return std::nullopt;
  if (last < range.begin || last >= range.total) return std::nullopt;
  range.end = last + 1;
  return range;
}

// What a bucket says of an object to whoever may not list it, whether there is one or not.
bool IsDenialOfBucket(const NetReply& reply) {
  return reply.status == 403 && reply.error_body.find("<Code>AccessDenied</Code>") != std::string::npos;
}

// Of a file that a server without ranges sends as a whole: several are asked for at a time.
std::uint64_t MostWhole(const NetSettings& settings) {
  return std::clamp<std::uint64_t>(settings.memory / 8, 1u << 20, 32u << 20);
}

std::string TagOf(const std::string& etag, const std::string& last_modified) {
  if (!etag.empty()) return "etag:" + etag;
  return last_modified.empty() ? "none" : "modified:" + last_modified;
}

}  // namespace

absl::StatusOr<RemoteObject::Opened> RemoteObject::Ask(bool wants_body) const {
  const std::uint64_t asked = wants_body ? kHeadBytes : 1;
  NetRetry retry(transfer_);
  for (;;) {
    Opened opened;
    const HttpSink sink = [&](const HttpReply& reply, std::span<const std::uint8_t> bytes) {
      const std::uint64_t most = reply.status == 206 ? asked : wants_body ? MostWhole(transfer_.settings()) : 0;
      if (opened.head.size() + bytes.size() > most) return false;
      opened.head.insert(opened.head.end(), bytes.begin(), bytes.end());
      return true;
    };
    Q4_ASSIGN_OR_RETURN(const NetReply reply,
                        transfer_.Get(target_, {fmt::format("Range: bytes=0-{}", asked - 1)}, sink));
    if (reply.may_pass) {
      Q4_RETURN_IF_ERROR(retry.Wait(target_, reply));
      continue;
    }
    if (!reply.failure.empty()) return transfer_.ErrorOf(target_, reply);
    if (reply.status == 404 || reply.status == 410) return opened;
    if (IsDenialOfBucket(reply)) {
      return Fail(kDeniedOrAbsent, target_.name, {}, "HTTP 403: AccessDenied" + target_.when_denied);
    }
    opened.exists = true;
    opened.place = {reply.url, reply.redirected, std::string(reply.Header("etag")),
                    std::string(reply.Header("last-modified"))};
    opened.version.tag = TagOf(opened.place.etag, opened.place.last_modified);
    if (const std::string_view encoding = reply.Header("content-encoding");
        !encoding.empty() && encoding != "identity") {
      return Fail(kBadReply, target_.name, {}, GotExpected("content-encoding " + std::string(encoding), "none"));
    }
    if (reply.status == 200 || reply.status == 206) {
      const std::string_view beginning(reinterpret_cast<const char*>(opened.head.data()), opened.head.size());
      Q4_RETURN_IF_ERROR(transfer_.CheckNoPage(target_, reply, beginning));
    }
    if (reply.status == 416 && reply.Header("content-range") == "bytes */0") return opened;
    if (reply.status == 206) {
      const std::optional<ContentRange> range = ParseContentRange(reply.Header("content-range"));
      const std::uint64_t want = range ? std::min(asked, range->total) : 0;
      if (!range || range->begin != 0 || range->end != want || opened.head.size() != want || reply.stopped) {
        return Fail(kBadReply, target_.name, {},
                    GotExpected(fmt::format("content-range '{}' with {} bytes", reply.Header("content-range"),
                                            opened.head.size()),
                                fmt::format("bytes 0-{}", asked - 1)));
      }
      opened.version.size = range->total;
      return opened;
    }
    if (reply.status == 200) {
      // All of it, as of a server without ranges. To learn of its size alone that is not read to the end.
      if (!reply.stopped) {
        opened.version.size = opened.head.size();
        return opened;
      }
      std::uint64_t length = 0;
      const std::string_view text = reply.Header("content-length");
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
      if (wants_body || error != std::errc() || end != text.data() + text.size())
        return Fail(kNoRanges, target_.name, {});
      opened.version.size = length;
      return opened;
    }
    return transfer_.ErrorOf(target_, reply);
  }
}

absl::StatusOr<bool> RemoteObject::Open() {
  Q4_ASSIGN_OR_RETURN(Opened opened, Ask(/*wants_body=*/true));
  if (!opened.exists) return false;
  version_ = opened.version;
  if (listed_.known) {
    if (version_.size != listed_.size) {
      return Fail(kFileChanged, target_.name, "size",
                  GotExpected(std::to_string(version_.size), std::to_string(listed_.size)));
    }
    // Where both are marks of the server, they are the same mark.
    if (listed_.tag.starts_with("etag:") && listed_.tag != version_.tag) {
      return Fail(kFileChanged, target_.name, {}, "its ETag is not the one that was listed");
    }
    version_.tag = listed_.tag;
  }
  const std::lock_guard lock(mutex_);
  place_ = std::move(opened.place);
  head_ = std::make_shared<const std::vector<std::uint8_t>>(std::move(opened.head));
  return true;
}

absl::StatusOr<FileVersion> RemoteObject::VersionNow() const {
  Q4_ASSIGN_OR_RETURN(Opened now, Ask(/*wants_body=*/false));
  if (!now.exists) return Fail(kFileChanged, target_.name, {}, "it is no longer there");
  const std::lock_guard lock(mutex_);
  // What is listed by its content is that as long as the server's own mark stays.
  if (listed_.known && now.place.etag == place_.etag && now.version.size == version_.size) return version_;
  return now.version;
}

std::shared_ptr<const std::vector<std::uint8_t>> RemoteObject::head() const {
  const std::lock_guard lock(mutex_);
  return head_;
}

void RemoteObject::KeepWhole(std::shared_ptr<const std::vector<std::uint8_t>> bytes) const {
  const std::lock_guard lock(mutex_);
  head_ = std::move(bytes);
}

bool RemoteObject::MayChangeUnnoticed() const {
  const std::lock_guard lock(mutex_);
  return size() > kHeadBytes && place_.etag.empty() && place_.last_modified.empty() &&
         PublishedSha256(version_).empty();
}

void RemoteObject::DropHead() const {
  const std::lock_guard lock(mutex_);
  head_ = nullptr;
}

absl::Status RemoteObject::Changed(std::uint64_t offset, const std::string& why) const {
  return Fail(kFileChanged, target_.name, AtOffset(offset), why);
}

absl::Status RemoteObject::CheckRange(const NetReply& reply, std::uint64_t offset, std::uint64_t bytes,
                                      const Place& place) const {
  const std::optional<ContentRange> range = ParseContentRange(reply.Header("content-range"));
  if (range && range->total != size()) {
    return Changed(offset, "size: " + GotExpected(std::to_string(range->total), std::to_string(size())));
  }
  const std::string_view etag = reply.Header("etag");
  if (!place.etag.empty() && etag != place.etag) return Changed(offset, "its ETag is another one");
  if (place.etag.empty() && !place.last_modified.empty() && reply.Header("last-modified") != place.last_modified) {
    return Changed(offset, "time of modification");
  }
  const std::string_view encoding = reply.Header("content-encoding");
  if (!range || range->begin != offset || range->end != offset + bytes ||
      (!encoding.empty() && encoding != "identity")) {
    return Fail(kBadReply, target_.name, AtOffset(offset),
                GotExpected(fmt::format("content-range '{}'", reply.Header("content-range")),
                            fmt::format("bytes {}-{}/{}", offset, offset + bytes - 1, size())));
  }
  return absl::OkStatus();
}

absl::Status RemoteObject::Renew(const Place& failed) const {
  {
    const std::lock_guard lock(mutex_);
    if (place_.url != failed.url) return absl::OkStatus();  // another thread has
  }
  Q4_ASSIGN_OR_RETURN(const Opened opened, Ask(/*wants_body=*/false));
  if (!opened.exists) return Fail(kFileChanged, target_.name, {}, "it is no longer there");
  if (opened.version.size != size()) return Changed(0, "size");
  const std::lock_guard lock(mutex_);
  if (opened.place.etag != place_.etag) return Changed(0, "its ETag is another one");
  place_ = opened.place;
  return absl::OkStatus();
}

absl::Status RemoteObject::Read(std::uint64_t offset, std::span<std::uint8_t> out,
                                const std::atomic<bool>* stop) const {
  NetRetry retry(transfer_, stop);
  const auto stopped = [&] { return stop != nullptr && stop->load(); };
  int renewed = 0;
  while (!out.empty()) {
    Place place;
    {
      const std::lock_guard lock(mutex_);
      place = place_;
    }
    std::vector<std::string> headers = {fmt::format("Range: bytes={}-{}", offset, offset + out.size() - 1)};
    if (place.strong()) {
      headers.push_back("If-Match: " + place.etag);
    } else if (!place.last_modified.empty()) {
      headers.push_back("If-Unmodified-Since: " + place.last_modified);
    }
    std::size_t got = 0;
    absl::Status checked;
    bool is_checked = false;
    const HttpSink sink = [&](const HttpReply& reply, std::span<const std::uint8_t> bytes) {
      // A 200 is the whole file: no byte of it is taken.
      if (reply.status != 206) return false;
      if (!is_checked) {
        NetReply partial;
        static_cast<HttpReply&>(partial) = reply;
        checked = CheckRange(partial, offset, out.size(), place);
        is_checked = true;
      }
      if (!checked.ok() || bytes.size() > out.size() - got || stopped()) return false;
      std::memcpy(out.data() + got, bytes.data(), bytes.size());
      got += bytes.size();
      return true;
    };
    Q4_ASSIGN_OR_RETURN(const NetReply reply, transfer_.GetFrom(place.url, target_, headers, sink));
    if (stopped()) return Fail(kNetInterrupted, target_.name, {});
    Q4_RETURN_IF_ERROR(checked);
    const std::string where = AtOffset(offset);
    wait_seconds_.store(std::min(wait_seconds_.load(), reply.wait_seconds));
    if (reply.status == 206 && (reply.failure.empty() || reply.may_pass)) {
      if (reply.stopped) return Fail(kBadReply, target_.name, where, "more bytes than were asked for");
      // What came before a connection was cut is good: the rest is asked for.
      offset += got;
      out = out.subspan(got);
      if (got > 0) retry.Progress();
      if (out.empty()) return absl::OkStatus();
      NetReply cut = reply;
      if (cut.failure.empty()) cut.failure = "the answer ended early";
      Q4_RETURN_IF_ERROR(retry.Wait(target_, cut, where));
      continue;
    }
    if (reply.may_pass) {
      Q4_RETURN_IF_ERROR(retry.Wait(target_, reply, where));
      continue;
    }
    if (!reply.failure.empty()) return transfer_.ErrorOf(target_, reply, where);
    switch (reply.status) {
      case 200:
        Q4_RETURN_IF_ERROR(transfer_.CheckNoPage(target_, reply, {}));
        return Fail(kNoRanges, target_.name, where, "it sent them before, and now the whole file");
      case 412:
        return Changed(offset, "the server has another version of it (HTTP 412)");
      case 416:
        return Changed(offset, "it has become shorter (HTTP 416)");
      default:
        break;
    }
    // A signed link has its time. Where it is not that, Renew() is denied too, or it is so each time.
    if ((reply.status == 403 || reply.status == 401 || reply.status == 404 || reply.status == 410) &&
        place.redirected && renewed < transfer_.settings().attempts) {
      ++renewed;
      Q4_RETURN_IF_ERROR(Renew(place));
      continue;
    }
    if (reply.status == 404 || reply.status == 410) return Changed(offset, "it is no longer there");
    return transfer_.ErrorOf(target_, reply, where);
  }
  return absl::OkStatus();
}

}  // namespace q4
