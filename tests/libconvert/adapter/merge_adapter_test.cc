// Which tensors of a model an adapter changes. Numbers: tests/libconvert/source/merged_test.cc; what PEFT makes of the
// same: tests/python/adapter_check.py; hostile ones: tests/hostile/rows_adapter.py.
#include "libconvert/adapter/merge_adapter.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/adapter/adapter_issues.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using Shapes = std::vector<std::pair<std::string, Shape>>;

// A model and an adapter of zeros, on disk.
class Folders {
 public:
  explicit Folders(const Shapes& model, const std::string& config = R"({"model_type": "llama"})") {
    Write("m/model.safetensors", model, "BF16", 2);
    dir_.Write("m/config.json", config);
  }

  Folders& Adapter(const Shapes& factors, const std::string& members = "") {
    Write("a/adapter_model.safetensors", factors, "F32", 4);
    dir_.Write("a/adapter_config.json", R"({"peft_type": "LORA", "r": 2)" + members + "}");
    return *this;
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> Merge() const {
    Q4_ASSIGN_OR_RETURN(const auto base, OpenCheckpoint(PosixFileSystem(), dir_.File("m")));
    return MergeAdapter(PosixFileSystem(), *base, dir_.File("a"), {});
  }

  // What must be right.
  std::unique_ptr<Checkpoint> MustMerge() const {
    auto merged = Merge();
    INFO(merged.status().message());
    REQUIRE(merged.ok());
    return *std::move(merged);
  }
  int Issue() const { return IssueNumberOf(Merge().status()); }

 private:
  void Write(const std::string& name, const Shapes& tensors, const std::string& dtype, std::size_t item) {
    test::SafetensorsBuilder builder;
    for (const auto& [tensor, shape] : tensors) {
      std::size_t elems = 1;
      for (const std::uint64_t size : shape) elems *= size;
      builder.Add(tensor, dtype, shape, std::string(elems * item, '\0'));
    }
    dir_.Write(name, builder.Build());
  }

  test::TempDir dir_;
};

Shapes Lora(const std::string& module, std::uint64_t out, std::uint64_t in, std::uint64_t rank = 2) {
  return {{"base_model.model." + module + ".lora_A.weight", {rank, in}},
          {"base_model.model." + module + ".lora_B.weight", {out, rank}}};
}

// Names of what is merged.
std::vector<std::string> MergedIn(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const SourceTensor& tensor : checkpoint.tensors()) {
    if (tensor.recipe == SourceRecipe::kMerged) names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool Says(const Checkpoint& checkpoint, std::string_view text) {
  return std::any_of(checkpoint.notes().begin(), checkpoint.notes().end(),
                     [&](const Note& note) { return note.text.find(text) != std::string::npos; });
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("an adapter's tensors find the model's by their names, and their files come behind the model's") {
  const auto checkpoint =
      Folders({{"model.a.weight", {4, 6}}, {"model.b.weight", {4, 6}}}).Adapter(Lora("model.a", 4, 6)).MustMerge();
  CHECK(MergedIn(*checkpoint) == Names{"model.a.weight"});
  REQUIRE(checkpoint->files().size() == 3);
  CHECK(checkpoint->adapter_files() == 2);
  CHECK(checkpoint->files()[1].name == "adapter_config.json");
  CHECK(checkpoint->files()[2].name == "adapter_model.safetensors");
  CHECK(checkpoint->inputs().size() == 5);  // the model's file is also the main one, and config.json a companion
  const SourceTensor& tensor = *checkpoint->Find("model.a.weight");
  CHECK(tensor.dtype == DType::kBF16);
  CHECK(tensor.shape == Shape{4, 6});
  REQUIRE(tensor.extents.size() == 3);
  CHECK(tensor.extents[0].file == 0);
  CHECK(tensor.extents[1].file == 2);
  CHECK(tensor.merged->scale == 4.0f);  // lora_alpha is 8 where nothing else is said
  CHECK(StoredPartsOf(tensor).names.size() == 3);
}

TEST_CASE("a prefix that one of the two lacks is met where only one name fits") {
  CHECK(MergedIn(*Folders({{"model.x.a.weight", {4, 6}}}).Adapter(Lora("x.a", 4, 6)).MustMerge()) ==
        Names{"model.x.a.weight"});
  const auto without = Folders({{"x.a.weight", {4, 6}}}).Adapter(Lora("model.x.a", 4, 6)).MustMerge();
  CHECK(MergedIn(*without) == Names{"x.a.weight"});
  CHECK(Says(*without, "without 'model.'"));
  CHECK(Folders({{"m.x.a.weight", {4, 6}}, {"n.x.a.weight", {4, 6}}}).Adapter(Lora("x.a", 4, 6)).Issue() ==
        kAdapterAmbiguous.number);
  // Something else begins so: then it is not a prefix.
  CHECK(Folders({{"x.a.weight", {4, 6}}, {"model.x.b.weight", {4, 6}}}).Adapter(Lora("model.x.a", 4, 6)).Issue() ==
        kAdapterNoBase.number);
  CHECK(Folders({{"model.x.a.weight", {4, 6}}}).Adapter(Lora("model.x.b", 4, 6)).Issue() == kAdapterNoBase.number);
}

TEST_CASE("a parameter without a module is met by no prefix") {
  const Shapes model = {{"lm_head.weight", {4, 6}}};
  CHECK(Folders(model).Adapter({{"base_model.model.weight", {4, 6}}}).Issue() == kAdapterNoBase.number);
  CHECK(Folders(model).Adapter({{"base_model.model.x.weight", {4, 6}}}).Issue() == kAdapterNoBase.number);
}

TEST_CASE("names in memory lead to names on disk, but not to weights that are loaded in another form") {
  const std::string llava = R"({"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]})";
  const std::string disk = "language_model.model.layers.0.mlp.up_proj",
                    memory = "model.language_model.layers.0.mlp.up_proj";
  for (const std::string& name : {disk, memory}) {
    CHECK(MergedIn(*Folders({{disk + ".weight", {4, 6}}}, llava).Adapter(Lora(name, 4, 6)).MustMerge()) ==
          Names{disk + ".weight"});
  }
  const std::string mistral =
      R"({"model_type": "mistral_large4", "architectures": ["MistralLarge4ForConditionalGeneration"]})";
  const std::string turned = "vision_encoder.transformer.layers.0.attention.w";
  CHECK(Folders({{turned + "q.weight", {4, 6}}}, mistral).Adapter(Lora(turned + "q", 4, 6)).Issue() ==
        kAdapterConverted.number);
  CHECK(MergedIn(*Folders({{turned + "v.weight", {4, 6}}}, mistral).Adapter(Lora(turned + "v", 4, 6)).MustMerge()) ==
        Names{turned + "v.weight"});
}

TEST_CASE("the orientation of a weight is told by its factors, and of a square one by the rest of the model") {
  const auto turned = [](const Shapes& model, const std::string& module, std::uint64_t out, std::uint64_t in,
                         const std::string& members = "") {
    const auto checkpoint = Folders(model).Adapter(Lora(module, out, in), members).MustMerge();
    return checkpoint->Find(module + ".weight")->merged->transposed;
  };
  CHECK_FALSE(turned({{"x.c.weight", {4, 6}}}, "x.c", 4, 6));
  CHECK(turned({{"x.c.weight", {6, 4}}}, "x.c", 4, 6));
  CHECK_FALSE(turned({{"x.c.weight", {4, 4}}}, "x.c", 4, 4));
  CHECK(turned({{"x.c.weight", {4, 4}}}, "x.c", 4, 4, R"(, "fan_in_fan_out": true)"));
  // The same module of another size, whose bias has one number for each output.
  const Shapes conv = {{"x.c.weight", {4, 4}}, {"y.c.weight", {6, 4}}, {"y.c.bias", {4}}};
  CHECK(turned(conv, "x.c", 4, 4));
  const Shapes linear = {{"x.c.weight", {4, 4}}, {"y.c.weight", {4, 6}}, {"y.c.bias", {4}}};
  CHECK_FALSE(turned(linear, "x.c", 4, 4, R"(, "fan_in_fan_out": true)"));
}

TEST_CASE("ranks and scales go by the first expression that fits a whole name or its end") {
  const auto scale = [](const std::string& members, std::uint64_t rank = 2) -> float {
    const auto merged =
        Folders({{"model.l.q_proj.weight", {4, 6}}}).Adapter(Lora("model.l.q_proj", 4, 6, rank), members).Merge();
    return merged.ok() ? (*merged)->Find("model.l.q_proj.weight")->merged->scale : -1;
  };
  CHECK(scale(R"(, "lora_alpha": 3)") == 1.5f);
  CHECK(scale(R"(, "alpha_pattern": {"q_proj": 6})") == 3);
  CHECK(scale(R"(, "alpha_pattern": {"_proj": 6})") == 4);  // no end behind a dot
  CHECK(scale(R"(, "alpha_pattern": {"^model.l.q_proj": 6, "q_proj": 10})") == 3);
  CHECK(scale(R"(, "alpha_pattern": {"l.[kq]_proj|x": 6})") == 3);
  CHECK(scale(R"(, "rank_pattern": {"q_proj": 4}, "lora_alpha": 2)", 4) == 0.5f);
  CHECK(scale(R"(, "rank_pattern": {"q_proj": 4})") == -1);
  CHECK(scale(R"(, "rank_pattern": {"q_proj": 4}, "use_rslora": true, "lora_alpha": 2)", 4) == 1);
}

TEST_CASE("an output head that shares the embedding's weight changes it, or becomes a tensor of its own") {
  const Shape vocabulary = {8, 6};
  const Shapes embedding = {{"model.embed_tokens.weight", vocabulary}},
               embedding_lora = {{"base_model.model.model.embed_tokens.lora_embedding_A", {2, 8}},
                                 {"base_model.model.model.embed_tokens.lora_embedding_B", {6, 2}}};
  const std::string tied = R"({"model_type": "llama", "tie_word_embeddings": true})",
                    untied = R"({"tie_word_embeddings": false})";
  Shapes both = Lora("lm_head", 8, 6);
  both.insert(both.end(), embedding_lora.begin(), embedding_lora.end());
  SECTION("factors on both sides: the embedding's first") {
    const auto checkpoint = Folders(embedding, tied).Adapter(both).MustMerge();
    REQUIRE(checkpoint->tensors().size() == 1);
    const MergedAdapter& last = *checkpoint->tensors()[0].merged;
    CHECK_FALSE(last.transposed);
    REQUIRE(last.base->merged != nullptr);
    CHECK(last.base->merged->transposed);
    CHECK(Says(*checkpoint, "changes both"));
  }
  SECTION("a model that says that it shares nothing lacks its head") {
    CHECK(Folders(embedding, untied).Adapter(Lora("lm_head", 8, 6)).Issue() == kAdapterNoBase.number);
  }
  SECTION("both on disk: both change") {
    const Shapes stored = {{"model.embed_tokens.weight", vocabulary}, {"lm_head.weight", vocabulary}};
    CHECK(MergedIn(*Folders(stored, tied).Adapter(Lora("lm_head", 8, 6)).MustMerge()).size() == 2);
    CHECK(MergedIn(*Folders(stored, tied).Adapter(embedding_lora).MustMerge()).size() == 2);
    CHECK(MergedIn(*Folders(stored, untied).Adapter(Lora("lm_head", 8, 6)).MustMerge()) == Names{"lm_head.weight"});
  }
  SECTION("trained whole: they are no longer shared") {
    for (const bool of_head : {true, false}) {
      const std::string name = of_head ? "lm_head" : "model.embed_tokens";
      const auto checkpoint = Folders(embedding, tied)
                                  .Adapter({{"base_model.model." + name + ".weight", vocabulary}},
                                           R"(, "modules_to_save": ["lm_head", "embed_tokens"])")
                                  .MustMerge();
      REQUIRE(checkpoint->tensors().size() == 2);
      CHECK(MergedIn(*checkpoint) == Names{name + ".weight"});
      const auto config = checkpoint->ConfigJson(PosixFileSystem());
      REQUIRE(config.ok());
      CHECK(config->find("\"tie_word_embeddings\": false") != std::string::npos);
      CHECK(Says(*checkpoint, "tie_word_embeddings false"));
    }
  }
  SECTION("unless they were trained as one") {
    const auto checkpoint = Folders(embedding, tied)
                                .Adapter({{"base_model.model.model.embed_tokens.weight", vocabulary}},
                                         R"(, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": true)")
                                .MustMerge();
    CHECK(checkpoint->tensors().size() == 1);
  }
  SECTION("or saved anew, as what both have") {
    Shapes saved = Lora("lm_head", 8, 6);
    saved.push_back({"base_model.model.lm_head.base_layer.weight", vocabulary});
    const auto checkpoint = Folders(embedding, tied).Adapter(saved).MustMerge();
    REQUIRE(MergedIn(*checkpoint) == Names{"model.embed_tokens.weight"});
    CHECK(checkpoint->tensors().size() == 1);
    CHECK(checkpoint->tensors()[0].merged->base->merged != nullptr);
  }
}

TEST_CASE("what replaces a tensor takes its dtype, and carries factors that lie on it") {
  Shapes adapter = {{"base_model.model.model.a.base_layer.weight", {4, 6}}, {"base_model.model.n.bias", {4}}};
  const Shapes lora = Lora("model.a", 4, 6);
  adapter.insert(adapter.end(), lora.begin(), lora.end());
  const auto checkpoint = Folders({{"model.a.weight", {4, 6}}, {"n.bias", {4}}}).Adapter(adapter).MustMerge();
  const SourceTensor& tensor = *checkpoint->Find("model.a.weight");
  CHECK(tensor.dtype == DType::kBF16);
  REQUIRE(tensor.merged->base->merged != nullptr);
  CHECK(tensor.merged->base->dtype == DType::kBF16);
  CHECK(tensor.merged->base->merged->base->dtype == DType::kF32);
  CHECK(checkpoint->Find("n.bias")->merged->a == nullptr);
  // In the order of their places.
  CHECK(std::is_sorted(checkpoint->tensors().begin(), checkpoint->tensors().end(), [](const auto& x, const auto& y) {
    return std::pair(x.place().file, x.place().offset) < std::pair(y.place().file, y.place().offset);
  }));
}

TEST_CASE("convolutions are matrices of what lies behind their first dimension") {
  const Shapes lora = {{"base_model.model.c.lora_A.weight", {2, 3, 5, 5}},
                       {"base_model.model.c.lora_B.weight", {4, 2, 1, 1}}};
  const auto checkpoint = Folders({{"c.weight", {4, 3, 5, 5}}}).Adapter(lora).MustMerge();
  const MergedAdapter& merged = *checkpoint->Find("c.weight")->merged;
  CHECK(merged.rows == 4);
  CHECK(merged.columns == 75);
  // In groups a filter has fewer inputs than the layer.
  CHECK(Folders({{"c.weight", {4, 1, 5, 5}}}).Adapter(lora).Issue() == kAdapterShape.number);
}

TEST_CASE("the user is told of another base model, and of files that are not read") {
  Folders folders({{"model.a.weight", {4, 6}}});
  CHECK(Says(*folders.Adapter(Lora("model.a", 4, 6), R"(, "base_model_name_or_path": "who/x\u001b")").MustMerge(),
             "'who/x"));
  CHECK_FALSE(Says(*folders.Adapter(Lora("model.a", 4, 6), R"(, "base_model_name_or_path": "who/m")").MustMerge(),
                   "base model"));
}

}  // namespace q4
