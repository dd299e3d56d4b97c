#!/usr/bin/env python3
"""`q4convert --encoder mse` as it is used: proof, the same bytes however it runs, efforts, recipes, what is left to absmax.

Usage: encoder_test.py DIR [--sanitized]     the folder of the tools
"""

import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import safetensors_bytes  # noqa: E402
import checks  # noqa: E402
from checks import check  # noqa: E402
from interrupted import interrupt  # noqa: E402
from tools import Tools  # noqa: E402

SANITIZED = "--sanitized" in sys.argv
# Enough for several slabs, and where memory is short for two readings.
ROWS = 64 if SANITIZED else 4500


def normal(elems, seed):
    """bf16 bytes; a short sequence again and again, because Python is slow."""
    rng = random.Random(seed)
    words = [struct.pack("<f", rng.gauss(0, 0.02))[2:] for _ in range(min(elems, 40009))]
    piece = b"".join(words)
    return (piece * (2 * elems // len(piece) + 1))[: 2 * elems]


def model(path):
    bf16 = lambda *values: b"".join(struct.pack("<f", v)[2:] for v in values)  # noqa: E731
    tensors = {
        "model.layers.0.mlp.up_proj.weight": ("BF16", (ROWS, 1024), normal(ROWS * 1024, 1)),
        "model.layers.0.mlp.down_proj.weight": ("BF16", (77, 129), normal(77 * 129, 2)),
        # Two values and zero: absmax loses nothing of it.
        "model.layers.0.self_attn.q_proj.weight": ("BF16", (64, 96), bf16(0.5, -0.5, 0.0, 0.0) * (64 * 24)),
        "model.norm.weight": ("BF16", (64,), bf16(*[1.0] * 64)),
    }
    path.write_bytes(safetensors_bytes.tensor_file(tensors))


def tensors_of(tools, container):
    text = tools.run("q4inspect", container, "--json", "--tensors", "--stats").stdout
    return {tensor["name"]: tensor for tensor in json.loads(text)["tensors"]}


def proof(tools, container, *options):
    tools.run("q4verify", container, "--against", "in.safetensors", "--require-proof", *options)


def test_proof_and_error(tools):
    for form in ("--double-quant", "--no-double-quant"):
        for book in ("nf4", "fp4"):
            common = ("in.safetensors", "--type", book, form, "--force")
            tools.run("q4convert", *common, "-o", "absmax.q4")
            done = tools.run("q4convert", *common, "-o", "mse.q4", "--encoder", "mse")
            proof(tools, "mse.q4")
            left = form == "--double-quant"
            check(("self_attn.q_proj.weight' is left to absmax" in done.stdout + done.stderr) == left, "the note of what is left to absmax")
            absmax, mse = tensors_of(tools, "absmax.q4"), tensors_of(tools, "mse.q4")
            for name, tensor in mse.items():
                if "encoder" not in tensor:
                    continue
                lossless = "q_proj" in name
                check(tensor["encoder"] == ("absmax" if lossless and left else "mse"), f"the encoder of {name}", tensor["encoder"])
                ratio = tensor["stats"]["nmse"] / absmax[name]["stats"]["nmse"] if not lossless else 0
                check(ratio < (0.84 if book == "nf4" else 0.88), f"{name}, {book} {form}: less error than absmax", ratio)
    text = tools.run("q4inspect", "mse.q4", "--tensors").stdout
    check("fp4 b64 mse" in text, "q4inspect names the encoder", text)
    tools.run("q4verify", "mse.q4", "--gate", "default")


def test_one_result(tools):
    """Whatever runs it, the bytes are these; and each effort has its own."""
    digests = {}
    for form in ("--double-quant", "--no-double-quant"):
        for effort in ("1", "2") if SANITIZED else ("1", "2", "3"):
            if effort == "3" and form == "--double-quant":
                continue
            words = ("in.safetensors", "-o", "out.q4", "--encoder", "mse", form, "--effort", effort, "--force")
            tools.run("q4convert", *words)
            digests[form, effort] = (tools.work / "out.q4").read_bytes()
            proof(tools, "out.q4")
            if effort != "2":
                continue
            for other in (("--threads", "1"), ("--threads", "5"), ("--max-memory", "40MiB", "--threads", "1"), ("--on-nonfinite", "keep")):
                tools.run("q4convert", *words, *other)
                same = (tools.work / "out.q4").read_bytes() == digests[form, effort]
                # What is recorded of the options differs with the last.
                check(same or other[0] == "--on-nonfinite", f"the same bytes with {other}")
                proof(tools, "out.q4")
    check(len(set(digests.values())) == len(digests), "efforts differ")
    tools.run("q4convert", "in.safetensors", "-o", "default.q4", "--encoder", "mse", "--force")
    check((tools.work / "default.q4").read_bytes() == digests["--double-quant", "2"], "2 is the default effort")


def test_effort_is_on_record(tools):
    tools.run("q4convert", "in.safetensors", "-o", "out.q4", "--encoder", "mse", "--effort", "1", "--force")
    options = json.loads(tools.run("q4inspect", "out.q4", "--json").stdout)["provenance"]["options"]
    check(options["effort"] == 1 and options["encoder"] == "mse", "options on record", options)
    tools.run("q4convert", "out.q4", "-o", "packed.q4", "--compress", "zstd", "--force")
    proof(tools, "packed.q4")
    tools.run("q4convert", "in.safetensors", "-o", "absmax.q4", "--force")
    options = json.loads(tools.run("q4inspect", "absmax.q4", "--json").stdout)["provenance"]["options"]
    check("effort" not in options, "no effort where no encoder has one")


def test_recipe(tools):
    recipe = {"rules": [{"match": "up_proj", "encoder": "mse"}, {"match": "down_proj", "encoder": "mse", "double_quant": False}]}
    (tools.work / "recipe.json").write_text(json.dumps(recipe))
    tools.run("q4convert", "in.safetensors", "-o", "out.q4", "--recipe", "recipe.json", "--effort", "1", "--force")
    proof(tools, "out.q4")
    encoders = [tensor.get("encoder", "none") for tensor in tensors_of(tools, "out.q4").values()]
    check(sorted(encoders) == ["absmax", "mse", "mse", "none"], "by tensor", encoders)
    refused = tools.run("q4convert", "in.safetensors", "-o", "x.q4", "--effort", "1", code=1).stderr
    check("Q4-1960" in refused and not (tools.work / "x.q4").exists(), "an effort of nothing", refused)


def test_device(tools):
    """Who asks for a GPU gets it, with the bytes of the cores, or an error: never the cores instead."""
    for encoder in ("absmax", "mse"):
        for out, device in (("gpu.q4", "cuda"), ("cpu.q4", "cpu"), ("auto.q4", "auto")):
            (tools.work / out).unlink(missing_ok=True)
            command = [tools.folder / "q4convert", "in.safetensors", "-o", out, "--encoder", encoder, "--device", device]
            done = subprocess.run(command, cwd=tools.work, capture_output=True, text=True, check=False)
            check("no GPU runs the encoder" not in done.stdout + done.stderr, "every encoder runs on GPUs", done.stderr)
            if device == "cuda" and done.returncode != 0:
                # No CUDA in this build, or no device in this machine.
                check("Q4-5301" in done.stderr or "Q4-9302" in done.stderr, "why not", done.stderr)
                check(not (tools.work / out).exists(), "nothing is left", out)
            else:
                check(done.returncode == 0, "converted", done.stderr)
        cpu = (tools.work / "cpu.q4").read_bytes()
        check((tools.work / "auto.q4").read_bytes() == cpu, "the same bytes", encoder)
        if (tools.work / "gpu.q4").exists():
            check((tools.work / "gpu.q4").read_bytes() == cpu, "the same bytes on a GPU", encoder)


def test_resume(tools):
    """A run that was killed is gone on with at its own effort, and begun again at another one."""
    if SANITIZED:
        return
    convert = lambda effort, out: [  # noqa: E731
        tools.folder / "q4convert", "in.safetensors", "-o", out, "--encoder", "mse", "--effort", effort, "--sync-every", "1", "--threads", "1", "--quiet",
    ]  # fmt: skip
    for effort in ("1", "2"):
        tools.run("q4convert", *convert(effort, f"expected.{effort}.q4")[1:], "--force")
    for interrupted, then in (("2", "2"), ("2", "1")):
        (tools.work / "out.q4").unlink(missing_ok=True)
        interrupt(convert(interrupted, "out.q4"), tools.work, 0)
        tools.run("q4convert", *convert(then, "out.q4")[1:], "--force")
        check((tools.work / "out.q4").read_bytes() == (tools.work / f"expected.{then}.q4").read_bytes(), f"{interrupted}, then {then}")
        proof(tools, "out.q4")


def test_export(tools):
    """Negative scales leave as they are; that they are decoded so is for mse_check.py to show."""
    for form in ("--double-quant", "--no-double-quant"):
        tools.run("q4convert", "in.safetensors", "-o", "out.q4", "--encoder", "mse", form, "--force")
        tools.run("q4export", "out.q4", "-o", f"exported{form}", "--to", "bnb")
        tools.run("q4export", "out.q4", "-o", f"decoded{form}", "--to", "safetensors")
    scales = safetensors_bytes.read(tools.work / "exported--no-double-quant" / "model.safetensors")
    dtype, _, data = scales["model.layers.0.mlp.up_proj.weight.absmax"]
    negative = sum(value[0] < 0 for value in struct.iter_unpack("<f", data))
    check(dtype == "F32" and 0.3 < negative / (len(data) / 4) < 0.7, "half of the scales are negative", negative)


def main():
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(pathlib.Path(sys.argv[1]), pathlib.Path(folder))
        model(tools.work / "in.safetensors")
        for test in (test_proof_and_error, test_one_result, test_effort_is_on_record, test_recipe, test_device, test_resume, test_export):
            test(tools)
    print(f"encoder_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
