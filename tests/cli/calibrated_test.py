#!/usr/bin/env python3
"""`q4convert --encoder weighted --calibration FILE` as it is used: what it gains by its own measure, proof with and without the file, the same bytes
however it runs, the record, mistakes, what is left to mse, a run that is gone on with.

Usage: calibrated_test.py DIR [--sanitized]     the folder of the tools
"""

import hashlib
import json
import pathlib
import random
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import safetensors_bytes as st  # noqa: E402
import checks  # noqa: E402
from calibrated_runs import lay_weights, proof, tensors_in  # noqa: E402
from calibration_bytes import calibration_file  # noqa: E402
from checks import check  # noqa: E402
from devices import same_on_every_device  # noqa: E402
from interrupted import interrupt  # noqa: E402
from tools import Tools  # noqa: E402

SANITIZED = "--sanitized" in sys.argv
# Enough for several slabs, the second of which begins in a row, and where memory is short for two readings.
ROWS, COLUMNS = (64, 1021) if SANITIZED else (4500, 1021)
UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
TURNED, EXPERTS, UNNAMED = "model.h.0.attn.c_attn.weight", "model.layers.1.mlp.experts.gate_up_proj", "model.layers.2.mlp.up_proj.weight"
# Rows that are no whole blocks; one weight stored as (in, out); a stack, an expert of which no token came to.
SHAPES = {UP: (ROWS, COLUMNS), DOWN: (77, 129), TURNED: (65, 48), EXPERTS: (3, 20, 33), UNNAMED: (32, 96)}
COMMON = ("in.safetensors", "--include", "c_attn|experts", "--force")


def moments(features, seed):
    """Within a few powers of two, an eighth of them nothing, one that outweighs all."""
    rng = random.Random(seed)
    values = [0.0 if rng.random() < 0.125 else 2 ** rng.gauss(0, 2) for _ in range(features)]
    values[features // 3] = 300.0
    return values


def calibration(seed=5, names=lambda name: name):
    inputs = {names(UP): moments(COLUMNS, seed), names(DOWN): moments(129, seed + 1)}
    turned = {names(TURNED): moments(65, seed + 2)}
    stacks = {names(EXPERTS): [moments(33, seed + 3), [0.0] * 33, moments(33, seed + 4)]}
    return calibration_file(inputs | stacks, turned)


def lay(work):
    lay_weights(work, SHAPES)
    (work / "c.safetensors").write_bytes(calibration())
    (work / "other.safetensors").write_bytes(calibration(seed=6))


def convert(tools, *options, out="out.q4", encoder="weighted", **rest):
    given = ("--encoder", encoder) + (("--calibration", "c.safetensors") if encoder == "weighted" else ())
    return tools.run("q4convert", *COMMON, "-o", out, *given, *options, **rest)


def features_of(name):
    """By element of a small tensor, its feature's moment over the mean."""
    means = lambda values: [v / (sum(values) / len(values)) if any(values) else 1.0 for v in values]  # noqa: E731
    shape = SHAPES[name]
    if name == TURNED:
        return [h for h in means(moments(65, 7)) for _ in range(shape[1])]
    if name == EXPERTS:
        return [h for expert in (moments(33, 8), [0.0] * 33, moments(33, 9)) for h in means(expert) * shape[1]]
    return means(moments(129, 6)) * shape[0]


def weighted_error(tools, container, name):
    tools.run("q4export", container, "-o", "plain", "--to", "safetensors", "--force")
    decoded = st.read(tools.work / "plain/model.safetensors")[name][2]
    stored = st.read(tools.work / "in.safetensors")[name][2]
    pairs = zip(struct.iter_unpack("<f", stored), struct.iter_unpack("<f", decoded), features_of(name))
    return sum((x - y) ** 2 * h for (x,), (y,), h in pairs)


def test_error(tools):
    """By what it weighs, it is better than mse, which is better than absmax; every block of every kind of tensor counts its own features."""
    for book in ("nf4", "fp4"):
        for form in ("--double-quant", "--no-double-quant"):
            errors = {}
            for encoder in ("absmax", "mse", "weighted"):
                convert(tools, "--type", book, form, encoder=encoder)
                for name in (DOWN, TURNED, EXPERTS):
                    errors[encoder, name] = weighted_error(tools, "out.q4", name)
            for name in (DOWN, TURNED, EXPERTS):
                weighted, mse = (errors[encoder, name] / errors["absmax", name] for encoder in ("weighted", "mse"))
                check(weighted < min(1, 0.95 * mse), f"{name}, {book} {form}: of absmax' weighted error", weighted, mse)
            proof(tools)
    encoders = {name: tensor["encoder"] for name, tensor in tensors_in(tools, "out.q4").items()}
    check(encoders == {name: "mse" if name == UNNAMED else "weighted" for name in SHAPES}, "by tensor", encoders)


def test_proof(tools):
    convert(tools)
    text = proof(tools).stdout
    check("5 recomputed bit for bit" in text, "all are computed again", text)
    text = tools.run("q4verify", "out.q4", "--against", "in.safetensors").stdout
    check("4 bounded, not proven" in text and "--calibration with the file that is recorded" in text, "what is not is said", text)
    text = tools.run("q4verify", "out.q4", "--against", "in.safetensors", "--require-proof", code=6).stderr
    check("Q4-6635" in text and "--calibration FILE computes it again" in text, "no proof without the file", text)
    text = tools.run("q4verify", "out.q4", "--against", "in.safetensors", "--calibration", "other.safetensors", code=6).stderr
    check("Q4-6620" in text, "another file", text)
    convert(tools, encoder="mse", out="mse.q4")
    text = tools.run("q4verify", "mse.q4", "--against", "in.safetensors", "--calibration", "c.safetensors", code=1).stderr
    check("Q4-1622" in text, "a file where none was used", text)
    text = tools.run("q4verify", "out.q4", "--calibration", "c.safetensors", code=1).stderr
    check("--against" in text, "nothing to compute from", text)
    tools.run("q4convert", "out.q4", "-o", "packed.q4", "--compress", "zstd", "--force")
    proof(tools, "packed.q4")
    tools.run("q4verify", "out.q4", "--gate", "default")


def test_record(tools):
    convert(tools)
    data = (tools.work / "c.safetensors").read_bytes()
    record = json.loads(tools.run("q4inspect", "out.q4", "--json").stdout)["provenance"]["calibration"]
    expected = {"files": [{"name": "c.safetensors", "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}], "tokens": 1000}
    check(record == expected, "the file on record", record)
    text = tools.run("q4inspect", "out.q4").stdout
    check(f"sha256:{expected['files'][0]['sha256']}" in text and "encoder weighted" in text, "q4inspect shows it", text)
    check("nf4 b64 dq weighted" in tools.run("q4inspect", "out.q4", "--tensors").stdout, "and each tensor's encoder")


def test_one_result(tools):
    """Whatever runs it, the bytes are these; each effort has its own; a file that names the weights with a module less is as good."""
    digests = {}
    for form in ("--double-quant", "--no-double-quant"):
        for effort in ("1", "2"):
            convert(tools, form, "--effort", effort)
            digests[form, effort] = (tools.work / "out.q4").read_bytes()
            if effort != "2":
                continue
            for other in (("--threads", "1"), ("--threads", "5"), ("--max-memory", "48MiB", "--threads", "1")):
                convert(tools, form, *other)
                check((tools.work / "out.q4").read_bytes() == digests[form, effort], f"the same bytes with {other}")
            proof(tools)
    check(len(set(digests.values())) == len(digests), "efforts differ")
    (tools.work / "short.safetensors").write_bytes(calibration(names=lambda name: name.removeprefix("model.")))
    for out, file in (("a.q4", "c.safetensors"), ("b.q4", "short.safetensors")):
        tools.run("q4convert", *COMMON, "-o", out, "--encoder", "weighted", "--calibration", file)
    digests = [[t["codes_sha256"] if "codes_sha256" in t else t["stats"] for t in tensors_in(tools, out).values()] for out in ("a.q4", "b.q4")]
    check(digests[0] == digests[1], "the same codes by shorter names")


def test_mistakes(tools):
    def refused(number, code, *options):
        text = tools.run("q4convert", "in.safetensors", "-o", "x.q4", *options, code=code).stderr
        check(f"Q4-{number}" in text and not (tools.work / "x.q4").exists(), f"{options}", text)

    refused(1620, 1, "--encoder", "weighted")
    refused(1621, 1, "--calibration", "c.safetensors")
    refused(1621, 1, "--encoder", "mse", "--calibration", "c.safetensors")
    (tools.work / "recipe.json").write_text(json.dumps({"rules": [{"match": "down_proj", "encoder": "weighted"}]}))
    refused(1620, 1, "--recipe", "recipe.json")
    # An input of another size, and a file of another model.
    wrong = {"3624": calibration_file({DOWN: moments(128, 1)}), "3625": calibration_file({"transformer.wte": moments(129, 1)})}
    for number, data in wrong.items():
        (tools.work / f"{number}.safetensors").write_bytes(data)
        refused(number, 3, "--encoder", "weighted", "--calibration", f"{number}.safetensors")
    text = tools.run("q4convert", "in.safetensors", "-o", "c.safetensors", "--encoder", "weighted", "--calibration", "c.safetensors", "--force", code=1).stderr
    check("c.safetensors" in text, "the output may not be the calibration", text)
    tools.run("q4convert", *COMMON, "-o", "out.q4", "--recipe", "recipe.json", "--calibration", "c.safetensors")
    proof(tools)
    encoders = sorted(tensor["encoder"] for tensor in tensors_in(tools, "out.q4").values())
    check(encoders == ["absmax"] * 4 + ["weighted"], "a recipe's tensor alone", encoders)


def test_notes(tools):
    done = convert(tools, "--dry-run")
    text = done.stdout + done.stderr
    check(f"1 tensor has no input in the calibration and is left to the encoder mse: '{UNNAMED}'" in text, "what is left to mse", text)
    check("no token of the calibration came to 1 expert" in text, "experts that nothing is known of", text)


def test_device(tools):
    same_on_every_device(tools, *COMMON, "--encoder", "weighted", "--calibration", "c.safetensors")


def test_resume(tools):
    """A run that was killed is gone on with by the same file, and begun again with another."""
    if SANITIZED:
        return
    command = lambda file, out: [  # noqa: E731
        tools.folder / "q4convert", *COMMON, "-o", out, "--encoder", "weighted", "--calibration", file, "--sync-every", "1", "--threads", "1", "--quiet",
    ]  # fmt: skip
    for file in ("c", "other"):
        tools.run("q4convert", *command(f"{file}.safetensors", f"{file}.q4")[1:])
    for then in ("c", "other"):
        (tools.work / "out.q4").unlink(missing_ok=True)
        interrupt(command("c.safetensors", "out.q4"), tools.work, 0)
        tools.run("q4convert", *command(f"{then}.safetensors", "out.q4")[1:])
        check((tools.work / "out.q4").read_bytes() == (tools.work / f"{then}.q4").read_bytes(), f"then {then}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(folder))
        lay(tools.work)
        for test in (test_error, test_proof, test_record, test_one_result, test_mistakes, test_notes, test_device, test_resume):
            test(tools)
    print(f"calibrated_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
