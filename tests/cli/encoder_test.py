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
from devices import same_on_every_device  # noqa: E402
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


def verified(tools, container, *options, source="in.safetensors", code=0):
    done = tools.run("q4verify", container, "--against", source, "--compare-absmax", "--json", *options, code=code)
    return json.loads(done.stdout)


def test_beside_absmax(tools):
    """The ratio is that of two conversions, to the last bit, and the same arithmetic in every report."""
    for form in ("--double-quant", "--no-double-quant"):
        for book, block in (("nf4", "64"), ("fp4", "64"), ("nf4", "4096")):
            common = ("in.safetensors", "--type", book, "--block-size", block, form, "--force")
            tools.run("q4convert", *common, "-o", "absmax.q4")
            tools.run("q4convert", *common, "-o", "mse.q4", "--encoder", "mse", "--shard-size", "16KB" if SANITIZED else "1MB")
            absmax = tensors_of(tools, "absmax.q4")
            for container, is_absmax in (("absmax.q4", True), ("mse.q4.index.json", False)):
                report = verified(tools, container)
                total = 0.0
                for tensor in report["tensors"]:
                    beside, name = tensor["absmax"], tensor["name"]
                    if tensor["scheme"] == "raw":
                        check(beside is None, f"{name} has no error", beside)
                        continue
                    check(beside["absmax_sum_e2"] == absmax[name]["stats"]["sum_e2"], f"{name}, {book} {form}: absmax' error", beside)
                    check(beside["sum_e2"] == tensor["stats"]["sum_e2"], f"{name}: its own", beside)
                    # What loses nothing, and what was left to absmax.
                    none = "q_proj" in name or tensor["encoder"] == "absmax"
                    expected = 1 if is_absmax or none else beside["sum_e2"] / beside["absmax_sum_e2"]
                    check(beside["ratio"] == expected and (is_absmax or none or expected < 0.9), f"{name}: the ratio", beside)
                    total += beside["absmax_sum_e2"]
                whole = report["absmax"]
                check(whole["tensors"] == 3 and whole["absmax_sum_e2"] == total, "in all", whole)
                check(whole["ratio"] == whole["sum_e2"] / total, "the ratio in all", whole)
                mlp = next(group["absmax"] for group in report["groups"] if group["name"] == "up_proj")
                check(mlp["tensors"] == 1 and (is_absmax or mlp["ratio"] < 0.9), "a role has one", mlp)
            if SANITIZED:
                return
    # In words, everywhere.
    ratio = f"{report['absmax']['ratio']:.4f}"
    files = ("--markdown", "r.md", "--html", "r.html")
    text = tools.run("q4verify", "mse.q4.index.json", "--against", "in.safetensors", "--compare-absmax", *files).stdout
    worst = max((tensor for tensor in report["tensors"] if tensor["absmax"]), key=lambda tensor: tensor["absmax"]["ratio"])
    said = f"{ratio} of absmax' squared error over 3 tensors, at most {worst['absmax']['ratio']:.4f}, in '{worst['name']}'"
    check(said in text and "of absmax" in text.split("worst tensors")[0].splitlines()[-1], "q4verify says so", text)
    check(said in (tools.work / "r.md").read_text() and "| of absmax |" in (tools.work / "r.md").read_text(), "so does Markdown")
    page = (tools.work / "r.html").read_text()
    check(f"<dd>{ratio}<small>" in page and 'data-field="absmax"' in page, "so does the page")
    # Unasked, nobody runs absmax beside it.
    plain = json.loads(tools.run("q4verify", "mse.q4.index.json", "--against", "in.safetensors", "--json").stdout)
    check(plain["absmax"] is None and all(tensor["absmax"] is None for tensor in plain["tensors"]), "nothing unasked")
    tools.run("q4verify", "mse.q4.index.json", "--compare-absmax", code=1)


def test_beside_absmax_in_part(tools):
    """A sample, a selection, a wrong source, weights that were taken over."""
    if SANITIZED:
        return
    tools.run("q4convert", "in.safetensors", "-o", "mse.q4", "--encoder", "mse", "--effort", "1", "--force")
    whole = verified(tools, "mse.q4")
    sampled = verified(tools, "mse.q4", "--sample", "1", "--sample-seed", "3")["absmax"]
    check(sampled["tensors"] == 3 and abs(sampled["ratio"] - whole["absmax"]["ratio"]) < 0.01, "of a sample", sampled)
    check(sampled["sum_e2"] < whole["absmax"]["sum_e2"], "that is a part", sampled)
    selected = verified(tools, "mse.q4", "--tensor", "down_proj")
    check(selected["absmax"]["tensors"] == 1 and sum(tensor["absmax"] is not None for tensor in selected["tensors"]) == 1, "of one")
    # Of weights that are not these the ratio would mean nothing.
    other = (tools.work / "in.safetensors").read_bytes()
    (tools.work / "other.safetensors").write_bytes(other[:-4000] + bytes(reversed(other[-4000:])))
    wrong = verified(tools, "mse.q4", source="other.safetensors", code=6)
    check([tensor["absmax"] is None for tensor in wrong["tensors"]] != [tensor["absmax"] is None for tensor in whole["tensors"]]
          and all(tensor["absmax"] is None for tensor in wrong["tensors"] if not tensor["passed"]), "none of what is wrong")  # fmt: skip
    # An export, taken over: nobody's encoder, and the same error.
    tools.run("q4export", "mse.q4", "-o", "bnb", "--to", "bnb")
    tools.run("q4convert", "bnb", "-o", "taken.q4")
    taken = verified(tools, "taken.q4")
    check(taken["absmax"] == whole["absmax"] and {t["encoder"] for t in taken["tensors"]} == {"none"}, "taken over", taken["absmax"])
    text = tools.run("q4verify", "taken.q4", "--against", "bnb", "--compare-absmax").stdout
    check("not measured: the source has 4 bits too" in text, "its own checkpoint has no elements", text)


def gate(tools, *rules):
    (tools.work / "gate.json").write_text(json.dumps({"rules": rules}))
    return "gate.json"


def test_gate_beside_absmax(tools):
    if SANITIZED:
        return
    tools.run("q4convert", "in.safetensors", "-o", "mse.q4", "--encoder", "mse", "--effort", "1", "--force")
    against = ("mse.q4", "--against", "in.safetensors")
    # The rule alone has it measured.
    held = gate(tools, {"max_absmax_ratio": 1}, {"encoder": "mse", "max_absmax_ratio": 0.9}, {"scope": "model", "max_absmax_ratio": 0.9})
    report = json.loads(tools.run("q4verify", *against, "--gate", held, "--json").stdout)
    check(len(report["gates"]) == 4 and {g["statistic"] for g in report["gates"]} == {"absmax_ratio"}, "verdicts", report["gates"])
    limits = {verdict["subject"]: verdict["limit"] for verdict in report["gates"]}
    check(limits["model.layers.0.self_attn.q_proj.weight"] == 1 and limits[None] == 0.9, "by encoder", limits)
    for rule in ({"match": "up_proj", "max_absmax_ratio": 0.5}, {"scope": "role", "match": "up_proj", "max_absmax_ratio": 0.5}):
        broken = tools.run("q4verify", *against, "--gate", gate(tools, rule), code=6).stderr
        check("absmax_ratio: got 0.8" in broken and "[Q4-6305]" in broken, f"{rule} breaks", broken)
    # Nobody measures it: an error, not a pass.
    wants = gate(tools, {"max_absmax_ratio": 1})
    check("Q4-1670" in tools.run("q4verify", "mse.q4", "--gate", wants, code=1).stderr, "not without a source")
    refused = tools.run("q4convert", "in.safetensors", "-o", "x.q4", "--gate", wants, code=1).stderr
    check("Q4-1670" in refused and not (tools.work / "x.q4").exists(), "nor in a conversion", refused)
    missing = tools.run("q4verify", *against, "--tensor", "up_proj", "--gate", wants, code=6).stderr
    check(missing.count("Q4-6670") == 2, "nor of what is not compared", missing)
    optional = gate(tools, {"max_absmax_ratio": 0.1, "optional": True})
    tools.run("q4verify", "mse.q4", "--gate", optional)
    tools.run("q4verify", *against, "--gate", optional)
    tools.run("q4verify", *against, "--compare-absmax", "--gate", optional, code=6)
    tools.run("q4convert", "in.safetensors", "-o", "optional.q4", "--gate", optional)
    for rule, code in (({"encoder": "best", "max_nmse": 1}, 3), ({"encoder": "none", "max_nmse": 1}, 3), ({"scope": "model", "encoder": "mse", "max_nmse": 1}, 3)):
        tools.run("q4verify", "mse.q4", "--gate", gate(tools, rule), code=code)
    nothing = tools.run("q4verify", "mse.q4", "--gate", gate(tools, {"match": "up_proj", "encoder": "absmax", "max_nmse": 1}), code=6).stderr
    check("Q4-6306" in nothing and "of another type, block size or encoder" in nothing, "a rule on another encoder", nothing)


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
    for encoder in ("absmax", "mse"):
        same_on_every_device(tools, "in.safetensors", "--encoder", encoder)


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


def test_inspect(tools):
    """Who chose the scales, their signs and sizes: of a container and of its export."""
    for form in ("--double-quant", "--no-double-quant"):
        tools.run("q4convert", "in.safetensors", "-o", "mse.q4", "--encoder", "mse", "--effort", "1", form, "--force")
        shown = json.loads(tools.run("q4inspect", "mse.q4", "--scales", "--json").stdout)
        left = form == "--double-quant"
        counts = {row["encoder"]: row["tensors"] for row in shown["encoders"]}
        check(counts == ({"absmax": 1, "mse": 2} if left else {"mse": 3}), "tensors by encoder", counts)
        scales = {tensor["name"]: tensor.get("scales") for tensor in shown["tensors"]}
        up = scales["model.layers.0.mlp.up_proj.weight"]
        check(0.4 < up["negative"] / up["count"] < 0.6 and up["count"] == ROWS * 1024 // 64, "half of the blocks are turned", up)
        check(0 < up["least_magnitude"] <= up["largest_magnitude"] == max(-up["min"], up["max"]) and up["min"] < 0 < up["max"], "sizes", up)
        check(sum(row["count"] for row in up["by_exponent"]) + up["zeros"] == up["count"], "each has an exponent", up)
        check(scales["model.norm.weight"] is None, "a kept tensor has none")
        total = shown["scales"]
        check(total["count"] == sum(s["count"] for s in scales.values() if s), "in all", total)
        check(total["negative"] == sum(s["negative"] for s in scales.values() if s), "in all", total)
        text = tools.run("q4inspect", "mse.q4", "--scales").stdout
        check(f"({counts['mse']} tensors)" in text and f"{100 * up['negative'] / up['count']:.2f} %" in text, "as a table", text)
        text = tools.run("q4inspect", "mse.q4", "--scales", "--tensor", "model.layers.0.mlp.up_proj.weight").stdout
        check(f"{100 * up['negative'] / up['count']:.2f} % negative" in text, "of one", text)
        text = tools.run("q4inspect", "mse.q4").stdout
        check(("absmax 1 tensor, mse 2 tensors" if left else "mse 3 tensors") in text, "in the summary", text)
        tools.run("q4export", "mse.q4", "-o", "bnb", "--to", "bnb", "--force")
        again = json.loads(tools.run("q4inspect", "bnb", "--scales", "--json").stdout)
        check(again["scales"] == total and again["encoders"][0]["encoder"] == "none", "the export has the same", again["scales"])
        tools.run("q4convert", "in.safetensors", "-o", "absmax.q4", form, "--force")
        check("encoders" not in tools.run("q4inspect", "absmax.q4").stdout, "absmax is what everybody expects")
        diff = tools.run("q4inspect", "absmax.q4", "--diff", "mse.q4", code=6).stdout
        check(f"~ encoder absmax -> mse: {counts['mse']} tensors" in diff, "a difference of encoders is told", diff)
        changes = json.loads(tools.run("q4inspect", "absmax.q4", "--diff", "mse.q4", "--json", code=6).stdout)["encoders"]
        check(changes == [{"before": "absmax", "after": "mse", "tensors": counts["mse"]}], "in JSON", changes)
        (tools.work / "before.json").write_text(tools.run("q4verify", "mse.q4", "--json").stdout)
        worse = tools.run("q4verify", "absmax.q4", "--baseline", "before.json", code=6)
        said = f"{counts['mse']} tensors had the encoder mse in the baseline and have absmax"
        check(said in worse.stdout and "the encoder was mse, now it is absmax" in worse.stderr, "a baseline of another encoder says so", worse.stdout)
    check("[Q4-1001]" in tools.run("q4inspect", "mse.q4", "--scales", "--lint", code=1).stderr, "lint takes no selection")


def test_lint(tools):
    """Exports of mse are no faulty checkpoints; of FP4 with fp32 scales the export's record says whose they are."""
    for form in ("--double-quant", "--no-double-quant"):
        for book in ("nf4", "fp4"):
            tools.run("q4convert", "in.safetensors", "-o", "mse.q4", "--encoder", "mse", "--type", book, form, "--force")
            folder = f"bnb{form}-{book}"
            tools.run("q4export", "mse.q4", "-o", folder, "--to", "bnb")
            record = json.loads((tools.work / folder / "q4_export.json").read_text())
            check(record["encoders"] == (["absmax", "mse"] if form == "--double-quant" else ["mse"]), "the record names encoders", record)
            for with_record in (True, False):
                if not with_record:
                    (tools.work / folder / "q4_export.json").unlink()
                found = json.loads(tools.run("q4inspect", folder, "--lint", "--json").stdout)
                rules = {f["rule"]: f["severity"] for f in found["findings"] if f["rule"] != "config-missing"}
                alone = not with_record and book == "fp4" and form == "--no-double-quant"
                expected = {"block-without-extreme": "warning"} if alone else {"scales-searched": "info"}
                check(rules == expected, f"{book} {form} {with_record}", rules)
                check(found["infos"] == sum(f["severity"] == "info" for f in found["findings"]), "each is counted", found["infos"])


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
        for test in (test_proof_and_error, test_beside_absmax, test_beside_absmax_in_part, test_gate_beside_absmax, test_one_result, test_effort_is_on_record, test_recipe, test_device, test_resume, test_inspect, test_lint, test_export):
            test(tools)
    print(f"encoder_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
