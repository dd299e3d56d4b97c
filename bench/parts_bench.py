#!/usr/bin/env python3
"""One conversion as several processes of one machine against one process: equality, then time. Needs numpy.

  python3 bench/parts_bench.py TOOLS --work DIR [--files 8] [--gigabytes 2.5] [--parts 8] [--at-once 4] [--repeats 3] [--device cpu] [--cold]

--gigabytes is the size of a source file. One process converts with --shard-by source on all cores; then --parts parts, --at-once of them at
a time, each with its share of the cores, and the merge. The shards and their list are compared by bytes. Prints medians of wall
seconds, CPU seconds, what storage was asked for in sizes of the source (read_bytes of /proc/PID/io, "-" where that is hidden), and the rates of reading the source. --cold drops the source from the
page cache before each run.
"""
import argparse
import concurrent.futures
import filecmp
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
    """Wall and CPU seconds, and bytes that were read from storage or None."""
    start = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    read = None
    # The process is a zombie until it is waited for, and its figures are there.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        read = int(next(line for line in pathlib.Path(f"/proc/{process.pid}/io").read_text().splitlines() if line.startswith("read_bytes")).split()[1])
    except (OSError, StopIteration):
        pass
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command}: status {status}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, read


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
    return time.monotonic() - start, sum(cpu for _, cpu, _ in done) + merge[1], add([read for _, _, read in done])


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
    args = parser.parse_args()
    source, convert = sharded(args.work, args.files, args.gigabytes), args.tools / "q4convert"
    size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    options = ["--device", args.device, "-q", "--progress", "none"]
    rows = {"one process": [], f"{args.parts} parts, {args.at_once} at once": []}
    whole, parts = args.work / "whole", args.work / "parts"
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
        names = sorted(path.name for path in whole.iterdir())
        if names != sorted(path.name for path in parts.iterdir()) or filecmp.cmpfiles(whole, parts, names, shallow=False)[0] != names:
            sys.exit(f"run {repeat}: the bytes differ")
    print(f"{size / 1e9:.1f} GB in {args.files} files, {len(names) - 1} shards, {len(os.sched_getaffinity(0))} cores, device {args.device}, "
          f"{'cold' if args.cold else 'warm'}; equal bytes in {args.repeats} runs")
    print("| | wall s | CPU s | source GB/s | read, in sizes of the source |\n|---|---|---|---|---|")
    for name, results in rows.items():
        wall, cpu = (statistics.median(column) for column in list(zip(*results))[:2])
        reads = [read for _, _, read in results]
        read = "-" if None in reads else f"{statistics.median(reads) / size:.3f}"
        print(f"| {name} | {wall:.2f} | {cpu:.1f} | {size / wall / 1e9:.2f} | {read} |")


if __name__ == "__main__":
    main()
