#!/usr/bin/env python3
"""A source that is another one when an interrupted conversion is run again: whatever stands in its place, with whatever times, the output
is that of an undisturbed conversion of what lies there.

    source_swap_test.py TOOLS KILL_AT_SO [--sanitized]

q4convert is killed right before every call that changes the disk; then other weights of the same size, header and modification time, or
the same ones anew, are put in the source's place, by writing over it or as another file; then it runs again. Safetensors before every
call; other kinds of sources, whose tensors are read in other ways, before some of them.
"""
import argparse
import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent / part) for part in ("support", "hostile")]
import checks  # noqa: E402
import rows_bnb as bnb  # noqa: E402
import sanitizers  # noqa: E402
import torch_bytes as pt  # noqa: E402
from checks import check  # noqa: E402
from safetensors_bytes import floats, tensor_file  # noqa: E402

ROWS, COLUMNS = 120, 2001
ELEMS = ROWS * COLUMNS


def matrices(seed: int, first_from) -> "dict[str, random.Random]":
    """Names of six matrices and where their values come from; the first ones are those of another seed where `first_from` is given."""
    seeds = [first_from if first_from is not None and i < 3 else seed for i in range(6)]
    return {f"model.layers.{i}.mlp.up_proj.weight": random.Random(f"{seeds[i]} {i}") for i in range(6)}


def bf16(values: random.Random) -> bytes:
    data = bytearray(values.randbytes(2 * ELEMS))
    data[1::2] = bytes([0x3C]) * ELEMS
    return bytes(data)


def model(seed: int, first_from=None) -> bytes:
    return tensor_file({name: ("BF16", (ROWS, COLUMNS), bf16(values)) for name, values in matrices(seed, first_from).items()})


def torch_model(seed: int, first_from=None) -> bytes:
    """Two of three are transposed views, which are no bytes of the file as they are read."""
    named = matrices(seed, first_from)
    views = [(name, pt.tensor((ROWS, COLUMNS), None if i % 3 == 0 else (1, ROWS), key=str(i), elements=ELEMS, kind="BFloat16Storage"))
             for i, name in enumerate(named)]
    return pt.checkpoint(pt.state(*views), [bf16(values) for values in named.values()])


def bnb_model(seed: int, first_from=None) -> bytes:
    """Codes and scales are taken over, without a kernel."""
    named = {}
    for number, (name, values) in enumerate(matrices(seed, first_from).items()):
        nested = number % 2 == 0
        blocks = -(-ELEMS // 64)
        codes = ("U8", (ELEMS // 2, 1), values.randbytes(ELEMS // 2))
        absmax = ("U8", (blocks,), values.randbytes(blocks)) if nested else ("F32", (blocks,), floats(*[values.random() for _ in range(blocks)]))
        text = bnb.state_text(nested, shape=[ROWS, COLUMNS])
        named |= bnb.weight(name, text, nested, elems=ELEMS, codes=codes, absmax=absmax)
    return tensor_file(named)


def fp8_model(seed: int, first_from=None) -> bytes:
    named = {}
    for name, values in matrices(seed, first_from).items():
        named[name] = ("F8_E4M3", (ROWS, COLUMNS), bytes(values.choices(range(0x10, 0x70), k=ELEMS)))
        named[f"{name}_scale_inv"] = ("F32", (1, 16), floats(*[values.random() for _ in range(16)]))
    return tensor_file(named)


# With the step from one call that is killed to the next.
KINDS = {"safetensors": (model, 1), "bin": (torch_model, 3), "bnb.safetensors": (bnb_model, 3), "fp8.safetensors": (fp8_model, 3)}


class Case:
    def __init__(self, args, work: pathlib.Path, kind: str):
        self.work, self.source, self.output = work, work / f"in.{kind}", work / "out.q4"
        self.command = [args.tools / "q4convert", self.source, "-o", self.output, "--sync-every", "1", "--device", "cpu", "--progress", "none"]
        self.preload = str(args.kill_at)
        if args.sanitized:
            self.preload = f"{sanitizers.runtime(args.tools / 'q4convert')} {self.preload}"

    def run(self, **environment):
        done = subprocess.run(list(map(str, self.command)), env={**os.environ, **sanitizers.ENVIRONMENT, **environment}, capture_output=True, text=True)
        found = sanitizers.report(done.returncode, done.stderr)
        check(not found, "no sanitizer reports", found)
        return done

    def digest(self) -> str:
        return hashlib.sha256(self.output.read_bytes()).hexdigest()

    def clear(self) -> None:
        for path in self.work.glob("out.q4*"):
            path.unlink()

    def put(self, content: bytes, another_inode: bool) -> None:
        """The modification time stays, whatever comes."""
        times = (self.source.stat().st_atime_ns, self.source.stat().st_mtime_ns) if self.source.exists() else None
        to = self.work / "new" if another_inode else self.source
        to.write_bytes(content)
        if another_inode:
            os.replace(to, self.source)
        if times:
            os.utime(self.source, ns=times)

    def converted(self, content: bytes) -> str:
        self.put(content, True)
        self.clear()
        check(self.run().returncode == 0, "an undisturbed conversion")
        digest = self.digest()
        self.clear()
        return digest


def swap(args, work: pathlib.Path, kind: str) -> str:
    case = Case(args, work, kind)
    make, step = KINDS[kind]
    first, other, half = make(1), make(2), make(2, first_from=1)
    expected = {content: case.converted(content) for content in (first, other, half)}
    check(len(set(expected.values())) == 3 and len(set(map(len, expected))) == 1, "three models of one size", kind)
    count = case.work / "count"
    check(case.run(LD_PRELOAD=case.preload, Q4_KILL_COUNT=str(count)).returncode == 0, "a run that counts")
    calls = int(count.read_text())
    kills, again, resumed = 0, 0, 0
    for at in range(1, calls + 1, step * (7 if args.sanitized else 1)):
        # Other weights each time; the same ones, or others from the first byte that was read on, in turn.
        for content in (other, first if at % 4 < 2 else half):
            case.clear()
            case.put(first, another_inode=True)
            done = case.run(LD_PRELOAD=case.preload, Q4_KILL_AT=str(at))
            if done.returncode == 0:
                continue  # how many calls there are depends on the disk
            check(done.returncode == -signal.SIGKILL, "killed", kind, at, done.stderr)
            kills += 1
            left = case.output.with_suffix(".q4.journal").exists() and case.output.with_suffix(".q4.journal").stat().st_size > 1000
            case.put(content, another_inode=at % 2 == 0)
            rerun = case.run()
            # Killed when the output had its name and the journal was gone: a rerun does not replace it.
            if rerun.returncode == 1 and "Q4-1102" in rerun.stderr:
                check(case.digest() == expected[first], "complete", kind, at)
                continue
            check(rerun.returncode == 0, "runs to its end", kind, at, rerun.stderr)
            check(case.digest() == expected[content], "the output is of what lies there", kind, at, rerun.stderr)
            again += "began again" in rerun.stderr
            resumed += "resumed" in rerun.stderr
            if content == other and left:
                check("began again: " in rerun.stderr, "other weights begin again, and it is said", kind, at, rerun.stderr)
    check(kills >= 20 // step or args.sanitized, "kills", kind, kills)
    check(resumed >= (3 if step == 1 else 1) or args.sanitized, "the same content is gone on with", kind, resumed)
    return f"{kind}: {kills} kills, {again} reruns began again, {resumed} resumed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("kill_at", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    args = parser.parse_args()
    done = []
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            done.append(swap(args, pathlib.Path(folder), kind))
    print(f"source_swap: {'; '.join(done)}; {checks.count()} checks hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
