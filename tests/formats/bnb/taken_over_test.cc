#include "formats/bnb/taken_over.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "formats/bnb/quant_state.h"
#include "formats/source/checkpoint.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::Must;
using test::SafetensorsBuilder;

struct Part {
  std::string name, dtype;
  Shape shape;
  std::string bytes;
};

std::string StateText(bool nested) {
  std::string text = R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [4, 64])";
  if (nested) text += R"(, "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.25)";
  return text + "}";
}

// A weight of 256 elements, and a tensor that is none of its parts. Its tables hold nothing that is asked for here.
std::vector<Part> Weight(bool nested, const std::string& text) {
  std::vector<Part> parts = {{"w", "U8", {128, 1}, std::string(128, 'c')},
                             {"w.quant_map", "F32", {16}, std::string(64, 'm')},
                             {"w.quant_state.bitsandbytes__nf4", "U8", {text.size()}, text},
                             {"norm", "F16", {2}, "abcd"}};
  if (nested) {
    parts.push_back({"w.absmax", "U8", {4}, "0123"});
    parts.push_back({"w.nested_absmax", "F32", {1}, "abcd"});
    parts.push_back({"w.nested_quant_map", "F32", {256}, std::string(1024, 'n')});
  } else {
    parts.push_back({"w.absmax", "F32", {4}, std::string(16, 's')});
  }
  return parts;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const test::TempDir& dir, const std::vector<Part>& parts) {
  SafetensorsBuilder builder;
  for (const Part& part : parts) builder.Add(part.name, part.dtype, part.shape, part.bytes);
  const std::string path = dir.Write("model.safetensors", builder.Build());
  return OpenCheckpoint(PosixFileSystem(), path, {.take_over = true});
}

Part& Named(std::vector<Part>& parts, const std::string& name) {
  for (Part& part : parts) {
    if (part.name == name) return part;
  }
  FAIL(name);
  return parts.front();
}

}  // namespace

TEST_CASE("a bitsandbytes weight is one logical tensor in the place of its codes", "[bnb]") {
  const bool nested = GENERATE(false, true);
  const test::TempDir dir;
  const auto checkpoint = Must(Open(dir, Weight(nested, StateText(nested))));
  CHECK_FALSE(checkpoint->foreign());
  REQUIRE(checkpoint->taken_over());
  REQUIRE(checkpoint->tensors().size() == 2);
  const SourceTensor& weight = *checkpoint->Find("w");
  CHECK(weight.recipe == SourceRecipe::kBnbCodes);
  CHECK_FALSE(weight.is_stored());
  CHECK(weight.dtype == DType::kF16);
  CHECK(weight.shape == Shape{4, 64});
  CHECK(weight.bytes == 512);
  CHECK(weight.extents.size() == (nested ? 6 : 4));
  REQUIRE(weight.bnb != nullptr);
  CHECK(static_cast<const QuantFormat&>(*weight.bnb) == QuantFormat{Q4Scheme::kNf4, 64, nested});
  CHECK(weight.bnb->nested_offset == (nested ? 0.25f : 0.0f));
  CHECK(weight.bnb->quant_state == StateText(nested));
  REQUIRE(weight.bnb->parts.size() == (nested ? 3 : 2));
  CHECK(weight.bnb->parts[0].name == "w");
  CHECK(weight.bnb->parts[0].place().offset == weight.place().offset);
  CHECK(weight.bnb->parts[1].name == "w.absmax");
  CHECK(weight.bnb->quant_map->size() == 64);
  CHECK((weight.bnb->nested_map != nullptr) == nested);
  CHECK(checkpoint->Find("norm")->recipe == SourceRecipe::kPlain);
  // Without being asked nobody joins them.
  const auto stored = Must(OpenCheckpoint(PosixFileSystem(), dir.File("model.safetensors")));
  CHECK(stored->foreign());
  CHECK(stored->tensors().size() == (nested ? 7 : 5));
}

TEST_CASE("parts of a weight may lie in other shards, and weights share equal tables", "[bnb]") {
  const test::TempDir dir;
  std::vector<Part> first = Weight(true, StateText(true)), second = first;
  std::erase_if(second, [](const Part& part) { return part.name == "norm"; });
  for (Part& part : second) part.name = "x" + part.name;
  // All parts of either weight but its codes change places.
  SafetensorsBuilder builders[2];
  std::string map;
  const auto add = [&](const Part& part, int shard) {
    builders[shard].Add(part.name, part.dtype, part.shape, part.bytes);
    map += (map.empty() ? "" : ",") + ("\"" + part.name + "\":\"" + std::to_string(shard) + ".safetensors\"");
  };
  for (const Part& part : first) add(part, part.name == "w" ? 0 : 1);
  for (const Part& part : second) add(part, part.name == "xw" ? 1 : 0);
  dir.Write("0.safetensors", builders[0].Build());
  dir.Write("1.safetensors", builders[1].Build());
  const std::string index = dir.Write("model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":{" + map + "}}");
  const auto checkpoint = Must(OpenCheckpoint(PosixFileSystem(), index, {.take_over = true}));
  REQUIRE(checkpoint->tensors().size() == 3);
  const SourceTensor& w = *checkpoint->Find("w");
  const SourceTensor& xw = *checkpoint->Find("xw");
  CHECK(w.place().file == 0);
  CHECK(w.bnb->parts[1].place().file == 1);
  CHECK(xw.place().file == 1);
  CHECK(xw.bnb->parts[2].place().file == 0);
  CHECK(w.bnb->nested_map == xw.bnb->nested_map);
}

TEST_CASE("a weight that is not whole is refused by name", "[bnb]") {
  struct Fault {
    int issue;
    std::string says;
    std::function<void(std::vector<Part>&)> spoil;
  };
  const auto without = [](std::string name) {
    return
        [name](std::vector<Part>& parts) { std::erase_if(parts, [&](const Part& part) { return part.name == name; }); };
  };
  const std::string state = "w.quant_state.bitsandbytes__nf4";
  const std::vector<Fault> faults = {
      {3740, "not a JSON object",
       [&](auto& parts) {
         Named(parts, state) = {state, "U8", {2}, "[]"};
       }},
      {3740, "names another type", [&](auto& parts) { Named(parts, state).name = "w.quant_state.bitsandbytes__fp4"; }},
      {3740, "a text of U8", [&](auto& parts) { Named(parts, state).dtype = "I8"; }},
      {3740, "no elements",
       [&](auto& parts) {
         const std::string empty = R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [0]})";
         Named(parts, state) = {state, "U8", {empty.size()}, empty};
       }},
      {3740, "JSON",
       [&](auto& parts) {
         Named(parts, state) = {state, "U8", {1}, "{"};
       }},
      {3741, "no codes", without("w")},
      {3741, "two quant_states",
       [&](auto& parts) {
         const std::string text = StateText(true);
         parts.push_back({"w.quant_state.bitsandbytes__nf4x.quant_state.bitsandbytes__nf4", "U8", {text.size()}, text});
       }},
      {3741, "got 127 bytes, expected 128",
       [](auto& parts) {
         Named(parts, "w") = {"w", "U8", {127, 1}, std::string(127, 'c')};
       }},
      {3741, "no absmax", without("w.absmax")},
      {3741, "no quant_map", without("w.quant_map")},
      {3741, "no nested_quant_map", without("w.nested_quant_map")},
      {3741, "got [1, 128], expected [128, 1]",
       [](auto& parts) {
         Named(parts, "w").shape = {1, 128};
       }},
      {3741, "got I8, expected U8", [](auto& parts) { Named(parts, "w.absmax").dtype = "I8"; }},
      {3741, "belongs to no weight",
       [](auto& parts) {
         parts.push_back({"v.absmax", "F32", {1}, "abcd"});
       }},
      {3741, "no quant_state",
       [](auto& parts) {
         parts.push_back({"v.weight", "U8", {2, 1}, "ab"});
       }},
  };
  for (const Fault& fault : faults) {
    const test::TempDir dir;
    std::vector<Part> parts = Weight(true, StateText(true));
    fault.spoil(parts);
    const auto opened = Open(dir, parts);
    INFO(fault.says << ": " << MessageOf(opened.status()));
    CHECK(IssueNumberOf(opened.status()) == fault.issue);
    CHECK(MessageOf(opened.status()).find(fault.says) != std::string::npos);
  }
}

TEST_CASE("parts that belong to nested scales are refused beside a weight that has none", "[bnb]") {
  for (const char* name : {"w.nested_absmax", "w.nested_quant_map"}) {
    const test::TempDir dir;
    std::vector<Part> parts = Weight(false, StateText(false));
    parts.push_back({name, "F32", {1}, "abcd"});
    const auto opened = Open(dir, parts);
    CHECK(IssueNumberOf(opened.status()) == 3741);
    CHECK(MessageOf(opened.status()).find("is not nested") != std::string::npos);
  }
}

TEST_CASE("a view is no part of a weight", "[bnb]") {
  const test::TempDir dir;
  const auto whole = Must(Open(dir, Weight(true, StateText(true))));
  REQUIRE(whole->taken_over());
  const auto stored = Must(OpenCheckpoint(PosixFileSystem(), dir.File("model.safetensors")));
  std::vector<SourceTensor> tensors = stored->tensors();
  for (SourceTensor& tensor : tensors) {
    if (tensor.name == "w.absmax") tensor.recipe = SourceRecipe::kStrided;
  }
  const absl::Status status = TakeOverBnb({stored->files().front().file.get()}, &tensors);
  CHECK(IssueNumberOf(status) == 3741);
  CHECK(MessageOf(status).find("not contiguous") != std::string::npos);
}

TEST_CASE("descriptions with a shape that is none are refused", "[bnb]") {
  for (const char* shape :
       {"null", "{}", "\"4\"", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "[-1]", "[1.5]", "[\"4\"]", "[281474976710656]"}) {
    std::string problem;
    const std::string text =
        R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": )" + std::string(shape) + "}";
    CHECK_FALSE(ParseBnbQuantState(text, &problem));
    CHECK(problem == "shape is not a list of dimensions");
  }
}

}  // namespace q4
