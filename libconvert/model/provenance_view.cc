#include "libconvert/model/provenance_view.h"

#include "formats/base/limits.h"
#include "formats/base/status.h"

namespace q4 {
namespace {

std::string TextIn(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

const Json& MemberOrNull(const Json& object, const char* key) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto at = object.find(key);
  return at == object.end() ? null : *at;
}

SourceFileRecord RecordOf(const Json& file) {
  SourceFileRecord record;
  record.name = TextIn(file, "name");
  const Json& size = MemberOrNull(file, "size");
  if (size.is_number_unsigned()) record.size = size.get<std::uint64_t>();
  for (const char* kind : {"sha256", "xxh3"}) {
    const std::string digest = TextIn(file, kind);
    if (digest.empty()) continue;
    record.digest_kind = kind;
    record.digest = digest;
  }
  return record;
}

}  // namespace

absl::StatusOr<ProvenanceView> ParseProvenance(std::string_view text, std::string_view path) {
  Q4_ASSIGN_OR_RETURN(Json document, ParseJson(text, path, limits::kConfigJsonDepth));
  ProvenanceView view;
  const Json& tool = MemberOrNull(document, "tool");
  view.tool = TextIn(tool, "name") + " " + TextIn(tool, "version");
  view.numerics = TextIn(document, "numerics");
  DType keep_dtype;
  if (ParseDTypeName(TextIn(MemberOrNull(document, "options"), "keep_dtype"), &keep_dtype))
    view.keep_dtype = keep_dtype;
  const Json& files = MemberOrNull(MemberOrNull(document, "source"), "files");
  if (files.is_array()) {
    for (const Json& file : files) view.sources.push_back(RecordOf(file));
  }
  view.document = std::move(document);
  return view;
}

std::string ConversionOptions(const ProvenanceView& view) {
  std::string text;
  const auto options = view.document.find("options");
  if (options == view.document.end() || !options->is_object()) return text;
  for (const auto& [key, value] : options->items()) {
    if (value.is_null() || (value.is_array() && value.empty())) continue;
    if (!text.empty()) text += ", ";
    text += key + " " + (value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', true));
  }
  return text;
}

}  // namespace q4
