#!/usr/bin/env python3
"""The inputs that long runs found, testdata/fuzz/<target>.found: thousands of a few bytes, kept in one file per target.

  found_inputs.py pack FOLDER FILE     the files of FOLDER, shortest first, each behind its size as a little-endian u32
  found_inputs.py unpack FILE FOLDER   writes them to FOLDER, named by their SHA-1 as libFuzzer does; a target that has no FILE yet has none
"""
import hashlib
import pathlib
import struct
import sys


def pack(folder: pathlib.Path, file: pathlib.Path) -> None:
    inputs = sorted((path.read_bytes() for path in folder.iterdir()), key=lambda content: (len(content), content))
    file.write_bytes(b"".join(struct.pack("<I", len(content)) + content for content in inputs))


def unpack(file: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data, at = file.read_bytes() if file.exists() else b"", 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        content = data[at + 4:at + 4 + size]
        (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)
        at += 4 + size


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("pack", "unpack"):
        sys.exit(__doc__)
    {"pack": pack, "unpack": unpack}[sys.argv[1]](pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
