// Redirects, small documents, and what answers mean.
#include "formats/net/transfer.h"

#include <atomic>
#include <string>

#include "formats/base/base_issues.h"
#include "formats/net/net_issues.h"
#include "tests/formats/net/net_bench.h"

namespace q4 {
namespace {

using test::NetBench;
using test::Reply;
using test::Request;

constexpr std::uint64_t kLimit = 100;

struct Got {
  int issue = 0;
  std::string message, text;
};

// What becomes of a document that the server answers for so.
Got TextOf(const std::string& reply, const std::string& path = "/list", NetSettings settings = test::QuickSettings()) {
  NetBench bench([&](const Request&) { return reply; }, std::move(settings));
  const auto text = bench.transfer->GetText(bench.Target(path), kLimit, nullptr);
  return {IssueNumberOf(text.status()), MessageOf(text.status()), text.ok() ? *text : ""};
}

}  // namespace

TEST_CASE("a redirect leads to web servers only, and not without end") {
  NetBench bench([&](const Request& request) {
    if (request.path() == "/a") return Reply(302, "Location: /b\r\n", "");
    if (request.path() == "/b") return Reply(200, "", "found");
    if (request.path() == "/mail") return Reply(302, "Location: ftp://127.0.0.1/x\r\n", "");
    if (request.path() == "/open") return Reply(302, "Location: http://models.example/x\r\n", "");
    return Reply(302, "Location: /round\r\n", "");
  });
  NetReply reply;
  CHECK(*bench.transfer->GetText(bench.Target("/a"), kLimit, &reply) == "found");
  CHECK(reply.redirected);
  CHECK(reply.url == bench.server.origin() + "/b");
  for (const char* wrong : {"/mail", "/open", "/round"}) {
    INFO(wrong);
    CHECK(IssueNumberOf(bench.transfer->GetText(bench.Target(wrong), kLimit, nullptr).status()) == kBadRedirect.number);
  }
  CHECK(bench.server.requests().size() < 40);
}

TEST_CASE("credentials are for the server that they are of") {
  NetBench other([](const Request&) { return Reply(200, "", "there"); });
  NetBench bench([&](const Request& request) {
    return request.path() == "/away" ? Reply(302, "Location: " + other.server.origin() + "/x\r\n", "")
                                     : Reply(200, "", "here");
  });
  NetTarget target = bench.Target("/away");
  target.credentials = [] { return std::vector<std::string>{"Authorization: Bearer swordfish"}; };
  CHECK(*bench.transfer->GetText(target, kLimit, nullptr) == "there");
  CHECK(bench.server.requests().at(0).Has("swordfish"));
  CHECK_FALSE(other.server.requests().at(0).Has("swordfish"));
}

TEST_CASE("a document is as long as it may be, and is no page for people") {
  CHECK(TextOf(Reply(200, "", std::string(kLimit, 'x'))).text.size() == kLimit);
  CHECK(TextOf(Reply(200, "", std::string(kLimit + 1, 'x'))).issue == kListingTooLarge.number);
  CHECK(TextOf(Reply(200, "Content-Type: text/html\r\n", "{}")).issue == kPageForFile.number);
  for (const char* page : {"<!DOCTYPE html>", "\xef\xbb\xbf \n<html><title> Log in </title>"}) {
    CHECK(TextOf(Reply(200, "", page)).issue == kPageForFile.number);
    for (const char* text : {"/README.md", "/LICENSE.txt", "/chat_template.jinja"}) {
      INFO(text);
      CHECK(TextOf(Reply(200, "", page), text).issue == 0);
    }
    CHECK(TextOf(Reply(200, "Content-Type: text/html\r\n", page), "/page.html").issue == 0);
  }
  CHECK(TextOf(Reply(200, "", "<html><title> Log in </title>")).message.find("'Log in'") != std::string::npos);
  CHECK(TextOf(Reply(200, "", "<html><title>without an end")).message.find("without") == std::string::npos);
}

TEST_CASE("what is no success says what it means") {
  for (const int gone : {404, 410}) CHECK(TextOf(Reply(gone, "", "")).issue == kCannotOpen.number);
  for (const int denied : {401, 403}) {
    const Got got = TextOf(Reply(denied, "", "<Code>InvalidKey</Code>"));
    CHECK(got.issue == kAccessDenied.number);
    CHECK(got.message.find("InvalidKey; ask for a key") != std::string::npos);
  }
  const Got proxy = TextOf(Reply(407, "", ""));
  CHECK(proxy.issue == kAccessDenied.number);
  CHECK(proxy.message.find("by a proxy") != std::string::npos);
  CHECK(TextOf(Reply(400, "X-Error-Message: no such branch\r\n", "")).message.find("no such branch") !=
        std::string::npos);
  CHECK(TextOf(Reply(204, "", "")).issue == kServerFailed.number);
  CHECK(TextOf("HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 50\r\n\r\nshort").issue == kServerFailed.number);
  CHECK(TextOf("no answer of the web\r\n\r\n").issue == kServerFailed.number);
  // More lines of headers than any server has reason to send.
  std::string headers;
  for (int i = 0; i < 5000; ++i) headers += "X-" + std::to_string(i) + ": x\r\n";
  CHECK(TextOf(Reply(200, headers, "")).issue == kServerFailed.number);
}

TEST_CASE("what may pass is tried again, as often and as long as the settings say") {
  NetBench bench([&, tries = 0](const Request& request) mutable {
    if (request.path() == "/once") return ++tries == 2 ? Reply(200, "", "at last") : Reply(503, "", "");
    if (request.path() == "/later") return Reply(429, "Retry-After: 7000\r\n", "");
    if (request.path() == "/window") return Reply(429, "RateLimit: \"api\";r=0;t=8000\r\n", "");
    return Reply(503, "", "");
  });
  CHECK(*bench.transfer->GetText(bench.Target("/once"), kLimit, nullptr) == "at last");
  const auto tried = [&](const char* path) {
    const std::size_t before = bench.server.requests().size();
    const auto text = bench.transfer->GetText(bench.Target(path), kLimit, nullptr);
    CHECK(IssueNumberOf(text.status()) == kServerFailed.number);
    return std::pair(bench.server.requests().size() - before, MessageOf(text.status()));
  };
  CHECK(tried("/never").first == 3);
  for (const auto& [path, seconds] : {std::pair("/later", "7000 s"), {"/window", "8000 s"}}) {
    const auto [requests, message] = tried(path);
    CHECK(requests == 1);
    CHECK(message.find(seconds) != std::string::npos);
  }
}

TEST_CASE("an interruption ends the wait for a server") {
  std::atomic<bool> cancel{false};
  NetSettings settings = test::QuickSettings();
  settings.first_wait_seconds = 30;
  settings.cancel = &cancel;
  NetBench bench(
      [&](const Request& request) {
        cancel = true;
        return request.path() == "/gone" ? Reply(404, "", "") : Reply(503, "", "");
      },
      settings);
  for (const char* path : {"/busy", "/gone"}) {
    cancel = false;
    CHECK(IssueNumberOf(bench.transfer->GetText(bench.Target(path), kLimit, nullptr).status()) ==
          kNetInterrupted.number);
  }
  // During the wait, and of one reader alone.
  std::atomic<bool> stop{false};
  NetRetry retry(*bench.transfer, &stop);
  NetReply reply;
  reply.status = 503;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    stop = true;
  });
  cancel = false;
  CHECK(IssueNumberOf(retry.Wait(bench.Target("/x"), reply)) == kNetInterrupted.number);
  later.join();
}

}  // namespace q4
