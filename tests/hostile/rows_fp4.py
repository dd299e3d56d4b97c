"""Weights of 4-bit floats whose scales, shapes or names lie."""

import json

from harness import CONVERT, Case, Row, accept
from safetensors_bytes import floats, tensors

FOLDER = ("q4convert", "m", *CONVERT[2:], "--from-quantized")
COMMANDS = (FOLDER, ("q4inspect", "m"), ("q4convert", "m", "-o", "out.q4", "--dry-run"))
CT = {"quantization_config": {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}}
MODELOPT = {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}
GPT_OSS = {"quantization_config": {"quant_method": "mxfp4"}}


def u8(*shape, fill=0x21, dtype="U8"):
    count = 1
    for size in shape:
        count *= size
    return (dtype, shape, bytes([fill]) * count)


def e4m3(*shape, fill=0x38):
    return u8(*shape, fill=fill, dtype="F8_E4M3")


def f32(*shape, value=2.0):
    count = 1
    for size in shape:
        count *= size
    return ("F32", shape, floats(*[value] * count))


# Weights of 4 x 32, 4 x 32 and 2 matrices of 64 x 4.
CT_NV = {"a.weight_packed": u8(4, 16), "a.weight_scale": e4m3(4, 2), "a.weight_global_scale": f32(1)}
CT_MX = {"a.weight_packed": u8(4, 16), "a.weight_scale": u8(4, 1, fill=127)}
MO_NV = {"a.weight": u8(4, 16), "a.weight_scale": e4m3(4, 2), "a.weight_scale_2": f32()}
EXPERTS = "m.experts.gate_up_proj"
OSS = {EXPERTS + "_blocks": u8(2, 4, 2, 16), EXPERTS + "_scales": u8(2, 4, 2, fill=127)}
DIALECTS = ((CT_NV, CT), (CT_MX, CT), (MO_NV, MODELOPT), (OSS, GPT_OSS))


def files(named, config=None):
    return {"m/model.safetensors": tensors(**named), "m/config.json": json.dumps({"model_type": "llama", **(config or {})}).encode()}


REFUSED = (COMMANDS[0], COMMANDS[2])  # the inspector shows what no reader takes


def bad(named, issue, config=None, text="", code=3, commands=COMMANDS):
    for command in commands:
        yield Case(files(named, config), issue=issue, text=text, code=code, command=command)


def m01():
    """Scales that are missing, one at a time; codes that are."""
    for named, config in DIALECTS:
        yield accept(files(named, config), command=FOLDER)
        yield accept(files(named), command=FOLDER)
        for name in named:
            rest = {other: tensor for other, tensor in named.items() if other != name}
            if name.endswith(("_packed", "a.weight", "_blocks")):
                # Nothing is left that could be codes: scales of E4M3 look like 8-bit floats without scales, and of others the
                # configuration alone says what they were of.
                lone = {"issue": 3721, "code": 3} if named in (CT_NV, MO_NV) else {"issue": 5510, "code": 5}
                yield from bad(rest, config=config, commands=COMMANDS[:1], **lone)
                other = {key.replace("a.", "b.", 1).replace("m.experts", "n.experts"): tensor for key, tensor in named.items()}
                yield from bad(rest | other, 3811, config, text="its weight is not there", commands=COMMANDS[:1])
            elif named is MO_NV and name == "a.weight_scale":
                # Bytes without any scale beside them may be anything; beside weights of this kind they are not.
                other = {key.replace("a.", "b."): tensor for key, tensor in named.items()}
                yield from bad(rest | other, (3810, 3811), config, commands=COMMANDS[:1])
            else:
                yield from bad(rest, 3810, config, text=name.replace(".", r"\."), commands=COMMANDS[:2])


def m02():
    """Shapes that do not fit."""
    for shape in ((4, 1), (4, 3), (2, 2), (5, 2), (2, 4), (8,), (4, 2, 1), (1, 4, 2), (), (4, 0), (0, 2), (4, 16)):
        for named, config in ((CT_NV, CT), (MO_NV, MODELOPT)):
            yield from bad(named | {"a.weight_scale": e4m3(*shape)}, 3812, config, text=r"a\.weight_scale.*for codes of \[4, 16\]", commands=COMMANDS[:1])
    for shape in ((4, 2), (1,), (16, 1)):
        yield from bad(CT_MX | {"a.weight_scale": u8(*shape)}, 3812, CT, commands=COMMANDS[:1])
        yield from bad(OSS | {EXPERTS + "_scales": u8(*shape)}, 3812, GPT_OSS, commands=COMMANDS[:1])
    for shape in ((2, 4, 2, 8), (2, 4, 32), (8, 2, 16), (1, 2, 4, 2, 16), (2, 4, 2, 17)):
        yield from bad(OSS | {EXPERTS + "_blocks": u8(*shape)}, 3812, GPT_OSS, commands=COMMANDS[:1])
    for shape in ((2,), (4,), (1, 2), (0,)):
        yield from bad(CT_NV | {"a.weight_global_scale": f32(*shape)}, 3812, CT, text="one for each matrix", commands=COMMANDS[:1])
        yield from bad(MO_NV | {"a.weight_scale_2": f32(*shape)}, 3812, MODELOPT, commands=COMMANDS[:1])
    # A weight whose rows end within a block.
    yield from bad({"a.weight_packed": u8(4, 12), "a.weight_scale": e4m3(4, 1), "a.weight_global_scale": f32(1)}, 3812, CT)
    empty = {"a.weight_packed": u8(0, 16), "a.weight_scale": e4m3(0, 2), "a.weight_global_scale": f32(1)}
    yield accept(files(empty, CT), command=FOLDER)


def m03():
    """Dtypes that scales do not have."""
    for dtype, size in (("F32", 4), ("F16", 2), ("BF16", 2), ("F8_E5M2", 1), ("I8", 1), ("BOOL", 1), ("I32", 4)):
        yield from bad(CT_NV | {"a.weight_scale": (dtype, (4, 2), bytes(8 * size))}, 3813, CT, commands=COMMANDS[:1])
        yield from bad(OSS | {EXPERTS + "_scales": (dtype, (2, 4, 2), bytes(16 * size))}, 3813, GPT_OSS, commands=COMMANDS[:1])
    for dtype, size in (("U8", 1), ("I32", 4), ("F8_E4M3", 1), ("F64", 8)):
        yield from bad(CT_NV | {"a.weight_global_scale": (dtype, (1,), bytes(size))}, 3813, CT, commands=COMMANDS[:1])
    # Words of eight codes, which are another method's.
    yield from bad({"a.weight_packed": ("I32", (4, 4), bytes(64)), "a.weight_scale": f32(4, 1)}, 5510, CT, code=5, commands=REFUSED)


def m04():
    """Scales in another shard, and in two."""
    def shards(first, second, weight_map):
        return {
            "m/config.json": json.dumps(CT).encode(),
            "m/model.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": weight_map}).encode(),
            "m/s1.safetensors": tensors(**first),
            "m/s2.safetensors": tensors(**second),
        }
    codes = {"a.weight_packed": CT_NV["a.weight_packed"]}
    scales = {name: tensor for name, tensor in CT_NV.items() if name not in codes}
    both = dict.fromkeys(codes, "s1.safetensors") | dict.fromkeys(scales, "s2.safetensors")
    yield accept(shards(codes, scales, both), command=FOLDER)
    yield Case(shards(codes | scales, scales, both), issue=3109, command=FOLDER, code=3)
    yield Case(shards(codes, {"b.bias": f32(4)}, both), issue=3145, command=FOLDER, code=3)


def m05():
    """NaN: exponents of 255, codes of scales, scales of tensors. A source with such elements is answered as any other."""
    infinite = {**OSS, EXPERTS + "_scales": u8(2, 4, 2, fill=255)}
    for named, config in ((CT_NV | {"a.weight_scale": e4m3(4, 2, fill=0x7F)}, CT), (CT_MX | {"a.weight_scale": u8(4, 1, fill=255)}, CT),
                          (infinite | {EXPERTS + "_blocks": u8(2, 4, 2, 16, fill=0x77)}, GPT_OSS),
                          ({"a.weight": u8(4, 16, dtype="I8"), "a.scale": u8(4, 1, fill=255, dtype="F8_E8M0")}, {}),
                          *((MO_NV | {"a.weight_scale_2": f32(value=value)}, MODELOPT) for value in (float("nan"), float("inf"))),
                          (MO_NV | {"a.weight_scale": e4m3(4, 2, fill=0x7E), "a.weight_scale_2": f32(value=-3e38)}, MODELOPT)):
        yield Case(files(named, config), command=FOLDER, code=3)
        yield accept(files(named, config), command=(*FOLDER, "--on-nonfinite", "keep"))
    # Half of 2^128 is a number, as it is to transformers.
    yield accept(files(infinite | {EXPERTS + "_blocks": u8(2, 4, 2, 16, fill=0x10)}, GPT_OSS), command=FOLDER)
    for value in (0.0, -2.0, 1e-45):
        yield accept(files(MO_NV | {"a.weight_scale_2": f32(value=value)}, MODELOPT), command=FOLDER)
    yield Case(files(CT_NV | {"a.weight_global_scale": f32(1, value=0.0)}, CT), command=FOLDER, code=3)


def m06():
    """Mixed: beside 8-bit floats, integers, codes of other methods."""
    eight = {"b.weight": ("F8_E4M3", (4, 6), bytes([0x38]) * 24), "b.weight_scale": f32()}
    yield accept(files(CT_NV | eight, CT), command=FOLDER)
    yield accept(files(MO_NV | eight, MODELOPT), command=FOLDER)
    yield accept(files(MO_NV | eight), command=FOLDER)
    yield from bad(CT_NV | {"b.weight": eight["b.weight"]}, 3721, CT, commands=COMMANDS[:1])
    yield from bad(CT_NV | {"b.weight": u8(4, 6, dtype="I8"), "b.weight_scale": f32(4, 1)}, 5510, CT, code=5, commands=COMMANDS[:1])
    yield from bad(CT_NV | {"b.weight_packed": ("I32", (4, 4), bytes(64)), "b.weight_scale": f32(4, 1)}, 5510, CT, code=5, commands=COMMANDS[:1])
    yield from bad(CT_NV | {"b.weight": u8(4, 6)}, 3810, CT, commands=COMMANDS[:1])
    # Claimed by a method that has no such codes.
    yield from bad(CT_NV, 5510, {"quantization_config": {"quant_method": "gptq"}}, text="GPTQ", code=5, commands=REFUSED)


def m07():
    """Names that are taken, and scales that are there twice."""
    yield from bad(CT_NV | {"a.weight": f32(4, 32)}, 3815, CT)
    yield from bad(OSS | {EXPERTS: f32(2, 64, 4)}, 3815, GPT_OSS, commands=COMMANDS[:1])
    for second in ("a.weight_scale_inv", "a.scale", "a.weight_weight_scale"):
        yield from bad(MO_NV | {second: e4m3(4, 2)}, 3814, MODELOPT, commands=COMMANDS[:1])
    for name in ("b.weight_scale", "b.weight_scale_inv", "b_scales"):
        yield from bad(CT_NV | {name: e4m3(4, 2)}, 3811, CT, text="its weight is not there", commands=COMMANDS[:1])
    yield from bad(CT_NV | {"b.weight_global_scale": f32(1)}, 3811, CT, commands=COMMANDS[:1])
    yield from bad(MO_NV | {"b.weight": f32(4, 32), "b.weight_scale_2": f32()}, 3811, MODELOPT, text="its weight is F32", commands=COMMANDS[:1])
    # One scale that two weights find, and one that is codes to another scale.
    for order in (lambda items: items, reversed):
        for named in (
            {"a": u8(4, 16), "a_weight": u8(4, 16), "a_weight_scale": u8(4, 1, fill=127)},
            {"a": e4m3(4, 2), "b": u8(4, 16), "b_weight_packed": u8(4, 16), "b_weight_scale": e4m3(4, 2), "b_weight_scale_2": f32(1), "b_weight_global_scale": f32(1)},
            {"a": u8(4, 256), "a_scale": u8(4, 16, fill=127), "a_scale_scale": u8(4, 1, fill=127)},
        ):
            yield from bad(dict(order(list(named.items()))), 3670, commands=COMMANDS[:1])


def m08():
    """Forms that have no reader."""
    for name in ("a.weight_zero_point", "a.weight_g_idx"):
        yield from bad(CT_NV | {name: u8(4, 2)}, 5811, CT, code=5)
    yield from bad(MO_NV | {"a.pre_quant_scale": f32(32)}, 5811, MODELOPT, code=5)
    rotated = {"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"u": {"type": "hadamard"}}}}
    yield from bad(CT_NV, 5811, {"quantization_config": rotated}, text="rotated", code=5)
    # ComfyUI's order of scales and codes; MLX's words.
    yield from bad(MO_NV | {"a.comfy_quant": u8(18)}, 5510, text="ComfyUI", code=5, commands=REFUSED)
    yield from bad({"a.weight": ("U32", (4, 4), bytes(64)), "a.scales": u8(4, 2)}, 5510, text="MLX", code=5, commands=REFUSED)
    # Experts of a name whose layout nobody documents.
    yield from bad({"m.experts.up_blocks": u8(2, 4, 2, 16), "m.experts.up_scales": u8(2, 4, 2)}, 5510, GPT_OSS, text="MXFP4", code=5, commands=REFUSED)
    # Codes of 6 bits, which have as many scales.
    yield from bad({"a.weight": u8(4, 24), "a.weight_scale": u8(4, 1)}, 5510, {"quantization_config": {"quant_method": "quark"}}, text="Quark", code=5, commands=REFUSED)


def m09():
    """Leave to quantize again is asked for, before anything is written; names are escaped."""
    for named, config in DIALECTS:
        for more in ((), ("--dry-run",)):
            yield Case(files(named, config), issue=5810, text="--from-quantized", code=5, command=("q4convert", "m", "-o", "out.q4", *more))
    hostile = {name.replace("a.", "a\x1b[2J."): tensor for name, tensor in CT_NV.items()}
    yield accept(files(hostile, CT), command=FOLDER)
    yield from bad({name: tensor for name, tensor in hostile.items() if not name.endswith("weight_scale")}, 3810, CT, text=r"\\x1b\[2J", commands=COMMANDS[:1])


ROWS = [
    Row("M01", "4-bit codes without scales, scales without codes", m01),
    Row("M02", "shapes of codes and scales that do not fit", m02),
    Row("M03", "dtypes that scales of 4-bit codes do not have", m03),
    Row("M04", "scales in another shard, in two, in none", m04),
    Row("M05", "exponents of 255, NaN and infinite scales", m05),
    Row("M06", "beside 8-bit floats, integers and codes of other methods", m06),
    Row("M07", "names that are taken, scales that are there twice", m07),
    Row("M08", "forms of 4-bit floats that have no reader", m08),
    Row("M09", "without leave to quantize again; hostile names", m09),
]
