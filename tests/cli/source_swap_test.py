#!/usr/bin/env python3
"""A source that is another one when an interrupted conversion is run again: whatever stands in its place, with whatever times, the output
is that of an undisturbed conversion of what lies there.

    source_swap_test.py TOOLS KILL_AT_SO [--sanitized]

q4convert is killed right before every call that changes the disk; then other weights of the same size, header and modification time, or
the same ones anew, are put in the source's place, by writing over it or as another file; then it runs again.
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

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402
import sanitizers  # noqa: E402
from checks import check  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402


def model(seed: int, first_from=None) -> bytes:
    """Six matrices in bf16; the first ones are those of another seed where `first_from` is given."""
    named = {}
    for i in range(6):
        values = random.Random(f"{first_from if first_from is not None and i < 3 else seed} {i}")
        data = bytearray(values.randbytes(2 * 120 * 2001))
        data[1::2] = bytes([0x3C]) * (len(data) // 2)
        named[f"model.layers.{i}.mlp.up_proj.weight"] = ("BF16", (120, 2001), bytes(data))
    return tensor_file(named)


class Case:
    def __init__(self, args, work: pathlib.Path):
        self.work, self.source, self.output = work, work / "in.safetensors", work / "out.q4"
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("kill_at", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        case = Case(args, pathlib.Path(folder))
        first, other, half = model(1), model(2), model(2, first_from=1)
        expected = {content: case.converted(content) for content in (first, other, half)}
        check(len(set(expected.values())) == 3, "three models")
        count = case.work / "count"
        check(case.run(LD_PRELOAD=case.preload, Q4_KILL_COUNT=str(count)).returncode == 0, "a run that counts")
        calls = int(count.read_text())
        kills, again, resumed = 0, 0, 0
        for at in range(1, calls + 1, 7 if args.sanitized else 1):
            # Other weights each time; the same ones, or others from the first byte that was read on, in turn.
            for content in (other, first if at % 4 < 2 else half):
                case.clear()
                case.put(first, another_inode=True)
                done = case.run(LD_PRELOAD=case.preload, Q4_KILL_AT=str(at))
                if done.returncode == 0:
                    continue  # how many calls there are depends on the disk
                check(done.returncode == -signal.SIGKILL, "killed", at, done.stderr)
                kills += 1
                left = case.output.with_suffix(".q4.journal").exists() and case.output.with_suffix(".q4.journal").stat().st_size > 1000
                case.put(content, another_inode=at % 2 == 0)
                rerun = case.run()
                # Killed when the output had its name and the journal was gone: a rerun does not replace it.
                if rerun.returncode == 1 and "Q4-1102" in rerun.stderr:
                    check(case.digest() == expected[first], "complete", at)
                    continue
                check(rerun.returncode == 0, "runs to its end", at, rerun.stderr)
                check(case.digest() == expected[content], "the output is of what lies there", at, rerun.stderr)
                again += "began again" in rerun.stderr
                resumed += "resumed" in rerun.stderr
                if content == other and left:
                    check("began again: " in rerun.stderr, "other weights begin again, and it is said", at, rerun.stderr)
        check(kills >= 20 or args.sanitized, "kills", kills)
        check(resumed >= 5 or args.sanitized, "the same content is gone on with", resumed)
        print(f"source_swap: {kills} kills, {again} reruns began again, {resumed} resumed, {checks.count()} checks hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
