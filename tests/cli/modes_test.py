#!/usr/bin/env python3
"""No option is left unheard: in every mode of every tool each option changes what comes out, is refused by name, or is named on stderr.

    modes_test.py TOOLS CHECKPOINTS

Options come from --help, so that a new one is asked here by itself. ALWAYS has those that a mode may be given and need not heed, each with
the reason. What the tools print on the way is looked at too: a count of one is told in the singular.
"""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402
import safetensors_bytes as st  # noqa: E402
from tools import Tools  # noqa: E402

# How the work is done, which may change no result, and leave that is given and that nothing may need.
ALWAYS = {
    "--threads": "how", "--max-memory": "how", "--device": "how", "--progress": "how", "--sync-every": "how", "--no-resume": "how",
    "--color": "how", "--verbose": "how", "--force": "leave", "--follow-symlinks": "leave", "--allow-empty": "leave",
    "--allow-unmatched": "leave", "--on-nonfinite": "leave", "--from-quantized": "leave", "--into": "leave", "--experts": "leave", "--unloadable": "leave",
    "--require-proof": "a check, which holds", "--double-quant": "the default", "--help": "ends", "--version": "ends",
}  # fmt: skip
# (tool, mode, option): why it may change nothing there.
QUIET = {
    ("q4inspect", "tensor", "--stats"): "one tensor in depth has its statistics",
    ("q4inspect", "tensor", "--hist"): "and how its codes are used",
    ("q4inspect", "summary", "--content"): "what is not compressed tells its identity without being asked",
    ("q4inspect", "diff with the source", "--all"): "nothing differs from what it was made of",
    ("q4export", "bnb", "--card"): "the default",
    ("q4export", "pipeline", "--card"): "the default",
    ("q4export", "safetensors", "--no-card"): "the default",
    ("q4convert", "budget", "--fused-alike"): "layers that vLLM joins are chosen alike here without being asked",
    ("q4convert", "part", "--shard-by"): "parts are of shards that end where source files do",
    ("q4convert", "status", "--parts"): "says which parts are missing, and none is",
}
# Values that are not the default, and that something in the model answers to.
VALUES = {
    "--adapter": "adapter", "--add-file": "extra.json=extra.json", "--base-model": "owner/name", "--block-size": "128",
    "--calibration": "m.q4", "--card": None, "--color": "always", "--components": "text_encoder", "--compress": "zstd", "--compute-dtype": "float32",
    "--baseline": "base.json", "--baseline-slack": "5%", "--against": "src", "--device": "cpu", "--diff": "n.q4", "--drop-file": "config.json", "--dtype": "fp32",
    "--dump": "0:4", "--effort": "1", "--encoder": "mse", "--evaluation": "m.q4", "--exclude": "q_proj", "--experts": "keep4bit", "--filter": "q_proj",
    "--gate": "tight.gate", "--html": "r.html", "--include": "embed", "--junit": "r.xml", "--keep-dtype": "fp32", "--keep-most-sensitive": "20", "--limit": "kl_mean <= 0.02",
    "--markdown": "r.md", "--max-abs-error": "1e-9", "--max-memory": "1GiB", "--max-nmse": "1e-9", "--merge": "verified", "--min-sqnr": "99",
    "--on-nonfinite": "keep", "--output": "other.q4", "--part": "0/2", "--parts": "2", "--progress": "plain", "--quant-storage": "bfloat16", "--recipe": "r.recipe",
    "--report": "r.json", "--root": "sha256:" + "0" * 64, "--sample": "50", "--sample-seed": "7", "--shard-by": "source", "--shard-size": "100KB", "--sort": "size",
    "--source-digest": "xxh3", "--sync-every": "1MB", "--target-bpw": "5", "--target-nmse": "0.1", "--tensor": "norm", "--threads": "1", "--to": "safetensors",
    "--top": "3", "--type": "fp4", "--unloadable": "dequantize", "--write-recipe": "w.recipe",
}  # fmt: skip
CONVERT = ["-o", "out.q4"]
QUANTIZED = "model.layers.0.self_attn.q_proj.weight"
MODES = {
    "q4inspect": {
        "summary": ["m.q4"], "tensors": ["m.q4", "--tensors"], "tree": ["m.q4", "--tree"], "tensor": ["m.q4", "--tensor", QUANTIZED],
        "tensor and dump": ["m.q4", "--tensor", QUANTIZED, "--dump", "0:8"], "stats": ["m.q4", "--stats"], "hist": ["m.q4", "--hist"],
        "scales": ["m.q4", "--scales"], "files": ["m.q4", "--files"], "content": ["z.q4", "--content"], "diff": ["m.q4", "--diff", "n.q4"],
        "diff with the source": ["m.q4", "--diff", "src"], "lint": ["m.q4", "--lint"], "card": ["m.q4", "--card"], "command": ["m.q4", "--command"],
        "checkpoint": ["src"], "pipeline": ["pipe"], "converted pipeline": ["pipe_q4"],
    },
    "q4verify": {
        "alone": ["m.q4"], "against": ["m.q4", "--against", "src"], "part": ["s.q4.index.json", "--part", "0/2"], "merge": ["s.q4.index.json", "--merge", "verified"],
        "pipeline": ["pipe_q4"], "pipeline against": ["pipe_q4", "--against", "pipe"],
    },
    "q4export": {
        "bnb": ["m.q4", "--to", "bnb", "-o", "out"], "safetensors": ["m.q4", "--to", "safetensors", "-o", "out"], "pipeline": ["pipe_q4", "--to", "bnb", "-o", "out"],
    },
    "q4convert": {
        "convert": ["src", *CONVERT], "dry run": ["src", "--dry-run"], "compare": ["src", "--compare", "--type", "nf4", "--block-size", "64", "--encoder", "absmax"],
        "budget": ["src", *CONVERT, "--target-bpw", "6.5"], "part": ["src", *CONVERT, "--part", "0/2"], "merge": ["joined/parts.q4", "--merge"], "status": ["joined/parts.q4", "--status"],
        "repack": ["m.q4", *CONVERT], "repack, dry run": ["m.q4", "--dry-run"], "again": ["m.q4", *CONVERT, "--from-quantized"],
        "pipeline": ["pipe", "-o", "out"], "pipeline, dry run": ["pipe", "--dry-run"],
    },
}  # fmt: skip
SINGULAR = re.compile(r"(?<![\d.,:/-])1 (?:more |other |quantized |embedded |broken )?(?:tensors|files|shards|parts|blocks|weights|errors|warnings|problems|limits|threads|elements|scales|codes|components|layers|rows|gates|rules|settings)\b")


class World:
    def __init__(self, folder: pathlib.Path, work: pathlib.Path, checkpoints: pathlib.Path):
        self.tools, self.work, self.runs = Tools(folder, work), work, 0
        self.faults: list = []  # all of them are told at once
        shutil.copytree(checkpoints / "tiny_plain_src", work / "src")
        for name, words in (("m", []), ("n", ["--type", "fp4"]), ("z", ["--compress", "zstd"]), ("s", ["--shard-size", "100KB"])):
            self.tools.run("q4convert", "src", "-o", f"{name}.q4", "-q", *words)
        (work / "parts").mkdir()
        for part in range(2):
            self.tools.run("q4convert", "src", "-o", "parts/parts.q4", "-q", "--shard-size", "100KB", "--part", f"{part}/2")
        (work / "verified").mkdir()
        for part in range(2):
            (work / f"verified/{part}.json").write_text(self.tools.run("q4verify", "s.q4.index.json", "--part", f"{part}/2", "--json").stdout)
        shutil.copytree(work / "src", work / "pipe/text_encoder")
        shutil.copytree(work / "src", work / "pipe/text_encoder_2")
        (work / "pipe/model_index.json").write_text(
            '{"_class_name": "P", "text_encoder": ["transformers", "LlamaModel"], "text_encoder_2": ["transformers", "LlamaModel"]}')
        self.tools.run("q4convert", "pipe", "-o", "pipe_q4", "-q")
        (work / "base.json").write_text(self.tools.run("q4verify", "n.q4", "--json").stdout)
        (work / "extra.json").write_text("{}")
        (work / "tight.gate").write_text('{"rules": [{"max_nmse": 1e-9}]}')
        (work / "r.recipe").write_text('{"rules": [{"match": "q_proj", "keep": true}]}')
        one = {"a.weight": ("F32", (64, 64), st.floats(*[(i % 31 - 15) / 16 for i in range(4096)]))}
        (work / "one").mkdir()
        (work / "one/model.safetensors").write_bytes(st.tensor_file(one))
        (work / "one/config.json").write_text("{}")
        self.made = self.names()

    def names(self) -> set:
        return {path.relative_to(self.work).as_posix() for path in self.work.rglob("*")}

    def run(self, tool: str, words: list):
        """Exit code, what comes out (without times), and stderr; what was written is part of it, and removed."""
        if any(word.startswith("joined/") for word in words):  # a merge takes away what it has joined
            shutil.copytree(self.work / "parts", self.work / "joined")
        done = subprocess.run([self.tools.folder / tool, *map(str, words)], cwd=self.work, capture_output=True, text=True, check=False)
        self.runs += 1
        text = re.sub(r'"\w*seconds": [\d.e-]+|\d+\.\d+ s\b|"seed": \d+|sample \w+', "TIME", done.stdout)
        lines = [line for line in text.split("\n") if tool != "q4convert" or "core s" not in line]
        written = []
        for name in sorted(self.names() - self.made):
            path = self.work / name
            if path.is_file():
                content = re.sub(rb'"\w*seconds": [\d.e-]+', b"TIME", path.read_bytes())
                written.append((name, hashlib.sha256(content).hexdigest()))
        for name in sorted({name.split("/")[0] for name in self.names() - self.made}):
            path = self.work / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        check(self.made <= self.names(), f"{tool} {words} removes nothing", self.made - self.names())
        wrong = SINGULAR.search(done.stdout + done.stderr)
        if wrong:
            self.faults.append(f"{tool} {' '.join(words)}: {wrong[0]!r}")
        return done.returncode, lines, written, done.stderr


def options_of(world: World, tool: str) -> dict:
    """--name -> whether it has a value; of the first name of a line."""
    text = world.tools.run(tool, "--help").stdout
    found = {}
    for line in text.split("\n"):
        names = re.match(r"  (?:-\w, )?(--[\w-]+)((?:, --[\w-]+)*)( [^ ]+)?(?: {2,}|$)", line)
        if names:
            found[names[1]] = names[3] is not None
            for other in re.findall(r"--[\w-]+", names[2]):
                found[other] = names[3] is not None
    check(len(found) > 10, f"{tool} --help lists its options", found)
    return found


def ask(world: World, tool: str, mode: str, words: list, options: dict, used: set) -> None:
    base = world.run(tool, words)
    for option, has_value in options.items():
        if option in ALWAYS or option in words or (option == "--output" and "-o" in words):
            continue
        if option == "--output" and tool != "q4convert":
            continue
        check(not has_value or option in VALUES, f"{tool} {option} has a value in VALUES")
        added = [option, VALUES[option]] if has_value else [option]
        code, out, written, said = world.run(tool, [*words, *added])
        # By its own name or value, or as what the option that is there does not go with.
        named = any(name in said for name in (option.replace("--no-", "--"), VALUES.get(option) or option, *(word for word in words if word.startswith("--"))))
        if code == 1 and not named:
            world.faults.append(f"{tool} {mode} {option} is refused without its name: {said}")
        heard = code != base[0] or out != base[1] or written != base[2] or (option in said and option not in base[3])
        if option == "--quiet":
            heard = heard or said != base[3]
        if (tool, mode, option) in QUIET:
            used.add((tool, mode, option))
            check(not heard, f"{tool} {mode} {option} changes nothing, as QUIET says")
        elif not heard:
            world.faults.append(f"nobody hears {' '.join(added)} of {tool} {' '.join(words)}")


def one_of_each(world: World) -> None:
    """A model of one tensor and one file, by all that counts."""
    for words in (["one", "--dry-run"], ["one", "--dry-run", "-v"], ["one", "-o", "one.q4", "-v", "--max-nmse", "1"], ["one", "--compare"]):
        world.run("q4convert", words)
    world.tools.run("q4convert", "one", "-o", "one.q4", "-q")
    world.tools.run("q4convert", "one", "-o", "kept.q4", "-q", "--exclude", ".")
    world.made |= world.names()
    for view in ([], ["--tensors"], ["--stats"], ["--hist"], ["--scales"], ["--files"], ["--tree"], ["--lint"], ["--diff", "kept.q4"], ["--tensor", "a.weight"]):
        for file in ("one.q4", "kept.q4", "one"):
            world.run("q4inspect", [file, *view])
    for words in ([], ["--against", "one"], ["--max-nmse", "1e-9"], ["--max-nmse", "1"], ["--markdown", "r.md", "--html", "r.html"]):
        world.run("q4verify", ["one.q4", *words])
    for to in ("bnb", "safetensors"):
        world.run("q4export", ["one.q4", "--to", to, "-o", "out"])


def main() -> None:
    folder, checkpoints = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    used: set = set()
    with tempfile.TemporaryDirectory() as temporary:
        world = World(folder, pathlib.Path(temporary), checkpoints)
        one_of_each(world)
        for tool, modes in MODES.items():
            options = options_of(world, tool)
            for mode, words in modes.items():
                ask(world, tool, mode, words, options, used)
    check(not world.faults, "each option is heard, and one is told in the singular:\n" + "\n".join(world.faults))
    check(used == set(QUIET), "QUIET has nothing that is no longer so", set(QUIET) - used)
    print(f"modes: {world.runs} runs, {checks.count()} checks")


if __name__ == "__main__":
    main()
