// URLs as texts, and signatures: what is pure of formats/net. What servers do is in tests/cli/network_test.py.
#include "formats/net/url.h"

#include <ctime>
#include <string>

#include "formats/net/net_issues.h"
#include "formats/net/sigv4.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("a URL is taken apart, and what is none is refused without repeating it") {
  const auto url = ParseUrl("HTTPS://me:secret@Host.example:8443/a%20b/c?x=1&y=2#part");
  REQUIRE(url.ok());
  CHECK(url->scheme == "https");
  CHECK(url->userinfo == "me:secret");
  CHECK(url->origin() == "https://host.example:8443");
  CHECK(url->path == "/a%20b/c");
  CHECK(url->query == "?x=1&y=2");
  for (const char* bad :
       {"", "host/path", "ftp://host/x", "file:///etc/passwd", "https://", "https:///x", "https://a b/",
        "https://host/\nX: y", "https://ho%73t/", "https://host\\evil/", "gopher://secret", "https://host:65536/",
        "https://host:/", "https://host:0/", "https://host:8x/", "https://host:99999999999/", "https://[::1]:70000/"}) {
    INFO(bad);
    const auto refused = ParseUrl(bad);
    CHECK(IssueNumberOf(refused.status()) == kBadUrl.number);
    CHECK(MessageOf(refused.status()).find("secret") == std::string::npos);
  }
  const std::string begin = "https://host/";
  CHECK(ParseUrl(begin + std::string(8192 - begin.size(), 'x')).ok());
  CHECK(IssueNumberOf(ParseUrl(begin + std::string(8193 - begin.size(), 'x')).status()) == kBadUrl.number);
}

TEST_CASE("schemes that are not read are told from paths") {
  CHECK(OtherScheme("ftp://host/x") == "ftp://");
  CHECK(OtherScheme("AZ://c/x") == "AZ://");
  for (const char* none : {"", "x", "a/b://c", "://x", "https://h", "HF://org/x", "s3://b"}) {
    INFO(none);
    CHECK(OtherScheme(none).empty());
  }
  CHECK(ParseUrl("https://host:65535/").ok());
  CHECK(ParseUrl("https://[::1]/").ok());
}

TEST_CASE("http is for this machine") {
  for (const char* here : {"http://localhost/x", "http://127.0.0.1:80/x", "http://127.1.2.3/", "http://[::1]:8080/x"}) {
    INFO(here);
    CHECK(CheckMayRead(*ParseUrl(here), false, "").ok());
  }
  for (const char* there :
       {"http://127.0.0.1.example/x", "http://localhost.example/", "http://10.0.0.1/", "http://[::2]/"}) {
    INFO(there);
    CHECK(IssueNumberOf(CheckMayRead(*ParseUrl(there), false, "")) == kInsecureUrl.number);
    CHECK(CheckMayRead(*ParseUrl(there), true, "").ok());
  }
}

TEST_CASE("paths are encoded and decoded, and lead nowhere else") {
  CHECK(EncodePath("/a b/\xc3\xa4+%~") == "/a%20b/%C3%A4%2B%25~");
  CHECK(*DecodePath("/a%20b/%C3%A4+%25") == "/a b/\xc3\xa4+%");
  CHECK(EncodeComponent("refs/pr/1") == "refs%2Fpr%2F1");
  for (const char* bad : {"/a%2Fb", "/a%2fb", "/%00", "/%0a", "/%", "/%4", "/%zz", "/../x", "/a/%2e%2e/x", "/."}) {
    INFO(bad);
    CHECK_FALSE(DecodePath(bad).ok());
  }
  for (const char* no_code : {"/%", "/%4", "/%zz", "/%4z"}) {
    INFO(no_code);
    CHECK(MessageOf(DecodePath(no_code).status()).find("begins no encoded character") != std::string::npos);
  }
}

TEST_CASE("models of the hub by their names") {
  const auto parse = [](const char* text) { return ParseHubPath(text); };
  CHECK(parse("hf://org/name")->root() == "hf://org/name");
  CHECK(parse("hf://gpt2")->repository == "gpt2");
  CHECK(parse("hf://models/org/name")->repository == "org/name");
  CHECK(parse("hf://models/gpt2")->root() == "hf://gpt2");
  CHECK(parse(parse("hf://org/name@a+b")->root().c_str())->revision == "a+b");
  CHECK(parse("hf://org/na.me_1@v1.0")->revision == "v1.0");
  CHECK(parse("hf://org/name@main/sub/model.safetensors")->inside == "sub/model.safetensors");
  const auto request = parse("hf://org/name@refs/pr/12/config.json");
  CHECK(request->revision == "refs/pr/12");
  CHECK(request->inside == "config.json");
  CHECK(parse(request->root().c_str())->revision == "refs/pr/12");
  CHECK(parse("hf://gpt2@main/config.json")->inside == "config.json");
  for (const char* bad :
       {"hf://", "hf:///x", "hf://org/", "hf://org/na me", "hf://.org/name", "hf://org/name@", "hf://org/name@a..b",
        "hf://org/name@a b", "hf://org/name@a%41b", "hf://models/models/c", "hf://buckets/org/name",
        "hf://org/name/../x", "hf://datasets/org/name", "hf://spaces/org/name", "hf://org/@main",
        "hf://hf_tokenTokenToken0123456789@org/name", "hf://hf_tokenTokenToken0123456789/org/name"}) {
    INFO(bad);
    if (std::string(bad) == "hf://org/") {
      CHECK(parse(bad)->repository == "org");
    } else {
      CHECK(IssueNumberOf(parse(bad).status()) == kBadUrl.number);
    }
  }
}

TEST_CASE("a URL that went through a path is known by its one slash") {
  CHECK(CollapsedUrl("hf:/org/name") == "hf://");
  CHECK(CollapsedUrl("https:/host/x") == "https://");
  CHECK(CollapsedUrl("s3:/bucket/x") == "s3://");
  for (const char* const other : {"hf://org/name", "https://host", "hf:x", "a/hf:/x", "./hf:/x", "file:/x", ""}) {
    CHECK(CollapsedUrl(other).empty());
  }
}

TEST_CASE("pages of the hub that people copy are its models") {
  const auto page = [](const char* text) { return HubPathOfPage(*ParseUrl(text), "https://huggingface.co"); };
  CHECK(page("https://huggingface.co/org/name").root() == "hf://org/name");
  CHECK(page("https://huggingface.co/org/name/tree/main/sub").inside == "sub");
  CHECK(page("https://hf.co/org/name/blob/v1/a%20b.json").inside == "a b.json");
  CHECK(page("https://huggingface.co/org/name/resolve/refs%2Fpr%2F1/model.safetensors").revision == "refs/pr/1");
  for (const char* other :
       {"https://huggingface.co/", "https://huggingface.co/datasets/org/name", "https://huggingface.co.evil/org/name",
        "http://huggingface.co/org/name", "https://host/org/name", "https://huggingface.co/datasets/name",
        "https://huggingface.co/models/name", "https://me:secret@huggingface.co/org/name",
        "https://huggingface.co/org/.name", "https://huggingface.co/org/name/tree/a..b/x",
        "https://huggingface.co/org/name/tree/main/%2e%2e/x", "https://huggingface.co/org/name/discussions/1"}) {
    INFO(other);
    CHECK(page(other).repository.empty());
  }
}

TEST_CASE("signatures are those of Amazon's examples") {
  // "Authenticating Requests: Using the Authorization Header", examples of GET Object, GET Bucket Lifecycle and GET
  // Bucket.
  const AwsKey key{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
  const std::string date = "20130524T000000Z",
                    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  SignedRequest request;
  request.payload_sha256 = empty;
  request.path = "/test.txt";
  request.headers = {{"host", "examplebucket.s3.amazonaws.com"},
                     {"range", "bytes=0-9"},
                     {"x-amz-content-sha256", empty},
                     {"x-amz-date", date}};
  CHECK(SigV4(request, key, "us-east-1", "s3", date) ==
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
  request.path = "/";
  request.headers.erase(request.headers.begin() + 1);
  request.query = {{"lifecycle", ""}};
  CHECK(SigV4(request, key, "us-east-1", "s3", date)
            .ends_with("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
  request.query = {{"prefix", "J"}, {"max-keys", "2"}};
  CHECK(SigV4(request, key, "us-east-1", "s3", date)
            .ends_with("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

TEST_CASE("HMAC-SHA-256 is that of RFC 4231, and headers for S3 hold no secret") {
  CHECK(HexOf(HmacSha256(std::string(20, '\x0b'), "Hi There")) ==
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(HexOf(HmacSha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")) ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  const auto lines =
      S3Headers("host", "/b/k", {}, {"ID", "swordfish", "session"}, "eu-west-1", std::time_t{1'700'000'000});
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  CHECK(all.find("swordfish") == std::string::npos);
  CHECK(all.find("x-amz-date: 20231114T221320Z") != std::string::npos);
  CHECK(all.find("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,") != std::string::npos);
}

}  // namespace
}  // namespace q4
