// Tensors and files get their places from DecodedFile; the rest is what a reader of checkpoints says of them.
#include "libconvert/requantize/container_source.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/json_edit.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/model/model_configs.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/requantize/decoded_file.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

constexpr char kConfigFile[] = "config.json";

const Json* FirstDocument(const Json& document) {
  const Json* parent = FindMember(document, "parent");
  return parent != nullptr ? FindMember(*parent, "first") : nullptr;
}

SourceTensor Described(const Q4Tensor& tensor, std::uint32_t file, const DecodedFile::Region& region) {
  SourceTensor source;
  source.name = tensor.name;
  source.dtype = tensor.dtype;
  source.recipe = SourceRecipe::kComputed;
  source.shape = tensor.shape;
  source.elems = tensor.elems;
  source.bytes = region.bytes;
  source.extents.push_back({file, region.begin, region.bytes});
  return source;
}

class ContainerSource {
 public:
  ContainerSource(FileSystem& fs, std::shared_ptr<const Q4Model> model) : fs_(fs), model_(std::move(model)) {}

  absl::StatusOr<std::unique_ptr<Checkpoint>> Open() {
    Q4_ASSIGN_OR_RETURN(const ModelConfigs configs, ReadModelConfigs(*model_));
    Q4_ASSIGN_OR_RETURN(const ProvenanceView provenance, ReadProvenance(*model_));
    content_.path = model_->path();
    content_.format = model_->shards().size() == 1 ? "q4" : "q4-sharded";
    content_.names_format = configs.format;
    content_.module_folders = configs.folders;
    const Json* first = FirstDocument(provenance.document);
    content_.parent = Json::object();
    content_.parent["first"] = first != nullptr ? *first : provenance.document;
    content_.parent["root"] = HexOf(model_->root());
    for (std::size_t shard = 0; shard < model_->shards().size(); ++shard) Q4_RETURN_IF_ERROR(AddShard(shard));
    std::stable_sort(content_.tensors.begin(), content_.tensors.end(),
                     [](const SourceTensor& a, const SourceTensor& b) {
                       return std::pair(a.place().file, a.place().offset) < std::pair(b.place().file, b.place().offset);
                     });
    for (const std::string& scheme : schemes_) content_.four_bits += (content_.four_bits.empty() ? "" : ", ") + scheme;
    // The list of several, which the root is made of, is an index; a single one is itself.
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(model_->path()));
    content_.main_file = {model_->path(), info.identity, model_->shards().size() != 1, false};
    Q4_RETURN_IF_ERROR(AddFiles(configs));
    const std::uint64_t missing = model_->shards().front()->index().shard_count - model_->shards().size();
    if (missing != 0) {
      content_.left_out.push_back({Counted(missing, "part") + " of the model", "not there", /*warning=*/true});
    }
    content_.notes.push_back({false, Counted(quantized_, "tensor of the container is", "tensors of the container are") +
                                         " decoded to be quantized again"});
    return std::make_unique<Checkpoint>(std::move(content_));
  }

 private:
  absl::Status AddShard(std::size_t shard) {
    Q4_ASSIGN_OR_RETURN(const std::shared_ptr<DecodedFile> file, DecodedFile::Open(fs_, model_, shard));
    const std::vector<Q4Tensor>& tensors = model_->shards()[shard]->index().tensors;
    const auto number = static_cast<std::uint32_t>(shard);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      content_.tensors.push_back(Described(tensors[i], number, file->tensor(i)));
      if (!tensors[i].quantized()) continue;
      ++quantized_;
      taken_over_ |= IsTakenOver(tensors[i]);
      std::string name(Q4SchemeName(tensors[i].scheme));
      for (char& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
      schemes_.insert(std::move(name));
    }
    content_.read_bytes = std::max(content_.read_bytes, file->MemoryOfRead());
    content_.files.push_back({BaseNameOf(file->path()), file});
    if (shard == 0) first_ = file;
    return absl::OkStatus();
  }

  // They lie in the first shard. What is parsed is held as text; the rest is read when it is carried.
  absl::Status AddFiles(const ModelConfigs& configs) {
    const std::vector<Q4EmbeddedFile>& files = model_->shards().front()->index().files;
    for (std::size_t i = 0; i < files.size(); ++i) {
      CompanionFile companion;
      companion.name = files[i].name;
      companion.path = first_->path();
      companion.size = files[i].raw_bytes;
      companion.identity = first_->identity();
      companion.version = first_->version();
      companion.range = CompanionRange{{}, first_->embedded(i).begin, files[i].raw_bytes, first_};
      std::string text;
      if (companion.name == kConfigFile) text = configs.root;
      for (std::size_t k = 0; k < configs.folders.size(); ++k) {
        if (companion.name == configs.folders[k] + "/" + kConfigFile) text = configs.texts[k];
      }
      if (!text.empty()) {
        if (companion.name == kConfigFile && taken_over_) Q4_RETURN_IF_ERROR(DropSection(&text));
        companion.size = text.size();
        companion.range = CompanionRange{std::move(text), 0, 0, first_};
      }
      content_.companions.push_back(std::move(companion));
    }
    return absl::OkStatus();
  }

  absl::Status DropSection(std::string* text) {
    Q4_ASSIGN_OR_RETURN(const Json config, ParseModelJson(*text, kConfigFile));
    if (FindMember(config, "quantization_config") == nullptr) return absl::OkStatus();
    const JsonEdit edit{"quantization_config", std::nullopt};
    Q4_ASSIGN_OR_RETURN(*text, EditJson(*text, kConfigFile, {&edit, 1}));
    content_.left_out.push_back({std::string(kConfigFile) + ": " + edit.key,
                                 "it says how the weights were quantized, which are read dequantized", false});
    return absl::OkStatus();
  }

  FileSystem& fs_;
  const std::shared_ptr<const Q4Model> model_;
  CheckpointContent content_;
  std::shared_ptr<const DecodedFile> first_;
  std::set<std::string> schemes_;
  std::uint64_t quantized_ = 0;
  bool taken_over_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenContainerSource(FileSystem& fs, std::shared_ptr<const Q4Model> model) {
  return ContainerSource(fs, std::move(model)).Open();
}

absl::StatusOr<bool> IsRequantized(const Q4Model& model) {
  Q4_ASSIGN_OR_RETURN(const ProvenanceView provenance, ReadProvenance(model));
  return FirstDocument(provenance.document) != nullptr;
}

}  // namespace q4
