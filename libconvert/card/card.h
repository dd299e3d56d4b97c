// The model card of a container or an export: README.md as the hub reads it. Settings, sizes, errors, seal and how to
// load it, out of what the container says; so the same container gives the same card. docs/q4export.md, "The model
// card", is the manual.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"

namespace q4 {

// The name under which the hub looks for it.
inline constexpr std::string_view kCardName = "README.md";

struct CardRequest {
  enum class Of : std::uint8_t { kContainer, kBitsandbytes, kDequantized };
  Of of = Of::kContainer;
  std::string base_model;          // "owner/name", IsModelName(); "" where nobody said
  std::uint64_t output_bytes = 0;  // of the weights as they are written; of a container that is not looked at
  std::uint64_t decoded = 0;       // quantized tensors that are written in 16 or 32 bits, of kBitsandbytes
  std::string original;            // the name that the original's card has beside it; "" without
};

// Whether `name` can be a model of the hub: "owner/name" or "name".
bool IsModelName(std::string_view name);

// Whether a file that begins so is a card that ModelCard() made, which another one replaces.
bool IsOurCard(std::string_view text);

// The embedded file of the model's own folder that is its card, in whatever case; nullptr where there is none.
const Q4EmbeddedFile* FindCard(const Q4Model& model);

// The beginning of that file, as much of it as matters here. Errors: those of reading it.
absl::StatusOr<std::string> ReadCardHead(const Q4Model& model, const Q4EmbeddedFile& file);

// The text, UTF-8, with a final newline. Names out of the container are escaped: no line of them means anything in YAML
// or Markdown. Errors: those of ReadProvenance() and of reading embedded files.
absl::StatusOr<std::string> ModelCard(const Q4Model& model, const ModelConfigs& configs, const CardRequest& request);

}  // namespace q4
