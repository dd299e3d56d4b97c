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
from name_table import name_table  # noqa: E402

DAMAGES_PER_FILE = 60
RANDOM_NAMES, RANDOM_SETS = 40_000, 10_000
# What random names are made of: pieces on both sides of every rule.
PIECES = (". .. / a b A config tokenizer LICENSE -license license vocab con COM1 nul aux .json .JSON .md .model .v3 .v7m1 .vbs .py .so "
          ".safetensors .index .bin .txt .q4 _ - + , ( ) @ = ~ : \\ \x7f \x1b \u200b \u202e \u00e9 e\u0301 \u212a 1 2 HEAD .git desktop.ini "
          "adapter_config.json model_index.json q4_export.json").split() + [" ", "\n", "x" * 250, "y/" * 3]


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
    """Names in containers whose digests hold, so that the rule of names alone decides. Then random ones, without containers."""
    judged = {True: 0, False: 0}
    for kind, names in name_table():
        data = container_bytes.build([container_bytes.raw()], files=[(name, b"x") for name in sorted(names)])
        accepted = is_accepted(dump, data, table)
        if accepted != (kind in ("good", "beside")):
            sys.exit(f"embedded files named {names} are {'accepted' if accepted else 'refused'} by both readers")
        judged[accepted] += 1
    generator = random.Random(5)
    some = ["a", "A", "a/b", "a/B", "LICENSE", "license", "LICENSE/a", "README.md", "a/README.md", "vocab", "vocab/x", "Vocab"]
    some = [name + ".json" if "/" in name or name in ("a", "A") else name for name in some]
    sets = [["".join(generator.choices(PIECES, k=generator.randint(1, 5)))] for _ in range(RANDOM_NAMES)]
    sets += [generator.choices(some, k=generator.randint(2, 3)) for _ in range(RANDOM_SETS)]
    text = "".join(json.dumps(names) + "\n" for names in sets)
    theirs = subprocess.run([dump, "--names"], input=text.encode(), capture_output=True, check=True).stdout.split()
    if len(theirs) != len(sets):
        sys.exit("q4_dump --names gives up")
    for names, answer in zip(sets, theirs):
        ours = all(map(q4ref.is_file_name, names)) and q4ref.lie_side_by_side(names)
        if ours != (answer == b"1"):
            sys.exit(f"q4ref.py {'accepts' if ours else 'refuses'} {names}, the C++ reader does not")
        judged[ours] += 1
    return judged


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
    judged = compare_names(dump, table)
    print(f"q4ref: {len(paths)} files, {compared} parts and {decoded} decoded tensors equal, {refused} damaged copies refused by both, "
          f"{judged[True]} names or sets of names accepted and {judged[False]} refused by both")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
