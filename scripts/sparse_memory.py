#!/usr/bin/env python3
"""Peak memory of conversion and verification of a checkpoint that is a hole in a file: as large as wanted, and nothing to store.

  sparse_memory.py TOOLS --gib N... [--max-memory SIZE] [--threads N] [--folder DIR]

TOOLS holds q4convert and q4verify. The checkpoint is of BF16 matrices of 64 MiB, all zeros. The container takes 27 % of its size
on disk while this runs. Prints a line per size and tool: seconds, CPU seconds, peak RSS; exits 1 if a tool fails or the peak
exceeds --max-memory by more than 64 MiB (docs/safety.md, promise 6).
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))
from safetensors_bytes import sparse_header  # noqa: E402

TENSOR_SHAPE = (8192, 4096)
TENSOR_BYTES = 2 * TENSOR_SHAPE[0] * TENSOR_SHAPE[1]
ALLOWANCE = 64 << 20


def write_checkpoint(path: pathlib.Path, gib: int) -> None:
    count = (gib << 30) // TENSOR_BYTES
    head, size = sparse_header({f"model.layers.{i}.mlp.up_proj.weight": ("BF16", TENSOR_SHAPE) for i in range(count)})
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)


def run(command: "list[str]") -> "tuple[float, float, int]":
    """Seconds, CPU seconds and the peak of the resident set in bytes."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)}: status {status}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("--gib", type=int, nargs="+", required=True)
    parser.add_argument("--max-memory", type=int, default=256, metavar="MIB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path)
    args = parser.parse_args()
    bound = (args.max_memory << 20) + ALLOWANCE
    common = ["--quiet", f"--max-memory={args.max_memory}MiB", f"--threads={args.threads}"]
    within = True
    for gib in args.gib:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            source, container = pathlib.Path(folder, "model.safetensors"), pathlib.Path(folder, "model.q4")
            write_checkpoint(source, gib)
            for name, command in (("q4convert", [source, "-o", container, "--source-digest=xxh3"]), ("q4verify", [container])):
                seconds, cpu, rss = run([str(part) for part in [args.tools / name, *command, *common]])
                within = within and rss <= bound
                print(f"{gib:>3} GiB  {name:<10} {seconds:7.1f} s  {cpu:7.1f} s CPU  {rss / 2**20:6.1f} MiB  "
                      f"(bound {bound >> 20} MiB, container {container.stat().st_size:,} bytes)", flush=True)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
