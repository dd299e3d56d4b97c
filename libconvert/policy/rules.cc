// The tables were derived by running transformers 5.23's own selection over every model class that it can build
// (tests/python/policy_check.py); tests/libconvert/policy/architectures_test.cc replays the result. A rule that no
// model needs is not here.
#include "libconvert/policy/rules.h"

#include <cstddef>

#include "formats/base/text.h"

namespace q4 {
namespace {

// The reasons, each spelt once. kOutputHead is in the header.
constexpr std::string_view kLast = "last module of the model";
constexpr std::string_view kSpecialClass = "special linear class, which transformers leaves alone";
constexpr std::string_view kConv1d = "Conv1D weight (stored transposed)";

// Groups by cause, and within a group by model. The comment over a group says what in transformers makes the
// difference.
constexpr PolicyRule kModelRules[] = {
    // GPT-2's Conv1D stores [in, out]; transformers transposes before it quantizes, q4 stores tensors as they are.
    {"gpt2 openai-gpt imagegpt decision_transformer", "c_attn c_proj c_fc q_attn", false, kConv1d},
    {"clvp", "speech_decoder_model.**.c_fc speech_decoder_model.**.c_proj", false, kConv1d},

    // Modules in the classes' _keep_in_fp32_modules.
    {"t5 mt5 umt5 udop pop2piano", "wo", false, kFullPrecision},
    {"blip-2", "^qformer.**", false, kFullPrecision},
    {"deepseek_v32 deepseek_v4 glm_moe_dsa axk2 mistral_large4 mistral_large4_text", "indexer.weights_proj", false,
     kFullPrecision},
    {"deepseek_v4", "compressor.wgate compressor.wkv", false, kFullPrecision},

    // Classes derived from nn.Linear: transformers compares the class itself.
    {"falcon", "query_key_value self_attention.dense dense_h_to_4h dense_4h_to_h", false, kSpecialClass},
    {"ibert", "encoder.layer.#.**", false, kSpecialClass},
    {"deepseek_v4", "attn.wo_a", false, kSpecialClass},

    // Layers that appear in several places: tied weights are spared.
    {"zamba zamba2", "shared_transf.** shared_transformer.**", false, kTied},
    {"d_fine deformable_detr deimv2 grounding-dino mm-grounding-dino rt_detr_v2", "bbox_embed.#.layers.#", false,
     kTied},
    {"DabDetrForObjectDetection", "bbox_predictor.layers.# bbox_embed.layers.#", false, kTied},
    {"pp_doclayout_v3", "bbox_embed.layers.# enc_bbox_head.layers.# enc_score_head", false, kTied},
    {"NeoMMEForMaskedLM", "embed_tokens.embedding_projection unembedding_projection", false, kTied},
    {"inkling_mm_model", "audio.encoder audio_tower.encoder", false, kTied},

    // The output embedding under a name that is a plain layer's elsewhere.
    {"whisper moonshine canary", "^proj_out", false, kOutputHead},
    {"rwkv deepseek_v4", "^head", false, kOutputHead},
    {"git mistral_large4", "^output", false, kOutputHead},
    {"modernbert modernbert-decoder", "^decoder", false, kOutputHead},
    {"MobileBertForMaskedLM", "cls.predictions.dense", false, kOutputHead},
    {"cohere_asr", "log_softmax.mlp.layer0", false, kOutputHead},
    {"granite_speech5_ctc", "^encoder.out", false, kOutputHead},
    {"ultrabert", "^cls", false, kOutputHead},
    {"flava", "mmm_text_head.decoder", false, kOutputHead},
    // Layers named like an output embedding, but not known to transformers as one.
    {"*ForCTC", "^lm_head", true, kLinear},
    {"bark", "coarse_acoustics.lm_head semantic.lm_head", true, kLinear},
    {"clvp", "speech_decoder_model.lm_head", true, kLinear},
    {"nemotron_h_omni", "language_model.lm_head", true, kLinear},
    {"qwen2_5_omni", "thinker.lm_head", true, kLinear},

    // The module that comes last in the class, and has no bias.
    {"CTRLForSequenceClassification ModernBertDecoderForSequenceClassification", "^classifier", false, kLast},
    {"VoxtralModel VoxtralRealtimeModel VoxtralRealtimeForConditionalGeneration", "multi_modal_projector.linear_2",
     false, kLast},
    {"Inkling2Model Inkling2VisionModel", "merger.linear_2", false, kLast},
    {"EmbeddingGemma2Model EmbeddingGemma2TextModel", "embedding_projection", false, kLast},
    {"SplinterForPreTraining SplinterForQuestionAnswering", "splinter_qass.end_classifier", false, kLast},
    {"ClvpModelForConditionalGeneration", "speech_encoder_model.projection", false, kLast},
    {"GradiumPhononTTSModel", "^duration_delta_proj", false, kLast},
    {"LayoutLMv3Model", "^encoder.rel_pos_y_bias", false, kLast},
    {"Llama4VisionModel", "^vision_adapter.mlp.fc2", false, kLast},
    {"MuseGlimmerModel", "^vision_projection", false, kLast},
    {"NemotronH_Omni_Reasoning_V3", "^mlp1.3", false, kLast},
    {"PeAudioModel", "audio_head.proj text_audio_head.proj", false, kLast},
    {"PeAudioEncoder", "^output", false, kLast},
    {"PocketTTSModel", "^audio_latent_proj", false, kLast},
    {"Qwen3ASREncoder", "^conv_out", false, kLast},
    {"Sam3LiteTextTextModel", "^projection", false, kLast},
    {"Step3p7Model", "^multi_modal_projector", false, kLast},
    {"TimesFm2_5ModelForPrediction", "^output_projection_quantiles.residual_layer", false, kLast},
    {"XCLIPModel", "^text_projection", true, kLinear},

    // Routers inside a module of their own, of a class of their own; routers that are plain linear layers are
    // quantized.
    {"granitemoe granitemoehybrid granitemoeshared", "router.layer", false, kRouter},
    {"hy_v3", "router.gate", false, kRouter},

    // Experts that are plain linear layers, one module each, and a router that stands among experts.
    {"switch_transformers nllb-moe", "experts.**", true, kLinear},
    {"jetmoe", "experts.router.layer", true, kLinear},

    // Tables of vectors and other parameters under a name of their own.
    {"ctrl", "^transformer.w ^w", false, kEmbedding},
    {"dac", "codebook", false, kEmbedding},
    {"eomt eomt_dinov3 videomt", "^query", false, kEmbedding},
    {"lw_detr rf_detr", "query_feat", false, kEmbedding},
    {"mask2former", "queries_features", false, kEmbedding},
    {"phi4_multimodal phi4_multimodal_audio", "relative_attention_bias_layer.bias_values", false, kEmbedding},
    {"sam3 sam3_lite_text sam3_video", "reference_points", false, kEmbedding},
    {"speecht5", "embed_positions.pe_k", false, kEmbedding},
    {"*ForXVector", "^objective", false, kParameter},

    // Linear layers under a name that is an embedding's or a parameter's elsewhere.
    {"decision_transformer", "embed_action embed_return embed_state", true, kLinear},
    {"fuyu", "vision_embed_tokens", true, kLinear},
    {"Gemma3nForConditionalGeneration Gemma3nModel", "embed_audio.embedding_projection", false, kLast},
    {"Gemma3nForCausalLM Gemma3nTextModel", "altup_unembed_projections.2", false, kLast},
    {"gemma3n_text", "altup_unembed_projections.#", true, kLinear},
    {"gradium_phonon_tts", "cond_embed", true, kLinear},
    {"inkling2 inkling2_text", "attn.k_sconv.weight_proj attn.v_sconv.weight_proj", true, kLinear},
    {"lilt", "box_linear_embeddings", true, kLinear},
    {"dab-detr lw_detr rf_detr oneformer pp_doclayout_v2 pp_doclayout_v4 rt_detr",
     "class_embed class_embed.# enc_out_class_embed.#", true, kLinear},
    {"markuplm", "xpath_unitseq2_embeddings", true, kLinear},
    {"patchtst", "input_embedding", true, kLinear},
    {"prophetnet", "relative_pos_embeddings", true, kLinear},
    {"radio nemotron_h_omni", "patch_generator.embedder patch_generator.video_embedder", true, kLinear},
    {"speecht5", "speaker_embeds_layer", true, kLinear},
    {"vit_mae", "decoder_embed", true, kLinear},
    {"vjepa2", "predictor_embeddings", true, kLinear},

    // Checkpoints that pack the three input projections of attention into one matrix, as nn.MultiheadAttention
    // does, for models whose attention is made of plain linear layers.
    {"rf_detr", "transformer.decoder.layers.#.self_attn.in_proj_weight transformer.decoder.layers.#.self_attn.out_proj",
     true, kLinear},
    {"step3p7",
     "vision_model.transformer.resblocks.#.attn.in_proj_weight vision_model.transformer.resblocks.#.attn.out_proj",
     true, kLinear},
    {"tipsv2 tipsv2_text_model", "transformer.resblocks.#.attn.in_proj_weight transformer.resblocks.#.attn.out_proj",
     true, kLinear},
};

// Order matters: projections have "embed" in their names as embeddings do, and heads may contain "decoder". "^output"
// is the head under the names of Mistral's and Meta's own files, which may have no config.json beside them.
constexpr PolicyRule kGeneralRules[] = {
    // Before the embeddings: projections to and from them.
    {"",
     "*embed*_proj* embedding_hidden_mapping_in embedding_transformation embeddings_project patch_embedding "
     "entity_embedding_dense inputs_embeds_projector mask_embedder.#.#",
     true, kLinear},
    {"",
     "^output lm_head lm_heads.# embed_out shared_head.head lm_head.out_proj lm_head.decoder audio_lm_head "
     "generator_lm_head "
     "*predictions.decoder head.decoder pred_layer.proj output_projection vocab_projector lm_loss logits_dense "
     "ctc_head",
     false, kOutputHead},
    {"", "*embed* *embed*.# *Embed* wte wpe shared *_emb relative_attention_bias *_token *_tokens", false, kEmbedding},
    {"", "*norm *norm1 *norm2 *norm.#", false, "norm"},
};

// Whether `pattern`, a text with `*` or "#", matches all of `part`, a name between two dots.
bool MatchesPart(std::string_view pattern, std::string_view part) {
  if (pattern == "#") {
    return !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
  }
  return MatchesWildcards(pattern, part);
}

// The parts of a dotted name, taken from its end.
class PartsFromEnd {
 public:
  explicit PartsFromEnd(std::string_view name) : rest_(name) {}
  bool empty() const { return done_; }
  // REQUIRES: !empty().
  std::string_view Take() {
    const std::size_t dot = rest_.rfind('.');
    const std::string_view part = rest_.substr(dot + 1);  // npos + 1 is 0
    done_ = dot == std::string_view::npos;
    rest_ = done_ ? std::string_view() : rest_.substr(0, dot);
    return part;
  }

 private:
  std::string_view rest_;
  bool done_ = false;
};

// Whether the parts of `pattern`, from the end, match those of `name`. What `name` has in front of them is allowed
// unless `whole`. A pattern has at most one "**". From the end, because an item says how a name ends. Both arguments
// are copies, a few words each, so a failed try leaves nothing behind.
bool MatchesParts(PartsFromEnd pattern, PartsFromEnd name, bool whole) {
  while (!pattern.empty()) {
    const std::string_view part = pattern.Take();
    if (part == "**") {
      // "**" takes one part more of the name until the rest of the pattern matches.
      while (!MatchesParts(pattern, name, whole)) {
        if (name.empty()) return false;
        name.Take();
      }
      return true;
    }
    if (name.empty() || !MatchesPart(part, name.Take())) return false;
  }
  return !whole || name.empty();
}

bool MatchesItem(std::string_view item, std::string_view name) {
  const bool whole = item.front() == '^';
  return MatchesParts(PartsFromEnd(item.substr(whole ? 1 : 0)), PartsFromEnd(name), whole);
}

}  // namespace

std::span<const PolicyRule> ModelRules() { return kModelRules; }

std::span<const PolicyRule> GeneralRules() { return kGeneralRules; }

bool MatchesModule(std::string_view modules, std::string_view name) {
  return AnyItem(modules, " ", [name](std::string_view item) { return MatchesItem(item, name); });
}

bool MatchesAny(std::string_view list, std::string_view name) {
  return AnyItem(list, " ", [name](std::string_view item) { return MatchesPart(item, name); });
}

}  // namespace q4
