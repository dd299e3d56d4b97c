#!/usr/bin/env python3
"""Checkpoints of 8-bit floats as large ones come, and interrupted.

    fp8_test.py TOOLS [--sanitized] [--table]

  - a DeepSeek-V3-shaped checkpoint of 163 sparse files and 92,000 stored tensors is planned soon and in little memory;
  - a conversion that is killed goes on, and one whose section says another size of blocks since begins again: the bytes are those of an
    undisturbed run either way.
--table prints the figures.
"""

import argparse
import json
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
import safetensors_bytes as st  # noqa: E402
from checks import check  # noqa: E402
from interrupted import check_resumes  # noqa: E402
from tools import Tools  # noqa: E402

HIDDEN, EXPERTS, LAYERS, DENSE, FILES = 7168, 256, 61, 3, 163
CONFIG = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
          "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}}


def linear(name, rows, columns):
    yield f"{name}.weight", ("F8_E4M3", (rows, columns))
    yield f"{name}.weight_scale_inv", ("F32", (-(-rows // 128), -(-columns // 128)))


def mlp(name, width):
    for part in ("gate_proj", "up_proj"):
        yield from linear(f"{name}.{part}", width, HIDDEN)
    yield from linear(f"{name}.down_proj", HIDDEN, width)


def layer(number):
    at = f"model.layers.{number}"
    for name, rows, columns in (("q_a_proj", 1536, HIDDEN), ("q_b_proj", 24576, 1536), ("kv_a_proj_with_mqa", 576, HIDDEN),
                                ("kv_b_proj", 32768, 512), ("o_proj", HIDDEN, 16384)):
        yield from linear(f"{at}.self_attn.{name}", rows, columns)
    for name, size in (("self_attn.q_a_layernorm", 1536), ("self_attn.kv_a_layernorm", 512), ("input_layernorm", HIDDEN),
                       ("post_attention_layernorm", HIDDEN)):
        yield f"{at}.{name}.weight", ("BF16", (size,))
    if number < DENSE:
        return (yield from mlp(f"{at}.mlp", 18432))
    yield f"{at}.mlp.gate.weight", ("BF16", (EXPERTS, HIDDEN))
    yield f"{at}.mlp.gate.e_score_correction_bias", ("F32", (EXPERTS,))
    for expert in range(EXPERTS):
        yield from mlp(f"{at}.mlp.experts.{expert}", 2048)
    yield from mlp(f"{at}.mlp.shared_experts", 2048)
    return None


def lay_large(folder):
    """The number of stored tensors and how many are weights."""
    tensors = [("model.embed_tokens.weight", ("BF16", (129280, HIDDEN))), ("model.norm.weight", ("BF16", (HIDDEN,))),
               ("lm_head.weight", ("BF16", (129280, HIDDEN)))]
    for number in range(LAYERS):
        tensors += layer(number)
    folder.mkdir()
    weight_map = {}
    # By turns, so that nearly every scale lies in another file than its weight.
    for number in range(FILES):
        name = f"model-{number + 1:05}-of-{FILES:06}.safetensors"
        part = dict(tensors[number::FILES])
        head, size = st.sparse_header(part)
        with open(folder / name, "wb") as file:
            file.write(head)
            file.truncate(size)
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return len(tensors), sum(name.endswith("_scale_inv") for name, _ in tensors)


def planned(tools, work, arguments):
    count, weights = lay_large(work / "large")
    check(count > 90_000, "it is large", count)
    # A process of its own, whose peak and times are those of its child.
    command = [str(tools.folder / "q4convert"), str(work / "large"), "-o", str(work / "x.q4"), "--dry-run", "--max-memory", "2GiB"]
    runner = ("import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); _, s, u = os.wait4(p.pid, 0);"
              "print(os.waitstatus_to_exitcode(s), u.ru_utime + u.ru_stime, u.ru_maxrss)")
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", runner, *command], capture_output=True, text=True, check=True)
    wall = time.monotonic() - start
    code, seconds, peak = done.stdout.split()
    check(code == "0", "it is planned", done.stderr[-1000:])
    check(f"{weights:,} tensors stored as 8-bit floats, read as BF16" in done.stderr, "the weights are counted", done.stderr[-1000:])
    if arguments.table:
        print(f"{count} stored tensors in {FILES} files: {float(seconds):.2f} s of processor time, {wall:.2f} s, {int(peak) / 1024:.0f} MiB")
    if not arguments.sanitized:
        check(float(seconds) < 8, "soon", seconds)
        check(int(peak) < 256 * 1024, "in little memory", peak)
    shutil.rmtree(work / "large")


def lay_small(folder, seed, block=128):
    rng = random.Random(seed)
    tensors = {}
    for number in range(24):
        codes = bytes(rng.choices(range(0x10, 0x70), k=512)) * (1024 * 1024 // 512)
        tensors[f"model.layers.{number}.mlp.up_proj.weight"] = ("F8_E4M3", (1024, 1024), codes)
        tensors[f"model.layers.{number}.mlp.up_proj.weight_scale_inv"] = ("F32", (8, 8), st.floats(*[rng.random() for _ in range(64)]))
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(st.tensor_file(tensors))
    section(folder, block)


def section(folder, block):
    text = {"model_type": "llama", "quantization_config": {"quant_method": "fp8", "weight_block_size": [block, block]}}
    (folder / "config.json").write_text(json.dumps(text))


def killed(tools, work):
    """Killed when the journal has something, and gone on with."""
    lay_small(work / "small", 1)
    command = [tools.folder / "q4convert", "small", "-o", "out.q4", "-q", "--sync-every", "256KiB", "--threads", "1"]
    subprocess.run(command, cwd=work, check=True)
    expected = (work / "out.q4").read_bytes()
    check_resumes(command, work, expected, tries=6, journal_bytes=2000)
    (work / "out.q4").unlink()
    # 8 x 8 scales by blocks of 127 would be 9 x 9: the section has to fit. Blocks that cover as many are another model.
    section(work / "small", 130)
    subprocess.run(command, cwd=work, check=True)
    check((work / "out.q4").read_bytes() != expected, "another size of blocks is another model")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 512), hard), hard))
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        tools = Tools(arguments.tools.resolve(), work)
        planned(tools, work, arguments)
        killed(tools, work)
    print(f"fp8_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
