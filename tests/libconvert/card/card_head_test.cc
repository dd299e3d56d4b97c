// The head of a card is untrusted text: what is read of it is plain, and everything else is not there.
#include "libconvert/card/card_head.h"

#include <string>
#include <vector>

#include "libconvert/card/card.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

using Licenses = std::vector<std::string>;

TEST_CASE("members of the top level are read in plain words and quotes") {
  const CardHead head = ParseCardHead(
      "---\nlanguage: en\nlicense: other   # comment\nlicense_name: \"llama3\"\nlicense_link: 'https://x.org/a?b=1'\n"
      "pipeline_tag: text-generation\n---\nlicense: mit\n");
  CHECK(head.licenses == Licenses{"other"});
  CHECK(head.license_name == "llama3");
  CHECK(head.license_link == "https://x.org/a?b=1");
  CHECK(head.pipeline_tag == "text-generation");
}

TEST_CASE("a list of licences is read, as far as it goes") {
  CHECK(ParseCardHead("---\nlicense:\n- mit\n  - \"apache-2.0\"\ntags:\n- x\n---\n").licenses ==
        Licenses{"mit", "apache-2.0"});
  std::string many = "---\nlicense:\n";
  for (int i = 0; i < 100; ++i) many += "- l" + std::to_string(i) + "\n";
  CHECK(ParseCardHead(many + "---\n").licenses.size() == 8);
}

TEST_CASE("ends of lines and a byte order mark are those of any editor") {
  CHECK(ParseCardHead("\xef\xbb\xbf---\r\nlicense: mit\r\n--- \r\n").licenses == Licenses{"mit"});
  CHECK(ParseCardHead("---\nlicense: mit\n---").licenses == Licenses{"mit"});
}

TEST_CASE("without both lines of dashes there is no head") {
  for (const char* text :
       {"", "-", "---", "---\n", "license: mit\n", "---\nlicense: mit\n", "----\nlicense: mit\n---\n",
        " ---\nlicense: mit\n---\n", "\n---\nlicense: mit\n---\n", "---\nlicense: mit\n ---\n"}) {
    INFO(text);
    CHECK(ParseCardHead(text).licenses.empty());
  }
  const std::string far = "---\nlicense: mit\n" + std::string(kCardHeadBytes, '#') + "\n---\n";
  CHECK(ParseCardHead(far).licenses.empty());
}

TEST_CASE("what would mean something in YAML or Markdown is not taken over") {
  for (const char* value : {"", "[mit]", "{a: b}", "&a mit", "*a", "!tag x", "| ", "\"mit", "'mit\\n---'", "a: b",
                            "mit\tx", "<b>", "`x`", "../x", "- x", "mit \xff", "\"a\\u000ab\"", "%x"}) {
    INFO(value);
    CHECK(ParseCardHead(std::string("---\nlicense_name: ") + value + "\n---\n").license_name.empty());
  }
  CHECK(ParseCardHead(std::string("---\nlicense_name: mit\0x\n---\n", 28)).license_name.empty());
  CHECK(ParseCardHead("---\nlicense_name: " + std::string(301, 'a') + "\n---\n").license_name.empty());
  // Members of members, longer names, and a value that is joined to its key.
  CHECK(ParseCardHead("---\nx:\n  license: gpl\nlicenses: gpl\nlicense:gpl\n---\n").licenses.empty());
}

TEST_CASE("names of models are those of the hub") {
  for (const char* name : {"a", "owner/name", "Qwen/Qwen3-0.6B", "a_b/c.d-e_1"}) CHECK(IsModelName(name));
  for (const char* name :
       {"", "/", "a/", "/a", "a/b/c", "-a", "a/-b", "a-", "a./b", "a b", "a\n", "a:b", ".", "..", "a/.."})
    CHECK_FALSE(IsModelName(name));
}

}  // namespace
}  // namespace q4
