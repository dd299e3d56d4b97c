// Readers of later versions must read provenance of earlier ones and the other way round. So each member is looked up
// by itself, and one that is absent or of another type is left at its default; only a text that cannot be parsed is an
// error.
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

// Returns a reference into `object`, or to a null that lives for ever, so that lookups can be chained without checks in
// between.
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
  // A file is recorded with one digest. If a foreign writer gave two, the later one of this list is used.
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
  // The words are put together as the reports print them.
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
  const Json& left_out = MemberOrNull(document, "left_out");
  if (left_out.is_array()) {
    for (const Json& file : left_out) {
      const Json& warning = MemberOrNull(file, "warning");
      // Without a name it says nothing.
      if (std::string name = TextIn(file, "name"); !name.empty()) {
        view.left_out.push_back(
            {std::move(name), TextIn(file, "reason"), warning.is_boolean() && warning.get<bool>(), /*recorded=*/true});
      }
    }
  }
  view.document = std::move(document);
  return view;
}

std::string JoinedProvenance(std::span<const std::string_view> documents) {
  // Byte for byte as stored: reports print it so.
  if (documents.size() == 1) return std::string(documents.front());
  Json joined;
  Json files = Json::array();
  // A file serves two shards when the border between them lies in it, and is recorded in both.
  std::set<std::string> seen;
  for (const std::string_view text : documents) {
    absl::StatusOr<Json> document = ParseJson(text, {}, limits::kConfigJsonDepth);
    if (!document.ok() || !document->is_object()) return std::string(text);
    const Json& listed = MemberOrNull(MemberOrNull(*document, "source"), "files");
    if (listed.is_array()) {
      for (const Json& file : listed) {
        // Compared as a whole: two records of one name that say different things both stay, and q4verify finds one of
        // them wrong.
        if (seen.insert(file.dump()).second) files.push_back(file);
      }
    }
    // The options are those of one conversion, so that the first shard speaks for all.
    if (joined.is_null()) joined = *std::move(document);
  }
  Json& source = joined["source"];
  // A foreign writer may have put anything there.
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
    // Options that were left at "nothing" would fill the line without saying anything.
    if (value.is_null() || (value.is_array() && value.empty())) continue;
    if (!text.empty()) text += ", ";
    // ASCII only: a value of an object or a number is printed as JSON, where escapes replace other characters.
    text += key + " " + (value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', true));
  }
  return text;
}

}  // namespace q4
