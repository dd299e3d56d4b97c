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

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "support")]
import container_bytes  # noqa: E402
import q4ref  # noqa: E402

DAMAGES_PER_FILE = 60
# Names of embedded files in containers whose digests hold, so that the rule of names alone decides.
GOOD_NAMES = (b"config.json", b"1_Pooling/config.json", b"a./b.c")
BAD_NAMES = (b"", b".", b"..", b"../x", b"/x", b"a//b", b"a/", b"a\\b", b"C:x", b"a\nb", b".env", b".git/config", b"a/.b/c", b"...")


def is_accepted(dump, data, table):
    """Whether both readers accept a container; an exit if they do not agree."""
    try:
        q4ref.Container(data, table).report()
        ours = True
    except q4ref.Damaged:
        ours = False
    with tempfile.NamedTemporaryFile(suffix=".q4") as copy:
        copy.write(data)
        copy.flush()
        code = subprocess.run([dump, copy.name], capture_output=True).returncode
    if code not in ((0,) if ours else (3, 6)):
        sys.exit(f"q4ref.py {'accepts' if ours else 'refuses'} what the C++ reader answers with exit code {code}")
    return ours


def compare_names(dump, table):
    for names, expected in ((GOOD_NAMES, True), (BAD_NAMES, False)):
        for name in names:
            data = container_bytes.build([container_bytes.raw()], files=[(name, b"x")])
            if is_accepted(dump, data, table) != expected:
                sys.exit(f"an embedded file named {name} is {'refused' if expected else 'accepted'} by both readers")


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
            if is_accepted(dump, bytes(damaged), table):
                sys.exit(f"{path}: both readers accept a damaged copy")
            refused += 1
    compare_names(dump, table)
    print(f"q4ref: {len(paths)} files, {compared} parts and {decoded} decoded tensors equal, {refused} damaged copies refused by both, "
          f"{len(GOOD_NAMES)} names accepted and {len(BAD_NAMES)} refused by both")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
