#!/usr/bin/env python3
"""Checkpoints of 4-bit floats that are large, and interrupted.

    fp4_test.py TOOLS [--sanitized] [--table]

  - a transposed weight of gpt-oss, twice as large as the memory bound, is converted within it, to the same bytes by any bound and number
    of threads;
  - a conversion that is killed goes on to the bytes of an undisturbed run;
  - without --from-quantized nothing is written, and what needs none asks for none.
--table prints the figures.
"""

import argparse
import json
import pathlib
import random
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

CONFIG = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "torch_dtype": "bfloat16", "quantization_config": {"quant_method": "mxfp4"}}
# A process of its own, whose peak is that of its child.
RUNNER = ("import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); _, s, u = os.wait4(p.pid, 0);"
          "print(os.waitstatus_to_exitcode(s), u.ru_maxrss)")


def lay(folder, experts, rows, columns, layers):
    """Experts of `rows` times `columns` elements, stored transposed."""
    rng = random.Random(3)
    tensors = {}
    for layer in range(layers):
        at = f"model.layers.{layer}.mlp.experts.gate_up_proj"
        count = experts * rows * columns // 32
        tensors[at + "_blocks"] = ("U8", (experts, columns, rows // 32, 16), rng.randbytes(4096) * (count * 16 // 4096))
        tensors[at + "_scales"] = ("U8", (experts, columns, rows // 32), bytes(rng.choices(range(115, 125), k=256)) * (count // 256))
        tensors[at + "_bias"] = ("BF16", (experts, columns), bytes(2 * experts * columns))
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(st.tensor_file(tensors))
    (folder / "config.json").write_text(json.dumps(CONFIG))


def bounded(tools, work, arguments):
    """Experts of 2880 x 5760 as gpt-oss-20b has them; a bfloat16 copy of the three has 100 MB."""
    experts, rows, columns = (2, 640, 1024) if arguments.sanitized else (3, 2880, 5760)
    lay(work / "large", experts, rows, columns, 1)
    expected = None
    for bound, threads in (("48MiB", 1), ("96MiB", 2), ("1GiB", 2)):
        command = [str(tools.folder / "q4convert"), "large", "-o", f"{bound}.q4", "-q", "--from-quantized", "--max-memory", bound,
                   "--threads", str(threads), "--device", "cpu"]
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", RUNNER, *command], cwd=work, capture_output=True, text=True, check=True)
        seconds = time.monotonic() - start
        code, peak = done.stdout.split()
        check(code == "0", f"it is converted in {bound}", done.stderr[-1000:])
        if arguments.table:
            print(f"--max-memory {bound}, {threads} threads: {seconds:.2f} s, {2 * experts * rows * columns / seconds / 1e6:.0f} MB/s of bfloat16, "
                  f"{int(peak) / 1024:.0f} MiB")
        if not arguments.sanitized:
            most = {"48MiB": 48, "96MiB": 96, "1GiB": 1024}[bound] + 64
            check(int(peak) < most * 1024, f"in {bound} and its allowance", peak)
        content = (work / f"{bound}.q4").read_bytes()
        (work / f"{bound}.q4").unlink()
        check(expected in (None, content), "the same bytes by any bound")
        expected = content


def killed(tools, work):
    """Killed when the journal has something, and gone on with."""
    lay(work / "small", 2, 256, 1024, 24)
    command = [tools.folder / "q4convert", "small", "-o", "out.q4", "-q", "--sync-every", "256KiB", "--threads", "1", "--from-quantized", "--device", "cpu"]
    refused = subprocess.run([part for part in command if part != "--from-quantized"], cwd=work, capture_output=True, text=True, check=False)
    check(refused.returncode == 5 and "[Q4-5810]" in refused.stderr and "MXFP4" in refused.stderr, "leave is asked for", refused.stderr)
    check(not list(work.glob("out.q4*")), "nothing is written")
    subprocess.run(command, cwd=work, check=True)
    expected = (work / "out.q4").read_bytes()
    check_resumes(command, work, expected, tries=4, journal_bytes=2000)
    for arguments in (("q4verify", "out.q4", "--against", "small"), ("q4inspect", "small"), ("q4inspect", "small", "--lint"),
                      ("q4inspect", "out.q4", "--diff", "small")):
        done = subprocess.run([tools.folder / arguments[0], *arguments[1:]], cwd=work, capture_output=True, text=True, check=False)
        check(done.returncode in (0, 6) and "--from-quantized" not in done.stderr, f"{arguments[0]} needs no leave", done.stderr)
    check(subprocess.run([tools.folder / "q4verify", "out.q4", "--against", "small", "-q"], cwd=work, check=False).returncode == 0, "it is proved")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        tools = Tools(arguments.tools.resolve(), work)
        bounded(tools, work, arguments)
        killed(tools, work)
    print(f"fp4_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
