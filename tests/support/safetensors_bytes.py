"""Reads and builds safetensors files without any library, right ones and wrong ones."""

import json
import math
import pathlib
import struct

ITEM_SIZE = {
    "U8": 1,
    "I8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "BF16": 2,
    "F16": 2,
    "I16": 2,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F64": 8,
    "I64": 8,
}


def frame(header, payload=b"", length=None):
    """A file of that header text (str or bytes), with the true length unless another is given."""
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + payload


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def header_text(named, metadata=None):
    """The header, without its length, of {name: (dtype, shape, bytes of the payload)}; the payloads lie in this order."""
    header, end = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape, size) in named.items():
        header[name] = entry(dtype, shape, (end, end + size))
        end += size
    return json.dumps(header, separators=(",", ":"))


def tensors(**named):
    """A right file of {name: (dtype, shape, payload)}."""
    return tensor_file(named)


def tensor_file(named, metadata=None):
    header = header_text({name: (dtype, shape, len(data)) for name, (dtype, shape, data) in named.items()}, metadata)
    return frame(header, b"".join(data for _, _, data in named.values()))


def sparse_header(named, metadata=None, alignment=1):
    """Length and header of a right file of {name: (dtype, shape)}, and the size of that file. Spaces fill the header up to a multiple
    of `alignment`."""
    sizes = {name: ITEM_SIZE[dtype] * math.prod(shape) for name, (dtype, shape) in named.items()}
    header = header_text({name: (*tensor, sizes[name]) for name, tensor in named.items()}, metadata)
    head = frame(header + " " * (-len(header) % alignment))
    return head, len(head) + sum(sizes.values())


def read(path: pathlib.Path):
    """{name: (dtype, shape, payload)} of a right file."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    payload = memoryview(data)[8 + size :]
    return {name: (e["dtype"], tuple(e["shape"]), bytes(payload[slice(*e["data_offsets"])])) for name, e in header.items()}


def stream(path, count, one, payload_bytes=0):
    """A file of `count` header entries one(i), written piece by piece so that this process stays small, and that many zeros."""
    with open(path, "wb") as file:
        file.write(bytes(8) + b"{")
        for first in range(0, count, 1000):
            file.write(
                b",".join(one(i) for i in range(first, min(first + 1000, count)))
                + (b"," if first + 1000 < count else b"}")
            )
        length = file.tell() - 8
        file.seek(0)
        file.write(struct.pack("<Q", length))
        file.truncate(8 + length + payload_bytes)


def floats(*values, dtype="F32"):
    """The values as F64, F32, F16 or BF16, which is the upper half of F32."""
    if dtype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return struct.pack(f"<{len(values)}{dict(F16='e', F64='d').get(dtype, 'f')}", *values)


def words(*values):
    """fp32 by bit pattern."""
    return struct.pack(f"<{len(values)}I", *values)
