#!/usr/bin/env python3
"""What planning a part of a 671B model and merging its shards take.

  parts_at_scale.py TOOLS [--folder DIR] [--most-seconds S]

The checkpoint has the names, shapes and files of DeepSeek-V3 in BF16 (45,000 tensors in 163 files of 1.34 TB, which are holes). Prints seconds and peak
memory of a part that has nothing to do but the plan. Then, of a model of the same names and files and small shapes that is converted in one part, those of `--merge` and `--status`. Exits 1 where
planning exceeds S seconds of CPU (1) or 100 MB, or merging 2 S: other work on the machine does not count.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "cli")]
import fp8_test  # noqa: E402
from safetensors_bytes import sparse_header  # noqa: E402

CONFIG = {key: value for key, value in fp8_test.CONFIG.items() if key != "quantization_config"}


def tensors():
    yield "model.embed_tokens.weight", ("BF16", (129280, fp8_test.HIDDEN))
    for number in range(fp8_test.LAYERS):
        for name, (_, shape) in fp8_test.layer(number):
            if not name.endswith("_scale_inv"):
                yield name, ("BF16", shape)
    yield "lm_head.weight", ("BF16", (129280, fp8_test.HIDDEN))


def write_checkpoint(folder, small):
    """Files of about equal numbers of bytes, as of the true shapes."""
    folder.mkdir()
    named = list(tensors())
    total = sum(2 * shape[0] * (shape[1] if len(shape) > 1 else 1) for _, (_, shape) in named)
    files, weight_map, size = [{} for _ in range(fp8_test.FILES)], {}, 0
    for name, (dtype, shape) in named:
        number = min(size * fp8_test.FILES // total, fp8_test.FILES - 1)
        size += 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        files[number][name] = (dtype, tuple(min(64, side) for side in shape) if small else shape)
        weight_map[name] = f"model-{number + 1:05}-of-{fp8_test.FILES:06}.safetensors"
    for number, tensors_of_file in enumerate(files, 1):
        head, length = sparse_header(tensors_of_file)
        with open(folder / f"model-{number:05}-of-{fp8_test.FILES:06}.safetensors", "wb") as file:
            file.write(head)
            file.truncate(length)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return len(named), total


def run(*command):
    """Seconds, CPU seconds, and the peak of the resident set in bytes."""
    start = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command}: status {status}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--most-seconds", type=float, default=1)
    args = parser.parse_args()
    convert = args.tools / "q4convert"
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        work = pathlib.Path(folder)
        count, total = write_checkpoint(work / "large", small=False)
        plan, plan_cpu, plan_memory = min(run(convert, work / "large", "-o", work / "x.q4", "--part", f"{fp8_test.FILES}/{fp8_test.FILES + 1}", "-q") for _ in range(3))
        print(f"plan of a part: {count} tensors, {fp8_test.FILES} files, {total / 1e12:.3f} TB: {plan:.2f} s ({plan_cpu:.2f} s of CPU), {plan_memory / 1e6:.0f} MB")
        write_checkpoint(work / "small", small=True)
        seconds, cpu, _ = run(convert, work / "small", "-o", work / "m.q4", "--part", "0/1", "-q", "--progress", "none")
        print(f"all {fp8_test.FILES} shards of small tensors: {seconds:.1f} s ({cpu:.1f} s of CPU)")
        status, _, _ = run(convert, "--status", work / "m.q4")
        records = sum(file.stat().st_size for file in (work / "m.q4.parts").iterdir())
        merge, merge_cpu, merge_memory = run(convert, "--merge", work / "m.q4", "-q")
        print(f"records of {records / 1e6:.1f} MB: --status {status:.2f} s, --merge {merge:.2f} s ({merge_cpu:.2f} s of CPU), {merge_memory / 1e6:.0f} MB")
    return int(plan_cpu > args.most_seconds or plan_memory > 100e6 or merge_cpu > 2 * args.most_seconds)


if __name__ == "__main__":
    sys.exit(main())
