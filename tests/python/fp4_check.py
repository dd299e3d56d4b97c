"""Checkpoints of 4-bit floats with scales of blocks (NVFP4, MXFP4), against what the libraries of their formats make of them.

    python fp4_check.py --bin DIR [--case NAME ...]

--bin holds q4convert, q4export, q4inspect and q4verify. For each case, tensors as its dialect stores them, over all codes and all scales:
  - kept whole (--exclude '.*') and exported, each weight has name, shape and bytes of the reference: compressed-tensors' decompress,
    transformers' convert_moe_packed_tensors and Fp8Dequantize, ModelOpt's formula; a NaN is any NaN;
  - without NaN and infinity, the container has the content identity of that of the dequantized checkpoint, which a user would save;
  - without --from-quantized the conversion is refused, saying why; q4verify --against, q4inspect and its --lint and --diff ask for nothing.
The models are tiny: gpt-oss, of which transformers dequantizes and saves what is compared, and Llama, compressed by compressed-tensors.
"""

import json
import sys
from dataclasses import dataclass, field

import safetensors.torch
import torch
import transformers
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from fp8_check import CONFIG, MODULE, SIZES, content, kept, neighbour, same, write
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from cases import must, parse_arguments, run, run_cases  # the path is fp8_check's

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
E4M3 = torch.float8_e4m3fn
EXPERTS = "model.layers.0.mlp.experts"


def section(form):
    weights = {"num_bits": 4, "type": "float", "symmetric": True, "group_size": 16 if form == "nvfp4" else 32,
               "strategy": "tensor_group" if form == "nvfp4" else "group", "dynamic": False}
    return {"quant_method": "compressed-tensors", "format": f"{form}-pack-quantized", "quantization_status": "compressed",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}}


def scheme(form):
    return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**section(form)["config_groups"]["group_0"]["weights"]))


def unpack(codes):
    """The values of codes, the lower half of a byte first."""
    bytes_ = codes.view(torch.uint8)
    return torch.stack([E2M1[(bytes_ & 15).long()], E2M1[(bytes_ >> 4).long()]], dim=-1).flatten(-2)


def by_hand(codes, scales, factor, dtype, axis=-1):
    """ModelOpt's dequantization: the scales of blocks times that of the tensor in fp32, and then the values."""
    values = unpack(codes.transpose(axis, -1).contiguous())
    of_block = scales.to(torch.float32).transpose(axis, -1)
    if factor is not None:
        of_block = of_block * factor.reshape(-1, *[1] * (values.ndim - 1))
    block = values.shape[-1] // of_block.shape[-1]
    values = values.unflatten(-1, (-1, block)) * of_block.unsqueeze(-1)
    return values.flatten(-2).transpose(axis, -1).to(dtype).contiguous()


def exponents(scales):
    return torch.exp2(scales.to(torch.float32) - 127)


@dataclass
class Case:
    name: str
    stored: dict  # what the weights are made of, by name
    expected: dict  # what they are
    section: dict = field(default_factory=dict)
    dtype: str = "bfloat16"
    finite: bool = True
    more: dict = field(default_factory=dict)  # left out, by name
    files: dict = field(default_factory=dict)
    says: str = "NVFP4"
    shards: bool = False


def codes_of(shape, generator, dtype=torch.uint8):
    codes = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    codes.view(-1)[:256] = torch.arange(256)
    return codes.view(dtype)


def e4m3(shape, generator, finite):
    scales = codes_of(shape, generator)
    if finite:
        scales[(scales & 127) == 127] = 0x38
    return scales.view(E4M3)


def e8m0(shape, generator, finite):
    if finite:
        return torch.randint(97, 141, shape, dtype=torch.uint8, generator=generator)
    return codes_of(shape, generator)


EDGES = {"zero": 0.0, "negative": -3.0, "NaN": float("nan"), "infinite": float("inf"), "huge": 3e38, "subnormal": 1e-42}


def compressed(name, form, generator, dtype="bfloat16", finite=True, divisor=None, module=MODULE, **more):
    codes = codes_of((96, 128), generator)
    parts = {"weight_packed": codes}
    if form == "nvfp4":
        parts["weight_scale"] = e4m3((96, 16), generator, finite)
        parts["weight_global_scale"] = torch.tensor([7321.123]) if divisor is None else divisor
    else:
        parts["weight_scale"] = e8m0((96, 8), generator, finite)
    whole = BaseCompressor.get_value_from_registry(f"{form}-pack-quantized").decompress(dict(parts), scheme(form))["weight"]
    return Case(name, {f"{module}.{part}": tensor for part, tensor in parts.items()}, {f"{module}.weight": whole.to(getattr(torch, dtype))},
                section(form), dtype, finite, says=form.upper(), **more)


def modelopt(name, shape, scale_shape, generator, factor, dtype="bfloat16", finite=True, axis=-1, weight=f"{MODULE}.weight", suffix="_scale", **more):
    codes, scales = codes_of(shape, generator), e4m3(scale_shape, generator, finite)
    stored = {weight: codes, weight + suffix: scales, weight + suffix + "_2": factor}
    whole = by_hand(codes, scales, factor, getattr(torch, dtype), axis)
    return Case(name, stored, {weight: whole}, more.pop("section", {"quant_method": "modelopt", "quant_algo": "NVFP4"}), dtype, finite, **more)


def cases(_):
    generator = torch.Generator().manual_seed(4)
    one = torch.ones(1)
    yield compressed("compressed-tensors NVFP4", "nvfp4", generator, more={f"{MODULE}.input_global_scale": one, "model.layers.0.self_attn.k_scale": torch.ones(1)})
    yield compressed("compressed-tensors NVFP4, in shards", "nvfp4", generator, shards=True)
    yield compressed("compressed-tensors NVFP4, NaN scales", "nvfp4", generator, finite=False)
    for kind, value in EDGES.items():
        yield compressed(f"compressed-tensors NVFP4, {kind} divisor", "nvfp4", generator, divisor=torch.tensor([value]), finite=kind in ("huge", "negative"))
    yield compressed("compressed-tensors NVFP4, scalar divisor", "nvfp4", generator, divisor=torch.tensor(7321.123))
    yield compressed("compressed-tensors NVFP4, bfloat16 divisor", "nvfp4", generator, divisor=torch.tensor([7321.123]).bfloat16())
    yield compressed("compressed-tensors NVFP4, float16 divisor", "nvfp4", generator, divisor=torch.tensor([7321.123]).half())
    yield compressed("compressed-tensors NVFP4, float16 model", "nvfp4", generator, "float16")
    yield compressed("compressed-tensors NVFP4, float32 model", "nvfp4", generator, "float32")
    yield compressed("compressed-tensors MXFP4", "mxfp4", generator)
    yield compressed("compressed-tensors MXFP4, all exponents", "mxfp4", generator, finite=False)
    yield compressed("compressed-tensors MXFP4, all exponents, float16 model", "mxfp4", generator, "float16", finite=False)
    yield compressed("compressed-tensors NVFP4, an expert by itself", "nvfp4", generator, module=f"{EXPERTS}.3.up_proj")
    # Experts in one tensor: each decompressed by itself.
    parts = {"_packed": codes_of((3, 64, 48), generator), "_scale": e4m3((3, 64, 6), generator, True), "_global_scale": 1000 + torch.rand(3)}
    decompress = BaseCompressor.get_value_from_registry("nvfp4-pack-quantized").decompress
    whole = torch.stack([decompress({"weight" + part: tensor[e:e + 1] if part == "_global_scale" else tensor[e] for part, tensor in parts.items()},
                                    scheme("nvfp4"))["weight"] for e in range(3)])
    yield Case("compressed-tensors NVFP4, experts in one tensor", {f"{EXPERTS}.gate_up_proj{part}": tensor for part, tensor in parts.items()},
               {f"{EXPERTS}.gate_up_proj": whole}, section("nvfp4"), more={f"{EXPERTS}.gate_up_proj_input_global_scale": torch.rand(3)})
    factor = torch.tensor(3.7e-4)
    quantized = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16, "kv_cache_quant_algo": None}}
    yield modelopt("ModelOpt NVFP4", (96, 128), (96, 16), generator, factor, more={f"{MODULE}.input_scale": torch.tensor(0.5)})
    yield modelopt("ModelOpt NVFP4, by its own file", (96, 128), (96, 16), generator, factor, section={}, files={"hf_quant_config.json": quantized})
    yield modelopt("ModelOpt NVFP4, no configuration", (96, 128), (96, 16), generator, factor, section={})
    yield modelopt("ModelOpt NVFP4, NaN scales", (96, 128), (96, 16), generator, factor, finite=False)
    yield modelopt("ModelOpt NVFP4, subnormal factor", (96, 128), (96, 16), generator, torch.tensor(1e-42))
    yield modelopt("ModelOpt NVFP4, infinite factor, float16 model", (96, 128), (96, 16), generator, torch.tensor(float("inf")), "float16", finite=False)
    yield modelopt("ModelOpt NVFP4, float32 model", (96, 128), (96, 16), generator, factor, "float32")
    yield modelopt("ModelOpt experts", (3, 64, 48), (3, 64, 6), generator, torch.rand(3), weight=f"{EXPERTS}.gate_up_proj", suffix="_weight_scale",
                   more={f"{EXPERTS}.gate_up_proj_input_scale": torch.rand(3)})
    yield modelopt("ModelOpt experts packed down", (3, 64, 50), (3, 8, 50), generator, torch.rand(3, 1), axis=-2, weight=f"{EXPERTS}.down_proj", suffix="_weight_scale")
    mixed = modelopt("ModelOpt mixed", (96, 128), (96, 16), generator, factor, section={"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"},
                     more={f"{MODULE}.input_scale": torch.tensor(0.5), "model.layers.1.mlp.up_proj.input_scale": torch.tensor(0.5)})
    eight, scale = torch.randn(64, 64, generator=generator).to(E4M3), torch.tensor(0.03)
    mixed.stored |= {"model.layers.1.mlp.up_proj.weight": eight, "model.layers.1.mlp.up_proj.weight_scale": scale}
    mixed.expected["model.layers.1.mlp.up_proj.weight"] = (eight.float() * scale).bfloat16()
    yield mixed
    for finite in (True, False):
        codes, scales = codes_of((96, 128), generator), e8m0((96, 8), generator, finite)
        yield Case(f"Quark MXFP4{'' if finite else ', all exponents'}", {f"{MODULE}.weight": codes, f"{MODULE}.weight_scale": scales},
                   {f"{MODULE}.weight": by_hand(codes, exponents(scales), None, torch.bfloat16)},
                   {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}}}, finite=finite, says="MXFP4")
    for suffix in (".scale", ".weight_scale_inv"):
        codes, scales = codes_of((96, 128), generator, torch.int8), e8m0((96, 8), generator, False).clamp(max=200).view(torch.float8_e8m0fnu)
        whole = Fp8Dequantize(None)._dequantize_one(codes, scales, torch.bfloat16)
        eight = torch.randn(128, 128, generator=generator).to(E4M3)
        yield Case(f"DeepSeek-V4, {suffix}", {f"{MODULE}.weight": codes, MODULE + suffix: scales, "model.layers.1.mlp.up_proj.weight": eight,
                   "model.layers.1.mlp.up_proj" + suffix: torch.tensor([[2.0]]).to(torch.float8_e8m0fnu)},
                   {f"{MODULE}.weight": whole, "model.layers.1.mlp.up_proj.weight": (eight.float() * 2).bfloat16()},
                   {"quant_method": "fp8", "weight_block_size": [128, 128]}, finite=False, says="MXFP4")
    for finite in (True, False):
        for dtype in ("bfloat16", "float16", "float32"):
            stored, expected = {}, {}
            for weight, rows, groups in ((f"{EXPERTS}.gate_up_proj", 75, 4), (f"{EXPERTS}.down_proj", 130, 2)):
                stored[weight + "_blocks"] = codes_of((3, rows, groups, 16), generator)
                stored[weight + "_scales"] = e8m0((3, rows, groups), generator, finite) if dtype != "float16" or not finite else torch.randint(
                    115, 130, (3, rows, groups), dtype=torch.uint8, generator=generator)
                expected[weight] = convert_moe_packed_tensors(stored[weight + "_blocks"], stored[weight + "_scales"], dtype=getattr(torch, dtype))
            yield Case(f"gpt-oss, {dtype}{'' if finite else ', all exponents'}", stored, expected, {"quant_method": "mxfp4"}, dtype, finite, says="MXFP4")
    codes, scales = codes_of((3, 75, 4, 16), generator), e8m0((3, 75, 4), generator, True)
    yield Case("OpenAI's own names", {"block.0.mlp.mlp1_weight.blocks": codes, "block.0.mlp.mlp1_weight.scales": scales},
               {"block.0.mlp.mlp1_weight": convert_moe_packed_tensors(codes, scales).transpose(1, 2).contiguous()}, says="MXFP4")
    yield GptOss("gpt-oss, as transformers saves it")
    yield Llama("Llama, compressed to NVFP4", "nvfp4")
    yield Llama("Llama, compressed to MXFP4", "mxfp4")


@dataclass
class GptOss:
    name: str


@dataclass
class Llama:
    name: str
    form: str


def check(case, tools, work, failures):
    work = work / "".join(c if c.isalnum() else "-" for c in case.name)
    if isinstance(case, GptOss):
        return check_gpt_oss(case, tools, work, failures)
    if isinstance(case, Llama):
        return check_llama(case, tools, work, failures)
    generator = torch.Generator().manual_seed(7)
    plain = {"model.norm.weight": torch.ones(64, dtype=torch.bfloat16), f"{MODULE}.bias": torch.ones(96, dtype=torch.bfloat16),
             "lm_head.weight": torch.randn(64, 64, generator=generator).bfloat16()}
    config = CONFIG | {"torch_dtype": case.dtype}
    files = {"model.safetensors": plain | case.stored | case.more}
    if case.shards:
        names = list(case.stored)
        files = {"model-00001-of-00002.safetensors": {name: case.stored[name] for name in names[1:]},
                 "model-00002-of-00002.safetensors": plain | {names[0]: case.stored[names[0]]} | case.more}
    write(work / "f4", config | ({"quantization_config": case.section} if case.section else {}), files)
    for name, text in case.files.items():
        (work / "f4" / name).write_text(json.dumps(text))
    tensors, carried = kept(tools, work / "f4", work, "--from-quantized")
    failures.require(case, set(tensors) == {*plain, *case.expected}, f"tensors are {sorted(tensors)}")
    for name, expected in case.expected.items():
        failures.require(case, same(tensors[name], expected), f"{name}: {tensors[name].shape}, {(tensors[name] != expected).sum()} values differ")
    failures.require(case, carried == config, f"config.json is {carried}")
    refused = run(tools / "q4convert", work / "f4", "-o", work / "x.q4")
    failures.require(case, refused.returncode == 5 and case.says in refused.stderr and "--from-quantized" in refused.stderr and
                     not (work / "x.q4").exists(), f"it is refused: {refused.returncode} {refused.stderr}")
    plan = json.loads(must(tools / "q4convert", work / "f4", "-o", work / "x.q4", "--from-quantized", "--dry-run", "--json").stdout)
    made = [name for tensor in plan["tensors"] if tensor.get("stored") for name in tensor["stored"]["tensors"]]
    failures.require(case, sorted(made) == sorted(case.stored), f"a dry run says {made}")
    gone = " ".join(entry["name"] for entry in plan["left_out"])
    for name in case.more:
        failures.require(case, name in gone, f"{name} is not among what is left out: {gone}")
    for flags in ([], ["--lint"], ["--tensors"]):
        done = run(tools / "q4inspect", work / "f4", *flags)
        failures.require(case, done.returncode in (0, 6 if flags == ["--lint"] else 0), f"q4inspect {flags}: {done.returncode} {done.stderr}")
    told = json.loads(must(tools / "q4inspect", work / "f4", "--json").stdout)["format"]
    failures.require(case, case.says in told.split(", ")[1:], f"q4inspect calls it {told}")
    if not case.finite:
        return
    write(work / "plain", config, {"model.safetensors": plain | case.expected})
    compare(case, tools, work, failures)


def compare(case, tools, work, failures):
    """The containers of "f4" and of "plain", the dequantized checkpoint."""
    must(tools / "q4convert", work / "f4", "-o", work / "f4.q4", "-q", "--from-quantized")
    must(tools / "q4convert", work / "plain", "-o", work / "plain.q4", "-q")
    failures.require(case, content(tools, work / "f4.q4") == content(tools, work / "plain.q4"), "the container is another")
    done = run(tools / "q4verify", work / "f4.q4", "--against", work / "f4", "-q")
    failures.require(case, done.returncode == 0, f"q4verify --against: {done.stderr}{done.stdout}")
    done = run(tools / "q4inspect", work / "f4", "--diff", work / "plain")
    failures.require(case, done.returncode == 0, f"q4inspect --diff: {done.stderr}{done.stdout}")
    source = json.loads(must(tools / "q4inspect", work / "f4.q4", "--json").stdout)["provenance"]["source"]
    failures.require(case, source.get("quantized") is not None, f"the provenance says {source}")


def check_gpt_oss(case, tools, work, failures):
    torch.manual_seed(0)
    config = transformers.GptOssConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                       head_dim=16, num_local_experts=4, num_experts_per_tok=2, vocab_size=96, max_position_embeddings=64,
                                       pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False, sliding_window=16,
                                       layer_types=["sliding_attention", "full_attention"])
    transformers.GptOssForCausalLM(config).to(torch.bfloat16).save_pretrained(work / "bf16")
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for name, tensor in safetensors.torch.load_file(work / "bf16/model.safetensors").items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[name] = tensor
            continue
        experts, columns, rows = tensor.shape
        tensors[name + "_blocks"] = codes_of((experts, rows, columns // 32, 16), generator)
        tensors[name + "_scales"] = torch.randint(117, 124, (experts, rows, columns // 32), dtype=torch.uint8, generator=generator)
    text = json.loads((work / "bf16/config.json").read_text())
    quantized = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    half = len(tensors) // 2
    items = list(tensors.items())
    write(work / "f4", text | {"quantization_config": quantized},
          {"model-00001-of-00002.safetensors": dict(items[:half:2] + items[half::2]), "model-00002-of-00002.safetensors": dict(items[1:half:2] + items[half + 1::2])})
    loaded = transformers.GptOssForCausalLM.from_pretrained(work / "f4", dtype=torch.bfloat16, quantization_config=transformers.Mxfp4Config(dequantize=True))
    # transformers 5.23 calls what it writes in the original format "..._blocks", which nobody reads.
    loaded.save_pretrained(work / "saved", save_original_format=False)
    expected = safetensors.torch.load_file(work / "saved/model.safetensors")
    got, carried = kept(tools, work / "f4", work, "--from-quantized")
    failures.require(case, set(got) == set(expected), f"tensors are {sorted(got)}, saved were {sorted(expected)}")
    for name, tensor in expected.items():
        failures.require(case, same(got[name], tensor), f"{name} differs")
    failures.require(case, sum("experts" in name and got[name].ndim == 3 for name in got) == 4, "four experts' weights")
    failures.require(case, carried == text, "config.json has changed beyond its section")
    write(work / "plain", text, {"model.safetensors": expected})
    for name in ("f4", "plain"):
        (work / name / "generation_config.json").write_bytes((work / "bf16/generation_config.json").read_bytes())
    compare(case, tools, work, failures)


def check_llama(case, tools, work, failures):
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).to(torch.bfloat16)
    model.save_pretrained(work / "bf16")
    compressor = BaseCompressor.get_value_from_registry(f"{case.form}-pack-quantized")
    tensors, weights = {}, set()
    for name, tensor in safetensors.torch.load_file(work / "bf16/model.safetensors").items():
        if not name.endswith("_proj.weight"):
            tensors[name] = tensor
            continue
        weights.add(name)
        block = 16 if case.form == "nvfp4" else 32
        most = tensor.float().abs().unflatten(-1, (-1, block)).amax(-1)
        state = {"weight": tensor}
        if case.form == "nvfp4":
            state["weight_global_scale"] = (2688 / most.max()).reshape(1)
            state["weight_scale"] = (most / 6 * state["weight_global_scale"]).to(E4M3).float()
        else:
            state["weight_scale"] = torch.exp2(torch.floor(torch.log2(most)) - 2)
        for part, value in compressor.compress(state, scheme(case.form)).items():
            tensors[neighbour(name, part)] = value
    text = json.loads((work / "bf16/config.json").read_text())
    write(work / "f4", text | {"quantization_config": section(case.form) | {"ignore": ["lm_head"]}}, {"model.safetensors": tensors})
    loaded = transformers.LlamaForCausalLM.from_pretrained(work / "f4", dtype=torch.bfloat16,
                                                           quantization_config=transformers.CompressedTensorsConfig(dequantize=True))
    expected = loaded.state_dict()
    got, carried = kept(tools, work / "f4", work, "--from-quantized")
    failures.require(case, set(got) == set(expected), f"tensors are {sorted(got)}")
    for name, tensor in expected.items():
        failures.require(case, same(got[name], tensor.contiguous()), f"{name} differs")
    failures.require(case, len(weights) == 14, f"{len(weights)} quantized weights")
    failures.require(case, carried == text, "config.json has changed beyond its section")
    write(work / "plain", text, {"model.safetensors": {name: tensor.contiguous() for name, tensor in expected.items()}})
    for name in ("f4", "plain"):
        (work / name / "generation_config.json").write_bytes((work / "bf16/generation_config.json").read_bytes())
    compare(case, tools, work, failures)


if __name__ == "__main__":
    sys.exit(run_cases(parse_arguments(__doc__), cases, check, f"transformers {transformers.__version__}"))
