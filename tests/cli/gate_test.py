#!/usr/bin/env python3
"""Gates, baselines, subsets and samples through the tools: exit codes, what is named, what is left behind.

    gate_test.py TOOLS CHECKPOINTS
"""

import json
import pathlib
import random
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
import safetensors_bytes as st  # noqa: E402
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402


class Run(Tools):
    def __call__(self, tool: str, *arguments, code: int = 0) -> tuple[str, str]:
        done = self.run(tool, *arguments, "--progress", "none", code=code)
        return done.stdout, done.stderr


def gate(work: pathlib.Path, *rules) -> pathlib.Path:
    path = work / "gate.json"
    path.write_text(json.dumps({"rules": rules}))
    return path


def converting(run: Run, work: pathlib.Path, source: pathlib.Path) -> None:
    for words in ([], ["--shard-size", "200KB"]):
        broken = gate(work, {"match": "down_proj", "max_nmse": 1e-6}, {"scope": "model", "min_sqnr_db": 60})
        _, stderr = run("q4convert", source, "-o", "m.q4", "--gate", broken, *words, code=6)
        lines = stderr.strip().split("\n")
        check(len(lines) == 3, "every breach has a line", stderr)
        check(all("[Q4-6305]" in line for line in lines), "each has its number", stderr)
        check("model.layers.0.mlp.down_proj.weight" in lines[0] and "model: " in lines[2], "tensors, then model", stderr)
        check(not list(work.glob("m*")), "a broken gate leaves nothing", list(work.iterdir()))
    # The plan shows it: before any weight is read, and in a dry run too. Each rule with what there is instead.
    nothing = (
        ({"match": "nothing", "max_nmse": 1}, "no name matches; there are 'model.layers.0.mlp.down_proj.weight', "),
        ({"match": "norm", "max_nmse": 1}, " tensors of such a name are not quantized, so that they have no error"),
        ({"match": "q_proj", "type": "fp4", "max_nmse": 1}, " tensors of such a name are of another type, block size or encoder"),
        ({"block_size": 128, "max_nmse": 1}, " tensors of such a name are of another type, block size or encoder"),
        ({"scope": "role", "match": "^x_proj$", "max_nmse": 1}, "no name matches; there are 'down_proj', "),
        ({"scope": "layer", "match": "layers.99", "max_nmse": 1}, "no name matches; there are 'model.layers.0', "),
    )
    for rule, why in nothing:
        for words in ([], ["--dry-run"], ["--shard-size", "200KB"]):
            _, stderr = run("q4convert", source, "-o", "m.q4", "--gate", gate(work, {"max_nmse": 1}, rule), *words, code=6)
            lines = stderr.strip().split("\n")
            check(len(lines) == 1 and "[Q4-6306]" in stderr and "rule 2" in stderr and why in stderr, f"{rule}: named", stderr)
            check(not list(work.glob("m*")), "a gate that tests nothing leaves nothing", list(work.iterdir()))
        run("q4convert", source, "-o", "m.q4", "--gate", gate(work, {"max_nmse": 1}, {**rule, "optional": True}), "--dry-run")
    _, stderr = run("q4convert", source, "-o", "m.q4", "--exclude", ".", "--gate",
                    gate(work, {"scope": "model", "max_nmse": 1}), "--dry-run", code=6)
    check("nothing is quantized" in stderr, "a model without quantized tensors has no error", stderr)
    run("q4convert", source, "-o", "m.q4", "--exclude", ".", "--max-nmse", "1e-9", "--dry-run")
    run("q4convert", source, "-o", "m.q4", "--gate", "missing.json", code=2)
    run("q4convert", source, "-o", "m.q4", "--gate", gate(work, {"max_nmes": 1}), code=3)
    run("q4convert", source, "-o", "m.q4", "--gate", gate(work, {"max_nmse": 1, "match": "("}), code=1)
    check(not (work / "m.q4").exists(), "nothing was written")

    run("q4convert", source, "-o", "plain.q4")
    run("q4convert", source, "-o", "m.q4", "--gate", gate(work, {"max_nmse": 0.02}, {"scope": "role", "max_bias": 1}))
    check((work / "m.q4").read_bytes() == (work / "plain.q4").read_bytes(), "a gate changes no byte")
    (work / "m.q4").unlink()


def default_gate(run: Run, source: pathlib.Path) -> None:
    for kind in ("nf4", "fp4"):
        for block in (32, 64, 128, 256, 512, 1024, 2048, 4096):
            run("q4convert", source, "-o", "d.q4", "--type", kind, "--block-size", block, "--gate", "default", "--force")
            run("q4verify", "d.q4", "--gate", "default")


def verifying(run: Run, work: pathlib.Path, source: pathlib.Path) -> None:
    run("q4verify", "plain.q4", "--gate", gate(work, {"scope": "layer", "max_nmse": 0.05}))
    _, stderr = run("q4verify", "plain.q4", "--gate", gate(work, {"scope": "role", "match": "_proj$", "max_nmse": 0}), code=6)
    check("role 'q_proj'" in stderr, "the role is named", stderr)

    before = run("q4verify", "plain.q4", "--json")[0]
    (work / "before.json").write_text(before)
    run("q4verify", "plain.q4", "--baseline", "before.json", "--baseline-slack", "0")
    run("q4convert", source, "-o", "fp4.q4", "--type", "fp4")
    stdout, stderr = run("q4verify", "fp4.q4", "--baseline", "before.json", "--json", "-v", code=6)
    breaches = json.loads(stdout)["gates"]
    check(breaches and all(gate["gate"] == "baseline" and not gate["passed"] for gate in breaches if gate["limit"]),
          "every quantized tensor, group and the model became worse")
    check(stderr.count("[Q4-6307]") == json.loads(stdout)["finding_count"], "each is named", stderr)
    run("q4verify", "fp4.q4", "--baseline", "before.json", "--baseline-slack", "300%")
    for slack in ("much", "-1", "15", "1.5", "nan", "10001%", "1%%", "%", "inf%"):
        _, stderr = run("q4verify", "plain.q4", "--baseline", "before.json", "--baseline-slack", slack, code=1)
        check("[Q4-1001]" in stderr, f"a slack of {slack} is refused", stderr)
    check("expected 15% or 0.15" in run("q4verify", "plain.q4", "--baseline", "before.json", "--baseline-slack", "15", code=1)[1],
          "above 1 both readings are shown")
    for slack in ("1", "100%", "0%", "1.0", "10000%"):
        run("q4verify", "plain.q4", "--baseline", "before.json", "--baseline-slack", slack)
    _, stderr = run("q4verify", "plain.q4", "--baseline-slack", "5%", code=1)
    check("--baseline" in stderr and "[Q4-1001]" in stderr, "a slack without a baseline is refused", stderr)
    (work / "no.json").write_text("{}")
    check("[Q4-4206]" in run("q4verify", "plain.q4", "--baseline", "no.json", code=3)[1], "what is no report is refused")

    report = json.loads(run("q4verify", "plain.q4", "--against", source, "--tensor", "q_proj", "--json")[0])
    compared = {tensor["name"] for tensor in report["tensors"] if tensor["compared"]}
    check(compared == {t["name"] for t in report["tensors"] if "q_proj" in t["name"]}, "the subset alone is compared")
    report = json.loads(run("q4verify", "plain.q4", "--against", source, "--sample", "5", "--json")[0])
    check(report["sample_percent"] == 5 and report["passed"], "a sample says so")
    for words in (["--tensor", "x"], ["--sample", "5"]):
        run("q4verify", "plain.q4", *words, code=1)  # of what?
    for sample in ("0", "101", "nan", "-1", "x"):
        run("q4verify", "plain.q4", "--against", source, "--sample", sample, code=1)
    check("[Q4-6219]" in run("q4verify", "plain.q4", "--against", source, "--tensor", "nothing", code=1)[1],
          "a subset of nothing is refused")


def weights(path: pathlib.Path, seed: int, names) -> None:
    values = random.Random(seed)
    # Small numbers of both signs, as bf16.
    tensors = {name: ("BF16", (64, 64), b"".join(bytes((values.randrange(256), 0x3C | values.randrange(2) << 7)) for _ in range(4096)))
               for name in names}
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(st.tensor_file(tensors))


def causes(run: Run, work: pathlib.Path) -> None:
    """That it is not the source of this container comes before what differs therefore, in every report."""
    names = [f"layers.{i}.up_proj.weight" for i in range(120)]
    half = len(names) // 2
    index = json.dumps({"weight_map": {name: f"b{i // half}.safetensors" for i, name in enumerate(names)}})

    def sharded(folder: str, *seeds: int) -> None:
        for i, seed in enumerate(seeds):
            weights(work / folder / f"b{i}.safetensors", seed, names[i * half:(i + 1) * half])
        (work / folder / "model.safetensors.index.json").write_text(index)

    weights(work / "one/model.safetensors", 1, names)
    weights(work / "other/model.safetensors", 2, names)
    weights(work / "longer/model.safetensors", 2, [*names, "z.weight"])
    sharded("two", 3, 4)
    sharded("second", 3, 5)
    for source, other, differ in (("one", "other", 1), ("one", "longer", 1), ("two", "second", 1), ("two", "one", 3), ("one", "two", 3)):
        run("q4convert", source, "-o", "m.q4", "--force")
        what = f"{other} for {source}"
        out, stderr = run("q4verify", "m.q4", "--against", other, "--json", "--junit", "r.xml", "--markdown", "r.md", "--html", "r.html", code=6)
        lines = stderr.strip().split("\n")
        report = json.loads(out)
        check(all("[Q4-6217]" in line for line in lines[:differ]), f"{what}: the cause comes first", stderr)
        check("[Q4-6217]" not in "".join(lines[differ:]), f"{what}: then what follows from it", stderr)
        check(len(lines) == 11 and lines[10].endswith(f": and {report['finding_count'] - 10} more problems"), f"{what}: ten lines", stderr)
        numbers = [finding["issue"] for finding in report["findings"]]
        check(numbers[:differ] == [6217] * differ and len(numbers) == 100, f"{what}: JSON has it first", numbers[:4])
        for name in ("r.xml", "r.md", "r.html"):
            text = (work / name).read_text()
            check(0 < text.find("6217") < text.find("6207"), f"{what}: {name} has it first")
    lines = run("q4verify", "m.q4", "--against", "one", "--tensor", "layers.7.", "-v")[1]
    check("Q4-" not in lines, "a part of the right source is right", lines)
    lines = run("q4verify", "m.q4", "--against", "other", "-v", code=6)[1].strip().split("\n")
    check(sum("[Q4-" in line for line in lines) == 100, "-v prints all that are listed", len(lines))


def main() -> int:
    tools, checkpoints = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    source = checkpoints / "tiny_plain_src"
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        run = Run(tools, work)
        converting(run, work, source)
        default_gate(run, source)
        verifying(run, work, source)
        causes(run, work)
    print(f"gate_test: {checks.count()} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
