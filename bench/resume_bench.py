#!/usr/bin/env python3
"""Measures what an interruption costs: q4convert is killed when a share of its input is done, and run again; beside it an undisturbed run.
Needs the tools and numpy.

  python3 bench/resume_bench.py --build build/bench --work /tmp/q4bench [--gigabytes 4] [--at 0.9] [--repeats 3]

Prints one JSON document: CPU and wall seconds, and the bytes that the process asked the system to read and write, of the undisturbed run
and of the rerun; medians. The two outputs are compared first.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from pipeline_bench import bench_arguments, sha256_of, write_checkpoint


def transferred(pid):
    """Bytes read and written so far through system calls; survives in a zombie."""
    fields = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["rchar"]), int(fields["wchar"])


def convert(command, kill_when=None):
    """Runs it; kills it as soon as `kill_when()` holds. Returns CPU seconds, wall seconds, bytes read and written."""
    start = time.monotonic()
    process = subprocess.Popen([*command, "--progress", "none"], stdout=subprocess.DEVNULL)
    while kill_when is not None and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if kill_when():
            process.kill()
            break
        time.sleep(0.01)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    read, written = transferred(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if kill_when is None and process.returncode != 0:
        sys.exit(f"q4convert ended with {process.returncode}")
    return {"cpu_seconds": usage.ru_utime + usage.ru_stime, "wall_seconds": time.monotonic() - start,
            "read_bytes": read, "written_bytes": written}


def main():
    parser = bench_arguments(__doc__, repeats=3)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--at", type=float, default=0.9)
    args = parser.parse_args()
    model = write_checkpoint(args.work, args.gigabytes)
    outputs = args.work / "whole.q4", args.work / "resumed.q4"
    commands = [[str(args.build / "tools/q4convert"), str(model), "-o", str(output), "--device", "cpu"] for output in outputs]
    whole, rest, killed = [], [], 0
    for _ in range(args.repeats):
        for output in outputs:
            output.unlink(missing_ok=True)
        whole.append(convert(commands[0]))
        partial, enough = outputs[1].with_name("resumed.q4.partial"), args.at * outputs[0].stat().st_size
        convert(commands[1], lambda: partial.exists() and partial.stat().st_size >= enough)
        killed += outputs[1].with_name("resumed.q4.journal").exists()
        rest.append(convert(commands[1]))
        if sha256_of(outputs[0]) != sha256_of(outputs[1]):
            sys.exit("the resumed conversion gave other bytes")
    medians = [{key: statistics.median(run[key] for run in runs) for key in runs[0]} for runs in (whole, rest)]
    share = {key: round(medians[1][key] / medians[0][key], 3) for key in medians[0]}
    print(json.dumps({"gigabytes": args.gigabytes, "killed_at": args.at, "killed_with_journal": killed, "undisturbed": medians[0],
                      "rerun": medians[1], "rerun_over_undisturbed": share}, indent=2))


if __name__ == "__main__":
    main()
