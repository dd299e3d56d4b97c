#!/usr/bin/env python3
"""kill_test.py TOOLS KILL_AT_SO [--sanitized]: q4convert killed at any instant loses nothing.

Kills a conversion right before every call that changes the disk, and others at random times, and often the rerun as well. After each
kill the output is the old one or the complete new one, and the same command run again gives the bytes of an undisturbed run. Done for
a file that replaces another, for a new file whose tensors are noted one by one, so that reruns resume, and for a model in shards.
--sanitized: the tool has sanitizers, whose reports are failures; as it is slow, every third call, a smaller model and few random kills.
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
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import sanitizers  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402

EVERY_TENSOR = ["--sync-every", "1"]


def write_model(path, tensors, rows):
    """bf16 matrices of finite values: random low bytes under one high byte."""
    source, named = random.Random(1), {}
    for i in range(tensors):
        elems = rows * 2001
        data = bytearray(source.randbytes(2 * elems))
        data[1::2] = bytes([0x3C]) * elems
        named[f"model.layers.{i}.mlp.up_proj.weight"] = ("BF16", (rows, 2001), data)
    path.write_bytes(tensor_file(named))


def older(tools, model, folder):
    """A container of another model, for --force to replace."""
    subprocess.run([tools / "q4convert", model, "-o", folder / "older.q4", "-q", "--device", "cpu"], check=True)
    return (folder / "older.q4").read_bytes()


class Killer:
    """One command, its outputs, and what they are when nothing disturbs it."""

    def __init__(self, name, tools, preload, folder, model, options, precious=None):
        self.name, self.folder, self.preload, self.precious = name, folder / name, preload, precious
        self.folder.mkdir()
        self.output = self.folder / "out.q4"
        self.command = [str(tools / "q4convert"), str(model), "-o", str(self.output), "-q", "--device", "cpu", *options]
        self.failures = self.kills = self.resumed = 0
        begin = time.monotonic()
        if self.run(count=folder / "count") != 0:
            sys.exit(f"{name}: the undisturbed run failed")
        self.duration = time.monotonic() - begin
        self.new, self.calls = self.outputs(), int((folder / "count").read_text())
        self.old = {"out.q4": hashlib.sha256(precious).hexdigest()} if precious else {}

    def run(self, at=None, count=None, kill_after=None):
        """One conversion, with the kill library if `at` or `count` ask for it. Returns the exit status."""
        environment = {**os.environ, **sanitizers.ENVIRONMENT}
        if at is not None or count is not None:
            environment["LD_PRELOAD"] = self.preload
        if at is not None:
            environment["Q4_KILL_AT"] = str(at)
        if count is not None:
            environment["Q4_KILL_COUNT"] = str(count)
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(self.command, env=environment, stderr=errors)
            if kill_after is not None:
                time.sleep(kill_after)
                process.kill()
            status = process.wait()
            errors.seek(0)
            found = sanitizers.report(status, errors.read().decode("utf-8", "replace"))
        self.expect(not found, found)
        return status

    def outputs(self):
        """Name and digest of everything that is no leftover."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(self.folder.iterdir())
                if path.suffix not in (".partial", ".journal", ".q4-probe", ".q4-probe2")}

    def leftovers(self):
        return [path.name for path in self.folder.iterdir() if path.suffix in (".partial", ".journal", ".q4-probe", ".q4-probe2")]

    def expect(self, condition, text):
        if not condition:
            self.failures += 1
            print(f"FAILED: {self.name}: {text}")

    def begin(self):
        for path in self.folder.iterdir():
            path.unlink()
        if self.precious:
            self.output.write_bytes(self.precious)

    def check_disturbed(self, what):
        """Every file that is there is an old one or a complete new one."""
        for name, digest in self.outputs().items():
            self.expect(digest in (self.old.get(name), self.new.get(name)), f"{what}: {name} is neither old nor new")

    def check_rerun(self, what):
        """The same command runs to its end, or refuses to replace what it has completed."""
        self.resumed += (self.folder / "out.q4.journal").exists()
        status = self.run()
        self.expect(status == 0 or status == 1 and self.outputs() == self.new, f"{what}: the rerun ended with {status}")
        self.expect(self.outputs() == self.new, f"{what}: the rerun gave other bytes")
        self.expect(status != 0 or not self.leftovers(), f"{what}: left behind: {self.leftovers()}")

    def kill_at_calls(self, step):
        source = random.Random(3)
        calls = range(1, self.calls + 1, step)
        for at in calls:
            self.begin()
            status = self.run(at=at)
            # How many syncs a run makes depends on the disk: it may end before it comes to the last calls.
            self.expect(status in (-signal.SIGKILL, 0), f"call {at}: ended with {status}")
            self.kills += status == -signal.SIGKILL
            self.check_disturbed(f"call {at}")
            if at % 2 == 0:
                self.run(at=source.randint(1, self.calls))
                self.check_disturbed(f"call {at}, then another")
            self.check_rerun(f"call {at}")
        self.expect(self.kills >= 0.7 * len(calls), f"only {self.kills} of {len(calls)} calls were reached")

    def kill_at_random(self, times):
        source = random.Random(2)
        for i in range(times):
            self.begin()
            self.kills += self.run(kill_after=source.random() * self.duration) == -signal.SIGKILL
            self.check_disturbed(f"random kill {i}")
            if i % 2 == 0:
                self.run(kill_after=source.random() * self.duration)
                self.check_disturbed(f"random kill {i}, then another")
            self.check_rerun(f"random kill {i}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("kill_at", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    arguments = parser.parse_args()
    tools, preload = arguments.tools, str(arguments.kill_at)
    if arguments.sanitized:
        preload = f"{sanitizers.runtime(tools / 'q4convert')} {preload}"
    # Short runs under sanitizers: how often a run syncs depends on how long it takes.
    matrices, rows, least_calls, step, random_kills = (12, 100, 8, 3, 5) if arguments.sanitized else (5, 2100, 10, 1, 50)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        large, small = folder / "large.safetensors", folder / "small.safetensors"
        write_model(large, tensors=matrices, rows=rows)
        write_model(small, tensors=6, rows=120)
        killers = [
            Killer("replaced", tools, preload, folder, large, ["--force"], precious=older(tools, small, folder)),
            Killer("resumed", tools, preload, folder, small, EVERY_TENSOR),
            Killer("shards", tools, preload, folder, small, [*EVERY_TENSOR, "--shard-size", "250KB"]),
        ]
        for killer in killers:
            killer.kill_at_calls(step)
            killer.kill_at_random(random_kills)
            print(f"kill, {killer.name}: 1 in {step} of {killer.calls} calls of a conversion and {random_kills} random instants, "
                  f"{killer.kills} kills, {killer.resumed} reruns with a journal, {killer.failures} failures", flush=True)
        sys.exit(any(killer.failures or killer.calls < least_calls for killer in killers) or not all(k.resumed for k in killers[1:]))


if __name__ == "__main__":
    main()
