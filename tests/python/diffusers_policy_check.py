"""Derives from diffusers itself which weights its bitsandbytes integration puts in 4 bits, for every model class.

Each subclass of ModelMixin is built on the meta device (shapes, no memory) from its default configuration with few layers.
The replacement of layers is diffusers' own (replace_with_bnb_linear), with the modules that the class keeps in fp32.

    python diffusers_policy_check.py --out testdata/policy/diffusers.json

The result, one example of each kind of tensor per class, is replayed by tests/libconvert/policy/diffusers_test.cc. Needs
torch, diffusers and bitsandbytes; no network and no weights.
"""

import argparse
import inspect
import json
import re
import signal
import sys
import warnings

import bitsandbytes as bnb
import diffusers
import torch
from diffusers import BitsAndBytesConfig
from diffusers.models.modeling_utils import ModelMixin
from diffusers.quantizers.bitsandbytes.utils import replace_with_bnb_linear

LAYERS = 3
LAYER_FIELD = re.compile(r"^(num|n)_.*layers?$|^depth$|^.*_depth$|^num_.*blocks$")
SECONDS_PER_CLASS = 60
# Fields without a usable default, and choices that bring layers which the default has not.
REQUIRED = {
    "UNet2DConditionModel": [{}, {"use_linear_projection": True, "addition_embed_type": "text_time",
                                  "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816},
                             {"num_class_embeds": 10}, {"class_embed_type": "timestep"},
                             {"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 64}],
    "UNet2DModel": [{}, {"num_class_embeds": 10}],
    "AutoencoderKLHunyuanImage": [{"in_channels": 3, "out_channels": 3, "latent_channels": 16, "block_out_channels": (64, 128),
                                   "layers_per_block": 1, "spatial_compression_ratio": 2, "sample_size": 64}],
    "ControlNetUnionModel": [{"addition_embed_type": "text_time", "addition_time_embed_dim": 256,
                              "projection_class_embeddings_input_dim": 2816}],
    "DreamLiteTransformer2DModel": [{"in_channels": 64}],
    "EasyAnimateTransformer3DModel": [{"in_channels": 16, "sample_width": 90, "sample_height": 60, "patch_size": 2}],
    "HiDreamImageTransformer2DModel": [{"patch_size": 2, "in_channels": 16, "num_layers": 1, "num_single_layers": 1,
                                        "attention_head_dim": 16, "num_attention_heads": 4, "caption_channels": [64, 64],
                                        "text_emb_dim": 64, "llama_layers": [0, 1], "axes_dims_rope": (8, 4, 4)}],
    "HunyuanDiT2DModel": [{"patch_size": 2, "in_channels": 4, "sample_size": 32}],
    "HunyuanDiT2DControlNetModel": [{"patch_size": 2, "in_channels": 4, "sample_size": 32}],
    "LatteTransformer3DModel": [{"patch_size": 2, "in_channels": 4, "sample_size": 32, "caption_channels": 64}],
    "LuminaNextDiT2DModel": [{"num_kv_heads": 8}],
    "OmniGenTransformer2DModel": [{"rope_scaling": {"type": "su", "short_factor": [1.0] * 48, "long_factor": [1.0] * 48}}],
    "Transformer2DModel": [{"in_channels": 64}, {"in_channels": 64, "use_linear_projection": True},
                           {"patch_size": 2, "in_channels": 4, "sample_size": 32, "norm_type": "ada_norm_zero",
                            "num_embeds_ada_norm": 10}],
    "TransformerTemporalModel": [{"in_channels": 64}],
    "UniDiffuserModel": [{"sample_size": 32, "patch_size": 2, "in_channels": 4, "text_dim": 64, "clip_img_dim": 64,
                          "num_text_tokens": 8}],
}


def classes():
    found = {}
    for name in dir(diffusers):
        try:
            value = getattr(diffusers, name)
        except Exception:  # a class whose own requirements are missing
            continue
        if inspect.isclass(value) and issubclass(value, ModelMixin) and value is not ModelMixin:
            found[name] = value
    return found


def shrunken(model_class):
    arguments = {}
    for key, parameter in inspect.signature(model_class.__init__).parameters.items():
        if LAYER_FIELD.search(key) and type(parameter.default) is int and parameter.default > LAYERS:
            arguments[key] = LAYERS
    return arguments


def build(model_class, required):
    last = None
    for arguments in (shrunken(model_class) | required, required):
        try:
            with torch.device("meta"):
                return model_class(**arguments)
        except TimeoutError:
            raise
        except Exception as error:
            last = error
    raise last


def index_free(name):
    return re.sub(r"(?<=\.)\d+(?=\.)", "N", name)


def describe(name, model_class, required):
    model = build(model_class, required)
    state = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    settings = BitsAndBytesConfig(load_in_4bit=True)
    replace_with_bnb_linear(model, modules_to_not_convert=list(model_class._keep_in_fp32_modules or []),
                            quantization_config=settings)
    layers = {module for module, value in model.named_modules() if isinstance(value, bnb.nn.Linear4bit)}
    tensors, seen = {}, set()
    for key, shape in sorted(state.items()):
        parent, _, own = key.rpartition(".")
        kind = "linear" if own == "weight" and parent in layers else "kept"
        if kind == "kept" and len(shape) < 2:
            continue
        # One example of each kind; of convolutions, which no rule is about, one of each rank.
        example = (index_free(key) if len(shape) == 2 else "", kind, len(shape))
        if example in seen:
            continue
        seen.add(example)
        tensors.setdefault(f"{kind} {len(shape)}", []).append(key)
    return {"class": name, "tensors": tensors}


def on_alarm(_signal, _frame):
    raise TimeoutError(f"more than {SECONDS_PER_CLASS} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--only", default="", help="regular expression over class names")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    signal.signal(signal.SIGALRM, on_alarm)
    entries, failures = [], []
    for name, model_class in sorted(classes().items()):
        if options.only and not re.search(options.only, name):
            continue
        for required in REQUIRED.get(name, [{}]):
            signal.alarm(SECONDS_PER_CLASS)
            try:
                entries.append(describe(name, model_class, required))
            except Exception as error:  # a class that cannot be built from defaults is listed, not fatal
                failures.append([name, f"{type(error).__name__}: {str(error)[:160]}"])
            finally:
                signal.alarm(0)
    with open(options.out, "w") as file:
        file.write(f'{{"diffusers": "{diffusers.__version__}", "classes": {len({e["class"] for e in entries})}, "entries": [\n')
        file.write(",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries))
        file.write("\n]}\n")
    print(f"{len(entries)} entries, {len(failures)} that could not be built", file=sys.stderr)
    for name, error in failures:
        print(f"  {name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
