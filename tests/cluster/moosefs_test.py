#!/usr/bin/env python3
"""moosefs_test.py TOOLS [--seed N]: a conversion in parts on a file system that two clients share.

Each part is attempted by both clients at once, attempts are killed at random and made again, and the other client merges. The bytes are
those of one process on a local disk, and nothing else is left. Skipped (77) where MooseFS is not installed or cannot be mounted.
"""
import argparse
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check, count  # noqa: E402
from cluster_model import SETTINGS, digests, write_model  # noqa: E402
from moosefs_volume import Volume, missing  # noqa: E402
from tools import Tools  # noqa: E402

FILES, PARTS, ROUNDS = 8, 4, 6


class Attempts:
    """Of one part, by each client."""

    def __init__(self, args, model, outputs, part):
        self.part = part
        self.running = [
            subprocess.Popen([args.tools / "q4convert", model, "-o", output, "--part", f"{part}/{PARTS}", *SETTINGS], stderr=subprocess.PIPE, text=True)
            for output in outputs
        ]

    def kill(self, draw) -> int:
        """One of the attempts, if it is not through. Returns how many were killed."""
        victim = draw.choice(self.running)
        victim.kill()
        return int(victim.wait() == -signal.SIGKILL)

    def codes(self):
        return [process.communicate()[1] if process.wait() not in (0, -signal.SIGKILL) else process.returncode for process in self.running]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("tools", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    if missing():
        print(f"moosefs: skipped: {missing()}")
        return 77
    begin, draw, kills = time.monotonic(), random.Random(args.seed), 0
    print(f"moosefs: seed {args.seed}")
    with tempfile.TemporaryDirectory(prefix="q4-moosefs-") as work:
        work = pathlib.Path(work)
        tools, one = Tools(args.tools, work), work / "one"
        write_model(work / "model", FILES, rows=2048)
        one.mkdir()
        tools.run("q4convert", work / "model", "-o", one / "out.q4", "--shard-by", "source", *SETTINGS)
        expected = digests(one)
        with Volume(work / "volume") as volume:
            model = volume.mounts[0] / "model"
            write_model(model, FILES, rows=2048)
            check(digests(model) == digests(work / "model"), "the same source")
            for round_number in range(ROUNDS):
                folders = [mount / f"round{round_number}" for mount in volume.mounts]
                folders[0].mkdir()
                outputs = [folder / "out.q4" for folder in folders]
                for part in draw.sample(range(PARTS), PARTS):
                    attempts = Attempts(args, volume.mounts[1] / "model", outputs, part)
                    time.sleep(draw.random() * 0.5)
                    kills += attempts.kill(draw)
                    codes = attempts.codes()
                    check(all(code in (0, -signal.SIGKILL) for code in codes), "attempts beside each other do not disturb", codes)
                    tools.run("q4convert", volume.mounts[0] / "model", "-o", outputs[0], "--part", f"{part}/{PARTS}", *SETTINGS)
                tools.run("q4convert", "--merge", outputs[1])
                for folder in folders:
                    check(digests(folder) == expected, "the bytes of one process, and nothing else", digests(folder), expected)
    check(kills > 0, "some attempts were killed")
    print(f"moosefs: {ROUNDS} rounds of {PARTS} parts by 2 clients, {kills} attempts killed: {count()} checks, {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
