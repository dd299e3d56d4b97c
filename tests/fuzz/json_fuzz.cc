// Strict JSON, the layer below every JSON reader. What it accepts, another parser accepts too; writing it out and
// reading it again changes nothing; and the pieces in which a text arrives do not matter.
#include "formats/base/json_value.h"
#include "formats/base/strict_json.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

constexpr int kDepth = 64;

// Text that comes a few bytes at a time.
class SmallPieces final : public JsonSource {
 public:
  explicit SmallPieces(std::string_view text) : text_(text) {}
  absl::StatusOr<std::string_view> Next() override {
    const std::string_view piece = text_.substr(0, 3);
    text_.remove_prefix(piece.size());
    return piece;
  }

 private:
  std::string_view text_;
};

class Counter final : public JsonHandler {
 public:
  absl::Status OnScalar(JsonScalar) override { return Count(); }
  absl::Status OnStart(JsonContainer) override { return Count(); }
  absl::Status OnKey(std::string) override { return Count(); }
  absl::Status OnEnd(JsonContainer) override { return Count(); }
  std::size_t events() const { return events_; }

 private:
  absl::Status Count() {
    ++events_;
    return absl::OkStatus();
  }
  std::size_t events_ = 0;
};

void CheckPieces(std::string_view text) {
  const StrictJsonOptions options{.max_depth = kDepth};
  JsonText whole(text);
  SmallPieces pieces(text);
  Counter of_whole, of_pieces;
  const absl::Status a = ParseStrictJson(whole, "f.json", options, of_whole);
  const absl::Status b = ParseStrictJson(pieces, "f.json", options, of_pieces);
  Q4_FUZZ_CHECK(a == b);
  Q4_FUZZ_CHECK(of_whole.events() == of_pieces.events());
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(json) {
  using namespace q4;
  const std::string_view text = fuzz::TextOf(data, size);
  fuzz::CheckPieces(text);
  const auto value = ParseJson(text, "f.json", fuzz::kDepth);
  if (!value.ok()) {
    fuzz::CheckError(value.status());
    return 0;
  }
  Q4_FUZZ_CHECK(Json::accept(text));
  const std::string dumped = DumpSorted(*value);
  const auto again = ParseJson(dumped, "f.json", fuzz::kDepth);
  Q4_FUZZ_CHECK(again.ok());
  Q4_FUZZ_CHECK(DumpSorted(*again) == dumped);
  return 0;
}
