// What a config.json calls its model, and whether it ties the embeddings. The reports of several tools print the names,
// and q4verify goes by the tie. Nothing else of the file is read: the container or the checkpoint itself says how
// tensors are stored.
#pragma once

#include <string>
#include <string_view>

namespace q4 {

struct ModelNames {
  // The first of "architectures", such as "LlamaForCausalLM"; "" when it is not stated.
  std::string architecture;
  // Such as "llama"; "" when it is not stated.
  std::string model_type;
  // Whether the output layer shares the weights of the input embedding. False when it is not stated.
  bool tie_word_embeddings = false;
};

// Reads the names from `config_json`, the text of a config.json, which is not trusted. Never fails: of a text that is
// no JSON, and of members of other types than expected, everything stays unstated. The file is one among others and no
// reason to refuse a report.
ModelNames ReadModelNames(std::string_view config_json);

}  // namespace q4
