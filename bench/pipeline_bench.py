#!/usr/bin/env python3
"""Measures a whole conversion: q4convert on a synthetic bf16 checkpoint, beside the speed of reading that file and the speed of
the kernels in memory. Needs the tools and kernels_bench (cmake --preset bench) and numpy.

  python3 bench/pipeline_bench.py --build build/bench --work /tmp/q4bench [--gigabytes 2] [--repeats 5]

Prints one JSON document. "share" is the conversion's speed over the slower of read and quantize speed: the median of pairs.
"""
import argparse
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))
from safetensors_bytes import sparse_header  # noqa: E402

HIDDEN, INTERMEDIATE, VOCABULARY = 2048, 5632, 32000


def layer_tensors(layer, hidden=HIDDEN, intermediate=INTERMEDIATE):
    """Names and shapes of one layer of a Llama."""
    prefix = f"model.layers.{layer}."
    yield prefix + "input_layernorm.weight", (hidden,)
    yield prefix + "mlp.down_proj.weight", (hidden, intermediate)
    yield prefix + "mlp.gate_proj.weight", (intermediate, hidden)
    yield prefix + "mlp.up_proj.weight", (intermediate, hidden)
    yield prefix + "post_attention_layernorm.weight", (hidden,)
    for name in "kqvo":
        yield prefix + f"self_attn.{name}_proj.weight", (hidden, hidden)


def write_checkpoint(directory, gigabytes):
    """A Llama-shaped model of normal weights, standard deviation 0.02, in bf16. Returns its path."""
    path = directory / f"synthetic-{gigabytes}GB" / "model.safetensors"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = [("model.embed_tokens.weight", (VOCABULARY, HIDDEN)), ("model.norm.weight", (HIDDEN,))]
    size = lambda shapes: sum(2 * int(numpy.prod(shape)) for _, shape in shapes)
    layer = 0
    while size(tensors) < gigabytes * 1e9:
        tensors += list(layer_tensors(layer))
        layer += 1
    head, _ = sparse_header({name: ("BF16", shape) for name, shape in tensors}, {"format": "pt"}, alignment=8)
    random = numpy.random.default_rng(1)
    with open(path, "wb") as file:
        file.write(head)
        for _, shape in tensors:
            left = int(numpy.prod(shape))
            while left:
                count = min(left, 1 << 22)
                bits = (random.standard_normal(count, dtype=numpy.float32) * numpy.float32(0.02)).view(numpy.uint32)
                file.write(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes())
                left -= count
        file.flush()
        os.fsync(file.fileno())
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
    (path.parent / "config.json").write_text(json.dumps(config))
    return path


def bench_arguments(description, repeats):
    """A parser of what every measurement of whole runs takes: where the build is, where it may write, how often it measures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--repeats", type=int, default=repeats)
    return parser


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def drop_cache(path):
    """Drops the file from the page cache, so that the next reader meets the disk."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_seconds(path, cold):
    if cold:
        drop_cache(path)
    buffer = bytearray(8 << 20)
    start = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.monotonic() - start


def run(command):
    """Wall seconds, CPU seconds and peak RSS in bytes of one child process."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed: {errors.decode(errors='replace')}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def kernel_speed(build, name, threads):
    """Elements per second of one benchmark of kernels_bench, on `threads` threads."""
    text = subprocess.run(
        [str(build / "bench/kernels_bench"), f"--benchmark_filter={name}", "--benchmark_format=json",
         "--benchmark_repetitions=3", "--benchmark_report_aggregates_only=true"],
        check=True, capture_output=True, text=True).stdout
    medians = [b for b in json.loads(text)["benchmarks"]
               if b.get("aggregate_name") == "median" and b.get("threads") == threads]
    if not medians:
        sys.exit(f"kernels_bench has no benchmark {name} on {threads} threads")
    return medians[0]["items_per_second"]


def main():
    parser = bench_arguments(__doc__, repeats=5)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--max-memory", default="256MiB")
    parser.add_argument("--kernel", default="", help="kernels_bench filter of what the conversion computes; empty: skip")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    source = write_checkpoint(arguments.work, arguments.gigabytes)
    bytes_read = source.stat().st_size
    elems = bytes_read // 2
    output = arguments.work / "out.q4"
    threads = os.cpu_count()
    result = {"bytes": bytes_read, "threads": threads, "repeats": arguments.repeats, "runs": {}}
    if arguments.kernel:
        result["kernel_elements_per_second"] = kernel_speed(arguments.build, arguments.kernel, threads)
    # A disk's speed drifts, so each conversion is compared with a plain read right before it.
    quantize_seconds = elems / result["kernel_elements_per_second"] if arguments.kernel else 0
    for cold in (True, False):
        kind = "cold" if cold else "warm"
        reads, samples = [], {"sha256": [], "xxh3": []}
        for _ in range(arguments.repeats):
            for digest, runs in samples.items():
                read = read_seconds(source, cold)
                if cold:
                    drop_cache(source)
                output.unlink(missing_ok=True)
                seconds, cpu, rss = run([str(arguments.build / "tools/q4convert"), str(source.parent), "-o", str(output),
                                         "--device", "cpu", "--max-memory", arguments.max_memory, "--source-digest", digest, "-q"])
                reads.append(read)
                runs.append((seconds, cpu, rss, max(read, quantize_seconds) / seconds))
        result[f"read_{kind}_bytes_per_second"] = bytes_read / statistics.median(reads)
        for digest, runs in samples.items():
            seconds = statistics.median(run[0] for run in runs)
            result["runs"][f"{digest}, {kind}"] = {
                "seconds": round(seconds, 3),
                "cpu_seconds": round(statistics.median(run[1] for run in runs), 3),
                "elements_per_second": elems / seconds,
                "peak_rss_bytes": max(run[2] for run in runs),
                "share": round(statistics.median(run[3] for run in runs), 3),
            }
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
