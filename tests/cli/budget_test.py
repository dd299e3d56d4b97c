#!/usr/bin/env python3
"""Budgets of q4convert as they are used: what is measured is what a conversion records; targets are met; what is alike, fixed or kept; the
recipe makes the same bytes; the same choice however it runs; what is refused.

Usage: budget_test.py DIR [--sanitized]     the folder of the tools
"""

import json
import math
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import safetensors_bytes  # noqa: E402
import checks  # noqa: E402
from calibration_bytes import calibration_file  # noqa: E402
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402

SANITIZED = "--sanitized" in sys.argv
LAYERS = 2 if SANITIZED else 4
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
NF4 = [f"nf4 b{size}{nested}" for nested in (" dq", "") for size in (256, 128, 64, 32)]


def values(elems, seed, outliers=0.0):
    """Normal, every 97th times 1 + outliers: what decides how much a small block is worth."""
    rng = random.Random(seed)
    return [rng.gauss(0, 0.02) * (1 + outliers * (i % 97 == 0)) for i in range(elems)]


def bf16(numbers):
    return b"".join(struct.pack("<f", number)[2:] for number in numbers)


def layers_of(count):
    tensors = {}
    for i in range(count):
        for j, (name, rows, columns, outliers) in enumerate([
            ("self_attn.q_proj", 32, 256, 0), ("self_attn.k_proj", 16, 256, 4), ("self_attn.v_proj", 16, 256, i),
            ("mlp.gate_proj", 60, 256, 1), ("mlp.up_proj", 60, 256, 9), ("mlp.down_proj", 96, 121, 30),
        ]):  # fmt: skip
            data = bf16(values(rows * columns, 10 * i + j, outliers))
            tensors[f"model.layers.{i}.{name}.weight"] = ("BF16", (rows, columns), data)
    tensors["model.norm.weight"] = ("BF16", (96,), bf16([1.0] * 96))
    return tensors


def write(tools, name, tensors, config=None):
    folder = tools.work / name
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(safetensors_bytes.tensor_file(tensors))
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))


def choose(tools, source, *options, code=0):
    """The choice of a dry run."""
    done = tools.run("q4convert", source, "-o", "none.q4", "--dry-run", "--json", *options, code=code)
    check(not (tools.work / "none.q4").exists(), "a dry run writes no container")
    return json.loads(done.stdout)["choice"] if code == 0 else done.stderr


def convert(tools, source, out, *options):
    done = tools.run("q4convert", source, "-o", out, "--json", "--force", *options)
    return json.loads(done.stdout)


def rows_of(choice):
    return {row["name"]: row for row in choice["tensors"]}


def recipe_of(tools, container):
    return json.loads(tools.run("q4inspect", container, "--json").stdout)["provenance"]["options"]["recipe"]


def close(a, b, error=1e-11):
    return math.isclose(a, b, rel_tol=error, abs_tol=1e-300)


def test_measured_is_recorded(tools):
    """Every way of every tensor loses in a conversion what was measured, and takes the bits that were counted."""
    for encoder in (("absmax",), ("mse", "--effort", "1")):
        choice = choose(tools, "model", "--target-bpw", "4.5", "--encoder", *encoder)
        options = {name: {o["treatment"].removesuffix(" mse"): o for o in row["options"]} for name, row in rows_of(choice).items()}
        for kind in ("nf4", "fp4"):
            for size in ("32", "64", "128", "256") if encoder == ("absmax",) else ("32", "256"):
                for form, ending in (("--double-quant", " dq"), ("--no-double-quant", "")):
                    report = convert(tools, "model", "uniform.q4", "--type", kind, "--block-size", size, form, "--encoder", *encoder)
                    plan = json.loads(tools.run("q4convert", "model", "-o", "none.q4", "--dry-run", "--json", "--type", kind, "--block-size", size,
                                                form).stdout)  # fmt: skip
                    sizes = {tensor["name"]: tensor["bytes"] for tensor in plan["tensors"]}
                    for tensor in report["tensors"]:
                        if "stats" not in tensor:
                            continue
                        option = options[tensor["name"]][f"{kind} b{size}{ending}"]
                        check(close(option["nmse"], tensor["stats"]["nmse"]), "measured as recorded", tensor["name"], option, tensor["stats"])
                        weights = rows_of(choice)[tensor["name"]]["weights"]
                        check(close(option["bits_per_weight"] * weights, 8 * sizes[tensor["name"]]), "bits as stored", option)
        check(choice["uniform"]["treatment"].startswith("nf4 b64 dq"), "compared with the default", choice["uniform"])


def best_uniform(choice, bits):
    """The least error of one way for all tensors within these bits."""
    best = math.inf
    for way in {o["treatment"] for row in choice["tensors"] for o in row["options"]}:
        sums = [0.0, 0.0]
        for row in choice["tensors"]:
            option = next(o for o in row["options"] if o["treatment"] == way)  # of rows that every block size divides, or none
            share = row["weights"] / choice["weights"]
            sums[0] += share * option["bits_per_weight"]
            sums[1] += share * option["nmse"]
        if sums[0] <= bits:
            best = min(best, sums[1])
    return best


def test_targets(tools):
    for target in (4.06, 4.127, 4.25, 4.254, 4.5, 5, 6.37, 9):
        choice = choose(tools, "model", "--target-bpw", target)
        check(choice["bits_per_weight"] <= target, "within the budget", target, choice["bits_per_weight"])
        check(choice["nmse"] <= best_uniform(choice, target), "no worse than any one way", target)
        # Both sums are those of the tensors.
        for key in ("bits_per_weight", "nmse"):
            total = sum(row["weights"] * row[key] for row in choice["tensors"]) / choice["weights"]
            check(close(total, choice[key]), f"{key} of all", total, choice[key])
        again = choose(tools, "model", "--target-nmse", repr(choice["nmse"]))
        check(again["nmse"] <= choice["nmse"], "within the error", again["nmse"], choice["nmse"])
        # One step of one tensor apart at most: the largest has 7 % of the weights.
        check(again["bits_per_weight"] <= choice["bits_per_weight"] + 0.02, "the other way round", again["bits_per_weight"], choice["bits_per_weight"])
    check(choose(tools, "model", "--target-bpw", "16")["nmse"] == 0, "all is kept at 16 bits")
    better = choose(tools, "model", "--target-bpw", "4.254")
    check(better["nmse"] < best_uniform(better, 4.254), "by tensor is better than uniform", better["nmse"])


def test_a_choice_is_a_recipe(tools):
    for options in (("--target-bpw", "4.6"), ("--target-nmse", "0.008", "--encoder", "mse"), ("--keep-most-sensitive", "30", "--block-size", "128")):
        common = options[2:]
        report = convert(tools, "model", "chosen.q4", *options, "--write-recipe", "recipe.json")
        convert(tools, "model", "again.q4", "--recipe", "recipe.json", *common)
        check((tools.work / "chosen.q4").read_bytes() == (tools.work / "again.q4").read_bytes(), "the recipe makes the same bytes", options)
        recipe = json.loads((tools.work / "recipe.json").read_text())
        check(json.loads(recipe_of(tools, "chosen.q4")) == recipe == json.loads(report["choice"]["recipe"]), "one recipe everywhere")
        # What was said is what there is: statistics, and the treatment of each tensor.
        treated = {tensor["name"]: tensor for tensor in report["tensors"]}
        for name, row in rows_of(report["choice"]).items():
            check(treated[name]["treatment"] == row["chosen"], "treated as chosen", name)
            nmse = treated[name]["stats"]["nmse"] if "stats" in treated[name] else 0
            check(close(nmse, row["nmse"]), "the error that was said", name)
        (tools.work / "recipe.json").unlink()
        tools.run("q4verify", "chosen.q4", "--against", "model", "--require-proof")
        dry = choose(tools, "model", *options, "--write-recipe", "recipe.json")
        check(json.loads((tools.work / "recipe.json").read_text()) == json.loads(dry["recipe"]) == recipe, "a dry run gives it out, too")
        (tools.work / "recipe.json").unlink()
    text = tools.run("q4convert", "model", "-o", "none.q4", "--dry-run", "--target-bpw", "4.5").stdout
    check("bits per weight: NMSE" in text and " of nf4 b64 dq at 4.1" in text and "part of the error" in text, "a table for people", text)


def test_however_it_runs(tools):
    """Threads, memory (large tensors are read twice where little is given) and kernels change nothing."""
    rows = 64 if SANITIZED else 800
    data = bf16(values(4096, 5, 3)) * (rows // 4)
    write(tools, "large", {"model.layers.0.mlp.up_proj.weight": ("BF16", (rows, 1024), data),
                           "model.layers.0.mlp.down_proj.weight": ("BF16", (120, 96), bf16(values(120 * 96, 6, 9)))})  # fmt: skip
    for encoder in ("absmax",) if SANITIZED else ("absmax", "mse"):
        base = ("--target-bpw", "4.5", "--encoder", encoder, *(("--effort", "1") if encoder == "mse" else ()))
        first = choose(tools, "large", *base, "--threads", "1")
        check(choose(tools, "large", *base, "--threads", "7") == first, "threads")
        check(choose(tools, "large", *base, "--threads", "2", "--max-memory", "2MiB") == first, "memory")
        os.environ["Q4_CPU_TARGET"] = "scalar" if encoder == "absmax" else "SSE4"
        check(choose(tools, "large", *base) == first, "kernels")
        del os.environ["Q4_CPU_TARGET"]


def test_options_restrict(tools):
    ways = lambda *options: {o["treatment"] for row in choose(tools, "model", "--target-bpw", "4.6", *options)["tensors"] for o in row["options"]}  # noqa: E731
    check(ways("--type", "nf4") == {*NF4, "BF16"}, "--type")
    check(ways("--type", "nf4", "--double-quant") == {*NF4[:4], "BF16"}, "--double-quant")
    check(ways("--type", "fp4", "--no-double-quant", "--block-size", "512") == {"fp4 b512", "BF16"}, "all three: what is left is to keep")
    write(tools, "rows", {"model.layers.0.mlp.up_proj.weight": ("BF16", (32, 96), bf16(values(3072, 1))),
                          "model.layers.0.mlp.down_proj.weight": ("BF16", (32, 384), bf16(values(12288, 2)))})  # fmt: skip
    sizes = rows_of(choose(tools, "rows", "--target-bpw", "5", "--type", "nf4", "--double-quant"))
    for name, those in (("up", (64, 32)), ("down", (128, 64, 32))):
        offered = [o["treatment"] for o in sizes[f"model.layers.0.mlp.{name}_proj.weight"]["options"]]
        check(offered == [*(f"nf4 b{size} dq" for size in those), "BF16"], "blocks that divide rows, and the usual ones", offered)
    check(ways("--type", "nf4", "--no-double-quant", "--include", "proj") == set(NF4[4:]), "--include: nothing is kept")


def test_user_recipe(tools):
    (tools.work / "mine.json").write_text(json.dumps({"rules": [
        {"match": r"layers\.0\.mlp\.up", "block_size": 512, "double_quant": False}, {"match": r"layers\.1\.mlp\.up", "keep": True},
        {"match": "k_proj", "encoder": "mse"},
    ]}))  # fmt: skip
    target = "6" if SANITIZED else "5.5"  # of fewer layers the kept one is more
    report = convert(tools, "model", "mine.q4", "--target-bpw", target, "--recipe", "mine.json", "--effort", "1")
    rows = rows_of(report["choice"])
    check(rows["model.layers.0.mlp.up_proj.weight"]["chosen"] == "nf4 b512" and rows["model.layers.0.mlp.up_proj.weight"]["reason"] == "recipe", "fixed")
    check(rows["model.layers.1.mlp.up_proj.weight"]["chosen"] == "BF16", "kept, and counted")
    check(all(("mse" in o["treatment"]) == ("k_proj" in name) for name, row in rows.items() for o in row["options"] if o["treatment"][0] != "B"),
          "an encoder is of the rule, the rest is chosen")  # fmt: skip
    check(report["choice"]["bits_per_weight"] <= float(target), "they count")
    rules = json.loads(recipe_of(tools, "mine.q4"))["rules"]
    check([rule["match"] for rule in rules[:3]] == [r"layers\.0\.mlp\.up", r"layers\.1\.mlp\.up", "k_proj"], "the user's rules come first", rules)
    out = choose(tools, "model", "--target-bpw", "4.5", "--exclude", r"layers\.0\.")
    check(all("layers.0." not in row["name"] for row in out["tensors"]), "what is excluded does not count")


def groups_of(choice):
    groups = {}
    for row in choice["tensors"]:
        groups.setdefault(row["group"], []).append(row)
    return list(groups.values())


def test_alike(tools):
    fused = choose(tools, "model", "--target-bpw", "4.8", "--fused-alike")
    sizes = sorted(len(group) for group in groups_of(fused))
    check(sizes == sorted([3, 2, 1] * LAYERS), "q, k, v; gate, up; down", sizes)
    check(all(len({row["chosen"] for row in group}) == 1 for group in groups_of(fused)), "are chosen alike")
    apart = choose(tools, "model", "--target-bpw", "4.8")
    check(all(len(group) == 1 for group in groups_of(apart)) and apart["nmse"] < fused["nmse"], "else each for itself, which loses less")
    # The user's recipe has different things to say of two that would be alike: then they are not.
    (tools.work / "apart.json").write_text(json.dumps({"rules": [
        {"match": r"0\.self_attn\.q", "block_size": 32}, {"match": r"0\.self_attn\.k", "block_size": 512}, {"match": r"1\.self_attn\.q", "keep": True},
    ]}))  # fmt: skip
    rows = rows_of(choose(tools, "model", "--target-bpw", "6", "--fused-alike", "--recipe", "apart.json"))
    check(len({rows[f"model.layers.0.self_attn.{p}_proj.weight"]["group"] for p in "qkv"}) == 3, "contradicting rules")
    check({rows[f"model.layers.1.self_attn.{p}_proj.weight"]["chosen"] for p in "qkv"} == {"BF16"}, "the others follow a rule")
    # A choice that vLLM cannot join is told as any other is. Two layers have none within 40 %.
    if SANITIZED:
        return
    for options, mixed in (((), True), (("--fused-alike",), False)):
        done = tools.run("q4convert", "model", "-o", "none.q4", "--dry-run", "-v", "--exclude", "mlp", "--keep-most-sensitive", "40", *options)
        kept = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("BF16") and "most sensitive" not in line and "self_attn" in line]
        of_layers = [sum(f"layers.{layer}." in name for name in kept) for layer in range(LAYERS)]
        check(any(of_layers) and any(0 < count < 3 for count in of_layers) == mixed == ("vLLM joins" in done.stderr), "a warning", done.stderr, kept)


def test_experts_and_ties(tools):
    tensors = {}
    for layer in range(2):
        for expert in range(12):
            for j, name in enumerate(("gate_proj", "up_proj", "down_proj")):
                key = f"model.layers.{layer}.mlp.experts.{expert}.{name}.weight"
                tensors[key] = ("BF16", (16, 32), bf16(values(512, 100 * layer + 3 * expert + j, 9 * layer)))
        tensors[f"model.layers.{layer}.mlp.shared_experts.up_proj.weight"] = ("BF16", (16, 32), bf16(values(512, 7 + layer)))
        tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] = ("BF16", (32, 32), bf16(values(1024, 9 + layer)))
    write(tools, "experts", tensors, {"architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe"})
    report = convert(tools, "experts", "experts.q4", "--target-bpw", "4.6")
    sizes = sorted(len(group) for group in groups_of(report["choice"]))
    check(sizes == [1, 1, 1, 1, 36, 36], "the experts of a layer in one", sizes)
    rules = json.loads(report["choice"]["recipe"])["rules"]
    check(len(rules) <= 6 and len(report["choice"]["recipe"]) < 3000, "few rules for many experts", len(rules))
    check(any("experts\\.[0-9]+" in rule["match"] for rule in rules), "by any number", rules)
    # One expert is fixed: the others of its layer follow, and the mask would reach no further than it may.
    (tools.work / "one.json").write_text(json.dumps({"rules": [{"match": r"layers\.0\.mlp\.experts\.3\.", "type": "nf4", "block_size": 32, "double_quant": True}]}))
    rows = rows_of(choose(tools, "experts", "--target-bpw", "4.6", "--recipe", "one.json"))
    check({row["chosen"] for name, row in rows.items() if "0.mlp.experts." in name} == {"nf4 b32 dq"}, "all of the layer")


def test_names(tools):
    """Rules reach the tensors that they were made for, whatever the names; numbers, dots, and what regular expressions mean something by."""
    names = ["a.1.w|x.weight", "a.11.w|x.weight", "a.1.w.x.weight", "b(c)[d]*+?{2}^$.3.weight", "b(c)[d]*+?{2}^$.33.weight", "\u00e9\u4e2d.0.weight",
             "tab\there.weight", "line\nfeed.weight", "quote'\".weight", "back\\slash.weight", "7.weight", "77.weight", "0.7.weight"]  # fmt: skip
    tensors = {name: ("BF16", (16, 64), bf16(values(1024, i, 3 * i))) for i, name in enumerate(names)}
    path = tools.work / "names.safetensors"
    path.write_bytes(safetensors_bytes.tensor_file(tensors))
    for target in ("4.3", "4.7", "6.5"):
        report = convert(tools, path, "names.q4", "--target-bpw", target)
        treated = {tensor["name"]: tensor["treatment"] for tensor in report["tensors"]}
        for name, row in rows_of(report["choice"]).items():
            check(treated[name] == row["chosen"], "treated as chosen", name, treated[name], row["chosen"])


def test_most_sensitive(tools):
    choice = choose(tools, "model", "--keep-most-sensitive", "25")
    rows = choice["tensors"]
    kept = [row for row in rows if row["chosen"] == "BF16"]
    check(kept and all(row["reason"] == "most sensitive" for row in kept), "kept for that")
    check(sum(row["weights"] for row in kept) <= 0.25 * choice["weights"], "no more than that")
    check({row["chosen"] for row in rows} == {"BF16", "nf4 b64 dq"}, "the rest as ever")
    loss = lambda row: next(o["nmse"] for o in row["options"] if o["treatment"] == "nf4 b64 dq")  # noqa: E731
    least = min(loss(row) for row in kept)
    left = 0.25 * choice["weights"] - sum(row["weights"] for row in kept)
    check(all(loss(row) <= least or row["weights"] > left for row in rows if row not in kept), "those that lose most, unless they do not fit")
    both = choose(tools, "model", "--keep-most-sensitive", "25", "--target-bpw", "7.5")
    check({row["name"] for row in both["tensors"] if row["reason"] == "most sensitive"} == {row["name"] for row in kept}, "with a target, too")
    check(both["bits_per_weight"] <= 7.5 and both["nmse"] <= choice["nmse"], "and they count")
    # Nobody wrote these rules: they have no numbers that a reader would look for.
    recipe = tools.work / "numbered.json"
    recipe.write_text(json.dumps({"rules": [{"match": rows[-1]["name"].replace(".", "\\."), "keep": True}]}))
    for options, numbered in (((), 0), (("--recipe", recipe), 1)):
        done = tools.run("q4convert", "model", "-o", "none.q4", "--dry-run", "--keep-most-sensitive", "25", *options)
        check("kept: chosen for the budget" in done.stdout and done.stdout.count("kept: recipe rule 1") == numbered == done.stdout.count("recipe rule"), "why a tensor is kept", done.stdout)


def test_odd_weights(tools):
    nan = struct.pack("<H", 0x7FC0)
    tensors = {
        "model.layers.0.mlp.up_proj.weight": ("BF16", (16, 64), bf16(values(1023, 1)) + nan),
        "model.layers.0.mlp.down_proj.weight": ("BF16", (16, 64), bf16([0.0] * 1024)),
        "model.layers.1.mlp.up_proj.weight": ("BF16", (33, 31), bf16(values(1023, 2))),
        "model.layers.1.mlp.down_proj.weight": ("F32", (16, 64), struct.pack("<1024f", *values(1024, 3))),
        # Near the top of F16: double-quantized scales decode to infinity, plain ones do not (numerics Q5.12).
        "model.layers.2.mlp.up_proj.weight": ("F16", (64, 64), struct.pack("<4096e", *[65504.0 if i % 64 == 0 else (i % 50) * 1000.0 for i in range(4096)])),
    }
    write(tools, "odd", tensors)
    refused = choose(tools, "odd", "--target-bpw", "6", code=3)
    check("Q4-4101" in refused and "element 1023" in refused, "as a conversion says it", refused)
    report = convert(tools, "odd", "odd.q4", "--target-bpw", "8", "--on-nonfinite", "keep")
    rows = rows_of(report["choice"])
    check(rows["model.layers.0.mlp.up_proj.weight"]["reason"] == "not finite", "kept, and counted")
    check(rows["model.layers.0.mlp.down_proj.weight"]["nmse"] == 0, "zeros lose nothing")
    treated = {tensor["name"]: tensor["treatment"] for tensor in report["tensors"]}
    check(all(treated[name] == row["chosen"] for name, row in rows.items()), "treated as chosen", treated)
    kept = rows_of(choose(tools, "odd", "--target-bpw", "8", "--on-nonfinite", "keep", "--keep-dtype", "bf16"))["model.layers.1.mlp.down_proj.weight"]
    last = kept["options"][-1]
    check(last["treatment"] == "BF16" and 1e-7 < last["nmse"] < 1e-5 and last["bits_per_weight"] == 16, "F32 at --keep-dtype loses a little", last)
    half = choose(tools, "odd", "--target-bpw", "8", "--on-nonfinite", "keep", "--type", "nf4", "--double-quant", "--block-size", "64")
    treatments = [o["treatment"] for o in rows_of(half)["model.layers.2.mlp.up_proj.weight"]["options"]]
    report = convert(tools, "odd", "nested.q4", "--on-nonfinite", "keep")
    plain = next(t for t in report["tensors"] if t["name"] == "model.layers.2.mlp.up_proj.weight")["treatment"]
    check(plain in treatments, "counted as the conversion makes it", plain, treatments)


def test_calibrated(tools):
    """With a calibration file what is weighed is the error of a layer's output: squared errors times the moments of their columns."""
    rng = random.Random(3)
    moments = [2 ** rng.gauss(0, 2) for _ in range(128)]
    up, down = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
    numbers = struct.unpack("<6144f", struct.pack("<6144f", *values(6144, 21, 5)))
    write(tools, "inputs", {up: ("F32", (48, 128), struct.pack("<6144f", *numbers)), down: ("F32", (48, 128), struct.pack("<6144f", *values(6144, 22, 5)))})
    (tools.work / "c.safetensors").write_bytes(calibration_file({up: moments}, {}))
    asked = ("--encoder", "weighted", "--calibration", "c.safetensors")
    report = convert(tools, "inputs", "chosen.q4", "--target-bpw", "4.5", "--write-recipe", "weighted.json", *asked)
    rows = rows_of(report["choice"])
    check(all(o["treatment"].endswith("weighted") for o in rows[up]["options"][:-1]), "by the file", rows[up]["options"])
    check(all(o["treatment"].endswith("mse") for o in rows[down]["options"][:-1]), "what it does not name is left to mse", rows[down]["options"])
    for settings, treatment in ((("--double-quant",), "nf4 b64 dq weighted"), (("--no-double-quant", "--block-size", "32", "--type", "fp4"), "fp4 b32 weighted")):
        convert(tools, "inputs", "uniform.q4", *asked, *settings)
        tools.run("q4export", "uniform.q4", "-o", "plain", "--to", "safetensors", "--force")
        decoded = struct.unpack("<6144f", safetensors_bytes.read(tools.work / "plain/model.safetensors")[up][2])
        error = sum(moments[i % 128] * (x - y) ** 2 for i, (x, y) in enumerate(zip(numbers, decoded)))
        expected = error / sum(moments[i % 128] * x * x for i, x in enumerate(numbers))
        measured = next(o["nmse"] for o in rows[up]["options"] if o["treatment"] == treatment)
        check(close(measured, expected, 1e-5), "measured as the output has it", treatment, measured, expected)
    convert(tools, "inputs", "again.q4", "--recipe", "weighted.json", *asked)
    check((tools.work / "chosen.q4").read_bytes() == (tools.work / "again.q4").read_bytes(), "the recipe makes the same bytes")


def test_refused(tools):
    for options, code, issue in [
        (("--target-bpw", "4.25", "--target-nmse", "0.01"), 1, "Q4-1001"), (("--target-bpw", "nan"), 1, "Q4-1001"), (("--target-bpw", "-1"), 1, "Q4-1001"),
        (("--keep-most-sensitive", "101"), 1, "Q4-1001"), (("--target-bpw", "4.0"), 1, "Q4-1651"), (("--target-bpw", "16.5"), 1, "Q4-1651"),
        (("--target-nmse", "0.5"), 1, "Q4-1651"), (("--target-bpw", "4.25", "--type", "nf4", "--no-double-quant", "--block-size", "32"), 1, "Q4-1651"),
        (("--target-bpw", "4.25", "--exclude", "."), 1, "Q4-1652"), (("--fused-alike",), 1, "Q4-1653"), (("--write-recipe", "r.json"), 1, "Q4-1653"),
        (("--target-bpw", "4.25", "--write-recipe", "model/config.json", "--force"), 1, "Q4-1002"), (("--target-bpw", "4.25", "--write-recipe", "x.q4"), 1, "Q4-1004"),
        (("--target-bpw", "4.25", "--write-recipe", "model/generation_config.json"), 1, "Q4-1005"),
    ]:  # fmt: skip
        before = sorted(path.name for path in tools.work.iterdir())
        said = tools.run("q4convert", "model", "-o", "x.q4", *options, code=code).stderr
        check(issue in said, f"{options}: {issue}", said)
        check(sorted(path.name for path in tools.work.iterdir()) == before, "nothing is left", options)
    # The range in the message can be asked for.
    said = tools.run("q4convert", "model", "-o", "x.q4", "--target-bpw", "4", code=1).stderr
    least, most = said.split("expected ")[1].split(" bits")[0].split(" to ")
    check(choose(tools, "model", "--target-bpw", least)["bits_per_weight"] <= float(least), "the least")
    check(choose(tools, "model", "--target-bpw", most)["nmse"] == 0, "the most")
    said = tools.run("q4convert", "model", "-o", "x.q4", "--target-nmse", "1", code=1).stderr
    choose(tools, "model", "--target-nmse", said.split("an NMSE from 0 to ")[1].split(")")[0])
    # A recipe that is there is not replaced without leave, and nothing else with it.
    (tools.work / "mine.json").write_text('{"rules": []}')
    (tools.work / "other.txt").write_text("mine")
    for name, options in (("mine.json", ()), ("other.txt", ("--force",))):
        said = tools.run("q4convert", "model", "-o", "x.q4", "--target-bpw", "4.5", "--write-recipe", name, *options, code=1).stderr
        check("Q4-1654" in said and not (tools.work / "x.q4").exists(), "not replaced", said)
    check((tools.work / "other.txt").read_text() == "mine", "untouched")
    tools.run("q4convert", "model", "-o", "x.q4", "--target-bpw", "4.5", "--write-recipe", "mine.json", "--force")
    check(len(json.loads((tools.work / "mine.json").read_text())["rules"]) > 1, "replaced with leave")
    said = tools.run("q4convert", "model", "-o", "x.q4", "--target-bpw", "4.5", code=1).stderr
    check("Q4-1102" in said, "an output that is there, before anything is measured", said)


def test_interrupted(tools):
    """Ctrl-C while it measures: exit code 7, nothing left; the next run gives the bytes of one that nobody disturbed."""
    if SANITIZED:
        return
    command = [tools.folder / "q4convert", "large", "-o", "cut.q4", "--target-bpw", "4.5", "--encoder", "mse", "--effort", "3", "--threads", "1", "-q"]
    process = subprocess.Popen(command, cwd=tools.work, stderr=subprocess.PIPE, text=True)
    try:
        process.wait(timeout=0.7)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    check(process.returncode == 7 and "Q4-4901" in said, "interrupted", process.returncode, said)
    check(not list(tools.work.glob("cut.q4*")), "nothing is left")


def main():
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(folder))
        write(tools, "model", layers_of(LAYERS))
        for test in (test_measured_is_recorded, test_targets, test_a_choice_is_a_recipe, test_however_it_runs, test_options_restrict, test_user_recipe,
                     test_alike, test_experts_and_ties, test_names, test_most_sensitive, test_odd_weights, test_calibrated, test_refused, test_interrupted):  # fmt: skip
            test(tools)
    print(f"budget_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
