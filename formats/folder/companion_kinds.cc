// The order of the rows matters: endings that are never carried come before names that are, so that no "tokenizer" or
// "LICENSE" brings code or weights in; what is known comes before what is not. Which names tokenizers, processors and
// feature extractors read was taken from transformers; tests/python/companion_names_check.py holds the table against
// every class of it.
#include "formats/folder/companion_kinds.h"

#include <algorithm>
#include <string>

#include "formats/base/text.h"
#include "formats/folder/adapters.h"
#include "formats/folder/quant_methods.h"

namespace q4 {
namespace {

constexpr FileNameKind kFiles[] = {
    // What q4 writes: containers, their lists and journals, files that are not published yet, manifests of exports.
    {"*.q4 *.q4.index.json *.q4.journal *.partial *.q4-probe *.q4-probe2 *.q4-replaced "
     "q4_export.json q4-pipeline.json",
     FileFate::kOwn, "an output of q4"},
    {".* *~ *.bak *.orig *.swp *.tmp *.lock *.part *.incomplete *.aria2 *.crdownload thumbs.db desktop.ini",
     FileFate::kHidden, "a hidden or temporary file"},

    {"quantization_config.json quanto_qmap.json quantization_map.json awq_config.json recipe.yaml", FileFate::kLeftOut,
     "settings of a quantizer", IsQuantizationFile},
    // A configuration that is carried would make transformers look for the weights.
    {"", FileFate::kMissed, "of an adapter, which is not applied", IsAdapterFile},
    {"optimizer.* optimizer_* *optim_states* scheduler.* scaler.* rng_state* random_states* training_args.* "
     "trainer_state.json trainer_log.json* events.out.* *.tfevents* *.log nohup.out latest zero_to_fp32.py",
     FileFate::kLeftOut, "left over from training"},

    // Weights. Those that the checkpoint consists of are not asked about.
    {"*.index.json", FileFate::kLeftOut, "an index of other weights"},
    {"consolidated*.safetensors", FileFate::kLeftOut, "weights in the layout of the model's maker"},
    {"model.*.safetensors model-*-of-*.*.safetensors diffusion_pytorch_model.*.safetensors "
     "diffusion_pytorch_model-*-of-*.*.safetensors",
     FileFate::kLeftOut, "another variant of the weights"},
    {"*.safetensors", FileFate::kMissed, "weights that the checkpoint does not name"},
    // llama.cpp takes it beside the language model.
    {"*mmproj*.gguf", FileFate::kMissed, "the projector of a multimodal model, a checkpoint of its own"},
    // q4 reads them where they are what it is given.
    {"*pytorch_model*.bin model.bin model*.pt model*.pth model*.ckpt consolidated*.pth *.gguf", FileFate::kOtherWeights,
     "weights in another format than those that are read"},
    {"tf_model*.h5 model.h5 *.msgpack flax_model* *.onnx *.onnx_data *.onnx.data ggml-*.bin *.ggml *.llamafile "
     "openvino_* rust_model.ot *.tflite *.mlmodel *.pb *.pte *.nemo *.keras *.pdparams *.pdmodel *.engine *.plan "
     "*.ckpt.index *.ckpt.meta *.ckpt.data-*",
     FileFate::kOtherWeights, "weights of another framework"},
    {"*.bin *.pt *.pth *.ckpt", FileFate::kMissed, "weights or data beside the weights that are read"},
    {"*.h5 *.ot", FileFate::kMissed, "weights or data that q4 does not read"},
    // Which run code when they are opened, or may.
    {"*.pkl *.pickle *.joblib *.npy *.npz", FileFate::kMissed, "data that may hold Python objects"},

    {"*.py *.pyc *.pyx *.so *.dll *.dylib *.exe *.sh *.bat *.ps1 *.js *.ts *.c *.cc *.cpp *.cu *.h *.rs *.go *.java "
     "*.jar *.lua *.ipynb makefile dockerfile",
     FileFate::kCode, "code, which is never carried"},

    // Of no use to a loader. Before what is carried, for "README.png".
    {"*.png *.jpg *.jpeg *.gif *.svg *.webp *.bmp *.ico *.avif *.tif *.tiff *.wav *.mp3 *.flac *.ogg *.m4a *.mp4 "
     "*.webm "
     "*.mov *.avi *.mkv",
     FileFate::kLeftOut, "a picture, sound or film"},
    {"*.html *.htm *.xml *.css *.tex *.bib *.docx *.pptx *.xlsx", FileFate::kLeftOut, "a report or document"},
    {"*.sha256 *.sha256sum *.sha1 *.md5 *.sig *.asc sha256sums* md5sum* checksum*", FileFate::kLeftOut,
     "checksums or signatures"},
    {"*.zip *.tar *.gz *.tgz *.bz2 *.xz *.zst *.7z *.rar *.dduf *.mar", FileFate::kMissed, "an archive"},

    // Licence and model card.
    {"license* licence* *-license* *_license* copying* copyright* notice* eula* use_policy* usage_policy* "
     "acceptable_use* readme* modelcard* model_card* authors* citation* changelog* *.md *.rst",
     FileFate::kDocument, ""},

    // Configuration, processors, templates, tokenizers.
    {"*config*.json params.json modules.json chat_template* *.jinja *.jinja2", FileFate::kCarried, ""},
    {"tokenizer* *tokenizer.json vocab* *vocab.json *vocab.txt merges* *.merges *.model *.model.v* *.spm *.codes *.bpe "
     "*.vocab *.dict dict.txt *.tiktoken *.tokenizer tekken* special_tokens_map.json added_tokens.json "
     "speaker_embeddings_path.json",
     FileFate::kCarried, ""},
    {"*.json *.json5 *.txt *.yaml *.yml *.toml *.ini *.cfg *.conf", FileFate::kDocument, ""},

    {"*token* *vocab* *merges* *bpe* *spm* *sentencepiece* *spiece* *tekken* *lexicon* *phoneme*", FileFate::kMissed,
     "perhaps of a tokenizer, but of an unknown kind"},
    {"*.parquet *.arrow *.jsonl *.csv *.tsv", FileFate::kLeftOut, "a data set"},
    {"*", FileFate::kMissed, "of an unknown kind"},
};

constexpr FolderNameKind kFolders[] = {
    {"*.partial *.q4-replaced *.q4.parts", FolderFate::kOwn, "an output of q4"},
    {".* __pycache__ node_modules", FolderFate::kHidden, "a hidden folder or cache"},
    // transformers keeps templates, and tokenizers and processors beyond the first one, in folders of their own.
    {"additional_chat_templates *tokenizer *processor *feature_extractor", FolderFate::kSearched, ""},
    {"onnx* openvino* coreml* *.mlpackage *.mlmodelc tf tf_* tensorflow* saved_model flax* jax* gguf* ggml* mlx* "
     "tflite* "
     "ctranslate2* pytorch* torchscript* tensorrt* executorch*",
     FolderFate::kLeftOut, "weights of another framework"},
    {"original* consolidated*", FolderFate::kLeftOut, "weights in the layout of the model's maker"},
    {"checkpoint-* checkpoints global_step* runs wandb mlruns lightning_logs logs log tensorboard",
     FolderFate::kLeftOut, "left over from training"},
    {"eval evals evaluation* results benchmark* images image imgs img figures figs fig assets media pictures doc docs "
     "examples example samples sample demo demos static audio video videos",
     FolderFate::kLeftOut, "pictures, examples, results or documents"},
    {"custom_generate", FolderFate::kMissed, "code of generate(), which is never carried"},
    {"speaker_embeddings voices", FolderFate::kMissed, "voices, which a processor reads"},
    {"*", FolderFate::kMissed, "a folder of an unknown kind"},
};

std::string InLowerCase(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

template <typename Row, std::size_t kRows>
const Row& FirstMatch(const Row (&rows)[kRows], std::string_view name) {
  const std::string lower = InLowerCase(name);
  // Never the end: the last row matches every name.
  return *std::find_if(std::begin(rows), std::end(rows), [&](const Row& row) {
    if (row.matches != nullptr && row.matches(name)) return true;
    std::string_view patterns = row.patterns;
    while (!patterns.empty()) {
      const std::size_t space = std::min(patterns.find(' '), patterns.size());
      if (MatchesWildcards(patterns.substr(0, space), lower)) return true;
      patterns.remove_prefix(std::min(space + 1, patterns.size()));
    }
    return false;
  });
}

}  // namespace

const FileNameKind& KindOfFile(std::string_view name) { return FirstMatch(kFiles, name); }

const FolderNameKind& KindOfFolder(std::string_view name) { return FirstMatch(kFolders, name); }

bool IsCompanionName(std::string_view name) {
  const FileFate fate = KindOfFile(name).fate;
  return fate == FileFate::kCarried || fate == FileFate::kDocument;
}

}  // namespace q4
