// Heads of model cards, which go into other cards as YAML and Markdown: what is taken over needs no quotes there, and a
// card made of it has the same head.
#include <algorithm>

#include "libconvert/card/card_head.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

void CheckPlain(std::string_view value, std::string_view also) {
  Q4_FUZZ_CHECK(value.size() <= 300);
  for (const char c : value) {
    Q4_FUZZ_CHECK((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                  also.find(c) != std::string_view::npos);
  }
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(card_head) {
  using namespace q4;
  const CardHead head = ParseCardHead(fuzz::TextOf(data, size));
  Q4_FUZZ_CHECK(head.licenses.size() <= 8);
  std::string card = "---\nlicense:\n";
  for (const std::string& license : head.licenses) {
    Q4_FUZZ_CHECK(!license.empty());
    fuzz::CheckPlain(license, "._+-");
    card += "- " + license + "\n";
  }
  fuzz::CheckPlain(head.license_name, "._+-");
  fuzz::CheckPlain(head.pipeline_tag, "._+-");
  fuzz::CheckPlain(head.license_link, "._+-/:%?=&~#");
  card += "license_name: " + head.license_name + "\nlicense_link: " + head.license_link +
          "\npipeline_tag: " + head.pipeline_tag + "\n---\n";
  const CardHead again = ParseCardHead(card);
  Q4_FUZZ_CHECK(again.licenses == head.licenses && again.license_name == head.license_name &&
                again.license_link == head.license_link && again.pipeline_tag == head.pipeline_tag);
  return 0;
}
