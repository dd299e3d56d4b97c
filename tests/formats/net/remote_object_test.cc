// Files on servers: all bytes are of one state of the file, or there is an error; whatever a server answers.
#include "formats/net/remote_object.h"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/content_issues.h"
#include "formats/base/content_tag.h"
#include "formats/base/digest.h"
#include "formats/net/net_issues.h"
#include "formats/net/read_ahead.h"
#include "formats/net/remote_file.h"
#include "tests/formats/net/net_bench.h"

namespace q4 {
namespace {

using test::AnsweringServer;
using test::NetBench;
using test::Reply;
using test::Request;

// A file that needs several requests.
std::string Content() {
  std::string text(kHeadBytes + 5000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 % 251);
  return text;
}

// The range that is asked for: first and last byte.
std::pair<std::size_t, std::size_t> RangeOf(const Request& request) {
  const std::size_t at = request.text.find("Range: bytes=");
  REQUIRE(at != std::string::npos);
  std::size_t end = 0;
  const std::string numbers = request.text.substr(at + 13);
  const std::size_t first = std::stoull(numbers, &end);
  return {first, std::stoull(numbers.substr(end + 1))};
}

// As a server with ranges answers that is right. `headers` beside content-range.
std::string Part(const Request& request, const std::string& content, const std::string& headers = "ETag: \"1\"\r\n") {
  const auto [first, asked] = RangeOf(request);
  const std::size_t last = std::min(asked, content.size() - 1);
  return Reply(206,
               headers + "Content-Range: bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
                   std::to_string(content.size()) + "\r\n",
               content.substr(first, last - first + 1));
}

bool IsFirst(const Request& request) { return RangeOf(request).first == 0; }

// The issue of opening a file that is answered for so, 0 for none; `*there` is whether it exists.
int OpenWith(const std::string& reply, bool* there = nullptr, ListedFile listed = {}) {
  NetBench bench([&](const Request&) { return reply; });
  RemoteObject object(*bench.transfer, bench.Target("/f.bin"), std::move(listed));
  const absl::StatusOr<bool> opened = object.Open();
  if (there != nullptr) *there = opened.ok() && *opened;
  return IssueNumberOf(opened.status());
}

// The issue of reading the whole of a file of which what is behind the head is answered for so.
int ReadWith(const AnsweringServer::Answer& behind, const std::string& headers = "ETag: \"1\"\r\n") {
  const std::string content = Content();
  NetBench bench(
      [&](const Request& request) { return IsFirst(request) ? Part(request, content, headers) : behind(request); });
  RemoteObject object(*bench.transfer, bench.Target("/f.bin"), {});
  REQUIRE(*object.Open());
  std::vector<std::uint8_t> rest(content.size() - kHeadBytes);
  const absl::Status read = object.Read(kHeadBytes, rest);
  if (read.ok())
    CHECK(std::equal(rest.begin(), rest.end(), reinterpret_cast<const std::uint8_t*>(content.data()) + kHeadBytes));
  return IssueNumberOf(read);
}

}  // namespace

TEST_CASE("a file on a server is read by ranges, which name the state that they are of") {
  const std::string content = Content();
  NetBench bench([&](const Request& request) { return Part(request, content); });
  RemoteObject object(*bench.transfer, bench.Target("/f.bin"), {});
  REQUIRE(*object.Open());
  CHECK(object.size() == content.size());
  CHECK(object.version().tag == "etag:\"1\"");
  CHECK(object.head()->size() == kHeadBytes);
  CHECK_FALSE(object.MayChangeUnnoticed());
  std::vector<std::uint8_t> rest(content.size() - kHeadBytes);
  REQUIRE(object.Read(kHeadBytes, rest).ok());
  CHECK(std::equal(rest.begin(), rest.end(), reinterpret_cast<const std::uint8_t*>(content.data()) + kHeadBytes));
  CHECK(bench.server.requests().back().Has("If-Match: \"1\""));
  CHECK(*object.VersionNow() == object.version());
}

TEST_CASE("what a server says of a range is what was asked for") {
  const auto partial = [](const std::string& range, const std::string& body, const std::string& more = "") {
    return OpenWith(Reply(206, more + (range.empty() ? "" : "Content-Range: " + range + "\r\n"), body));
  };
  CHECK(partial("bytes 0-3/4", "abcd") == 0);
  CHECK(partial("bytes 0-3/4", "abcd", "Content-Encoding: identity\r\n") == 0);
  CHECK(partial("bytes 0-3/4", "abcd", "Content-Encoding: gzip\r\n") == kBadReply.number);
  for (const char* wrong :
       {"", "0-3/4", "bytes x-3/4", "bytes 0_3/4", "bytes 0-3", "bytes 0-3/*", "bytes 0-3/4x", "bytes 0-4/4",
        "bytes 3-0/4", "bytes 0-3/99999999999999999999", "bytes 1-3/4", "bytes 0-2/4"}) {
    INFO(wrong);
    CHECK(partial(wrong, "abcd") == kBadReply.number);
  }
  CHECK(partial("bytes 0-3/4", "abc") == kBadReply.number);
  CHECK(partial("bytes 0-3/4", std::string(kHeadBytes + 1, 'x')) == kBadReply.number);
  bool there = false;
  CHECK(OpenWith(Reply(416, "Content-Range: bytes */0\r\n", ""), &there) == 0);
  CHECK(there);
  CHECK(OpenWith(Reply(416, "Content-Range: bytes */9\r\n", "")) == kServerFailed.number);
}

TEST_CASE("a file that is not there, one that is denied, and one that is a page") {
  bool there = true;
  for (const int gone : {404, 410}) {
    CHECK(OpenWith(Reply(gone, "", ""), &there) == 0);
    CHECK_FALSE(there);
  }
  CHECK(OpenWith(Reply(403, "", "")) == kAccessDenied.number);
  CHECK(OpenWith(Reply(403, "", "<Error><Code>AccessDenied</Code></Error>")) == kDeniedOrAbsent.number);
  CHECK(OpenWith(Reply(200, "Content-Type: text/html\r\n", "x")) == kPageForFile.number);
  CHECK(OpenWith("HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 9\r\n\r\nx") == kServerFailed.number);
  // Without ranges a small file comes whole, a large one not at all.
  CHECK(OpenWith(Reply(200, "", "abcd"), &there) == 0);
  CHECK(there);
  CHECK(OpenWith(Reply(200, "", std::string((64 << 20) / 8 + 1, 'x'))) == kNoRanges.number);
}

TEST_CASE("a file is the one that was listed") {
  const std::string reply = Reply(206, "ETag: \"1\"\r\nContent-Range: bytes 0-3/4\r\n", "abcd");
  const auto listed = [&](std::uint64_t size, std::string tag) {
    return OpenWith(reply, nullptr, {true, size, std::move(tag)});
  };
  CHECK(listed(4, "etag:\"1\"") == 0);
  CHECK(listed(4, "git:abc") == 0);
  CHECK(listed(5, "etag:\"1\"") == kFileChanged.number);
  CHECK(listed(4, "etag:\"2\"") == kFileChanged.number);
}

TEST_CASE("bytes of another state of the file are not taken") {
  const std::string content = Content();
  const auto other = [&](const std::string& headers, std::size_t longer = 0, std::size_t later = 0) {
    return [=](const Request& request) {
      const auto [first, last] = RangeOf(request);
      return Reply(206,
                   headers + "Content-Range: bytes " + std::to_string(first + later) + "-" + std::to_string(last) +
                       "/" + std::to_string(content.size() + longer) + "\r\n",
                   content.substr(first, last - first + 1));
    };
  };
  const std::string same = "ETag: \"1\"\r\n", day = "Last-Modified: Mon, 02 Jan 2023 00:00:00 GMT\r\n";
  CHECK(ReadWith(other(same)) == 0);
  CHECK(ReadWith(other("ETag: \"2\"\r\n")) == kFileChanged.number);
  CHECK(ReadWith(other("")) == kFileChanged.number);
  CHECK(ReadWith(other(same, 1)) == kFileChanged.number);
  CHECK(ReadWith(other(day), day) == 0);
  CHECK(ReadWith(other("Last-Modified: Tue, 03 Jan 2023 00:00:00 GMT\r\n"), day) == kFileChanged.number);
  CHECK(ReadWith(other(same, 0, 1)) == kBadReply.number);
  CHECK(ReadWith(other(same + "Content-Encoding: gzip\r\n")) == kBadReply.number);
  CHECK(ReadWith([&](const Request& request) {
          const auto [first, last] = RangeOf(request);
          return Reply(206,
                       same + "Content-Range: bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
                           std::to_string(content.size()) + "\r\n",
                       content.substr(first) + "and more");
        }) == kBadReply.number);
  CHECK(ReadWith([](const Request&) { return Reply(412, "", ""); }) == kFileChanged.number);
  CHECK(ReadWith([](const Request&) { return Reply(416, "", ""); }) == kFileChanged.number);
  CHECK(ReadWith([](const Request&) { return Reply(404, "", ""); }) == kFileChanged.number);
  CHECK(ReadWith([](const Request&) { return Reply(403, "", ""); }) == kAccessDenied.number);
  CHECK(ReadWith([&](const Request&) { return Reply(200, same, content); }) == kNoRanges.number);
  CHECK(ReadWith([](const Request&) { return Reply(200, "Content-Type: text/html\r\n", "x"); }) == kPageForFile.number);
  CHECK(ReadWith([](const Request&) { return Reply(503, "", ""); }) == kServerFailed.number);
  CHECK(ReadWith([](const Request&) { return std::string("no answer of the web\r\n\r\n"); }) == kServerFailed.number);
}

TEST_CASE("an answer that ends early goes on where it ended, and not for ever") {
  const std::string content = Content();
  const auto cut = [&](std::size_t bytes) {
    return [&, bytes](const Request& request) {
      const auto [first, last] = RangeOf(request);
      return "HTTP/1.1 206 X\r\nConnection: close\r\nETag: \"1\"\r\nContent-Length: " +
             std::to_string(last - first + 1) + "\r\nContent-Range: bytes " + std::to_string(first) + "-" +
             std::to_string(last) + "/" + std::to_string(content.size()) + "\r\n\r\n" +
             content.substr(first, std::min(bytes, last - first + 1));
    };
  };
  CHECK(ReadWith(cut(2000)) == 0);
  CHECK(ReadWith(cut(0)) == kServerFailed.number);
}

TEST_CASE("a link that has had its time is asked for again, and leads to the same file") {
  const std::string content = Content();
  enum class Then { kSame, kGone, kLonger, kOtherTag };
  for (const auto& [then, issue] : {std::pair(Then::kSame, 0),
                                    {Then::kGone, kFileChanged.number},
                                    {Then::kLonger, kFileChanged.number},
                                    {Then::kOtherTag, kFileChanged.number}}) {
    int links = 0;
    const Then after = then;
    NetBench bench([&, after](const Request& request) {
      if (request.path() == "/f.bin") {
        if (links == 1 && after == Then::kGone) return Reply(404, "", "");
        return Reply(302, "Location: /signed" + std::to_string(++links) + "\r\n", "");
      }
      if (request.path() == "/signed1") return IsFirst(request) ? Part(request, content) : Reply(403, "", "");
      if (after == Then::kLonger) return Part(request, content + "x");
      return Part(request, content, after == Then::kOtherTag ? "ETag: \"2\"\r\n" : "ETag: \"1\"\r\n");
    });
    RemoteObject object(*bench.transfer, bench.Target("/f.bin"), {});
    REQUIRE(*object.Open());
    std::vector<std::uint8_t> rest(content.size() - kHeadBytes);
    CHECK(IssueNumberOf(object.Read(kHeadBytes, rest)) == issue);
    if (after == Then::kGone) CHECK(IssueNumberOf(object.VersionNow().status()) == kFileChanged.number);
  }
}

TEST_CASE("a reader that is stopped takes no more bytes") {
  const std::string content = Content();
  std::atomic<bool> stop{false};
  NetBench bench([&](const Request& request) {
    if (!IsFirst(request)) stop = true;
    return Part(request, content);
  });
  RemoteObject object(*bench.transfer, bench.Target("/f.bin"), {});
  REQUIRE(*object.Open());
  std::vector<std::uint8_t> rest(content.size() - kHeadBytes);
  CHECK(IssueNumberOf(object.Read(kHeadBytes, rest, &stop)) == kNetInterrupted.number);
}

TEST_CASE("a small file is held against the digest that was published, and a read stays inside of it") {
  const std::string content = Content();
  const Sha256 right = Sha256Of({reinterpret_cast<const std::uint8_t*>(content.data()), content.size()});
  for (const bool is_right : {true, false}) {
    bool fails = false;
    NetBench bench([&](const Request& request) { return fails ? Reply(400, "", "") : Part(request, content); });
    FetchPool pool(1 << 20);
    HeadCache cache(1 << 20);
    const std::string digest = is_right ? HexOf(right) : std::string(64, '0');
    const auto object = std::make_shared<RemoteObject>(
        *bench.transfer, bench.Target("/f.bin"), ListedFile{true, content.size(), std::string(kSha256Tag) + digest});
    REQUIRE(*object->Open());
    const auto file = OpenRemoteFile(object, pool, cache);
    std::vector<std::uint8_t> all(content.size());
    CHECK(IssueNumberOf(file->ReadAt(0, all)) == (is_right ? 0 : kNotAsPublished.number));
    std::vector<std::uint8_t> one(1);
    CHECK(IssueNumberOf(file->ReadAt(content.size(), one)) == kFileEndsEarly.number);
    CHECK(file->ReadAt(content.size(), {}).ok());
    object->DropHead();
    fails = true;
    CHECK(IssueNumberOf(file->ReadAt(0, all)) == kServerFailed.number);
  }
}

TEST_CASE("a file too large to be kept is read past the head, and its errors come through") {
  const std::string content = Content();
  bool fails = false;
  NetBench bench([&](const Request& request) { return fails ? Reply(400, "", "") : Part(request, content); });
  FetchPool pool(1 << 20);
  HeadCache cache(1000);
  const auto object = std::make_shared<RemoteObject>(*bench.transfer, bench.Target("/f.bin"), ListedFile{});
  REQUIRE(*object->Open());
  const auto file = OpenRemoteFile(object, pool, cache);
  std::vector<std::uint8_t> all(content.size());
  REQUIRE(file->ReadAt(0, all).ok());
  CHECK(std::equal(all.begin(), all.end(), reinterpret_cast<const std::uint8_t*>(content.data())));
  fails = true;
  CHECK(IssueNumberOf(file->ReadAt(0, all)) == kServerFailed.number);
}

}  // namespace q4
