#include "formats/base/status_parts.h"

#include <string>

#include "formats/base/shown_url.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

constexpr Issue kRule{3999, ExitCode::kInvalidInput, "a rule"};

TEST_CASE("a status tells its file and its tensor as they are, whatever the message escapes") {
  const absl::Status status = Fail(kRule, "a\x1b.q4", "tensor 'it's \n', codes, chunk 2");
  CHECK(FileOf(status) == "a\x1b.q4");
  CHECK(TensorOf(status) == "it's \n");
  CHECK(FileOf(Fail(kRule, {}, "tensor 'x'")).empty());
  for (const std::string place : {"", "header", "tensor", "tensor '", "tensor x", "'x'"}) {
    CHECK(TensorOf(Fail(kRule, "f", place)).empty());
  }
  CHECK(TensorOf(Fail(kRule, "f", "tensor ''")).empty());
  CHECK(FileOf(absl::OkStatus()).empty());
  CHECK(TensorOf(absl::InternalError("?")).empty());
}

TEST_CASE("secrets of URLs are in no message, wherever it names them") {
  const std::string url = "http://me:sword@H/A?sig=sword";
  for (const absl::Status& status :
       {Fail(kRule, url, {}), Fail(kRule, {}, url), Fail(kRule, {}, {}, GotExpected("'" + url + "'", "x")),
        InFile(Fail(kRule, {}, {}), url), InFile(Fail(kRule, url, {}), url)}) {
    CHECK(MessageOf(status).find("sword") == std::string::npos);
    CHECK(MessageOf(status).find("http://***@H/A?***") != std::string::npos);
    CHECK(FileOf(status).find("sword") == std::string::npos);
  }
  const auto shown = [](std::string_view text) { return WithoutUrlSecrets(text); };
  for (const char* same : {"", "a/b@c?d", "https://h/a b/c", "hf://org/x@main", "hf://gpt2@main/config.json", "://",
                           "https://, hf://, s3:// or gs://", "http://h:80/a@b", "s3://b/k", "http://h:x/a"}) {
    CHECK(shown(same) == same);
  }
  CHECK(MessageOf(Fail(kRule, url, {}, "got A?sig=sword")).find("got A?***)") != std::string::npos);
  CHECK(shown("hf://me:sword@org/x") == "hf://***@org/x");
  const std::string token = "tokenTokenToken0123456789";
  CHECK(shown("hf://hf_" + token + "@org/x") == "hf://***@org/x");
  CHECK(shown("hf://api_org_" + token + "/org/x") == "hf://***/org/x");
  CHECK(shown("hf://" + token + token + "@org/x") == "hf://***@org/x");
  for (const char* same : {"hf://hf_xet/x", "hf://hf_internal_testing@main/x"}) CHECK(shown(same) == same);
  CHECK(shown("s3://key:sec/ret@b/k") == "s3://***@b/k");
  CHECK(shown("ftp://me@h") == "ftp://***@h");
  CHECK(shown("http://a@b@h/") == "http://***@h/");
  CHECK(shown("'http://h/x?y=1' and 'http://u:p@i?z'") == "'http://h/x?***' and 'http://***@i?***'");
  CHECK(shown("http://h?to=http://u:p@i/x") == "http://h?***");
}

TEST_CASE("a file that is named later is the one") {
  const absl::Status named = InFile(Fail(kRule, {}, "tensor 'x'"), "b");
  CHECK(FileOf(named) == "b");
  CHECK(TensorOf(named) == "x");
  CHECK(IssueNumberOf(named) == 3999);
}

}  // namespace
}  // namespace q4
