"""Components of diffusers pipelines through q4convert and q4export, and in the real diffusers.

    python diffusers_check.py --bin DIR [--case NAME ...]

--bin holds q4convert, q4export and q4inspect. The models are tiny, random, and made here: transformers, UNets, VAEs and a
control net, sharded and not, of old names too, with and without modules that are kept. For each:
  - file names are diffusers' own, and config.json is the source's but for quantization_config;
  - from_pretrained loads the 4-bit export without a missing or unexpected weight; its 4-bit layers are those that diffusers
    makes of the original, less the kept ones, and hold the same bytes, double quantization aside;
  - every parameter, decoded, equals that of the dequantized export, which diffusers loads too;
  - convolutions, embeddings, norms and biases are the source's.
diffusers asks for a GPU before it loads 4-bit weights. On the CPU that question alone is answered for it.
"""

import json
import pathlib
import sys
from dataclasses import dataclass, field

import bitsandbytes as bnb
import bitsandbytes_cpu
import diffusers
import safetensors.torch
import torch
from diffusers import BitsAndBytesConfig
from diffusers.quantizers.bitsandbytes import bnb_quantizer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import must, parse_arguments, run, run_cases  # noqa: E402  (the path above)

HEADS = {"attention_head_dim": 16, "num_attention_heads": 4}
UNET = {"sample_size": 16, "block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 64,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4, "norm_num_groups": 16}
VAE = {"block_out_channels": (32, 64), "down_block_types": ("DownEncoderBlock2D",) * 2,
       "up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 16, "latent_channels": 4}


@dataclass
class Case:
    name: str
    model: str  # a class of diffusers
    config: dict
    convert: list = field(default_factory=list)
    export: list = field(default_factory=list)
    skipped: list = None  # llm_int8_skip_modules of the export
    old_names: bool = False  # attention layers on disk as before diffusers 0.15
    variant: str = None
    dtype: torch.dtype = torch.bfloat16


def cases():
    flux = {"in_channels": 64, "num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 64,
            "pooled_projection_dim": 64, "axes_dims_rope": (4, 4, 8), **HEADS}
    yield Case("flux", "FluxTransformer2DModel", flux)
    yield Case("flux_kept", "FluxTransformer2DModel", flux, ["--exclude", "embedder", "--exclude", "norm_out"],
               skipped=["context_embedder", "norm_out.linear", "time_text_embed.text_embedder.linear_1",
                        "time_text_embed.text_embedder.linear_2", "time_text_embed.timestep_embedder.linear_1",
                        "time_text_embed.timestep_embedder.linear_2", "x_embedder"])
    yield Case("flux_sharded", "FluxTransformer2DModel", flux, export=["--shard-size", "100KB"])
    yield Case("sd3", "SD3Transformer2DModel",
               {"sample_size": 16, "num_layers": 2, "joint_attention_dim": 64, "caption_projection_dim": 64,
                "pooled_projection_dim": 64, "pos_embed_max_size": 16, "dual_attention_layers": (0,), **HEADS})
    yield Case("unet", "UNet2DConditionModel", UNET)
    yield Case("unet_linear_fp16", "UNet2DConditionModel", UNET | {"use_linear_projection": True, "num_class_embeds": 8},
               variant="fp16", dtype=torch.float16)
    yield Case("pixart", "PixArtTransformer2DModel",
               {"sample_size": 16, "num_layers": 2, "caption_channels": 64, "cross_attention_dim": 64, **HEADS})
    yield Case("vae", "AutoencoderKL", VAE, dtype=torch.float32)
    yield Case("vae_old_names", "AutoencoderKL", VAE, old_names=True)
    yield Case("vae_old_names_kept", "AutoencoderKL", VAE, ["--exclude", "proj_attn"], old_names=True,
               skipped=["decoder.mid_block.attentions.0.to_out.0", "encoder.mid_block.attentions.0.to_out.0"])
    yield Case("wan", "WanTransformer3DModel",
               {"num_layers": 2, "text_dim": 64, "ffn_dim": 128, "freq_dim": 64, **HEADS})
    yield Case("cogvideox", "CogVideoXTransformer3DModel",
               {"num_layers": 2, "text_embed_dim": 64, "time_embed_dim": 64, "sample_width": 8, "sample_height": 8,
                "sample_frames": 5, **HEADS})
    yield Case("ltx", "LTXVideoTransformer3DModel",
               {"in_channels": 64, "out_channels": 64, "num_layers": 1, "cross_attention_dim": 64, "caption_channels": 64,
                **HEADS})
    yield Case("controlnet", "ControlNetModel",
               {key: value for key, value in UNET.items() if key not in ("sample_size", "up_block_types")})


def make(case, directory):
    model_class = getattr(diffusers, case.model)
    torch.manual_seed(0)
    model = model_class(**case.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05)
    model.to(case.dtype).save_pretrained(directory, variant=case.variant)
    if case.old_names:
        file = directory / "diffusion_pytorch_model.safetensors"
        old = {}
        for name, tensor in safetensors.torch.load_file(file).items():
            if ".attentions." in name:
                for new, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
                    name = name.replace(f".{new}.", f".{before}.")
            old[name] = tensor
        safetensors.torch.save_file(old, file, metadata={"format": "pt"})
    return model_class


def answer_for_the_gpu():
    """What is asked before 4-bit weights are loaded: a GPU, and versions, which others look after."""
    bnb_quantizer.BnB4BitDiffusersQuantizer.validate_environment = lambda self, *args, **kwargs: None


def load(model_class, directory, **settings):
    model, info = model_class.from_pretrained(directory, output_loading_info=True, local_files_only=True, **settings)
    return model, [f"{kind}: {list(names)[:3]}" for kind, names in info.items() if names]


def linear4bit(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)}


def values(model):
    layers = linear4bit(model)
    found = {}
    for name, parameter in model.named_parameters():
        module = layers.get(name.rpartition(".")[0])
        if module is not None and name.endswith(".weight"):
            state = module.weight.quant_state
            found[name] = bitsandbytes_cpu.decode(module.weight.data, state).to(state.dtype).float()
        else:
            found[name] = parameter.data.float()
    return found


def check(case, programs, work, failures):
    source, container = work / f"{case.name}_src", work / f"{case.name}.q4"
    exported, plain = work / f"{case.name}_bnb", work / f"{case.name}_plain"
    model_class = make(case, source)
    must(programs / "q4convert", source, "-o", container, "--no-double-quant", "-q", *case.convert)
    must(programs / "q4export", container, "-o", exported, "--to", "bnb", "-q", *case.export)
    must(programs / "q4export", container, "-o", plain, "--to", "safetensors", "-q", *case.export)

    names = sorted(path.name for path in exported.iterdir())
    sharded = "--shard-size" in case.export
    failures.require(case, all(name.startswith("diffusion_pytorch_model") for name in names if "safetensors" in name)
                     and ("diffusion_pytorch_model.safetensors.index.json" in names) == sharded, f"names: {names}")
    config = json.loads((exported / "config.json").read_text())
    quantization = config.pop("quantization_config")
    failures.require(case, config == json.loads((source / "config.json").read_text()), f"config.json: {config}")
    failures.require(case, (plain / "config.json").read_bytes() == (source / "config.json").read_bytes(), "config.json")
    failures.require(case, quantization["llm_int8_skip_modules"] == case.skipped,
                     f"skip list: {quantization['llm_int8_skip_modules']}")

    settings = {"device_map": {"": "cpu"}, "torch_dtype": case.dtype}
    ours, troubles = load(model_class, exported, **settings)
    failures.require(case, not troubles, f"loading the export: {troubles}")
    theirs, _ = load(model_class, source, variant=case.variant, **settings,
                     quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"))
    mine, other = linear4bit(ours), linear4bit(theirs)
    failures.require(case, mine and mine.keys() == other.keys() - set(case.skipped or []),
                     f"4-bit layers differ: {sorted(mine.keys() ^ other.keys())[:4]}")
    for name, module in mine.items():
        a, b = module.weight, other[name].weight
        failures.require(case, a.quant_state is not None and torch.equal(a.data, b.data)
                         and torch.equal(a.quant_state.absmax, b.quant_state.absmax), f"{name}: not what diffusers makes")
    dequantized, troubles = load(model_class, plain, torch_dtype=case.dtype)
    failures.require(case, not troubles, f"loading the dequantized export: {troubles}")
    got, expected = values(ours), values(dequantized)
    original = values(load(model_class, source, torch_dtype=case.dtype, variant=case.variant)[0])
    for name, value in expected.items():
        failures.require(case, torch.equal(got[name], value), f"{name}: differs from the dequantized export")
        kept = name.rpartition(".")[0] not in mine or not name.endswith(".weight")
        failures.require(case, torch.equal(value, original[name]) == kept, f"{name}: kept {kept}, but not so")
    lint = run(programs / "q4inspect", exported, "--lint")
    failures.require(case, lint.returncode == 0 and "0 warnings" in lint.stdout, f"lint: {lint.stdout}{lint.stderr}")
    print(f"{case.name}: {len(mine)} 4-bit layers, {len(expected)} parameters")


def main():
    arguments = parse_arguments(__doc__)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    torch.set_num_threads(2)
    answer_for_the_gpu()
    return run_cases(arguments, lambda _: cases(), check, f"diffusers {diffusers.__version__}")


if __name__ == "__main__":
    sys.exit(main())
