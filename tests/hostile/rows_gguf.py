"""Section 3.5: GGUF. Versions, key-values, tensors, where their data lies, files in parts."""

import struct

from harness import CONVERT, Case, Row, Sparse, accept

IN = "in.safetensors"  # the content decides what a file is
COMMANDS = (CONVERT, ("q4inspect", IN))
ALIGNMENT, ARCHITECTURE = b"general.alignment", b"general.architecture"
U16, U32, I32, FLOAT, BOOL, STRING, ARRAY, U64, I64 = 2, 4, 5, 6, 7, 8, 9, 10, 11
F32, F16, Q4_0, Q4_2, Q4_K = 0, 1, 2, 4, 12


def string(value):
    return struct.pack("<Q", len(value)) + value


def key(name, kind, value):
    return string(name) + struct.pack("<I", kind) + value


def array(name, kind, count, values=b""):
    return key(name, ARRAY, struct.pack("<IQ", kind, count) + values)


def tensor(name=b"t", dims=(32,), kind=F32, offset=0, n_dims=None):
    count = len(dims) if n_dims is None else n_dims
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", count, *dims, kind, offset)


def gguf(keys=(), tensors=(), data=b"", magic=b"GGUF", version=3, n_tensors=None, n_keys=None, alignment=32):
    out = magic + struct.pack(
        "<IQQ", version, len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys
    )
    out += b"".join(keys) + b"".join(tensors)
    return out + bytes(-len(out) % alignment) + data


def part(number, count, tensors=None, names=(b"t",), **rest):
    """One of several files, each tensor of 32 elements."""
    keys = [key(b"split.no", U16, struct.pack("<H", number)), key(b"split.count", U16, struct.pack("<H", count))]
    if tensors is not None:
        keys.append(key(b"split.tensors.count", I32, struct.pack("<i", tensors)))
    described = [tensor(name, offset=128 * i) for i, name in enumerate(names)]
    return gguf(keys, described, bytes(128 * len(names)), **rest)


LLAMA = key(ARCHITECTURE, STRING, string(b"llama"))
PLAIN = gguf([LLAMA], [tensor()], bytes(128))
PARTS = "m-{:05}-of-{:05}.gguf"


def refused(issue, *files, text="", code=3):
    for data in files:
        for command in COMMANDS:
            yield Case({IN: data}, code=code, issue=issue, text=text, command=command)


def row(number, title, *cases, note=""):
    return Row(f"G{number:02}", title, lambda: (case for group in cases for case in group()), note=note)


def convert(name):
    return ("q4convert", name, *CONVERT[2:])


def parts(files, issue, text="", name=PARTS.format(1, 3)):
    """The first part, another and the folder are all given; each must find the fault."""
    for given in (name, "."):
        yield Case(files, issue=issue, text=text, command=("q4inspect", given))
    yield Case(files, issue=issue, text=text, command=convert(name))


def three(**changed):
    """Three parts of a model; `changed` has other bytes of some, or None for one that is not there."""
    files = {PARTS.format(i + 1, 3): part(i, 3, 3, (b"abc"[i : i + 1],)) for i in range(3)}
    for index, data in changed.items():
        name = PARTS.format(int(index[1:]), 3)
        if data is None:
            del files[name]
        else:
            files[name] = data
    return files


ROWS = [
    row(
        1,
        "other magics and versions",
        lambda: refused(3130, *(gguf(magic=m) for m in (b"GGML", b"tjgg", b"FUGG")), text="GGML file from before GGUF"),
        lambda: refused(3730, gguf(version=0x03000000), text="big-endian"),
        lambda: refused(3730, *(gguf(version=v) for v in (0, 1, 4)), text="version"),
        lambda: (accept({IN: gguf([LLAMA], [tensor(dims=(32, 2))], bytes(256), version=v)}) for v in (2, 3)),
    ),
    row(
        2,
        "counts beyond the file",
        lambda: refused(
            3731,
            *(gguf(n_tensors=n) for n in (2**63, 2**64 - 1, 2**32)),
            *(gguf(n_keys=n) for n in (2**63, 2**64 - 1)),
            text="number of",
        ),
        lambda: refused(3734, Sparse(gguf(n_keys=65_537), 1 << 30), text="key-values"),
        lambda: refused(3734, Sparse(gguf(n_tensors=1_000_001), 1 << 30), text="tensors"),
    ),
    row(
        3,
        "keys",
        lambda: refused(
            3732,
            gguf([key(b"", U32, bytes(4))]),
            gguf([struct.pack("<Q", 2**64 - 1)], data=bytes(64)),
            gguf([key(b"a", U32, bytes(4))] * 2),
            gguf([key(b"\xff", U32, bytes(4))]),
            gguf([key(b"a\0b", U32, bytes(4))]),
            gguf([key(b"k" * 65_536, U32, bytes(4))]),
        ),
        lambda: refused(3734, gguf([key(b"%065000d" % i, U32, bytes(4)) for i in range(70)]), text="keys of at most"),
    ),
    row(
        4,
        "value types",
        lambda: refused(
            3733,
            gguf([key(b"a", 13, bytes(8))]),
            gguf([key(b"a", 2**32 - 1, b"")]),
            gguf([array(b"a", ARRAY, 1)]),
            gguf([array(b"a", 13, 1)]),
            gguf([key(ARCHITECTURE, U32, bytes(4))]),
            gguf([key(b"split.count", STRING, string(b"3"))]),
            gguf([key(b"split.count", I32, b"\xff" * 4)]),
        ),
    ),
    row(
        5,
        "array and string lengths",
        lambda: refused(
            3731,
            gguf([array(b"a", U64, 2**61)]),
            gguf([array(b"a", STRING, 2**61)]),
            gguf([key(b"a", STRING, struct.pack("<Q", 2**64 - 1))]),
            gguf([array(b"a", STRING, 1, struct.pack("<Q", 2**63))]),
        ),
        lambda: refused(3734, Sparse(gguf([array(b"a", 0, (16 << 20) + 1)]), 1 << 30), text="elements"),
        lambda: refused(
            3734, Sparse(gguf([key(b"a", STRING, struct.pack("<Q", (64 << 20) + 1))]), 1 << 30), text="a text of"
        ),
    ),
    row(
        6,
        "general.alignment",
        lambda: refused(
            3735,
            *(gguf([key(ALIGNMENT, U32, struct.pack("<I", a))]) for a in (0, 3, 4, 24, 1 << 17, 2**31)),
            gguf([key(ALIGNMENT, FLOAT, bytes(4))]),
            gguf([key(ALIGNMENT, U64, struct.pack("<Q", 32))]),
        ),
        lambda: refused(3732, gguf([key(ALIGNMENT, U32, struct.pack("<I", 32))] * 2), text="twice"),
        lambda: (
            accept({IN: gguf([key(ALIGNMENT, U32, struct.pack("<I", a))], [tensor()], bytes(128), alignment=a)})
            for a in (8, 65_536)
        ),
    ),
    row(
        7,
        "dimensions",
        lambda: refused(
            3736,
            gguf(tensors=[tensor(dims=())]),
            gguf(tensors=[tensor(dims=(1,) * 5)]),
            gguf(tensors=[tensor(n_dims=2**32 - 1)]),
            gguf(tensors=[tensor(dims=(2**64 - 4, 1))]),
            gguf(tensors=[tensor(dims=(2**63, 4))]),
            gguf(tensors=[tensor(dims=(1 << 48,))]),
        ),
    ),
    row(
        8,
        "tensor types",
        lambda: refused(3737, *(gguf(tensors=[tensor(kind=k)]) for k in (999, Q4_2, 31, 36, 2**32 - 1)), text="type"),
        lambda: refused(3737, gguf(tensors=[tensor(dims=(33,), kind=Q4_0)]), text="multiples of 32 for Q4_0"),
    ),
    row(
        9,
        "offsets",
        lambda: refused(
            3738,
            *(gguf(tensors=[tensor(offset=o)], data=bytes(128)) for o in (1, 32, 1 << 40, 2**64 - 32)),
            gguf(tensors=[tensor(), tensor(b"u")], data=bytes(128)),
            gguf(tensors=[tensor(), tensor(b"u", offset=160)], data=bytes(288)),
            gguf(tensors=[tensor(offset=128), tensor(b"u")], data=bytes(256)),
        ),
        lambda: refused(3739, gguf(tensors=[tensor(dims=(1 << 40,))], data=bytes(128)), text="cut off"),
    ),
    row(
        10,
        "data section",
        lambda: refused(3739, PLAIN[:-128], PLAIN[:-1], text="cut off"),
        lambda: refused(3739, PLAIN + b"\0", PLAIN + bytes(64), gguf([LLAMA]) + bytes(33), text="at most"),
        lambda: (
            accept({IN: gguf([LLAMA], [tensor(dims=(3,))], data)}) for data in (bytes(12), bytes(20), bytes(32))
        ),
        lambda: (Case({IN: gguf([LLAMA])}, issue=3122, text="metadata alone"),),
        note="The padding behind the last tensor may be short: llama.cpp maps the file and never reads it.",
    ),
    row(
        11,
        "already quantized",
        lambda: refused(
            5730, gguf(tensors=[tensor(b"w", (256,), Q4_K)], data=bytes(144 + 16)), code=5, text="Q4_K: 1 tensor, w"
        ),
        lambda: refused(
            5730,
            gguf(
                tensors=[tensor(b"t%d" % i, (256,), Q4_K, 160 * i) for i in range(5)]
                + [tensor(b"n", (32,), Q4_0, 800), tensor(b"p" * 4000, offset=832)],
                data=bytes(832 + 128),
            ),
            code=5,
            text="Q4_0: 1 tensor, n; Q4_K: 5 tensors, t0, t1, ...; start from the F16|safetensors",
        ),
        lambda: refused(3739, gguf(tensors=[tensor(b"w", (256,), Q4_K)], data=bytes(143))),
    ),
    row(
        12,
        "100 k duplicate names",
        lambda: refused(3736, gguf(tensors=[tensor()] * 100_000, data=bytes(128)), text="duplicate name"),
    ),
    row(13, "every prefix", lambda: refused((3731, 3739, 3101, 3103), *(PLAIN[:n] for n in range(4, len(PLAIN), 3)))),
    row(
        14,
        "split with a part missing",
        lambda: parts(three(p2=None), 3143, "m-00002-of-00003.gguf.*1 of 3 parts is not there"),
        lambda: parts(three(p3=part(1, 3, 3, (b"b",))), 3151, "part 2 of 3, expected 3 of 3"),
        lambda: parts(three(p2=part(1, 3, 3, (b"a",))), 3109, "m-00001-of-00003.gguf and m-00002"),
        lambda: parts(three(p2=part(1, 3, 3, (b"b", b"d"))), 3151, "got 4, expected 3"),
        lambda: parts(three(p2=part(1, 3, 7, (b"b",))), 3151, "another part says"),
        lambda: parts(three(p2=part(1, 2, 3, (b"b",))), 3151, "part 2 of 2"),
        lambda: parts(three(p2=PLAIN), 3151, "no part"),
        lambda: parts(three(p2=PLAIN[:-1]), 3739),
        lambda: (
            Case({"renamed.gguf": part(0, 3)}, issue=3150, text="00001-of-00003", command=("q4inspect", "renamed.gguf")),
            Case(
                {PARTS.format(2, 3): part(0, 3)}, issue=3150, command=("q4inspect", PARTS.format(2, 3)), name="renumbered"
            ),
            Case({IN: gguf([key(b"split.count", U16, b"\3\0")])}, issue=3733, text="split.no"),
            Case(
                {PARTS.format(1, 65_535): part(0, 65_535)},
                issue=3142,
                command=("q4inspect", PARTS.format(1, 65_535)),
                name="more parts than the limit",
            ),
            accept(three(), command=convert(PARTS.format(2, 3))),
        ),
    ),
    row(
        15,
        "bool of 7, alignment NaN",
        lambda: refused(3733, gguf([key(b"a", BOOL, b"\x07")]), gguf([array(b"a", BOOL, 3, b"\0\1\2")]), text="BOOL"),
        lambda: refused(3735, gguf([key(ALIGNMENT, FLOAT, b"\0\0\xc0\x7f")])),
    ),
]
