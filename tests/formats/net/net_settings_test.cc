// What the environment says of servers, and what of it is refused.
#include "formats/net/net_settings.h"

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "formats/base/status.h"
#include "formats/net/net_file_system.h"
#include "formats/net/net_issues.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

// Sets variables of the environment, and all that formats/net asks for besides to nothing; puts them back.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& given) {
    for (const char* name : {"HF_ENDPOINT",
                             "HF_TOKEN",
                             "HUGGING_FACE_HUB_TOKEN",
                             "HF_TOKEN_PATH",
                             "HF_HOME",
                             "HF_HUB_DISABLE_IMPLICIT_TOKEN",
                             "XDG_CACHE_HOME",
                             "HOME",
                             "AWS_ACCESS_KEY_ID",
                             "AWS_SECRET_ACCESS_KEY",
                             "AWS_SESSION_TOKEN",
                             "AWS_REGION",
                             "AWS_DEFAULT_REGION",
                             "AWS_ENDPOINT_URL_S3",
                             "AWS_ENDPOINT_URL",
                             "GOOGLE_OAUTH_ACCESS_TOKEN",
                             "GCS_HMAC_ACCESS_ID",
                             "GCS_HMAC_SECRET",
                             "GCS_ENDPOINT_URL",
                             "Q4_ALLOW_HTTP",
                             "Q4_NET_TIMEOUT",
                             "Q4_NET_ATTEMPTS"}) {
      if (const char* const value = std::getenv(name)) before_[name] = value;
      names_.push_back(name);
      ::unsetenv(name);
    }
    for (const auto& [name, value] : given) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const std::string& name : names_) {
      const auto value = before_.find(name);
      value == before_.end() ? ::unsetenv(name.c_str()) : ::setenv(name.c_str(), value->second.c_str(), 1);
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::vector<std::string> names_;
  std::map<std::string, std::string> before_;
};

absl::StatusOr<NetSettings> SettingsOf(const std::map<std::string, std::string>& given) {
  const Environment environment(given);
  return NetSettingsFromEnvironment();
}

int IssueOf(const std::map<std::string, std::string>& given) { return IssueNumberOf(SettingsOf(given).status()); }

}  // namespace

TEST_CASE("nothing in the environment: everything has its usual value") {
  const auto settings = SettingsOf({});
  REQUIRE(settings.ok());
  CHECK(settings->hub_endpoint == "https://huggingface.co");
  CHECK((settings->hub_token.empty() && settings->aws_key.id.empty() && !settings->allow_http));
  CHECK((settings->aws_region == "us-east-1" && settings->stall_seconds == 30 && settings->attempts == 7));
}

TEST_CASE("endpoints are web servers, with a path perhaps") {
  CHECK(SettingsOf({{"HF_ENDPOINT", "https://Mirror.example/hub//"}})->hub_endpoint == "https://mirror.example/hub");
  CHECK(SettingsOf({{"AWS_ENDPOINT_URL", "http://127.0.0.1:9000"}})->aws_endpoint == "http://127.0.0.1:9000");
  CHECK(SettingsOf({{"GCS_ENDPOINT_URL", "https://storage.example"}})->gcs_endpoint == "https://storage.example");
  for (const char* name : {"HF_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "GCS_ENDPOINT_URL"}) {
    INFO(name);
    for (const char* wrong : {"nowhere", "ftp://x", "https://x?a=b", "https://me:secret@x"}) {
      INFO(wrong);
      CHECK(IssueOf({{name, wrong}}) == kBadNetSetting.number);
    }
    CHECK(IssueOf({{name, "http://models.example"}}) == kInsecureUrl.number);
    CHECK(IssueOf({{name, "http://models.example"}, {"Q4_ALLOW_HTTP", "Yes"}}) == 0);
  }
}

TEST_CASE("a token comes from where the hub's own tools look for it") {
  const test::TempDir dir;
  dir.Write(".cache/huggingface/token", "hf_home\n");
  dir.Write("huggingface/token", "hf_cache");
  dir.Write("token", "hf_own");
  const std::string file = dir.Write("given", " hf_given ");
  const std::string& home = dir.path();
  CHECK(SettingsOf({{"HOME", home}})->hub_token == "hf_home");
  CHECK(SettingsOf({{"HOME", home}, {"XDG_CACHE_HOME", home}})->hub_token == "hf_cache");
  CHECK(SettingsOf({{"HOME", "/nowhere"}, {"HF_HOME", home}})->hub_token == "hf_own");
  CHECK(SettingsOf({{"HF_HOME", home}, {"HF_TOKEN_PATH", file}})->hub_token == "hf_given");
  CHECK(SettingsOf({{"HF_TOKEN_PATH", file}, {"HUGGING_FACE_HUB_TOKEN", "hf_old"}})->hub_token == "hf_old");
  CHECK(SettingsOf({{"HF_TOKEN", "hf_new"}, {"HUGGING_FACE_HUB_TOKEN", "hf_old"}})->hub_token == "hf_new");
  for (const char* yes : {"1", "true", "YES", "on"}) {
    CHECK(SettingsOf({{"HOME", home}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", yes}})->hub_token.empty());
  }
  CHECK(SettingsOf({{"HOME", home}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "0"}})->hub_token == "hf_home");
}

TEST_CASE("keys are whole, and none would end a line of a request") {
  CHECK(IssueOf({{"AWS_ACCESS_KEY_ID", "id"}, {"AWS_SECRET_ACCESS_KEY", "s"}}) == 0);
  for (const char* half : {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GCS_HMAC_ACCESS_ID", "GCS_HMAC_SECRET"}) {
    INFO(half);
    CHECK(IssueOf({{half, "x"}}) == kBadNetSetting.number);
  }
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SESSION_TOKEN", "GOOGLE_OAUTH_ACCESS_TOKEN"}) {
    INFO(name);
    CHECK(IssueOf({{name, "plain-token_1"}}) == 0);
    for (const char* wrong : {"a\nb", "a b", "a\tb", "\xc3\xa4"})
      CHECK(IssueOf({{name, wrong}}) == kBadNetSetting.number);
  }
  for (const char* name : {"AWS_REGION", "AWS_DEFAULT_REGION"}) {
    CHECK(SettingsOf({{name, "eu-central-1"}})->aws_region == "eu-central-1");
    for (const char* wrong : {"eu.evil.example/", "EU", "a b", "x@y"})
      CHECK(IssueOf({{name, wrong}}) == kBadNetSetting.number);
  }
}

TEST_CASE("numbers of the environment are whole and in their range") {
  CHECK(SettingsOf({{"Q4_NET_TIMEOUT", "3600"}})->stall_seconds == 3600);
  CHECK(SettingsOf({{"Q4_NET_ATTEMPTS", "1"}})->attempts == 1);
  for (const char* wrong : {"0", "-1", "1.5", "soon", "3601s", "99999999999"}) {
    INFO(wrong);
    CHECK(IssueOf({{"Q4_NET_TIMEOUT", wrong}}) == kBadNetSetting.number);
    CHECK(IssueOf({{"Q4_NET_ATTEMPTS", wrong}}) == kBadNetSetting.number);
  }
  CHECK(IssueOf({{"Q4_NET_TIMEOUT", "3601"}}) == kBadNetSetting.number);
  CHECK(IssueOf({{"Q4_NET_ATTEMPTS", "1001"}}) == kBadNetSetting.number);
}

TEST_CASE("URLs are read and never written") {
  NetFileSystem fs(PosixFileSystem(), NetSettings{});
  const std::string url = "https://models.example/x";
  CHECK(IssueNumberOf(fs.CreateExclusive(url).status()) == kOutputIsUrl.number);
  CHECK(IssueNumberOf(fs.OpenLocked(url).status()) == kOutputIsUrl.number);
  CHECK(IssueNumberOf(fs.Hold(url).status()) == kOutputIsUrl.number);
  for (const absl::Status& refused :
       {fs.Rename(url, "x", true), fs.Rename("x", url, true), fs.Exchange(url, "x"), fs.Exchange("x", url),
        fs.CopyMode(url, "x"), fs.CopyMode("x", url), fs.SyncDirectory(url), fs.Remove(url), fs.RemoveDirectory(url),
        fs.CreateDirectory(url), fs.CheckOurs(url, false)}) {
    CHECK(IssueNumberOf(refused) == kOutputIsUrl.number);
  }
}

TEST_CASE("what a user gives becomes a path, or is refused before any server is asked") {
  NetFileSystem fs(PosixFileSystem(), NetSettings{});
  CHECK(*fs.Adopt("model") == "model");
  CHECK(fs.memory() == 0);
  CHECK(*fs.Adopt("HTTPS://me:secret@Host.example/a%20b/?sig=1") == "https://host.example/a b");
  CHECK(*fs.Adopt("https://huggingface.co/org/name/tree/v1/sub") == "hf://org/name@v1/sub");
  CHECK(*fs.Adopt("hf://org/name@a+b/x/") == "hf://org/name@a+b/x");
  CHECK(*fs.Adopt("s3://bucket/m//") == "s3://bucket/m");
  CHECK(fs.memory() > 0);
  for (const char* wrong :
       {"ftp://x/y", "file:///x", "hf://datasets/org/name", "s3://B/x", "https://", "https://host/a%2fb"}) {
    INFO(wrong);
    CHECK(IssueNumberOf(fs.Adopt(wrong).status()) == kBadUrl.number);
  }
  CHECK(IssueNumberOf(fs.Adopt("http://models.example/x").status()) == kInsecureUrl.number);
  CHECK(IssueNumberOf(fs.Stat("http://models.example/x").status()) == kInsecureUrl.number);
  CHECK(IssueNumberOf(fs.Stat("hf://org/name@..").status()) == kBadUrl.number);
}

}  // namespace q4
