// One function makes the record and one reads it, so that what the one leaves out is what the other fills in.
#include "libconvert/model/bnb_record.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/bnb/layout.h"
#include "formats/bnb/quant_state.h"
#include "formats/bnb/taken_over.h"
#include "formats/q4/q4_issues.h"
#include "formats/source/modules.h"
#include "libconvert/model/model_issues.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

// What a record may say of weights one by one, so that every reader has room for it. Some 20,000 weights.
constexpr std::uint64_t kRecordBytes = 8u << 20;
constexpr std::uint64_t kWeightBytes = 128;  // of one, beside name and text
// Most runs of tensors that are recorded; an export makes files of its own where there were more. Tensors of a model
// come in hundreds of runs, by the thousand if it has experts.
constexpr std::size_t kMostRuns = 65536;

std::vector<std::uint8_t> BytesOf(std::span<const float> values) {
  std::vector<std::uint8_t> bytes(values.size_bytes());
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<float> FloatsOf(std::span<const std::uint8_t> bytes) {
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  return floats;
}

std::span<const float> CodeValues(Q4Scheme scheme) { return SchemeOf(QuantFormat{.scheme = scheme}).code_values(); }

bool IsTableOf(std::span<const std::uint8_t> bytes, Q4Scheme scheme) {
  return IsSameBnbTable(FloatsOf(bytes), CodeValues(scheme));
}

std::vector<std::uint8_t> FromHex(std::string_view hex) {
  const auto digit = [](char c) { return static_cast<std::uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10); };
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(digit(hex[i]) << 4 | digit(hex[i + 1])));
  }
  return bytes;
}

// As an export would describe the tensor by itself.
std::string UsualText(const SourceTensor& source) {
  Q4Tensor tensor;
  static_cast<QuantFormat&>(tensor) = *source.bnb;
  tensor.dtype = source.dtype;
  tensor.shape = source.shape;
  tensor.nested_offset = source.bnb->nested_offset;
  return BnbQuantStateJson(tensor);
}

// Why the text does not describe the tensor, or "".
std::string TextProblem(const std::string& text, const Q4Tensor& tensor) {
  std::string problem;
  const std::optional<BnbQuantState> state = ParseBnbQuantState(text, &problem);
  if (!state) return problem;
  const bool same = static_cast<const QuantFormat&>(*state) == static_cast<const QuantFormat&>(tensor) &&
                    state->dtype == tensor.dtype && state->shape == tensor.shape &&
                    std::bit_cast<std::uint32_t>(static_cast<float>(state->nested_offset)) ==
                        std::bit_cast<std::uint32_t>(tensor.nested_offset);
  return same ? "" : "it describes another tensor";
}

// What the codes of the first weight by name pose as, and mostly of all.
DType UsualStorage(const std::vector<SourceTensor>& tensors) {
  const SourceTensor* first = nullptr;
  for (const SourceTensor& tensor : tensors) {
    if (tensor.bnb != nullptr && (first == nullptr || tensor.name < first->name)) first = &tensor;
  }
  return first == nullptr ? DType::kU8 : first->bnb->parts.front().dtype;
}

// The files of the tensors that a weight, or a kept tensor, is stored as, in the order of the layout.
std::vector<std::uint32_t> FilesOf(const SourceTensor& tensor) {
  std::vector<std::uint32_t> files;
  for (const SourceExtent& extent : tensor.extents) files.push_back(extent.file);
  if (tensor.bnb == nullptr) return {files.front()};
  // BnbWeight::tensors() has the text second, and the layout has it last.
  std::rotate(files.begin() + 1, files.begin() + 2, files.end());
  return files;
}

// The member `files`; null where there is one file, or nothing to go by.
Json RunsJson(const Checkpoint& checkpoint) {
  std::vector<const SourceTensor*> by_name;
  for (const SourceTensor& tensor : checkpoint.tensors()) by_name.push_back(&tensor);
  std::sort(by_name.begin(), by_name.end(),
            [](const SourceTensor* a, const SourceTensor* b) { return a->name < b->name; });
  // Files are numbered as they come, those without a tensor left out.
  std::vector<BnbRecord::Run> runs;
  std::set<std::uint32_t> used;
  for (const SourceTensor* const tensor : by_name) {
    for (const std::uint32_t file : FilesOf(*tensor)) {
      used.insert(file);
      if (runs.empty() || runs.back().file != file) runs.push_back({file, 0});
      ++runs.back().tensors;
    }
  }
  if (used.size() < 2 || runs.size() > kMostRuns) return {};
  Json json = Json::array();
  for (const BnbRecord::Run& run : runs) {
    const auto number = static_cast<std::uint64_t>(std::distance(used.begin(), used.find(run.file)));
    json.push_back(Json{{"file", number}, {"tensors", run.tensors}});
  }
  return json;
}

// The member `index`; null where an export counts the same, or nothing can be said in numbers.
Json IndexJson(const Checkpoint& checkpoint) {
  const std::optional<IndexTotals>& totals = checkpoint.index_totals();
  if (!totals || (!totals->size && !totals->parameters)) return {};
  IndexTotals usual{0, 0};
  for (const SourceTensor& tensor : checkpoint.tensors()) {
    if (!ModuleFolderOf(checkpoint.module_folders(), tensor.name).empty()) continue;
    *usual.parameters += tensor.elems;
    *usual.size += tensor.stored_bytes();
  }
  if (totals->size == usual.size && totals->parameters == usual.parameters) return {};
  Json json;
  if (totals->parameters) json["total_parameters"] = *totals->parameters;
  if (totals->size) json["total_size"] = *totals->size;
  return json;
}

// Reads the member `files`. `tensors`: how many they must be in all; nullopt where that is not known. Returns what is
// wrong, or "".
std::string ReadRuns(const Json& json, std::optional<std::uint64_t> tensors, std::vector<BnbRecord::Run>* runs) {
  std::uint64_t left = tensors.value_or(UINT64_MAX);
  std::set<std::uint64_t> used;
  if (json.size() > kMostRuns) return GotExpected(fmt::to_string(json.size()), fmt::format("at most {}", kMostRuns));
  for (const Json& run : json) {
    const std::uint64_t file = run.at("file"), count = run.at("tensors");
    if (file >= limits::kShards) return "no model has so many files";
    if (count == 0 || count > left) return "they are not the tensors of the model";
    if (!runs->empty() && runs->back().file == file) return "two runs are one";
    left -= count;
    used.insert(file);
    runs->push_back({static_cast<std::uint32_t>(file), count});
  }
  if (tensors && left != 0) return "they are not the tensors of the model";
  return used.size() < 2 || *used.rbegin() != used.size() - 1 ? "files are numbered from 0, and more than one" : "";
}

// The member of the record for the table of `scheme`.
std::string MapMember(Q4Scheme scheme) { return std::string(BnbQuantTypeName(scheme)) + "_map"; }

// How many tensors of the layout of bitsandbytes (formats/bnb/layout.h) the tensor of a container is.
std::uint64_t BnbTensorCount(const Q4Tensor& tensor) {
  return tensor.quantized() ? BnbTensorsOf(tensor, DType::kU8).size() : 1;
}

}  // namespace

std::vector<std::uint8_t> BnbQuantMapBytes(Q4Scheme scheme) {
  std::vector<float> values;
  // FP4 code 8 decodes to -0.0, but bitsandbytes saves +0.0 there (numerics Q2.2). No other code value is zero with a
  // sign.
  for (const float value : CodeValues(scheme)) values.push_back(value == 0 ? 0.0f : value);
  return BytesOf(values);
}

std::vector<std::uint8_t> BnbNestedMapBytes() { return BytesOf(NestedMap()); }

absl::Status CheckTakenOver(const Checkpoint& checkpoint) {
  std::map<Q4Scheme, const std::vector<std::uint8_t>*> maps;
  const std::vector<std::uint8_t>* nested_map = nullptr;
  const DType usual = UsualStorage(checkpoint.tensors());
  std::uint64_t record_bytes = 0;
  for (const SourceTensor& tensor : checkpoint.tensors()) {
    if (tensor.bnb == nullptr) continue;
    const BnbSource& bnb = *tensor.bnb;
    const auto wrong = [&](const Issue& issue, std::string_view part, std::string_view what) {
      return Fail(issue, checkpoint.FileOf(tensor).path(), fmt::format("tensor '{}{}'", tensor.name, part), what);
    };
    if (bnb.quant_state != UsualText(tensor) || bnb.parts.front().dtype != usual) {
      record_bytes += tensor.name.size() + bnb.quant_state.size() + kWeightBytes;
      if (record_bytes > kRecordBytes) return wrong(kBnbRecord, "", {});
    }
    if (!IsTableOf(*bnb.quant_map, bnb.scheme)) {
      for (const Scheme& other : Schemes()) {
        if (IsTableOf(*bnb.quant_map, other.id)) {
          return wrong(kBnbOtherType, ".quant_map", GotExpected(Q4SchemeName(other.id), Q4SchemeName(bnb.scheme)));
        }
      }
      return wrong(kBnbTable, ".quant_map", fmt::format("it is not that of {}", Q4SchemeName(bnb.scheme)));
    }
    const std::vector<std::uint8_t>*& map = maps[bnb.scheme];
    if (map == nullptr) map = bnb.quant_map.get();
    if (*map != *bnb.quant_map) return wrong(kBnbTable, ".quant_map", "other weights have another");
    if (!bnb.nested) continue;
    if (!IsSameBnbTable(FloatsOf(*bnb.nested_map), NestedMap())) {
      return wrong(kBnbTable, ".nested_quant_map", "it is not the dynamic 8-bit map");
    }
    if (nested_map == nullptr) nested_map = bnb.nested_map.get();
    if (*nested_map != *bnb.nested_map) return wrong(kBnbTable, ".nested_quant_map", "other weights have another");
    if (!std::isfinite(bnb.nested_offset)) return wrong(kBnbScale, "", "nested_offset is not finite");
  }
  return absl::OkStatus();
}

Json BnbRecordJson(const Checkpoint& checkpoint) {
  const std::vector<SourceTensor>& tensors = checkpoint.tensors();
  // Of a checkpoint without such weights an export is not asked to give anything back.
  if (std::none_of(tensors.begin(), tensors.end(), [](const SourceTensor& at) { return at.bnb != nullptr; })) return {};
  std::map<std::string, Json> members, weights;  // by name, which is the order of the document
  if (Json files = RunsJson(checkpoint); !files.is_null()) {
    members["files"] = std::move(files);
    if (Json index = IndexJson(checkpoint); !index.is_null()) members["index"] = std::move(index);
  }
  const DType usual = UsualStorage(tensors);
  for (const SourceTensor& tensor : tensors) {
    if (tensor.bnb == nullptr) continue;
    const BnbSource& bnb = *tensor.bnb;
    if (*bnb.quant_map != BnbQuantMapBytes(bnb.scheme)) members[MapMember(bnb.scheme)] = HexOf(*bnb.quant_map);
    if (bnb.nested && *bnb.nested_map != BnbNestedMapBytes()) members["nested_map"] = HexOf(*bnb.nested_map);
    const bool is_usual = bnb.quant_state == UsualText(tensor);
    const DType storage = bnb.parts.front().dtype;
    if (is_usual && storage == usual) continue;
    Json weight;
    weight["name"] = tensor.name;
    if (!is_usual) weight["quant_state"] = bnb.quant_state;
    if (storage != usual) weight["storage"] = DTypeName(storage);
    weights.emplace(tensor.name, std::move(weight));
  }
  if (usual != DType::kU8) members["storage"] = DTypeName(usual);
  if (!weights.empty()) {
    Json list = Json::array();
    for (auto& [name, weight] : weights) list.push_back(std::move(weight));
    members["weights"] = std::move(list);
  }
  Json record;
  for (auto& [name, member] : members) record[name] = std::move(member);
  return record;
}

absl::StatusOr<BnbRecord> BnbRecordOf(const Q4Model& model, const Json& document) {
  BnbRecord record;
  const Json* const json = FindMember(document, "bitsandbytes");
  if (json == nullptr) return record;
  const auto wrong = [&](std::string_view member, std::string_view what) {
    return Fail(kQ4ProvenanceForm, model.path(), fmt::format("provenance, bitsandbytes.{}", member), what);
  };
  const auto take = [&](const std::string& member, std::span<const float> table,
                        std::vector<std::uint8_t>* bytes) -> absl::Status {
    const Json* const hex = FindMember(*json, member);
    if (hex == nullptr) return absl::OkStatus();
    *bytes = FromHex(hex->get_ref<const std::string&>());
    return IsSameBnbTable(FloatsOf(*bytes), table) ? absl::OkStatus() : wrong(member, "it is another table");
  };
  for (const Scheme& scheme : Schemes()) {
    std::vector<std::uint8_t> map = BnbQuantMapBytes(scheme.id);
    Q4_RETURN_IF_ERROR(take(MapMember(scheme.id), scheme.code_values(), &map));
    record.maps[scheme.id] = std::move(map);
  }
  Q4_RETURN_IF_ERROR(take("nested_map", NestedMap(), &record.nested_map));
  const auto storage_of = [](const Json& object, DType* storage) {
    const Json* const name = FindMember(object, "storage");
    return name == nullptr || ParseDTypeName(name->get_ref<const std::string&>(), storage);
  };
  if (!storage_of(*json, &record.storage)) return wrong("storage", "it is no dtype");
  // A shard that was opened alone lacks the tensors of the others.
  const bool is_whole = model.shards().size() == model.shards().front()->index().shard_count;
  if (const Json* const files = FindMember(*json, "files"); files != nullptr) {
    std::uint64_t tensors = 0;
    for (const Q4Model::Location& at : model.tensors()) tensors += BnbTensorCount(model.tensor(at));
    const std::string problem = ReadRuns(*files, is_whole ? std::optional(tensors) : std::nullopt, &record.files);
    if (!problem.empty()) return wrong("files", problem);
  }
  if (const Json* const index = FindMember(*json, "index"); index != nullptr) {
    if (record.files.empty()) return wrong("index", "it is of no files");
    record.index.emplace();
    const auto count_of = [index](std::string_view member) -> std::optional<std::uint64_t> {
      const Json* const value = FindMember(*index, member);
      return value == nullptr ? std::nullopt : std::optional<std::uint64_t>(value->get<std::uint64_t>());
    };
    *record.index = {count_of("total_size"), count_of("total_parameters")};
  }
  const Json* const weights = FindMember(*json, "weights");
  if (weights == nullptr) return record;
  for (const Json& entry : *weights) {
    const std::string& name = entry["name"].get_ref<const std::string&>();
    const Q4Model::Location* const at = model.Find(name);
    if (at == nullptr && !is_whole) continue;
    const Q4Tensor* const tensor = at != nullptr ? &model.tensor(*at) : nullptr;
    if (tensor == nullptr || !IsTakenOver(*tensor)) {
      return wrong("weights", "'" + name + "' is no tensor that was taken over");
    }
    BnbRecord::Weight weight;
    if (const Json* const text = FindMember(entry, "quant_state"); text != nullptr) {
      weight.quant_state = text->get<std::string>();
      if (const std::string problem = TextProblem(*weight.quant_state, *tensor); !problem.empty()) {
        return wrong("weights", fmt::format("quant_state of '{}': {}", name, problem));
      }
    }
    weight.storage = record.storage;
    if (!storage_of(entry, &weight.storage)) return wrong("weights", fmt::format("storage of '{}'", name));
    if (!record.weights.emplace(name, std::move(weight)).second) return wrong("weights", "'" + name + "' comes twice");
  }
  return record;
}

absl::StatusOr<BnbRecord> ReadBnbRecord(const Q4Model& model) {
  const auto& at = model.tensors();
  const bool any =
      std::any_of(at.begin(), at.end(), [&](const auto& place) { return IsTakenOver(model.tensor(place)); });
  if (!any) return BnbRecord();
  Q4_ASSIGN_OR_RETURN(const ProvenanceView provenance, ReadProvenance(model));
  return BnbRecordOf(model, provenance.document);
}

}  // namespace q4
