#!/usr/bin/env python3
"""What it costs to digest the source from the bytes that the conversion reads, instead of reading files again: two builds, in turn, on a
checkpoint of several files in the page cache. Needs numpy.

  python3 bench/read_once_bench.py --before BUILD_A --after BUILD_B --work DIR [--files 8] [--gigabytes 1] [--threads 2,8,16,64] [--repeats 5] [--cold]

BUILD is a build folder with tools/; --gigabytes is the size of a file. Outputs are compared by bytes first. A row for each number of
threads and bound on memory: medians of wall seconds of both builds, the median of the ratios B / A of adjacent runs and their range,
the same for CPU seconds, and what each build had storage read, in sizes of the source (read_bytes of /proc/PID/io; "-" where that is
hidden). --cold drops the source from the page cache before each run: only then is there something to read.
"""
import argparse
import filecmp
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from pipeline_bench import drop_cache, write_checkpoint


def sharded(work, files, gigabytes):
    """A directory of `files` copies of one synthetic file, whose tensors have names of their own."""
    folder = work / f"sharded-{files}x{gigabytes}GB"
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return folder
    source = write_checkpoint(work, gigabytes)
    with open(source, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    folder.mkdir(parents=True, exist_ok=True)
    names = {}
    for shard in range(1, files + 1):
        path = folder / f"model-{shard:05}-of-{files:05}.safetensors"
        text = json.dumps({name if name == "__metadata__" else f"part{shard}.{name}": entry for name, entry in header.items()}).encode()
        text += b" " * (-len(text) % 8)
        with open(source, "rb") as read, open(path, "wb") as write:
            write.write(len(text).to_bytes(8, "little") + text)
            read.seek(8 + length)
            while piece := read.read(16 << 20):
                write.write(piece)
        names |= {f"part{shard}.{name}": path.name for name in header if name != "__metadata__"}
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def run(command):
    """Wall seconds, CPU seconds, bytes read."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = process.stderr.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.monotonic() - began
    try:
        # Of a process that has ended and was not waited for yet.
        counters = pathlib.Path(f"/proc/{process.pid}/io").read_text()
        read = int(counters.split("read_bytes: ")[1].split()[0])
    except (OSError, IndexError):
        read = None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {process.returncode}: {message.decode(errors='replace')}")
    return seconds, usage.ru_utime + usage.ru_stime, read


def spread(ratios):
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=pathlib.Path, required=True)
    parser.add_argument("--after", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--threads", default=str(os.cpu_count()))
    parser.add_argument("--memory", default="512MiB,2GiB,16GiB")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    model = sharded(arguments.work, arguments.files, arguments.gigabytes)
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    outputs = [arguments.work / "before.q4", arguments.work / "after.q4"]
    print(f"{arguments.files} files, {size / 1e9:.2f} GB, {os.cpu_count()} cores, medians of {arguments.repeats} pairs", flush=True)
    print("| threads | --max-memory | before, s | after, s | wall, after / before | CPU, after / before | storage read before | after |")
    print("|---|---|---|---|---|---|---|---|")
    for threads in arguments.threads.split(","):
        for memory in arguments.memory.split(","):
            runs = [[], []]
            # The first pair warms the page cache and is compared, not counted.
            for repeat in range(arguments.repeats + 1):
                for side, build in enumerate((arguments.before, arguments.after)):
                    outputs[side].unlink(missing_ok=True)
                    for path in model.glob("*.safetensors") if arguments.cold else ():
                        drop_cache(path)
                    done = run([str(build / "tools/q4convert"), str(model), "-o", str(outputs[side]), "--device", "cpu", "--threads", threads,
                                "--max-memory", memory, "--progress", "none", "-q"])
                    if repeat:
                        runs[side].append(done)
                if not repeat and not filecmp.cmp(*outputs, shallow=False):
                    sys.exit("the outputs differ")
            walls, cpus = ([[one[i] for one in side] for side in runs] for i in (0, 1))
            read = ["-" if side[0][2] is None else f"{side[0][2] / size:.3f}" for side in runs]
            ratio = lambda sides: spread([b / a for a, b in zip(*sides)])
            print(f"| {threads} | {memory} | {statistics.median(walls[0]):.2f} | {statistics.median(walls[1]):.2f} | {ratio(walls)} | {ratio(cpus)}"
                  f" | {read[0]} | {read[1]} |", flush=True)


if __name__ == "__main__":
    main()
