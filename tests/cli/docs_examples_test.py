#!/usr/bin/env python3
"""Every block of code of README.md and docs/: run here as it stands, run by another test, or named with the reason why not.

    docs_examples_test.py TOOLS CHECKPOINTS [PAGE...]
    docs_examples_test.py TOOLS CHECKPOINTS --update   writes the samples of output anew

A block of `sh` is run line by line in a folder that has what SETUP says, each line as a reader would type it. A block behind
`<!-- sample: COMMAND -->` is what that command prints there, but for versions and digests. A page of messages (TROUBLESHOOTING) quotes what the
tools say. A block that none of the tables knows fails: say what becomes of it.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402

# Not run, line by line: {what the line begins with or holds: why}.
NOT_RUN = {
    "sh scripts/": "builds the whole project; CI runs these scripts themselves",
    ".ci/run": "the same",
    "cmake --fresh": "the same",
    "ctest": "the same",
    "q4calibrate": "needs torch and a model that runs; python_calibrate and python_imatrix run it",
    "--calibration": "needs a file of q4calibrate; calibrated and feedback run it",
    "./my-lora": "needs an adapter; adapter runs it",
    "--evaluation": "needs a file of q4.evaluate; python_evaluate runs it",
    "FLUX.1-dev": "needs a pipeline of diffusers; pipeline runs it",
    "flux-q4": "the same",
    "python -m sglang": "needs SGLang and a GPU",
    "vllm serve": "needs vLLM and a GPU",
    "bench/": "a benchmark; how a figure was measured",
    "load_bench": "a benchmark, for a GPU in part; the build makes it with Q4_BUILD_BENCH",
    "ssh-keygen": "needs the reader's key; root runs signing with one of its own",
    "minisign": "the same",
    "hf download": "needs a network",
}
# Exit codes of lines that are to end with another one than 0.
CODES = {"--diff": 6}
# Blocks of other languages: {(page, how the block begins): what becomes of it}. "run: TEST" names the ctest entry that runs it.
PROSE = "a picture, a form of a command, or what a command printed about a model that is not here"
OTHERS = {
    ("README.md", " model.safetensors, shards,"): PROSE,
    ("README.md", "import q4\n\nreport"): "run: python_docs",
    ("README.md", "import q4.transformers"): "needs a model with a tokenizer; python_integrations runs the same load",
    ("README.md", "print(q4.evaluate("): "needs a model with a tokenizer; python_evaluate runs q4.evaluate",
    ("docs/architecture.md", ""): PROSE,
    ("docs/calibration.md", "import q4"): "run: python_calibrate, in its own words",
    ("docs/calibration.md", "q4.calibration_from_imatrix"): "run: python_imatrix, in its own words",
    ("docs/calibration.md", "from safetensors import"): "a sketch of the format, which the page describes",
    ("docs/calibration.md", "1 {"): PROSE,
    ("docs/ci.md", "name: q4\n"): "run: ci_yaml",
    ("docs/ci.md", "convert:\n"): "run: ci_yaml",
    ("docs/evaluate.md", "import q4"): "needs a model with a tokenizer; python_evaluate runs q4.evaluate",
    ("docs/evaluate.md", "original: "): PROSE,
    ("docs/format.md", ""): "run: worked_example; the first block is a picture",
    ("docs/gates.md", "q4verify: m.q4"): PROSE,
    ("docs/jobs.md", "import q4\n"): "run: python_docs",
    ("docs/jobs.md", "import q4.transformers"): "run: python_integrations",
    ("docs/loading.md", "file ──▶"): PROSE,
    ("docs/loading.md", "#include <cstdio>"): "run: loader_example",
    ("docs/loading.md", "find_package(q4"): "run: install, in whole projects",
    ("docs/loading.md", "model.q4: tensor"): PROSE,
    ("docs/loading.md", "q4::LoadPlanOptions"): "a part of a program; load_plan tests what it calls",
    ("docs/loading.md", "what.slices"): "a part of a program; load_plan tests what it calls",
    ("docs/loading.md", "options.root"): "a part of a program; root tests what it calls",
    ("docs/loading.md", "q4_load_options options"): "compiled here",
    ("docs/numerics.md", ""): PROSE,
    ("docs/performance.md", ""): "how a figure was measured, on a machine that the page names",
    ("docs/python.md", ""): "run: python_docs",
    ("docs/python_torch.md", ""): "run: python_integrations",
    ("docs/python_transformers.md", ""): "run: python_integrations",
    ("docs/python_diffusers.md", ""): "run: python_integrations",
    ("docs/python_vllm.md", ""): "run: python_integrations",
    ("docs/python_sglang.md", ""): "run: python_integrations",
    ("docs/q4convert.md", "q4convert "): PROSE,
    ("docs/q4convert.md", "budget  "): PROSE,
    ("docs/q4export.md", "q4export FILE"): PROSE,
    ("docs/q4export.md", "from transformers"): "run: python_integrations",
    ("docs/q4inspect.md", "q4inspect FILE"): PROSE,
    ("docs/q4verify.md", ""): PROSE,
}
# Pages whose commands have tests of their own.
ELSEWHERE = {
    "docs/scale_out.md": "many machines",
    "docs/network.md": "servers",
    "docs/install.md": "packages, in fresh roots",
    "docs/choosing.md": "the comparison of settings",
}
# What lies in the folder: models by the names that pages give them, and containers, each with the options that it is made with.
MODELS = ("model", "Llama-3.1-8B", "Llama-3.2-1B", "Mixtral-8x7B", "DIRECTORY")
SETUP = {
    "docs/jobs.md": {},
    "README.md": {},
    "docs/lint.md": {"model.q4": ()},
    "docs/q4export.md": {"model.q4": (), "mixtral.q4": ()},
    "docs/q4inspect.md": {"model.q4": (), "old.q4": (), "new.q4": ("--block-size", "128"), "searched.q4": ("--encoder", "mse")},
    "docs/q4verify.md": {"model.q4": (), "mine.q4": (), "searched.q4": ("--encoder", "mse")},
    "docs/evaluate.md": {"nf4.q4": ()},
    "docs/gates.md": {"model.q4": ()},
    "docs/policy.md": {},
}
FENCE = re.compile(r"^(?:<!-- sample: ([^\n]*) -->\n)?```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Reader:
    """Types what a page shows, in a folder of its own."""

    def __init__(self, page: str, folder: pathlib.Path, tools: pathlib.Path, checkpoints: pathlib.Path):
        self.page, self.folder = page, folder
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(folder), "COLUMNS": "200", "NO_COLOR": "1"}
        self.ran = self.left = 0
        source = checkpoints / "tiny_bf16st_src"
        for name in MODELS:
            shutil.copytree(source, folder / name)
        shutil.copy(source / "model.safetensors", folder)
        (folder / "scripts").symlink_to(ROOT / "scripts")
        for name, options in SETUP.get(page, {}).items():
            self.type(f"q4convert model -o {name} -q " + " ".join(options))

    def type(self, line: str, code: int = 0) -> str:
        done = subprocess.run(["sh", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True)
        check(done.returncode == code, f"{self.page}: `{line}` ends with {code}", done.returncode, done.stderr[-800:])
        return done.stdout

    def shell(self, block: str) -> None:
        for line in block.replace("\\\n", " ").splitlines():
            command = line.split("  #")[0].strip()
            if not command or command.startswith(("#", "set -eu")):
                continue
            reason = next((why for word, why in NOT_RUN.items() if word in command), None)
            programs = [name for name in ("jq",) if f"{name} " in command and shutil.which(name) is None]
            if reason or programs:
                self.left += 1
                continue
            self.type(command, next((code for word, code in CODES.items() if word in command), 0))
            self.ran += 1

    def json(self, block: str) -> None:
        """A gate file or a recipe, whole or one rule of it, as the tool takes it; what it names need not be in the model at hand."""
        document = json.loads(block)
        rules = document if "rules" in document else {"rules": [document]}
        if any(rule.get("scope") == "evaluation" for rule in rules["rules"]):
            self.left += 1  # needs a file of q4.evaluate; its form is checked by evaluation tests
            return
        (self.folder / "rules.json").write_text(json.dumps(rules))
        if self.page == "docs/policy.md":
            self.type("q4convert model -o rules.q4 --recipe rules.json --dry-run --allow-unmatched")
        else:
            done = subprocess.run(["q4verify", "model.q4", "--gate", "rules.json"], cwd=self.folder, env=self.environment,
                                  capture_output=True, text=True)
            check(done.returncode in (0, 6), f"{self.page}: a gate file that q4verify takes", done.stderr)
        self.ran += 1

    def c(self, block: str) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            self.left += 1
            return
        program = ("#include <stdio.h>\n#include \"libconvert/load/q4_loader_c.h\"\n"
                   "static void use(const void* a, const void* b, const void* c, float d, unsigned e) "
                   "{ (void)a; (void)b; (void)c; (void)d; (void)e; }\nint main(void) {\n" + block + "return 0; }\n")
        (self.folder / "example.c").write_text(program)
        self.type(f"{compiler} -std=c99 -Wall -Werror -I{ROOT} -fsyntax-only example.c")
        self.ran += 1


def same(printed: str) -> str:
    """Without what another version of q4 changes in a container: its own number, and so the digests."""
    return re.sub(r"q4convert \d+\.\d+\.\d+|\b[0-9a-f]{64}\b", "", printed)


def becomes(page: str, block: str) -> str | None:
    return next((what for (where, begin), what in OTHERS.items() if where == page and block.startswith(begin)), None)


def read_page(page: str, reader: Reader, update: bool) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    for sample, language, block in FENCE.findall(text):
        if sample:
            printed = reader.type(sample, next((code for word, code in CODES.items() if word in sample), 0))
            if update:
                text = text.replace(f"<!-- sample: {sample} -->\n```{language}\n{block}", f"<!-- sample: {sample} -->\n```{language}\n{printed}")
            else:
                check(same(printed) == same(block), f"{page}: `{sample}` prints what the page shows; --update writes it anew", printed)
            reader.ran += 1
        elif language == "sh":
            reader.shell(block)
        elif language == "json":
            reader.json(block)
        else:
            what = becomes(page, block)
            check(what is not None, f"{page}: somebody runs the block, or a reason is given", block[:80])
            reader.left += 1
            if language == "c":
                reader.c(block)
    if update:
        path.write_text(text, encoding="utf-8")


def check_messages() -> None:
    """What docs/troubleshooting.md quotes is what the number says."""
    rules = dict(re.findall(r"^\| (Q4-\d{4}) \| \d \| (.*?) \| ", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE))
    rows = re.findall(r"^\| `([^`]+)` (Q4-\d{4}) \|", (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    check(len(rows) > 40, "troubleshooting has its rows", len(rows))
    for words, number in rows:
        check(words in rules.get(number, ""), f"{number} says '{words}'", rules.get(number))


def main() -> None:
    tools, checkpoints = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    update, wanted = "--update" in sys.argv, [page for page in sys.argv[3:] if page != "--update"]
    ran = left = blocks = 0
    begins = set()
    pages = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
    for page in wanted or pages:
        found = FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
        if not found or page in ELSEWHERE:
            continue
        begins |= {(where, begin) for where, begin in OTHERS for _, _, block in found if where == page and block.startswith(begin)}
        with tempfile.TemporaryDirectory(prefix="q4-docs-") as folder:
            reader = Reader(page, pathlib.Path(folder), tools, checkpoints)
            read_page(page, reader, update)
            blocks, ran, left = blocks + len(found), ran + reader.ran, left + reader.left
    if not wanted:
        check(begins == set(OTHERS), "every entry of OTHERS is about a block", sorted(set(OTHERS) - begins))
        check(ran > 50, "most commands are run", ran)
    check_messages()
    print(f"docs_examples: {blocks} blocks, {ran} commands and files run here, {left} elsewhere or with a reason, {checks.count()} checks")


if __name__ == "__main__":
    main()
