#include "libconvert/model/provenance_view.h"

#include <set>
#include <utility>

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

std::string JoinedProvenance(std::span<const std::string_view> documents) {
  if (documents.size() == 1) return std::string(documents.front());
  Json joined;
  Json files = Json::array();
  std::set<std::string> seen;  // a file serves two shards when the border between them lies in it
  for (const std::string_view text : documents) {
    absl::StatusOr<Json> document = ParseJson(text, {}, limits::kConfigJsonDepth);
    if (!document.ok() || !document->is_object()) return std::string(text);
    const Json& listed = MemberOrNull(MemberOrNull(*document, "source"), "files");
    if (listed.is_array()) {
      for (const Json& file : listed) {
        if (seen.insert(file.dump()).second) files.push_back(file);
      }
    }
    if (joined.is_null()) joined = *std::move(document);
  }
  Json& source = joined["source"];
  if (!source.is_object()) source = Json::object();
  source["files"] = std::move(files);
  return joined.dump();
}

std::string ModelProvenance(const Q4Model& model) {
  std::vector<std::string_view> documents;
  for (const auto& shard : model.shards()) documents.push_back(shard->index().provenance);
  return JoinedProvenance(documents);
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
