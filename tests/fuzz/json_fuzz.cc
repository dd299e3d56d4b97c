// JSON, the layer below every JSON reader: strict, plain, and as Python reads it. What one accepts, the laxer ones
// accept with the same value; writing a strict document out and reading it again changes nothing; the pieces in which a
// text arrives do not matter; and editing a member leaves all others as they are.
#include <nlohmann/json.hpp>

#include "formats/base/json_edit.h"
#include "formats/base/json_parser.h"
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

// Returns whether `parse` accepts the text.
template <typename Parse>
bool CheckPieces(std::string_view text, const Parse& parse) {
  // Strings are shortened, which must not change what is accepted.
  const StrictJsonOptions options{.max_depth = kDepth, .keep_string_bytes = 5};
  JsonText whole(text);
  SmallPieces pieces(text);
  Counter of_whole, of_pieces;
  const absl::Status a = parse(whole, "f.json", options, of_whole);
  const absl::Status b = parse(pieces, "f.json", options, of_pieces);
  Q4_FUZZ_CHECK(a == b);
  Q4_FUZZ_CHECK(of_whole.events() == of_pieces.events());
  if (!a.ok()) CheckError(a);
  return a.ok();
}

void CheckEdits(std::string_view text, const Json& value) {
  const JsonEdit set{"b", Json{{"x", 1}}}, remove{"b", std::nullopt};
  const auto edited = EditJson(text, "f.json", {&set, 1});
  Q4_FUZZ_CHECK(edited.ok());
  const auto read = ParseModelJson(*edited, "f.json");
  // One that is as deep as can be is now too deep; it is not that deep here.
  Q4_FUZZ_CHECK(read.ok() && (*read)["b"] == *set.value);
  const auto removed = EditJson(*edited, "f.json", {&remove, 1});
  Q4_FUZZ_CHECK(removed.ok());
  Json left = value;
  left.erase("b");
  // By text, for NaN differs from itself.
  Q4_FUZZ_CHECK(DumpSorted(*ParseModelJson(*removed, "f.json")) == DumpSorted(left));
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(json) {
  using namespace q4;
  const std::string_view text = fuzz::TextOf(data, size);
  const bool strict = fuzz::CheckPieces(text, ParseStrictJson);
  const bool plain = fuzz::CheckPieces(text, ParsePlainJson);
  const bool python = fuzz::CheckPieces(text, ParsePythonJson);
  const bool long_number = text.size() > 4300;
  Q4_FUZZ_CHECK(!strict || plain);
  Q4_FUZZ_CHECK(!plain || python || long_number);
  const auto model = ParseModelJson(text, "f.json");
  if (model.ok() && model->is_object()) fuzz::CheckEdits(text, *model);
  const auto value = ParseJson(text, "f.json", fuzz::kDepth);
  if (!value.ok()) {
    fuzz::CheckError(value.status());
    return 0;
  }
  Q4_FUZZ_CHECK(nlohmann::json::accept(text));
  const std::string dumped = DumpSorted(*value);
  Q4_FUZZ_CHECK(long_number || DumpSorted(*model) == dumped);
  const auto again = ParseJson(dumped, "f.json", fuzz::kDepth);
  Q4_FUZZ_CHECK(again.ok());
  Q4_FUZZ_CHECK(DumpSorted(*again) == dumped);
  return 0;
}
