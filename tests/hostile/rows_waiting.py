"""Section 3.5: GGUF, whose reader does not exist yet.

Each row's input is built all the same, so that the reader finds it here. Until then it must be refused by what it is, as any
other file that q4 does not read, without anything in it having been executed.
"""

import struct

from harness import CONVERT, Case, Row

IN = "in.safetensors"
REFUSED = (3001, 3101, 3103, 3104, 3130, 5101)  # no header, another kind of file, a kind that is not read
INSPECT = ("q4inspect", IN)


def refused(data):
    for command in (CONVERT, INSPECT):
        yield Case({IN: data}, code=(3, 5), issue=REFUSED, command=command)


# ---- GGUF


def string(value):
    return struct.pack("<Q", len(value)) + value


def key(name, kind, value):
    return string(name) + struct.pack("<I", kind) + value


def gguf_tensor(name=b"t", dims=(32,), kind=0, offset=0):
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def gguf(keys=(), tensors=(), data=b"", magic=b"GGUF", version=3, n_tensors=None, n_keys=None):
    out = magic + struct.pack(
        "<IQQ", version, len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys
    )
    out += b"".join(keys) + b"".join(tensors)
    return out + bytes(-len(out) % 32) + data


def gguf_row(number, title, *files):
    return Row(
        f"G{number:02}", title, lambda: (case for data in files for case in refused(data)), waits="the GGUF reader"
    )


ALIGNMENT = b"general.alignment"
GGUF_PLAIN = gguf([key(b"general.architecture", 8, string(b"llama"))], [gguf_tensor()], bytes(128))

ROWS = [
    gguf_row(
        1,
        "other magics and versions",
        *(gguf(magic=m) for m in (b"GGML", b"tjgg", b"FUGG")),
        *(gguf(version=v) for v in (0, 1, 4, 0x03000000)),
    ),
    gguf_row(
        2,
        "counts beyond the file",
        *(gguf(n_tensors=n) for n in (2**63, 2**64 - 1, 2**32)),
        *(gguf(n_keys=n) for n in (2**63, 2**64 - 1)),
    ),
    gguf_row(
        3,
        "keys",
        gguf([key(b"", 4, bytes(4))]),
        gguf([struct.pack("<Q", 2**64 - 1)]),
        gguf([key(b"a", 4, bytes(4))] * 2),
        gguf([key(b"\xff", 4, bytes(4))]),
    ),
    gguf_row(
        4,
        "value types",
        gguf([key(b"a", 13, bytes(8))]),
        gguf([key(b"a", 2**32 - 1, b"")]),
        gguf([key(b"a", 9, struct.pack("<IQ", 9, 1))]),
    ),
    gguf_row(
        5,
        "array and string lengths",
        gguf([key(b"a", 9, struct.pack("<IQ", 10, 2**61))]),
        gguf([key(b"a", 8, struct.pack("<Q", 2**64 - 1))]),
    ),
    gguf_row(
        6,
        "general.alignment",
        *(gguf([key(ALIGNMENT, 4, struct.pack("<I", a))]) for a in (0, 3, 2**31)),
        gguf([key(ALIGNMENT, 6, bytes(4))]),
        gguf([key(ALIGNMENT, 4, struct.pack("<I", 32))] * 2),
    ),
    gguf_row(
        7,
        "dimensions",
        gguf(tensors=[gguf_tensor(dims=())]),
        gguf(tensors=[gguf_tensor(dims=(1,) * 5)]),
        gguf(tensors=[gguf_tensor(dims=(2**63, 4))]),
    ),
    gguf_row(
        8,
        "tensor types",
        gguf(tensors=[gguf_tensor(kind=999)]),
        gguf(tensors=[gguf_tensor(kind=4)]),
        gguf(tensors=[gguf_tensor(dims=(33,), kind=2)]),
    ),
    gguf_row(
        9,
        "offsets",
        *(gguf(tensors=[gguf_tensor(offset=o)], data=bytes(128)) for o in (1, 1 << 40, 2**64 - 32)),
        gguf(tensors=[gguf_tensor(), gguf_tensor(b"u")], data=bytes(128)),
    ),
    gguf_row(10, "data section", GGUF_PLAIN[:-128], GGUF_PLAIN[:-1], GGUF_PLAIN + bytes(64)),
    gguf_row(11, "already quantized", gguf(tensors=[gguf_tensor(dims=(256,), kind=12)], data=bytes(144))),
    gguf_row(12, "100 k duplicate names", gguf(tensors=[gguf_tensor()] * 100_000, data=bytes(128))),
    gguf_row(13, "every prefix", *(GGUF_PLAIN[:n] for n in range(8, len(GGUF_PLAIN), 16))),
    gguf_row(14, "split with a part missing", gguf([key(b"split.count", 2, b"\x03\0"), key(b"split.no", 2, b"\0\0")])),
    gguf_row(15, "bool of 7, alignment NaN", gguf([key(b"a", 7, b"\x07")]), gguf([key(ALIGNMENT, 6, b"\0\0\xc0\x7f")])),
]
