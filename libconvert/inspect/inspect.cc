// A container is described from its index, which has everything but the names of the model: these come from the
// embedded config.json. Totals are computed straight from the index as well, so that a summary of a model with very
// many tensors needs no description of each. Of a checkpoint all tensors are described (checkpoint.cc), and the totals
// are made of the descriptions.
#include "libconvert/inspect/inspect.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/gguf/gguf.h"
#include "formats/q4/layout.h"
#include "formats/q4/reader.h"
#include "formats/q4/shards.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/base/nearest_parts.h"
#include "libconvert/base/parallel.h"
#include "libconvert/base/pattern_issues.h"
#include "libconvert/inspect/checkpoint.h"
#include "libconvert/model/content_identity.h"
#include "libconvert/model/names.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

// The full description of one tensor of a container.
InspectTensor Describe(const Q4Reader& reader, const Q4Tensor& tensor, std::uint32_t shard) {
  InspectTensor entry;
  entry.name = tensor.name;
  entry.treatment = TreatmentName(tensor);
  entry.dtype = tensor.dtype;
  entry.shape = tensor.shape;
  entry.elems = tensor.elems;
  entry.encoder = tensor.encoder;
  static_cast<QuantFormat&>(entry) = tensor;
  entry.nested_offset = tensor.nested_offset;
  entry.shard = shard;
  entry.has_stats = tensor.has_stats;
  if (tensor.has_stats) entry.stats = *tensor.stats;
  const SharedArray<Q4Chunk>& chunks = reader.index().chunks;
  // A part's chunks follow one another in the index.
  for (const Q4PartEntry& part : tensor.parts()) {
    InspectPart& summary = entry.parts.emplace_back();
    summary.part = part.part;
    summary.raw_bytes = part.raw_bytes;
    summary.chunks = part.chunk_count;
    for (std::uint64_t i = 0; i < part.chunk_count; ++i) {
      const Q4Chunk& chunk = chunks[part.first_chunk + i];
      summary.stored_bytes += chunk.stored_bytes;
      if (chunk.codec != Q4Codec::kStored) ++summary.compressed_chunks;
    }
    entry.stored_bytes += summary.stored_bytes;
  }
  // An empty tensor has no chunk and so no place in the file.
  if (tensor.elems != 0) entry.offset = chunks[tensor.first_chunk].offset;
  return entry;
}

// What TreatmentName() looks at, so that the name is made once per treatment and not once per tensor.
using TreatmentKey = std::tuple<Q4Scheme, DType, Q4Encoder, std::uint32_t, bool>;
TreatmentKey TreatmentKeyOf(const Q4Tensor& tensor) {
  // Of a quantized tensor the dtype is not named, so all dtypes are one treatment.
  const DType dtype = !tensor.quantized() ? tensor.dtype : DType::kF32;
  return {tensor.scheme, dtype, EncoderInName(tensor), tensor.block_size, tensor.nested};
}

// Quantized tensors by encoder.
class EncoderCounts {
 public:
  void Add(bool quantized, Q4Encoder encoder, std::uint64_t elems) {
    if (!quantized) return;
    InspectEncoder& row = rows_[encoder];
    row.encoder = encoder;
    ++row.tensors;
    row.elems += elems;
  }
  std::vector<InspectEncoder> List() const {
    std::vector<InspectEncoder> list;
    for (const auto& [encoder, row] : rows_) list.push_back(row);
    return list;
  }

 private:
  std::map<Q4Encoder, InspectEncoder> rows_;
};

// Bytes of all chunks of a tensor, as Describe() adds them up.
std::uint64_t StoredBytes(const Q4Reader& reader, const Q4Tensor& tensor) {
  std::uint64_t bytes = 0;
  for (const Q4PartEntry& part : tensor.parts()) {
    for (std::uint64_t i = 0; i < part.chunk_count; ++i) {
      bytes += reader.index().chunks[part.first_chunk + i].stored_bytes;
    }
  }
  return bytes;
}

// Totals straight from the index, without a description of each tensor.
void SumUpContainer(const Q4Model& model, InspectReport* report) {
  std::map<TreatmentKey, InspectTreatment> treatments;
  EncoderCounts encoders;
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& tensor = model.tensor(at);
    encoders.Add(tensor.quantized(), tensor.encoder, tensor.elems);
    // One look-up a tensor; the text is made for the first tensor of a treatment only.
    InspectTreatment& row = treatments[TreatmentKeyOf(tensor)];
    if (row.tensors == 0) row.treatment = TreatmentName(tensor);
    row.quantized = tensor.quantized();
    ++row.tensors;
    row.elems += tensor.elems;
    row.stored_bytes += StoredBytes(model.reader(at), tensor);
    // Tensors come sorted by name over all shards, as AddTensor() requires.
    if (tensor.has_stats) AddTensor(tensor.name, *tensor.stats, &report->model);
  }
  report->encoders = encoders.List();
  // The map is in the order of keys; the report wants names.
  for (auto& [key, row] : treatments) {
    report->tensor_count += row.tensors;
    report->elems += row.elems;
    if (row.quantized) {
      report->quantized_elems += row.elems;
      report->quantized_bytes += row.stored_bytes;
    }
    report->treatments.push_back(std::move(row));
  }
  std::sort(report->treatments.begin(), report->treatments.end(),
            [](const InspectTreatment& a, const InspectTreatment& b) {
              return a.quantized != b.quantized ? a.quantized : a.treatment < b.treatment;
            });
}

// Reads nothing but config.json: all else is in memory since the container was opened.
InspectReport InspectContainer(const Q4Model& model, InspectScope scope) {
  InspectReport report;
  report.format = "q4";
  report.root = model.root();
  // Every shard records how many there are, so the first one that is there will do.
  const Q4Index& first = model.shards().front()->index();
  report.provenance = ModelProvenance(model);
  if (absl::StatusOr<ProvenanceView> view = ParseProvenance(report.provenance, model.path()); view.ok()) {
    report.left_out = std::move(view->left_out);
  }
  report.shard_count = first.shard_count;
  for (const auto& shard : model.shards()) {
    // The seal has size and root of the file.
    report.shards.push_back({shard->path(), shard->seal().file_bytes, shard->seal().root});
    report.file_bytes += shard->seal().file_bytes;
    for (const Q4EmbeddedFile& file : shard->index().files) {
      report.files.push_back({file.name, file.raw_bytes});
      // A damaged one leaves the names empty; q4verify reports it. Larger vocabularies are not read for a name.
      constexpr std::uint64_t kVocabularyBytes = 32u << 20;
      const bool is_config = file.name == "config.json" && file.raw_bytes <= limits::kConfigJsonBytes;
      const bool is_gguf = file.name == kGgufMetadataName && file.raw_bytes <= kVocabularyBytes;
      if (!is_config && !is_gguf) continue;
      const absl::StatusOr<std::string> content = shard->ReadFile(file);
      if (!content.ok()) continue;
      if (is_config) SetModelNames(*content, &report);
      if (is_gguf) SetGgufNames(*content, &report);
    }
  }
  // Side by side where it takes time; below, starting a thread would take longer.
  constexpr std::size_t kManyTensors = 10'000;
  const auto sums = [&](std::uint64_t i) {
    // Of other members of the report each.
    if (i == 0) SumUpContainer(model, &report);
    if (i == 1) report.content = ContentIdentityOfIndex(model);
    return absl::OkStatus();
  };
  const auto ignore = [](std::uint64_t, const absl::Status&) { return absl::OkStatus(); };
  ParallelInOrder(2, model.tensors().size() < kManyTensors ? 1 : 2, sums, ignore).IgnoreError();
  // Up to here nothing was kept for each tensor.
  if (scope == InspectScope::kSummary) return report;
  report.tensors.reserve(model.tensors().size());
  for (const Q4Model::Location& at : model.tensors()) {
    report.tensors.push_back(Describe(model.reader(at), model.tensor(at), static_cast<std::uint32_t>(at.shard)));
  }
  return report;
}

}  // namespace

// The texts are not escaped here: whoever prints them does it.
void SetModelNames(std::string_view config_json, InspectReport* report) {
  ModelNames names = ReadModelNames(config_json);
  report->architecture = std::move(names.architecture);
  report->model_type = std::move(names.model_type);
}

// Adds up descriptions, as SumUpContainer() adds up the index.
void SumUpTensors(InspectReport* report) {
  std::sort(report->tensors.begin(), report->tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  // The key puts quantized ones first and then goes by name, which is the order of the report.
  std::map<std::pair<bool, std::string>, InspectTreatment> treatments;
  EncoderCounts encoders;
  report->tensor_count = report->tensors.size();
  for (const InspectTensor& tensor : report->tensors) {
    InspectTreatment& row = treatments[{!tensor.quantized(), tensor.treatment}];
    row.treatment = tensor.treatment;
    row.quantized = tensor.quantized();
    ++row.tensors;
    row.elems += tensor.elems;
    row.stored_bytes += tensor.stored_bytes;
    report->elems += tensor.elems;
    encoders.Add(tensor.quantized(), tensor.encoder, tensor.elems);
    if (tensor.quantized()) {
      report->quantized_elems += tensor.elems;
      report->quantized_bytes += tensor.stored_bytes;
    }
  }
  report->encoders = encoders.List();
  for (auto& [key, row] : treatments) report->treatments.push_back(std::move(row));
}

double InspectReport::BitsPerQuantizedElement() const {
  return quantized_elems == 0 ? 0 : 8 * static_cast<double>(quantized_bytes) / static_cast<double>(quantized_elems);
}

double InspectReport::BitsPerElement() const {
  return elems == 0 ? 0 : 8 * static_cast<double>(file_bytes) / static_cast<double>(elems);
}

absl::StatusOr<InspectReport> InspectModel(FileSystem& fs, const OpenedModel& model, InspectScope scope) {
  InspectReport report;
  if (model.container != nullptr) {
    report = InspectContainer(*model.container, scope);
  } else {
    Q4_ASSIGN_OR_RETURN(report, InspectCheckpoint(fs, *model.checkpoint));
  }
  // The report names the model as the user did, and not a file that was found there.
  report.path = model.path;
  return report;
}

absl::StatusOr<InspectReport> InspectModel(FileSystem& fs, const std::string& path, const OpenOptions& options,
                                           InspectScope scope) {
  Q4_ASSIGN_OR_RETURN(const OpenedModel model, OpenModel(fs, path, options));
  return InspectModel(fs, model, scope);
}

const InspectTensor* FindTensor(const InspectReport& report, std::string_view name) {
  // The list is sorted by name, of a container by its index and of a checkpoint by SumUpTensors().
  const auto at = std::lower_bound(report.tensors.begin(), report.tensors.end(), name,
                                   [](const InspectTensor& tensor, std::string_view key) { return tensor.name < key; });
  return at != report.tensors.end() && at->name == name ? &*at : nullptr;
}

absl::StatusOr<std::vector<const InspectTensor*>> SelectTensors(const InspectReport& report,
                                                                const TensorSelection& selection) {
  // In the order of names, which is that of the report.
  std::vector<const InspectTensor*> selected;
  if (selection.filter.empty()) {
    for (const InspectTensor& tensor : report.tensors) selected.push_back(&tensor);
  } else {
    // Searched in the name and not matched against the whole of it: "q_proj" selects every tensor with that role.
    Q4_ASSIGN_OR_RETURN(const NamePattern pattern, NamePattern::Parse(selection.filter, "--filter"));
    for (const InspectTensor& tensor : report.tensors) {
      if (pattern.Matches(tensor.name)) selected.push_back(&tensor);
    }
    if (selected.empty() && !report.tensors.empty() && !selection.allow_unmatched) {
      const auto name_of = [](const InspectTensor& tensor) -> std::string_view { return tensor.name; };
      return Fail(
          kPatternUnmatched, report.path, "--filter '" + pattern.text() + "'",
          "use --allow-unmatched if that is meant" + DidYouMeanByParts(pattern.text(), report.tensors, name_of));
    }
  }
  // Sorts by a key, largest first. Tensors without the property come last, and equals stay sorted by name.
  const auto sort_down = [&](const auto& key) {
    std::stable_sort(selected.begin(), selected.end(),
                     [&](const InspectTensor* a, const InspectTensor* b) { return key(*a) > key(*b); });
  };
  if (selection.sort == "size") {
    sort_down([](const InspectTensor& tensor) { return tensor.stored_bytes; });
  } else if (selection.sort == "elems") {
    sort_down([](const InspectTensor& tensor) { return tensor.elems; });
  } else if (selection.sort == "nmse" || selection.sort == "sqnr") {
    // The smallest SQNR is the largest NMSE.
    sort_down([](const InspectTensor& tensor) {
      return tensor.has_stats ? Derive(tensor.stats).nmse : -std::numeric_limits<double>::infinity();
    });
  }
  if (selection.top != 0 && selection.quantized) {
    std::erase_if(selected, [](const InspectTensor* tensor) { return !tensor->quantized(); });
  }
  if (selection.top != 0 && selected.size() > selection.top) selected.resize(selection.top);
  return selected;
}

}  // namespace q4
