// In this order: the adapter's files are opened and their tensors put together (formats/adapter); what replaces tensors
// of the model takes their places; factors are put on what then stands there, output heads last, since one that shares
// the embedding's weight comes after it, as modules do in a model; the tensors are sorted by place again.
#include "libconvert/adapter/merge_adapter.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/adapter/adapter_config.h"
#include "formats/adapter/adapter_issues.h"
#include "formats/adapter/adapter_parts.h"
#include "formats/base/counted.h"
#include "formats/base/json_edit.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/adapters.h"
#include "formats/folder/companion_kinds.h"
#include "formats/gguf/gguf.h"
#include "formats/source/source_formats.h"
#include "libconvert/adapter/merge_names.h"
#include "libconvert/adapter/merge_scales.h"

namespace q4 {
namespace {

constexpr std::string_view kTied = "tie_word_embeddings";

// Whether `name` is what a base model is called: a folder, a repository, or its place in a cache of the Hub.
bool IsCalled(const std::string& path, const std::string& name) {
  std::string in_cache = "models--";
  for (const char c : name) in_cache += c == '/' ? std::string("--") : std::string(1, c);
  const auto bare = [](std::string text) {
    while (text.size() > 1 && text.back() == '/') text.pop_back();
    return text;
  };
  return BaseNameOf(bare(path)) == BaseNameOf(bare(name)) || path.find(in_cache) != std::string::npos;
}

class AdapterMerge {
 public:
  AdapterMerge(FileSystem& fs, const Checkpoint& base, const std::string& directory, const OpenOptions& options)
      : fs_(fs),
        base_(base),
        directory_(directory),
        links_(options.follow_symlinks ? SymbolicLinks::kFollow : SymbolicLinks::kRefuse),
        content_(base.content()) {}

  absl::StatusOr<std::unique_ptr<Checkpoint>> Run() {
    Q4_RETURN_IF_ERROR(CheckBase());
    Q4_RETURN_IF_ERROR(OpenFiles());
    Q4_ASSIGN_OR_RETURN(const AdapterParts parts, ReadAdapterParts(config_, tensors_, weights_path_));
    Q4_ASSIGN_OR_RETURN(const std::string config_json, base_.ConfigJson(fs_));
    MergeNames names(base_.tensors(), config_json);
    Q4_ASSIGN_OR_RETURN(const MergeScales scales, MergeScales::Make(config_, parts.modules.size(), config_path_));
    for (const bool heads : {false, true}) {
      for (const auto& [name, by] : parts.replaced) {
        if (IsHeadsWeight(name, names) == heads) Q4_RETURN_IF_ERROR(Replace(name, by, heads, &names));
      }
    }
    for (const bool heads : {false, true}) {
      for (const auto& [name, module] : parts.modules) {
        if (names.IsHead(name) == heads) Q4_RETURN_IF_ERROR(Change(name, module, scales, &names));
      }
    }
    Q4_RETURN_IF_ERROR(Untie(names));
    SortByPlace();
    Tell(parts, names);
    return std::make_unique<Checkpoint>(std::move(content_));
  }

 private:
  absl::Status CheckBase() const {
    if (base_.foreign()) return ForeignStatus(*base_.foreign());
    if (base_.taken_over()) {
      return Fail(kAdapterBase, base_.path(), "--adapter",
                  base_.taken_over()->name + " weights are taken over as they are; convert the 16-bit model with it");
    }
    // Of a container that is quantized again the source's format counts.
    const std::string& names = base_.content().names_format;
    if (std::string_view(names.empty() ? base_.format() : names).starts_with(kGgufFormat)) {
      return Fail(kAdapterBase, base_.path(), "--adapter",
                  "names and the order of rows are llama.cpp's; convert the model that it was made from with it");
    }
    return absl::OkStatus();
  }

  absl::Status OpenFiles() {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(directory_));
    if (!info.is_directory) {
      return Fail(kNoAdapter, directory_, {}, info.exists ? "not a directory" : "no such directory");
    }
    config_path_ = JoinPath(directory_, std::string(kAdapterConfigName));
    Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.ListDirectory(directory_));
    const auto has = [&](std::string_view name) { return std::binary_search(names.begin(), names.end(), name); };
    const std::span<const std::string_view> weight_names = PeftWeightNames();
    const auto weights = std::find_if(weight_names.begin(), weight_names.end(), has);
    if (!has(kAdapterConfigName) || weights == weight_names.end()) {
      return Fail(kNoAdapter, directory_, {},
                  fmt::format("it lacks {}; name the folder that PEFT's save_pretrained() wrote",
                              has(kAdapterConfigName) ? "adapter_model, .safetensors or .bin" : kAdapterConfigName));
    }
    for (const std::string& name : names) {
      if (!IsAdapterFile(name) && KindOfFile(name).fate == FileFate::kCarried) not_read_.push_back(name);
    }
    weights_path_ = JoinPath(directory_, std::string(*weights));
    Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs_, config_path_, limits::kConfigJsonBytes, links_));
    Q4_ASSIGN_OR_RETURN(config_, ParseAdapterConfig(text, config_path_));
    Q4_ASSIGN_OR_RETURN(std::shared_ptr<RandomAccessFile> config_file, fs_.OpenForRead(config_path_, links_));
    Q4_ASSIGN_OR_RETURN(std::shared_ptr<RandomAccessFile> file, fs_.OpenForRead(weights_path_, links_));
    std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), kSniffBytes)));
    Q4_RETURN_IF_ERROR(file->ReadAt(0, head));
    Q4_ASSIGN_OR_RETURN(SourceHeader header, SourceFormatOf(SniffKind(head)).read_header(*file));
    if (header.tensors.empty()) return Fail(kNoAdapter, weights_path_, {}, "it holds no tensors");
    const auto first = static_cast<std::uint32_t>(content_.files.size() + 1);
    for (SourceTensor& tensor : header.tensors) {
      for (SourceExtent& extent : tensor.extents) extent.file += first;
    }
    tensors_ = std::move(header.tensors);
    content_.files.push_back({std::string(kAdapterConfigName), std::move(config_file), {}});
    content_.files.push_back({std::string(*weights), std::move(file), std::move(header.checksums)});
    content_.adapter_files = 2;
    // Beside the model's own files they were taken for those of an adapter that is not applied.
    if (!base_.path().empty() && DirectoryOf(content_.main_file.path) == DirectoryOf(config_path_)) {
      std::erase_if(content_.left_out, [&](const LeftOutFile& left_out) {
        return left_out.name == kAdapterConfigName || left_out.name == *weights;
      });
    }
    return absl::OkStatus();
  }

  absl::Status NoBase(const SourceTensor& asks, const std::string& name) const {
    return Fail(kAdapterNoBase, weights_path_, asks.name,
                fmt::format("'{}' is not among the {} tensors of {}; is it the adapter's base model?", Printable(name),
                            base_.tensors().size(), Printable(base_.path())));
  }

  absl::Status CheckDType(const SourceTensor& base, const SourceTensor& asks) const {
    if (IsQuantizable(base.dtype)) return absl::OkStatus();
    return Fail(kAdapterDType, weights_path_, asks.name,
                fmt::format("'{}' of the model is {}", Printable(base.name), DTypeName(base.dtype)));
  }

  // A tensor of `like`'s name, shape and dtype that is read by `merged`.
  static SourceTensor Merged(const SourceTensor& like, std::shared_ptr<const MergedAdapter> merged) {
    SourceTensor tensor;
    tensor.name = like.name;
    tensor.dtype = like.dtype;
    tensor.shape = like.shape;
    tensor.elems = like.elems;
    tensor.bytes = like.bytes;
    tensor.recipe = SourceRecipe::kMerged;
    for (const auto* part : {&merged->base, &merged->a, &merged->b, &merged->magnitude}) {
      if (*part == nullptr) continue;
      tensor.extents.insert(tensor.extents.end(), (*part)->extents.begin(), (*part)->extents.end());
    }
    tensor.merged = std::move(merged);
    return tensor;
  }

  static bool IsHeadsWeight(std::string_view name, const MergeNames& names) {
    constexpr std::string_view kWeight = ".weight";
    return name.ends_with(kWeight) && names.IsHead(name.substr(0, name.size() - kWeight.size()));
  }

  absl::Status Replace(const std::string& name, const ReplacedTensor& replaced, bool is_head, MergeNames* names) {
    const SourceTensor& by = *replaced.tensor;
    Q4_ASSIGN_OR_RETURN(std::optional<std::size_t> found, names->Find(name, weights_path_, by.name));
    const std::optional<std::size_t> shared = names->embedding();
    const bool is_tied = !found && is_head && shared && names->tied() != std::optional(false);
    // A head of its own for a model that has none; or what head and embedding share, which may be saved with both.
    const bool is_new = is_tied && replaced.is_copy;
    if (is_tied && !replaced.is_copy) {
      found = shared;
      if (content_.tensors[*shared].recipe == SourceRecipe::kMerged) {
        content_.notes.push_back({false, fmt::format("'{}' of the adapter is the weight that it shares with the "
                                                     "embedding, which the adapter brings too, and is not read",
                                                     Printable(by.name))});
        return absl::OkStatus();
      }
    }
    if (!found && !is_new) return NoBase(by, name);
    SourceTensor like = content_.tensors[is_new ? *shared : *found];
    if (by.shape != like.shape) {
      return Fail(kAdapterShape, weights_path_, by.name,
                  fmt::format("got {}, expected {} of '{}'; a model whose vocabulary was enlarged must be enlarged and "
                              "saved before it is converted with the adapter",
                              ShapeString(by.shape), ShapeString(like.shape), Printable(like.name)));
    }
    Q4_RETURN_IF_ERROR(CheckDType(like, by));
    if (!IsQuantizable(by.dtype)) {
      return Fail(kAdapterDType, weights_path_, by.name,
                  GotExpected(std::string(DTypeName(by.dtype)), "F32, F16 or BF16"));
    }
    auto merged = std::make_shared<MergedAdapter>();
    merged->base = std::make_shared<SourceTensor>(by);
    if (is_head && replaced.is_copy) has_own_head_ = true;
    if (is_new) {
      like.name = name;
      content_.tensors.push_back(Merged(like, std::move(merged)));
      return absl::OkStatus();
    }
    if (shared == found && replaced.is_copy) has_own_embedding_ = true;
    content_.tensors[*found] = Merged(like, std::move(merged));
    ++replaced_count_;
    return absl::OkStatus();
  }

  absl::Status Change(const std::string& name, const AdaptedModule& module, const MergeScales& scales,
                      MergeNames* names) {
    const std::uint64_t rank = scales.RankOf(name);
    if (rank != RankOfFactors(module)) {
      return Fail(kAdapterRank, weights_path_, module.a->name,
                  GotExpected(std::to_string(RankOfFactors(module)), std::to_string(rank)) +
                      " by adapter_config.json; the two are not of one adapter");
    }
    const float scale = AdapterScale(config_, scales.AlphaOf(name), rank);
    const std::string weight = name.empty() ? "weight" : name + ".weight";
    Q4_ASSIGN_OR_RETURN(std::optional<std::size_t> found, names->Find(weight, weights_path_, module.a->name));
    if (!found) found = IndexOf(weight);  // a head that came with the adapter
    // A head without a weight of its own shares the embedding's; and so does one that a loader will tie again.
    const std::optional<std::size_t> shared = names->embedding();
    const bool is_head = names->IsHead(name);
    if (!found && is_head && shared && names->tied() != std::optional(false)) {
      found = shared;
      Warn(fmt::format("'{}' shares the weight of '{}': what the adapter adds to it changes both, as in PEFT's merge",
                       Printable(name), Printable(content_.tensors[*shared].name)));
    }
    if (!found) return NoBase(*module.a, weight);
    Q4_RETURN_IF_ERROR(Add(*found, module, scale, name, *names));
    const bool splits_ties = has_own_head_ || has_own_embedding_;
    if (names->tied() == std::optional(true) && shared && !splits_ties && (is_head || found == shared)) {
      // Both stand in the files of a model that ties them: whichever a loader takes is right.
      const std::optional<std::size_t> head = IndexOf(names->usual_head() + ".weight");
      const std::optional<std::size_t> twin = found == shared ? head : shared;
      if (twin && twin != found && content_.tensors[*twin].shape == content_.tensors[*found].shape) {
        Q4_RETURN_IF_ERROR(Add(*twin, module, scale, name, *names));
        Warn(fmt::format("'{}' and '{}' are tied: the adapter changes both", Printable(content_.tensors[*found].name),
                         Printable(content_.tensors[*twin].name)));
      }
    }
    if (module.bias == nullptr) return absl::OkStatus();
    const std::string bias = name.empty() ? "bias" : name + ".bias";
    Q4_ASSIGN_OR_RETURN(const std::optional<std::size_t> at, names->Find(bias, weights_path_, module.bias->name));
    if (!at) return NoBase(*module.bias, bias);
    return AddBias(*at, *module.bias, scale);
  }

  std::optional<std::size_t> IndexOf(const std::string& name) const {
    const auto at = std::find_if(content_.tensors.begin(), content_.tensors.end(),
                                 [&](const SourceTensor& tensor) { return tensor.name == name; });
    if (at == content_.tensors.end()) return std::nullopt;
    return static_cast<std::size_t>(at - content_.tensors.begin());
  }

  absl::Status BadShape(const SourceTensor& part, const SourceTensor& base) const {
    return Fail(kAdapterShape, weights_path_, part.name,
                fmt::format("got {} for '{}' of {}; is it the adapter's base model?", ShapeString(part.shape),
                            Printable(base.name), ShapeString(base.shape)));
  }

  // Whether the factors are of the weight as it is stored, or of the transposed one: Conv1D, and embeddings.
  absl::Status Orient(const SourceTensor& base, const AdaptedModule& module, const std::string& name,
                      const MergeNames& names, MergedAdapter* merged) const {
    const std::uint64_t rank = RankOfFactors(module);
    if (base.shape.size() < 2) return BadShape(*module.a, base);
    Shape straight_a = base.shape, straight_b(base.shape.size(), 1), turned_a{rank, base.shape[0]};
    straight_a[0] = straight_b[1] = rank;
    straight_b[0] = base.shape[0];
    const Shape turned_b{base.shape[1], rank};
    const bool is_matrix = base.shape.size() == 2;
    const bool fits = !module.is_embedding && module.a->shape == straight_a && module.b->shape == straight_b;
    const bool fits_turned = is_matrix && module.a->shape == turned_a && module.b->shape == turned_b;
    if (!fits && !fits_turned) {
      const bool a_fits = module.a->shape == (module.is_embedding ? turned_a : straight_a);
      return BadShape(a_fits ? *module.b : *module.a, base);
    }
    merged->transposed = fits && fits_turned ? IsConv1D(name, names) : fits_turned;
    merged->rank = rank;
    merged->rows = base.shape[0];
    merged->columns = base.elems / std::max<std::uint64_t>(base.shape[0], 1);
    const std::uint64_t outputs = merged->transposed ? merged->columns : merged->rows;
    if (module.magnitude != nullptr && module.magnitude->elems != outputs) return BadShape(*module.magnitude, base);
    return absl::OkStatus();
  }

  // Of a square weight, whose shape tells nothing. PEFT knows the class; its configuration says what the last module
  // was that it saw. The same module elsewhere in the model is not square, and its bias tells.
  bool IsConv1D(const std::string& name, const MergeNames&) const {
    const std::string leaf = name.substr(name.rfind('.') + 1);
    for (const SourceTensor& tensor : base_.tensors()) {
      const std::string& weight = tensor.name;
      if (tensor.shape.size() != 2 || tensor.shape[0] == tensor.shape[1]) continue;
      if (!weight.ends_with("." + leaf + ".weight")) continue;
      const SourceTensor* bias = base_.Find(weight.substr(0, weight.size() - 6) + "bias");
      if (bias == nullptr || bias->shape.size() != 1) continue;
      if (bias->shape[0] == tensor.shape[1]) return true;
      if (bias->shape[0] == tensor.shape[0]) return false;
    }
    return config_.fan_in_fan_out;
  }

  absl::Status Add(std::size_t index, const AdaptedModule& module, float scale, const std::string& name,
                   const MergeNames& names) {
    SourceTensor& base = content_.tensors[index];
    Q4_RETURN_IF_ERROR(CheckDType(base, *module.a));
    auto merged = std::make_shared<MergedAdapter>();
    Q4_RETURN_IF_ERROR(Orient(base, module, name, names, merged.get()));
    merged->base = std::make_shared<SourceTensor>(base);
    merged->a = std::make_shared<SourceTensor>(*module.a);
    merged->b = std::make_shared<SourceTensor>(*module.b);
    merged->scale = scale;
    if (module.magnitude != nullptr) {
      merged->magnitude = std::make_shared<SourceTensor>(*module.magnitude);
      merged->factors = std::make_shared<MergedFactors>();
    }
    base = Merged(*merged->base, merged);
    ++changed_count_;
    return absl::OkStatus();
  }

  absl::Status AddBias(std::size_t index, const SourceTensor& bias, float scale) {
    SourceTensor& base = content_.tensors[index];
    Q4_RETURN_IF_ERROR(CheckDType(base, bias));
    if (bias.shape != base.shape) return BadShape(bias, base);
    auto merged = std::make_shared<MergedAdapter>();
    merged->base = std::make_shared<SourceTensor>(base);
    merged->a = std::make_shared<SourceTensor>(bias);
    merged->rank = 1;
    merged->columns = bias.elems;
    merged->scale = scale;
    base = Merged(*merged->base, merged);
    ++changed_count_;
    return absl::OkStatus();
  }

  // A head or an embedding that was trained as a copy is no longer the other's, and no loader may tie them again.
  absl::Status Untie(const MergeNames& names) {
    if (!has_own_head_ && !has_own_embedding_) return absl::OkStatus();
    const std::string head = names.usual_head() + ".weight";
    if (!has_own_head_) {
      // Only the embedding: the head keeps what both had, unless the two were trained as one.
      if (config_.keeps_ties || names.tied() != std::optional(true) || !names.embedding()) return absl::OkStatus();
      if (!IndexOf(head)) {
        SourceTensor own = base_.tensors()[*names.embedding()];
        own.name = head;
        content_.tensors.push_back(std::move(own));
      }
    } else if (names.tied() == std::optional(false) || (!names.tied() && base_.Find(head) != nullptr)) {
      return absl::OkStatus();
    }
    for (CompanionFile& companion : content_.companions) {
      if (companion.name != "config.json") continue;
      Q4_ASSIGN_OR_RETURN(const std::string text, base_.ConfigJson(fs_));
      const std::array<JsonEdit, 1> edits = {{{std::string(kTied), Json(false)}}};
      Q4_ASSIGN_OR_RETURN(std::string edited, EditJson(text, companion.path, edits));
      companion.size = edited.size();
      companion.range = CompanionRange{std::move(edited), 0, 0};
    }
    Warn(
        fmt::format("the adapter brings its own {}: '{}' is a tensor of its own, and config.json says "
                    "tie_word_embeddings false",
                    has_own_head_ ? "output head" : "embedding", Printable(head)));
    return absl::OkStatus();
  }

  void SortByPlace() {
    const auto place = [](const SourceTensor& tensor) { return std::pair(tensor.place().file, tensor.place().offset); };
    std::stable_sort(content_.tensors.begin(), content_.tensors.end(),
                     [&](const SourceTensor& a, const SourceTensor& b) { return place(a) < place(b); });
  }

  void Warn(std::string text) { content_.notes.push_back({true, std::move(text)}); }

  void Tell(const AdapterParts& parts, const MergeNames& names) {
    std::string text = fmt::format("an adapter is merged: {} changed, {} replaced", Counted(changed_count_, "tensor"),
                                   replaced_count_);
    if (!names.changed().empty()) text += fmt::format("; its names were met {}", names.changed());
    content_.notes.push_back({false, std::move(text)});
    for (const SourceTensor* tensor : parts.unused) {
      content_.notes.push_back({false, fmt::format("'{}' of the adapter is a copy of the model's own, and is not read",
                                                   Printable(tensor->name))});
    }
    if (!config_.base_model.empty() && !IsCalled(base_.path(), config_.base_model) &&
        !IsCalled(DirectoryOf(content_.main_file.path), config_.base_model)) {
      content_.notes.push_back(
          {false, fmt::format("the adapter says that its base model is '{}'", Printable(config_.base_model))});
    }
    if (!not_read_.empty()) {
      content_.notes.push_back(
          {false, fmt::format("the adapter's folder also holds '{}'{}, which is not read: the model's own files are "
                              "carried (--add-file puts others into a container)",
                              Printable(not_read_.front()),
                              not_read_.size() > 1 ? fmt::format(" and {} more", not_read_.size() - 1) : "")});
    }
    std::move(config_.notes.begin(), config_.notes.end(), std::back_inserter(content_.notes));
  }

  FileSystem& fs_;
  const Checkpoint& base_;
  const std::string& directory_;
  const SymbolicLinks links_;
  CheckpointContent content_;
  std::string config_path_, weights_path_;
  AdapterConfig config_;
  std::vector<SourceTensor> tensors_;                      // of the adapter
  std::vector<std::string> not_read_;                      // what else its folder holds, of what a model's is carried
  bool has_own_head_ = false, has_own_embedding_ = false;  // replaced whole
  std::uint64_t changed_count_ = 0, replaced_count_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> MergeAdapter(FileSystem& fs, const Checkpoint& base,
                                                         const std::string& directory, const OpenOptions& options) {
  return AdapterMerge(fs, base, directory, options).Run();
}

}  // namespace q4
