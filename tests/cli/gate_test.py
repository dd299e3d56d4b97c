#!/usr/bin/env python3
"""Gates, baselines, subsets and samples through the tools: exit codes, what is named, what is left behind.

    gate_test.py TOOLS CHECKPOINTS
"""

import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
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
    _, stderr = run("q4convert", source, "-o", "m.q4", "--gate", gate(work, {"match": "nothing", "max_nmse": 1}), code=6)
    check("[Q4-6306]" in stderr and not (work / "m.q4").exists(), "a gate that tests nothing fails", stderr)
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
    stdout, stderr = run("q4verify", "fp4.q4", "--baseline", "before.json", "--json", code=6)
    breaches = json.loads(stdout)["gates"]
    check(breaches and all(gate["gate"] == "baseline" and not gate["passed"] for gate in breaches if gate["limit"]),
          "every quantized tensor, group and the model became worse")
    check(stderr.count("[Q4-6307]") == json.loads(stdout)["finding_count"], "each is named", stderr)
    run("q4verify", "fp4.q4", "--baseline", "before.json", "--baseline-slack", "300%")
    run("q4verify", "plain.q4", "--baseline", "before.json", "--baseline-slack", "much", code=1)
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


def main() -> int:
    tools, checkpoints = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    source = checkpoints / "tiny_plain_src"
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        run = Run(tools, work)
        converting(run, work, source)
        default_gate(run, source)
        verifying(run, work, source)
    print(f"gate_test: {checks.count()} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
