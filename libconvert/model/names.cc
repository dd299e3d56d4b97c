// config.json comes with the model and is not trusted: its nesting is limited before it is parsed, and each member is
// used only if it has the expected type. A model whose configuration is unusual is still verified and inspected, so
// what is not understood counts as not stated.
#include "libconvert/model/names.h"

#include "formats/base/json_value.h"

namespace q4 {

ModelNames ReadModelNames(std::string_view config_json) {
  ModelNames names;
  const absl::StatusOr<Json> config = ParseModelJson(config_json, "config.json");
  // No error: the caller has the tensors to report on, and the text may be anything.
  if (!config.ok() || !config->is_object()) return names;
  if (const auto type = config->find("model_type"); type != config->end() && type->is_string()) {
    names.model_type = type->get<std::string>();
  }
  const auto architectures = config->find("architectures");
  if (architectures != config->end() && architectures->is_array() && !architectures->empty() &&
      architectures->front().is_string()) {
    names.architecture = architectures->front().get<std::string>();
  } else if (const auto name = config->find("_class_name"); name != config->end() && name->is_string()) {
    names.architecture = name->get<std::string>();  // of diffusers' components
  }
  // A missing member means the default of the model class in transformers, which is not known here. False demands less
  // of a container: tied.h then allows equal tensors with different treatments.
  const auto tied = config->find("tie_word_embeddings");
  names.tie_word_embeddings = tied != config->end() && tied->is_boolean() && tied->get<bool>();
  return names;
}

}  // namespace q4
