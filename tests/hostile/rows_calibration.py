"""Calibration files whose structure, names, shapes or numbers lie, or that fit another checkpoint."""

import json
import struct

from calibration_bytes import calibration_file, metadata_of, tensors_of
from harness import CONVERT, Case, Directory, Fifo, Link, Row, accept
from rows_gguf import ARCHITECTURE, STRING, gguf, key, string, tensor
from safetensors_bytes import floats, frame, tensor_file

WEIGHT, OTHER = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
MODEL = tensor_file({WEIGHT: ("F32", (4, 6), floats(*[0.5] * 24)), OTHER: ("F32", (6, 4), floats(*[0.25] * 24))})
MOMENTS = {WEIGHT: [1.0, 2.0, 0.5, 1.0, 4.0, 1.0], OTHER: [1.0, 0.0, 2.0, 3.0]}
COMMAND = ("q4convert", "in.safetensors", "--encoder", "weighted", "--calibration", "c.safetensors", *CONVERT[2:])
NAN, INF = float("nan"), float("inf")


def given(data):
    return {"in.safetensors": MODEL, "c.safetensors": data}


def bad(issue, data, text="", code=3):
    yield Case(given(data), issue=issue, text=text, code=code, command=COMMAND)


def good(data):
    yield accept(given(data), command=COMMAND)


def file(tensors=None, metadata=None, **rest):
    """A right file but for tensors instead of the usual ones (None: absent), or members of __metadata__."""
    tensors = {name: t for name, t in (tensors_of(MOMENTS) | (tensors or {})).items() if t is not None}
    return tensor_file(tensors, metadata_of({name: name for name in MOMENTS}, **rest) if metadata is None else metadata)


def h01():
    yield from good(file())
    # A checkpoint, a container, nothing, a file that ends early, a header that is no JSON.
    yield from bad(3620, MODEL, "something else, with '.*q4calibrate MODEL --texts")
    for content, name in ((b"\x89Q4F\r\n\x1a\n", "a .q4 container"), (b"GGUF\x03\0\0\0", "a GGUF file"), (b"PK\x03\x04", "a zip archive"),
                          (b"# Notes\nof the 3rd\n", "a text file"), (b"{}", "a JSON document")):  # fmt: skip
        yield from bad(3620, content + (bytes(5000) if content[-1:] not in b"\n}" else b""), f"looks like {name}.*q4calibrate MODEL --texts .* --imatrix")
    yield from bad(None, b"Q4" + bytes(5000))
    yield from bad(None, b"")
    whole = file()
    for size in (7, 8, 40, len(whole) // 2, len(whole) - 1):
        yield from bad(None, whole[:size])
    yield from bad(None, whole + b"\0")
    yield from bad(None, frame("{"))
    yield from bad(None, frame('{"a":' * 1000))


def h02():
    for version in ("2", "", "1.0", "x\x1b[31m"):
        yield from bad(5620, file(q4_calibration=version), code=5)
    yield from bad(3620, file(q4_calibration=None))
    yield from bad(3620, file(weights=None))
    for text in ("", "{", "[]", "3", '"a"', '{"a": 1}', '{"a": {"b": "c"}}', '{"a": null}', "{}", "[" * 100000, '{"a": "a"} {}', "\ud800"):
        yield from bad(None, file(weights=text))
    yield from bad(None, file(weights=json.dumps({WEIGHT: WEIGHT})[:-1] + f', "{WEIGHT}": "{OTHER}"}}'), "key")
    yield from bad(3620, file(provenance="[]"))
    yield from bad(None, file(provenance="{"))
    yield from bad(3620, file(transposed_weights=json.dumps({WEIGHT: WEIGHT})), WEIGHT)
    yield from bad(3620, file(filler="x" * (9 << 20)), "bytes")
    yield from good(file(provenance=json.dumps({"tool": "\x1b[31m", "texts": ["\u202e"] * 9}), anything="else"))


def h03():
    one = {f"{WEIGHT}.second_moments": None}
    yield from bad(3621, file(one), "second_moments")
    yield from bad(3621, file({f"{WEIGHT}.count": None}), "count")
    six = floats(*[1.0] * 6)
    for dtype, shape, data in (("F64", (6,), six * 2), ("BF16", (6,), six[:12]), ("I32", (6,), six), ("F32", (), six[:4]), ("F32", (1, 6), six),
                               ("F32", (6, 1), six), ("F32", (1, 1, 6), six), ("F32", (0,), b"")):  # fmt: skip
        yield from bad(3624 if shape == (1, 6) else 3621, file({f"{WEIGHT}.second_moments": (dtype, shape, data)}), WEIGHT)
    for dtype, shape, data in (("I32", (1,), bytes(4)), ("I64", (), bytes(8)), ("I64", (2,), bytes(16)), ("F32", (1,), bytes(4)), ("U64", (1,), bytes(8))):
        yield from bad(3621, file({f"{WEIGHT}.count": (dtype, shape, data)}), "count")
    for shape in ((6,), (6, 5), (36,), (1, 6, 6)):
        count = 1
        for side in shape:
            count *= side
        yield from bad(3621, file({f"{WEIGHT}.hessian": ("F32", shape, floats(*[0.0] * count))}), "hessian")
    for name in ("x.second_moments", f"{WEIGHT}.mean", WEIGHT, "second_moments", ".count", "x\x1b.hessian"):
        yield from bad(3620, file({name: ("F32", (1,), floats(1.0))}))


def h04():
    for value in (NAN, INF, -INF, -1.0, -1e-45):
        for at in range(0, 6, 5):
            moments = [1.0] * 6
            moments[at] = value
            yield from bad(3622, calibration_file(MOMENTS | {WEIGHT: moments}), f"element {at}")
    for count in (0, -1, 2**63 - 1, -(2**63)):
        yield from bad(3622, file({f"{WEIGHT}.count": ("I64", (1,), struct.pack("<q", count))}), "count")
    for value in (NAN, INF):
        hessian = [0.0] * 36
        hessian[35] = value
        yield from bad(3622, file({f"{WEIGHT}.hessian": ("F32", (6, 6), floats(*hessian))}), "element 35")
    # What looks odd and is right: no input at all, one feature alone, numbers at the ends of the range.
    for moments in ([0.0] * 6, [0.0] * 5 + [3e38], [1e-45] * 6, [3.4e38] * 6, [1e-45] + [3.4e38] * 5):
        yield from good(calibration_file(MOMENTS | {WEIGHT: moments}))


def h05():
    yield from bad(3624, calibration_file(MOMENTS | {WEIGHT: [1.0] * 5}), "expected a matrix of 5 inputs")
    yield from bad(3624, calibration_file({OTHER: MOMENTS[OTHER]}, {WEIGHT: [1.0] * 6}), "stored transposed")
    yield from bad(3624, calibration_file(MOMENTS | {WEIGHT: [[1.0] * 6] * 4}), "4 experts")
    yield from bad(3625, calibration_file({"h.0.mlp.c_fc.weight": [1.0] * 6}), "other names .*q4calibrate CHECKPOINT --texts FILE")
    llama = gguf([key(ARCHITECTURE, STRING, string(b"llama"))], [tensor(b"blk.0.ffn_up.weight", (32, 2))], bytes(256))
    yield Case(given(file()) | {"in.safetensors": llama}, issue=3625, text="'blk.0.ffn_up.weight'; .* q4calibrate THIS.gguf --imatrix", command=COMMAND)
    yield from good(calibration_file({OTHER: MOMENTS[OTHER]}))
    yield from good(calibration_file({WEIGHT.removeprefix("model."): MOMENTS[WEIGHT], "x.y.weight": [1.0]}))
    yield Case(given(file()), issue=1620, code=1, command=("q4convert", "in.safetensors", "--encoder", "weighted", *CONVERT[2:]))
    yield Case(given(file()), issue=1621, code=1, command=("q4convert", "in.safetensors", "--calibration", "c.safetensors", *CONVERT[2:]))


def h06():
    def feedback(data):
        words = tuple("feedback" if word == "weighted" else word for word in COMMAND)
        return {"files": given(data), "command": (*words, "--no-double-quant")}  # with which weights that are all alike stay feedback's

    def with_hessian(rows):
        return file({f"{OTHER}.hessian": ("F32", (4, 4), floats(*[value for row in rows for value in row])), f"{OTHER}.second_moments":
                     ("F32", (4,), floats(*[rows[j][j] for j in range(4)]))})  # fmt: skip

    def square(off, diagonal=(1.0, 1.0, 1.0, 1.0)):
        return [[diagonal[a] if a == b else off for b in range(4)] for a in range(4)]

    yield Case(issue=3631, code=3, text="--no-hessian", **feedback(file()))
    # Not symmetric; a diagonal that is not the moments. Both by row and column, of whichever half.
    one = square(0.5)
    for row, column, value in ((3, 1, 0.6), (1, 3, 0.6), (2, 0, -0.5), (0, 1, 3e38)):
        broken = [list(line) for line in one]
        broken[row][column] = value
        low, high = max(row, column), min(row, column)
        yield Case(issue=3623, code=3, text=f"row {low}, column {high}", **feedback(with_hessian(broken)))
    for value in (1.5, 0.0, -1.0):
        broken = [list(line) for line in one]
        broken[2][2] = value
        flat = ("F32", (4, 4), floats(*[x for line in broken for x in line]))
        moments = ("F32", (4,), floats(1.0, 1.0, 1.0, 1.0))
        yield Case(issue=3623, code=3, text="row 2, column 2", **feedback(file({f"{OTHER}.hessian": flat, f"{OTHER}.second_moments": moments})))
    for off in (150.0, -150.0, 3e38, -3e38):
        yield Case(issue=3630, code=3, text=OTHER, **feedback(with_hessian(square(off))))
    # Damped or not: singular, nothing at all, barely no Hessian, the ends of the range.
    for rows in (square(1.0), square(0.0), square(0.0, (0.0,) * 4), square(1.02), square(-0.9), square(3e38, (3e38,) * 4), square(1e-45, (1e-45,) * 4),
                 square(0.0, (3e38, 1e-45, 0.0, 1.0))):  # fmt: skip
        yield accept(**feedback(with_hessian(rows)))


def h07():
    """Counts and sizes beyond all bounds, a name twice: nothing of that size is asked of the machine."""
    whole = file()
    text = whole[8 : 8 + int.from_bytes(whole[:8], "little")].decode()
    payload = whole[8 + len(text) :]
    # A tensor twice, in the header. (A weight twice: H02.)
    again = f', "{WEIGHT}.second_moments": ' + json.dumps({"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}) + "}"
    yield from bad(3109, frame(text[: text.rindex("}")] + again, payload), "duplicate tensor name")
    # Features by the billion; products that leave 64 bits.
    for side in (1 << 31, 1 << 40, (1 << 63) - 1, 1 << 64):
        shapes = {f"{WEIGHT}.second_moments": ("F32", [side]), f"{WEIGHT}.hessian": ("F32", [side, side]), f"{WEIGHT}.count": ("I64", [1])}
        header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 8]} for name, (dtype, shape) in shapes.items()}
        header["__metadata__"] = metadata_of({WEIGHT: WEIGHT})
        yield from bad(None, frame(json.dumps(header), bytes(8)))
    experts = {f"{WEIGHT}.second_moments": {"dtype": "F32", "shape": [1 << 32, 1 << 32], "data_offsets": [0, 0]}, "__metadata__": metadata_of({WEIGHT: WEIGHT})}
    yield from bad(None, frame(json.dumps(experts)))
    # A Hessian that would be larger than the file, and one that is cut off.
    hessian = {f"{OTHER}.hessian": ("F32", (4, 4), floats(*[float(i % 5 == 0) for i in range(16)]))}
    yield from bad(None, file(hessian)[:-4])


def h08():
    """Folders of calibrations, of a pipeline."""
    flux = ["diffusers", "FluxTransformer2DModel"]
    model = {
        "p/model_index.json": json.dumps({"_class_name": "FluxPipeline", "transformer": flux, "vae": ["diffusers", "AutoencoderKL"]}).encode(),
        "p/transformer/config.json": b'{"_class_name": "FluxTransformer2DModel"}',
        "p/transformer/model.safetensors": MODEL,
        "p/vae/config.json": b'{"_class_name": "AutoencoderKL"}',
    }
    command = ("q4convert", "p", "-o", "out", "--include", "proj", "--encoder", "weighted", "--calibration", "c", "--device", "cpu")
    right = {"c/transformer.safetensors": file()}

    def case(files, issue, code, text="", **rest):
        return Case({**model, **files}, issue=issue, code=code, text=text, command=command, **rest)

    yield case({}, 1460, 1, "expected a folder with transformer.safetensors")
    yield case({"c": file()}, 1460, 1, "expected a folder with transformer.safetensors")
    yield case({"c": Fifo}, 1460, 1)
    yield case({"c": Link("nowhere")}, 1460, 1)
    yield case({"c": Directory}, 1460, 1, "none of them")
    yield case({"c/vae.safetensors": file()}, 1460, 1, "none of them")
    for name in ("Transformer", "transformer_2", "scheduler", "\x1b[31m", "transformer.safetensors"):
        yield case({**right, f"c/{name}.safetensors": file()}, 1460, 1, "is of no component")
    yield case({"c/transformer.safetensors": Fifo}, 2003, 3)
    yield case({"c/transformer.safetensors": Directory}, 2003, 3)
    yield case({"c/transformer.safetensors": file()[:40]}, None, 3)
    yield case({"c/transformer.safetensors": calibration_file({"x.weight": [1.0]})}, 3625, 3)
    yield accept({**model, **right, "c/README": b"x", "c/.transformer.safetensors": b"x", "c/vae.safetensors": b"not opened"}, makes=("out",), command=command)


ROWS = [
    Row("H01", "files of something else, and cut ones", h01),
    Row("H02", "metadata that is not what it says", h02),
    Row("H03", "tensors that are missing, strange or of another shape", h03),
    Row("H04", "numbers that no input has", h04),
    Row("H05", "a calibration beside another checkpoint", h05),
    Row("H06", "Hessians that are none, for the encoder feedback", h06),
    Row("H07", "counts and sizes beyond all bounds, names that come twice", h07),
    Row("H08", "folders of calibrations, of a pipeline", h08),
]
