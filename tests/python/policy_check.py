"""Derives from transformers itself which checkpoint tensors `load_in_4bit` quantizes, for every architecture.

Each model class is built on the meta device (shapes, no memory) from its default configuration with few layers. The
skip list and the replacement of modules are transformers' own (Bnb4BitHfQuantizer.get_modules_to_not_convert,
replace_with_bnb_linear); the names on disk are those of save_pretrained (revert_weight_conversion). To follow a weight
through the conversions that split, merge or rename it, each group of weights has a dtype of its own while they run (TAGS):
the dtype that comes out says where a tensor came from.

    python policy_check.py --out all.json [--shard 0/2]      every model class
    python policy_check.py --compact all.json [...] --out testdata/policy/architectures.json
                                                             one example of each kind of tensor, in one line per class
    python policy_check.py --names all.json [...] --out libconvert/policy/module_names.json
                                                             which module each tensor of a checkpoint is loaded into

The second is replayed by tests/libconvert/policy/architectures_test.cc, which takes another file from Q4_POLICY_FIXTURE, with the third.
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
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key, revert_weight_conversion
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


# What a published model has and the default configuration does not, where names depend on it.
VARIANTS = {"dinov2": {"use_swiglu_ffn": True}, "dinov2_with_registers": {"use_swiglu_ffn": True}}


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


def build(model_type, class_name, **variant):
    """The class on the meta device, with `variant` in its configuration. Defaults that do not build when shrunken are tried as they are."""
    model_class = getattr(transformers, class_name)
    config_class = CONFIG_MAPPING[model_type]
    if isinstance(model_class.config_class, type):
        config_class = model_class.config_class
    required = REQUIRED.get(model_type, {}) | variant
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


class Loader:
    """Which module of `model` transformers puts a tensor of a checkpoint into: the steps of its loader, on names alone."""

    def __init__(self, model):
        self.model, self.state = model, model.state_dict()
        mapping = get_model_conversion_mapping(model)
        self.renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        self.converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]

    def places(self, name):
        """The names in memory of a name on disk: one, several for a tensor that is split, none for one not taken."""
        return self.places_and_operation(name)[0]

    def places_and_operation(self, name):
        """The same, and whether the tensor is split, joined, transposed or permuted on its way."""
        prefix = self.model.base_model_prefix
        renamed, converted = rename_source_key(name, self.renamings, self.converters, prefix, self.state)
        if renamed not in self.state and name in self.state:
            renamed, converted = rename_source_key(name, [], [], prefix, self.state)
        if converted is None:
            return [renamed] if renamed in self.state else [], False
        targets = next(c for c in self.converters if converted in c.source_patterns).target_patterns
        return [place for t in targets if (place := renamed.replace(targets[0], t)) in self.state], True

    def published_names(self, names):
        """The names of checkpoints that were published before the module had its present name, where they differ."""
        conversions = [entry.reverse_transform() for entry in get_model_conversion_mapping(self.model, add_legacy=False)[::-1]]
        renamings = [entry for entry in conversions if isinstance(entry, WeightRenaming)]
        for name in names:
            old = name
            for renaming in renamings:
                old, _ = renaming.rename_source_key(old)
            if old != name and self.places(old) == [name]:
                yield old


def module_names(loader, names_on_disk):
    """{name on disk: [names in memory]} of the matrices whose names differ, an example of each kind: the checkpoint's own,
    those of published ones, and the names in memory, which checkpoints may have as well. And those on disk that are more
    than renamed, which cannot be done to packed codes."""
    differing, converted, seen = {}, [], set()
    names = {*names_on_disk, *loader.state, *loader.published_names(loader.state)}
    for name in sorted(names):
        places, operation = loader.places_and_operation(name)
        kind = (index_free(name), *map(index_free, places))
        is_matrix = places and places[0].endswith(".weight") and loader.state[places[0]].dim() == 2
        if is_matrix and (operation or places != [name]) and kind not in seen:
            seen.add(kind)
            differing[name] = places
            if operation:
                converted.append(name)
    return differing, converted


def heads(model):
    """Linear layers that may have no tensor of their own: output heads and what is tied, but for the common "lm_head", and
    for what layers share, whose numbers depend on the configuration."""
    names = {name for name, module in model.named_modules() if module is model.get_output_embeddings()}
    names |= {key.removesuffix(".weight") for key in model.all_tied_weights_keys}
    linear = {name for name, module in model.named_modules() if type(module) is torch.nn.Linear}
    return sorted(name for name in names & linear if name != "lm_head" and not INDEX.search(name))


def describe(model_type, class_name, **variant):
    model = build(model_type, class_name, **variant)
    state = dict(model.state_dict())
    loader, model_heads = Loader(model), heads(model)
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
    on_disk = sorted(revert_weight_conversion(model, tagged).items())
    for name, tensor in on_disk:
        kind = (index_free(name), tuple(tensor.shape), tensor.dtype)
        if kind not in seen:  # one example of each kind
            seen.add(kind)
            dtype = "BF16" if tensor.is_floating_point() else "I64"
            tensors.append([name, dtype, list(tensor.shape), TAGS.get(tensor.dtype, "kept")])
    config = {"architectures": [class_name]} | model_types(model.config)
    names, converted = module_names(loader, [name for name, _ in on_disk])
    return {"config": config, "tensors": tensors, "names": names, "converted": converted, "heads": model_heads}


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
        names = {name: places[0] if len(places) == 1 else places for name, places in entry["names"].items()}
        kinds |= {(model_type, index_free(name), *map(index_free, places)) for name, places in entry["names"].items()}
        if not kinds <= covered:
            covered |= kinds
            extra = {"names": names} | {key: entry[key] for key in ("converted", "heads")}
            kept_entries.append({"config": entry["config"], "tensors": tensors} | {k: v for k, v in extra.items() if v})
    return kept_entries


INDEX = re.compile(r"^\d+(?=\.)|(?<=\.)\d+(?=\.|$)")


def bare_module_of(name):
    return "" if name == "weight" else name.removesuffix(".weight")


def module_of(name):
    return INDEX.sub("#", bare_module_of(name))


def renamed_modules(name, places):
    """module_of() of all of them, but the last indices stay where others have fewer: "proj.0" may become "linear_1"."""
    modules = [bare_module_of(each) for each in (name, *places)]
    count = min(len(INDEX.findall(module)) for module in modules)
    return [INDEX.sub("#", module, count=count) if count else module for module in modules]


class Renames:
    """What one class needs to be renamed: module names on disk, list indices as "#", with the names in memory of each."""

    def __init__(self, entry):
        self.places = {}
        for name, places in entry["names"].items():
            module, *modules = renamed_modules(name, places)
            self.places[module] = modules
            for place in places:
                self.places.setdefault(module_of(place), [module_of(place)])
        for name, _, shape, kind in entry["tensors"]:
            if name.endswith(".weight") and len(shape) == 2 and kind != "expert":
                self.places.setdefault(module_of(name), [module_of(name)])

    def apply(self, rule, name):
        old, new = rule[0], rule[1:]
        if name != old and not name.startswith(old + "."):
            return None
        return [place + name[len(old) :] for place in new]

    def keeps_names(self, rule):
        return all(self.apply(rule, name) in (None, places) for name, places in self.places.items() if places == [name])

    def rules(self):
        """The shortest beginnings of names that can be replaced, most useful first; the longest that fits will be taken."""
        todo = {name for name, places in self.places.items() if places != [name]}
        candidates = set()
        for name in todo:
            places = self.places[name]
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                rest = "".join("." + part for part in parts[length:])
                if all(place.endswith(rest) and len(place) > len(rest) for place in places):
                    rule = (".".join(parts[:length]), *(place[: len(place) - len(rest)] for place in places))
                    if self.keeps_names(rule):
                        candidates.add(rule)
        # First those that are right for all they fit, then those that need a longer one beside them.
        right = {rule: {name for name in todo if self.apply(rule, name) == self.places[name]} for rule in candidates}
        wrong = {rule: {name for name in todo if self.apply(rule, name)} - right[rule] for rule in candidates}
        chosen = []
        while todo:
            best = max(sorted(right), key=lambda rule: (not wrong[rule], len(right[rule] & todo), -rule[0].count(".")))
            if not right[best] & todo:
                best = max(sorted(right), key=lambda rule: (len(right[rule] & todo), rule[0].count(".")))
            chosen.append(best)
            todo -= right[best]
        for name, places in self.places.items():
            fitting = [rule for rule in chosen if self.apply(rule, name)]
            best = max(fitting, key=lambda rule: rule[0].count("."), default=None)
            assert (self.apply(best, name) if best else [name]) == places, (name, places, best)
        return sorted(chosen)


def write_names(paths, out):
    """libconvert/policy/module_names.json: a line for the classes of transformers that rename alike."""
    by_class = {}
    for entry in (entry for path in paths for entry in json.load(open(path))["entries"]):
        known = by_class.setdefault(entry["config"]["architectures"][0], entry)
        known["names"] |= entry["names"]  # of another variant
        for key in ("tensors", "converted"):
            known[key] = known[key] + [item for item in entry[key] if item not in known[key]]
    lines, renaming_types = {}, set()
    for entry in by_class.values():
        class_name, model_type = entry["config"]["architectures"][0], entry["config"]["model_type"]
        converted = {renamed_modules(name, entry["names"][name])[0] for name in entry["converted"]}
        rules = (tuple(Renames(entry).rules()), tuple(sorted(converted)), tuple(entry["heads"]))
        lines.setdefault(rules, {}).setdefault(class_name, model_type)
        if any(rules[:2]):
            renaming_types.add(model_type)
    # Of classes without renames, those whose model type has a class with some: they must not be taken for that.
    lines[(), (), ()] = {name: model_type for name, model_type in lines[(), (), ()].items() if model_type in renaming_types}
    table = [
        {"classes": sorted(classes), "model_types": sorted(set(classes.values())), "renames": renames}
        | ({"converted": converted} if converted else {})
        | ({"heads": heads} if heads else {})
        for (renames, converted, heads), classes in sorted(lines.items(), key=lambda line: sorted(line[1]))
    ]
    with open(out, "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(line, separators=(",", ":")) for line in table) + "\n]\n")
    print(f"{sum(len(line['classes']) for line in table)} classes in {len(table)} lines", file=sys.stderr)


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
            if variant := VARIANTS.get(model_type):
                entries.append(describe(model_type, class_name, **variant))
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
    parser.add_argument("--names", nargs="+", metavar="FILE", help="likewise, to be made the table of renamed modules")
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--only", default="", help="regular expression over 'model_type ClassName'")
    options = parser.parse_args()
    if options.compact:
        write_compact(options.compact, options.out)
        return
    if options.names:
        write_names(options.names, options.out)
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
