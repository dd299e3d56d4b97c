#include "libconvert/model/names.h"

#include "formats/base/json_value.h"
#include "formats/base/limits.h"

namespace q4 {

ModelNames ReadModelNames(std::string_view config_json) {
  ModelNames names;
  const absl::StatusOr<Json> config = ParseJson(config_json, "config.json", limits::kConfigJsonDepth);
  if (!config.ok() || !config->is_object()) return names;
  if (const auto type = config->find("model_type"); type != config->end() && type->is_string()) {
    names.model_type = type->get<std::string>();
  }
  const auto architectures = config->find("architectures");
  if (architectures != config->end() && architectures->is_array() && !architectures->empty() &&
      architectures->front().is_string()) {
    names.architecture = architectures->front().get<std::string>();
  }
  const auto tied = config->find("tie_word_embeddings");
  names.tie_word_embeddings = tied != config->end() && tied->is_boolean() && tied->get<bool>();
  return names;
}

}  // namespace q4
