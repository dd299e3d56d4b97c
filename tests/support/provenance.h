// The provenance of containers that tests make without the converter: what it would have recorded, with a recipe that
// has a rule for each tensor.
#pragma once

#include <string>
#include <vector>

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/base/json_value.h"
#include "formats/q4/container.h"
#include "formats/q4/encoders.h"
#include "libconvert/base/version.h"
#include "tests/support/bytes.h"
#include "tests/support/temp_dir.h"

namespace q4::test {

// A record of the file `name` in `directory`.
inline Json SourceFileRecordOf(const std::string& directory, const std::string& name) {
  const std::string bytes = ReadBytes(directory + "/" + name);
  Json file;
  file["name"] = name;
  file["sha256"] = HexOf(Sha256Of(AsBytes(bytes)));
  file["size"] = bytes.size();
  return file;
}

// The rule of a recipe that treats a tensor as it is treated here, and no other.
inline Json RecipeRuleFor(const Q4Tensor& tensor) {
  std::string match = "^";
  for (const char c : tensor.name) match += c == '.' ? std::string("\\.") : std::string(1, c);
  Json rule;
  if (tensor.quantized()) {
    rule["block_size"] = tensor.block_size;
    rule["double_quant"] = tensor.nested;
    if (tensor.encoder != Q4Encoder::kNone) rule["encoder"] = Q4EncoderName(tensor.encoder);
  }
  rule["keep"] = !tensor.quantized();
  rule["match"] = match + "$";
  if (tensor.quantized()) rule["type"] = Q4SchemeName(tensor.scheme);
  return rule;
}

// Options that make these treatments of these tensors.
inline Json RecordedOptionsFor(const std::vector<Q4Tensor>& tensors, const std::string& keep_dtype = "same") {
  Json rules = Json::array();
  for (const Q4Tensor& tensor : tensors) rules.push_back(RecipeRuleFor(tensor));
  Json options;
  options["block_size"] = 64;
  options["compress"] = "zstd:3";  // allows what is compressed, and asks for nothing
  options["double_quant"] = true;
  options["encoder"] = "absmax";
  options["keep_dtype"] = keep_dtype;
  options["on_nonfinite"] = "error";
  options["patterns"] = Json::array();
  options["recipe"] = Json{{"rules", std::move(rules)}}.dump();
  options["shard_size"] = 0;
  options["type"] = "nf4";
  return options;
}

// `files`: an array of records.
inline std::string ProvenanceOf(const Json& options, const Json& files, const std::string& format = "safetensors") {
  Json json;
  json["numerics"] = kNumericsVersion;
  json["options"] = options;
  json["source"] = {{"files", files}, {"format", format}};
  json["tool"] = {{"name", "q4convert"}, {"version", kQ4Version}};
  return json.dump();
}

}  // namespace q4::test
