"""Times q4inspect's summary of a container with very many tensors.

    python inspect_bench.py --bin DIR [--tensors 100000] [--runs 10]

Makes a checkpoint of that many tensors (three of four are quantized: [2, 64], the others [64]), converts it, checks that
the summary counts them all, and prints wall and CPU time of the whole process `q4inspect FILE`, of `q4inspect FILE
--json` and `--tree`. CPU time counts all threads. Beside it, if the package is there: safetensors' safe_open and keys()
on the source checkpoint in this process, without Python's start. The load average tells how quiet the machine was.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))
from safetensors_bytes import floats, sparse_header  # noqa: E402


def write_checkpoint(path, tensors):
    named = {}
    for i in range(tensors):
        layer, expert = divmod(i // 4, 256)
        name = f"model.layers.{layer}.mlp.experts.{expert}.{('gate_proj', 'up_proj', 'down_proj', 'norm')[i % 4]}.weight"
        named[name] = ("F32", [64] if i % 4 == 3 else [2, 64])
    head, size = sparse_header(named)
    block = floats(*((i * 37 % 101 - 50) / 997 for i in range(64)))
    with open(path, "wb") as file:
        file.write(head)
        file.write(block * ((size - len(head)) // len(block)))


def cpu_seconds():
    """Of this process and of the children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def best_and_median(seconds):
    return f"best {1000 * min(seconds):.1f} ms, median {1000 * statistics.median(seconds):.1f} ms"


def timed(runs, job):
    """What `job` takes in `runs` runs, as text."""
    wall, cpu = [], []
    for _ in range(runs):
        start, cpu_start = time.perf_counter(), cpu_seconds()
        job()
        wall.append(time.perf_counter() - start)
        cpu.append(cpu_seconds() - cpu_start)
    return f"{best_and_median(wall)}; CPU {best_and_median(cpu)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--tensors", type=int, default=100000)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, container = pathlib.Path(folder) / "model.safetensors", pathlib.Path(folder) / "model.q4"
        write_checkpoint(source, arguments.tensors)
        start = time.perf_counter()
        subprocess.run([arguments.bin / "q4convert", source, "-o", container, "--progress", "none", "-q"], check=True,
                       stdout=subprocess.DEVNULL)
        print(f"converted {arguments.tensors} tensors, {source.stat().st_size / 1e6:.1f} MB -> "
              f"{container.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - start:.1f} s")

        def inspect(*words):
            return subprocess.run([arguments.bin / "q4inspect", container, *words], check=True, capture_output=True).stdout

        if json.loads(inspect("--json"))["tensor_count"] != arguments.tensors:
            sys.exit("the summary does not count all tensors")
        print(f"{arguments.runs} runs each, load average {os.getloadavg()[0]:.2f}")
        print(f"q4inspect:        {timed(arguments.runs, inspect)}")
        print(f"q4inspect --json: {timed(arguments.runs, lambda: inspect('--json'))}")
        print(f"q4inspect --tree: {timed(arguments.runs, lambda: inspect('--tree'))}")
        start_alone = timed(arguments.runs, lambda: subprocess.run([arguments.bin / "q4inspect", "--version"],
                                                                   check=True, capture_output=True))
        print(f"process start:    {start_alone}")
        try:
            import safetensors
        except ImportError:
            print("safetensors is not installed: not compared")
            return

        def keys():
            with safetensors.safe_open(source, framework="np") as file:
                if len(file.keys()) != arguments.tensors:
                    sys.exit("safetensors does not list all tensors")

        print(f"safe_open, keys:  {timed(arguments.runs, keys)}")
        print(f"load average at the end {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
