"""Tiny pipelines of diffusers, made by diffusers and transformers themselves: for the tests of docs/pipelines.md."""
import json
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402


def clip_text(projection: bool):
    config = transformers.CLIPTextConfig(
        bos_token_id=0, eos_token_id=2, hidden_size=32, intermediate_size=64, projection_dim=32, num_attention_heads=4,
        num_hidden_layers=2, pad_token_id=1, vocab_size=99, max_position_embeddings=77,
    )
    cls = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return cls(config).eval()


def t5_text():
    config = transformers.T5Config(vocab_size=99, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu")
    return transformers.T5EncoderModel(config).eval()


def tokenizer(folder: pathlib.Path):
    """A byte-level CLIP tokenizer with a vocabulary of a few letters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def vae(latent: int = 4):
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 64), in_channels=3, out_channels=3, latent_channels=latent, norm_num_groups=8, sample_size=32,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"), up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
    )


def flux(folder: pathlib.Path):
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
    )
    words = tokenizer(folder / "words")
    pipeline = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), text_encoder=clip_text(False), text_encoder_2=t5_text(), tokenizer=words,
        tokenizer_2=words, vae=vae(1), transformer=transformer,
    )
    pipeline.to(torch.bfloat16).save_pretrained(folder / "flux")
    return folder / "flux"


def sd3(folder: pathlib.Path):
    torch.manual_seed(0)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=32, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4, caption_projection_dim=32,
        joint_attention_dim=32, pooled_projection_dim=64, out_channels=4,
    )
    words = tokenizer(folder / "words")
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=vae(4), text_encoder=clip_text(True),
        tokenizer=words, text_encoder_2=clip_text(True), tokenizer_2=words, text_encoder_3=t5_text(), tokenizer_3=words,
    )
    pipeline.to(torch.float16).save_pretrained(folder / "sd3")
    return folder / "sd3"


def sdxl(folder: pathlib.Path):
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=32, in_channels=4, out_channels=4, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2), projection_class_embeddings_input_dim=80, cross_attention_dim=64,
    )
    words = tokenizer(folder / "words")
    pipeline = diffusers.StableDiffusionXLPipeline(
        unet=unet, scheduler=diffusers.EulerDiscreteScheduler(), vae=vae(4), text_encoder=clip_text(False), tokenizer=words,
        text_encoder_2=clip_text(True), tokenizer_2=words,
    )
    pipeline.to(torch.float16).save_pretrained(folder / "sdxl")
    return folder / "sdxl"


MAKERS = {"flux": flux, "sd3": sd3, "sdxl": sdxl}
