// Adapters: weights that are added to a model, and are none. Their files and the names of their tensors.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace q4 {

// The files of PEFT. A folder with the first is an adapter's unless a model lies there too.
inline constexpr std::string_view kAdapterConfigName = "adapter_config.json";

// What the user of an adapter can do.
inline constexpr std::string_view kAdapterWayOut =
    "convert its model with it (a LoRA of PEFT: q4convert MODEL --adapter DIRECTORY), or merge it into its model first "
    "(peft: merge_and_unload(), then save_pretrained(); diffusers: fuse_lora()) and "
    "convert the result";

// Whether `name`, a file name without a directory, is that of an adapter's weights or configuration:
// adapter_model.safetensors, adapter_config.json, pytorch_lora_weights.safetensors and their like. Loaders of a model
// never read them as the model's own.
bool IsAdapterFile(std::string_view name);

// The weights beside kAdapterConfigName, in the order in which PEFT looks for them. Static.
std::span<const std::string_view> PeftWeightNames();

// What kind of adapter a tensor of this name belongs to, for people ("LoRA adapter"), or nullptr: by the parts of the
// name, as PEFT, diffusers and kohya save them. A static text.
const std::string_view* AdapterKindOf(std::string_view tensor);

// The same for peft_type of adapter_config.json, which has any case; "adapter" for one that is not known. A static
// text.
std::string_view AdapterKindOfType(std::string_view peft_type);

}  // namespace q4
