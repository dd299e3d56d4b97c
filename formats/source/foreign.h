// A checkpoint that is well-formed and readable, but holds no plain weights: quantized already by some method, or an
// adapter for another model. Converting it would make a model that loads and is wrong.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/json_value.h"
#include "formats/base/note.h"
#include "formats/folder/quant_methods.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// What such a checkpoint is, and how one knows.
struct Foreign {
  enum class Kind { kQuantized, kAdapter };
  Kind kind = Kind::kQuantized;
  std::string name;      // of the method or kind of adapter, for people: "GPTQ", "LoRA adapter"; fit for a terminal
  std::string file;      // a path or file name: where the evidence is; not escaped
  std::string where;     // the member or tensor that tells it; not escaped
  std::string evidence;  // a second one, for people, or ""
  std::string way_out;   // what the user can do, for people
};

// The error that a converter answers with: kAlreadyQuantized or kIsAdapter, both exit code 5.
absl::Status ForeignStatus(const Foreign& foreign);

// A JSON file beside the weights, or embedded in a container.
struct SideText {
  std::string name;  // without a directory; config.json and those of IsQuantizationFile()
  std::string path;  // for messages
  std::string text;
};

// The method that the first text with a known one names, as FindQuantization() reads them; nullptr where none does.
const QuantMethod* ClaimedMethod(const std::vector<SideText>& texts);

// The members of a config.json that describe how weights are quantized, where loaders look: the path of each,
// "text_config.quantization_config", and its value, which lives as long as `config`.
struct QuantSection {
  std::string part;  // "" at the top, or the member that it lies in
  std::string key;
  const Json* value = nullptr;
};
std::vector<QuantSection> QuantSections(const Json& config);

// Whether weights are quantized already, and by which method. Three things tell it, in this order of trust: the
// configuration, as transformers and vLLM read it; the file that a quantizer wrote beside the weights; names, dtypes
// and shapes of the tensors (quant_methods.h). A configuration that names a method which no loader knows, or none, is
// ignored as loaders ignore it, and `notes`, unless nullptr, gets a note; tensors decide then. Texts that are not JSON
// tell nothing. Pure. `weights`: where the tensors are, for messages.
std::optional<Foreign> FindQuantization(const std::vector<SourceTensor>& tensors, const std::vector<SideText>& texts,
                                        std::string_view weights, std::vector<Note>* notes);

// Whether the tensors are those of an adapter alone: parts of adapters (adapters.h) and no full matrix besides, or all
// of them under the prefix of a PEFT model. A model that holds adapters beside its weights, as a few published ones do,
// is a model. Pure. `weights` as above.
std::optional<Foreign> FindAdapter(const std::vector<SourceTensor>& tensors, std::string_view weights);

}  // namespace q4
