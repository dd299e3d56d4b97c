#!/usr/bin/env python3
"""Containers that lie, with every digest right: each field of docs/format.md in turn, and whole forgeries.

    forgery_test.py TOOLS [--list]

Each lie of tests/support/lies.py is noticed by whom the table says and by nobody before, and no field of the format is without a
row. --list prints the table. Needs Python 3 alone.
"""

import concurrent.futures
import hashlib
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import lies  # noqa: E402  (the path above)
from checks import check, count  # noqa: E402
from container_bytes import FOOTER  # noqa: E402
from forger import Forged  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402
from tools import Tools  # noqa: E402

CONFIG = b'{"architectures":["LlamaForCausalLM"],"model_type":"llama"}'
RECIPE = {"rules": [{"match": "layers.1", "type": "fp4", "block_size": 32, "double_quant": False}]}


def bf16(count, seed):
    values = random.Random(seed)
    return b"".join(struct.pack("<f", values.gauss(0, 0.02))[2:] for _ in range(count))


def make_source(folder):
    folder.mkdir()
    (folder / "config.json").write_bytes(CONFIG)
    shapes = {lies.NESTED: (16, 96), lies.PLAIN: (5, 33), lies.KEPT: (8,)}
    named = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        size = shape[0] * (shape[1] if len(shape) == 2 else 1)
        named[name.decode()] = ("BF16", shape, bf16(size, seed))
    (folder / "model.safetensors").write_bytes(tensor_file(named))


def make_recipe(folder):
    (folder / "recipe.json").write_text(json.dumps(RECIPE))


def convert(tools, *options):
    tools.run("q4convert", "src", "-o", "m.q4", "--force", "--device", "cpu", "-q", *options)
    return (tools.work / "m.q4").read_bytes()


def forge_shards(tools):
    """Lies that need two shards, or one without the others."""
    tools.run("q4convert", "src", "-o", "s.q4", "--device", "cpu", "-q", "--shard-size", "600", "--recipe", "recipe.json")
    listing = json.loads((tools.work / "s.q4.index.json").read_text())
    parts = [tools.work / part["name"] for part in listing["parts"]]
    check(len(parts) > 1, "a model of shards", listing)

    def rewrite(number, edit):
        """The shard with another document, and the list that goes with it."""
        forged = Forged(parts[number].read_bytes())
        document = forged.document
        edit(document)
        forged.document = document
        parts[number].write_bytes(forged.write())
        roots = b""
        for path, part in zip(parts, listing["parts"]):
            data = path.read_bytes()
            root = data[-FOOTER:][40:72]
            roots += root
            part["bytes"], part["root"] = len(data), root.hex()
        listing["root"] = hashlib.sha256(roots).hexdigest()
        (tools.work / "s.q4.index.json").write_text(json.dumps(listing, indent=2, sort_keys=True) + "\n")

    def found(number, *arguments):
        done = tools.run("q4verify", *arguments, "-q", code=6)
        check(f"[Q4-{number}]" in done.stderr, f"{arguments}: Q4-{number}", done.stderr)

    tools.run("q4verify", "s.q4.index.json", "--against", "src")
    tools.run("q4verify", parts[1], "--against", "src")
    rewrite(1, lambda document: document["source"].update(files=[]))
    found(6217, parts[1], "--against", "src")
    rewrite(1, lambda document: document["options"].update(compress="zstd:3"))
    found(7632, "s.q4.index.json")


def main():
    tools_folder = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        tools = Tools(tools_folder, work)
        make_source(work / "src")
        make_recipe(work)
        others = {
            "fp4, blocks of 4096": convert(tools, "--type", "fp4", "--block-size", "4096"),
            "fp32 scales": convert(tools, "--no-double-quant"),
            "blocks of 32": convert(tools, "--block-size", "32"),
        }
        right = convert(tools, "--recipe", "recipe.json")
        tools.run("q4verify", "m.q4", "--against", "src")
        told = lies.of(right, others)
        check(lies.Forged(right).write() == right, "a container that is written again is the same")

        covered = {(table, field.split("[")[0]) for table, field, *_ in told}
        for table, names in lies.fields().items():
            for name in names:
                known = "index" if table == "section" and name in ("Section_Count", "reserved") else table
                check((known, name) in covered, f"{table}, {name} has a lie")

        def notices(number):
            path = work / f"lie{number}.q4"
            path.write_bytes(told[number][4])

            def refuses(tool, *options):
                done = subprocess.run([tools_folder / tool, path, *options], cwd=work, capture_output=True, text=True)
                if done.returncode not in (0, 3, 5, 6):
                    raise SystemExit(f"{told[number][:4]}: {tool} ends with {done.returncode}: {done.stderr}")
                return done.returncode != 0

            try:
                quiet = ("-q", "--threads", "1", "--progress", "none")
                if refuses("q4inspect"):
                    return lies.READER
                if refuses("q4verify", *quiet):
                    return lies.ALONE
                return lies.AGAINST if refuses("q4verify", "--against", "src", *quiet) else lies.NOBODY
            finally:
                path.unlink()

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = list(pool.map(notices, range(len(told))))
        wrong = 0
        for (table, field, what, expected, _), got in zip(told, found):
            if "--list" in sys.argv:
                print(f"{got:<8} {table:<11} {field:<20} {what}")
            if got != expected:
                wrong += 1
                print(f"FAILED {table}, {field}, {what}: noticed by {got}, expected {expected}")
        forge_shards(tools)
        check(wrong == 0, "each lie is noticed by whom the table says", wrong)
        tally = {who: found.count(who) for who in (lies.READER, lies.ALONE, lies.AGAINST, lies.NOBODY)}
        print(f"forgery: {len(told)} lies, noticed by {tally}; {count()} checks")


if __name__ == "__main__":
    main()
