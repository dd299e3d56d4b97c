"""Builds safetensors files, right and wrong ones."""

import json
import struct

ITEM_SIZE = {
    "U8": 1,
    "I8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "BF16": 2,
    "F16": 2,
    "I16": 2,
    "F32": 4,
    "I32": 4,
    "F64": 8,
    "I64": 8,
}


def frame(header, payload=b"", length=None):
    """A file of that header text (str or bytes), with the true length unless another is given."""
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + payload


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def tensors(**named):
    """A right file of {name: (dtype, shape, payload)}."""
    return tensor_file(named)


def tensor_file(named):
    header, payload = {}, b""
    for name, (dtype, shape, data) in named.items():
        header[name] = entry(dtype, shape, (len(payload), len(payload) + len(data)))
        payload += data
    return frame(json.dumps(header), payload)


def sparse_header(named):
    """Header of a right file of {name: (dtype, shape)}, and the size of that file."""
    header, end = {}, 0
    for name, (dtype, shape) in named.items():
        size = ITEM_SIZE[dtype]
        for dim in shape:
            size *= dim
        header[name] = entry(dtype, shape, (end, end + size))
        end += size
    head = frame(json.dumps(header))
    return head, len(head) + end


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


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def words(*values):
    """fp32 by bit pattern."""
    return struct.pack(f"<{len(values)}I", *values)
