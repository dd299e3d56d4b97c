"""GGUF files as bytes: Llamas of F16 tensors, alone or as parts of a split."""

import struct

U16, I32, TEXT = 2, 5, 8
F16 = 1


def text(value):
    return struct.pack("<Q", len(value)) + value


def gguf(named, split=None):
    """`named`: {name: (rows, columns, numbers)}. `split`: (number from 0, of how many, tensors of all)."""
    keys = [text(b"general.architecture") + struct.pack("<I", TEXT) + text(b"llama")] if not split or split[0] == 0 else []
    if split:
        keys += [text(b"split.no") + struct.pack("<IH", U16, split[0]), text(b"split.count") + struct.pack("<IH", U16, split[1]),
                 text(b"split.tensors.count") + struct.pack("<Ii", I32, split[2])]
    out, data = b"GGUF" + struct.pack("<IQQ", 3, len(named), len(keys)) + b"".join(keys), b""
    for name, (rows, columns, numbers) in named.items():
        out += text(name.encode()) + struct.pack("<IQQIQ", 2, columns, rows, F16, len(data))
        data += struct.pack(f"<{len(numbers)}e", *numbers)
        data += bytes(-len(data) % 32)
    return out + bytes(-len(out) % 32) + data
