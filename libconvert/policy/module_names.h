// Which module of a model a tensor of a checkpoint belongs to, as transformers 5.23 loads it: names on disk are often
// older than the code, and are renamed while they are loaded. Vision-language models are the best known case:
// "language_model.model.layers.0" on disk is the module "model.language_model.layers.0".
//
// What config.json says of modules (llm_int8_skip_modules) is about names in memory. The table, module_names.json, was
// made by running transformers' own loader on every class that it can build (tests/python/policy_check.py);
// tests/libconvert/policy/architectures_test.cc replays it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// "a.b.weight" -> "a.b", "weight" -> "". Names that do not end in ".weight" are returned as they are. A view into
// `tensor`.
std::string_view ModuleOf(std::string_view tensor);

// The renames of one class of transformers. Immutable; copies are cheap enough for one per model.
class ModuleNames {
 public:
  // For the class that `config_json`, the text of config.json, names first under "architectures"; for one that the
  // table does not know, or none, the class of its model_type with most renames. A model type without renames, no text,
  // or one that is not a JSON object give an object that renames nothing.
  explicit ModuleNames(std::string_view config_json);

  // The module that transformers puts tensor "<module>.weight" into: usually one name, and usually `module` itself.
  // Several if the tensor is split while it is loaded, such as attention's three input projections in one matrix. Never
  // empty. A name in memory is its own.
  std::vector<std::string> InMemory(std::string_view module) const;

  // Whether transformers splits, joins, transposes or permutes the weight while it loads it. That it cannot do with
  // packed codes: from_pretrained fails for such a weight when it is quantized. Routed experts are not meant, which it
  // always joins (docs/policy.md, D1).
  bool IsConverted(std::string_view module) const;

  // Modules in memory, linear layers, that a checkpoint may have no tensor for, because they share another's weight:
  // output heads above all. Without "lm_head", which every model may have.
  const std::vector<std::string>& heads() const { return heads_; }

 private:
  // On disk, then in memory; "#" stands for a number. Whole names or their beginnings up to a dot.
  struct Rename {
    std::vector<std::string> on_disk;                 // its parts
    std::vector<std::vector<std::string>> in_memory;  // likewise; not empty
  };
  std::vector<Rename> renames_;
  std::vector<std::vector<std::string>> converted_;  // whole names, as parts
  std::vector<std::string> heads_;
};

}  // namespace q4
