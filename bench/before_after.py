#!/usr/bin/env python3
"""Whether a change made the tools slower or hungrier: two builds, in turn, on one checkpoint. Needs numpy.

  python3 bench/before_after.py --before BUILD_A --after BUILD_B --work /tmp/q4bench [--gigabytes 1] [--repeats 7] [--threads 2]

BUILD is a build folder with tools/ (and bench/kernels_bench, if kernels are to be compared). What the builds write is compared by
bytes first; a job whose outputs differ is not timed, and the exit status is 1. Then the runs go A B A B ...: a row for each job with
the median of the ratios B / A of adjacent runs, for CPU seconds (user and system, of the process), wall seconds and peak memory.
"""
import argparse
import filecmp
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from pipeline_bench import write_checkpoint


def run(command):
    """CPU seconds, wall seconds, peak bytes of one process."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {process.returncode}: {message.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began, 1024 * usage.ru_maxrss


def jobs(model, work, threads):
    """name -> (the arguments, with the output as the last, and what is needed from the job `convert` of the same build)."""
    few = ["--threads", str(threads), "--progress", "none", "-q"]
    convert = lambda *options: lambda bin, out: [bin / "q4convert", model, "-o", out / "model.q4", "--force", "--device", "cpu", *few, *options]
    container = lambda out: out.parent / "convert" / "model.q4"
    return {
        "convert": convert(),
        "convert, 256MiB": convert("--max-memory", "256MiB"),
        "convert, fp4, fp32 scales": convert("--type", "fp4", "--no-double-quant"),
        "convert, zstd": convert("--compress", "zstd"),
        "verify": lambda bin, out: [bin / "q4verify", container(out), *few],
        "verify against the source": lambda bin, out: [bin / "q4verify", container(out), "--against", model, *few],
        "inspect": lambda bin, out: [bin / "q4inspect", container(out), "--stats"],
        "inspect, one tensor decoded": lambda bin, out: [
            bin / "q4inspect", container(out), "--tensor", "model.layers.0.mlp.up_proj.weight", "--dump", "0:1000000"],
        "export bnb": lambda bin, out: [bin / "q4export", container(out), "--to", "bnb", "-o", out / "bnb", "--force", *few],
        "export bf16": lambda bin, out: [
            bin / "q4export", container(out), "--to", "safetensors", "--dtype", "bf16", "-o", out / "plain.safetensors", "--force", *few],
    }


def same_files(a, b):
    """Whether two folders hold the same files."""
    names = [sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file()) for root in (a, b)]
    return names[0] == names[1] and all(filecmp.cmp(a / name, b / name, shallow=False) for name in names[0])


def kernels(builds, repeats, which):
    """The rows of kernels_bench, best of `repeats` runs of each build in turn: name -> (A, B) in elements per second."""
    rates = {}
    for _ in range(repeats):
        for side, build in enumerate(builds):
            text = subprocess.run([build / "bench" / "kernels_bench", f"--benchmark_filter={which}", "--benchmark_min_time=0.2",
                                   "--benchmark_format=json"], check=True, capture_output=True, text=True).stdout
            for row in json.loads(text)["benchmarks"]:
                sides = rates.setdefault(row["name"], [0.0, 0.0])
                sides[side] = max(sides[side], row["items_per_second"])
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=pathlib.Path, required=True)
    parser.add_argument("--after", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kernels", metavar="RE", help="compare these rows of kernels_bench too, e.g. 'AVX3.*nf4'")
    options = parser.parse_args()

    model = write_checkpoint(options.work, options.gigabytes).parent
    builds = (options.before.resolve(), options.after.resolve())
    print(f"{options.gigabytes} GB in bf16, {options.threads} threads, {options.repeats} pairs; median of after / before (and their range)")
    print(f"{'':28} {'CPU time':>22} {'wall time':>22} {'peak memory':>12}")
    different = 0
    for name, command in jobs(model, options.work, options.threads).items():
        outs = [options.work / side / name.split(",")[0].replace(" ", "_") for side in ("before", "after")]
        samples = []
        for repeat in range(options.repeats + 1):  # the first warms up, and its outputs are compared
            pair = []
            for build, out in zip(builds, outs):
                out.mkdir(parents=True, exist_ok=True)
                pair.append(run(command(build / "tools", out)))
            if repeat == 0 and not same_files(*outs):
                print(f"{name:28} outputs DIFFER")
                different += 1
                break
            if repeat > 0:
                samples.append([b / a for a, b in zip(*pair)])
        if samples:
            cells = [f"{statistics.median(column):.3f} ({min(column):.2f} to {max(column):.2f})" for column in zip(*samples)]
            memory = f"{statistics.median(column[2] for column in samples):.3f}"
            print(f"{name:28} {cells[0]:>22} {cells[1]:>22} {memory:>12}", flush=True)
    if options.kernels:
        print("\nkernels, G elements/s, best of the runs: before, after, ratio")
        for name, (a, b) in kernels(builds, options.repeats, options.kernels).items():
            print(f"{name:70} {a / 1e9:9.3f} {b / 1e9:9.3f} {b / a:6.2f}")
    shutil.rmtree(options.work / "before")
    shutil.rmtree(options.work / "after")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
