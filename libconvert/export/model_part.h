// A container by folders: a model of sentence-transformers has modules in folders of their own, which the names of its
// tensors begin with (formats/source/modules.h), and an export writes each where it came from. Internal to
// libconvert/export/.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"

namespace q4 {

// What lies in one folder.
struct ModelPart {
  struct Tensor {
    const Q4Tensor* tensor = nullptr;  // of the model
    std::string name;                  // inside the folder
  };
  std::string folder;           // "" for the model's own directory
  std::string path;             // of the container, for messages
  std::string config_json;      // "" if there is none
  std::vector<Tensor> tensors;  // in the order of the model; those that an export leaves out, too

  // What is called `name` in the folder.
  std::string In(std::string_view name) const {
    return folder.empty() ? std::string(name) : folder + "/" + std::string(name);
  }
};

// The parts of `model` that are transformers models (policy/transformers_folders.h) and have tensors, by folder. The
// model's own directory is one even without any if there is nothing else. Fails for a config.json that is no JSON (exit
// code 3).
absl::StatusOr<std::vector<ModelPart>> TransformersParts(const Q4Model& model, const ModelConfigs& configs);

}  // namespace q4
