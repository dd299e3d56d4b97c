// The form is checked first (provenance_form.h), so that here each member is there and of its type.
#include "libconvert/model/provenance_view.h"

#include <algorithm>
#include <set>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/q4/encoders.h"
#include "formats/q4/q4_issues.h"
#include "libconvert/model/provenance_form.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

SourceFileRecord RecordOf(const Json& file) {
  SourceFileRecord record;
  record.name = file["name"].get<std::string>();
  record.size = file["size"];
  record.digest_kind = file.contains("sha256") ? "sha256" : "xxh3";
  record.digest = file[record.digest_kind].get<std::string>();
  return record;
}

// Each value as the command line takes it.
absl::StatusOr<RecordedOptions> OptionsOf(const Json& json, std::string_view path) {
  const auto wrong = [&](const char* key, std::string_view expected) {
    return Fail(kQ4ProvenanceForm, path, fmt::format("provenance, options.{}", key),
                GotExpected(Printable(json[key].dump()), expected));
  };
  RecordedOptions options;
  const Scheme* const scheme = FindScheme(json["type"].get_ref<const std::string&>());
  if (scheme == nullptr) return wrong("type", QuotedChoice(SchemeNames()));
  const std::uint64_t block_size = json["block_size"];
  if (!IsBlockSize(block_size)) return wrong("block_size", "a power of two from 32 to 4096");
  const std::span<const Q4EncoderRow> rows = Q4EncoderRows();  // `none` too: of weights that were taken over
  const auto encoder = std::find_if(rows.begin(), rows.end(), [&](const Q4EncoderRow& row) {
    return row.name == json["encoder"].get_ref<const std::string&>();
  });
  if (encoder == rows.end()) return wrong("encoder", "an encoder of format.md section 5");
  options.defaults =
      QuantSettings({scheme->id, static_cast<std::uint32_t>(block_size), json["double_quant"]}, encoder->encoder);
  if (json.contains("effort")) {
    const std::uint64_t effort = json["effort"];
    if (effort < kLeastEffort || effort > kMostEffort) return wrong("effort", "1 to 3");
    options.effort = static_cast<int>(effort);
  }
  if (const std::string keep = json["keep_dtype"]; keep != "same") {
    DType dtype;
    if (!ParseDTypeName(keep, &dtype) || !IsQuantizable(dtype)) return wrong("keep_dtype", "same, F16, BF16 or F32");
    options.keep_dtype = dtype;
  }
  const std::string nonfinite = json["on_nonfinite"];
  if (nonfinite != "error" && nonfinite != "keep") return wrong("on_nonfinite", "error or keep");
  options.keep_nonfinite = nonfinite == "keep";
  const std::string compress = json["compress"];
  options.compressed = compress.starts_with("zstd:");
  const std::string level = options.compressed ? compress.substr(5) : "1";
  const bool is_level = !level.empty() && level.size() <= 2 &&
                        level.find_first_not_of("0123456789") == std::string::npos && level.front() != '0' &&
                        std::stoi(level) <= 22;
  if ((!options.compressed && compress != "none") || !is_level) return wrong("compress", "none or zstd:1 to zstd:22");
  for (const Json& pattern : json["patterns"]) {
    const bool include = pattern.contains("include");
    options.patterns.push_back({include, pattern[include ? "include" : "exclude"]});
  }
  if (json["recipe"].is_string()) options.recipe = json["recipe"].get<std::string>();
  options.shard_bytes = json["shard_size"];
  options.shard_by_source = json.contains("shard_by");
  if (options.shard_by_source && json["shard_by"] != "source") return wrong("shard_by", "source");
  return options;
}

// What is equal in all shards: the document without its source files.
std::string SharedPart(Json document) {
  document["source"].erase("files");
  return document.dump();
}

}  // namespace

absl::StatusOr<ProvenanceView> ParseProvenance(std::string_view text, std::string_view path) {
  Q4_ASSIGN_OR_RETURN(Json document, ParseProvenanceForm(text, path));
  ProvenanceView view;
  view.tool_name = document["tool"]["name"].get<std::string>();
  view.tool_version = document["tool"]["version"].get<std::string>();
  view.numerics = document["numerics"].get<std::string>();
  view.source_format = document["source"]["format"].get<std::string>();
  if (!document["options"].empty()) {
    Q4_ASSIGN_OR_RETURN(view.options, OptionsOf(document["options"], path));
  }
  for (const Json& file : document["source"]["files"]) view.sources.push_back(RecordOf(file));
  if (document.contains("adapter")) {
    for (const Json& file : document["adapter"]["files"]) view.adapter.push_back(RecordOf(file));
  }
  if (document.contains("calibration")) {
    for (const Json& file : document["calibration"]["files"]) view.calibration.push_back(RecordOf(file));
  }
  if (document.contains("left_out")) {
    for (const Json& file : document["left_out"]) {
      view.left_out.push_back({file["name"], file["reason"], file["warning"], /*recorded=*/true});
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
    absl::StatusOr<Json> document = ParseProvenanceForm(text, {});
    if (!document.ok()) return std::string(text);
    for (const Json& file : (*document)["source"]["files"]) {
      // Compared as a whole: two records of one name that say different things both stay, and the joined document
      // breaks the form.
      if (seen.insert(file.dump()).second) files.push_back(file);
    }
    // The options are those of one conversion, so that the first shard speaks for all.
    if (joined.is_null()) joined = *std::move(document);
  }
  joined["source"]["files"] = std::move(files);
  return joined.dump();
}

std::string ModelProvenance(const Q4Model& model) {
  std::vector<std::string_view> documents;
  for (const auto& shard : model.shards()) documents.push_back(shard->index().provenance);
  return JoinedProvenance(documents);
}

absl::StatusOr<ProvenanceView> ReadProvenance(const Q4Model& model) {
  std::string shared;
  for (const auto& shard : model.shards()) {
    Q4_ASSIGN_OR_RETURN(ProvenanceView view, ParseProvenance(shard->index().provenance, shard->path()));
    std::string part = SharedPart(std::move(view.document));
    if (shared.empty()) shared = part;
    if (part != shared) {
      return Fail(kQ4ProvenanceShards, shard->path(), "provenance", "other members than in the first shard");
    }
  }
  return ParseProvenance(ModelProvenance(model), model.path());
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
