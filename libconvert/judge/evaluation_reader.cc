// Strict, as gates are: the document is q4's own and says its version, so that whatever is not as the schema has it was
// made or changed by something else. Each object is checked against a table of its keys before anything is taken.
#include "libconvert/judge/evaluation_reader.h"

#include <cmath>
#include <limits>
#include <set>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/q4/shards.h"
#include "libconvert/judge/evaluation_issues.h"
#include "libconvert/model/content_identity.h"

namespace q4 {
namespace {

// A layer takes some 150 bytes, a model with ten thousand layers 1.5 MB.
constexpr std::uint64_t kEvaluationBytes = std::uint64_t{64} << 20;
constexpr int kEvaluationJsonDepth = 5;  // document, "models", model, "layers", layer
constexpr std::uint64_t kEvaluationVersionRead = 1;

std::optional<Sha256> DigestOf(const Json& value) {
  if (!value.is_string()) return std::nullopt;
  return ParseQ4Root("sha256:" + value.get_ref<const std::string&>());
}

// What a value must be.
enum class Kind { kText, kTextOrNull, kCount, kCountOrNull, kDigest, kDigestOrNull, kObject, kList };

std::string_view KindText(Kind kind) {
  constexpr std::string_view kTexts[] = {
      "a string",      "a string or null",      "a whole number", "a whole number or null",
      "64 hex digits", "64 hex digits or null", "an object",      "a list"};
  return kTexts[static_cast<std::size_t>(kind)];
}

bool Is(Kind kind, const Json& value) {
  switch (kind) {
    case Kind::kText:
      return value.is_string();
    case Kind::kTextOrNull:
      return value.is_null() || value.is_string();
    case Kind::kCount:
      return value.is_number_unsigned();
    case Kind::kCountOrNull:
      return value.is_null() || value.is_number_unsigned();
    case Kind::kDigest:
      return DigestOf(value).has_value();
    case Kind::kDigestOrNull:
      return value.is_null() || DigestOf(value).has_value();
    case Kind::kObject:
      return value.is_object();
    case Kind::kList:
      break;
  }
  return value.is_array();
}

struct Key {
  std::string_view name;
  Kind kind;
};
constexpr Key kDocumentKeys[] = {
    {"document", Kind::kText},   {"version", Kind::kCount}, {"tool_version", Kind::kText}, {"task", Kind::kText},
    {"settings", Kind::kObject}, {"inputs", Kind::kObject}, {"original", Kind::kObject},   {"models", Kind::kList}};
constexpr Key kSettingsKeys[] = {{"max_length", Kind::kCountOrNull},
                                 {"max_tokens", Kind::kCountOrNull},
                                 {"batch_size", Kind::kCountOrNull},
                                 {"layer_rows", Kind::kCount},
                                 {"bootstrap", Kind::kCount},
                                 {"seed", Kind::kCount},
                                 {"dtype", Kind::kText}};
constexpr Key kInputsKeys[] = {{"kind", Kind::kText},    {"sha256", Kind::kDigest},   {"sequences", Kind::kCount},
                               {"tokens", Kind::kCount}, {"truncated", Kind::kCount}, {"compared", Kind::kCount}};
constexpr Key kOriginalKeys[] = {{"name", Kind::kText},
                                 {"kind", Kind::kText},
                                 {"path", Kind::kTextOrNull},
                                 {"root_sha256", Kind::kDigestOrNull},
                                 {"content_sha256", Kind::kDigestOrNull},
                                 {"sha256", Kind::kDigestOrNull},
                                 {"files", Kind::kList}};
constexpr Key kModelKeys[] = {{"name", Kind::kText},
                              {"kind", Kind::kText},
                              {"path", Kind::kTextOrNull},
                              {"root_sha256", Kind::kDigestOrNull},
                              {"content_sha256", Kind::kDigestOrNull},
                              {"sha256", Kind::kDigestOrNull},
                              {"files", Kind::kList},
                              {"numbers", Kind::kObject},
                              {"layers", Kind::kList}};
constexpr Key kFileKeys[] = {{"name", Kind::kText}, {"sha256", Kind::kDigest}};

absl::Status Wrong(const std::string& file, std::string_view where, std::string_view got, std::string_view expected) {
  return Fail(kEvaluationShape, file, where, GotExpected(got, expected));
}

std::string Shorter(const Json& value) {
  constexpr std::size_t kShown = 80;
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  const std::string text = value.dump(-1, ' ', true);
  return text.size() <= kShown ? text : text.substr(0, kShown) + "...";
}

// All of the keys, each as it must be, and no other.
template <std::size_t count>
absl::Status CheckKeys(const Json& value, const Key (&keys)[count], const std::string& file, const std::string& where) {
  if (!value.is_object()) return Wrong(file, where, Shorter(value), "an object");
  const auto place = [&](std::string_view key) {
    return where.empty() ? std::string(key) : fmt::format("{}.{}", where, key);
  };
  for (const Key& key : keys) {
    const Json* member = FindMember(value, key.name);
    if (member == nullptr) return Wrong(file, place(key.name), "nothing", KindText(key.kind));
    if (!Is(key.kind, *member)) return Wrong(file, place(key.name), Shorter(*member), KindText(key.kind));
  }
  if (value.size() == count) return absl::OkStatus();
  for (const auto& [name, member] : value.items()) {
    bool known = false;
    for (const Key& key : keys) known = known || key.name == name;
    if (!known) return Wrong(file, place(name), Shorter(member), "no such key");
  }
  return absl::OkStatus();
}

std::string TextOf(const Json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }

// A number of at least `least` and at most `most`, or NaN for null.
absl::StatusOr<double> NumberOf(const Json& value, double least, double most, const std::string& file,
                                const std::string& where) {
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  const double number = value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
  if (std::isfinite(number) && number >= least && number <= most) return number;
  return Wrong(file, where, Shorter(value),
               std::isinf(most) ? fmt::format("null, or a number of at least {}", least)
                                : fmt::format("null, or a number from {} to {}", least, most));
}

absl::StatusOr<std::vector<EvaluatedFile>> FilesOf(const Json& list, const std::string& file,
                                                   const std::string& where) {
  std::vector<EvaluatedFile> files;
  for (const Json& item : list) {
    Q4_RETURN_IF_ERROR(CheckKeys(item, kFileKeys, file, fmt::format("{}[{}]", where, files.size())));
    files.push_back({TextOf(item["name"]), *DigestOf(item["sha256"])});
  }
  return files;
}

absl::Status ReadNumbers(const Json& numbers, const std::string& file, const std::string& where,
                         Evaluation* evaluation) {
  for (const auto& [name, value] : numbers.items()) {
    const EvaluationNumber* known = FindEvaluationNumber(name);
    if (known == nullptr) return Wrong(file, where + ".numbers", name, "a number that docs/evaluate.md defines");
    Q4_ASSIGN_OR_RETURN(const double number,
                        NumberOf(value, known->least, known->most, file, fmt::format("{}.numbers.{}", where, name)));
    evaluation->numbers.emplace_back(known, number);
  }
  if (evaluation->numbers.empty()) return Wrong(file, where + ".numbers", "none", "one at least");
  return absl::OkStatus();
}

// Three keys of a row that comes ten thousand times: looked at without the tables.
absl::Status ReadLayers(const Json& layers, const std::string& file, const std::string& where, Evaluation* evaluation) {
  for (const Json& item : layers) {
    const std::string place = fmt::format("{}.layers[{}]", where, evaluation->layers.size());
    const Json *name = FindMember(item, "name"), *rows = FindMember(item, "rows"),
               *error = FindMember(item, "relative_error");
    if (name == nullptr || rows == nullptr || error == nullptr || item.size() != 3 || !name->is_string() ||
        !rows->is_number_unsigned()) {
      return Wrong(file, place, Shorter(item), "an object of name, rows and relative_error");
    }
    EvaluatedLayer& layer = evaluation->layers.emplace_back();
    layer.name = name->get<std::string>();
    layer.rows = rows->get<std::uint64_t>();
    Q4_ASSIGN_OR_RETURN(layer.error, NumberOf(*error, 0, std::numeric_limits<double>::infinity(), file, place));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EvaluationDocument> ParseEvaluation(std::string_view json, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const Json document, ParseJson(json, path, kEvaluationJsonDepth, limits::kReportValueBytes));
  const Json* kind = FindMember(document, "document");
  if (kind == nullptr || *kind != Json("q4-evaluation")) {
    return Wrong(path, "document", kind == nullptr ? "nothing" : Shorter(*kind), "\"q4-evaluation\"");
  }
  // Before the keys: another version has others.
  if (const Json* version = FindMember(document, "version");
      version != nullptr && version->is_number() && *version != Json(kEvaluationVersionRead)) {
    return Fail(kEvaluationVersion, path, "version", GotExpected(Shorter(*version), "1"));
  }
  Q4_RETURN_IF_ERROR(CheckKeys(document, kDocumentKeys, path, ""));
  const Json &inputs = document["inputs"], &original = document["original"];
  Q4_RETURN_IF_ERROR(CheckKeys(document["settings"], kSettingsKeys, path, "settings"));
  Q4_RETURN_IF_ERROR(CheckKeys(inputs, kInputsKeys, path, "inputs"));
  Q4_RETURN_IF_ERROR(CheckKeys(original, kOriginalKeys, path, "original"));
  Evaluation common;
  common.path = path;
  common.task = TextOf(document["task"]);
  common.original = TextOf(original["path"]);
  common.inputs_kind = TextOf(inputs["kind"]);
  common.inputs_sha256 = TextOf(inputs["sha256"]);
  common.sequences = inputs["sequences"].get<std::uint64_t>();
  common.tokens = inputs["tokens"].get<std::uint64_t>();
  common.compared = inputs["compared"].get<std::uint64_t>();
  common.truncated = inputs["truncated"].get<std::uint64_t>();
  Q4_ASSIGN_OR_RETURN(common.original_files, FilesOf(original["files"], path, "original.files"));
  EvaluationDocument found{path, {}};
  for (const Json& model : document["models"]) {
    const std::string where = fmt::format("models[{}]", found.models.size());
    Q4_RETURN_IF_ERROR(CheckKeys(model, kModelKeys, path, where));
    Q4_RETURN_IF_ERROR(FilesOf(model["files"], path, where + ".files").status());
    Evaluation evaluation = common;
    evaluation.name = TextOf(model["name"]);
    evaluation.root = DigestOf(model["root_sha256"]);
    evaluation.content = DigestOf(model["content_sha256"]);
    Q4_RETURN_IF_ERROR(ReadNumbers(model["numbers"], path, where, &evaluation));
    Q4_RETURN_IF_ERROR(ReadLayers(model["layers"], path, where, &evaluation));
    found.models.push_back(std::move(evaluation));
  }
  if (found.models.empty()) return Wrong(path, "models", "none", "one at least");
  return found;
}

absl::StatusOr<EvaluationDocument> LoadEvaluation(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const std::string json, ReadWholeFile(fs, path, kEvaluationBytes));
  return ParseEvaluation(json, path);
}

absl::StatusOr<Evaluation> EvaluationOf(const EvaluationDocument& document, const Q4Model& model, unsigned threads,
                                        CancelFlag* cancel) {
  bool any_content = false;
  std::string roots;
  for (const Evaluation& evaluation : document.models) {
    if (evaluation.root == model.root()) return evaluation;
    any_content = any_content || evaluation.content.has_value();
    if (evaluation.root) roots += (roots.empty() ? "sha256:" : ", sha256:") + HexOf(*evaluation.root);
  }
  const bool is_whole = model.shards().size() == model.shards().front()->index().shard_count;
  // Packed anew, with other shards or compressed: the same weights, so that the numbers hold.
  if (any_content && is_whole) {
    Q4_ASSIGN_OR_RETURN(const Sha256 content, ContentIdentity(model, threads, cancel));
    for (const Evaluation& evaluation : document.models) {
      if (evaluation.content == content) return evaluation;
    }
  }
  std::string_view way = "; q4.evaluate() of this file makes one that belongs to it";
  if (!is_whole) way = "; this is one shard of several: give NAME.q4.index.json, which was evaluated";
  if (roots.empty())
    way = "; it is of no container: give q4.evaluate() the path of this file, not a model or a directory";
  return Fail(kEvaluationOther, document.path, model.path(),
              GotExpected(roots.empty() ? "no root" : roots, "sha256:" + HexOf(model.root())) + std::string(way));
}

}  // namespace q4
