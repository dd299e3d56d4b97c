"""Pipelines of diffusers: a model_index.json that lies, and a q4-pipeline.json that somebody else wrote."""

import json

from harness import CONVERT, Case, Directory, Fifo, Link, Row, Sparse
from safetensors_bytes import floats, tensors

WEIGHTS = tensors(**{"a.weight": ("F32", (2, 2), floats(1, 2, 3, 4))})
CONFIG = json.dumps({"_class_name": "FluxTransformer2DModel"}).encode()
FLUX = ["diffusers", "FluxTransformer2DModel"]
FOLDER = ("q4convert", "p", "-o", "out", *CONVERT[4:])
COMMANDS = (FOLDER, ("q4inspect", "p"), ("q4convert", "p", "-o", "out", "--dry-run"))


def files(index, **more):
    text = index if isinstance(index, bytes) else json.dumps({"_class_name": "FluxPipeline", **index}).encode()
    found = {"p/model_index.json": text, "p/transformer/config.json": CONFIG, "p/transformer/model.safetensors": WEIGHTS}
    found.update({name.replace("__", "/"): content for name, content in more.items()})
    return found


def bad(index, issue, code=3, commands=COMMANDS, text="", **more):
    for command in commands:
        yield Case(files(index, **more), issue=issue, code=code, text=text, command=command)


def p01():
    names = ("../secret", "..", ".", "/etc", "a/b", "a\\b", "C:\\x", "", " ", "a\0b", "\x1b[2J", "va\u00e9", "\u202evae", "vae.", "-rf", "n" * 65,
             "transformer/../../secret", "%2e%2e",
             # Identifiers, and no folders on some systems; one folder with another there.
             "aux", "con", "NUL", "Prn", "com7", "LPT0", "Transformer")
    for name in names:
        yield from bad({"transformer": FLUX, name: FLUX}, 3820, secret__model=b"x")


def p02():
    for text in (b"[]", b"7", b'"x"', b"null", b"{}", b'{"_class_name": "FluxPipeline"}'):
        yield from bad(text, 3820)
    for text in (b"", b"{", b"\xff\xfe", b'{"a": [1,}'):
        yield from bad(text, 3001)
    yield from bad(b"[" * 5000, 3003)
    # Values that are no component are options of the pipeline, and then none is left.
    for value in (7, "x", None, [], ["a"], ["a", "b", "c"], [1, 2], [["a"], "b"], {"library": "diffusers"}, [None, "x"], [True, False]):
        yield from bad({"transformer": value}, 3820)
    yield from bad({f"c{i}": FLUX for i in range(257)}, 3821)
    sparse = Sparse(b"{", 1 << 40)
    for command in COMMANDS:
        yield Case({"p/model_index.json": sparse, "p/transformer/model.safetensors": WEIGHTS}, issue=2007, command=command)


def p03():
    index = {"transformer": FLUX, "vae": ["diffusers", "AutoencoderKL"]}
    yield from bad(index, 3822, text="vae")
    yield from bad(index, 3822, p__vae=b"a file")
    yield from bad(index, 3822, p__vae=Fifo)
    yield from bad(index, 2004, p__vae=Link("transformer"))
    yield from bad(index, 2004, p__vae=Link("/"))
    yield from bad(index, 3822, p__vae=Link("nowhere"), commands=[command + ("--follow-symlinks",) for command in COMMANDS])
    # What a folder holds is read as that of any model is, of what is carried too.
    for command in COMMANDS:
        yield Case({**files(index), "p/vae/model.safetensors": b"\xff" * 64}, issue=3103, command=command, text="vae")
        yield Case({**files(index), "p/vae/model.safetensors": Link("../transformer/model.safetensors")}, issue=2004, command=command)
        yield Case({**files(index), "p/vae/vae.json": Link("/etc/passwd"), "p/vae/model.safetensors": WEIGHTS}, issue=2004, command=command)
        yield Case({**files(index), "p/vae/pytorch_model.bin": b"cos\nsystem\n(S'touch x'\ntR."}, code=(3, 5), command=command)
    for command in COMMANDS[::2]:
        yield Case({**files({"scheduler": FLUX}), "p/scheduler": Directory}, code=5, issue=5820, command=command)
        yield Case({**files({"transformer": ["mine", "Mine"]}), "p/transformer/mine.py": b"x"}, code=5, issue=5821,
                   command=command + ("--components", "transformer"))
        yield Case(files({"transformer": FLUX}), code=1, issue=1820, command=command + ("--components", "../transformer"))


HEX = "0" * 64
SEAL = {
    "document": "q4-pipeline", "version": 1, "tool_version": "0.1.0", "class": "FluxPipeline",
    "components": [{"name": "transformer", "library": "diffusers", "class": "F", "container": None, "root_sha256": None}],
    "files": [{"path": "model_index.json", "bytes": 2, "sha256": HEX}, {"path": "transformer/model.q4", "bytes": 1, "sha256": HEX}],
    "left_out": [],
}
READERS = (("q4verify", "p", "-q"), ("q4inspect", "p"), ("q4export", "p", "--to", "bnb", "-o", "out", "-q"))


def seal_text(**changes):
    return (json.dumps({**SEAL, **changes}, indent=2, ensure_ascii=False) + "\n").encode()


def sealed(text, issue, code=3):
    for command in READERS:
        yield Case({"p/q4-pipeline.json": text, "p/model_index.json": b"{}"}, issue=issue, code=code, command=command)


def p04():
    file = SEAL["files"][1]
    paths = ("../x", "/etc/passwd", "a/../../x", "a//b", "a/", "", ".", "a\\b", "a\0b", "\x1b[2J", "q4-pipeline.json", "CON", "a/" * 9 + "x", "x" * 300)
    for path in paths:
        yield from sealed(seal_text(files=[{**file, "path": path}]), 3823)
    for files_ in ([file, file], SEAL["files"][::-1], [{**file, "bytes": -1}], [{**file, "bytes": 1.5}], [{**file, "sha256": "x"}], [7], {}):
        yield from sealed(seal_text(files=files_), 3823)
    component = SEAL["components"][0]
    for change in ({"name": "../x"}, {"name": ""}, {"name": 7}, {"container": "../model.q4", "root_sha256": HEX}, {"container": "transformer/model.q4"},
                   {"container": "transformer/other.q4", "root_sha256": HEX}, {"container": "vae/model.q4", "root_sha256": HEX}, {"root_sha256": HEX}):
        yield from sealed(seal_text(components=[{**component, **change}]), 3823)
    yield from sealed(seal_text(components=[component, component]), 3823)
    yield from sealed(seal_text(document="q4-other"), 3823)
    yield from sealed(seal_text(more=1), 3823)
    yield from sealed(seal_text(version=2), 5823, code=5)
    yield from sealed(seal_text()[:-1], 3823)
    yield from sealed(b"{", 3001)
    yield from sealed(b'{"document": "q4-pipeline", "document": "q4-pipeline"}', 3002)


def p05():
    # The seal is right in itself, and the folder is another one.
    base = {"p/q4-pipeline.json": seal_text(), "p/model_index.json": b"{}"}
    yield Case(base, issue=6820, code=6, command=READERS[0])
    yield Case({**base, "p/transformer/model.q4": b"x"}, issue=6821, code=6, command=READERS[0])
    yield Case({**base, "p/more.txt": b"x", "p/more": Link("/")}, issue=6822, code=6, command=READERS[0])
    yield Case({**base, "p/transformer/model.q4": Link("/etc/passwd")}, issue=6821, code=6, command=READERS[0])
    yield Case({**base, "p/model_index.json": json.dumps({"vae": FLUX}).encode()}, issue=6826, code=6, command=READERS[0])
    yield Case({**base, "p/model_index.json": Fifo}, issue=(6821, 2003), code=(3, 6), command=READERS[0])
    yield Case(base, issue=6824, code=6, command=READERS[0] + ("--root", HEX))
    yield Case(base, issue=6821, code=6, command=READERS[2])
    # It stands for no leave to remove anything.
    mine = {**files({"transformer": FLUX}), "out/q4-pipeline.json": seal_text(), "out/model_index.json": b"mine"}
    yield Case(mine, issue=1824, code=1, command=FOLDER + ("--force",))
    yield Case({**files({"transformer": FLUX}), "out/mine.txt": b"mine"}, issue=1824, code=1, command=FOLDER + ("--force",))


ROWS = [
    Row("P01", "names in model_index.json that lead out of the folder", p01),
    Row("P02", "a model_index.json that is none", p02),
    Row("P03", "components that are missing, links, or no weights", p03),
    Row("P04", "a q4-pipeline.json that is not as q4convert writes it", p04),
    Row("P05", "a pipeline that is not what its seal says", p05),
]
