#!/usr/bin/env python3
"""kill_test.py TOOLS KILL_AT_SO: q4convert killed at any instant loses nothing.

Kills one conversion right before every call that changes the disk, and others at random times. After each kill the output is the old
one or the complete new one, and the same command run again gives the bytes of an undisturbed run.
"""
import hashlib
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time

RANDOM_KILLS = 50


def write_model(path, tensors):
    """bf16 matrices of finite values: random low bytes under one high byte."""
    source, header, payload = random.Random(1), {}, b""
    for i in range(tensors):
        elems = 2100 * 2001
        data = bytearray(source.randbytes(2 * elems))
        data[1::2] = bytes([0x3C]) * elems
        header[f"model.layers.{i}.mlp.up_proj.weight"] = {
            "dtype": "BF16", "shape": [2100, 2001], "data_offsets": [len(payload), len(payload) + len(data)]}
        payload += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


class Killer:
    def __init__(self, tools, preload, folder):
        self.command = [str(tools / "q4convert"), str(folder / "model.safetensors"), "-o", str(folder / "out.q4"), "--force", "-q",
                        "--device", "cpu"]
        self.preload, self.output, self.partial = str(preload), folder / "out.q4", folder / "out.q4.partial"
        self.failures = 0

    def run(self, at=None, count=None):
        """One conversion, with the kill library if `at` or `count` ask for it. Returns the exit status."""
        environment = dict(os.environ)
        if at is not None or count is not None:
            environment["LD_PRELOAD"] = self.preload
        if at is not None:
            environment["Q4_KILL_AT"] = str(at)
        if count is not None:
            environment["Q4_KILL_COUNT"] = str(count)
        return subprocess.run(self.command, env=environment, stderr=subprocess.DEVNULL).returncode

    def expect(self, condition, text):
        if not condition:
            self.failures += 1
            print("FAILED:", text)

    def check(self, old, new, what):
        """After a kill, and after the same command ran to its end."""
        self.expect(digest(self.output) in (old, new), f"{what}: the output is neither the old one nor the new one")
        self.expect(self.run() == 0, f"{what}: the second run failed")
        self.expect(digest(self.output) == new, f"{what}: the second run gave other bytes")
        self.expect(not self.partial.exists(), f"{what}: a partial file is left")


def main():
    tools, preload = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_model(folder / "model.safetensors", tensors=5)
        killer = Killer(tools, preload, folder)
        begin = time.monotonic()
        if killer.run(count=folder / "count") != 0:
            sys.exit("the undisturbed run failed")
        duration = time.monotonic() - begin
        new, calls = digest(killer.output), int((folder / "count").read_text())

        precious = b"an older output"
        old = hashlib.sha256(precious).hexdigest()
        for at in range(1, calls + 1):
            killer.output.write_bytes(precious)
            killer.expect(killer.run(at=at) == -signal.SIGKILL, f"call {at}: was not killed")
            killer.check(old, new, f"call {at}")

        source = random.Random(2)
        killed = 0
        for i in range(RANDOM_KILLS):
            killer.output.write_bytes(precious)
            process = subprocess.Popen(killer.command, stderr=subprocess.DEVNULL)
            time.sleep(source.random() * duration)
            process.kill()
            killed += process.wait() == -signal.SIGKILL
            killer.check(old, new, f"random kill {i}")
        print(f"kill: {calls} calls of one conversion and {killed} of {RANDOM_KILLS} random instants, {killer.failures} failures")
        sys.exit(killer.failures != 0 or calls < 10)


if __name__ == "__main__":
    main()
