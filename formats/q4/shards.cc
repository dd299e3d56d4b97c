// The list is read strictly and as a stream (ParseStrictJson), since it names every tensor, and written canonically.
// What it says about files is only claimed here; model.cc opens the shards and compares. In the JSON shards are called
// parts.
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

// The root that the document must state.
Sha256 ModelRootOf(const std::vector<Q4ShardEntry>& shards) {
  std::vector<Sha256> roots;
  roots.reserve(shards.size());
  for (const Q4ShardEntry& shard : shards) roots.push_back(shard.root);
  return Q4ModelRoot(roots);
}

constexpr std::string_view kNotAList = "not an object of format, parts, root and tensors";
constexpr std::string_view kNotAPart = "not an object of bytes, name and root";

// Takes the document member by member. It is checked as far as it is read; what needs all of it, at the end (Take()).
class ListHandler final : public JsonHandler {
 public:
  explicit ListHandler(std::string_view path) : path_(path) {}

  absl::Status OnStart(JsonContainer container) override {
    ++depth_;
    const bool is_object = container == JsonContainer::kObject;
    if (depth_ == 1) return is_object ? absl::OkStatus() : Bad(path_, {}, kNotAList);
    if (depth_ == 2)
      return is_object == (top_ == "tensors") && (is_object || top_ == "parts") ? absl::OkStatus()
                                                                                : Bad(path_, {}, kNotAList);
    if (top_ == "tensors") return BadTensor();
    if (!is_object) return BadPart();
    if (list_.parts.size() == limits::kShards) return TooMany("parts", limits::kShards + 1);
    list_.parts.emplace_back();
    part_members_ = 0;
    return absl::OkStatus();
  }

  absl::Status OnEnd(JsonContainer /*container*/) override {
    --depth_;
    // Exactly three members each: what is unknown would go unchecked.
    if (depth_ == 2 && top_ == "parts" && part_members_ != 3) return BadPart(list_.parts.size() - 1);
    return absl::OkStatus();
  }

  absl::Status OnKey(std::string key) override {
    if (depth_ == 1) {
      // Whatever an unknown one holds is refused: a scalar, a list, an object.
      top_ = std::move(key);
      ++members_;
    } else {
      key_ = std::move(key);
    }
    return absl::OkStatus();
  }

  absl::Status OnScalar(JsonScalar scalar) override {
    if (depth_ == 1 && (top_ == "format" || top_ == "root") && scalar.kind == JsonScalar::Kind::kString) {
      if (top_ == "root") return root_ = std::move(scalar.text), absl::OkStatus();
      return scalar.text == kFormatName ? absl::OkStatus()
                                        : Bad(path_, "format", GotExpected(scalar.text, kFormatName));
    }
    if (depth_ == 2 && top_ == "tensors") return OnTensor(scalar);
    if (depth_ == 2) return BadPart();
    return depth_ == 3 ? OnPartMember(scalar) : Bad(path_, {}, kNotAList);
  }

  // The list, once all of the document was read.
  absl::StatusOr<Q4ShardList> Take() {
    if (members_ != 4) return Bad(path_, {}, kNotAList);
    if (list_.parts.empty()) return TooMany("parts", 0);
    if (tensors_ > limits::kTensorsPerCheckpoint) return TooMany("tensors", tensors_);
    // Because the text may have any order.
    std::sort(list_.tensors.begin(), list_.tensors.end());
    for (const auto& [name, shard] : list_.tensors) {
      if (shard >= list_.parts.size()) return (key_ = name, BadTensor());
    }
    Sha256 stated{};
    if (!ParseSha256(root_, &stated) || stated != ModelRootOf(list_.parts)) {
      return Bad(path_, "root", "it is not the SHA-256 of the roots of the parts");
    }
    return std::move(list_);
  }

 private:
  absl::Status TooMany(std::string_view what, std::uint64_t count) const {
    return Bad(path_, what, fmt::format("{} of them", count));
  }
  absl::Status BadTensor() const { return Bad(path_, "tensor '" + key_ + "'", "its shard is not one of the parts"); }
  absl::Status BadPart(std::size_t number) const { return Bad(path_, fmt::format("parts[{}]", number), kNotAPart); }
  absl::Status BadPart() const { return BadPart(list_.parts.size()); }

  // Beyond the limit they are only counted.
  absl::Status OnTensor(const JsonScalar& scalar) {
    if (scalar.kind != JsonScalar::Kind::kUnsigned || scalar.unsigned_value >= limits::kShards) return BadTensor();
    if (++tensors_ <= limits::kTensorsPerCheckpoint) {
      list_.tensors.emplace_back(std::move(key_), static_cast<std::uint32_t>(scalar.unsigned_value));
    }
    return absl::OkStatus();
  }

  absl::Status OnPartMember(const JsonScalar& scalar) {
    Q4ShardEntry& part = list_.parts.back();
    const std::size_t number = list_.parts.size() - 1;
    const std::string where = fmt::format("parts[{}]", number);
    ++part_members_;
    if (key_ == "bytes" && scalar.kind == JsonScalar::Kind::kUnsigned) {
      part.bytes = scalar.unsigned_value;
      return absl::OkStatus();
    }
    if (scalar.kind != JsonScalar::Kind::kString) return BadPart(number);
    if (key_ == "name") {
      part.name = scalar.text;
      // Before the name is joined to a folder by anybody.
      return IsPlainFileName(part.name) ? absl::OkStatus() : Bad(path_, where, "name is not a plain file name");
    }
    if (key_ != "root") return BadPart(number);
    return ParseSha256(scalar.text, &part.root) ? absl::OkStatus() : Bad(path_, where, "root is not 64 hex digits");
  }

  const std::string_view path_;
  int depth_ = 0;         // of what is open: the document, parts or tensors, a part
  std::string top_;       // the member of the document that is read
  std::string key_;       // the last one deeper down
  int members_ = 0;       // of the document
  int part_members_ = 0;  // of the last part
  std::uint64_t tensors_ = 0;
  std::string root_;
  Q4ShardList list_;
};

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

// Written line by line, for a document of a million tensors would take many times the text: in the form of section 10,
// which is DumpSorted()'s.
std::string EncodeQ4ShardList(const Q4ShardList& list) {
  const auto text = [](const std::string& value) { return DumpSorted(Json(value)); };
  std::string out = fmt::format("{{\n  \"format\": \"{}\",\n  \"parts\": [", kFormatName);
  const char* separator = "";
  for (const Q4ShardEntry& entry : list.parts) {
    out += fmt::format("{}\n    {{\n      \"bytes\": {},\n      \"name\": {},\n      \"root\": \"{}\"\n    }}",
                       std::exchange(separator, ","), entry.bytes, text(entry.name), HexOf(entry.root));
  }
  out += fmt::format("{}],\n  \"root\": \"{}\",\n  \"tensors\": {{", list.parts.empty() ? "" : "\n  ",
                     HexOf(ModelRootOf(list.parts)));
  std::vector<const std::pair<std::string, std::uint32_t>*> sorted;
  sorted.reserve(list.tensors.size());
  for (const auto& tensor : list.tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  separator = "";
  for (const auto* tensor : sorted) {
    out += fmt::format("{}\n    {}: {}", std::exchange(separator, ","), text(tensor->first), tensor->second);
  }
  return out + (sorted.empty() ? "}\n}\n" : "\n  }\n}\n");
}

absl::StatusOr<Q4ShardList> ParseQ4ShardList(JsonSource& source, std::string_view path) {
  ListHandler handler(path);
  Q4_RETURN_IF_ERROR(ParseStrictJson(source, path, {.max_depth = limits::kIndexJsonDepth}, handler));
  return handler.Take();
}

absl::StatusOr<Q4ShardList> ParseQ4ShardList(std::string_view text, std::string_view path) {
  JsonText source(text);
  return ParseQ4ShardList(source, path);
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
