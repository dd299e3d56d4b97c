// What a config.json calls its model.
#pragma once

#include <string>
#include <string_view>

namespace q4 {

struct ModelNames {
  std::string architecture;  // the first of "architectures"; "" when not stated
  std::string model_type;    // "" when not stated
  bool tie_word_embeddings = false;
};

// Of a text that may be no JSON at all, which leaves everything unstated: the file is one among others, and no reason
// to refuse a report.
ModelNames ReadModelNames(std::string_view config_json);

}  // namespace q4
