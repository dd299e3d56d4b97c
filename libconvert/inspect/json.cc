// One function for each object of the schema; the order of members is the order in the file, which people read too.
// What does not exist is null rather than absent, so that a script finds every member; members that were not asked for
// (tensors, files, dump) are absent.
#include "libconvert/inspect/json.h"

#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/q4/encoders.h"
#include "formats/q4/parts.h"
#include "libconvert/base/json_document.h"
#include "libconvert/model/stats_json.h"

namespace q4 {
namespace {

Json ScalesJson(const InspectScales& scales) {
  Json json = ScaleSpreadJson(scales.spread);
  json["not_finite"] = scales.not_finite;
  return json;
}

// A tensor of the list. Statistics are many numbers, so they are there only on request, and then null where none are
// recorded.
Json TensorJson(const InspectTensor& tensor, bool with_stats, const InspectScales* scales) {
  Json json;
  json["name"] = tensor.name;
  json["treatment"] = tensor.treatment;
  json["dtype"] = DTypeName(tensor.dtype);
  json["shape"] = tensor.shape;
  json["elems"] = tensor.elems;
  json["quantized"] = tensor.quantized();
  if (!tensor.stored_names.empty()) {
    json["stored"] = {{"dtype", DTypeName(tensor.stored_dtype)}, {"tensors", Json(tensor.stored_names)}};
  }
  // A kept tensor has no encoder, blocks or scales.
  if (tensor.quantized()) {
    json["encoder"] = Q4EncoderName(tensor.encoder);
    json["block_size"] = tensor.block_size;
    json["nested"] = tensor.nested;
    // The report has the offset of containers only; tensors of a checkpoint have no parts.
    if (tensor.nested && !tensor.parts.empty()) json["nested_offset"] = tensor.nested_offset;
  }
  json["stored_bytes"] = tensor.stored_bytes;
  json["offset"] = tensor.offset;
  json["shard"] = tensor.shard;
  // Empty for a tensor of a checkpoint, whose parts are tensors of their own.
  Json parts = Json::array();
  for (const InspectPart& part : tensor.parts) {
    parts.push_back({{"part", Q4PartName(part.part)},
                     {"raw_bytes", part.raw_bytes},
                     {"stored_bytes", part.stored_bytes},
                     {"chunks", part.chunks},
                     {"compressed_chunks", part.compressed_chunks}});
  }
  json["parts"] = std::move(parts);
  if (with_stats) json["stats"] = tensor.has_stats ? StatsJson(tensor.stats) : Json(nullptr);
  if (scales != nullptr) json["scales"] = tensor.quantized() ? ScalesJson(*scales) : Json(nullptr);
  return json;
}

// Values are texts: JSON has neither integers of 64 bits that every parser keeps, nor NaN.
Json DumpJson(const std::vector<DumpValue>& dump) {
  Json values = Json::array();
  for (const DumpValue& value : dump) {
    Json entry;
    entry["index"] = value.index;
    // Of a quantized tensor only.
    if (value.code >= 0) {
      entry["code"] = value.code;
      entry["scale"] = value.scale;
    }
    entry["value"] = value.value;
    values.push_back(std::move(entry));
  }
  return values;
}

// null where values could not be compared.
Json DeltaJson(const std::optional<TensorDelta>& delta) {
  if (!delta) return nullptr;
  // null where the two tensors are not stored alike, so that codes and scales have no counterparts.
  const auto count = [](const std::optional<std::uint64_t>& value) { return value ? Json(*value) : Json(nullptr); };
  return {{"differing_elems", delta->differing_elems},
          {"nmse", delta->nmse},
          {"max_abs", delta->max_abs},
          {"max_abs_index", delta->max_abs_index},
          {"differing_codes", count(delta->differing_codes)},
          {"differing_scales", count(delta->differing_scales)}};
}

Json NmseJson(const std::optional<double>& nmse) { return nmse ? Json(*nmse) : Json(nullptr); }

}  // namespace

std::string InspectReportJson(const InspectReport& report, const InspectDetail& detail) {
  Json json = NewDocument("q4inspect-report");
  json["path"] = report.path;
  json["format"] = report.format;
  // null when config.json does not state them.
  json["architecture"] = TextOrNull(report.architecture);
  json["model_type"] = TextOrNull(report.model_type);
  json["model_name"] = TextOrNull(report.model_name);
  json["file_bytes"] = report.file_bytes;
  json["elems"] = report.elems;
  json["quantized_elems"] = report.quantized_elems;
  json["quantized_bytes"] = report.quantized_bytes;
  // These follow from the members before; they spare scripts the arithmetic.
  json["bits_per_quantized_element"] = report.BitsPerQuantizedElement();
  json["bits_per_element"] = report.BitsPerElement();
  json["tensor_count"] = report.tensor_count;
  // An array even if it stays empty: a script can always go through it.
  json["treatments"] = Json::array();
  for (const InspectTreatment& row : report.treatments) {
    json["treatments"].push_back({{"treatment", row.treatment},
                                  {"quantized", row.quantized},
                                  {"tensors", row.tensors},
                                  {"elems", row.elems},
                                  {"stored_bytes", row.stored_bytes}});
  }
  json["encoders"] = Json::array();
  for (const InspectEncoder& row : report.encoders) {
    json["encoders"].push_back(
        {{"encoder", Q4EncoderName(row.encoder)}, {"tensors", row.tensors}, {"elems", row.elems}});
  }
  // A checkpoint has no root, and neither do its files.
  json["root_sha256"] = report.root ? Json(HexOf(*report.root)) : Json(nullptr);
  json["content_sha256"] = report.content ? Json(HexOf(*report.content)) : Json(nullptr);
  json["shard_count"] = report.shard_count;
  json["shards"] = Json::array();
  for (const InspectShard& shard : report.shards) {
    json["shards"].push_back({{"path", shard.path},
                              {"bytes", shard.bytes},
                              {"root_sha256", shard.root ? Json(HexOf(*shard.root)) : Json(nullptr)}});
  }
  // Embedded as a document, not as text. One that is no JSON is null: all other members do not depend on it.
  const absl::StatusOr<Json> provenance = ParseJson(report.provenance, report.path, limits::kConfigJsonDepth);
  json["provenance"] = provenance.ok() ? *provenance : Json(nullptr);
  // Totals of statistics; null where no tensor has any.
  json["model"] = report.model.tensors == 0 ? Json(nullptr) : ModelStatsJson(report.model);
  // What follows was asked for. Names stand as they are in the file; JsonReportText() escapes what is not ASCII.
  if (detail.files) {
    json["files"] = Json::array();
    for (const InspectFile& file : report.files) json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}});
    json["left_out"] = Json::array();
    for (const LeftOutFile& file : report.left_out) {
      json["left_out"].push_back({{"name", file.name}, {"reason", file.reason}, {"warning", file.warning}});
    }
  }
  // Statistics come with --hist too, since the counts of codes are among them.
  if (detail.list_tensors) {
    json["tensors"] = Json::array();
    for (std::size_t i = 0; i < detail.tensors.size(); ++i) {
      json["tensors"].push_back(
          TensorJson(*detail.tensors[i], detail.stats || detail.hist, detail.scales ? &(*detail.scales)[i] : nullptr));
    }
  }
  // Of the listed tensors together.
  if (detail.scales) {
    InspectScales total;
    for (const InspectScales& scales : *detail.scales) {
      AddSpread(scales.spread, &total.spread);
      total.not_finite += scales.not_finite;
    }
    json["scales"] = ScalesJson(total);
  }
  if (!detail.dump.empty()) json["dump"] = DumpJson(detail.dump);
  return JsonReportText(json);
}

std::string DiffReportJson(const DiffReport& report) {
  Json json = NewDocument("q4inspect-diff");
  json["left"] = report.left;
  json["right"] = report.right;
  json["same_root"] = report.same_root;
  json["left_content_sha256"] = report.left_content ? Json(HexOf(*report.left_content)) : Json(nullptr);
  json["right_content_sha256"] = report.right_content ? Json(HexOf(*report.right_content)) : Json(nullptr);
  // Follows from the lists below, for scripts that ask nothing else.
  json["same_content"] = report.SameContent();
  json["provenance_differs"] = report.provenance_differs;
  json["equal_tensors"] = report.equal_tensors;
  json["removed"] = report.removed;
  json["added"] = report.added;
  json["changed"] = Json::array();
  for (const TensorChange& change : report.changed) {
    json["changed"].push_back({{"name", change.name},
                               {"before", change.before},
                               {"after", change.after},
                               {"content_differs", change.content_differs},
                               {"nmse_before", NmseJson(change.nmse_before)},
                               {"nmse_after", NmseJson(change.nmse_after)},
                               {"delta", DeltaJson(change.delta)}});
  }
  json["encoders"] = Json::array();
  for (const auto& [encoders, tensors] : report.encoders) {
    json["encoders"].push_back(
        {{"before", Q4EncoderName(encoders.first)}, {"after", Q4EncoderName(encoders.second)}, {"tensors", tensors}});
  }
  json["renamed"] = Json::array();
  for (const TensorRename& rename : report.renamed) {
    json["renamed"].push_back({{"before", rename.before}, {"after", rename.after}});
  }
  json["files_compared"] = report.files_compared;
  json["files_removed"] = report.files_removed;
  json["files_added"] = report.files_added;
  json["files_changed"] = report.files_changed;
  return JsonReportText(json);
}

}  // namespace q4
