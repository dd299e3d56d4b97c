#!/usr/bin/env python3
"""Holds the C++ reader against q4ref.py on the same files: equal root, parts and decoded values; and both refuse damage.

Usage: compare.py Q4_DUMP NUMERICS_MD FILE...     exit status 77 (skip) when a library is missing
"""
import json
import os
import random
import subprocess
import sys
import tempfile

try:
    import numpy  # noqa: F401
    import xxhash  # noqa: F401
    import zstandard  # noqa: F401
except ImportError as missing:
    print(f"SKIP q4ref: {missing} (set Q4_TEST_PYTHON to a Python that has numpy, xxhash, zstandard)")
    sys.exit(77)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import q4ref  # noqa: E402

DAMAGES_PER_FILE = 60


def main(dump, numerics, paths):
    with open(numerics, encoding="utf-8") as file:
        table = q4ref.nested_map(file.read())
    compared = decoded = refused = 0
    theirs = json.loads(subprocess.run([dump, *paths], check=True, capture_output=True).stdout)
    generator = random.Random(4)
    for path in paths:
        with open(path, "rb") as file:
            data = file.read()
        ours = q4ref.Container(data, table).report()
        if ours != theirs[path]:
            sys.exit(f"{path}: q4ref.py and the C++ reader differ:\n{json.dumps(ours, indent=1, sort_keys=True)}\n"
                     f"{json.dumps(theirs[path], indent=1, sort_keys=True)}")
        compared += sum(len(tensor["parts"]) for tensor in ours["tensors"].values())
        decoded += sum(tensor["values"] is not None for tensor in ours["tensors"].values())
        for _ in range(DAMAGES_PER_FILE):
            damaged = bytearray(data)
            damaged[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
            if generator.random() < 0.2:
                damaged = damaged[:generator.randrange(len(data))]
            try:
                q4ref.Container(bytes(damaged), table).report()
                sys.exit(f"{path}: q4ref.py accepts a damaged copy")
            except q4ref.Damaged:
                refused += 1
            with tempfile.NamedTemporaryFile(suffix=".q4") as copy:
                copy.write(damaged)
                copy.flush()
                if subprocess.run([dump, copy.name], capture_output=True).returncode not in (3, 6):
                    sys.exit(f"{path}: the C++ reader accepts a damaged copy")
    print(f"q4ref: {len(paths)} files, {compared} parts and {decoded} decoded tensors equal, {refused} damaged copies refused by both")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
