#!/usr/bin/env python3
"""Measures a whole conversion on GPUs, and the loading of its result: a Llama-2-7B-shaped bf16 checkpoint (13.5 GB, 3 shards) of
normal weights. Needs the tools and load_bench of a CUDA build, torch and numpy.

  python3 bench/gpu_pipeline_bench.py --build build --work /tmp/q4gpu [--layers 32] [--repeats 5] [--device cuda] [--peers]

Before anything is timed, the container made by the GPU is compared with the CPU's by SHA-256. --peers also measures transformers
with bitsandbytes: from_pretrained(load_in_4bit=True) followed by save_pretrained, and loading what that saved. Prints one JSON
document; progress goes to stderr.
"""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import numpy
from pipeline_bench import bench_arguments, drop_cache, layer_tensors, run, sha256_of
from safetensors_bytes import sparse_header  # on the path since pipeline_bench

HIDDEN, INTERMEDIATE, VOCABULARY = 4096, 11008, 32000
SHARD_BYTES = 5_000_000_000
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
}


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def tensors_of(layers):
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(layers):
        yield from layer_tensors(layer, HIDDEN, INTERMEDIATE)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def bytes_of(shape):
    return 2 * int(numpy.prod(shape))


def write_checkpoint(directory, layers):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(1)
    shards, size = [[]], 0
    for name, shape in tensors_of(layers):
        if size + bytes_of(shape) > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += bytes_of(shape)
    directory.mkdir(parents=True)
    weight_map = {}
    for number, tensors in enumerate(shards, 1):
        file_name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= {name: file_name for name, _ in tensors}
        head, _ = sparse_header({name: ("BF16", shape) for name, shape in tensors}, {"format": "pt"}, alignment=8)
        with open(directory / file_name, "wb") as file:
            file.write(head)
            for _, shape in tensors:
                values = torch.randn(shape, generator=generator, device=device) * 0.02
                file.write(values.to(torch.bfloat16).cpu().view(torch.int16).numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
    total = sum(bytes_of(shape) for _, shape in tensors_of(layers))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": layers}))


def drop_caches(directory):
    for path in directory.iterdir():
        drop_cache(path)


def write_seconds(path, total):
    """Seconds to write and sync `total` bytes: what the disk allows a conversion."""
    block = os.urandom(8 << 20)
    start = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for _ in range(total // len(block)):
            file.write(block)
        os.fsync(file.fileno())
    seconds = time.monotonic() - start
    path.unlink()
    return seconds


def read_seconds(directory, threads):
    """Seconds in which `threads` copies of a plain reader read the checkpoint together."""
    script = "import os,sys\nb=bytearray(8<<20)\nfor p,first,step in [a.split(':') for a in sys.argv[1:]]:\n" \
             " f=os.open(p,os.O_RDONLY); n=os.fstat(f).st_size; at=int(first)*len(b)\n" \
             " while at<n: os.preadv(f,[b],at); at+=int(step)*len(b)\n"
    files = sorted(directory.glob("*.safetensors"))
    start = time.monotonic()
    children = [subprocess.Popen([sys.executable, "-c", script] + [f"{path}:{i}:{threads}" for path in files])
                for i in range(threads)]
    for child in children:
        child.wait()
    return time.monotonic() - start


def convert(arguments, source, output, device, digest):
    """A conversion to a new file: freeing the pages and blocks of an old one would be part of its replacement."""
    output.unlink(missing_ok=True)
    return run([str(arguments.build / "tools/q4convert"), str(source), "-o", str(output), "--force", "--device", device,
                "--source-digest", digest, "--max-memory", arguments.max_memory, "-q"])


def peers(source, work, repeats):
    """Seconds of transformers with bitsandbytes, each step in a process of its own, as a pipeline would run it."""
    save = work / "bnb"
    quantize = f"""
import torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained({str(source)!r}, device_map={{"": 0}}, dtype=torch.bfloat16,
    quantization_config=transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                                        bnb_4bit_compute_dtype=torch.bfloat16))
torch.cuda.synchronize()
model.save_pretrained({str(save)!r})
"""
    load = f"""
import time, torch, transformers
torch.zeros(1, device="cuda")
start = time.monotonic()
model = transformers.AutoModelForCausalLM.from_pretrained({str(save)!r}, device_map={{"": 0}}, dtype=torch.bfloat16)
torch.cuda.synchronize()
print(time.monotonic() - start)
"""
    bare = f"""
import glob, time, torch, safetensors
torch.zeros(1, device="cuda")
start = time.monotonic()
tensors = {{}}
for path in glob.glob({str(save)!r} + "/*.safetensors"):
    with safetensors.safe_open(path, "pt", device="cuda:0") as file:
        for name in file.keys():
            tensors[name] = file.get_tensor(name)
torch.cuda.synchronize()
print(time.monotonic() - start)
"""
    result = {}

    def timed(script):
        return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()[-1])

    for cold in (True, False):
        kind = "cold" if cold else "warm"
        samples = []
        for _ in range(repeats):
            shutil.rmtree(save, ignore_errors=True)
            if cold:
                drop_caches(source)
            samples.append(run([sys.executable, "-c", quantize]))
        result[f"quantize and save, {kind}"] = {"seconds": statistics.median(s[0] for s in samples), "peak_rss_bytes": max(s[2] for s in samples)}
        for name, script in (("from_pretrained", load), ("safetensors", bare)):
            times = []
            for _ in range(repeats):
                if cold:
                    drop_caches(save)
                times.append(timed(script))
            result[f"{name}, {kind}"] = {"seconds": statistics.median(times)}
        say(f"peers, {kind}: {result}")
    return result


def main():
    parser = bench_arguments(__doc__, repeats=5)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--max-memory", default="1GiB", help="beside it CUDA holds some 0.6 GB of its own")
    parser.add_argument("--output", type=pathlib.Path, help="folder for containers; default: that of --work")
    parser.add_argument("--peers", action="store_true")
    arguments = parser.parse_args()
    source = arguments.work / f"llama-{arguments.layers}"
    if not source.exists():
        say("writing the checkpoint")
        write_checkpoint(source, arguments.layers)
    total = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    result = {"bytes": total, "cores": os.cpu_count(), "repeats": arguments.repeats, "runs": {}}
    for threads in (1, 8):
        for cold in (True, False):
            if cold:
                drop_caches(source)
            speed = total / read_seconds(source, threads)
            result[f"read_{'cold' if cold else 'warm'}_{threads}_bytes_per_second"] = round(speed)
    result["write_and_sync_bytes_per_second"] = round((3 << 30) / write_seconds(arguments.work / "probe", 3 << 30))
    say(json.dumps(result))

    folder = arguments.output or arguments.work
    output, reference = folder / "out.q4", folder / "reference.q4"
    on_cpu = convert(arguments, source, reference, "cpu", "sha256")
    convert(arguments, source, output, arguments.device, "sha256")
    result["sha256"] = sha256_of(output)
    if result["sha256"] != sha256_of(reference):
        sys.exit("the container made by the GPU is not the one made by the CPU")
    result["output_bytes"] = output.stat().st_size
    result["runs"]["cpu, sha256, warm"] = {"seconds": round(on_cpu[0], 3), "peak_rss_bytes": on_cpu[2]}
    say(f"containers are equal; on the CPU {on_cpu}")
    for digest in ("sha256", "xxh3"):
        for cold in (True, False):
            samples = []
            for _ in range(arguments.repeats):
                if cold:
                    drop_caches(source)
                samples.append(convert(arguments, source, output, arguments.device, digest))
            name = f"{arguments.device}, {digest}, {'cold' if cold else 'warm'}"
            result["runs"][name] = {
                "seconds": round(statistics.median(s[0] for s in samples), 3),
                "fastest": round(min(s[0] for s in samples), 3),
                "cpu_seconds": round(statistics.median(s[1] for s in samples), 3),
                "peak_rss_bytes": max(s[2] for s in samples),
            }
            say(f"{name}: {result['runs'][name]}")
    if arguments.peers:
        result["peers"] = peers(source, arguments.work, max(1, arguments.repeats // 2))
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
