#!/usr/bin/env python3
"""One conversion as several processes of one machine against one process: equality, then time. Needs numpy.

  python3 bench/parts_bench.py TOOLS --work DIR [--files 8] [--gigabytes 2.5] [--parts 8] [--at-once 4] [--repeats 3] [--device cpu] [--cold]
                               [--outputs DIR] [--convert OPTION...]

--gigabytes is the size of a source file. One process converts with --shard-by source on all cores; then --parts parts, --at-once of them at
a time, each with its share of the cores, and the merge. The SHA-256 of the shards and of their list are compared. Prints medians of wall
seconds, CPU seconds, the rate of reading the source, and in sizes of the source what was read by system calls (rchar of /proc/PID/io) and what
storage was asked for (read_bytes; both "-" where that is hidden). --cold drops the source from the page cache before each run. --outputs is a
folder on another file system; options behind --convert go to q4convert. A limit shows as time that is saved without it: without the disk's
writes by --outputs /dev/shm/DIR, without SHA-256 by --convert --source-digest xxh3.
"""
import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from pipeline_bench import drop_cache
from read_once_bench import sharded


def run(command):
    """Wall and CPU seconds, and bytes that were read: by system calls, and from storage; or None."""
    start = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    # The process is a zombie until it is waited for, and its figures are there.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        counters = dict(line.split(": ") for line in pathlib.Path(f"/proc/{process.pid}/io").read_text().splitlines())
    except OSError:
        counters = {}
    called, stored = (int(counters[name]) if name in counters else None for name in ("rchar", "read_bytes"))
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command}: status {status}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, called, stored


def add(values):
    return None if None in values else sum(values)


def one_process(convert, source, output, options):
    return run([convert, source, "-o", output, "--shard-by", "source", *options])


def in_parts(convert, source, output, options, parts, at_once):
    threads = max(1, len(os.sched_getaffinity(0)) // at_once)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        done = list(pool.map(lambda i: run([convert, source, "-o", output, "--part", f"{i}/{parts}", "--threads", threads, *options]), range(parts)))
    merge = run([convert, "--merge", output, "-q"])
    _, cpus, called, stored = zip(*done, merge)
    return time.monotonic() - start, sum(cpus), add(called), add(stored)


def digests(folder):
    """Name -> SHA-256 of each file of the folder, several at a time."""
    def digest(path):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    paths = sorted(folder.iterdir())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip((path.name for path in paths), pool.map(digest, paths)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--gigabytes", type=float, default=2.5)
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--outputs", type=pathlib.Path)
    parser.add_argument("--convert", nargs=argparse.REMAINDER, default=[])
    args = parser.parse_args()
    source, convert = sharded(args.work, args.files, args.gigabytes), args.tools / "q4convert"
    size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    options = ["--device", args.device, "-q", "--progress", "none", *args.convert]
    rows = {"one process": [], f"{args.parts} parts, {args.at_once} at once": []}
    outputs = args.outputs or args.work
    outputs.mkdir(parents=True, exist_ok=True)
    whole, parts = outputs / "whole", outputs / "parts"
    for repeat in range(args.repeats):
        for name, folder in zip(rows, (whole, parts)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            if args.cold:
                for path in source.glob("*.safetensors"):
                    drop_cache(path)
            if folder == whole:
                rows[name].append(one_process(convert, source, folder / "m.q4", options))
            else:
                rows[name].append(in_parts(convert, source, folder / "m.q4", options, args.parts, args.at_once))
        found = digests(whole)
        if digests(parts) != found:
            sys.exit(f"run {repeat}: the bytes differ")
    for folder in (whole, parts):
        shutil.rmtree(folder)
    print(f"{size / 1e9:.1f} GB in {args.files} files, {len(found) - 1} shards, {len(os.sched_getaffinity(0))} cores, device {args.device}, "
          f"{'cold' if args.cold else 'warm'}, {' '.join(args.convert) or 'no other options'}; equal SHA-256 in {args.repeats} runs")
    print("| | wall s | CPU s | source GB/s | read by calls, in sizes of the source | read from storage |\n|---|---|---|---|---|---|")
    for name, results in rows.items():
        walls, cpus, *reads = zip(*results)
        wall = statistics.median(walls)
        shares = ["-" if None in column else f"{statistics.median(column) / size:.4f}" for column in reads]
        print(f"| {name} | {wall:.2f} ({min(walls):.2f} to {max(walls):.2f}) | {statistics.median(cpus):.1f} | {size / wall / 1e9:.2f} | {' | '.join(shares)} |",
              flush=True)


if __name__ == "__main__":
    main()
