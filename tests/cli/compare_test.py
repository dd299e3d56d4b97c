#!/usr/bin/env python3
"""q4convert --compare: what a row says is what the conversion makes, to the last bit and byte; the marks follow their rules; options
restrict; the printed command is the chosen row's; one result however it runs; nothing is written; what is refused.

Usage: compare_test.py DIR [--sanitized]     the folder of the tools
"""

import json
import math
import os
import pathlib
import random
import shlex
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import safetensors_bytes  # noqa: E402
import torch_bytes  # noqa: E402
import checks  # noqa: E402
from calibration_bytes import calibration_file, metadata_of, tensors_of  # noqa: E402
from checks import check  # noqa: E402
from gguf_bytes import gguf  # noqa: E402
from tools import Tools  # noqa: E402

SANITIZED = "--sanitized" in sys.argv
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"


def values(elems, seed, outliers=0.0):
    rng = random.Random(seed)
    return [rng.gauss(0, 0.02) * (1 + outliers * (i % 97 == 0)) for i in range(elems)]


def bf16(numbers):
    return b"".join(struct.pack("<f", number)[2:] for number in numbers)


def write(tools, name, tensors):
    folder = tools.work / name
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(safetensors_bytes.tensor_file(tensors))
    (folder / "config.json").write_text(json.dumps(CONFIG))


def compare(tools, source, *options, code=0):
    before = sorted(path for path in tools.work.rglob("*"))
    done = tools.run("q4convert", source, "--compare", "--json", *options, code=code)
    check(sorted(path for path in tools.work.rglob("*")) == before, "nothing is written", options)
    return json.loads(done.stdout) if code == 0 else done.stderr


def words_of(row):
    return ["--type", row["type"], "--block-size", str(row["block_size"]), "--double-quant" if row["double_quant"] else "--no-double-quant",
            "--encoder", row["encoder"]]  # fmt: skip


def check_row(tools, source, row, *options, tensors=None):
    """The conversion with the row's settings has its figures."""
    done = tools.run("q4convert", source, "-o", "row.q4", "--force", "--json", *words_of(row), *options)
    report = json.loads(done.stdout)
    totals = report["totals"]
    check(totals["nmse"] == row["nmse"] and totals["sqnr_db"] == row["sqnr_db"], "errors as recorded, to the bit", row, totals["nmse"])
    check(report["output_bytes"] == row["output_bytes"] or not row["output_bytes_exact"], "bytes", row, report["output_bytes"])
    check(report["output_bytes"] == (tools.work / "row.q4").stat().st_size, "of the file")
    quantized = [tensor for tensor in report["tensors"] if "stats" in tensor]
    check(len(quantized) == row["quantized_tensors"] == (tensors or len(quantized)), "tensors", row)
    worst = max((tensor["stats"]["nmse"], tensor["name"]) for tensor in quantized)
    check(row["worst_nmse"] == worst[0] and row["worst_tensor"] == worst[1], "the worst tensor", row, worst)
    plan = json.loads(tools.run("q4convert", source, "-o", "none.q4", "--dry-run", "--json", *words_of(row), *options).stdout)
    bits = 8 * sum(tensor["bytes"] for tensor in plan["tensors"] if tensor["quantized"])
    if row["output_bytes_exact"]:
        check(math.isclose(bits / row["quantized_weights"], row["bits_per_weight"], rel_tol=1e-12), "bits per weight", row, bits)


def check_marks(document):
    rows = document["rows"]
    error = lambda row: row["output_nmse"] if document["calibrated"] else row["nmse"]  # noqa: E731
    check(rows == sorted(rows, key=lambda row: (row["output_bytes"], error(row))), "by bytes, then error")
    bits = lambda row: row["bits_per_weight"]  # noqa: E731
    for row in rows:
        beaten = any((bits(o) <= bits(row) and error(o) < error(row)) or (bits(o) < bits(row) and error(o) == error(row)) for o in rows)
        check(row["best_for_its_size"] != beaten, "Pareto", row)
    check(any(row["best_for_its_size"] for row in rows), "some row is the best of its bits")
    worth = lambda row: -10 * math.log10(error(row)) - 6.02 * row["bits_per_weight"]  # noqa: E731
    chosen = [row for row in rows if row["chosen"]]
    check(len(chosen) == 1 and all(worth(row) <= worth(chosen[0]) for row in rows), "chosen by its rule", chosen)
    return chosen[0]


def test_rows_are_conversions(tools):
    document = compare(tools, "model")
    check(document["document"] == "q4convert-comparison" and document["version"] == 1, "what it is")
    settings = {(row["type"], row["block_size"], row["double_quant"], row["encoder"]) for row in document["rows"]}
    all_of_them = {(t, b, d, e) for t in ("nf4", "fp4") for b in (32, 64, 128, 256) for d in (True, False) for e in ("absmax", "mse")}
    check(settings == all_of_them and len(document["rows"]) == 32, "every combination once", settings)
    for row in document["rows"][:: 5 if SANITIZED else 1]:
        check_row(tools, "model", row)
    chosen = check_marks(document)
    command = document["command"]
    check(command[:4] == ["q4convert", "model", "-o", f"model-{chosen['type']}.q4"], "a command", command)
    done = tools.run(*command, "--json")
    report = json.loads(done.stdout)
    check(report["totals"]["nmse"] == chosen["nmse"] and report["output_bytes"] == chosen["output_bytes"], "which makes the chosen row")
    verified = json.loads(tools.run("q4verify", command[3], "--against", "model", "--require-proof", "--json").stdout)
    check(verified["model"]["nmse"] == chosen["nmse"] and verified["model"]["sqnr_db"] == chosen["sqnr_db"], "as q4verify finds it")
    text = tools.run("q4convert", "model", "--compare", "-o", "two words.q4").stdout
    line = text.rstrip().splitlines()[-1]
    check(shlex.split(line)[:4] == ["q4convert", "model", "-o", "two words.q4"], "the last line is the command", line)
    check(shlex.split(line)[4:] == command[4:], "the same one", line, command)
    check(text.count("\n*") + text.count("\n  *") >= 1 and "SQNR" in text and "6.02 dB" in text, "a table with its legend", text)


def test_options_count(tools):
    """What a conversion is told besides is told to every row, and to the command."""
    (tools.work / "mine.json").write_text(json.dumps({"rules": [
        {"match": "k_proj", "block_size": 32, "double_quant": False}, {"match": "v_proj", "keep": True}, {"match": "up_proj", "encoder": "mse"},
    ]}))  # fmt: skip
    common = ("--recipe", "mine.json", "--exclude", r"layers\.1\.mlp", "--keep-dtype", "fp32", "--effort", "1", "--shard-size", "20kB")
    document = compare(tools, "model", *common, "--type", "nf4", "--double-quant")
    check(len(document["rows"]) == 8, "what is asked for is not varied", len(document["rows"]))
    expected = ["--effort=1", "--exclude=layers\\.1\\.mlp", "--recipe=mine.json", "--keep-dtype=fp32", "--shard-size=20000"]
    check(document["command"][-5:] == expected, "the command says them", document["command"])
    row = next(row for row in document["rows"] if row["chosen"])
    tools.run(*document["command"][:3], "sharded.q4", *document["command"][4:])
    size = sum(path.stat().st_size for path in tools.work.glob("sharded-*.q4"))
    check(size == row["output_bytes"], "all parts together", size, row)
    for row in document["rows"][:: 3 if SANITIZED else 1]:
        done = tools.run("q4convert", "model", "-o", "row.q4", "--force", "--json", *words_of(row), *common[:-2])
        check(json.loads(done.stdout)["totals"]["nmse"] == row["nmse"], "with a recipe", row)
    one = compare(tools, "model", "--type", "fp4", "--block-size", "512", "--no-double-quant", "--encoder", "absmax", "--compress", "zstd")
    check(len(one["rows"]) == 1 and not one["rows"][0]["output_bytes_exact"] and one["rows"][0]["chosen"], "one row is a comparison, too")
    check_row(tools, "model", one["rows"][0], "--compress", "zstd")
    absmax = compare(tools, "model", "--encoder", "absmax")
    check("--effort=1" not in absmax["command"] and len(absmax["rows"]) == 16, "no effort for what does not search")


def test_however_it_runs(tools):
    def same(*options):
        document = compare(tools, "large", *options)
        for row in document["rows"]:
            row.pop("core_seconds")
        return document

    rows = 64 if SANITIZED else 600
    write(tools, "large", {UP: ("BF16", (rows, 1024), bf16(values(4096, 5, 3)) * (rows // 4)), DOWN: ("BF16", (120, 96), bf16(values(120 * 96, 6, 9)))})
    base = ("--effort", "1", "--type", "nf4")
    first = same(*base, "--threads", "1")
    check(same(*base, "--threads", "7") == first, "threads")
    check(same(*base, "--threads", "2", "--max-memory", "2MiB") == first, "memory")
    if not SANITIZED:
        os.environ["Q4_CPU_TARGET"] = "SSE4"
        check(same(*base) == first, "kernels")
        del os.environ["Q4_CPU_TARGET"]
    note = tools.run("q4convert", "large", "--compare", "--device", "cuda:0", *base[2:], "--encoder", "absmax").stderr
    check("cores" in note, "where it was compared", note)


def test_odd_weights(tools):
    nan = struct.pack("<H", 0x7FC0)
    tensors = {
        UP: ("BF16", (16, 64), bf16(values(1023, 1)) + nan),
        DOWN: ("BF16", (16, 64), bf16([0.0] * 1024)),
        "model.layers.1.mlp.up_proj.weight": ("F32", (33, 31), struct.pack("<1023f", *values(1023, 2))),
        # Double-quantized scales decode to infinity, plain ones do not (numerics Q5.12).
        "model.layers.2.mlp.up_proj.weight": ("F16", (64, 64), struct.pack("<4096e", *[65504.0 if i % 64 == 0 else (i % 50) * 1000.0 for i in range(4096)])),
    }
    write(tools, "odd", tensors)
    refused = compare(tools, "odd", code=3)
    check("Q4-4101" in refused and "element 1023" in refused, "as a conversion says it", refused)
    document = compare(tools, "odd", "--on-nonfinite", "keep")
    check(all(row["quantized_tensors"] == 3 and not row["output_bytes_exact"] for row in document["rows"]), "kept, which data decides")
    for row in document["rows"][:: 6 if SANITIZED else 2]:
        check_row(tools, "odd", row, "--on-nonfinite", "keep", tensors=3)
    write(tools, "zeros", {UP: ("BF16", (16, 64), bf16([0.0] * 1024))})
    zeros = compare(tools, "zeros")
    check(all(row["nmse"] == 0 and row["sqnr_db"] is None and row["worst_tensor"] is None for row in zeros["rows"]), "nothing is lost of zeros")
    tools.run("q4convert", "zeros", "--compare")


def test_calibrated(tools):
    """With a calibration: rows of weighted, and the error that counts is that of the layers' outputs."""
    rng = random.Random(3)
    moments = [2 ** rng.gauss(0, 2) for _ in range(128)]
    numbers = struct.unpack("<6144f", struct.pack("<6144f", *values(6144, 21, 5)))
    write(tools, "weighed", {UP: ("F32", (48, 128), struct.pack("<6144f", *numbers)), DOWN: ("BF16", (128, 48), bf16(values(6144, 22, 5)))})
    (tools.work / "c.safetensors").write_bytes(calibration_file({UP: moments}))
    document = compare(tools, "weighed", "--calibration", "c.safetensors")
    check(document["calibrated"] and len(document["rows"]) == 48, "three encoders", len(document["rows"]))
    chosen = check_marks(document)
    check(chosen["encoder"] == "weighted" and "--calibration=c.safetensors" in document["command"], "weighted wins where its error counts", chosen)
    by = {(row["type"], row["block_size"], row["double_quant"], row["encoder"]): row for row in document["rows"]}
    for (kind, size, nested, encoder), row in by.items():
        check(encoder != "weighted" or row["output_nmse"] <= by[kind, size, nested, "mse"]["output_nmse"] * (1 + 1e-9), "weighted loses least", row)
    wanted = [row for row in document["rows"] if row["block_size"] == 64 and row["type"] == "nf4"]
    for row in wanted:
        options = ("--calibration", "c.safetensors") if row["encoder"] == "weighted" else ()
        check_row(tools, "weighed", row, *options)
        tools.run("q4export", "row.q4", "-o", "row.safetensors", "--to", "safetensors", "--dtype", "fp32", "--force")
        data = (tools.work / "row.safetensors").read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        begin, end = json.loads(data[8 : 8 + length])[UP]["data_offsets"]
        decoded = struct.unpack("<6144f", data[8 + length + begin : 8 + length + end])
        weights = [max(moment, 0) for moment in moments]
        lost = sum(weights[i % 128] * (x - y) ** 2 for i, (x, y) in enumerate(zip(numbers, decoded)))
        have = sum(weights[i % 128] * x * x for i, x in enumerate(numbers))
        check(math.isclose(row["output_nmse"], lost / have, rel_tol=1e-5), "the error of the output", row, lost / have)
    # A Hessian, without which feedback is no feedback.
    matrix = [moments[i] if i == j else 0.0 for i in range(128) for j in range(128)]
    described = {**tensors_of({UP: moments}), f"{UP}.hessian": ("F32", (128, 128), safetensors_bytes.floats(*matrix))}
    (tools.work / "h.safetensors").write_bytes(safetensors_bytes.tensor_file(described, metadata_of({UP: UP})))
    refused = compare(tools, "weighed", "--calibration", "h.safetensors", "--encoder", "feedback", code=5)
    check("Q4-5350" in refused and UP in refused, "feedback is refused by name", refused)
    (tools.work / "feedback.json").write_text(json.dumps({"rules": [{"match": "up_proj", "encoder": "feedback"}]}))
    check("Q4-5350" in compare(tools, "weighed", "--calibration", "h.safetensors", "--recipe", "feedback.json", code=5), "of a recipe, too")
    check(len(compare(tools, "weighed", "--calibration", "h.safetensors", "--type", "nf4", "--effort", "1")["rows"]) == 24, "the others are compared")


def test_every_kind_of_source(tools):
    """What is not stored as it is read is compared as it is read."""
    rng = random.Random(9)
    scales = struct.pack("<4f", *[rng.random() for _ in range(4)])
    codes = bytes(rng.choices(range(0x10, 0x70), k=256 * 256))
    write(tools, "fp8", {UP: ("F8_E4M3", (256, 256), codes), f"{UP}_scale_inv": ("F32", (2, 2), scales)})
    section = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    (tools.work / "fp8/config.json").write_text(json.dumps(CONFIG | section))
    # Transposed in its storage, so that it is no run of bytes.
    numbers = values(96 * 64, 11, 5)
    (tools.work / "torch").mkdir()
    pickle = torch_bytes.state((UP, torch_bytes.tensor((64, 96), strides=(1, 64), elements=6144)))
    (tools.work / "torch/pytorch_model.bin").write_bytes(torch_bytes.checkpoint(pickle, [struct.pack("<6144f", *numbers)]))
    (tools.work / "torch/config.json").write_text(json.dumps(CONFIG))
    (tools.work / "llama.gguf").write_bytes(gguf({"blk.0.ffn_up.weight": (64, 96, numbers)}))
    (tools.work / "adapter").mkdir()
    (tools.work / "adapter/adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": ["up_proj"]}))
    lora = {f"base_model.model.{UP[:-7]}.lora_A.weight": ("F32", (4, 256), struct.pack("<1024f", *values(1024, 12))),
            f"base_model.model.{UP[:-7]}.lora_B.weight": ("F32", (60, 4), struct.pack("<240f", *values(240, 13)))}  # fmt: skip
    (tools.work / "adapter/adapter_model.safetensors").write_bytes(safetensors_bytes.tensor_file(lora))
    (tools.work / "parts").mkdir()
    weights = {UP: ("BF16", (64, 96), bf16(numbers)), DOWN: ("BF16", (96, 64), bf16(values(6144, 14)))}
    for i, (name, tensor) in enumerate(weights.items()):
        (tools.work / f"parts/model-{i + 1:05}-of-00002.safetensors").write_bytes(safetensors_bytes.tensor_file({name: tensor}))
    places = {name: f"model-{i + 1:05}-of-00002.safetensors" for i, name in enumerate(weights)}
    (tools.work / "parts/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (tools.work / "parts/config.json").write_text(json.dumps(CONFIG))
    for source, *options in (("fp8",), ("torch",), ("llama.gguf",), ("model", "--adapter", "adapter"), ("parts",), ("parts/model.safetensors.index.json",)):
        document = compare(tools, source, "--effort", "1", *options)
        by_settings = {row["settings"]: row for row in document["rows"]}
        for settings in ("nf4 b64 dq", "fp4 b32 mse", "nf4 b128 dq mse"):
            row = by_settings[settings]
            check_row(tools, source, row, *options, *(("--effort", "1") if row["encoder"] == "mse" else ()))
    check("Q4-5" in compare(tools, "adapter", code=5), "an adapter alone is none")
    (tools.work / "pipeline").mkdir()
    (tools.work / "pipeline/model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}))
    (tools.work / "pipeline/transformer").mkdir()
    (tools.work / "pipeline/transformer/config.json").write_text(json.dumps({"_class_name": "FluxTransformer2DModel"}))
    file = safetensors_bytes.tensor_file({"proj_mlp.weight": ("BF16", (64, 96), bf16(numbers))})
    (tools.work / "pipeline/transformer/diffusion_pytorch_model.safetensors").write_bytes(file)
    # Of one component, a pipeline has its rows: tests/cli/pipeline_calibrated_test.py has several.
    whole, alone = compare(tools, "pipeline"), compare(tools, "pipeline/transformer")
    for row in whole["rows"] + alone["rows"]:
        row.pop("core_seconds")
        row["worst_tensor"] = row["worst_tensor"].removeprefix("transformer/")
    check(whole["rows"] == alone["rows"], "a pipeline of one component has the rows of that", whole["rows"][:2], alone["rows"][:2])


def test_refused(tools):
    for option in (("--report", "r.json"), ("--dry-run",), ("--force",), ("--target-bpw", "4.2"), ("--gate", "default"), ("--max-nmse", "1"), ("--write-recipe", "x")):
        refused = compare(tools, "model", *option, code=1)
        check(option[0] in refused and "--compare" in refused, "does not go with it", option, refused)
    tools.run("q4convert", "model", "-o", "packed.q4", "--force")
    check("Q4-1755" in compare(tools, "packed.q4", code=1), "a container is packed anew")
    again = compare(tools, "packed.q4", "--from-quantized", "--encoder", "absmax")
    check(again["command"][3] == f"packed-{next(row['type'] for row in again['rows'] if row['chosen'])}.q4" and "--from-quantized" in again["command"], "unless it is quantized again", again["command"])
    check_row(tools, "packed.q4", next(row for row in again["rows"] if row["chosen"]), "--from-quantized")
    tools.run("q4export", "packed.q4", "-o", "bnb", "--to", "bnb", "--no-card")
    check("Q4-1652" in compare(tools, "bnb", code=1), "what is taken over has its settings")
    check("Q4-1652" in compare(tools, "model", "--exclude", ".", code=1), "nothing to quantize")
    done = tools.run("q4convert", "packed.q4", code=1)
    check("give one by -o" in done.stderr, "without --compare an output is asked for", done.stderr)
    check("Q4-1960" in compare(tools, "model", "--encoder", "absmax", "--effort", "3", code=1), "an effort that nothing makes")


def main():
    folder = pathlib.Path([word for word in sys.argv[1:] if not word.startswith("--")][0]).resolve()
    with tempfile.TemporaryDirectory(prefix="q4-compare-") as work:
        tools = Tools(folder, pathlib.Path(work))
        tensors = {}
        for i in range(2):
            for j, (name, rows, columns, outliers) in enumerate([
                ("self_attn.q_proj", 32, 256, 0), ("self_attn.k_proj", 16, 256, 4), ("self_attn.v_proj", 16, 256, i),
                ("mlp.gate_proj", 60, 256, 1), ("mlp.up_proj", 60, 256, 9), ("mlp.down_proj", 96, 121, 30),
            ]):  # fmt: skip
                tensors[f"model.layers.{i}.{name}.weight"] = ("BF16", (rows, columns), bf16(values(rows * columns, 10 * i + j, outliers)))
        tensors["model.norm.weight"] = ("BF16", (96,), bf16([1.0] * 96))
        write(tools, "model", tensors)
        for test in (test_rows_are_conversions, test_options_count, test_however_it_runs, test_odd_weights, test_calibrated, test_every_kind_of_source, test_refused):
            test(tools)
        print(f"compare: {checks.count()} checks hold")


if __name__ == "__main__":
    main()
