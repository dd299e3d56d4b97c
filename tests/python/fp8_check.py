"""Checkpoints of 8-bit floats with scales, against what the libraries that wrote the methods make of them.

    python fp8_check.py --bin DIR [--case NAME ...]

--bin holds q4convert, q4export, q4inspect and q4verify. For each case, tensors as its dialect stores them, over all 256 codes and
scales of every magnitude:
  - kept whole (--exclude '.*') and exported, each weight has the bytes of the reference: transformers' Fp8Dequantize, and where it is
    there compressed-tensors' decompress; a NaN is any NaN;
  - without NaN and infinity, the container has the content identity of that of the dequantized checkpoint, which a user would save;
  - q4verify --against the 8-bit checkpoint passes, q4inspect --diff finds no difference to the dequantized one, and nothing is left of
    the scales.
The models are tiny ones of transformers, quantized by its own Fp8Quantize, and loaded by its from_pretrained().
"""

import copy
import json
import pathlib
import sys
from dataclasses import dataclass, field

import safetensors.torch
import torch
import transformers
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import must, parse_arguments, run, run_cases  # noqa: E402  (the path above)

try:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
except ImportError:
    BaseCompressor = None

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"}
MODULE = "model.layers.0.mlp.up_proj"


@dataclass
class Case:
    name: str
    suffix: str = "weight_scale_inv"  # of the scale
    section: dict = field(default_factory=dict)  # quantization_config
    shape: tuple = (256, 384)
    grid: tuple = (2, 3)  # of the scale, as it is stored
    block: tuple = (128, 128)
    code: torch.dtype = E4M3
    scale: torch.dtype = torch.float32
    dtype: str = "bfloat16"
    finite: bool = True
    weight: str = MODULE + ".weight"
    more: dict = field(default_factory=dict)  # suffix -> tensor that is left out
    compressed: dict | None = None  # arguments of compressed-tensors' scheme
    shards: bool = False  # the scale lies in another file than its weight


def compressed(strategy, **more):
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": strategy, **more}
    return {"quant_method": "compressed-tensors", "format": "float-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}}


def cases(_):
    block = FP8 | {"weight_block_size": [128, 128]}
    yield Case("blocks", section=block)
    yield Case("blocks, scales in another shard", section=block, shards=True)
    yield Case("edges", section=block, shape=(200, 330))
    yield Case("edges that half of the rows divide", section=block, shape=(130, 300), grid=(2, 3))
    yield Case("other blocks", section=FP8 | {"weight_block_size": [32, 48]}, shape=(100, 200), grid=(4, 5), block=(32, 48))
    yield Case("no section", shape=(200, 256), grid=(2, 2))
    yield Case("NaN, infinite and extreme scales", section=block, finite=False)
    yield Case("E5M2, with infinities", section=block, code=E5M2, finite=False)
    yield Case("E5M2", section=block, code=E5M2)
    yield Case("bfloat16 scales", section=block, scale=torch.bfloat16)
    yield Case("ue8m0 scales", section=block | {"scale_fmt": "ue8m0"}, scale=torch.float8_e8m0fnu)
    yield Case("MXFP8, exponents as bytes", section={"quant_method": "mxfp8"}, grid=(256, 12), block=(1, 32), scale=torch.uint8)
    yield Case("float16 model", section=block, dtype="float16", finite=False)
    yield Case("float32 model", section=block, dtype="float32")
    yield Case("one scale", section=FP8, grid=(), block=(256, 384), more={"activation_scale": torch.tensor(2.0)})
    yield Case("experts in one tensor", section=block, shape=(3, 256, 384), grid=(3, 2, 3), weight="model.layers.0.mlp.experts.up_proj",
               suffix="_scale_inv", more={"_activation_scale": torch.ones(3)})
    yield Case("DeepSeek's own names", suffix="scale")
    channel = {"suffix": "weight_scale", "grid": (256, 1), "block": (1, 384)}
    yield Case("FBGEMM", section={"quant_method": "fbgemm_fp8"}, **channel, more={"input_scale_ub": torch.tensor([1200.0])})
    yield Case("FBGEMM, experts by column", section={"quant_method": "fbgemm_fp8"}, shape=(2, 64, 96), grid=(2, 1, 96), block=(64, 1),
               weight="model.layers.0.feed_forward.experts.gate_up_proj", suffix="_scale")
    for scale in (torch.float32, torch.bfloat16, torch.float16):
        dtype = "bfloat16" if scale != torch.float16 else "float16"
        name = str(scale).removeprefix("torch.")
        yield Case(f"compressed-tensors, channels, {name}", section=compressed("channel"), **channel, scale=scale, dtype=dtype,
                   compressed={"strategy": "channel"}, more={"input_scale": torch.ones(1)})
    # Rounded twice, as compressed-tensors does it: to the type of the scales, then to that of the model.
    yield Case("compressed-tensors, float16 scales of a bfloat16 model", section=compressed("channel"), **channel, scale=torch.float16,
               compressed={"strategy": "channel"})
    yield Case("compressed-tensors, tensor", section=compressed("tensor"), suffix="weight_scale", grid=(1,), block=(256, 384),
               compressed={"strategy": "tensor"}, more={"k_scale": torch.ones(1)})
    yield Case("compressed-tensors, blocks with edges", section=compressed("block", block_structure=[128, 128]), suffix="weight_scale",
               shape=(200, 330), compressed={"strategy": "block", "block_structure": [128, 128]})
    modelopt = {"quant_method": "modelopt", "quant_algo": "FP8"}
    yield Case("ModelOpt", section=modelopt, suffix="weight_scale", grid=(), block=(256, 384), more={"input_scale": torch.tensor(0.5)})
    yield Case("ModelOpt, channels in one dimension", section=modelopt, suffix="weight_scale", grid=(256,), block=(1, 384))
    yield Case("ModelOpt, blocks", section=modelopt | {"quant_algo": "FP8_PB_WO"}, suffix="weight_scale", grid=(2, 1, 3, 1))
    yield Case("Mistral", suffix="qscale_weight", grid=(), block=(256, 384), more={"qscale_act": torch.tensor(1.0)})
    yield Case("ComfyUI", suffix="scale_weight", grid=(1,), block=(256, 384),
               more={"scale_input": torch.ones(1), "/scaled_fp8": torch.zeros(2).to(E4M3)})
    yield Case("ComfyUI's later names", suffix="weight_scale", grid=(), block=(256, 384),
               more={"input_scale": torch.tensor(1.0), "comfy_quant": torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)})
    yield Case("no scales at all", suffix="", section={})
    yield Model("Qwen3", "Qwen3ForCausalLM", {"head_dim": 16})
    yield Model("DeepSeek-V3", "DeepseekV3ForCausalLM",
                {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
                 "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "kv_lora_rank": 64, "q_lora_rank": 64,
                 "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 16, "num_key_value_heads": 4})


@dataclass
class Model:
    name: str
    architecture: str
    config: dict


def neighbour(name, suffix):
    """Name of the tensor `suffix` beside the weight `name`; "_x" stands behind the whole name, "/x" at the top."""
    if suffix.startswith("/"):
        return suffix[1:]
    return name + suffix if suffix.startswith("_") else name.rsplit(".", 1)[0] + "." + suffix


def codes_of(case, generator):
    codes = torch.randint(0, 256, case.shape, dtype=torch.uint8, generator=generator)
    codes.view(-1)[:256] = torch.arange(256)  # each, whatever the numbers are
    if case.finite:
        values = codes.view(case.code).to(torch.float32)
        codes[~torch.isfinite(values)] = 0x31
    return codes.view(case.code)


def scales_of(case, generator):
    if case.scale in (torch.uint8, torch.float8_e8m0fnu):
        low, high = (100, 140) if case.finite else (0, 256)
        return torch.randint(low, high, case.grid, dtype=torch.uint8, generator=generator).view(case.scale)
    scales = torch.exp2(torch.randint(-12, 4, case.grid, generator=generator).float()) * (1 + torch.rand(case.grid, generator=generator))
    if not case.finite:
        edge = torch.tensor([0.0, -1.5, float("nan"), float("inf"), 3e38, 1e-45])
        scales.view(-1)[: edge.numel()] = edge[: scales.numel()]
    return scales.to(case.scale)


def reference(case, codes, scales):
    """transformers' arithmetic, its weight filled up to whole blocks: it knows no edges."""
    dtype = getattr(torch, case.dtype)
    if scales is None:
        return codes.to(dtype)
    *lead, rows, columns = case.shape
    high, wide = -(-rows // case.block[0]), -(-columns // case.block[1])
    full = torch.zeros(*lead, high * case.block[0], wide * case.block[1], dtype=torch.uint8)
    full[..., :rows, :columns] = codes.view(torch.uint8)
    grid = scales.reshape(*lead, high, wide)
    if scales.dtype == torch.float8_e8m0fnu:
        grid = grid.to(torch.float32)
    return Fp8Dequantize(None)._dequantize_one(full.view(case.code), grid, dtype)[..., :rows, :columns].contiguous()


def decompressed(case, codes, scales):
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(num_bits=8, type="float", symmetric=True, **case.compressed))
    state = BaseCompressor.get_value_from_registry("float-quantized").decompress({"weight": codes, "weight_scale": scales}, scheme)
    return state["weight"].to(getattr(torch, case.dtype))


def same(got, expected):
    bits = {2: torch.int16, 4: torch.int32}[expected.element_size()]
    equal = got.view(bits) == expected.view(bits)
    return got.shape == expected.shape and got.dtype == expected.dtype and bool((equal | (got.isnan() & expected.isnan())).all())


def write(folder, config, files):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for name, tensors in files.items():
        safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name, {"format": "pt"})
    if len(files) > 1:
        index = {"metadata": {}, "weight_map": {key: name for name, tensors in files.items() for key in tensors}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def kept(tools, folder, work, *flags):
    """The logical tensors of a checkpoint: all kept, and exported."""
    must(tools / "q4convert", folder, "-o", work / "kept.q4", "--exclude", ".*", "--force", "-q", "--on-nonfinite", "keep", *flags)
    must(tools / "q4export", work / "kept.q4", "--to", "safetensors", "-o", work / "kept", "--force", "-q")
    tensors = {}
    for file in (work / "kept").glob("*.safetensors"):
        tensors |= safetensors.torch.load_file(file)
    return tensors, json.loads((work / "kept" / "config.json").read_text())


def content(tools, path):
    return json.loads(must(tools / "q4inspect", path, "--json").stdout)["content_sha256"]


def check(case, tools, work, failures):
    work = work / case.name.replace(" ", "-").replace(",", "").replace("'", "")
    if isinstance(case, Model):
        return check_model(case, tools, work, failures)
    generator = torch.Generator().manual_seed(sum(case.name.encode()))
    codes = codes_of(case, generator)
    scales = scales_of(case, generator) if case.suffix else None
    expected = reference(case, codes, scales)
    if case.compressed is not None:
        if BaseCompressor is not None:
            expected = decompressed(case, codes, scales)
        elif case.scale != getattr(torch, case.dtype) and case.scale != torch.float32:
            return print(f"{case.name}: skipped, no compressed_tensors")
    plain = {"model.norm.weight": torch.ones(64, dtype=torch.bfloat16), "lm_head.weight": torch.randn(64, 64, generator=generator).bfloat16()}
    config = CONFIG | {"torch_dtype": case.dtype}
    beside = {neighbour(case.weight, case.suffix): scales} if case.suffix else {}
    beside |= {neighbour(case.weight, suffix): tensor for suffix, tensor in case.more.items()}
    files = {"model.safetensors": plain | {case.weight: codes} | beside}
    if case.shards:
        files = {"model-00001-of-00002.safetensors": beside, "model-00002-of-00002.safetensors": plain | {case.weight: codes}}
    write(work / "fp8", config | ({"quantization_config": case.section} if case.section else {}), files)

    tensors, carried = kept(tools, work / "fp8", work)
    failures.require(case, set(tensors) == {*plain, case.weight}, f"tensors are {sorted(tensors)}")
    failures.require(case, same(tensors[case.weight], expected), f"{(tensors[case.weight] != expected).sum()} values differ")
    failures.require(case, carried == config, f"config.json is {carried}")

    # The inspector says what the files are and what is in them.
    shown = json.loads(must(tools / "q4inspect", work / "fp8", "--json").stdout)["format"]
    failures.require(case, shown == ("safetensors-sharded" if case.shards else "safetensors") + ", FP8", f"q4inspect: {shown}")
    plan = json.loads(must(tools / "q4convert", work / "fp8", "-o", work / "x.q4", "--dry-run", "--json").stdout)
    stored = {tensor["name"]: tensor.get("stored") for tensor in plan["tensors"]}
    made_of = [case.weight] + ([neighbour(case.weight, case.suffix)] if case.suffix else [])
    failures.require(case, stored[case.weight]["tensors"] == made_of and stored["lm_head.weight"] is None, f"a dry run says {stored}")
    gone = " ".join(entry["name"] for entry in plan["left_out"])
    for suffix in case.more:
        failures.require(case, neighbour(case.weight, suffix) in gone, f"{suffix} is not among what is left out: {gone}")
    if not case.finite:
        done = run(tools / "q4convert", work / "fp8", "-o", work / "x.q4", "-q")
        return failures.require(case, done.returncode == 3, f"NaN converts: {done.returncode} {done.stderr}")
    # A tensor whose values came out beyond float16 would be no case of a finite one.
    failures.require(case, bool(torch.isfinite(expected).all()), "the case is not finite")
    write(work / "plain", config, {"model.safetensors": plain | {case.weight: expected}})
    for name in ("fp8", "plain"):
        must(tools / "q4convert", work / name, "-o", work / f"{name}.q4", "-q")
    failures.require(case, content(tools, work / "fp8.q4") == content(tools, work / "plain.q4"), "the container is another")
    done = run(tools / "q4verify", work / "fp8.q4", "--against", work / "fp8", "-q")
    failures.require(case, done.returncode == 0, f"q4verify --against: {done.stderr}{done.stdout}")
    done = run(tools / "q4inspect", work / "fp8", "--diff", work / "plain")
    failures.require(case, done.returncode == 0, f"q4inspect --diff: {done.stderr}{done.stdout}")
    return None


SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "vocab_size": 96, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
         "tie_word_embeddings": False}


class Quantizer:
    """What Fp8Quantize asks its quantizer."""

    def __init__(self, section):
        self.quantization_config = transformers.FineGrainedFP8Config(weight_block_size=section["weight_block_size"])


def check_model(case, tools, work, failures):
    torch.manual_seed(0)
    architecture = getattr(transformers, case.architecture)
    model = architecture(architecture.config_class(**(SIZES | case.config))).to(torch.bfloat16)
    model.save_pretrained(work / "bf16")
    section = FP8 | {"weight_block_size": [16, 16]}
    quantize = Fp8Quantize(Quantizer(section))
    plain = safetensors.torch.load_file(work / "bf16" / "model.safetensors")
    tensors, fp8 = {}, set()
    for name, tensor in plain.items():
        is_linear = name.endswith(("_proj.weight", "_proj_with_mqa.weight", "q_a_proj.weight", "q_b_proj.weight", "kv_b_proj.weight"))
        if is_linear and tensor.ndim == 2:
            fp8.add(name)
            tensors |= quantize.convert({name: tensor})
        else:
            tensors[name] = tensor
    config = json.loads((work / "bf16" / "config.json").read_text())
    half = len(tensors) // 2
    items = list(tensors.items())
    # Every second scale lies in the other file than its weight.
    write(work / "fp8", config | {"quantization_config": section},
          {"model-00001-of-00002.safetensors": dict(items[:half:2] + items[half::2]),
           "model-00002-of-00002.safetensors": dict(items[1:half:2] + items[half + 1::2])})
    got, carried = kept(tools, work / "fp8", work)
    failures.require(case, set(got) == set(plain), f"tensors are {sorted(got)}")
    failures.require(case, carried == config, "config.json has changed beyond its section")
    # Without a GPU it dequantizes by itself.
    loaded = architecture.from_pretrained(work / "fp8", torch_dtype=torch.bfloat16, quantization_config=transformers.FineGrainedFP8Config(
        weight_block_size=section["weight_block_size"], dequantize=True))
    state = loaded.state_dict()
    compared = 0
    for name, tensor in state.items():
        if name in got:
            # transformers holds some parameters in fp32 whatever is stored, none of them quantized.
            if name not in fp8 and got[name].dtype != tensor.dtype:
                tensor = tensor.to(got[name].dtype)
            failures.require(case, same(got[name], tensor), f"{name} differs")
            compared += 1
        elif ".experts.gate_up_proj" in name or ".experts.down_proj" in name:
            prefix = name.rsplit(".", 1)[0]
            for e in range(tensor.shape[0]):
                parts = ("gate_proj", "up_proj") if "gate_up" in name else ("down_proj",)
                expert = torch.cat([got[f"{prefix}.{e}.{part}.weight"] for part in parts])
                failures.require(case, same(expert, tensor[e]), f"{name}[{e}] differs")
                compared += len(parts)
    failures.require(case, compared == len(plain), f"{compared} of {len(plain)} tensors compared")
    failures.require(case, len(fp8) >= 14, f"{len(fp8)} quantized tensors")
    write(work / "plain", config, {"model.safetensors": copy.copy(got)})
    for name in ("fp8", "plain"):
        for file in ("generation_config.json",):
            (work / name / file).write_bytes((work / "bf16" / file).read_bytes())
        must(tools / "q4convert", work / name, "-o", work / f"{name}.q4", "-q")
    failures.require(case, content(tools, work / "fp8.q4") == content(tools, work / "plain.q4"), "the container is another")


if __name__ == "__main__":
    VERSIONS = f"transformers {transformers.__version__}, compressed-tensors {'compared' if BaseCompressor else 'not there'}"
    sys.exit(run_cases(parse_arguments(__doc__), cases, check, VERSIONS))
