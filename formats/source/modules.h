// The folders of a model that consists of modules, as sentence-transformers saves it: one module in the model's own
// directory, the others in folders of their own, each with its configuration and its weights.
//   modules.json                 [{"idx": 0, "path": "", "type": ...}, {"idx": 1, "path": "1_Pooling", ...}, ...]
//   2_Dense/config.json, 2_Dense/model.safetensors
// A Router (older name: Asym) holds modules itself. Its router_config.json, in older models its config.json, lists
// their folders as the members of "types"; they lie in the Router's folder.
//
// Only these lists are read here. Files of the folders are found by others: weights by open_checkpoint.h's rule,
// everything else by companions.h. In a checkpoint and in a container the tensors of a folder are named by it:
// "2_Dense/linear.weight".
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

inline constexpr char kModulesName[] = "modules.json";

// The folders of the modules of the model in `directory`: relative to it, plain components separated by '/', bytewise
// sorted, each once. Empty when modules.json does not lie there. The directory itself, path "", is not among them, nor
// is a folder that does not exist: git keeps no empty ones, and a module without files needs none.
//
// Whatever the lists say, the folders lie inside `directory`: absolute paths, ".." and names that no container holds
// are refused. `links` is about the lists and about the folders, those on the way included.
//
// Errors: exit code 3 for a list that is malformed (kModulesForm, kRouterForm, and those of JSON text), for a path that
// is a file (kModulesForm), a symbolic link, or more than limits::kModuleFolders (kTooManyModules); I/O (2).
absl::StatusOr<std::vector<std::string>> ModuleFolders(FileSystem& fs, const std::string& directory,
                                                       SymbolicLinks links);

// Whether `path` has the form of ModuleFolders()'s: relative, a folder that a container can name
// (FolderNameProblem()), without anything that could be left out.
bool IsModuleFolder(std::string_view path);

// The one of `folders`, bytewise sorted, that a tensor or file of this name belongs to: the longest that it begins
// with, before a '/'. "" for the model's own directory. A view into `folders`.
std::string_view ModuleFolderOf(std::span<const std::string> folders, std::string_view name);

// What the configurations of a model say: the texts of config.json, "" where there is none. Made by
// Checkpoint::Configs(); a model without module folders is its one text.
struct ModelConfigs {
  ModelConfigs() = default;
  // NOLINTBEGIN(google-explicit-constructor): most models have one.
  ModelConfigs(std::string own) : root(std::move(own)) {}
  ModelConfigs(const char* own) : root(own) {}
  // NOLINTEND(google-explicit-constructor)

  std::string root;  // of the model's own directory
  // Checkpoint::format(), of a container that of its source; "" where nobody knows. Tensors of GGUF have other names.
  std::string format;
  std::vector<std::string> folders;  // the module folders that hold tensors, bytewise sorted
  std::vector<std::string> texts;    // of each folder, in the same order

  // The text for the folder that a tensor of this name lies in.
  const std::string& Of(std::string_view tensor) const;
};

}  // namespace q4
