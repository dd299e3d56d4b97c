// Follows what transformers 5.23 does on loading and saving: which modules it replaces, which it leaves alone, and the
// texts it writes, down to their order and spacing. tests/libconvert/export/export_test.cc and
// tests/cli/export_roundtrip.sh compare with files that it saved.
//
// First the tensors (PlanTargets): what each weight becomes is the table of formats/bnb/layout.h; here each row of it
// is matched with what the container stores. Then the warnings about known defects of readers. config.json is
// bnb_config.cc's. docs/export_bnb.md is the manual.
#include "libconvert/export/bnb.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/text.h"
#include "formats/bnb/layout.h"
#include "libconvert/export/bnb_config.h"
#include "libconvert/export/experts.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/export/unloadable.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/policy/diffusers.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

// A table is the library's, or what the weights that were taken over came with.
std::vector<std::uint8_t> QuantMapBytes(const Q4Tensor& tensor, const BnbRecord& record) {
  return IsTakenOver(tensor) ? record.MapOf(tensor.scheme) : BnbQuantMapBytes(tensor.scheme);
}

std::vector<std::uint8_t> NestedMapBytes(const Q4Tensor& tensor, const BnbRecord& record) {
  return IsTakenOver(tensor) ? record.nested_map : BnbNestedMapBytes();
}

std::string QuantStateText(const Q4Tensor& tensor, const BnbRecord& record) {
  const BnbRecord::Weight* const weight = record.Find(tensor.name);
  return weight != nullptr && weight->quant_state ? *weight->quant_state : BnbQuantStateJson(tensor);
}

// The text as a U8 tensor: that is how the library saves what is no tensor.
std::vector<std::uint8_t> QuantStateBytes(const Q4Tensor& tensor, const BnbRecord& record) {
  const std::string json = QuantStateText(tensor, record);
  return {json.begin(), json.end()};
}

// What the codes of `tensor` pose as.
DType StorageOf(const Q4Tensor& tensor, const ExportOptions& options, const BnbRecord& record) {
  if (options.quant_storage || !IsTakenOver(tensor)) return options.quant_storage.value_or(DType::kU8);
  const BnbRecord::Weight* const weight = record.Find(tensor.name);
  return weight != nullptr ? weight->storage : record.storage;
}

// What makes a part that the container does not store; nullptr for one that it does.
MakeBytes MakerOf(BnbPart part) {
  switch (part) {
    case BnbPart::kQuantMap:
      return QuantMapBytes;
    case BnbPart::kNestedQuantMap:
      return NestedMapBytes;
    case BnbPart::kQuantState:
      return QuantStateBytes;
    case BnbPart::kCodes:
    case BnbPart::kAbsmax:
    case BnbPart::kNestedAbsmax:
      break;
  }
  return nullptr;
}

// Where the container stores a part. bitsandbytes' "absmax" is whatever its scales are stored as: fp32, or 8-bit codes
// when nested.
Q4Part ContainerPartOf(BnbPart part, bool nested) {
  if (part == BnbPart::kCodes) return Q4Part::kCodes;
  if (part == BnbPart::kNestedAbsmax) return Q4Part::kScales2;
  return nested ? Q4Part::kScaleCodes : Q4Part::kScales;
}

// Counts what is wrong and remembers the first tensor that has it, so that a model with a thousand gets one line.
class TensorTally {
 public:
  void Add(const Q4Tensor& tensor) {
    if (count_++ == 0) first_ = Printable(tensor.name);
  }
  // "<message> (12 tensors, the first is 'x')"
  void Report(std::string_view message, std::vector<std::string>* lines) const {
    if (count_ == 1) lines->push_back(fmt::format("{} (tensor '{}')", message, first_));
    if (count_ > 1) lines->push_back(fmt::format("{} ({} tensors, the first is '{}')", message, count_, first_));
  }

 private:
  std::uint64_t count_ = 0;
  std::string first_;
};

// Targets in the order of the container, a weight's own in that of BnbTensorsOf(). All targets of a weight have one
// group: a reader looks for them in one file.
absl::Status PlanTargets(const ExportOptions& options, ExportPlan* plan) {
  for (std::uint32_t source = 0; source < plan->sources.size(); ++source) {
    Q4Tensor tensor = *plan->sources[source].tensor;
    // diffusers changes names on disk itself, but not those of a quantized weight's parts.
    if (plan->is_component) tensor.name = DiffusersTensorName(tensor.name);
    if (!tensor.quantized()) {
      AddStoredTarget(source, Q4Part::kData,
                      {tensor.name, tensor.dtype, tensor.shape, tensor.elems * ItemSize(tensor.dtype), source}, plan);
      continue;
    }
    if (!plan->sources[source].stays_quantized) {
      AddConvertedTarget(
          source, {tensor.name, tensor.dtype, tensor.shape, tensor.elems * ItemSize(tensor.dtype), source}, plan);
      continue;
    }
    // Its name is part of a key and of two JSON texts, which would be valid with an empty one.
    if (BnbQuantTypeName(tensor.scheme).empty()) {
      return Fail(kExportScheme, {}, tensor.name, fmt::format("scheme {}", static_cast<int>(tensor.scheme)));
    }
    const Q4Tensor& stored = *plan->sources[source].tensor;
    const DType storage = StorageOf(stored, options, plan->bnb);
    if (!BnbStorageFits(tensor.elems, storage)) {
      return Fail(
          kExportStorage, {}, tensor.name,
          fmt::format("{} code bytes, {} bytes an item", tensor.elems / 2 + tensor.elems % 2, ItemSize(storage)));
    }
    for (BnbTensor& part : BnbTensorsOf(tensor, storage)) {
      const MakeBytes make_bytes = MakerOf(part.part);
      if (part.part == BnbPart::kQuantState) {
        part.bytes = QuantStateText(stored, plan->bnb).size();
        part.shape = {part.bytes};
      }
      ExportTensor target{std::move(part.key), part.dtype, std::move(part.shape), part.bytes, source};
      // Codes and scales are the container's bytes. That is what makes the export exact: nothing is quantized a second
      // time.
      if (make_bytes == nullptr) {
        AddStoredTarget(source, ContainerPartOf(part.part, tensor.nested), std::move(target), plan);
      } else {
        AddBytesTarget(source, make_bytes, std::move(target), plan);
      }
    }
  }
  return absl::OkStatus();
}

// Weights that were taken over lie in the files that they came in, as long as nothing else is asked for. Of a part of
// them, and of some that are dequantized, there are fewer targets than the record speaks of.
void PutIntoFilesOfSource(const ExportOptions& options, ExportPlan* plan) {
  std::uint64_t tensors = 0;
  for (const BnbRecord::Run& run : plan->bnb.files) tensors += run.tensors;
  if (options.shard_bytes != 0 || tensors != plan->targets.size()) return;
  plan->files.reserve(plan->targets.size());
  for (const BnbRecord::Run& run : plan->bnb.files) plan->files.insert(plan->files.end(), run.tensors, run.file);
}

// No tensor may pass for a part of a weight in 4 bits: "w.absmax", or a second "w.quant_state.bitsandbytes__fp4" beside
// the weight "w". Any beginning counts, as what loaders look for is not the same in all versions.
absl::Status CheckNoPartOfWeight(const ExportPlan& plan) {
  const auto name_of = [&plan](const ExportSource& source) {
    return plan.is_component ? DiffusersTensorName(source.tensor->name) : source.tensor->name;
  };
  std::set<std::string> weights;
  for (const ExportSource& source : plan.sources) {
    if (source.stays_quantized) weights.insert(name_of(source));
  }
  for (const ExportSource& source : plan.sources) {
    const std::string name = name_of(source);
    for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      const std::string weight = name.substr(0, dot);
      if (!weights.contains(weight)) continue;
      // Of exactly the same name: that is told when the files are laid out.
      const auto is_it = [&name](const ExportTensor& target) { return target.name == name; };
      if (std::count_if(plan.targets.begin(), plan.targets.end(), is_it) > 1) return absl::OkStatus();
      return Fail(kExportPartOfWeight, {}, name, "of '" + weight + "'");
    }
  }
  return absl::OkStatus();
}

// Defects of current readers that this export would meet; a line each, fit for a terminal.
// `any_in_4bit`: a configuration says so.
std::vector<std::string> BnbWarnings(const ExportPlan& plan, const std::vector<ModelPart>& parts, bool any_in_4bit) {
  TensorTally huge, small_blocks, ragged, single, experts, unloadable, outside;
  for (const ExportSource& source : plan.sources) {
    const Q4Tensor& tensor = *source.tensor;
    if (source.outside_model && tensor.quantized()) outside.Add(tensor);
    if (!source.stays_quantized) continue;
    // Conditions are those of the table in docs/export_bnb.md.
    if (tensor.elems >= std::uint64_t{1} << 31) huge.Add(tensor);
    if (tensor.block_size == 32) small_blocks.Add(tensor);
    if (!tensor.shape.empty() && tensor.shape.back() % tensor.block_size != 0) ragged.Add(tensor);
    if (source.fused_expert) experts.Add(tensor);
    if (!source.no_linear_layer.empty()) unloadable.Add(tensor);
  }
  // Of a weight's targets only the codes have the weight's own name. With a first dimension of 1 they look like a row
  // vector.
  for (const ExportTensor& target : plan.targets) {
    const ExportSource& source = plan.sources[target.group];
    const Q4Tensor& tensor = *source.tensor;
    if (source.stays_quantized && target.name == tensor.name && target.shape.front() == 1) single.Add(tensor);
  }
  std::vector<std::string> lines;
  if (parts.empty()) {
    lines.emplace_back("no folder of the model is one of transformers, so nothing is written in 4 bits");
  } else if (!any_in_4bit) {
    lines.emplace_back("no weight is in 4 bits, so config.json does not say so: this is a plain checkpoint");
  } else if (parts.front().config_json.empty()) {
    lines.emplace_back("the container holds no config.json, so the one written names no architecture to load");
  }
  huge.Report("bitsandbytes up to 0.50 counts elements in 32 bits on CUDA: 2^31 elements or more decode wrongly",
              &lines);
  small_blocks.Report("block size 32 needs bitsandbytes 0.50 or newer on CUDA", &lines);
  ragged.Report("bitsandbytes on CPUs with AVX-512 reads wrong scales when rows are no multiple of the block size",
                &lines);
  single.Report("bitsandbytes transposes packed codes whose first dimension is 1", &lines);
  outside.Report("weights outside the transformers model are written dequantized, for nothing loads them in 4 bits",
                 &lines);
  experts.Report("transformers cannot load experts in 4 bits with from_pretrained", &lines);
  unloadable.Report("transformers cannot load a 4-bit weight that is no linear layer's with from_pretrained", &lines);
  return lines;
}

// Of several models the report has the settings of the first, and all modules to skip, with their folders.
void AddConfig(BnbConfig config, const ModelPart& part, std::optional<BnbConfig>* all) {
  std::optional<std::vector<std::string>> skip = std::move(config.skip_modules);
  if (!*all) all->emplace(std::move(config)).skip_modules.reset();
  if (!skip) return;
  std::optional<std::vector<std::string>>& modules = (*all)->skip_modules;
  if (!modules) modules.emplace();
  for (const std::string& entry : *skip) modules->push_back(part.In(entry));
}

// The same facts twice: a line for people, members for the JSON report. No `config`: none says anything of 4 bits.
void Describe(std::optional<BnbConfig> config, const ExportOptions& options, const ExportPlan& plan,
              ExportReport* report) {
  report->summary = "nothing in 4 bits";
  ExportSetting type{"quant_type", {}}, nesting{"double_quant", {}}, skip{"skip_modules", {}};
  if (config) {
    report->summary =
        fmt::format("bitsandbytes {}, double quantization {}, modules to skip: {}", config->quant_type,
                    config->double_quant ? "on" : "off",
                    config->skip_modules ? fmt::to_string(config->skip_modules->size()) : "the library's defaults");
    type.value = std::move(config->quant_type);
    nesting.value = config->double_quant;
    if (config->skip_modules) skip.value = *std::move(config->skip_modules);
  }
  for (ExportSetting* setting : {&type, &nesting, &skip}) report->settings.push_back(std::move(*setting));
  // What --experts decided about, and how; null for a model without such tensors.
  ExportSetting& experts = report->settings.emplace_back(ExportSetting{"experts", {}});
  const auto count = static_cast<std::uint64_t>(
      std::count_if(plan.sources.begin(), plan.sources.end(),
                    [](const ExportSource& source) { return source.fused_expert && source.tensor->quantized(); }));
  if (count != 0) {
    experts.value = std::string(ExpertWeightsName(options.experts));
    report->summary += fmt::format(", {} expert tensors {}", count,
                                   options.experts == ExpertWeights::kDequantize ? "dequantized" : "in 4 bits");
  }
  report->settings.push_back({"expert_tensors", count});
  // The same of --unloadable.
  ExportSetting& unloadable = report->settings.emplace_back(ExportSetting{"unloadable", {}});
  const auto others = static_cast<std::uint64_t>(std::count_if(
      plan.sources.begin(), plan.sources.end(),
      [](const ExportSource& source) { return !source.no_linear_layer.empty() && source.tensor->quantized(); }));
  if (others != 0) {
    unloadable.value = std::string(ExpertWeightsName(options.unloadable));
    report->summary += fmt::format(", {} of no linear layer {}", Counted(others, "tensor"),
                                   options.unloadable == ExpertWeights::kDequantize ? "dequantized" : "in 4 bits");
  }
  report->settings.push_back({"unloadable_tensors", others});
}

class Bnb final : public Exporter {
 public:
  absl::Status Check(const ExportOptions& options, bool single_file) const override {
    if (options.dtype) return Fail(kExportFlag, {}, "--dtype", "a bnb export is not dequantized");
    if (single_file) {
      return Fail(kExportFlag, {}, "--to bnb", "the output must be a directory, not a .safetensors file");
    }
    return absl::OkStatus();
  }

  absl::Status Plan(const ExportOptions& options, ExportPlan* plan) const override {
    Q4_RETURN_IF_ERROR(SettleExperts(options.experts, plan));
    Q4_RETURN_IF_ERROR(SettleUnloadable(options.unloadable, plan));
    Q4_RETURN_IF_ERROR(PlanTargets(options, plan));
    PutIntoFilesOfSource(options, plan);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<SmallFile>> SmallFiles(const std::vector<ModelPart>& parts, const ExportOptions& options,
                                                    const ExportPlan& plan, ExportReport* report) const override {
    Q4_RETURN_IF_ERROR(CheckNoPartOfWeight(plan));
    std::vector<SmallFile> files;
    std::optional<BnbConfig> all;
    std::vector<std::string> warnings;
    std::unordered_set<const Q4Tensor*> dequantized;
    for (const ExportSource& source : plan.sources) {
      if (!source.stays_quantized) dequantized.insert(source.tensor);
    }
    for (const ModelPart& part : parts) {
      // What is kept whole, or written at 16 bits, is a plain model. Tensors that --tensor leaves out count.
      const bool in_4bit = std::any_of(part.tensors.begin(), part.tensors.end(), [&](const ModelPart::Tensor& at) {
        return at.tensor->quantized() && !dequantized.contains(at.tensor);
      });
      if (!in_4bit) continue;
      Q4_ASSIGN_OR_RETURN(std::optional<KeptBnbConfig> kept, KeepBnbConfig(part, options));
      if (kept) {
        files.push_back({part.In("config.json"), std::move(kept->text)});
        AddConfig(std::move(kept->config), part, &all);
        continue;
      }
      Q4_ASSIGN_OR_RETURN(BnbConfig config, MakeBnbConfig(part, options));
      Q4_ASSIGN_OR_RETURN(std::string text, BnbConfigText(part, config, options));
      files.push_back({part.In("config.json"), std::move(text)});
      warnings.insert(warnings.end(), config.warnings.begin(), config.warnings.end());
      AddConfig(std::move(config), part, &all);
    }
    report->warnings = BnbWarnings(plan, parts, all.has_value());
    report->warnings.insert(report->warnings.end(), warnings.begin(), warnings.end());
    Describe(std::move(all), options, plan, report);
    return files;
  }
};

}  // namespace

const Exporter& BnbExporter() {
  static const Bnb kExporter;
  return kExporter;
}

}  // namespace q4
