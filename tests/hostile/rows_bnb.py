"""4-bit checkpoints of bitsandbytes that are taken over: texts that lie, parts that do not fit, numbers that no library wrote."""

import json
import math
import random
import struct

from harness import CONVERT, QUIET, Bench, Case, Row, accept, require
from rows_values import NF4
from safetensors_bytes import floats, read, tensor_file

NAME = "a.q_proj.weight"
FP4 = (0.0, 0.0052083333, 0.6666667, 1.0, 0.33333334, 0.5, 0.16666667, 0.25)
FP4 = (*FP4, 0.0, *(-value for value in FP4[1:]))
NAN, INF = float("nan"), float("inf")


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def dynamic_map():
    """The 8-bit map of nested scales, as docs/numerics.md Q5 defines it: 7 decades of means between steps, with 0 and 1."""
    values = [0.0, 1.0]
    for decade in range(7):
        bounds = [0.1 + 0.9 * i / 2**decade for i in range(2**decade + 1)]
        scale = 10.0 ** (decade - 6)
        for low, high in zip(bounds, bounds[1:]):
            values += [scale * (low + high) / 2, -scale * (low + high) / 2]
    return sorted(values)


def state_text(nested=False, **changes):
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [4, 64]}
    if nested:
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}
    state |= changes
    return json.dumps({key: value for key, value in state.items() if value is not ...})


def weight(name=NAME, text=None, nested=False, kind="nf4", key=None, elems=256, block=64, storage="U8", **parts):
    """The tensors of one weight, as bitsandbytes lays them out. `parts` replaces tensors by their last name; None leaves one out."""
    blocks = -(-elems // block)
    draw = random.Random(elems)
    codes = bytes(draw.randrange(256) for _ in range(-(-elems // 2)))
    text = state_text(nested) if text is None else text
    item = {"U8": 1, "I8": 1, "BF16": 2, "F16": 2, "F32": 4, "I32": 4, "F64": 8, "I64": 8}[storage]
    found = {
        "codes": (storage, (len(codes) // item, 1), codes),
        "absmax": ("U8", (blocks,), bytes(i % 256 for i in range(blocks))) if nested
        else ("F32", (blocks,), floats(*(1 + i for i in range(blocks)))),
        "quant_map": ("F32", (16,), floats(*(NF4 if kind == "nf4" else FP4))),
        f"quant_state.bitsandbytes__{kind if key is None else key}": ("U8", (len(text.encode()),), text.encode()),
    }
    if nested:
        groups = -(-blocks // 256)
        found["nested_absmax"] = ("F32", (groups,), floats(*[0.25] * groups))
        found["nested_quant_map"] = ("F32", (256,), floats(*dynamic_map()))
    found |= parts
    return {name if last == "codes" else f"{name}.{last}": tensor for last, tensor in found.items() if tensor is not None}


def file(*weights, **others):
    named = {"z.norm.weight": ("BF16", (4,), floats(1, 2, 3, 4, dtype="BF16")), **others}
    for one in weights or [weight()]:
        named |= one
    return {"in.safetensors": tensor_file(named)}


def b01():
    right = state_text()
    for text in ("", "{", "[]", "null", "1", right[:-1], right + "x", "\x00" + right, right.replace('"nf4"', "NaN"), "[" * 500):
        yield Case(file(weight(text=text)), issue=3740, text=NAME)
    for changes in (
        {"quant_type": "int8"}, {"quant_type": 4}, {"quant_type": ...}, {"quant_type": "fp4"},
        {"blocksize": 0}, {"blocksize": 16}, {"blocksize": 63}, {"blocksize": 8192}, {"blocksize": -64}, {"blocksize": 64.5},
        {"blocksize": "64"}, {"blocksize": 2**64}, {"blocksize": 2**32 + 64}, {"blocksize": ...},
        {"dtype": "int8"}, {"dtype": "torch.bfloat16"}, {"dtype": "float64"}, {"dtype": None}, {"dtype": ...},
        {"shape": []}, {"shape": [0, 64]}, {"shape": [-4, 64]}, {"shape": [2**40, 2**40]}, {"shape": [1] * 9}, {"shape": 256},
        {"shape": ["4", 64]}, {"shape": ...}, {"absmax": [1]}, {"q4": 1}, {"nested_offset": 1.0}, {"nested_dtype": "float32"},
    ):  # fmt: skip
        # A shape of one element is well-formed, and its codes are not.
        issue = 3741 if changes == {"shape": []} else 3740
        yield Case(file(weight(text=state_text(**changes))), issue=issue, text=NAME)
    for changes in (
        {"nested_blocksize": 128}, {"nested_blocksize": "256"}, {"nested_blocksize": ...}, {"nested_dtype": "float16"},
        {"nested_dtype": ...}, {"nested_offset": "0"}, {"nested_offset": None}, {"nested_offset": ...}, {"nested_offset": NAN},
    ):  # fmt: skip
        yield Case(file(weight(nested=True, text=state_text(True, **changes))), issue=3740, text=NAME)
    # The name of the tensor says another type than its text, or none that is known.
    for key in ("fp4", "int4", "nf4x", ""):
        yield Case(file(weight(key=key)), issue=3740)
    yield Case(file(weight(text=right + " " * (64 << 10))), issue=3740)
    yield Case(file(weight(**{"quant_state.bitsandbytes__nf4": ("I8", (len(right),), right.encode())})), issue=3740)


def b02():
    for last in ("codes", "absmax", "quant_map"):
        yield Case(file(weight(), weight("b.weight", **{last: None})), issue=3741, text="'b.weight'")
    for last in ("nested_absmax", "nested_quant_map"):
        yield Case(file(weight(nested=True, **{last: None})), issue=3741)
        # And one too many.
        extra = weight("b.weight", nested=True)[f"b.weight.{last}"]
        yield Case(file(weight(**{last: extra})), issue=3741, text="not nested")
    # No text: of the only weight (then nothing says that it is one that can be taken over), and of one of two.
    gone = {"quant_state.bitsandbytes__nf4": None}
    yield Case(file(weight(**gone)), code=5, issue=5510, text="bitsandbytes")
    yield Case(file(weight(), weight("b.weight", **gone)), issue=3741, text="b.weight")
    alone = {"b.weight": ("U8", (128, 1), bytes(128))}
    yield Case(file(weight(), alone), issue=3741, text="'b.weight'.*no quant_state")
    yield Case(file(weight(), {"b.weight.absmax": ("F32", (4,), floats(1, 1, 1, 1))}), issue=3741, text="belongs to no weight")
    # Two texts, of which loaders would take one or the other.
    second = state_text(quant_type="fp4").encode()
    yield Case(file(weight(**{"quant_state.bitsandbytes__fp4": ("U8", (len(second),), second)})), issue=3741)
    # A weight whose codes are a part of another's.
    yield Case(file(weight(), weight(NAME + ".absmax", elems=8, text=state_text(shape=[8]))), issue=3741)


def b03():
    for last, dtype, shape in (
        ("codes", "U8", (127, 1)), ("codes", "U8", (129, 1)), ("codes", "U8", (0, 1)), ("codes", "BF16", (63, 1)),
        ("codes", "U8", (1, 128)), ("codes", "U8", (128,)), ("codes", "U8", (64, 2)), ("codes", "U8", (128, 1, 1)),
        ("absmax", "F32", (3,)), ("absmax", "F32", (5,)), ("absmax", "F32", (0,)), ("absmax", "F16", (4,)), ("absmax", "I32", (4,)),
        ("absmax", "U8", (4,)), ("absmax", "U8", (16,)), ("quant_map", "F32", (15,)), ("quant_map", "F32", (256,)), ("quant_map", "F16", (32,)),
    ):  # fmt: skip
        size = math.prod(shape) * {"U8": 1, "F16": 2, "BF16": 2}.get(dtype, 4)
        yield Case(file(weight(**{last: (dtype, shape, bytes(size))})), issue=3741, text=NAME)
    for last, dtype, shape in (
        ("absmax", "F32", (4,)), ("absmax", "U8", (3,)), ("absmax", "I8", (4,)), ("nested_absmax", "F32", (2,)), ("nested_absmax", "F32", (0,)),
        ("nested_absmax", "F16", (2,)), ("nested_absmax", "I32", (1,)), ("nested_quant_map", "F32", (16,)), ("nested_quant_map", "F64", (128,)),
    ):  # fmt: skip
        size = math.prod(shape) * {"U8": 1, "I8": 1, "F16": 2, "F64": 8}.get(dtype, 4)
        yield Case(file(weight(nested=True, **{last: (dtype, shape, bytes(size))})), issue=3741, text=NAME)


def b04():
    def table(values):
        return {"quant_map": ("F32", (16,), floats(*values))}

    yield Case(file(weight(**table(FP4))), issue=3742, text="got fp4, expected nf4")
    fp4 = state_text(quant_type="fp4")
    yield Case(file(weight(kind="fp4", text=fp4, **table(NF4))), issue=3742, text="got nf4, expected fp4")
    for at, value in ((0, NAN), (15, INF), (7, 1e-9), (3, -0.39), (15, 1.001)):
        yield Case(file(weight(**table([*NF4[:at], value, *NF4[at + 1 :]]))), code=5, issue=5740, text="quant_map")
    right = dynamic_map()
    for at, value in ((0, NAN), (255, INF), (127, 1e-7), (128, 4e-7), (255, 0.999), (3, 0.0)):
        other = ("F32", (256,), floats(*right[:at], value, *right[at + 1 :]))
        yield Case(file(weight(nested=True, nested_quant_map=other)), code=5, issue=5740, text="nested_quant_map")
    # The last digit is the builder's, and all weights of a model have one builder.
    close = floats(*(value * (1 + 2e-7) for value in right))
    yield accept(file(weight(nested=True, nested_quant_map=("F32", (256,), close))))
    yield Case(
        file(weight(nested=True), weight("b.weight", nested=True, nested_quant_map=("F32", (256,), close))), code=5, issue=5740
    )


def b05():
    for value in (NAN, -NAN, INF, -INF, -1.0, -0.0, -1e-40):
        for block in (0, 3):
            scales = [1.0] * 4
            scales[block] = value
            bad = ("F32", (4,), floats(*scales))
            if value != value or abs(value) == INF:
                yield Case(file(weight(absmax=bad)), issue=3743, text=f"{NAME}.absmax', element {block}")
            else:  # as encoders that search scales give them
                yield accept(file(weight(absmax=bad)))
        yield Case(file(weight(nested=True, nested_absmax=("F32", (1,), floats(value)))), issue=3743, text="nested_absmax', element 0")
    for offset in ("1e999", "-1e999", "3.5e38"):
        text = state_text(True).replace("0.5}", offset + "}")
        yield Case(file(weight(nested=True, text=text)), issue=(3740, 3743), text=NAME)


def b06():
    for options in (
        ("--type", "fp4"), ("--block-size", "128"), ("--double-quant",), ("--encoder", "absmax"),
        ("--type", "nf4", "--block-size", "32"), ("--type", "nf4", "--block-size", "64", "--double-quant"),
    ):  # fmt: skip
        yield Case(file(), code=1, issue=1740, text=options[-2] if len(options) % 2 == 0 else "--double-quant", command=(*CONVERT, *options))
    yield accept(file(), command=(*CONVERT, "--type", "nf4", "--block-size", "64", "--no-double-quant"))
    yield accept(file(weight(nested=True)), command=(*CONVERT, "--double-quant"))
    # Of several weights one that differs is enough.
    mixed = file(weight(), weight("b.weight", nested=True))
    yield accept(mixed)
    for option in ("--double-quant", "--no-double-quant"):
        yield Case(mixed, code=1, issue=1740, command=(*CONVERT, option))
    for options in (("--include", "q_proj"), ("--exclude", "norm"), ("--recipe", "r.json")):
        recipe = {"r.json": b'{"rules": [{"match": "q_proj", "keep": true}]}'}
        yield Case({**file(), **recipe}, code=1, issue=1741, text=options[0], command=(*CONVERT, *options))


def b07():
    eight = {"b.weight": ("I8", (64, 64), bytes(4096)), "b.SCB": ("F32", (64,), bytes(256))}
    yield Case(file(weight(), eight), code=5, issue=5510, text="bitsandbytes 8-bit")
    # What is recorded of each weight must stay readable: 140 texts that are mostly spaces.
    many = [weight(f"w{i}.weight", text=state_text() + " " * 62000) for i in range(140)]
    yield Case(file(*many), code=5, issue=5741, seconds=4)


def b08(bench: Bench):
    """Everything that bitsandbytes writes comes back byte for byte."""
    shapes = {256: [4, 64], 255: [5, 51], 1: [1], 64: [64], 20480: [40, 512]}
    for nested in (False, True):
        for kind in ("nf4", "fp4"):
            named = {"z.norm.weight": ("BF16", (4,), floats(1, 2, 3, 4, dtype="BF16"))}
            for at, block in enumerate(2**i for i in range(5, 13)):
                for elems, shape in shapes.items():
                    dtype = ("bfloat16", "float16", "float32")[at % 3]
                    text = state_text(nested, quant_type=kind, blocksize=block, dtype=dtype, shape=shape)
                    # Of some the text is spelled in another way.
                    text = text.replace(": ", ":") if at % 2 else text
                    storage = "U8" if elems % 64 else ("U8", "I8", "BF16", "F16", "F32", "I32", "F64", "I64")[at]
                    name = f"w{block}.{elems}.weight"
                    named |= weight(name, text, nested, kind, elems=elems, block=block, storage=storage)
            bench.build({"in.safetensors": tensor_file(named)})
            bench.ok(*CONVERT, "--force")
            bench.ok("q4verify", "out.q4", "--against", "in.safetensors", "-q", *QUIET)
            bench.ok("q4export", "out.q4", "-o", "out", "--to", "bnb", "--force", "--unloadable", "keep4bit", "-q", *QUIET)
            require(read(bench.work / "out" / "model.safetensors") == named, f"{kind}, nested {nested}: a tensor changed")


ROWS = [
    Row("B01", "quant_state that lies", b01),
    Row("B02", "parts that are missing, or too many", b02),
    Row("B03", "sizes, types and shapes of parts", b03),
    Row("B04", "tables that are not the library's", b04, note="up to a millionth of each entry they are taken, and kept"),
    Row("B05", "scales that are NaN, infinite or negative", b05),
    Row("B06", "options that differ from what is there", b06),
    Row("B07", "8-bit weights beside, records beyond the limit", b07),
    Row("B08", "every format and storage, back byte for byte", lambda: [b08]),
]
