#!/usr/bin/env python3
"""How long a model of transformers takes to load, and how much memory: from_pretrained of the exported directory against
q4.transformers.load of the container, in one run, warm and cold.

    transformers_load_bench.py --work DIR [--shape tiny|1b|7b] [--device cpu|cuda:0] [--repeats N] [--cold]

Needs q4 (PYTHONPATH=build/python), torch, transformers 5, accelerate, bitsandbytes. A Llama of that shape is made with random
weights, converted (NF4, double quantization) and exported under --work, where a second run finds it. Every load is a process of its
own, which imports everything and starts CUDA before its clock starts. Two times are told: until the model is returned, and until every page of
it was touched, since from_pretrained maps files on a CPU and reads nothing before. Before any figure, one process loads both ways and compares all
parameters bit for bit. --cold asks the system to forget the files before each load (POSIX_FADV_DONTNEED), which it does where nobody
else has them open. Prints a table and a line of JSON.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

SHAPES = {
    "tiny": dict(hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4, vocab_size=1024),
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, vocab_size=32000),
    "7b": dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32, vocab_size=32000),
}


def files_of(work):
    return work / "model.q4", work / "exported"


def make(work, shape, device):
    """The container and its export."""
    import q4

    container, exported = files_of(work)
    if container.is_file() and (exported / "config.json").is_file():
        return
    make_source(work / "source", shape, device)
    q4.convert(work / "source", container, force=True)
    q4.export(container, exported, to="bnb", force=True)


def make_source(source, shape, device):
    """A checkpoint of random weights. They are written layer by layer, so that 7B need no 14 GB of memory."""
    import safetensors.torch
    import torch
    import transformers

    if (source / "model.safetensors.index.json").is_file():
        return
    source.mkdir(parents=True, exist_ok=True)
    config = transformers.LlamaConfig(**SHAPES[shape], dtype="bfloat16", architectures=["LlamaForCausalLM"])
    config.save_pretrained(source)
    with torch.device("meta"):
        state = transformers.LlamaForCausalLM(config).state_dict()
    groups = {}
    for name, tensor in state.items():
        groups.setdefault(name.split(".")[2] if ".layers." in name else "rest", {})[name] = tensor.shape
    weight_map = {}
    generator = torch.Generator(device).manual_seed(0)
    for number, group in enumerate(groups.values(), 1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        tensors = {name: torch.empty(size, dtype=torch.bfloat16, device=device).normal_(0, 0.02, generator=generator).cpu() for name, size in group.items()}
        safetensors.torch.save_file(tensors, source / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(group, file)
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def loader(way, work, device):
    container, exported = files_of(work)
    if way == "q4":
        import q4.transformers

        return lambda: q4.transformers.load(container, device_map=device)
    import transformers

    return lambda: transformers.AutoModelForCausalLM.from_pretrained(exported, device_map=device)


def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class PeakOfMemory(threading.Thread):
    """The most resident memory above the level at the start, anonymous and of mapped files, looked at a hundred times a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.base, self.peak, self.done = resident(), 0, threading.Event()

    def run(self):
        while not self.done.wait(0.01):
            self.peak = max(self.peak, resident() - self.base)

    def stop(self):
        self.done.set()
        self.join()
        return max(self.peak, resident() - self.base)


def ready(device):
    """Imports and CUDA's start, which no clock and no level counts."""
    import bitsandbytes  # noqa: F401
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if device.startswith("cuda"):
        torch.zeros(1, device=device)
        torch.cuda.synchronize(device)
    # What transformers imports only when the first model is made.
    transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1, vocab_size=8))
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return torch


def measure(way, work, device):
    torch = ready(device)
    load = loader(way, work, device)
    cuda = device.startswith("cuda")
    memory = PeakOfMemory()
    memory.start()
    begin = time.perf_counter()
    model = load()
    if cuda:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - begin
    # from_pretrained maps its files on a CPU, and the first forward pass reads them: only what was touched is there.
    for tensor in model.state_dict().values():
        tensor.contiguous().flatten().view(torch.uint8)[::4096].sum().item()
    touched = time.perf_counter() - begin
    result = {"way": way, "seconds": seconds, "touched_seconds": touched, "host_bytes": memory.stop(), "parameters": sum(p.numel() for p in model.parameters())}
    if cuda:
        result |= {"reserved_bytes": torch.cuda.max_memory_reserved(device), "card": torch.cuda.get_device_name(device)}
    print(json.dumps(result))


def compare(work, device):
    torch = ready(device)
    ours, theirs = (loader(way, work, device)().state_dict() for way in ("q4", "peer"))
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())[:3]
    for name, tensor in theirs.items():
        assert tensor.dtype == ours[name].dtype and torch.equal(tensor, ours[name]), name
    print(json.dumps({"equal": len(theirs)}))


def child(*arguments):
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def forget(work):
    container, exported = files_of(work)
    for file in (container, *exported.glob("*.safetensors")):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--step", choices=("source", "make", "compare", "q4", "peer"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.step == "source":
        make_source(a.work / "source", a.shape, a.device)
        print("{}")
        return
    if a.step == "make":
        make(a.work, a.shape, a.device)
        print("{}")
        return
    if a.step == "compare":
        return compare(a.work, a.device)
    if a.step:
        return measure(a.step, a.work, a.device)
    common = ("--work", a.work, "--shape", a.shape, "--device", a.device)
    child(*common, "--step", "make")
    equal = child(*common, "--step", "compare")["equal"]
    container, _ = files_of(a.work)
    print(f"shape {a.shape}, {a.device}, file {container.stat().st_size / 1e9:.3f} GB; {equal} tensors equal both ways")
    results = {}
    for state in ("warm", "cold") if a.cold else ("warm",):
        for way in ("peer", "q4"):
            runs = []
            for _ in range(a.repeats):
                if state == "cold":
                    forget(a.work)
                runs.append(child(*common, "--step", way))
            best = results[f"{way}-{state}"] = min(runs, key=lambda run: run["seconds"])
            best["median_seconds"] = statistics.median(run["seconds"] for run in runs)
            best["touched_seconds"] = min(run["touched_seconds"] for run in runs)
            best["host_bytes"] = max(run["host_bytes"] for run in runs)
            reserved = f", reserved {best['reserved_bytes'] / 1e9:.3f} GB" if "reserved_bytes" in best else ""
            name = "from_pretrained" if way == "peer" else "q4.transformers.load"
            print(f"{state} {name:22} {best['seconds']:7.3f} s (median {best['median_seconds']:.3f}), until every page was touched {best['touched_seconds']:.3f} s, host + {best['host_bytes'] / 1e9:.3f} GB{reserved}")
        peer, ours = results[f"peer-{state}"], results[f"q4-{state}"]
        print(f"{state} ratio {peer['seconds'] / ours['seconds']:.2f} x, touched {peer['touched_seconds'] / ours['touched_seconds']:.2f} x")
    print(json.dumps({"shape": a.shape, "device": a.device, "file_bytes": container.stat().st_size, "equal": equal, "results": results}))


if __name__ == "__main__":
    main()
