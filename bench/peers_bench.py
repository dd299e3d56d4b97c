#!/usr/bin/env python3
"""Measures q4's CPU kernels beside bitsandbytes on the CPU: same machine, element type, code book, block size, number of
elements and threads, in turn. Needs a build with tools and kernels_bench (cmake --preset bench), and a Python with
bitsandbytes, safetensors, torch, xxhash and zstandard.

  python3 bench/peers_bench.py --build build/bench [--threads N] [--repeats 7] [--json FILE]

First both quantize the same tensor, and codes, scales and decoded values must be equal, or nothing is timed. Then each
repeat measures both, and the table shows medians. Both work in memory. kernels_bench writes into buffers that exist, but
bitsandbytes' CPU functions return new tensors; so it is also measured on a smaller tensor, whose memory is used again, and
the better figure counts.

Last dequantize_bench calls the dequantizer of bitsandbytes' library beside q4's, without Python, from the same inputs into
the same memory: results that fit into each cache and results that fit into none.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import bitsandbytes
import bitsandbytes.functional
import safetensors.torch
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/reference"))
import q4ref  # noqa: E402

BLOCK_SIZE = 64
SHAPE = (8192, 8192)  # as many elements as kernels_bench's tensor
SMALL_SHAPE, SMALL_CALLS = (2048, 2048), 8
# Its last block is not full. As rows are no multiple of 64, they must be none of 16 either: on AVX-512 bitsandbytes reads
# wrong scales of such (docs/export_bnb.md).
CHECKED_SHAPE = (1000, 1006)
OPERATIONS = {"quantize": "quantize", "quantize, nested scales": "quantize+nested", "dequantize": "dequantize"}


def weights(shape):
    return (0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(1))).to(torch.bfloat16)


def quantize(x, nested=False):
    return bitsandbytes.functional.quantize_4bit(x, blocksize=BLOCK_SIZE, quant_type="nf4", compress_statistics=nested)


def require_equal(build):
    """Exits unless q4convert and q4export give bitsandbytes' codes, scales and decoded values."""
    x = weights(CHECKED_SHAPE)
    packed, state = quantize(x)
    decoded = bitsandbytes.functional.dequantize_4bit(packed, state)
    with tempfile.TemporaryDirectory() as directory:
        source, container, export = (os.path.join(directory, name) for name in ("x.safetensors", "x.q4", "y.safetensors"))
        safetensors.torch.save_file({"x": x}, source)
        subprocess.run([build / "tools/q4convert", source, "-o", container, "--include", "x", "--no-double-quant", "-q"],
                       check=True)
        subprocess.run([build / "tools/q4export", container, "-o", export, "--to", "safetensors", "-q"], check=True)
        reader = q4ref.Container(pathlib.Path(container).read_bytes(), None)
        ours = safetensors.torch.load_file(export)["x"]
    tensor, = reader.tensors
    if reader.content(tensor, q4ref.CODES) != packed.numpy().tobytes():
        sys.exit("codes differ")
    if reader.content(tensor, q4ref.SCALES) != state.absmax.numpy().tobytes():
        sys.exit("scales differ")
    if not torch.equal(ours, decoded):
        sys.exit("decoded values differ")
    print(f"equal: codes, scales and decoded values of {x.numel()} elements")


def kernels_bench(build, *arguments):
    return subprocess.run([build / "bench/kernels_bench", *arguments], check=True, capture_output=True, text=True).stdout


def best_target(build):
    """The last backend that kernels_bench lists: it lists the fastest last."""
    return kernels_bench(build, "--benchmark_list_tests").split()[-1].split("/")[0]


def measure_q4(build, target, threads):
    """Elements per second of each operation."""
    names = "|".join(re.escape(name) for name in OPERATIONS.values())
    text = kernels_bench(build, f"--benchmark_filter=^{target}/({names})/bf16/nf4/real_time/threads:{threads}$",
                         "--benchmark_min_time=0.3", "--benchmark_format=json")
    speeds = {entry["name"].split("/")[1]: entry["items_per_second"] for entry in json.loads(text)["benchmarks"]}
    return {operation: speeds[name] for operation, name in OPERATIONS.items()}


def measure_bitsandbytes(x, calls):
    packed, state = quantize(x)
    operations = (lambda: quantize(x), lambda: quantize(x, nested=True),
                  lambda: bitsandbytes.functional.dequantize_4bit(packed, state))
    speeds = {}
    for name, operation in zip(OPERATIONS, operations):
        start = time.perf_counter()
        for _ in range(calls):
            operation()
        speeds[name] = calls * x.numel() / (time.perf_counter() - start)
    return speeds


def measure_both(build, target, threads, repeats):
    """Prints and returns the table of both libraries' operations."""
    large, small = weights(SHAPE), weights(SMALL_SHAPE)
    measure_bitsandbytes(small, 1)  # allocator and thread pool
    samples = []
    for _ in range(repeats):
        ours = measure_q4(build, target, threads)
        same, smaller = measure_bitsandbytes(large, 1), measure_bitsandbytes(small, SMALL_CALLS)
        samples.append((ours, {operation: max(same[operation], smaller[operation]) for operation in OPERATIONS}))

    print(f"{'median elements/s':26s} {'q4':>10s} {'bitsandbytes':>14s} {'ratio':>8s}   smallest and largest ratio of a repeat")
    results = {}
    for operation in OPERATIONS:
        pairs = [(ours[operation], theirs[operation]) for ours, theirs in samples]
        ours, theirs = (statistics.median(column) for column in zip(*pairs))
        ratios = [a / b for a, b in pairs]
        results[operation] = {"q4": ours, "bitsandbytes": theirs, "ratio": ours / theirs, "samples": pairs}
        print(f"{operation:26s} {ours / 1e9:8.3f} G {theirs / 1e9:12.4f} G {ours / theirs:8.1f}   "
              f"{min(ratios):.1f} to {max(ratios):.1f}")
    return results


def measure_dequantizers(build, target, threads, repeats):
    """Prints and returns what dequantize_bench measures, in which each thread calls each dequantizer in turn."""
    library = pathlib.Path(bitsandbytes.__file__).parent / "libbitsandbytes_cpu.so"
    text = subprocess.run([build / "bench/dequantize_bench", str(threads), str(repeats), library], check=True,
                          capture_output=True, text=True).stdout
    measured = json.loads(text)
    print(f"{'dequantize into, as':26s} {'q4':>10s} {'bitsandbytes':>14s} {'ratio':>8s}   G elements/s of the median call")
    for row in measured["results"]:
        ours, theirs = (row["speeds"][name]["median"] / 1e9 for name in (target, "bitsandbytes"))
        print(f"{row['shape'] + ', ' + row['dtype']:26s} {ours:8.3f} G {theirs:12.4f} G {row['ratio']:8.2f}")
    return measured


def processor():
    try:
        found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1) if found else platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1 or all processors (default)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dequantizers-only", action="store_true", help="only what dequantize_bench measures")
    parser.add_argument("--json", type=pathlib.Path, help="write conditions and samples to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    require_equal(arguments.build)
    target = best_target(arguments.build)
    conditions = {"processor": processor(), "target": target, "threads": arguments.threads, "repeats": arguments.repeats,
                  "elements": SHAPE[0] * SHAPE[1], "dtype": "bf16", "code_book": "nf4", "block_size": BLOCK_SIZE,
                  "bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__,
                  "torch_target": torch.backends.cpu.get_cpu_capability()}
    print(", ".join(f"{name} {value}" for name, value in conditions.items()))

    how = (arguments.build, target, arguments.threads, arguments.repeats)
    results = {} if arguments.dequantizers_only else measure_both(*how)
    dequantizers = measure_dequantizers(*how)
    print("load average", *os.getloadavg())
    if arguments.json:
        arguments.json.write_text(json.dumps({"conditions": conditions, "elements_per_second": results,
                                              "dequantizers": dequantizers}, indent=2) + "\n")


if __name__ == "__main__":
    main()
