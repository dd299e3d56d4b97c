#include "formats/folder/companion_kinds.h"

#include <string>

#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("which names are companions") {
  for (const char* name : {"config.json",
                           "generation_config.json",
                           "tokenizer.json",
                           "tokenizer_config.json",
                           "special_tokens_map.json",
                           "preprocessor_config.json",
                           "video_preprocessor_config.json",
                           "vocab.txt",
                           "merges.txt",
                           "tokenizer.model",
                           "tokenizer.model.v3",
                           "spiece.model",
                           "source.spm",
                           "target.spm",
                           "bpe.codes",
                           "en.vocab",
                           "vocab.bpe",
                           "encoder.json",
                           "dict.txt",
                           "prophetnet.tokenizer",
                           "cl100k.tiktoken",
                           "tekken.json",
                           "params.json",
                           "chat_template.jinja",
                           "chat_template.json",
                           "modules.json",
                           "sentence_bert_config.json",
                           "config_sentence_transformers.json",
                           "README.md",
                           "README",
                           "Readme.MD",
                           "LICENSE",
                           "LICENSE.txt",
                           "LICENCE",
                           "LICENSE-APACHE",
                           "MIT-LICENSE",
                           "COPYING",
                           "NOTICE",
                           "USE_POLICY.md",
                           "hyperparams.yaml",
                           "config.JSON"}) {
    INFO(name);
    CHECK(IsCompanionName(name));
  }
  for (const char* name : {"",
                           ".gitattributes",
                           ".config.json",
                           "model.safetensors",
                           "pytorch_model.bin",
                           "tokenizer.pkl",
                           "tokenizer.py",
                           "tokenizer.so",
                           "vocab.bin",
                           "m.pt",
                           "m.pth",
                           "m.ckpt",
                           "m.gguf",
                           "tf_model.h5",
                           "flax_model.msgpack",
                           "m.onnx",
                           "m.q4",
                           "m.q4.index.json",
                           "model.safetensors.index.json",
                           "pytorch_model.bin.index.json",
                           "quantize_config.json",
                           "hf_quant_config.json",
                           "quant_config.json",
                           "adapter_config.json",
                           "trainer_state.json",
                           "q4_export.json",
                           "modeling_x.py",
                           "LICENSE.py",
                           "README.png",
                           "config.json~",
                           "config.json.partial",
                           "report.html",
                           "junit.xml",
                           "train.log"}) {
    INFO(name);
    CHECK_FALSE(IsCompanionName(name));
  }
}

TEST_CASE("what is not carried always has a reason, and what a loader may ask for is told as such") {
  for (const char* name : {"x", "mtp.safetensors", "adapter_model.safetensors", "sparse_linear.pt", "lexicon.fst",
                           "data.npz", "weights.tar.gz", "mm_projector.bin"}) {
    INFO(name);
    CHECK(KindOfFile(name).fate == FileFate::kMissed);
    CHECK_FALSE(KindOfFile(name).reason.empty());
  }
  for (const char* name : {"optimizer.pt", "rng_state_0.pth", "training_args.bin", "events.out.tfevents.1.host",
                           "consolidated.safetensors", "model.fp16-00001-of-00002.safetensors",
                           "model-00001-of-00002.fp16.safetensors", "a.png", "a.html", "a.parquet"}) {
    INFO(name);
    CHECK(KindOfFile(name).fate == FileFate::kLeftOut);
    CHECK_FALSE(KindOfFile(name).reason.empty());
  }
  CHECK(KindOfFolder("openvino").fate == FolderFate::kLeftOut);
  CHECK(KindOfFolder("original").fate == FolderFate::kLeftOut);
  CHECK(KindOfFolder("checkpoint-500").fate == FolderFate::kLeftOut);
  CHECK(KindOfFolder(".cache").fate == FolderFate::kHidden);
  CHECK(KindOfFolder("out.partial").fate == FolderFate::kOwn);
  CHECK(KindOfFolder("question_encoder_tokenizer").fate == FolderFate::kSearched);
  CHECK(KindOfFolder("language_model").fate == FolderFate::kMissed);
}

}  // namespace
}  // namespace q4
