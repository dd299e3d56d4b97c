"""bitsandbytes on a tensor like that of bench/cuda_kernels_bench.cu: 16384 x 65536 bf16, NF4, block size 64.
Median of 25, CUDA events.

Run it in the same session as cuda_kernels_bench, on the same device."""
import statistics
import sys

import bitsandbytes as bnb
import bitsandbytes.functional as F
import torch


def median_seconds(work, runs=25):
    for _ in range(3):
        work()
    times = []
    for _ in range(runs):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(times)


def report(name, n, seconds):
    print(f"bitsandbytes {name:40s} {seconds * 1e3:8.3f} ms {n / seconds * 1e-9:8.1f} G el/s", flush=True)


def main():
    print(f"bitsandbytes {bnb.__version__}, torch {torch.__version__}, {torch.cuda.get_device_name()}")
    rows, columns = (int(v) for v in sys.argv[1:3]) if len(sys.argv) > 2 else (16384, 65536)
    x = 0.02 * torch.randn(rows, columns, dtype=torch.bfloat16, device="cuda")
    n = x.numel()
    for nested in (False, True):
        label = "nested " if nested else ""
        report(f"quantize nf4 bf16 b64 {label}", n, median_seconds(
            lambda: F.quantize_4bit(x, blocksize=64, quant_type="nf4", compress_statistics=nested)))
        q, state = F.quantize_4bit(x, blocksize=64, quant_type="nf4", compress_statistics=nested)
        report(f"dequantize to bf16 b64 {label}", n, median_seconds(lambda: F.dequantize_4bit(q, state)))


if __name__ == "__main__":
    main()
