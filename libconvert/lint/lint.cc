// The order of a lint: find out what lies there, look at its tensors one by one, then hold config.json against all of
// them. Containers and checkpoints take different ways to the same rules: values.cc judges numbers, config.cc the
// configuration.
//
// The reader of a .q4 checks partners, sizes and shards before anything is looked at here, so only the rules on values
// and on the sizes in config.json are left. A safetensors checkpoint has no such guarantee, and files.cc and weights.cc
// look for all that may be wrong.
#include "libconvert/lint/lint.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/text.h"
#include "formats/gguf/gguf.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"
#include "libconvert/base/json_document.h"
#include "libconvert/base/text_table.h"
#include "libconvert/lint/config.h"
#include "libconvert/lint/files.h"
#include "libconvert/lint/findings.h"
#include "libconvert/lint/weights.h"
#include "libconvert/model/model_configs.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/scheme/scheme.h"
#include "libconvert/scheme/slab.h"
#include "libconvert/scheme/stored_scales.h"

namespace q4 {
namespace {

// Only for quantized checkpoints of which everything else is there: weights alone, without a model, are a usual
// download.
constexpr LintRule kLintConfigMissing{
    {6551, ExitCode::kCheckFailed, "quantized checkpoint without config.json"},
    "config-missing",
    "Loaders cannot tell the architecture, nor that it is quantized.",
    "Add config.json of the original with quantization_config.",
};

// The first chunk of a part, or nothing if it has none. A chunk is read and checked as a whole, so this is the least
// that can be read, and what lint.h promises to read at most.
static_assert(kQ4ChunkElems / 2 == kLintCodeBytes && kQ4ChunkBytes == kLintScaleBytes);
absl::StatusOr<std::vector<std::uint8_t>> ReadFirstChunk(const Q4Reader& reader, const Q4Tensor& tensor, Q4Part part,
                                                         std::uint64_t* bytes_read) {
  const std::optional<Q4PartEntry> entry = tensor.Part(part);
  if (!entry || entry->chunk_count == 0) return std::vector<std::uint8_t>();
  *bytes_read += reader.index().chunks[entry->first_chunk].stored_bytes;
  return reader.ReadChunk(entry->first_chunk);
}

// Copied, because bytes of a chunk need not be aligned for floats.
std::vector<float> Floats(const std::vector<std::uint8_t>& bytes) {
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  return floats;
}

// The rules on values for one tensor. Of a kept one only whole elements are looked at: both bounds are multiples of
// every item size.
absl::Status LintContainerTensor(const KernelTable& kernels, const Q4Reader& reader, const Q4Tensor& tensor,
                                 std::uint64_t* bytes_read, LintFindings* findings) {
  if (!tensor.quantized()) {
    // Only dtypes that the kernels convert are judged; integers have no NaN.
    if (!IsQuantizable(tensor.dtype)) return absl::OkStatus();
    Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> data, ReadFirstChunk(reader, tensor, Q4Part::kData, bytes_read));
    // A chunk of a kept tensor is larger than what is judged.
    data.resize(std::min<std::size_t>(data.size(), kLintValueBytes));
    LintPlainValues(kernels, tensor.name, tensor.dtype, data, findings);
    return absl::OkStatus();
  }
  LintCodes weight;
  static_cast<QuantFormat&>(weight) = tensor;
  weight.scale_name = "scale";
  if (tensor.encoder != Q4Encoder::kNone) {
    weight.encoder = FindQ4Encoder(tensor.encoder)->absmax_scales ? LintEncoder::kAbsmax : LintEncoder::kSearching;
  }
  std::vector<float> scales;
  if (tensor.nested) {
    Q4_ASSIGN_OR_RETURN(const auto codes, ReadFirstChunk(reader, tensor, Q4Part::kScaleCodes, bytes_read));
    Q4_ASSIGN_OR_RETURN(const auto bytes, ReadFirstChunk(reader, tensor, Q4Part::kScales2, bytes_read));
    const std::vector<float> group_scales = Floats(bytes);
    // Only group scales are looked at, before they are decoded. Decoded scales are NaN only if these or the offset are,
    // and rounding may carry the smallest ones below zero, which is no fault.
    LintScaleValues(tensor.name, "scale of scales", group_scales, true, findings);
    weight.offset = tensor.nested_offset;
    DecodedScales(kernels, {true, nullptr, codes.data(), group_scales.data(), weight.offset}, codes.size(), &scales);
  } else {
    Q4_ASSIGN_OR_RETURN(const auto bytes, ReadFirstChunk(reader, tensor, Q4Part::kScales, bytes_read));
    scales = Floats(bytes);
  }
  Q4_ASSIGN_OR_RETURN(const auto codes, ReadFirstChunk(reader, tensor, Q4Part::kCodes, bytes_read));
  weight.codes = codes;
  // The last byte of an odd number of codes has a padding code, behind which no element stands; the whole byte is left
  // out.
  const bool odd_end = tensor.elems % 2 != 0 && codes.size() == PackedBytes(tensor.elems);
  if (odd_end) weight.codes = weight.codes.first(codes.size() - 1);
  weight.scales = scales;
  LintCodesOf(tensor.name, weight, findings);
  return absl::OkStatus();
}

// Holds the configuration of each folder against the tensors that came from it, under their names inside the folder.
void LintContainerConfigs(const ModelConfigs& configs, std::vector<LintWeight> weights, LintFindings* findings) {
  std::map<std::string_view, std::vector<LintWeight>> by_folder;
  by_folder[""];  // a configuration without any tensor is judged too
  for (LintWeight& weight : weights) {
    const std::string_view folder = ModuleFolderOf(configs.folders, weight.name);
    LintWeight& inside = by_folder[folder].emplace_back(std::move(weight));
    if (!folder.empty()) inside.name.erase(0, folder.size() + 1);
  }
  for (const auto& [folder, inside] : by_folder) {
    const std::string& config = configs.Of(fmt::format("{}/", folder));
    if (config.empty()) continue;
    findings->Enter(folder);
    LintConfig(config, LintLayout::kContainer, inside, findings);
  }
}

absl::Status LintContainer(FileSystem& fs, const std::string& path, const LintOptions& options, LintFindings* findings,
                           LintReport* report) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Model> model, Q4Model::Open(fs, path));
  Q4_RETURN_IF_ERROR(model->RequireRoot(options.root));
  report->format = "q4";
  std::vector<LintWeight> weights;
  for (const Q4Model::Location& at : model->tensors()) {
    const Q4Tensor& tensor = model->tensor(at);
    weights.push_back({tensor, tensor.name, tensor.shape, tensor.dtype});
    ++report->tensors;
    report->quantized += tensor.quantized();
    Q4_RETURN_IF_ERROR(LintContainerTensor(*options.kernels, model->reader(at), tensor, &report->bytes_read, findings));
  }
  const Q4Index& first = model->shards().front()->index();
  // With one shard given alone, most layers are absent and config.json would be accused of that.
  if (model->shards().size() != first.shard_count) return absl::OkStatus();  // not the whole model
  Q4_ASSIGN_OR_RETURN(const ModelConfigs configs, ReadModelConfigs(*model));
  // A config.json beside a GGUF file speaks of modules that have other names there.
  if (!IsGgufFormat(configs.format)) LintContainerConfigs(configs, std::move(weights), findings);
  return absl::OkStatus();
}

// Whether the record of q4export in the directory (docs/schema/export_record.schema.json) names an encoder that
// searches. It is believed: what depends on it are warnings. Anything that is no such record names none.
absl::StatusOr<bool> SearchedOnRecord(FileSystem& fs, const std::string& directory) {
  const std::string path = JoinPath(directory, "q4_export.json");
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.is_symlink || !info.is_regular || info.size > limits::kConfigJsonBytes) return false;
  Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, limits::kConfigJsonBytes));
  const absl::StatusOr<Json> record = ParseModelJson(text, path);
  const Json* const encoders = record.ok() ? FindMember(*record, "encoders") : nullptr;
  if (encoders == nullptr || !encoders->is_array()) return false;
  return std::any_of(encoders->begin(), encoders->end(), [](const Json& name) {
    const Q4EncoderRow* const row = name.is_string() ? FindQ4Encoder(name.text()) : nullptr;
    return row != nullptr && !row->absmax_scales;
  });
}

// What lies in one folder of a checkpoint, or a lone file.
absl::Status LintFolder(FileSystem& fs, const std::string& path, const LintOptions& options, SymbolicLinks links,
                        bool searched, LintFindings* findings, LintReport* report) {
  Q4_ASSIGN_OR_RETURN(LintFiles files, LintFiles::Open(fs, path, links, findings));
  Q4_ASSIGN_OR_RETURN(const std::vector<LintWeight> weights,
                      LintCheckpointWeights(*options.kernels, searched, &files, findings));
  const std::uint64_t quantized = static_cast<std::uint64_t>(
      std::count_if(weights.begin(), weights.end(), [](const LintWeight& weight) { return weight.quantized(); }));
  report->format = files.format();
  report->tensors += weights.size();
  report->quantized += quantized;
  report->bytes_read += files.bytes_read();
  if (files.config()) {
    LintConfig(*files.config(), LintLayout::kCheckpoint, weights, findings);
  } else if (files.whole_model() && quantized != 0) {
    findings->Add(kLintConfigMissing, {});
  }
  return absl::OkStatus();
}

absl::Status LintCheckpoint(FileSystem& fs, const std::string& path, const LintOptions& options, LintFindings* findings,
                            LintReport* report) {
  const SymbolicLinks links = options.follow_symlinks ? SymbolicLinks::kFollow : SymbolicLinks::kRefuse;
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> folders, LintFiles::Folders(fs, path, links, findings));
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  Q4_ASSIGN_OR_RETURN(const bool searched, SearchedOnRecord(fs, info.is_directory ? path : DirectoryOf(path)));
  for (const std::string& folder : folders) {
    findings->Enter(folder);
    Q4_RETURN_IF_ERROR(
        LintFolder(fs, folder.empty() ? path : JoinPath(path, folder), options, links, searched, findings, report));
  }
  // A directory counts as bitsandbytes by what its weights are, not by what config.json says: that is one of the
  // questions.
  if (report->quantized != 0) report->format = "bitsandbytes";
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LintReport> LintModel(FileSystem& fs, const std::string& path, const LintOptions& options) {
  LintReport report;
  report.path = path;
  LintFindings findings;
  Q4_ASSIGN_OR_RETURN(const bool is_container, IsQ4Container(fs, path));
  Q4_RETURN_IF_ERROR(is_container ? LintContainer(fs, path, options, &findings, &report)
                                  : LintCheckpoint(fs, path, options, &findings, &report));
  findings.MoveTo(&report);
  return report;
}

std::string LintReportText(const LintReport& report, const TextStyle& style) {
  std::string text;
  const LintRule* last = nullptr;
  for (const LintFinding& finding : report.findings) {
    const LintRule& rule = *finding.rule;
    // Findings of a rule stand together, so its heading and advice are printed once.
    if (finding.rule != last) {
      const Tone tone = rule.is_error() ? Tone::kError : rule.is_info ? Tone::kFaint : Tone::kWarning;
      text += fmt::format("{} {} [Q4-{}]: {}\n    {} {}\n", Paint(style, tone, rule.severity()),
                          Paint(style, Tone::kHeading, rule.name), rule.issue.number, rule.issue.rule, rule.meaning,
                          rule.advice);
      last = finding.rule;
    }
    // `where` is a name out of the checkpoint; `detail` was escaped when it was noted.
    text += "    - " + (finding.where.empty() ? "the checkpoint" : Printable(finding.where));
    if (!finding.detail.empty()) text += ": " + Printable(Shown{finding.detail}, 400);
    text += "\n";
  }
  text += fmt::format("{}: {}, {}{}; {} with {} quantized, {} of payload read\n", Printable(report.path, 4096),
                      Counted(report.errors, "error"), Counted(report.warnings, "warning"),
                      report.infos == 0 ? "" : fmt::format(", {} for information", Grouped(report.infos)),
                      Counted(report.tensors, "tensor"), Grouped(report.quantized), HumanBytes(report.bytes_read));
  return text;
}

std::string LintReportJson(const LintReport& report) {
  Json json = NewDocument("q4inspect-lint");
  json["path"] = report.path;
  json["format"] = report.format;
  json["passed"] = report.passed();
  json["errors"] = report.errors;
  json["warnings"] = report.warnings;
  json["infos"] = report.infos;
  json["tensors"] = report.tensors;
  json["quantized"] = report.quantized;
  json["bytes_read"] = report.bytes_read;
  json["findings"] = Json::array();
  for (const LintFinding& finding : report.findings) {
    const LintRule& rule = *finding.rule;
    json["findings"].push_back({{"rule", rule.name},
                                {"issue", rule.issue.number},
                                {"severity", rule.severity()},
                                {"where", TextOrNull(finding.where)},
                                {"detail", TextOrNull(finding.detail)},
                                {"meaning", rule.meaning},
                                {"advice", rule.advice}});
  }
  return JsonReportText(json);
}

}  // namespace q4
