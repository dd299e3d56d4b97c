"""q4convert --adapter, against what PEFT makes of the same adapter by merge_and_unload().

    python adapter_check.py --bin DIR [--case NAME ...]

--bin holds q4convert, q4export, q4inspect and q4verify. For each case a tiny model of transformers gets an adapter of PEFT with random
numbers in all that PEFT trains, and both are saved. Then, of the model converted with the adapter, all tensors kept and exported:
  - each has the bits of a NumPy reference that follows docs/numerics.md Q15, written anew here;
  - each is as PEFT's within rounding: 16-bit values at most one step away, and few of them; fp32 values within 2e-6 of the largest;
  - what the adapter does not change has the bits of the model.
The quantized container has the content identity of that of the merged tensors, whatever the number of threads; q4verify --against the
model passes with the adapter, wants it (1), and refuses another (6); a dry run names each merged tensor and what it is made of.
"""

import json
import pathlib
import shutil
import sys
from dataclasses import dataclass, field

import numpy as np
import peft
import safetensors.torch
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import must, parse_arguments, run, run_cases  # noqa: E402  (the path above)

LLAMA = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "vocab_size": 96, "max_position_embeddings": 64, "tie_word_embeddings": False}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 96, "n_positions": 64}
VIT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
       "num_labels": 32}
LLAVA = {"text_config": {"model_type": "llama", **LLAMA}, "vision_config": {"model_type": "clip_vision_model", "projection_dim": 64,
         **{name: VIT[name] for name in VIT if name != "num_labels"}}, "image_token_index": 95}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
CONV1D = ["c_attn", "c_proj", "c_fc"]


@dataclass
class Case:
    name: str
    lora: dict = field(default_factory=dict)  # LoraConfig
    model: str = "LlamaForCausalLM"
    config: dict = field(default_factory=lambda: LLAMA)
    dtype: torch.dtype = torch.bfloat16
    factors: torch.dtype = torch.float32  # as the adapter is stored
    changed: int = 0  # tensors of the model that differ afterwards
    trained: str = ""  # the class that the adapter was made for, if another
    saved: dict = field(default_factory=dict)  # of the adapter's save_pretrained
    as_bin: bool = False  # adapter_model.bin
    base: str = ""  # "sharded", "bin", "fp8"
    untied: bool = False  # afterwards
    share: float = 0.02  # of 16-bit values that are a step away from PEFT's
    more_names: bool = False  # the adapter's names as in a training's own state


def cases(_):
    yield Case("plain", {"target_modules": ATTENTION, "r": 4, "lora_alpha": 16}, changed=8)
    yield Case("large rank, all layers", {"target_modules": "all-linear", "r": 70, "lora_alpha": 8}, changed=14)
    yield Case("rslora and patterns", {"target_modules": ATTENTION + ["up_proj"], "r": 8, "lora_alpha": 12, "use_rslora": True,
                                       "rank_pattern": {"q_proj": 3, r"layers\.1\.mlp\.up_proj": 5},
                                       "alpha_pattern": {r".*layers.0.self_attn.[vo]_proj": 32, "up_proj": 7}}, changed=10)
    yield Case("DoRA", {"target_modules": "all-linear", "r": 4, "use_dora": True}, changed=14)
    yield Case("fp32 model", {"target_modules": ATTENTION, "r": 9}, dtype=torch.float32, changed=8)
    yield Case("fp32 model, DoRA", {"target_modules": ATTENTION, "r": 9, "use_dora": True}, dtype=torch.float32, changed=8)
    yield Case("fp16 model, bf16 factors", {"target_modules": ATTENTION, "r": 8}, dtype=torch.float16, factors=torch.bfloat16, changed=8)
    yield Case("fp16 factors, names of a training", {"target_modules": ATTENTION, "r": 8}, factors=torch.float16, more_names=True,
               changed=8)
    yield Case("adapter_model.bin", {"target_modules": ATTENTION, "r": 8, "use_dora": True}, as_bin=True, changed=8)
    yield Case("modules_to_save", {"target_modules": ATTENTION, "r": 4, "modules_to_save": ["lm_head", "embed_tokens"]}, changed=10)
    yield Case("Conv1D", {"target_modules": CONV1D, "r": 4}, "GPT2LMHeadModel", GPT2, changed=8)
    yield Case("Conv1D, DoRA", {"target_modules": CONV1D, "r": 4, "use_dora": True}, "GPT2LMHeadModel", GPT2, changed=8)
    yield Case("Conv1D and a head", {"target_modules": CONV1D + ["lm_head"], "r": 4}, "GPT2LMHeadModel",
               GPT2 | {"tie_word_embeddings": False}, changed=9)
    yield Case("lora_bias", {"target_modules": CONV1D, "r": 4, "lora_bias": True}, "GPT2LMHeadModel", GPT2, changed=16)
    yield Case("trained biases", {"target_modules": ["c_attn"], "r": 4, "bias": "all"}, "GPT2LMHeadModel", GPT2, changed=15)
    # PEFT rounds what is added to an embedding to its dtype first.
    yield Case("embeddings", {"target_modules": ["embed_tokens", "q_proj"], "r": 4}, changed=3, share=0.3)
    yield Case("embeddings, DoRA", {"target_modules": ["embed_tokens", "q_proj"], "r": 4, "use_dora": True}, changed=3)
    tied = LLAMA | {"tie_word_embeddings": True}
    yield Case("tied, on both sides", {"target_modules": ["embed_tokens", "lm_head"], "r": 4}, config=tied, changed=1, share=0.3)
    yield Case("tied, on the head", {"target_modules": ["lm_head"], "r": 4}, config=tied, changed=1)
    yield Case("tied, both trained", {"target_modules": ["q_proj"], "r": 4, "modules_to_save": ["lm_head", "embed_tokens"]}, config=tied,
               changed=4, untied=True)
    yield Case("tied, the embedding trained", {"target_modules": ["q_proj"], "r": 4, "modules_to_save": ["embed_tokens"]}, config=tied,
               changed=4, untied=True)
    yield Case("convolution", {"target_modules": ["q_proj", "projection"], "r": 4, "modules_to_save": ["classifier"]},
               "ViTForImageClassification", VIT, changed=5)
    yield Case("convolution, DoRA", {"target_modules": ["projection"], "r": 4, "use_dora": True}, "ViTForImageClassification", VIT,
               changed=1)
    yield Case("names of vision and language", {"target_modules": ".*language_model.*q_proj", "r": 4}, "LlavaForConditionalGeneration",
               LLAVA, changed=2)
    yield Case("an adapter without the prefix", {"target_modules": ATTENTION, "r": 4}, trained="LlamaModel", changed=8)
    for base in ("sharded", "bin", "fp8"):
        yield Case(f"base {base}", {"target_modules": ["q_proj", "down_proj"], "r": 4, "use_dora": True}, base=base, changed=4)


# ---- the model and its adapter

def write_base(case, folder):
    """The model in `folder`, as its case stores it; in `plain` beside it as safetensors of its dtype."""
    torch.manual_seed(sum(case.name.encode()))
    architecture = getattr(transformers, case.model)
    model = architecture(architecture.config_class(**case.config)).to(case.dtype)
    with torch.no_grad():  # biases begin at 0
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += torch.randn_like(parameter) * 0.1
    plain = folder.parent / "plain"
    model.save_pretrained(plain)
    if not case.base:
        return plain.rename(folder)
    if case.base == "sharded":
        return model.save_pretrained(folder, max_shard_size="60KB")
    folder.mkdir()
    config = json.loads((plain / "config.json").read_text())
    tensors = safetensors.torch.load_file(plain / "model.safetensors")
    if case.base == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        stored = {}
        for name, tensor in tensors.items():
            stored[name] = tensor
            if name.endswith("_proj.weight"):
                scale = tensor.float().abs().amax() / 448
                stored[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
                stored[name + "_scale_inv"] = scale.reshape(1, 1)
                tensors[name] = (stored[name].float() * scale).to(case.dtype)
        config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [256, 256]}
        safetensors.torch.save_file(stored, folder / "model.safetensors", {"format": "pt"})
        safetensors.torch.save_file(tensors, plain / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return None


def plain_of(case, folder):
    return folder.parent / "plain" if case.base in ("bin", "fp8") else folder


def write_adapter(case, base, folder):
    architecture = getattr(transformers, case.trained or case.model)
    model = architecture.from_pretrained(plain_of(case, base), torch_dtype=case.dtype)
    tuned = peft.get_peft_model(model, peft.LoraConfig(**case.lora))
    generator = torch.Generator().manual_seed(sum(case.name.encode()) + 1)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                scale = 0.1 if "lora_magnitude" not in name else 0.02
                parameter += (torch.randn(parameter.shape, generator=generator) * scale).to(parameter.dtype)
    tuned.save_pretrained(folder, **case.saved)
    file = folder / "adapter_model.safetensors"
    tensors = {name: t.to(case.factors) if "lora_" in name else t for name, t in safetensors.torch.load_file(file).items()}
    if case.more_names:
        tensors = {name.replace("_A.weight", "_A.mine.weight").replace("_B.weight", "_B.mine.weight"): t for name, t in tensors.items()}
    if case.factors != torch.float32 and not case.more_names:
        safetensors.torch.save_file(tensors, file, {"format": "pt"})
    if case.as_bin:
        torch.save(tensors, folder / "adapter_model.bin")
        file.unlink()
    if case.more_names:  # which PEFT's own loader does not read
        shutil.copytree(folder, folder.parent / "for_peft")
        back = {name.replace(".mine", ""): t for name, t in tensors.items()}
        safetensors.torch.save_file(back, folder.parent / "for_peft" / file.name, {"format": "pt"})
        safetensors.torch.save_file(tensors, file, {"format": "pt"})
    return tensors


def merged_by_peft(case, base, adapter, folder):
    """What PEFT makes of it, by the names that transformers writes."""
    model = getattr(transformers, case.trained or case.model).from_pretrained(plain_of(case, base), torch_dtype=case.dtype)
    source = adapter.parent / "for_peft"
    merged = peft.PeftModel.from_pretrained(model, source if source.exists() else adapter).merge_and_unload()
    merged.save_pretrained(folder)
    prefix = "model." if case.trained else ""
    return {prefix + name: tensor for name, tensor in safetensors.torch.load_file(folder / "model.safetensors").items()}


# ---- Q15 in NumPy

def narrow(values, dtype):
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


def add(base, left, right, scale, magnitude, by_row):
    values = base.float().numpy().reshape(left.shape[0], -1)
    total = np.zeros_like(values)
    for k in range(left.shape[1]):
        total = total + left[:, k:k + 1] * right[k:k + 1]
    values = values + np.float32(scale) * total
    if magnitude is not None:
        squares = values.astype(np.float64) ** 2
        if by_row:
            lanes = np.zeros((values.shape[0], 8))
            for j in range(values.shape[1]):
                lanes[:, j % 8] += squares[:, j]
            for half in (4, 2, 1):
                lanes[:, :half] += lanes[:, half:2 * half]
            sums = lanes[:, 0]
        else:
            sums = np.zeros(values.shape[1])
            for i in range(values.shape[0]):
                sums += squares[i]
        factors = magnitude / np.sqrt(sums).astype(np.float32)
        values = (factors[:, None] if by_row else factors[None, :]) * values
    return narrow(values, base.dtype).reshape(base.shape)


def by_reference(case, plain, tensors, config, names):
    """`names`: the tensor of the model for a module of the adapter."""
    out = dict(plain)
    modules = {}
    for name, tensor in tensors.items():
        own = name.removeprefix("base_model.model.").replace(".mine", "")
        if ".lora_" in own:
            module, part = own.split(".lora_")
            modules.setdefault(module, {})[part.removesuffix(".weight")] = tensor.float().numpy()
        else:
            target = names(own.replace(".base_layer", ""))
            if ".base_layer" in own and target not in plain:
                target = "model.embed_tokens.weight"
            like = plain[target] if target in plain else next(t for n, t in plain.items() if "embed_tokens" in n)
            out[target] = tensor.to(like.dtype)
    if case.untied and "lm_head.weight" not in out:
        out["lm_head.weight"] = plain["model.embed_tokens.weight"]
    import re
    for module, parts in sorted(modules.items(), key=lambda item: item[0] == "lm_head"):
        def of(pattern, default):
            return next((v for k, v in config[pattern].items() if re.match(rf"(.*\.)?({k})$", module)), default)
        rank, alpha = of("rank_pattern", config["r"]), of("alpha_pattern", config["lora_alpha"])
        scale = alpha / rank ** 0.5 if config["use_rslora"] else alpha / rank
        target = names(module + ".weight")
        if target not in out:
            target = "model.embed_tokens.weight"
        base = out[target]
        magnitude = parts.get("magnitude_vector")
        if "embedding_A" in parts:
            left, right, by_row = parts["embedding_A"].T, parts["embedding_B"].T, False
        else:
            a, b = parts["A"].reshape(rank, -1), parts["B"].reshape(-1, rank)
            turned = case.model.startswith("GPT2") and module != "lm_head"
            left, right, by_row = (a.T, b.T, False) if turned else (b, a, True)
        out[target] = add(base, left, right, scale, None if magnitude is None else magnitude.reshape(-1), by_row)
        if "B.bias" in parts:
            bias = names(module + ".bias")
            out[bias] = add(out[bias], np.ones((1, 1), np.float32), parts["B.bias"][None], scale, None, True)
    return out


# ---- what is looked at

def bits(tensor):
    return tensor.contiguous().view({2: torch.int16, 4: torch.int32}[tensor.element_size()])


def near(got, expected, base, slack):
    """Whether as near as the order of a sum can make it, what is added rounded before or not; `slack`: where terms cancel, of the largest."""
    wide, added = expected.float(), (expected.float() - base.float()).abs() if base is not None else 0
    apart = (got.float() - wide).abs()
    if got.dtype == torch.float32:
        return bool((apart <= 2e-6 * expected.abs().max()).all())
    step = 2.0 ** (-8 if got.dtype == torch.bfloat16 else -11)
    return bool((apart <= 2 * step * wide.abs() + step * added + slack * wide.abs().max()).all())


def exported(tools, work, *arguments):
    must(tools / "q4convert", *arguments, "-o", work / "kept.q4", "--exclude", ".*", "--force", "-q")
    must(tools / "q4export", work / "kept.q4", "--to", "safetensors", "-o", work / "kept", "--force", "-q")
    tensors = {}
    for file in (work / "kept").glob("*.safetensors"):
        tensors |= safetensors.torch.load_file(file)
    return tensors, json.loads((work / "kept" / "config.json").read_text())


def content(tools, path):
    return json.loads(must(tools / "q4inspect", path, "--json").stdout)["content_sha256"]


def check(case, tools, work, failures):
    work = work / case.name.replace(" ", "-").replace(",", "")
    work.mkdir()
    base, adapter = work / "base", work / "adapter"
    write_base(case, base)
    tensors = write_adapter(case, base, adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    plain = {}
    for file in plain_of(case, base).glob("*.safetensors"):
        plain |= safetensors.torch.load_file(file)

    def names(name):
        if case.trained:
            return "model." + name
        if case.model == "LlavaForConditionalGeneration":
            return name.replace("model.language_model.", "language_model.model.")
        if case.model.startswith("ViT"):
            for new, old in (("vit.layers.", "vit.encoder.layer."), (".q_proj.", ".attention.query.")):
                name = name.replace(new, old) if names.old else name
        return name
    names.old = "vit.encoder.layer.0.attention.attention.query.weight" in plain

    got, carried = exported(tools, work, base, "--adapter", adapter)
    expected = by_reference(case, plain, tensors, config, names)
    failures.require(case, set(got) == set(expected), f"tensors are {sorted(set(got) ^ set(expected))} apart")
    theirs = merged_by_peft(case, base, adapter, work / "peft")
    changed = 0
    for name, tensor in expected.items():
        failures.require(case, got[name].dtype == tensor.dtype and bool((bits(got[name]) == bits(tensor)).all()),
                         f"{name}: {int((bits(got[name]) != bits(tensor)).sum())} of {tensor.numel()} values are not the reference's")
        differs = name not in plain or not bool((bits(tensor) == bits(plain[name])).all())
        changed += differs
        if name in theirs:
            wanted = theirs[name].to(tensor.dtype)
            failures.require(case, near(got[name], wanted, plain.get(name), 2e-5 if case.share <= 0.02 else 2e-3), f"{name} is not PEFT's")
            apart = float((got[name] != wanted).float().mean()) if tensor.dtype != torch.float32 else 0
            failures.require(case, apart <= case.share, f"{name}: {apart:.3f} of the values are not PEFT's")
        elif not case.trained:
            failures.require(case, name == "lm_head.weight", f"PEFT writes no {name}")
    failures.require(case, changed == case.changed, f"{changed} tensors change, not {case.changed}")
    failures.require(case, carried.get("tie_word_embeddings", True) != case.untied or not case.untied, "still tied")

    plan = json.loads(must(tools / "q4convert", base, "--adapter", adapter, "-o", work / "x.q4", "--dry-run", "--json").stdout)
    made_of = {tensor["name"]: tensor["stored"]["tensors"] for tensor in plan["tensors"] if tensor.get("stored", {}).get("merged")}
    named = {part for parts in made_of.values() for part in parts}
    if "base_model.model.model.embed_tokens.base_layer.weight" in tensors:
        named.add("base_model.model.lm_head.base_layer.weight")  # the same once more
    failures.require(case, set(tensors) <= named, f"a dry run does not name {set(tensors) - named}")

    (work / "whole").mkdir()
    safetensors.torch.save_file(got, work / "whole" / "model.safetensors", {"format": "pt"})
    for file in (work / "kept").glob("*.json"):
        shutil.copy(file, work / "whole")
    must(tools / "q4convert", work / "whole", "-o", work / "whole.q4", "-q")
    for threads in (1, 3):
        must(tools / "q4convert", base, "--adapter", adapter, "-o", work / f"{threads}.q4", "-q", "--threads", threads)
    failures.require(case, (work / "1.q4").read_bytes() == (work / "3.q4").read_bytes(), "threads change bytes")
    failures.require(case, content(tools, work / "1.q4") == content(tools, work / "whole.q4"), "the container is another")
    verify = [tools / "q4verify", work / "1.q4", "--against", base, "-q"]
    done = run(*verify, "--adapter", adapter)
    failures.require(case, done.returncode == 0, f"q4verify --against: {done.stderr}{done.stdout}")
    done = run(*verify)
    failures.require(case, done.returncode == 1 and "--adapter" in done.stderr, f"q4verify without it: {done.returncode} {done.stderr}")
    provenance = json.loads(must(tools / "q4inspect", work / "1.q4", "--json").stdout)["provenance"]
    failures.require(case, [f["name"] for f in provenance["adapter"]["files"]] == sorted(f.name for f in adapter.glob("adapter_*")),
                     f"the provenance has {provenance.get('adapter')}")
    text = must(tools / "q4inspect", work / "1.q4").stdout
    failures.require(case, "adapter_config.json" in text, "q4inspect does not show the adapter")
    config["lora_alpha"] = config["lora_alpha"] + 1
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    done = run(*verify, "--adapter", adapter)
    failures.require(case, done.returncode == 6 and "adapter_config.json" in done.stderr, f"another adapter: {done.returncode} {done.stderr}")
    shutil.rmtree(work)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    import warnings
    warnings.filterwarnings("ignore")
    sys.exit(run_cases(parse_arguments(__doc__), cases, check, f"peft {peft.__version__}, transformers {transformers.__version__}"))
