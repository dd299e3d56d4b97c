#!/usr/bin/env python3
"""Measures q4convert --compare beside the conversions that it stands for, one after the other.

  python3 bench/compare_bench.py --build BUILD --work DIR [--gigabytes 0.2] [--threads 2]

Needs numpy. Checks that each row has the NMSE and the bytes of its conversion before it says a time. Prints one JSON document: seconds,
processor seconds and peak RSS of the comparison, those of the conversions together, and the ratios.
"""
import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from pipeline_bench import bench_arguments, run, write_checkpoint  # noqa: E402


def settings_of(row):
    return ["--type", row["type"], "--block-size", str(row["block_size"]), "--double-quant" if row["double_quant"] else "--no-double-quant",
            "--encoder", row["encoder"]]  # fmt: skip


def main():
    parser = bench_arguments(__doc__, repeats=1)
    parser.add_argument("--gigabytes", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    source, container = write_checkpoint(arguments.work, arguments.gigabytes).parent, arguments.work / "compare.q4"
    tool, how = str(arguments.build / "tools" / "q4convert"), ["--threads", str(arguments.threads)]
    result = {}
    for what, words in (("absmax", ["--encoder", "absmax"]), ("absmax and mse", [])):
        printed, report = arguments.work / "comparison.json", arguments.work / "report.json"
        command = f"'{tool}' '{source}' --compare --json -q {' '.join(words + how)} > '{printed}'"
        seconds, cpu, rss = run(["sh", "-c", command])
        rows, apart = json.loads(printed.read_text())["rows"], [0.0, 0.0]
        for row in rows:
            one = run([tool, str(source), "-o", str(container), "--force", "-q", "--report", str(report), *settings_of(row), *how])
            apart = [apart[0] + one[0], apart[1] + one[1]]
            told = json.loads(report.read_text())
            if (told["totals"]["nmse"], told["output_bytes"]) != (row["nmse"], row["output_bytes"]):
                sys.exit(f"{row['settings']}: the conversion has other figures")
            report.unlink()
        result[what] = {"rows": len(rows), "seconds": seconds, "cpu_seconds": cpu, "peak_rss_bytes": rss, "one_by_one_seconds": apart[0],
                        "one_by_one_cpu_seconds": apart[1], "ratio": seconds / apart[0], "cpu_ratio": cpu / apart[1]}  # fmt: skip
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
