"""Weights of 8-bit floats whose scales, shapes or configuration lie."""

import json
import struct

from harness import CONVERT, Case, Row, accept
from safetensors_bytes import floats, tensors

WEIGHT, SCALE = "a.weight", "a.weight_scale_inv"
CODES = ("F8_E4M3", (4, 6), bytes(range(0x30, 0x48)))
BLOCKS = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 3]}}
FOLDER = ("q4convert", "m", *CONVERT[2:])
COMMANDS = (FOLDER, ("q4inspect", "m"), ("q4convert", "m", "-o", "out.q4", "--dry-run"))


def scale(shape=(2, 2), dtype="F32", data=None):
    count = 1
    for size in shape:
        count *= size
    return (dtype, shape, floats(*[1.5] * count) if data is None else data)


def files(named, config=None):
    """A model's folder; `config` is what is added to its configuration."""
    return {"m/model.safetensors": tensors(**named), "m/config.json": json.dumps({"model_type": "llama", **(config or BLOCKS)}).encode()}


def bad(named, issue, config=None, text="", code=3, commands=COMMANDS):
    for command in commands:
        yield Case(files(named, config), issue=issue, text=text, code=code, command=command)


def f01():
    for shape in ((1, 2), (2, 1), (3, 2), (2, 3), (5, 2), (2, 2, 1), (2, 0), (0,), (2,), (6,), (1, 1, 2), (2, 2, 2, 2), (4, 6, 1)):
        # Those that divide the weight are blocks of another size.
        if shape in ((1, 2), (2, 1), (2, 3)):
            yield accept(files({WEIGHT: CODES, SCALE: scale(shape)}), command=FOLDER)
        else:
            yield from bad({WEIGHT: CODES, SCALE: scale(shape)}, 3723, text=r"a\.weight_scale_inv.*for a weight of \[4, 6\]")


def f02():
    yield from bad({WEIGHT: CODES}, 3721, text="a.weight")
    yield from bad({WEIGHT: CODES, "b.weight": CODES, "b.weight_scale_inv": scale()}, 3721, text="a.weight")
    # Of a scale of another tensor nothing is known.
    yield from bad({WEIGHT: CODES, "a.weightscale_inv": scale()}, 3721)
    # Without any sign of scales the codes are the values.
    yield accept({"in.safetensors": tensors(**{WEIGHT: CODES})})


def f03():
    for dtype, size in (("F64", 8), ("I32", 4), ("I64", 8), ("BOOL", 1), ("I8", 1), ("F8_E4M3", 1), ("U16", 2)):
        yield from bad({WEIGHT: CODES, SCALE: scale(dtype=dtype, data=bytes(4 * size))}, (3724, 3721), commands=COMMANDS[:1])
    yield from bad({WEIGHT: CODES, "a.weight_scale": scale(dtype="F8_E5M2", data=bytes(4))}, (3724, 3721))


def f04():
    for size in (0, -1, [0, 128], [128, -1], [128], [1, 2, 3], ["128", "128"], [1.5, 2], [True, True], [2**63, 2**63], [2**70, 1], "x128", "0x1", "",
                 {"rows": 2}, [[2, 3], [2, 3]], 128):
        config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": size}}
        yield from bad({WEIGHT: CODES, SCALE: scale()}, 3720, config, text="weight_block_size", commands=COMMANDS[:1])
    group = {"quant_method": "compressed-tensors", "config_groups": {"g\x1b": {"weights": {"block_structure": [0, 0]}}}}
    yield from bad({WEIGHT: CODES, "a.weight_scale": scale()}, 3720, {"quantization_config": group}, text="block_structure")
    # Sizes that do not lie, but do not fit these scales.
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [2**47, 2**47]}}
    yield from bad({WEIGHT: CODES, SCALE: scale((3, 2))}, 3723, config)
    for odd in ([], "fp8", {"config_groups": []}, {"config_groups": {"g": 7}}, {"quant_method": "fp8", "transform_config": 1}):
        yield accept(files({WEIGHT: CODES, SCALE: scale()}, {"quantization_config": odd}), command=FOLDER)


def f05():
    good = {WEIGHT: CODES, SCALE: scale()}
    for name in ("b.weight_scale_inv", "b.weight_scale", "b.scale_weight", "b.qscale_weight", "b_scale_inv", "weight_scale"):
        yield from bad({**good, name: scale()}, 3722, text="its weight is not there", commands=COMMANDS[:1])
    plain = ("F32", (4, 6), floats(*[1.0] * 24))
    yield from bad({**good, "b.weight": plain, "b.weight_scale_inv": scale()}, 3722, text="its weight is F32")
    # A parameter of that name is none.
    yield accept(files({**good, "norm.scale": scale((4,))}), command=FOLDER)


def f06():
    for second in ("a.weight_scale", "a.scale_weight", "a.scale", "a.qscale_weight"):
        yield from bad({WEIGHT: CODES, SCALE: scale(), second: scale(())}, 3725, commands=COMMANDS[:1])
    # In two shards: a tensor that is there twice, whatever it is.
    index = {"metadata": {}, "weight_map": {WEIGHT: "s1.safetensors", SCALE: "s2.safetensors"}}
    shards = {
        "m/config.json": json.dumps(BLOCKS).encode(),
        "m/model.safetensors.index.json": json.dumps(index).encode(),
        "m/s1.safetensors": tensors(**{WEIGHT: CODES, SCALE: scale()}),
        "m/s2.safetensors": tensors(**{SCALE: scale()}),
    }
    yield Case(shards, issue=3109, command=FOLDER, code=3)


def f07():
    """Scales whose products are no numbers: what a source with such elements is answered."""
    for data in (floats(float("nan")), floats(float("inf")), floats(float("-inf")), floats(3e38)):
        yield Case(files({WEIGHT: CODES, SCALE: scale((1, 1), data=data)}), command=FOLDER, code=3)
        yield accept(files({WEIGHT: CODES, SCALE: scale((1, 1), data=data)}), command=(*FOLDER, "--on-nonfinite", "keep"))
    for data in (floats(0.0), floats(-2.0), floats(1e-45), struct.pack("<I", 0x80000000)):
        yield accept(files({WEIGHT: CODES, SCALE: scale((1, 1), data=data)}), command=FOLDER)
    nan = ("F8_E4M3", (4, 6), b"\x7f" * 24)
    yield Case(files({WEIGHT: nan, SCALE: scale()}), command=FOLDER, code=3)
    yield Case(files({WEIGHT: CODES, SCALE: ("F8_E8M0", (1, 1), b"\xff")}), command=FOLDER, code=3)


def f08():
    one = ("F8_E4M3", (6,), CODES[2][:6])
    yield accept(files({"a.bias": one, "a.bias_scale": scale((1,)), WEIGHT: CODES, SCALE: scale()}), command=FOLDER)
    yield from bad({"a.bias": one, "a.bias_scale": scale((6,))}, 3723)
    yield from bad({"a.bias": one, "a.bias_scale": scale((2, 2))}, 3723)
    scalar = ("F8_E4M3", (), b"\x38")
    yield accept(files({"x": scalar, "x_scale": scale(())}), command=FOLDER)
    empty = ("F8_E4M3", (0, 6), b"")
    yield accept(files({WEIGHT: empty, SCALE: scale((1, 1))}), command=FOLDER)
    yield from bad({WEIGHT: empty, SCALE: scale((2, 2))}, 3723)


def f09():
    good = {WEIGHT: CODES, "a.weight_scale": scale((4, 1))}
    for name in ("a.weight_zero_point", "a.weight_g_idx"):
        yield from bad({**good, name: scale((4, 1))}, 5720, code=5)
    yield from bad({WEIGHT: CODES, "a.scales": scale((4, 1))}, (5720, 3721), {"x": 1}, code=5)
    mark = ("U8", (4,), b"{ } ")
    yield from bad({**good, "a.comfy_quant": mark}, 5720, {"x": 1}, code=5)
    rotated = {"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"u": {"type": "hadamard"}}}}
    yield from bad(good, 5720, {"quantization_config": rotated}, text="rotated", code=5)
    # Beside codes of another method, which has no reader.
    mixed = {**good, "b.weight": ("I8", (4, 6), bytes(24)), "b.weight_scale": scale((4, 1))}
    yield from bad(mixed, 5510, {"x": 1}, code=5, commands=COMMANDS[:1])


def f10():
    name = "a\x1b[2J.weight"
    yield from bad({name: CODES}, 3721, text=r"\\x1b\[2J", commands=COMMANDS[:1])
    yield accept(files({name: CODES, name + "_scale_inv": scale()}), command=FOLDER)
    long = "n" * 4089 + ".weight"
    yield from bad({long: CODES}, 3721, commands=COMMANDS[:1])


ROWS = [
    Row("F01", "scales of a shape that does not fit", f01, note="a shape that divides the weight's is that of blocks, whatever the section says"),
    Row("F02", "a weight without its scale", f02),
    Row("F03", "scales of a dtype that scales do not have", f03),
    Row("F04", "weight_block_size that is no size, and odd sections", f04),
    Row("F05", "scales without a weight of 8-bit floats", f05),
    Row("F06", "two scales for one weight, in one file and in two", f06),
    Row("F07", "NaN, infinite, negative and zero scales; NaN codes", f07),
    Row("F08", "8-bit floats in a vector, a scalar, an empty matrix", f08),
    Row("F09", "forms that have no reader", f09),
    Row("F10", "names that are hostile", f10),
]
