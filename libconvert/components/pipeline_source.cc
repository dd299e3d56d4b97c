// Two walks: the components that model_index.json names, then what else lies at the top. Names from the index are
// identifiers, and everything else that is opened was listed by the file system.
#include "libconvert/components/pipeline_source.h"

#include <algorithm>
#include <set>
#include <utility>

#include "fmt/format.h"
#include "fmt/ranges.h"
#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/companion_kinds.h"
#include "formats/folder/pipeline_issues.h"
#include "formats/names/hub_cache.h"
#include "formats/names/portable_names.h"
#include "formats/source/checkpoint.h"
#include "formats/source/pipeline.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/components/seal.h"

namespace q4 {
namespace {

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kExportRecord = "q4_export.json";

bool ContainsText(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// What is quantized unless the user chooses: the denoiser, and models of text. Everything else (VAEs, image encoders,
// safety checkers, control nets) is small, and sensitive.
bool IsQuantizedByDefault(const PipelineMember& member) {
  const std::string_view name = member.name, type = member.class_name;
  if (member.library == "diffusers") {
    if (type.starts_with("Autoencoder") || type.starts_with("VQ") || ContainsText(type, "ControlNet")) return false;
    return name.starts_with("transformer") || name.starts_with("unet") || ContainsText(type, "Transformer") ||
           ContainsText(type, "UNet");
  }
  if (member.library != "transformers" || ContainsText(type, "Vision")) return false;
  return name.starts_with("text_encoder") || ContainsText(type, "TextModel") || ContainsText(type, "EncoderModel") ||
         ContainsText(type, "ForCausalLM") || ContainsText(type, "ForConditionalGeneration");
}

class PipelineReader {
 public:
  PipelineReader(FileSystem& fs, const std::string& directory, const OpenOptions& options)
      : fs_(fs), options_(options), links_(options.follow_symlinks ? SymbolicLinks::kFollow : SymbolicLinks::kRefuse) {
    source_.directory = directory;
  }

  absl::StatusOr<PipelineSource> Read(const std::optional<std::vector<std::string>>& chosen, bool inspecting) {
    Q4_ASSIGN_OR_RETURN(const std::string sealed, SealedPipelineFolder(fs_, source_.directory));
    if (!sealed.empty()) return Fail(kPipelineIsConverted, source_.directory, kPipelineSealName);
    const std::string path = JoinPath(source_.directory, kPipelineIndexName);
    Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs_, path, limits::kConfigJsonBytes, links_));
    Q4_ASSIGN_OR_RETURN(index_, ParsePipelineIndex(text, path));
    source_.class_name = index_.class_name;
    for (const PipelineMember& member : index_.members) Q4_RETURN_IF_ERROR(OpenComponent(member));
    Q4_RETURN_IF_ERROR(Choose(chosen, inspecting));
    for (const PipelineComponent& component : source_.components) Q4_RETURN_IF_ERROR(AddComponent(component));
    Q4_RETURN_IF_ERROR(AddTop());
    NoteCode();
    return Finish();
  }

 private:
  std::string FolderOf(const std::string& name) const { return JoinPath(source_.directory, name); }

  // A file FOLDER/LIBRARY.py or LIBRARY.py is what diffusers would take the class from.
  absl::StatusOr<bool> IsCode(const std::string& folder, const std::string& module) {
    if (module.empty() || module.find('/') != std::string::npos) return false;
    for (const std::string& place : {folder, source_.directory}) {
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(JoinPath(place, module + ".py")));
      if (info.exists) return true;
    }
    return false;
  }

  absl::Status OpenComponent(const PipelineMember& member) {
    const std::string folder = FolderOf(member.name);
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(folder));
    if (info.is_symlink) Q4_RETURN_IF_ERROR(MayFollow(fs_, folder, links_));
    if (!info.is_directory) {
      return Fail(kComponentMissing, JoinPath(source_.directory, kPipelineIndexName), member.name,
                  info.exists ? "got a file" : "not downloaded?");
    }
    PipelineComponent component;
    static_cast<PipelineMember&>(component) = member;
    Q4_ASSIGN_OR_RETURN(const bool weights, HoldsWeights(fs_, folder));
    if (weights) {
      Q4_ASSIGN_OR_RETURN(component.checkpoint, Open(folder, /*take_over=*/false));
    }
    Q4_ASSIGN_OR_RETURN(const bool code, IsCode(folder, member.library));
    if (code) of_code_.insert(member.name);
    source_.components.push_back(std::move(component));
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& folder, bool take_over) {
    OpenOptions options = options_;
    options.take_over = take_over;
    return OpenCheckpoint(fs_, folder, options);
  }

  absl::Status Choose(const std::optional<std::vector<std::string>>& chosen, bool inspecting) {
    std::vector<std::string> with_weights;
    for (const PipelineComponent& component : source_.components) {
      if (component.checkpoint != nullptr) with_weights.push_back(component.name);
    }
    const std::string choice = fmt::format("components with weights: {}", fmt::join(with_weights, ", "));
    for (const std::string& name : chosen.value_or(std::vector<std::string>())) {
      if (std::find(with_weights.begin(), with_weights.end(), name) == with_weights.end()) {
        return Fail(kNoSuchComponent, source_.directory, name, choice);
      }
      if (of_code_.contains(name)) return Fail(kComponentOfCode, source_.directory, name);
    }
    bool any = false;
    for (PipelineComponent& component : source_.components) {
      if (component.checkpoint == nullptr) continue;
      const bool by_default = IsQuantizedByDefault(component) && !of_code_.contains(component.name);
      component.quantized =
          chosen ? std::find(chosen->begin(), chosen->end(), component.name) != chosen->end() : by_default;
      any |= component.quantized;
      if (component.quantized && options_.take_over && component.checkpoint->foreign()) {
        Q4_ASSIGN_OR_RETURN(component.checkpoint, Open(FolderOf(component.name), /*take_over=*/true));
      }
    }
    return any || inspecting ? absl::OkStatus() : Fail(kNothingToConvert, source_.directory, {}, choice);
  }

  absl::Status AddFile(CompanionFile file) {
    if (const std::string_view problem = FilePathProblem(file.name); !problem.empty()) {
      left_out_.push_back(
          {Printable(file.name), "a name that cannot be written everywhere: " + std::string(problem), true});
      return absl::OkStatus();
    }
    if (const std::string problem = names_.Add(file.name); !problem.empty()) {
      left_out_.push_back({Printable(file.name), "a name that cannot be written everywhere: " + problem, true});
      return absl::OkStatus();
    }
    if (source_.files.size() == limits::kPipelineFiles) {
      return Fail(kTooManyComponents, source_.directory, "files", fmt::format("at most {}", limits::kPipelineFiles));
    }
    source_.files.push_back(std::move(file));
    return absl::OkStatus();
  }

  // A file of the folder as it is. `name`: relative to the pipeline.
  absl::Status AddWhole(const std::string& name, const std::string& path) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(path));
    if (info.is_symlink) Q4_RETURN_IF_ERROR(MayFollow(fs_, path, links_));
    if (!info.is_regular) return Fail(kNotARegularFile, path, {}, info.is_symlink ? "the link leads nowhere" : "");
    return AddFile({name, path, info.size, info.identity, info.version});
  }

  void AddLeftOut(const std::string& component, const std::vector<LeftOutFile>& files) {
    for (LeftOutFile file : files) {
      file.name = component + "/" + file.name;
      left_out_.push_back(std::move(file));
    }
  }

  absl::Status AddComponent(const PipelineComponent& component) {
    const std::string prefix = component.name + "/";
    if (component.checkpoint == nullptr) return AddFolder(component);
    AddLeftOut(component.name, component.checkpoint->left_out());
    if (component.quantized) {
      for (CompanionFile file : component.checkpoint->companions()) {
        if (file.name != kConfig) continue;
        file.name = prefix + file.name;
        Q4_RETURN_IF_ERROR(AddFile(std::move(file)));
      }
      return absl::OkStatus();
    }
    if (IsQuantizedByDefault(component) && of_code_.contains(component.name)) {
      source_.notes.push_back(
          {true, fmt::format("'{}' is carried as it is: its class is code of the pipeline's own", component.name)});
    }
    const MainFile& main = component.checkpoint->main_file();
    std::set<std::string> added;
    const auto add = [&](const std::string& name, const std::string& path) {
      return added.insert(name).second ? AddWhole(prefix + name, path) : absl::OkStatus();
    };
    if (main.is_index) Q4_RETURN_IF_ERROR(add(BaseNameOf(main.path), main.path));
    for (const CheckpointFile& file : component.checkpoint->files()) {
      Q4_RETURN_IF_ERROR(add(file.name, JoinPath(FolderOf(component.name), file.name)));
    }
    // As they lie in the folder, for the weights go along as they are stored. What lies in the weights does so already.
    for (const CompanionFile& file : component.checkpoint->companions()) {
      const std::string path = JoinPath(FolderOf(component.name), file.name);
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(path));
      if (info.exists || info.is_symlink) Q4_RETURN_IF_ERROR(add(file.name, path));
    }
    return absl::OkStatus();
  }

  // A component without weights: tokenizer, scheduler, processor.
  absl::Status AddFolder(const PipelineComponent& component) {
    // No such file lies there; what counts is its folder.
    const MainFile main{JoinPath(FolderOf(component.name), kPipelineSealName), {}, false, true};
    Q4_ASSIGN_OR_RETURN(const ModelFolder folder, ClassifyFolder(fs_, main, {}, links_));
    AddLeftOut(component.name, folder.left_out);
    source_.notes.insert(source_.notes.end(), folder.notes.begin(), folder.notes.end());
    for (CompanionFile file : folder.companions) {
      file.name = component.name + "/" + file.name;
      Q4_RETURN_IF_ERROR(AddFile(std::move(file)));
    }
    return absl::OkStatus();
  }

  absl::Status AddTop() {
    LeftOutList others;
    Q4_ASSIGN_OR_RETURN(const std::vector<std::string> entries, fs_.ListDirectory(source_.directory));
    for (const std::string& entry : entries) {
      const bool named = std::any_of(source_.components.begin(), source_.components.end(),
                                     [&](const PipelineComponent& component) { return component.name == entry; });
      if (named) continue;
      const std::string path = FolderOf(entry);
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(path));
      if (info.is_directory) {
        Q4_RETURN_IF_ERROR(AddOtherFolder(entry, &others));
      } else {
        Q4_RETURN_IF_ERROR(AddTopFile(entry, path, &others));
      }
    }
    for (LeftOutFile& file : others.Take()) left_out_.push_back(std::move(file));
    return absl::OkStatus();
  }

  absl::Status AddTopFile(const std::string& name, const std::string& path, LeftOutList* others) {
    if (name == kPipelineIndexName) return AddWhole(name, path);
    const FileNameKind& kind = KindOfFile(name);
    switch (kind.fate) {
      case FileFate::kCarried:
      case FileFate::kDocument:
        return AddWhole(name, path);
      case FileFate::kCode:
        others->Add("", name, kind.reason, IsNeeded(name));
        break;
      case FileFate::kHidden:
      case FileFate::kOwn:
        others->Add("", name, kind.reason, /*warning=*/false, /*recorded=*/false);
        break;
      default: {
        // The components are what the pipeline is loaded from.
        const bool weights = name.ends_with(".ckpt") || IsCheckpointName(name);
        others->Add("", name, weights ? "weights of the pipeline in another layout" : kind.reason, /*warning=*/false);
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddOtherFolder(const std::string& name, LeftOutList* others) {
    const FolderNameKind& kind = KindOfFolder(name);
    bool own = kind.fate == FolderFate::kOwn;
    for (const std::string_view mark : {std::string_view(kPipelineSealName), kExportRecord}) {
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(JoinPath(FolderOf(name), std::string(mark))));
      own |= info.exists;
    }
    const bool hidden = kind.fate == FolderFate::kHidden;
    const bool absent = std::binary_search(index_.absent.begin(), index_.absent.end(), name);
    const std::string_view reason = own      ? "an output of q4"
                                    : hidden ? kind.reason
                                    : absent ? "a component that model_index.json does without"
                                             : "a folder that model_index.json does not name";
    others->Add("", name + "/", reason, /*warning=*/false, /*recorded=*/!own && !hidden);
    return absl::OkStatus();
  }

  // Whether diffusers would take a class from this file.
  bool IsNeeded(const std::string& name) const {
    if (!index_.code.empty() && name == index_.code + ".py") return true;
    return std::any_of(source_.components.begin(), source_.components.end(), [&](const PipelineComponent& component) {
      return of_code_.contains(component.name) && name == component.library + ".py";
    });
  }

  void NoteCode() {
    if (of_code_.empty() && index_.code.empty()) return;
    source_.notes.push_back(
        {true,
         "the pipeline needs code of its own (.py files), which is never carried; copy it beside the output "
         "after you have read it"});
  }

  absl::StatusOr<PipelineSource> Finish() {
    const auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
    std::sort(source_.files.begin(), source_.files.end(), by_name);
    std::stable_sort(left_out_.begin(), left_out_.end(), by_name);
    source_.left_out = std::move(left_out_);
    return std::move(source_);
  }

  FileSystem& fs_;
  const OpenOptions options_;
  const SymbolicLinks links_;
  PipelineIndex index_;
  PipelineSource source_;
  std::set<std::string> of_code_;  // components whose class is code of the pipeline's own
  std::vector<LeftOutFile> left_out_;
  PortableNames names_;  // of source_.files
};

}  // namespace

std::vector<InputFile> PipelineSource::inputs() const {
  std::vector<InputFile> all;
  for (const PipelineComponent& component : components) {
    if (component.checkpoint == nullptr) continue;
    for (const InputFile& input : component.checkpoint->inputs()) all.push_back(input);
  }
  for (const CompanionFile& file : files) all.push_back({file.path, file.identity});
  return all;
}

absl::StatusOr<PipelineSource> OpenPipeline(FileSystem& fs, const std::string& directory, const OpenOptions& options,
                                            const std::optional<std::vector<std::string>>& chosen, bool inspecting) {
  return PipelineReader(fs, directory, options).Read(chosen, inspecting);
}

}  // namespace q4
