// The name of an output that nobody named (docs/decisions/0054-outputs-that-nobody-named.md).
#pragma once

#include <string>
#include <string_view>

namespace q4 {

// "NAME-SUFFIX" in the working directory, NAME being what people call the input: the model's folder or the file without
// its ending; of a snapshot in a Hugging Face cache the repository's name. "" where there is none, as of "/".
//
//   models/llama -> llama-nf4.q4    model.safetensors -> model-nf4.q4    llama.q4 -> llama-bnb
std::string NameOutput(const std::string& input, std::string_view suffix);

}  // namespace q4
