// However often a container is repacked, its provenance does not grow with it: of parents it names one, of a file it
// has one note at most, and of tensors their number.
#include "libconvert/repack/repack_provenance.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/base/zstd_codec.h"
#include "libconvert/model/provenance_view.h"

namespace q4 {
namespace {

constexpr std::string_view kDroppedFile = "left out when the container was repacked";
constexpr std::string_view kReplacedFile = "another file took its place when the container was repacked";
constexpr std::string_view kAddedFile = "not of the source: added when the container was repacked";
constexpr std::string_view kTensorsNotTaken = "not taken when the container was repacked";
constexpr std::string_view kPartsNotThere = "not there when the container was repacked";

// Members of a document stand in bytewise order.
Json SortedMembers(const Json& object) {
  std::map<std::string, const Json*> members;
  for (const auto& [name, value] : object.items()) members.emplace(name, &value);
  Json sorted = Json::object();
  for (const auto& [name, value] : members) sorted[name] = *value;
  return sorted;
}

}  // namespace

absl::StatusOr<RepackProvenance> RepackProvenance::Of(const Q4Model& model) {
  Q4_ASSIGN_OR_RETURN(ProvenanceView view, ReadProvenance(model));
  RepackProvenance provenance;
  for (const auto& shard : model.shards()) {
    Q4_ASSIGN_OR_RETURN(const ProvenanceView own, ParseProvenance(shard->index().provenance, shard->path()));
    provenance.files_.push_back(own.document.at("source").at("files"));
  }
  if (view.options) {
    Q4Compression compression;
    const std::string text = view.document.at("options").at("compress");
    compression.zstd = view.options->compressed;
    // Its form was checked: "zstd:" and a number. Another writer may have had higher levels.
    if (compression.zstd) {
      std::from_chars(text.data() + 5, text.data() + text.size(), compression.level);
      compression.level = std::min(compression.level, kMaxZstdLevel);
    }
    provenance.compression_ = compression;
    provenance.shard_bytes_ = view.options->shard_bytes;
  }
  if (view.document.contains("left_out")) {
    for (const Json& entry : view.document.at("left_out")) provenance.left_out_.push_back(entry);
    view.document.erase("left_out");
  }
  Json parent = Json::object();
  // Of weights that were quantized again: what they were made from stays said.
  if (const Json* before = FindMember(view.document, "parent"); before != nullptr) {
    if (const Json* first = FindMember(*before, "first"); first != nullptr) parent["first"] = *first;
  }
  parent["root"] = HexOf(model.root());
  view.document["parent"] = std::move(parent);
  provenance.document_ = std::move(view.document);
  return provenance;
}

void RepackProvenance::SetPacking(const Q4Compression& compression, std::uint64_t shard_bytes) {
  Json& options = document_["options"];
  // Not recorded: nothing is known of the others.
  if (options.empty()) return;
  options["compress"] = compression.zstd ? fmt::format("zstd:{}", compression.level) : "none";
  options["shard_size"] = shard_bytes;
  options.erase("shard_by");  // a container has no files to go by
}

std::string RepackProvenance::Forget(const std::string& name) {
  for (auto entry = left_out_.begin(); entry != left_out_.end(); ++entry) {
    const std::string reason = entry->at("reason");
    if (entry->at("name") != Json(name)) continue;
    if (reason != kDroppedFile && reason != kReplacedFile && reason != kAddedFile) continue;
    left_out_.erase(entry);
    return reason;
  }
  return {};
}

void RepackProvenance::Note(const std::string& name, std::string_view reason) {
  left_out_.push_back(Json{{"name", name}, {"reason", reason}, {"warning", false}});
}

void RepackProvenance::Replaced(const std::string& file) {
  // One that was added once is none of the source's still.
  Note(file, Forget(file) == kAddedFile ? kAddedFile : kReplacedFile);
}

void RepackProvenance::Added(const std::string& file) {
  // One that was dropped once is back, with a content that may be another.
  Note(file, Forget(file) == kDroppedFile ? kReplacedFile : kAddedFile);
}

void RepackProvenance::Dropped(const std::string& file) {
  if (Forget(file) != kAddedFile) Note(file, kDroppedFile);
}

void RepackProvenance::AddTo(std::string_view what, std::string_view reason, std::uint64_t count) {
  if (count == 0) return;
  for (auto entry = left_out_.begin(); entry != left_out_.end(); ++entry) {
    if (entry->at("reason") != Json(reason)) continue;
    const std::string name = entry->at("name");
    std::uint64_t before = 0;
    std::from_chars(name.data(), name.data() + name.size(), before);
    // A number that nobody can have counted is somebody's invention.
    if (before < std::uint64_t{1} << 40) count += before;
    left_out_.erase(entry);
    break;
  }
  Note(fmt::format("{} {}", count, what), reason);
}

void RepackProvenance::LeftOut(std::uint64_t tensors, std::uint64_t parts) {
  AddTo("tensors", kTensorsNotTaken, tensors);
  AddTo("parts of the model", kPartsNotThere, parts);
}

void RepackProvenance::KeepTensors(const std::map<std::string_view, const Q4Tensor*>& taken, bool is_part) {
  if (document_.contains("bitsandbytes")) {
    Json& record = document_["bitsandbytes"];
    if (is_part) {
      record.erase("files");
      record.erase("index");
    }
    if (record.contains("weights")) {
      Json weights = Json::array();
      for (const Json& weight : record.at("weights")) {
        if (taken.contains(weight.at("name").get_ref<const std::string&>())) weights.push_back(weight);
      }
      // What is empty is absent.
      if (weights.empty())
        record.erase("weights");
      else
        record["weights"] = std::move(weights);
    }
    if (record.empty()) document_.erase("bitsandbytes");
  }
  Json& options = document_["options"];
  if (options.empty() || options.at("encoder") != Json("none")) return;
  for (const auto& [name, tensor] : taken) {
    if (!tensor->quantized()) continue;
    options["block_size"] = tensor->block_size;
    options["double_quant"] = tensor->nested;
    options["type"] = Q4SchemeName(tensor->scheme);
    return;
  }
}

std::string RepackProvenance::Document(const std::set<std::size_t>& from) const {
  Json document = document_;
  Json files = Json::array();
  // A file that two of the parent's shards come from is listed by both.
  std::set<std::string> seen;
  for (const std::size_t shard : from) {
    for (const Json& file : files_[shard]) {
      if (seen.insert(file.dump()).second) files.push_back(file);
    }
  }
  document["source"]["files"] = std::move(files);
  document["source"] = SortedMembers(document["source"]);
  if (!left_out_.empty()) {
    Json left_out = Json::array();
    for (const Json& entry : left_out_) left_out.push_back(entry);
    document["left_out"] = std::move(left_out);
  }
  return SortedMembers(document).dump();
}

}  // namespace q4
