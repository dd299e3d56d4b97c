// The list is read strictly (ParseJson, then every member by its type) and written canonically. What it says about
// files is only claimed here; model.cc opens the shards and compares. In the JSON shards are called parts.
#include "formats/q4/shards.h"

#include <algorithm>
#include <charconv>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/q4/q4_issues.h"

namespace q4 {
namespace {

// Value of `format`. Another version would be q4-shards-2, which IsQ4ShardListHead() recognizes and ParseQ4ShardList()
// refuses.
constexpr std::string_view kFormatName = "q4-shards-1";
constexpr std::string_view kExtension = ".q4";

// Takes white space and then `token` from the front of `text`; false if something else is there. The head of a file may
// break off anywhere, so it cannot be parsed as JSON.
bool Take(std::string_view token, std::string_view* text) {
  text->remove_prefix(std::min(text->find_first_not_of(" \t\r\n"), text->size()));
  if (!text->starts_with(token)) return false;
  text->remove_prefix(token.size());
  return true;
}

absl::Status Bad(std::string_view path, std::string_view where, std::string_view detail) {
  return Fail(kQ4ShardList, path, where, detail);
}

// A member of `object` that holds under `is`, such as &Json::is_string, or nullptr. Json's own access throws where a
// type differs.
const Json* Member(const Json& object, const char* key, bool (Json::*is)() const noexcept) {
  const auto at = object.find(key);
  return at != object.end() && ((*at).*is)() ? &*at : nullptr;
}

// 64 lower-case hex digits, checked first: from_chars would take fewer and upper case.
bool ParseSha256(const std::string& hex, Sha256* out) {
  if (hex.size() != 2 * out->size()) return false;
  for (const char c : hex) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
  }
  for (std::size_t i = 0; i < out->size(); ++i) {
    std::from_chars(hex.data() + 2 * i, hex.data() + 2 * i + 2, (*out)[i], 16);
  }
  return true;
}

// A name that stays in the folder of the list, on every system: no separator, no drive, no hidden file, no control
// character. 255 is what file systems allow.
bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name.front() != '.' &&
         std::none_of(name.begin(), name.end(), [](char c) {
           return c == '/' || c == '\\' || c == ':' || static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
         });
}

// `parts` of the document. Exactly three members each: what is unknown would go unchecked.
absl::Status ParseShards(const Json& shards, std::string_view path, std::vector<Q4ShardEntry>* out) {
  if (shards.empty() || shards.size() > limits::kShards)
    return Bad(path, "parts", fmt::format("{} of them", shards.size()));
  for (const Json& shard : shards) {
    const std::string where = fmt::format("parts[{}]", out->size());
    if (!shard.is_object() || shard.size() != 3) return Bad(path, where, "not an object of bytes, name and root");
    const Json* bytes = Member(shard, "bytes", &Json::is_number_unsigned);
    const Json* name = Member(shard, "name", &Json::is_string);
    const Json* root = Member(shard, "root", &Json::is_string);
    if (bytes == nullptr || name == nullptr || root == nullptr)
      return Bad(path, where, "not an object of bytes, name and root");
    Q4ShardEntry entry;
    entry.bytes = bytes->get<std::uint64_t>();
    entry.name = name->get<std::string>();
    // Before the name is joined to a folder by anybody.
    if (!IsPlainFileName(entry.name)) return Bad(path, where, "name is not a plain file name");
    if (!ParseSha256(root->get_ref<const std::string&>(), &entry.root))
      return Bad(path, where, "root is not 64 hex digits");
    out->push_back(std::move(entry));
  }
  return absl::OkStatus();
}

// `tensors` of the document. Sorted afterwards, because the text may have any order.
absl::Status ParseTensors(const Json& tensors, std::size_t shard_count, std::string_view path, Q4ShardList* list) {
  if (tensors.size() > limits::kTensorsPerCheckpoint)
    return Bad(path, "tensors", fmt::format("{} of them", tensors.size()));
  list->tensors.reserve(tensors.size());
  for (const auto& [name, shard] : tensors.items()) {
    if (!shard.is_number_unsigned() || shard.get<std::uint64_t>() >= shard_count) {
      return Bad(path, "tensor '" + name + "'", "its shard is not one of the parts");
    }
    list->tensors.emplace_back(name, shard.get<std::uint32_t>());
  }
  std::sort(list->tensors.begin(), list->tensors.end());
  return absl::OkStatus();
}

// Adds a member at the end of an object. Json's own insertion searches all keys each time, which is quadratic in the
// number of tensors.
void AddMember(std::string key, Json value, Json* object) {
  auto& members = object->get_ref<Json::object_t&>();
  static_cast<Json::object_t::Container&>(members).emplace_back(std::move(key), std::move(value));
}

// The root that the document must state.
Sha256 ModelRootOf(const std::vector<Q4ShardEntry>& shards) {
  std::vector<Sha256> roots;
  roots.reserve(shards.size());
  for (const Q4ShardEntry& shard : shards) roots.push_back(shard.root);
  return Q4ModelRoot(roots);
}

}  // namespace

// Section 10: the first member is `format`. Only its beginning is compared, so that a later version is recognized as a
// list and refused as one.
bool IsQ4ShardListHead(std::string_view head) {
  return Take("{", &head) && Take("\"format\"", &head) && Take(":", &head) && Take("\"q4-shards-", &head);
}

// F7.4. The root of a single shard is not hashed again: one file has the same root as a model and as a container.
Sha256 Q4ModelRoot(const std::vector<Sha256>& shard_roots) {
  if (shard_roots.size() == 1) return shard_roots.front();
  Sha256Stream stream;
  for (const Sha256& root : shard_roots) stream.Update(root);
  return stream.Finish();
}

// DumpSorted() sorts members and indents by two spaces, which is the form of section 10.
std::string EncodeQ4ShardList(const Q4ShardList& list) {
  Json shards = Json::array();
  for (const Q4ShardEntry& entry : list.parts) {
    Json shard = Json::object();
    shard["bytes"] = entry.bytes;
    shard["name"] = entry.name;
    shard["root"] = HexOf(entry.root);
    shards.push_back(std::move(shard));
  }
  Json tensors = Json::object();
  for (const auto& [name, shard] : list.tensors) AddMember(name, shard, &tensors);
  Json document = Json::object();
  document["format"] = kFormatName;
  document["parts"] = std::move(shards);
  document["root"] = HexOf(ModelRootOf(list.parts));
  document["tensors"] = std::move(tensors);
  return DumpSorted(document) + "\n";
}

// From the outside in: the form of the document, its version, the shards, the tensors that refer to them, the root over
// all.
absl::StatusOr<Q4ShardList> ParseQ4ShardList(std::string_view text, std::string_view path) {
  Q4_ASSIGN_OR_RETURN(const Json document, ParseJson(text, path, limits::kIndexJsonDepth));
  if (!document.is_object() || document.size() != 4)
    return Bad(path, {}, "not an object of format, parts, root and tensors");
  // Four members and four names: no room for an unknown one.
  const Json* format = Member(document, "format", &Json::is_string);
  const Json* shards = Member(document, "parts", &Json::is_array);
  const Json* root = Member(document, "root", &Json::is_string);
  const Json* tensors = Member(document, "tensors", &Json::is_object);
  if (format == nullptr || shards == nullptr || root == nullptr || tensors == nullptr) {
    return Bad(path, {}, "not an object of format, parts, root and tensors");
  }
  if (format->get_ref<const std::string&>() != kFormatName) {
    return Bad(path, "format", GotExpected(format->get_ref<const std::string&>(), kFormatName));
  }
  Q4ShardList list;
  Q4_RETURN_IF_ERROR(ParseShards(*shards, path, &list.parts));
  Q4_RETURN_IF_ERROR(ParseTensors(*tensors, list.parts.size(), path, &list));
  Sha256 stated{};
  if (!ParseSha256(root->get_ref<const std::string&>(), &stated) || stated != ModelRootOf(list.parts)) {
    return Bad(path, "root", "it is not the SHA-256 of the roots of the parts");
  }
  return list;
}

std::optional<Sha256> ParseQ4Root(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  if (text.starts_with(kPrefix)) text.remove_prefix(kPrefix.size());
  Sha256 root{};
  if (!ParseSha256(std::string(text), &root)) return std::nullopt;
  return root;
}

// Five digits are enough: limits::kShards is 10,000.
std::string Q4ShardName(const std::string& output, std::uint32_t shard, std::uint32_t count) {
  std::string_view stem = output;
  if (stem.ends_with(kExtension)) stem.remove_suffix(kExtension.size());
  return fmt::format("{}-{:05}-of-{:05}{}", stem, shard + 1, count, kExtension);
}

// Beside the shards, under the name that the single file would have.
std::string Q4ShardIndexName(const std::string& output) {
  return output + (output.ends_with(kExtension) ? "" : std::string(kExtension)) + ".index.json";
}

}  // namespace q4
