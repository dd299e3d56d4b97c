#!/usr/bin/env python3
"""What the tools take of memory, files and disk for models made to take much: many tiny tensors, large companions, JSON of many small
values, more shards than the soft limit on open files, embedded files that unpack to much, weights that are not stored as they are read;
and that no limit on memory ends a tool by a signal.

    memory_bounds_test.py TOOLS [--large] [--table]

The peak of the resident set stays below --max-memory and 64 MiB (docs/safety.md, promise 6), or the tool names what it needs, and then
keeps that. --large: members as large as the limits allow, for .ci/nightly. --table prints every figure.
"""

import argparse
import filecmp
import json
import math
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent / part) for part in ("support", "hostile")]
import checks  # noqa: E402  (the path above)
import container_bytes as cb  # noqa: E402
import rows_bnb as bnb  # noqa: E402
import safetensors_bytes as st  # noqa: E402
import torch_bytes as pt  # noqa: E402
from calibration_bytes import metadata_of, tensors_of  # noqa: E402
from checks import check  # noqa: E402

MIB = 1 << 20
ALLOWANCE = 64 * MIB
DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7}
NEEDED = re.compile(r"at least ([\d.]+) (bytes|MB|GB)")
UNIT = {"bytes": 1, "MB": 10**6, "GB": 10**9}


# Runs a command under limits ({name of resource: bytes or files}) and prints its exit code and peak in KiB. A process of its own, for the
# peak of a child begins with what the process that starts it has resident.
RUNNER = """
import json, os, resource, subprocess, sys
limits, command = json.loads(sys.argv[1]), sys.argv[2:]
def limited():
    for name, most in limits.items():
        hard = resource.getrlimit(getattr(resource, name))[1]
        resource.setrlimit(getattr(resource, name), (most, hard if name == 'RLIMIT_NOFILE' else most))
process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=limited)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


class Runs:
    """The tools in a folder of their own."""

    def __init__(self, tools: pathlib.Path, work: pathlib.Path, table: bool):
        self.tools, self.work, self.table = tools, work, table

    def run(self, tool, *arguments, **limits):
        """Exit code (negative: a signal), stderr and the peak of the resident set in bytes."""
        command = [sys.executable, "-c", RUNNER, json.dumps(limits), str(self.tools / tool), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True)
        code, peak = map(int, done.stdout.split())
        if self.table:
            shown = " ".join(pathlib.Path(a).name if "/" in a else a for a in map(str, arguments))
            print(f"{tool:<10} {shown[:100]:<100} exit {code:>3} {peak / 1024:8.1f} MiB", flush=True)
        return code, done.stderr, peak * 1024

    def bounded(self, tool, *arguments, memory=64 * MIB, code=0):
        """Holds the tool to its bound; where it asks for more, to what it has asked for."""
        options = ("--threads=2", "-q")
        got, text, peak = self.run(tool, *arguments, f"--max-memory={memory}", *options)
        found = NEEDED.search(text) if got == 1 else None
        if found:
            memory = int(float(found[1]) * UNIT[found[2]] * (1 if found[2] == "bytes" else 1.01)) + 1
            got, text, peak = self.run(tool, *arguments, f"--max-memory={memory}", *options)
        what = f"{tool} {' '.join(map(str, arguments))}"
        check(got == code, f"{what} ends with {code}", got, text)
        check(peak <= memory + ALLOWANCE, f"{what} keeps its bound of {memory // MIB} MiB", f"{peak / MIB:.1f} MiB")

    def unbounded(self, tool, *arguments, most, code=0):
        """A tool without --max-memory, or with an output that is no part of it: at most so many bytes."""
        got, text, peak = self.run(tool, *arguments)
        check(got == code, f"{tool} {arguments} ends with {code}", got, text)
        check(peak <= most, f"{tool} {arguments} takes at most {most // MIB} MiB", f"{peak / MIB:.1f} MiB")


def remove(*paths: pathlib.Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_model(folder: pathlib.Path, count: int, name, shape, config) -> pathlib.Path:
    """A model of `count` F32 tensors of zeros, with its configuration."""
    folder.mkdir()
    elems = shape[0] * shape[1]

    def one(i):
        where = f'"data_offsets":[{4 * elems * i},{4 * elems * (i + 1)}]'
        return f'{json.dumps(name(i))}:{{"dtype":"F32","shape":{list(shape)},{where}}}'.encode()

    st.stream(folder / "model.safetensors", count, one, 4 * elems * count)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


MIXTRAL = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


def tiny_tensors(runs: Runs, count: int) -> None:
    source = write_model(
        runs.work / "tiny", count, lambda i: f"model.layers.{i // 1000}.mlp.experts.{i % 1000}.w1.weight", (1, 1), MIXTRAL
    )
    container, out = runs.work / "tiny.q4", runs.work / "out"
    runs.bounded("q4convert", source, "-o", container)
    runs.bounded("q4verify", container)
    runs.bounded("q4verify", container, "--against", source)
    for to in (("--to", "bnb", "--experts", "dequantize"), ("--to", "safetensors", "--dtype", "bf16")):
        runs.bounded("q4export", container, "-o", out, *to)
        remove(out)
    # No bound of their own: a few kilobytes for each tensor.
    runs.unbounded("q4inspect", container, most=ALLOWANCE + 1024 * count)
    runs.unbounded("q4inspect", source, most=ALLOWANCE + 1024 * count)
    # A page about every tensor is as large as the model has tensors, and is built in memory.
    page = runs.work / "page.html"
    runs.unbounded("q4verify", container, "-q", "--html", page, "--markdown", page.with_suffix(".md"), most=ALLOWANCE + 6000 * count)
    check(page.stat().st_size < 600 * count + MIB, "the page takes 600 bytes for each tensor", page.stat().st_size)
    remove(source, container, page)


def large_companions(runs: Runs, mib: int) -> None:
    source = write_model(runs.work / "companion", 4, lambda i: f"model.layers.{i}.mlp.up_proj.weight", (64, 64), LLAMA)
    with open(source / "tokenizer.json", "wb") as file:
        for i in range(mib):
            file.write(bytes([32 + i % 90]) * MIB)
    other = runs.work / "other"
    shutil.copytree(source, other)
    for compress in ("none", "zstd"):
        container, out = runs.work / "c.q4", runs.work / "out"
        runs.bounded("q4convert", source, "-o", container, "--compress", compress)
        runs.bounded("q4verify", container)
        runs.bounded("q4verify", container, "--against", source)
        runs.bounded("q4export", container, "-o", out, "--to", "bnb")
        whole = filecmp.cmp(out / "tokenizer.json", source / "tokenizer.json", shallow=False)
        check(whole, "the companion is exported whole")
        remove(out)
        if compress == "none":
            with open(other / "tokenizer.json", "r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"!")
            runs.bounded("q4verify", container, "--against", other, code=6)
        remove(container)
    runs.unbounded("q4inspect", "--diff", source, other, most=ALLOWANCE, code=6)
    remove(source, other)


def json_text(unit: bytes, size: int) -> bytes:
    return b"[" + unit * ((size - 2) // len(unit) - 1) + unit.rstrip(b",") + b"]"


# Shortest texts for each kind of value, and a list that is deep as well.
UNITS = {
    "lists": b"[],",
    "objects": b"{},",
    "numbers": b"1,",
    "texts": b'"a",',
    "members": b'{"a":1},',
    "deep": b"[" * 900 + b"]" * 900 + b",",
}


def container_with(config: bytes, **rest) -> bytes:
    parts = [cb.Part(config[at : at + 8 * MIB]) for at in range(0, len(config), 8 * MIB)]
    return cb.build(cb.sample_tensors(), files=[(b"config.json", parts)], **rest)


def many_values(runs: Runs, sizes, kinds) -> None:
    for size in sizes:
        for what, unit in [(kind, UNITS[kind]) for kind in kinds]:
            path, out = runs.work / f"{what}.q4", runs.work / "out"
            path.write_bytes(container_with(json_text(unit, size)))
            runs.bounded("q4verify", path)
            runs.unbounded("q4inspect", path, most=2 * ALLOWANCE)
            # What export does not read as an object it refuses, whatever it is.
            for to in (("--to", "bnb"), ("--to", "safetensors", "--dtype", "bf16")):
                runs.bounded("q4export", path, "-o", out, *to, code=3)
            code, _, peak = runs.run("q4inspect", "--lint", path)
            check(code in (0, 3, 6) and peak <= 2 * ALLOWANCE, "lint keeps to what others keep to", what, code, peak / MIB)
            remove(path)
    # The same beside a checkpoint, and as a list of shards.
    source = write_model(runs.work / "json", 1, lambda i: "model.layers.0.mlp.up_proj.weight", (8, 8), LLAMA)
    for unit in [UNITS[kind] for kind in kinds]:
        (source / "config.json").write_bytes(json_text(unit, 16 * MIB))
        runs.bounded("q4convert", source, "-o", runs.work / "c.q4", code=3)
    remove(source)


def no_signal(runs: Runs, step: int) -> None:
    """Whatever an address space allows: a documented exit code, never a signal. The documents are as large as tools still parse."""
    limits = range(24, 150, step)
    codes = {}
    for what, unit in (("lists", b"[],"), ("members", b'{"a":1},'), ("deep", UNITS["deep"])):
        path = runs.work / "c.q4"
        path.write_bytes(container_with(json_text(unit, MIB)))
        for mib in limits:
            for tool, *rest in (("q4verify",), ("q4export", "-o", runs.work / "out", "--to", "bnb"), ("q4inspect", "--lint")):

                options = ("--threads=1",) if tool != "q4inspect" else ("--json",)
                code, text, _ = runs.run(tool, path, *options, *rest, RLIMIT_AS=mib * MIB, RLIMIT_CORE=0)
                # 127: the loader of programs itself had no memory for the tool's libraries.
                check(code in DOCUMENTED | {127}, f"{tool} over {what} in {mib} MiB", code, text)
                codes[code] = codes.get(code, 0) + 1
                check(not (runs.work / "out").exists(), "nothing is left")
        remove(path)
    # Too little, too much, and the moment between: else nothing was tried.
    check({2, 127} & set(codes) and len(codes) > 2, "memory was exhausted in some of them", codes)
    print(f"memory_bounds: no signal in {sum(codes.values())} runs under a limit on the address space, by exit code {codes}")


def many_shards(runs: Runs, count: int) -> None:
    source = write_model(runs.work / "shards", count, lambda i: f"model.layers.{i}.mlp.up_proj.weight", (64, 64), LLAMA)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < count + 64:
        print(f"memory_bounds: SKIPPED many shards: at most {hard} open files")
        remove(source)
        return
    container = runs.work / "s.q4"
    code, text, _ = runs.run("q4convert", source, "-o", container, "--shard-size", "1000", "-q", RLIMIT_NOFILE=64)
    check(code == 0, "as many shards as there are files", code, text)
    listed = runs.work / "s.q4.index.json"
    check(len(json.loads(listed.read_text())["parts"]) == count, "a shard for each tensor")
    for tool, *rest in (("q4verify",), ("q4inspect",), ("q4export", "-o", runs.work / "out", "--to", "bnb")):
        code, text, _ = runs.run(tool, listed, *rest, RLIMIT_NOFILE=64)
        check(code == 0, f"{tool} reads them", code, text)
    remove(source, listed, runs.work / "out", *runs.work.glob("s-*.q4"))


def bombs(runs: Runs) -> None:
    """Embedded files of 8 MiB of zeros each chunk, 1 KiB compressed."""
    frame = cb.rle_frame(8 * MIB)
    for files, code in ((4, 0), (5, 6)):
        path, out = runs.work / "bomb.q4", runs.work / "out"
        named = [(b"a%d.json" % i, [cb.Part(frame, 8 * MIB)] * 32) for i in range(files)]
        path.write_bytes(cb.build(cb.sample_tensors(), files=named))
        check(path.stat().st_size < MIB, "it is small")
        code_got, text, _ = runs.run("q4inspect", path)
        check(code_got == code, f"{files} files of 256 MiB", code_got, text)
        if code != 0:
            check("Q4-7026" in text and "at most 1073741824" in text, "the message names the limit", text)
            runs.bounded("q4export", path, "-o", out, "--to", "bnb", memory=128 * MIB, code=6)
            check(not out.exists(), "nothing is written")
    remove(runs.work / "bomb.q4")
    folder = write_model(runs.work / "sum", 1, lambda i: "model.layers.0.mlp.up_proj.weight", (8, 8), LLAMA)
    for i in range(5):
        with open(folder / f"tokenizer_{i}.json", "wb") as file:
            file.truncate(250 * MIB)
    code, text, _ = runs.run("q4convert", folder, "-o", runs.work / "sum.q4", "--dry-run")
    check(code == 3 and "move what no loader needs" in text, "companions are refused by the same limit", code, text)
    remove(folder)


SIDE = 4096  # 16 Mi elements, four slabs


def sparse_file(path: pathlib.Path, named: dict) -> None:
    """A safetensors file of (dtype, shape, first bytes or none); the rest is zeros and takes no room."""
    head, size = st.sparse_header({name: (dtype, shape) for name, (dtype, shape, _) in named.items()})
    with open(path, "wb") as file:
        file.write(head)
        for dtype, shape, begin in named.values():
            end = file.tell() + st.ITEM_SIZE[dtype] * math.prod(shape)
            file.write(begin)
            file.seek(end)
        file.truncate(size)


def stored_otherwise(runs: Runs, count: int) -> None:
    """`count` weights of 8-bit floats, of bitsandbytes, and in a PyTorch checkpoint, where they are transposed views: converted and held
    against their source."""
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(count)]
    for kind in ("fp8", "bnb", "bin"):
        folder = runs.work / kind
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(LLAMA))
        if kind == "fp8":
            scale = ("F32", (SIDE // 128, SIDE // 128), b"")
            named = {}
            for name in names:
                named |= {name: ("F8_E4M3", (SIDE, SIDE), b""), f"{name}_scale_inv": scale}
            sparse_file(folder / "model.safetensors", named)
        elif kind == "bnb":
            named = {}
            for name in names:
                elems = SIDE * SIDE
                parts = dict(codes=("U8", (elems // 2, 1), b""), absmax=("U8", (elems // 64,), b""), nested_absmax=("F32", (elems // 64 // 256,), b""))
                text = bnb.state_text(True, shape=[SIDE, SIDE])
                named |= bnb.weight(name, text, True, elems=64, **parts)
            sparse_file(folder / "model.safetensors", named)
        else:
            views = [(name, pt.tensor((SIDE, SIDE), (1, SIDE), offset=i * SIDE * SIDE, elements=count * SIDE * SIDE, kind="BFloat16Storage"))
                     for i, name in enumerate(names)]
            (folder / "pytorch_model.bin").write_bytes(pt.checkpoint(pt.state(*views), [bytes(2 * count * SIDE * SIDE)]))
        container = runs.work / "o.q4"
        runs.bounded("q4convert", folder, "-o", container)
        runs.bounded("q4verify", container, "--against", folder)
        runs.unbounded("q4inspect", folder, most=ALLOWANCE)
        remove(folder, container)


def whole_matrices(runs: Runs) -> None:
    """Feedback works on whole matrices with their Hessians, and keeps factors for others with the same input: bounds with room for none and for some."""
    columns, rows = 2048, 128
    folder = runs.work / "whole"
    names = [f"model.layers.0.self_attn.{leaf}_proj.weight" for leaf in "koqv"]
    write_model(folder, len(names), lambda i: names[i], (rows, columns), LLAMA)
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-4 * len(names) * rows * columns, os.SEEK_END)
        rng = random.Random(1)
        pattern = st.floats(*[rng.gauss(0, 1) for _ in range(4096)])
        for _ in range(len(names) * rows * columns // 4096):
            file.write(pattern)
    inputs = {"k": names[0], "o": names[1], "q": names[0], "v": names[0]}
    tensors, half = {}, st.floats(0.5)
    for name in (names[0], names[1]):
        tensors |= tensors_of({name: [1.0] * columns}, 10_000)
        hessian = b"".join(half * row + st.floats(1.0) + half * (columns - row - 1) for row in range(columns))
        tensors[f"{name}.hessian"] = ("F32", (columns, columns), hessian)
    calibration = runs.work / "c.safetensors"
    calibration.write_bytes(st.tensor_file(tensors, metadata_of({f"model.layers.0.self_attn.{leaf}_proj.weight": name for leaf, name in inputs.items()})))
    container, outputs = runs.work / "whole.q4", set()
    for memory in (48 * MIB, 128 * MIB, 256 * MIB):
        runs.bounded("q4convert", folder, "-o", container, "--encoder=feedback", f"--calibration={calibration}", "--force", memory=memory)
        outputs.add(container.read_bytes())
    check(len(outputs) == 1, "the same bytes under any bound")
    runs.bounded("q4verify", container, "--against", folder, f"--calibration={calibration}", "--require-proof", memory=256 * MIB)
    remove(folder, container, calibration)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(args.tools.resolve(), pathlib.Path(folder), args.table)
        for count in (40_000, 200_000, 900_000) if args.large else (6_000,):
            tiny_tensors(runs, count)
        large_companions(runs, 250 if args.large else 80)
        many_values(runs, (MIB // 2, 15 * MIB, 64 * MIB, 250 * MIB) if args.large else (15 * MIB,), UNITS if args.large else ("texts", "lists", "deep"))
        many_shards(runs, 9_000 if args.large else 150)
        bombs(runs)
        stored_otherwise(runs, 40 if args.large else 8)
        whole_matrices(runs)
        no_signal(runs, 1 if args.large else 9)
    print(f"memory_bounds: {checks.count()} checks hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
