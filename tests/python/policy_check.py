"""Derives from transformers itself which checkpoint tensors `load_in_4bit` quantizes, for every architecture.

Each model class is built on the meta device (shapes, no memory) from its default configuration with few layers. The
skip list and the replacement of modules are transformers' own (Bnb4BitHfQuantizer.get_modules_to_not_convert,
replace_with_bnb_linear); the names on disk are those of save_pretrained (revert_weight_conversion). To follow a weight
through the conversions that split, merge or rename it, each group of weights has a dtype of its own while they run (TAGS):
the dtype that comes out says where a tensor came from.

    python policy_check.py --out all.json [--shard 0/2]      every model class
    python policy_check.py --compact all.json [...] --out testdata/policy/architectures.json
                                                             one example of each kind of tensor, in one line per class

The result is replayed by tests/libconvert/policy/policy_test.cc, which takes another file from Q4_POLICY_FIXTURE.
Needs torch, transformers and bitsandbytes; no network and no weights.
"""

import argparse
import importlib
import json
import re
import signal
import sys
import warnings

import torch
import transformers
from transformers import BitsAndBytesConfig, CONFIG_MAPPING
from transformers.core_model_loading import revert_weight_conversion
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.models.auto import modeling_auto
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

LAYERS = 6
LAYER_FIELD = re.compile(r"^(num|n)_.*layers?$|^n_layer$|^(encoder|decoder)_layers$|^depth$|^num_hidden_layers$")
SECONDS_PER_CLASS = 60
# What a tensor is to transformers. "expert": the weights of a fused experts module, which transformers leaves alone.
TAGS = {torch.bfloat16: "linear", torch.float16: "conv1d", torch.float64: "expert", torch.float32: "kept"}
# Fields without a usable default.
RESNET = {"backbone_config": {"model_type": "resnet", "out_features": ["stage2", "stage3", "stage4"]}}
RESNET_LAST = {"backbone_config": {"model_type": "resnet", "out_features": ["stage4"]}}
REQUIRED = {
    "autoformer": {"prediction_length": 24},
    "beit": {"out_indices": [1, 2, 3, 4]},
    "conditional_detr": RESNET_LAST,
    "dab-detr": RESNET_LAST,
    "deformable_detr": RESNET,
    "detr": RESNET_LAST,
    "table-transformer": RESNET_LAST,
    "esm": {"vocab_size": 33},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "informer": {"prediction_length": 24},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "num_hidden_layers": 4},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1},
    "reformer": {"is_decoder": True},
    "time_series_transformer": {"prediction_length": 24},
    "wav2vec2-bert": {"vocab_size": 32},
    "wav2vec2-conformer": {"vocab_size": 32},
}


def classes_by_model_type():
    """{model_type: {class name}} over all of transformers' auto mappings."""
    found = {}
    for name, mapping in vars(modeling_auto).items():
        if name.endswith("_MAPPING_NAMES"):
            for model_type, classes in mapping.items():
                names = classes if isinstance(classes, (tuple, list)) else [classes]
                found.setdefault(model_type, set()).update(names)
    return found


def sub_configs(config):
    return {key: value for key, value in vars(config).items() if isinstance(value, transformers.PretrainedConfig)}


def shrunken(config):
    """Constructor arguments that give `config` fewer layers, its sub-configurations included."""
    arguments = {}
    for key, value in vars(config).items():
        if LAYER_FIELD.search(key) and type(value) is int and value > LAYERS:
            arguments[key] = LAYERS
    for key, sub in sub_configs(config).items():
        if inner := shrunken(sub):
            arguments[key] = {"model_type": sub.model_type, **inner}
    return arguments


def build(model_type, class_name):
    """The class on the meta device. Defaults that do not build when shrunken are tried as they are."""
    model_class = getattr(transformers, class_name)
    config_class = CONFIG_MAPPING[model_type]
    if isinstance(model_class.config_class, type):
        config_class = model_class.config_class
    required = REQUIRED.get(model_type, {})
    config = config_class(**required)
    for arguments in (shrunken(config) | required, required):
        try:
            small = config_class(**arguments)
            with torch.device("meta"):
                return model_class(small)
        except TimeoutError:
            raise
        except Exception as error:
            last = error
    raise last


def model_types(config):
    """The configuration reduced to the model types in it, nested as they are in config.json."""
    inner = {key: model_types(sub) for key, sub in sub_configs(config).items()}
    return {"model_type": config.model_type} | {key: value for key, value in inner.items()}


def index_free(name):
    """A name with its list indices hidden: layers.3.mlp and layers.4.mlp are one kind of tensor."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "N", name)


def quantized_modules(model):
    """The module names that transformers replaces by Linear4bit, with the class that each had."""
    settings = BitsAndBytesConfig(load_in_4bit=True)
    skipped = Bnb4BitHfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    replace_with_bnb_linear(model, modules_to_not_convert=skipped, quantization_config=settings, pre_quantized=False)
    return {
        name: module.source_cls.__name__
        for name, module in model.named_modules()
        if type(module).__name__ == "Linear4bit"
    }


def describe(model_type, class_name):
    model = build(model_type, class_name)
    state = dict(model.state_dict())
    modules = quantized_modules(model)
    experts = {name for name, module in model.named_modules() if type(module).__name__.endswith("Experts")}
    tagged = {}
    for name, tensor in state.items():
        parent, _, own_name = name.rpartition(".")
        dtype = torch.float32
        if own_name == "weight" and parent in modules:
            dtype = torch.float16 if modules[parent] == "Conv1D" else torch.bfloat16
        elif parent in experts and tensor.dim() >= 2 and "bias" not in own_name:
            dtype = torch.float64
        tagged[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    for key in model._keys_to_ignore_on_save or []:
        tagged.pop(key, None)
    tensors, seen = [], set()
    for name, tensor in sorted(revert_weight_conversion(model, tagged).items()):
        kind = (index_free(name), tuple(tensor.shape), tensor.dtype)
        if kind not in seen:  # one example of each kind
            seen.add(kind)
            dtype = "BF16" if tensor.is_floating_point() else "I64"
            tensors.append([name, dtype, list(tensor.shape), TAGS.get(tensor.dtype, "kept")])
    config = {"architectures": [class_name]} | model_types(model.config)
    return {"config": config, "tensors": tensors}


def compact(entries):
    """What a replay needs: names by kind and rank; classes that add nothing to those before them are left out."""
    covered, kept_entries = set(), []
    for entry in sorted(entries, key=lambda e: (e["config"]["model_type"], -len(e["tensors"]))):
        model_type = entry["config"]["model_type"]
        tensors, kinds = {}, set()
        for name, dtype, shape, kind in entry["tensors"]:
            is_head_bias = name.endswith(".bias") and name.count(".") == 1
            if dtype != "BF16" or 0 in shape or (kind == "kept" and len(shape) < 2 and not is_head_bias):
                continue
            tensors.setdefault(f"{kind} {len(shape)}", []).append(name)
            if not is_head_bias:
                kinds.add((model_type, ".".join(index_free(name).split(".")[-4:]), kind))
        if not kinds <= covered:
            covered |= kinds
            kept_entries.append({"config": entry["config"], "tensors": tensors})
    return kept_entries


def leave_out_timm():
    """Towers from the timm library are replaced by nothing, so that the rest of such models can be built without it."""
    from_config = transformers.AutoModel.from_config

    def without_timm(config, *args, **kwargs):
        if config.model_type in ("timm_wrapper", "gemma3n_vision"):
            return torch.nn.Identity()
        return from_config(config, *args, **kwargs)

    transformers.AutoModel.from_config = without_timm


def on_alarm(_signal, _frame):
    raise TimeoutError(f"more than {SECONDS_PER_CLASS} s")


def run_all(shard, shards, only):
    signal.signal(signal.SIGALRM, on_alarm)
    entries, failures = [], []
    work = [(t, c) for t, names in sorted(classes_by_model_type().items()) for c in sorted(names)]
    for index, (model_type, class_name) in enumerate(work):
        if index % shards != shard or (only and not re.search(only, f"{model_type} {class_name}")):
            continue
        signal.alarm(SECONDS_PER_CLASS)
        try:
            entries.append(describe(model_type, class_name))
        except Exception as error:  # a class that cannot be built from defaults is listed, not fatal
            failures.append([model_type, class_name, f"{type(error).__name__}: {str(error)[:160]}"])
        finally:
            signal.alarm(0)
        print(f"{index + 1}/{len(work)} {model_type} {class_name} {len(entries)} built", file=sys.stderr, flush=True)
    return entries, failures


def write_compact(paths, out):
    parts = [json.load(open(path)) for path in paths]
    entries = sorted((e for part in parts for e in part["entries"]), key=lambda e: e["config"]["architectures"])
    unique = {json.dumps([e["config"], e["tensors"]]): e for e in entries}
    chosen = compact(unique.values())
    totals = {
        "transformers": parts[0]["transformers"],
        "classes_checked": len(entries),
        "model_types_checked": len({e["config"]["model_type"] for e in entries}),
    }
    with open(out, "w") as file:
        file.write(json.dumps(totals, separators=(", ", ": "))[:-1] + ', "entries": [\n')
        file.write(",\n".join(json.dumps(entry, separators=(",", ":")) for entry in chosen))
        file.write("\n]}\n")
    print(f"{len(entries)} classes checked, {len(chosen)} written", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--compact", nargs="+", metavar="FILE", help="files written by --out, to be made one fixture")
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--only", default="", help="regular expression over 'model_type ClassName'")
    options = parser.parse_args()
    if options.compact:
        write_compact(options.compact, options.out)
        return
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    leave_out_timm()
    shard, shards = map(int, options.shard.split("/"))
    entries, failures = run_all(shard, shards, options.only)
    with open(options.out, "w") as file:
        json.dump({"transformers": transformers.__version__, "failures": failures, "entries": entries}, file)
    print(f"{len(entries)} classes, {len(failures)} that could not be built", file=sys.stderr)


if __name__ == "__main__":
    main()
