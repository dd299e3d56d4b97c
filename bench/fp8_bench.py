#!/usr/bin/env python3
"""A layer stored as 8-bit floats with block scales against the same layer in BF16, by bytes of BF16: conversions in turn, paired. Needs
numpy.

  python3 bench/fp8_bench.py --tools DIR --work DIR [--experts 32] [--threads 2] [--repeats 7] [--block 128 128]

The layer is DeepSeek-V3's of experts (--experts of 256): matrices of 2048 x 7168. The BF16 one is exported from what the conversion of
the 8-bit one keeps, so that both hold the same values; both containers have to have the same content identity before a time is
printed. Prints the medians of wall and CPU seconds of both, GB/s of BF16, and the median of the ratios of adjacent runs with its range.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

import numpy as np

WIDTH, HIDDEN = 2048, 7168


def write(folder, experts, block):
    """The number of elements."""
    rng = np.random.default_rng(1)
    header, payloads, end, elems = {}, [], 0, 0
    for expert in range(experts):
        for part, shape in (("gate_proj", (WIDTH, HIDDEN)), ("up_proj", (WIDTH, HIDDEN)), ("down_proj", (HIDDEN, WIDTH))):
            name = f"model.layers.3.mlp.experts.{expert}.{part}.weight"
            # Codes of a normal distribution, but without the two that are NaN.
            codes = np.clip(64 + 16 * np.log2(np.abs(rng.standard_normal(shape, np.float32)) / 2 + 1e-3) / 2, 0, 126).astype(np.uint8)
            codes |= rng.integers(0, 2, shape, np.uint8) << 7
            grid = [-(-size // step) for size, step in zip(shape, block)]
            scales = rng.uniform(1e-4, 3e-4, grid).astype("<f4")
            for key, dtype, array in ((name, "F8_E4M3", codes), (name + "_scale_inv", "F32", scales)):
                header[key] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
                end += array.nbytes
                payloads.append(array)
            elems += codes.size
    folder.mkdir(parents=True)
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in payloads:
            array.tofile(file)
    section = {"quant_method": "fp8", "weight_block_size": list(block)}
    (folder / "config.json").write_text(json.dumps({"model_type": "deepseek_v3", "quantization_config": section}))
    return elems


def run(*command):
    """Wall and CPU seconds."""
    began = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command} ends with {status}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime


def content(tools, path):
    done = subprocess.run([tools / "q4inspect", path, "--json"], capture_output=True, check=True, text=True)
    return json.loads(done.stdout)["content_sha256"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--block", type=int, nargs=2, default=(128, 128))
    arguments = parser.parse_args()
    tools, work = arguments.tools, arguments.work
    name = f"fp8-{arguments.experts}-{arguments.block[0]}x{arguments.block[1]}"
    sources = [work / name, work / (name + "-bf16")]
    elems = write(sources[0], arguments.experts, arguments.block)
    run(tools / "q4convert", sources[0], "-o", work / "kept.q4", "--exclude", ".*", "-q", "--force")
    run(tools / "q4export", work / "kept.q4", "--to", "safetensors", "-o", sources[1], "-q")
    (work / "kept.q4").unlink()
    (sources[1] / "q4_export.json").unlink(missing_ok=True)
    outputs = [work / "fp8.q4", work / "bf16.q4"]
    commands = [(tools / "q4convert", source, "-o", output, "-q", "--force", "--threads", arguments.threads)
                for source, output in zip(sources, outputs)]
    for command in commands:  # into the page cache
        run(*command)
    if content(tools, outputs[0]) != content(tools, outputs[1]):
        raise SystemExit("the containers differ")
    times = [[], []]
    for repeat in range(arguments.repeats):
        for which in (0, 1) if repeat % 2 == 0 else (1, 0):
            times[which].append(run(*commands[which]))
    gigabytes = 2 * elems / 1e9
    print(f"{gigabytes:.2f} GB of BF16, blocks of {arguments.block[0]} x {arguments.block[1]}, {arguments.threads} threads")
    for label, runs in zip(("8-bit", "BF16"), times):
        wall, cpu = (statistics.median(values) for values in zip(*runs))
        print(f"{label:>6}: {wall:.2f} s, {cpu:.2f} s of CPU, {gigabytes / wall:.2f} GB/s of BF16")
    for label, index in (("wall", 0), ("CPU", 1)):
        ratios = sorted(b[index] / a[index] for a, b in zip(*times))
        print(f"speed of 8-bit in that of BF16, {label}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
