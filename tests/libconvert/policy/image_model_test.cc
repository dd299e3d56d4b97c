// Image models in one file, by the names of the files that people have.
#include "libconvert/policy/image_model.h"

#include <string>
#include <vector>

#include "libconvert/policy/default.h"
#include "libconvert/policy/rules.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

struct ImageTensor {
  const char* name;
  bool quantized;
  Shape shape = {8, 8};
};

// The verdicts of DefaultVerdicts() for a file without config.json, held against the table.
void CheckImageModel(const std::vector<ImageTensor>& rows, const char* config = "") {
  std::vector<SourceTensor> tensors;
  for (const ImageTensor& row : rows) {
    SourceTensor& tensor = tensors.emplace_back();
    tensor.name = row.name;
    tensor.dtype = DType::kF16;
    tensor.shape = row.shape;
    static_cast<void>(CountElements(tensor.shape, &tensor.elems));
  }
  REQUIRE(IsImageModel(tensors));
  const auto verdicts = test::Must(DefaultVerdicts(tensors, ModelConfigs(config)));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    INFO(rows[i].name << ": " << verdicts[i].reason);
    CHECK(verdicts[i].quantize == rows[i].quantized);
    CHECK_FALSE(verdicts[i].reason.empty());
  }
}

TEST_CASE("Stable Diffusion XL in one file") {
  CheckImageModel({
      {"model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight", true},
      {"model.diffusion_model.input_blocks.4.1.proj_in.weight", true},
      {"model.diffusion_model.input_blocks.4.1.proj_out.weight", true},
      {"model.diffusion_model.middle_block.0.emb_layers.1.weight", true},
      {"model.diffusion_model.output_blocks.0.1.transformer_blocks.0.ff.net.0.proj.weight", true},
      {"model.diffusion_model.input_blocks.0.0.weight", false, {8, 4, 3, 3}},
      {"model.diffusion_model.input_blocks.1.1.proj_in.weight", false, {8, 8, 1, 1}},
      {"model.diffusion_model.input_blocks.4.1.norm.weight", false, {8}},
      {"model.diffusion_model.time_embed.0.weight", false},
      {"model.diffusion_model.label_emb.0.2.weight", false},
      {"model.diffusion_model.out.2.weight", false, {4, 8, 3, 3}},
      {"first_stage_model.decoder.mid.attn_1.q.weight", false},
      {"first_stage_model.quant_conv.weight", false, {8, 8, 1, 1}},
      {"conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight", true},
      {"conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight", false},
      {"conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight", false},
      {"conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight", true},
      {"conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight", false, {24, 8}},
      {"conditioner.embedders.1.model.transformer.resblocks.0.attn.out_proj.weight", false},
      {"conditioner.embedders.1.model.text_projection", false},
      {"model_ema.diffusion_modelinput_blocks00weight", false},
      {"denoiser.sigmas.weight", false},
  });
}

TEST_CASE("Flux and Stable Diffusion 3 with text encoders, as ComfyUI keeps them") {
  CheckImageModel({
      {"model.diffusion_model.double_blocks.0.img_attn.qkv.weight", true},
      {"model.diffusion_model.double_blocks.0.img_mod.lin.weight", true},
      {"model.diffusion_model.single_blocks.0.linear1.weight", true},
      {"model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale", false, {8}},
      {"model.diffusion_model.img_in.weight", false},
      {"model.diffusion_model.txt_in.weight", false},
      {"model.diffusion_model.time_in.in_layer.weight", false},
      {"model.diffusion_model.vector_in.out_layer.weight", false},
      {"model.diffusion_model.guidance_in.in_layer.weight", false},
      {"model.diffusion_model.final_layer.linear.weight", false},
      {"model.diffusion_model.final_layer.adaLN_modulation.1.weight", false},
      {"model.diffusion_model.joint_blocks.0.x_block.adaLN_modulation.1.weight", true},
      {"model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight", true},
      {"model.diffusion_model.x_embedder.proj.weight", false, {8, 4, 2, 2}},
      {"model.diffusion_model.context_embedder.weight", false},
      {"model.diffusion_model.t_embedder.mlp.0.weight", false},
      {"model.diffusion_model.y_embedder.mlp.2.weight", false},
      {"model.diffusion_model.pos_embed", false, {1, 8, 8}},
      {"text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight", true},
      {"text_encoders.clip_l.transformer.text_projection.weight", false},
      {"text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wi_0.weight", true},
      {"text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wo.weight", false},
      {"text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", false},
      {"text_encoders.t5xxl.transformer.shared.weight", false},
      {"text_encoders.qwen25_7b.transformer.model.embed_tokens.weight", false},
      {"text_encoders.qwen25_7b.transformer.model.layers.0.mlp.up_proj.weight", true},
      {"vae.decoder.mid.attn_1.k.weight", false},
  });
}

TEST_CASE("diffusion models without a prefix") {
  CheckImageModel({{"double_blocks.0.img_attn.proj.weight", true},
                   {"single_blocks.0.modulation.lin.weight", true},
                   {"img_in.weight", false},
                   {"final_layer.linear.weight", false}});
  CheckImageModel({{"joint_blocks.0.x_block.mlp.fc1.weight", true}, {"x_embedder.proj.weight", false, {8, 4, 2, 2}}});
  CheckImageModel({{"input_blocks.0.0.weight", false, {8, 4, 3, 3}},
                   {"middle_block.1.transformer_blocks.0.attn2.to_k.weight", true},
                   {"time_embed.2.weight", false}});
  // Wan, by the prefix that ComfyUI gives it.
  CheckImageModel({{"diffusion_model.blocks.0.self_attn.q.weight", true},
                   {"diffusion_model.patch_embedding.weight", false, {8, 4, 1, 2, 2}},
                   {"diffusion_model.text_embedding.0.weight", false},
                   {"diffusion_model.time_projection.1.weight", false},
                   {"diffusion_model.img_emb.proj.1.weight", false},
                   {"diffusion_model.head.head.weight", false}});
}

TEST_CASE("what a configuration names goes by that, and other names are no image model") {
  std::vector<SourceTensor> tensors(1);
  tensors[0].shape = {8, 8};
  tensors[0].elems = 64;
  for (const char* name : {"model.layers.0.mlp.up_proj.weight", "single_blocks.0.linear1.weight",
                           "vae.decoder.q.weight", "text_encoders.a.weight", "my.model.diffusion_model.x.weight"}) {
    tensors[0].name = name;
    CHECK_FALSE(IsImageModel(tensors));
  }
  tensors[0].name = "model.diffusion_model.x_embedder.weight";
  const auto verdicts =
      test::Must(DefaultVerdicts(tensors, ModelConfigs(R"({"_class_name": "AnyTransformer2DModel"})")));
  CHECK(verdicts[0].quantize);  // as diffusers does
}

}  // namespace
}  // namespace q4
