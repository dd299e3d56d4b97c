// Listings of the hub and of buckets: what they name is a path, has a size and lies where it was asked for.
#include <functional>
#include <string>

#include "formats/base/base_issues.h"
#include "formats/base/file.h"
#include "formats/net/net_file_system.h"
#include "formats/net/net_issues.h"
#include "formats/net/net_source.h"
#include "tests/formats/net/net_bench.h"

namespace q4 {
namespace {

using test::NetBench;
using test::Reply;
using test::Request;

constexpr char kCommit[] = "0123456789abcdef0123456789abcdef01234567";
constexpr char kRoot[] = "hf://org/name";

std::string JsonReply(const std::string& body) { return Reply(200, "Content-Type: application/json\r\n", body); }

// A hub whose list of files is this; what the first request of it becomes.
class HubBench {
 public:
  explicit HubBench(std::function<std::string(const Request&)> tree, std::string model = {},
                    const std::string& root = kRoot)
      : bench_([tree, model](const Request& request) {
          if (request.path().starts_with("/api/models/org/name/revision/")) {
            return JsonReply(model.empty() ? std::string("{\"sha\":\"") + kCommit + "\"}" : model);
          }
          return tree(request);
        }) {
    bench_.settings.hub_endpoint = bench_.server.origin();
    source_ = *OpenHub(*bench_.transfer, root);
  }
  explicit HubBench(const std::string& tree) : HubBench([tree](const Request&) { return JsonReply(tree); }) {}

  NetSource& source() { return *source_; }
  NetBench& bench() { return bench_; }
  int issue() { return IssueNumberOf(source_->Find(std::string(kRoot) + "/config.json").status()); }

 private:
  NetBench bench_;
  std::unique_ptr<NetSource> source_;
};

std::string Entry(const std::string& path, const std::string& more = R"(,"size":4,"oid":"ab")") {
  return R"({"type":"file","path":")" + path + "\"" + more + "}";
}

// What the list of objects becomes whose elements are these.
int IssueOfBucket(const std::string& elements, const std::string& folder = "s3://bucket/m") {
  NetBench bench(
      [&](const Request&) { return Reply(200, "", "<ListBucketResult>" + elements + "</ListBucketResult>"); });
  const auto source =
      OpenBucket(*bench.transfer, "s3://bucket", {bench.server.origin(), "/bucket", {}, "", "us-east-1", ""});
  return IssueNumberOf(source->List(folder).status());
}

}  // namespace

TEST_CASE("a model of the hub is its files of one commit") {
  HubBench hub(
      "[" + Entry("config.json") + "," +
      Entry("sub/deep/x.bin", R"(,"size":3,"oid":"cd","lfs":{"oid":")" + std::string(64, 'a') + R"(","size":9})") +
      R"(,{"type":"directory","path":"empty"}])");
  const auto file = hub.source().Find(std::string(kRoot) + "/sub/deep/x.bin");
  REQUIRE(file.ok());
  CHECK(file->kind == NetEntry::Kind::kFile);
  CHECK(file->listed.size == 9);
  CHECK(file->listed.tag == "sha256:" + std::string(64, 'a'));
  CHECK(hub.source().Find(std::string(kRoot) + "/config.json")->listed.tag == "git:ab");
  CHECK(hub.source().Find(std::string(kRoot) + "/sub")->kind == NetEntry::Kind::kFolder);
  CHECK(hub.source().Find(std::string(kRoot) + "/other")->kind == NetEntry::Kind::kNothing);
  CHECK(hub.source().List(kRoot)->names == std::vector<std::string>{"config.json", "empty", "sub"});
  CHECK(hub.bench().server.requests().size() == 2);
  REQUIRE(hub.source().Notes().size() == 1);
  CHECK(hub.source().Notes()[0].find(kCommit) != std::string::npos);
  // Nothing is to be said of a commit that was named.
  const std::string named = std::string(kRoot) + "@" + kCommit;
  HubBench commit([](const Request&) { return JsonReply("[]"); }, "", named);
  CHECK(commit.source().List(named).ok());
  CHECK(commit.source().Notes().empty());
}

TEST_CASE("a list of the hub that cannot be right is refused") {
  for (const char* path : {"", "/x", "a//b", "a/", ".", "..", "a/../b", "a/./b", "a\\u0001b", "a\\u007fb"}) {
    INFO(path);
    CHECK(HubBench("[" + Entry(path) + "]").issue() == kBadReply.number);
  }
  CHECK(HubBench("[" + Entry(std::string(4097, 'x')) + "]").issue() == kBadReply.number);
  CHECK(HubBench("[" + Entry(std::string(4096, 'x')) + "]").issue() == 0);
  for (const char* entry : {R"({"path":"a"})", R"({"type":"file"})", R"({"type":"file","path":3})", R"([])"}) {
    INFO(entry);
    CHECK(HubBench(std::string("[") + entry + "]").issue() == kBadReply.number);
  }
  const std::string size = R"(,"size":4,"oid":"ab")", digest(64, 'a');
  const std::vector<std::string> wrong = {"",
                                          R"(,"size":4)",
                                          R"(,"size":-4,"oid":"ab")",
                                          R"(,"size":"4","oid":"ab")",
                                          size + R"(,"lfs":{})",
                                          size + R"(,"lfs":{"oid":")" + digest + "\"}",
                                          size + R"(,"lfs":{"oid":"x","size":4})",
                                          size + R"(,"lfs":{"oid":")" + digest + R"(","size":-1})"};
  for (const std::string& more : wrong) {
    INFO(more);
    CHECK(HubBench("[" + Entry("config.json", more) + "]").issue() == kBadReply.number);
  }
  CHECK(HubBench("{}").issue() == kBadReply.number);
  for (const char* model :
       {"[]", R"({"sha":3})", R"({"sha":"main"})", R"({"sha":"0123456789ABCDEF0123456789abcdef01234567"})"}) {
    INFO(model);
    CHECK(HubBench([](const Request&) { return JsonReply("[]"); }, model).issue() == kBadReply.number);
  }
  // An error stays, of a folder too.
  HubBench failed("{}");
  CHECK(failed.issue() == kBadReply.number);
  CHECK(IssueNumberOf(failed.source().List(kRoot).status()) == kBadReply.number);
  CHECK(failed.source().Notes().empty());
}

TEST_CASE("pages of a list are of the same server, and not without end") {
  // How the server is called in the requests that it gets.
  const auto origin_of = [](const Request& request) {
    const std::size_t host = request.text.find("Host: ") + 6;
    return "http://" + request.text.substr(host, request.text.find('\r', host) - host);
  };
  const auto link = [](const std::string& url) { return "Link: <" + url + ">; rel=\"next\"\r\n"; };
  HubBench two([&](const Request& request) {
    const bool second = request.path() == "/api/next?page=2";
    return Reply(200, second ? "" : link(origin_of(request) + "/api/next?page=2"),
                 "[" + Entry(second ? "f2" : "f1") + "]");
  });
  CHECK(two.source().List(kRoot)->names == std::vector<std::string>{"f1", "f2"});
  for (const char* elsewhere : {"http://127.0.0.2:9/x", "https://models.example/x", "ftp://x"}) {
    INFO(elsewhere);
    CHECK(HubBench([&](const Request&) { return Reply(200, link(elsewhere), "[]"); }).issue() == kBadReply.number);
  }
  HubBench endless([&](const Request& request) { return Reply(200, link(origin_of(request) + "/again"), "[]"); });
  CHECK(endless.issue() == kListingTooLarge.number);
  HubBench many([&, page = 0](const Request& request) mutable {
    std::string list = "[" + Entry("config.json");
    for (int i = 0; i < 30'000; ++i) list += "," + Entry(std::to_string(page) + "-" + std::to_string(i));
    return Reply(200, ++page == 4 ? "" : link(origin_of(request) + "/more"), list + "]");
  });
  CHECK(many.issue() == kListingTooLarge.number);
}

TEST_CASE("a bucket lists what lies in a folder") {
  NetBench bench([&](const Request& request) {
    const bool second = request.Has("continuation-token=more");
    return Reply(
        200, "",
        second
            ? "<ListBucketResult><Contents><Key>m/b%20c</Key><Size>7</Size><ETag>&quot;2&quot;</ETag></Contents></"
              "ListBucketResult>"
            : "<ListBucketResult><Contents><Key>m/</Key><Size>0</Size></Contents><Contents><Key>m/a</Key><Size>5</Size>"
              "<ETag>&quot;1&quot;</ETag></Contents><CommonPrefixes><Prefix>m/sub/</Prefix></CommonPrefixes>"
              "<CommonPrefixes><Prefix>m/../</Prefix></CommonPrefixes><Contents><Key>m/..</Key><Size>1</Size></"
              "Contents>"
              "<IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken></ListBucketResult>");
  });
  const auto source =
      OpenBucket(*bench.transfer, "s3://bucket", {bench.server.origin(), "/bucket", {}, "", "us-east-1", ""});
  CHECK(source->List("s3://bucket/m")->names == std::vector<std::string>{"a", "b c", "sub"});
  const auto file = source->Find("s3://bucket/m/b c");
  REQUIRE(file.ok());
  CHECK((file->kind == NetEntry::Kind::kFile && file->listed.size == 7 && file->listed.tag == "etag:\"2\""));
  CHECK(source->Find("s3://bucket/m/sub")->kind == NetEntry::Kind::kFolder);
  CHECK(source->Find("s3://bucket/m/none")->kind == NetEntry::Kind::kNothing);
}

TEST_CASE("a folder of a bucket is no file") {
  NetBench bench([](const Request& request) {
    std::string found = "<CommonPrefixes><Prefix>m/</Prefix></CommonPrefixes>";
    if (request.Has("prefix=m%2F")) found = "<Contents><Key>m/a</Key><Size>1</Size></Contents>";
    if (request.Has("prefix=none%2F")) found.clear();
    return Reply(200, "", "<ListBucketResult>" + found + "</ListBucketResult>");
  });
  NetSettings settings = test::QuickSettings();
  settings.aws_endpoint = bench.server.origin();
  NetFileSystem fs(PosixFileSystem(), settings);
  CHECK(fs.Stat("s3://bucket/m")->is_directory);
  CHECK(IssueNumberOf(fs.OpenForRead("s3://bucket/m").status()) == kNotARegularFile.number);
  CHECK(IssueNumberOf(fs.OpenForRead("s3://bucket/none").status()) == kCannotOpen.number);
}

TEST_CASE("a list of a bucket that cannot be right is refused") {
  const std::string good = "<Contents><Key>m/a</Key><Size>5</Size></Contents>";
  CHECK(IssueOfBucket(good) == 0);
  for (const char* wrong :
       {"<Contents><Key>m/a</Key></Contents>", "<Contents><Key>m/a</Key><Size>-5</Size></Contents>",
        "<Contents><Key>m/a</Key><Size>5x</Size></Contents>", "<Contents><Key>n/a</Key><Size>5</Size></Contents>",
        "<Contents><Key>a</Key><Size>5</Size></Contents>", "<CommonPrefixes><Prefix>n/sub/</Prefix></CommonPrefixes>",
        "<CommonPrefixes><Prefix>m/sub</Prefix></CommonPrefixes>", "<IsTruncated>true</IsTruncated>"}) {
    INFO(wrong);
    CHECK(IssueOfBucket(wrong) == kBadReply.number);
  }
  // What is cut names nothing; what goes on for ever is too much.
  CHECK(IssueOfBucket("<Contents><Key>m/a</Key>") == 0);
  CHECK(IssueOfBucket("<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>") ==
        kListingTooLarge.number);
  NetBench bench([](const Request&) { return Reply(200, "", "<Error/>"); });
  const auto source =
      OpenBucket(*bench.transfer, "s3://bucket", {bench.server.origin(), "/bucket", {}, "", "us-east-1", ""});
  CHECK(IssueNumberOf(source->List("s3://bucket/m").status()) == kBadReply.number);
  for (const char* bucket : {"s3://ab", "s3://Upper", "s3://.abc", "s3://a..b", "gs://a b"}) {
    INFO(bucket);
    CHECK(IssueNumberOf(AccessOfBucket(bench.settings, bucket).status()) == kBadUrl.number);
  }
}

}  // namespace q4
