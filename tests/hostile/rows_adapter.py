"""Adapters of PEFT whose configuration, names, shapes or numbers lie, or that fit another model."""

import json
import math
import struct

import rows_bnb
from harness import CONVERT, Case, Row, accept
from rows_gguf import PLAIN
from safetensors_bytes import floats, tensor_file

WEIGHT, MODULE = "model.layers.0.mlp.up_proj.weight", "base_model.model.model.layers.0.mlp.up_proj"
A, B = MODULE + ".lora_A.weight", MODULE + ".lora_B.weight"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
COMMANDS = (("q4convert", "m", "--adapter", "a", *CONVERT[2:]), ("q4convert", "m", "--adapter", "a", "-o", "out.q4", "--dry-run"))
# Of what is met only where numbers are read.
CONVERTS = COMMANDS[:1]


def numbers(*shape, dtype="F32", value=0.5):
    return (dtype, shape, floats(*[value] * math.prod(shape), dtype=dtype))


MODEL = {WEIGHT: numbers(4, 6), "lm_head.weight": numbers(8, 6), "model.embed_tokens.weight": numbers(8, 6)}
FACTORS = {A: numbers(2, 6), B: numbers(4, 2)}


def files(factors=None, config=None, model=None, more=None, text=None):
    """`config`: members beside the usual ones; `text`: the whole of adapter_config.json instead."""
    text = json.dumps({**CONFIG, **(config or {})}).encode() if text is None else text
    out = {"m/model.safetensors": tensor_file(MODEL if model is None else model), "m/config.json": b'{"model_type": "llama"}',
           "a/adapter_model.safetensors": tensor_file(FACTORS if factors is None else factors), "a/adapter_config.json": text}
    return {name: data for name, data in (out | (more or {})).items() if data is not None}


def bad(issue, text="", code=3, commands=COMMANDS, **given):
    for command in commands:
        yield Case(files(**given), issue=issue, text=text, code=code, command=command)


def good(**given):
    yield accept(files(**given), command=CONVERTS[0])


def a01():
    for member, values in {"r": (0, -1, 1.5, "8", True, [8], 65537, 2**64), "lora_alpha": ("16", True, [1], {}, 1e300, 2**2000),
                           "use_rslora": (1, "true", []), "use_dora": ("no", 0.0, {}), "lora_bias": (1,), "fan_in_fan_out": ("x",),
                           "rank_pattern": ([], 1, {"up_proj": 0}, {"up_proj": "2"}, {"up_proj": None}), "alpha_pattern": ("a", {"up_proj": []}),
                           "peft_type": (None, 1, ["LORA"], {})}.items():
        for value in values:
            yield from bad(3830, config={member: value}, text=member, commands=CONVERTS)
    for text in (b"[]", b'"LORA"', b"7", b"null"):
        yield from bad_text(3830, text)
    for text in (b"", b"{", b'{"r": 8', b"\xff\xfe", b"[" * 10000):
        yield from bad_text(None, text)
    yield from bad_text(3830, b"{}")
    yield from good(config={"r": 8, "rank_pattern": {"up_proj": 2}, "alpha_pattern": None, "use_dora": None})
    yield from good(config={"new_option": {"x\x1b": 1}, "bias": "all"})


def bad_text(issue, text):
    yield Case(files(text=text), issue=issue, text="adapter_config", command=CONVERTS[0])


def a02():
    for method in ("IA3", "LOHA", "LOKR", "OFT", "BOFT", "ADALORA", "VERA", "XLORA", "PROMPT_TUNING", "PREFIX_TUNING", "TRAINABLE_TOKENS", "x\x1b", ""):
        yield from bad(5830, code=5, text="peft_type", config={"peft_type": method}, commands=CONVERTS)
    for option, value in {"alora_invocation_tokens": [1], "arrow_config": {"top_k": 3}, "kasa_config": {"beta": 1}, "layer_replication": [[0, 4]],
                          "megatron_config": {"a": 1}, "monteclora_config": {"n": 1}, "target_parameters": ["experts.up"],
                          "trainable_token_indices": [1], "use_bdlora": {"nblocks": 2}, "use_qalora": True, "velora_config": {"scale": 1}}.items():
        yield from bad(5830, code=5, text=option, config={option: value}, commands=CONVERTS)
        yield from good(config={option: None})
    for way in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "unheard\x1b"):
        yield from bad(5830, code=5, text="init_lora_weights", config={"init_lora_weights": way}, commands=CONVERTS)
    for way in (True, False, None, "gaussian", "eva", "orthogonal", "mica"):
        yield from good(config={"init_lora_weights": way})
    for pattern in ("(?=x)up_proj", "(a)\\1", "up_proj(", "*"):
        yield from bad(5830, code=5, text="pattern", config={"alpha_pattern": {pattern: 3}}, commands=CONVERTS)
    # Few modules, but each expression has to be compiled.
    yield from bad(5830, code=5, text="50000 expressions", config={"rank_pattern": {f"x{i}.*y": 2 for i in range(50_000)}}, commands=CONVERTS)


def a03():
    for name in (MODULE + ".lora_E", MODULE + ".lora_diag", MODULE + ".ia3_l", MODULE + ".hada_w1_a", MODULE + ".lora_A.a.b.weight", MODULE + ".lora_A",
                 MODULE + ".lora_A.bias", MODULE + ".lora_magnitude_vector.x.y", MODULE + ".token_adapter.trainable_tokens_delta",
                 MODULE + ".modules_to_save", "base_model.model.lora_\x1b"):
        yield from bad(5831, code=5, factors={**FACTORS, name: numbers(2, 6)}, commands=CONVERTS)
    for name in (MODULE + ".lora_B.bias", MODULE + ".lora_magnitude_vector", MODULE + ".lora_A.other.weight"):
        yield from bad(3831, factors={**FACTORS, name: numbers(4)}, commands=CONVERTS)
    for name in (A, B):
        yield from bad(3831, text="is not there", factors={name: FACTORS[name]})
    yield from bad(3831, text="magnitude", config={"use_dora": True})
    yield from bad(3831, text=r"lora_B\.bias", config={"lora_bias": True})
    both = {**FACTORS, A.removeprefix("base_model.model."): numbers(2, 6)}
    yield from bad(3831, text="as well", factors=both)
    yield from bad(3831, text="as well", factors={**FACTORS, "base_model.model.lm_head.weight": numbers(8, 6), "lm_head.weight": numbers(8, 6)})


def a04():
    for module in ("model.layers.1.mlp.up_proj", "model.layers.0.mlp.up_pro", "layers.0.mlp.up_proj.x", "other", "", "model", "../up_proj", "\x1b[31m"):
        at = f"base_model.model.{module}."
        yield from bad(3832, factors={at + "lora_A.weight": numbers(2, 6), at + "lora_B.weight": numbers(4, 2)}, commands=CONVERTS)
    for name in ("score.weight", "model.norm.weight", "weight", "lm_head.bias"):
        yield from bad(3832, factors={**FACTORS, "base_model.model." + name: numbers(8, 6)})
    # A bias for a layer without one.
    yield from bad(3832, config={"lora_bias": True}, factors={**FACTORS, MODULE + ".lora_B.bias": numbers(4)})
    # Without the prefix of the model it is known all the same; not where two fit.
    short = {name.replace("base_model.model.model.", "base_model.model."): tensor for name, tensor in FACTORS.items()}
    yield from good(factors=short)
    yield from bad(3833, factors=short, model={**MODEL, WEIGHT.replace("model.", "other."): numbers(4, 6)})


def a05():
    for shape in ((2, 5), (2, 7), (2, 4), (2, 6, 1), (2, 3, 2), (2, 0), (2,), (12,), (), (0,)):
        yield from bad((3834, 3835, 3831), factors={A: numbers(*shape), B: FACTORS[B]}, text="up_proj", commands=CONVERTS)
    for shape in ((5, 2), (6, 2), (4, 2, 1), (0, 2), (4,), ()):
        yield from bad((3834, 3835), factors={A: FACTORS[A], B: numbers(*shape)}, text="up_proj", commands=CONVERTS)
    yield from bad(3835, factors={A: numbers(3, 6), B: FACTORS[B]})
    yield from bad(3835, factors={A: numbers(3, 6), B: numbers(4, 3)}, text="got 3, expected 2")
    yield from bad(3835, config={"rank_pattern": {"up_proj": 3}}, text="got 2, expected 3")
    for shape in ((5,), (1, 6), (0,)):
        yield from bad(3834, config={"use_dora": True}, factors={**FACTORS, MODULE + ".lora_magnitude_vector": numbers(*shape)}, commands=CONVERTS)
    yield from bad(3834, config={"lora_bias": True}, model={**MODEL, WEIGHT[:-6] + "bias": numbers(4)},
                   factors={**FACTORS, MODULE + ".lora_B.bias": numbers(5)})
    for shape in ((9, 6), (8, 7), (6, 8), (48,), (8, 6, 1)):
        yield from bad(3834, factors={**FACTORS, "base_model.model.lm_head.weight": numbers(*shape)}, text="vocabulary", commands=CONVERTS)
    yield from bad(3834, model={**MODEL, WEIGHT: numbers(4)})


def a06():
    for bits in (0x7FC00000, 0x7F800000, 0xFF800000, 0x7F800001):
        for name, count in ((A, 12), (B, 8)):
            for at in (0, count - 1):
                data = bytearray(floats(*[0.5] * count))
                data[4 * at:4 * at + 4] = struct.pack("<I", bits)
                yield from bad(3836, factors={**FACTORS, name: ("F32", FACTORS[name][1], bytes(data))}, text=f"element {at}", commands=CONVERTS)
    yield from bad(3836, config={"use_dora": True}, commands=CONVERTS,
                   factors={**FACTORS, MODULE + ".lora_magnitude_vector": numbers(4, value=math.inf)})
    # Numbers that become too large, as in a model that brings them itself: not written.
    huge = {A: numbers(2, 6, value=3e38), B: numbers(4, 2, value=3e38)}
    yield from bad(4101, factors=huge, code=3, commands=CONVERTS)
    # A norm of 0 divides.
    yield from bad(4101, config={"use_dora": True}, model={**MODEL, WEIGHT: numbers(4, 6, value=0)}, commands=CONVERTS,
                   factors={A: numbers(2, 6, value=0), B: FACTORS[B], MODULE + ".lora_magnitude_vector": numbers(4)})


def a07():
    for dtype, size in (("I32", 4), ("I8", 1), ("U8", 1), ("BOOL", 1), ("F64", 8), ("F8_E4M3", 1)):
        yield from bad(3837, factors={A: (dtype, (2, 6), bytes(12 * size)), B: FACTORS[B]}, commands=CONVERTS)
    yield from bad(3837, model={**MODEL, WEIGHT: ("I8", (4, 6), bytes(24))}, text="is I8")
    yield from bad(3837, factors={**FACTORS, "base_model.model.lm_head.weight": ("I32", (8, 6), bytes(192))})
    for dtype in ("F32", "F16", "BF16"):
        yield from good(factors={A: numbers(2, 6, dtype=dtype), B: numbers(4, 2, dtype=dtype)})


def a08():
    yield from bad(3838, text="lacks adapter_config.json", more={"a/adapter_config.json": None})
    yield from bad(3838, text="lacks adapter_model", more={"a/adapter_model.safetensors": None})
    yield from bad(3838, text="no tensors", factors={})
    for command in (("q4convert", "m", "--adapter", "nowhere", *CONVERT[2:]), ("q4convert", "m", "--adapter", "m/config.json", *CONVERT[2:])):
        yield Case(files(), issue=3838, code=3, command=command)
    # Errors of their readers name the adapter's file.
    for data in (b"", b"\x08", b"version https://git-lfs.github.com/spec/v1\n", struct.pack("<Q", 2**40), b"GGUF" + bytes(60)):
        yield Case(files(more={"a/adapter_model.safetensors": data}), text="a/adapter_model", code=(3, 5), command=CONVERTS[0])


def a09():
    command = ("q4convert", "in.safetensors", "--adapter", "a", *CONVERT[2:])
    for base in (PLAIN, rows_bnb.file()["in.safetensors"]):
        yield Case(files(more={"in.safetensors": base}), code=5, issue=5832, text="--adapter", command=command)
    # Whose rows the model's code permutes while it loads them.
    name = "vision_encoder.transformer.layers.0.attention.wq"
    lora = {f"base_model.model.{name}.lora_A.weight": numbers(2, 6), f"base_model.model.{name}.lora_B.weight": numbers(4, 2)}
    config = {"model_type": "mistral_large4", "architectures": ["MistralLarge4ForConditionalGeneration"]}
    yield from bad(5833, code=5, text="permutes", model={name + ".weight": numbers(4, 6)}, factors=lora,
                   more={"m/config.json": json.dumps(config).encode()})


ROWS = [
    Row("A01", "an adapter's configuration of wrong types", a01),
    Row("A02", "methods and options that are not merged", a02),
    Row("A03", "tensors of no LoRA, or not all of one", a03),
    Row("A04", "an adapter for modules that the model lacks", a04),
    Row("A05", "factors of a wrong shape or rank", a05),
    Row("A06", "factors that are not finite", a06),
    Row("A07", "factors and weights that are no floats", a07),
    Row("A08", "folders that hold no adapter", a08),
    Row("A09", "models that nothing is merged into", a09),
]
