#!/usr/bin/env python3
"""A .q4 container as a source of q4convert --from-quantized: decoded and quantized again.

    requantize_test.py TOOLS TESTDATA [--sanitized]

For containers of each kind: the result has the content of a conversion of what q4export decodes; its provenance names the container and
keeps the first document; the container proves it; packing it anew or quantizing it a third time keeps what it says. What is killed goes
on, what is damaged is found, and nothing is done without leave.
"""

import argparse
import hashlib
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE)]
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402
from interrupted import check_resumes  # noqa: E402
from repack_test import QUIET, Bench, kinds  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402
from tools import Tools  # noqa: E402

FLAG = "--from-quantized"
OPTIONS = (("--type", "fp4", "--block-size", "128", "--no-double-quant"), ("--compress", "zstd", "--shard-size", "8KB"), ("--keep-dtype", "fp32"))


def result(bench, name):
    return f"{name}.q4" if (bench.work / f"{name}.q4").exists() else f"{name}.q4.index.json"


def drop(bench, name):
    for path in bench.work.glob(f"{name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def again(bench, container, options):
    """The container quantized again, and what is decoded of it converted: the same content."""
    tools = bench.tools
    tools.run("q4convert", container, "-o", "again.q4", FLAG, *options, *QUIET)
    tools.run("q4export", container, "-o", "decoded", "--to", "safetensors", *QUIET)
    tools.run("q4convert", "decoded", "-o", "plain.q4", *options, *QUIET)
    made, plain = result(bench, "again"), result(bench, "plain")
    check(bench.content(made) == bench.content(plain), f"{container} {options}: the content of the decoded checkpoint")
    tools.run("q4verify", made, "--against", container, *QUIET)
    first, document = bench.provenance(container), bench.provenance(made)
    source = document["source"]
    check(source["format"] in ("q4", "q4-sharded") and source["quantized"] in ("NF4", "FP4"), f"{container}: the provenance says so", source)
    check(document["parent"]["first"] == first, f"{container}: and keeps the first document", document["parent"])
    check(document["parent"]["root"] == bench.inspect(container)["root_sha256"], f"{container}: and names its root", document["parent"])
    for file in source["files"]:
        data = (bench.work / file["name"]).read_bytes()
        check(file["sha256"] == hashlib.sha256(data).hexdigest() and file["size"] == len(data), f"{container}: files are the container's", file)
    # Packed anew, and quantized a third time.
    bench.repack(made, "packed.q4", "--compress", "none", "--shard-size", "0")
    parent = bench.provenance("packed.q4")["parent"]
    check(parent["first"] == first and parent["root"] == bench.inspect(made)["root_sha256"], f"{container}: packed anew", parent)
    tools.run("q4verify", "packed.q4", "--against", container, *QUIET)
    tools.run("q4convert", "packed.q4", "-o", "third.q4", FLAG, *QUIET)
    parent = bench.provenance("third.q4")["parent"]
    check(parent["first"] == first and parent["root"] == bench.inspect("packed.q4")["root_sha256"], f"{container}: a third time", parent)
    tools.run("q4verify", "third.q4", "--against", "packed.q4", *QUIET)
    for name in ("again", "decoded", "plain", "packed", "third"):
        drop(bench, name)


def taken_over(bench, checkpoints):
    """Weights of bitsandbytes lose their section with their codes."""
    bench.tools.run("q4convert", checkpoints / "tiny_bnb_src", "-o", "b.q4", *QUIET)
    bench.tools.run("q4export", "b.q4", "-o", "bnb", "--to", "bnb", *QUIET)
    bench.tools.run("q4convert", "bnb", "-o", "taken.q4", *QUIET)
    check("quantization_config" in bench.export("taken.q4").get("config.json", b"").decode() or
          bench.provenance("taken.q4")["options"]["encoder"] == "none", "codes were taken over")
    again(bench, "taken.q4", ("--block-size", "128"))
    bench.tools.run("q4convert", "taken.q4", "-o", "x.q4", FLAG, *QUIET)
    check(b"quantization_config" not in bench.export("x.q4")["config.json"], "the section is gone")
    check(bench.provenance("x.q4")["options"]["encoder"] == "absmax", "quantized by q4")
    for name in ("b", "taken", "x"):
        drop(bench, name)


def refused(bench, container):
    tools = bench.tools
    for options in (("--type", "nf4"), ("--block-size", "128")):
        said = tools.run("q4convert", container, "-o", "no.q4", *options, code=1).stderr
        check("[Q4-1755]" in said and FLAG in said, "without leave it is packed anew, and options say how to ask", said)
    for options in (("--tensor", "x"), ("--drop-file", "config.json"), ("--add-file", "a=b")):
        said = tools.run("q4convert", container, "-o", "no.q4", FLAG, *options, code=1).stderr
        check("[Q4-1757]" in said, "it is taken whole", said)
    tools.run("q4convert", container, "-o", "no.q4", FLAG, "--root", "sha256:" + "0" * 64, code=6)
    tools.run("q4convert", container, "-o", container, FLAG, "--force", code=1)
    # What was not quantized again is not held against a container, nor the other way round.
    tools.run("q4convert", container, "-o", "yes.q4", FLAG, "--type", "fp4", *QUIET)
    said = tools.run("q4verify", container, "--against", container, code=5).stderr
    check("container" in said, "a container is no source of what a checkpoint made", said)
    tools.run("q4verify", "yes.q4", "--against", "yes.q4", *QUIET, code=6)
    check(not list(bench.work.glob("no.q4*")), "nothing is left")
    plan = json.loads(tools.run("q4convert", container, "-o", "no.q4", FLAG, "--dry-run", "--json").stdout)
    check(plan["tensors"] and not list(bench.work.glob("no.q4*")), "a dry run plans it")
    drop(bench, "yes")


def large(bench, sanitized):
    """Bounded, killed and gone on with, damaged."""
    rng = random.Random(5)
    count = 8 if sanitized else 24
    tensors = {f"model.layers.{i}.mlp.up_proj.weight": ("BF16", (1024, 1024), bytes(b & 0x3F for b in rng.randbytes(4096)) * 512) for i in range(count)}
    tensors["model.embed_tokens.weight"] = ("BF16", (4096, 1024), bytes(b & 0x3F for b in rng.randbytes(8192)) * 1024)
    folder = bench.work / "large"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(tensor_file(tensors))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    bench.tools.run("q4convert", "large", "-o", "l.q4", "--compress", "zstd", *QUIET)
    command = [bench.tools.folder / "q4convert", "l.q4", "-o", "out.q4", FLAG, "-q", "--sync-every", "256KiB", "--threads", "1", "--type", "fp4", "--device", "cpu"]
    subprocess.run(command, cwd=bench.work, check=True)
    expected = (bench.work / "out.q4").read_bytes()
    check_resumes(command, bench.work, expected, tries=4, journal_bytes=1500)
    # The least memory that a refusal names is enough, and the peak stays in it.
    said = bench.tools.run("q4convert", "l.q4", "-o", "small.q4", FLAG, "--max-memory", "1MiB", "--threads", "2", code=1).stderr
    least = int(said.split("at least ")[1].split(" ")[0])
    runner = "import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:]); _, s, u = os.wait4(p.pid, 0); print(os.waitstatus_to_exitcode(s), u.ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", runner, bench.tools.folder / "q4convert", "l.q4", "-o", "small.q4", FLAG, "-q", "--type", "fp4",
                           "--max-memory", str(least), "--threads", "2", "--device", "cpu"], cwd=bench.work, capture_output=True, text=True, check=True)
    code, peak = done.stdout.split()
    check(code == "0" and (bench.work / "small.q4").read_bytes() == expected, "the least memory is enough", done.stderr)
    if not sanitized:
        check(int(peak) * 1024 < least + (64 << 20), "and is kept", peak, least)
    data = bytearray((bench.work / "l.q4").read_bytes())
    # Chunks lie apart by padding, which nobody decodes.
    for place in range(len(data) // 4, len(data) // 2, 512):
        data[place] ^= 1
    (bench.work / "l.q4").write_bytes(data)
    said = bench.tools.run("q4convert", "l.q4", "-o", "bad.q4", FLAG, "--device", "cpu", "--progress", "none", code=6).stderr
    check("chunk" in said, "damage is found", said)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("testdata", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    arguments = parser.parse_args()
    checkpoints = arguments.testdata.resolve() / "checkpoints"
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Tools(arguments.tools.resolve(), pathlib.Path(name)))
        for number, (container, _) in enumerate(kinds(bench, checkpoints)):
            again(bench, container, OPTIONS[number % len(OPTIONS)])
        taken_over(bench, checkpoints)
        refused(bench, "kind0.q4")
        large(bench, arguments.sanitized)
    print(f"requantize_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
