#!/usr/bin/env python3
"""Measures q4verify beside plain reading of the same files: integrity alone, and --against the source.

  python3 bench/verify_bench.py --build BUILD --work DIR [--gigabytes 2] [--repeats 5]

Needs numpy. Each run of q4verify is compared with a plain read (8 MiB at a time, one thread) and with sha256sum right before it,
because a machine's speed drifts. From the page cache unless --cold. Prints one JSON document: medians of seconds, CPU seconds, peak
RSS, and "share", the median over the pairs of read seconds / q4verify's seconds.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from pipeline_bench import bench_arguments, drop_cache, read_seconds, run, write_checkpoint  # noqa: E402


def main():
    parser = bench_arguments(__doc__, repeats=5)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before each read and run")
    parser.add_argument("--convert", nargs=argparse.REMAINDER, default=[], help="further options of q4convert")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    source = write_checkpoint(arguments.work, arguments.gigabytes)
    container = arguments.work / "verify.q4"
    tools = arguments.build / "tools"
    subprocess.run([tools / "q4convert", source.parent, "-o", container, "--force", "-q", *arguments.convert], check=True)
    result = {"container_bytes": container.stat().st_size, "source_bytes": source.stat().st_size,
              "threads": os.cpu_count(), "cold": arguments.cold, "repeats": arguments.repeats, "runs": {}}
    whole = [container, source]
    kinds = {
        "integrity": ([container], []),
        "against": (whole, ["--against", source.parent]),
        "against, a sample of 5 %": (whole, ["--against", source.parent, "--sample", "5"]),
    }
    for kind, (files, words) in kinds.items():
        samples = []
        for _ in range(arguments.repeats):
            read = sum(read_seconds(path, arguments.cold) for path in files)
            digest, _, _ = run(["sha256sum", *map(str, files)])
            if arguments.cold:
                for path in files:
                    drop_cache(path)
            seconds, cpu, rss = run([str(tools / "q4verify"), str(container), *map(str, words), "-q"])
            samples.append((read, digest, seconds, cpu, rss, read / seconds))
        read, digest, seconds, cpu, rss, share = (statistics.median(column) for column in zip(*samples))
        size = sum(path.stat().st_size for path in files)
        result["runs"][kind] = {"read_seconds": read, "sha256sum_seconds": digest, "seconds": seconds, "cpu_seconds": cpu,
                                "peak_rss_bytes": rss, "gigabytes_per_second": size / seconds / 1e9, "share": share}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
