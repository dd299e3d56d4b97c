#!/usr/bin/env python3
"""A layer stored as floats of 8 or 4 bits and scales against the same layer in BF16, by bytes of BF16: conversions in turn, paired. Needs
numpy.

  python3 bench/fp8_bench.py --tools DIR --work DIR [--form fp8] [--experts 32] [--threads 2] [--repeats 7] [--block 128 128]

The layer is DeepSeek-V3's of experts (--experts of 256): matrices of 2048 x 7168, as FP8 with scales of blocks, or as MXFP4 or NVFP4 of
compressed-tensors; or gpt-oss's of experts (--experts of 128), MXFP4 in two tensors that are read transposed. The BF16 one is exported from
what the conversion of the other one keeps, so that both hold the same values; both containers have to have the same content identity before a time is
printed. Prints the medians of wall and CPU seconds of both, GB/s of BF16, and the median of the ratios of adjacent runs with its range.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import time

import numpy as np

WIDTH, HIDDEN = 2048, 7168


def fp8(rng, name, shape, block):
    """(key, dtype, array) of what a matrix is stored as."""
    # Codes of a normal distribution, but without the two that are NaN.
    codes = np.clip(64 + 16 * np.log2(np.abs(rng.standard_normal(shape, np.float32)) / 2 + 1e-3) / 2, 0, 126).astype(np.uint8)
    codes |= rng.integers(0, 2, shape, np.uint8) << 7
    grid = [-(-size // step) for size, step in zip(shape, block)]
    yield name, "F8_E4M3", codes
    yield name + "_scale_inv", "F32", rng.uniform(1e-4, 3e-4, grid).astype("<f4")


def packed(rng, shape):
    """Two codes of 4 bits in a byte, the last dimension halved."""
    return rng.integers(0, 256, (*shape[:-1], shape[-1] // 2), np.uint8)


def mxfp4(rng, name, shape, _):
    yield name + "_packed", "U8", packed(rng, shape)
    yield name + "_scale", "U8", rng.integers(118, 124, (shape[0], shape[1] // 32), np.uint8)


def nvfp4(rng, name, shape, _):
    yield name + "_packed", "U8", packed(rng, shape)
    yield name + "_scale", "F8_E4M3", rng.integers(64, 120, (shape[0], shape[1] // 16), np.uint8)
    yield name + "_global_scale", "F32", np.array([4096], "<f4")


FORMS = {"fp8": fp8, "mxfp4": mxfp4, "nvfp4": nvfp4}


def matrices(form, rng, experts, block):
    """(elements, [(key, dtype, array)]) of each matrix, or of all experts' in one."""
    place = "model.layers.3.mlp.experts"
    if form == "gpt-oss":
        for name, rows, columns in (("gate_up_proj", 5760, 2880), ("down_proj", 2880, 2880)):
            codes = rng.integers(0, 256, (experts, rows, columns // 32, 16), np.uint8)
            scales = rng.integers(118, 124, (experts, rows, columns // 32), np.uint8)
            yield experts * rows * columns, [(f"{place}.{name}_blocks", "U8", codes), (f"{place}.{name}_scales", "U8", scales)]
        return
    for expert in range(experts):
        for part, shape in (("gate_proj", (WIDTH, HIDDEN)), ("up_proj", (WIDTH, HIDDEN)), ("down_proj", (HIDDEN, WIDTH))):
            yield WIDTH * HIDDEN, list(FORMS[form](rng, f"{place}.{expert}.{part}.weight", shape, block))


def section(form, block):
    if form in ("fp8", "gpt-oss"):
        return {"quant_method": "fp8", "weight_block_size": list(block)} if form == "fp8" else {"quant_method": "mxfp4"}
    weights = {"num_bits": 4, "type": "float", "symmetric": True, "group_size": 16 if form == "nvfp4" else 32,
               "strategy": "tensor_group" if form == "nvfp4" else "group", "dynamic": False}
    return {"quant_method": "compressed-tensors", "format": f"{form}-pack-quantized", "quantization_status": "compressed",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}}


def write(folder, form, experts, block):
    """The number of elements."""
    rng = np.random.default_rng(1)
    header, end, total = {}, 0, 0
    folder.mkdir(parents=True)
    # The header comes first and is known last, so that no more than a matrix is held.
    with open(folder / "payload", "wb") as file:
        for elems, parts in matrices(form, rng, experts, block):
            for key, dtype, array in parts:
                header[key] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
                end += array.nbytes
                array.tofile(file)
            total += elems
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file, open(folder / "payload", "rb") as payload:
        file.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(payload, file, 1 << 20)
    (folder / "payload").unlink()
    model = "gpt_oss" if form == "gpt-oss" else "deepseek_v3"
    (folder / "config.json").write_text(json.dumps({"model_type": model, "quantization_config": section(form, block)}))
    return total


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
    parser.add_argument("--form", choices=(*FORMS, "gpt-oss"), default="fp8")
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--block", type=int, nargs=2, default=(128, 128))
    arguments = parser.parse_args()
    tools, work = arguments.tools, arguments.work
    form, block = arguments.form, arguments.block
    kind = form + (f" in blocks of {block[0]} x {block[1]}" if form == "fp8" else "")
    name = f"{form}-{arguments.experts}" + (f"-{block[0]}x{block[1]}" if form == "fp8" else "")
    leave = () if form == "fp8" else ("--from-quantized",)
    sources = [work / name, work / (name + "-bf16")]
    elems = write(sources[0], form, arguments.experts, block)
    run(tools / "q4convert", sources[0], "-o", work / "kept.q4", "--exclude", ".*", "-q", "--force", *leave)
    run(tools / "q4export", work / "kept.q4", "--to", "safetensors", "-o", sources[1], "-q")
    (work / "kept.q4").unlink()
    (sources[1] / "q4_export.json").unlink(missing_ok=True)
    outputs = [work / "stored.q4", work / "bf16.q4"]
    # Experts in one tensor are kept by default.
    options = ("-q", "--force", "--threads", arguments.threads, *(("--include", "experts") if form == "gpt-oss" else ()))
    commands = [(tools / "q4convert", source, "-o", output, *options, *more)
                for source, output, more in zip(sources, outputs, (leave, ()))]
    for command in commands:  # into the page cache
        run(*command)
    if content(tools, outputs[0]) != content(tools, outputs[1]):
        raise SystemExit("the containers differ")
    times = [[], []]
    for repeat in range(arguments.repeats):
        for which in (0, 1) if repeat % 2 == 0 else (1, 0):
            times[which].append(run(*commands[which]))
    gigabytes = 2 * elems / 1e9
    print(f"{gigabytes:.2f} GB of BF16, {kind}, {arguments.threads} threads")
    for label, runs in zip((form, "BF16"), times):
        wall, cpu = (statistics.median(values) for values in zip(*runs))
        print(f"{label:>7}: {wall:.2f} s, {cpu:.2f} s of CPU, {gigabytes / wall:.2f} GB/s of BF16")
    for label, index in (("wall", 0), ("CPU", 1)):
        ratios = sorted(b[index] / a[index] for a, b in zip(*times))
        print(f"speed of {form} in that of BF16, {label}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
