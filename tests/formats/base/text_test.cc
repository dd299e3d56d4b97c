#include "formats/base/text.h"

#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace q4 {
namespace {

using namespace std::string_literals;

TEST_CASE("Printable escapes what a terminal would act on and nothing else") {
  CHECK(Printable("model.layers.0") == "model.layers.0");
  CHECK(Printable("") == "");
  CHECK(Printable("gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80") ==
        "gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80");
  CHECK(Printable("a\x1b[31m\n\t\x7f\0"s) == "a\\x1b[31m\\x0a\\x09\\x7f\\x00");
  CHECK(Printable("\xC2\x9B") == "\\xc2\\x9b");           // C1: CSI
  CHECK(Printable("\xE2\x80\xAE") == "\\xe2\\x80\\xae");  // right-to-left override
  CHECK(Printable("\xE2\x81\xA6") == "\\xe2\\x81\\xa6");  // left-to-right isolate
  CHECK(Printable("\xD8\x9C") == "\\xd8\\x9c");           // Arabic letter mark
  CHECK(Printable("\xE2\x80\xA8") == "\\xe2\\x80\\xa8");  // line separator
  CHECK(Printable("\xFF\xC3") == "\\xff\\xc3");
  CHECK(Printable("\xED\xA0\x80") == "\\xed\\xa0\\x80");  // surrogate
}

TEST_CASE("Printable escapes what shows nothing, and what is no character") {
  for (const std::string invisible :
       {"\xC2\xAD", "\xCD\x8F", "\xE1\x85\x9F", "\xE1\xA0\x8E", "\xE2\x80\x8B", "\xE2\x80\x8D", "\xE2\x81\xA0",
        "\xE2\x81\xAF", "\xE3\x85\xA4", "\xEF\xB8\x8F", "\xEF\xBB\xBF", "\xEF\xBE\xA0", "\xEF\xBF\xBE", "\xEF\xB7\x90",
        "\xF3\xA0\x81\x81", "\xF0\x9F\xBF\xBF"}) {
    const std::string shown = Printable("a" + invisible + "b");
    CHECK(shown.size() == 2 + 4 * invisible.size());
    CHECK(shown.starts_with("a\\x"));
  }
  // Their neighbours are as they are.
  for (const std::string visible :
       {"\xC2\xAC", "\xC2\xAE", "\xE2\x80\x90", "\xE2\x81\xB0", "\xEF\xBF\xBD", "\xE3\x85\xA5"}) {
    CHECK(Printable(visible) == visible);
  }
}

TEST_CASE("no two texts look alike") {
  CHECK(Printable("\x1b") == "\\x1b");
  CHECK(Printable("\\x1b") == "\\x5cx1b");
  CHECK(Printable("\\x1B") == "\\x5cx1B");
  CHECK(Printable("\\x5cx1b") == "\\x5cx5cx1b");
  CHECK(Printable("\\\x1b") == "\\\\x1b");
  // A backslash that begins no escape is as it is: paths of Windows, regular expressions.
  for (const std::string text :
       {"\\", "\\\\", "C:\\Users\\x", "layers\\.0\\.", "\\x", "\\x1", "\\xg1", "\\X1b", "\\n"}) {
    CHECK(Printable(text) == text);
  }
}

TEST_CASE("what was escaped once is not escaped again, and lies about it do no harm") {
  for (const std::string& text : {"a\x1b\n"s, "\\x1b"s, "\xFF\xE2\x80\x8B"s, "plain"s}) {
    const std::string shown = Printable(text);
    CHECK(Printable(Shown{shown}) == shown);
  }
  CHECK(Printable(Shown{"\\x1b \x1b"}) == "\\x1b \\x1b");
  CHECK(Printable(Shown{"abcdefg"}, 6) == "abcdef...");
}

TEST_CASE("Printable never exceeds its limit by more than the dots") {
  CHECK(Printable("abcdef", 6) == "abcdef");
  CHECK(Printable("abcdefg", 6) == "abcdef...");
  CHECK(Printable("abc\x01", 6) == "abc...");
  CHECK(Printable("abcde\xC3\xBC", 6) == "abcde...");
  CHECK(Printable(std::string(1 << 20, 'x')).size() == 163);
}

TEST_CASE("IsUtf8 accepts exactly the well-formed sequences") {
  for (const std::string good : {"", "a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                                 "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    CHECK(IsUtf8(good));
  }
  for (const std::string bad :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x9F\xBF", "\xE0\xA0", "\xED\xA0\x80",
        "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF0\x90\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFE", "\xFF"}) {
    INFO(Printable(bad));
    CHECK_FALSE(IsUtf8(bad));
    CHECK_FALSE(IsUtf8("ok" + bad));
  }
  // What lies behind the text is none of it, even if it would complete the sequence.
  for (const std::string_view whole : {"\xC2\x80", "\xE0\xA0\x80", "\xF0\x90\x80\x80"}) {
    for (std::size_t bytes = 1; bytes < whole.size(); ++bytes) {
      CHECK_FALSE(IsUtf8(whole.substr(0, bytes)));
      CHECK(Printable(whole.substr(0, bytes)).size() == 4 * bytes);  // \xNN each
    }
  }
}

TEST_CASE("HumanBytes gives three digits") {
  CHECK(HumanBytes(0) == "0 B");
  CHECK(HumanBytes(999) == "999 B");
  CHECK(HumanBytes(1000) == "1.00 kB");
  CHECK(HumanBytes(12'345) == "12.3 kB");
  CHECK(HumanBytes(999'499) == "999 kB");
  CHECK(HumanBytes(999'500) == "1.00 MB");
  CHECK(HumanBytes(13'476'831'232) == "13.5 GB");
  CHECK(HumanBytes(~0ull) == "18.4 EB");
}

}  // namespace
}  // namespace q4
