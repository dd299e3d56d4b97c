#!/usr/bin/env python3
"""q4convert --adapter as it is used: interrupted, with little memory, with wrong things beside it.

    adapter_test.py TOOLS [--sanitized] [--table]

  - a conversion that is killed goes on, and one whose adapter was exchanged since begins again;
  - a large rank keeps the bound on memory;
  - the output and reports may be none of the adapter's files, and shards name the adapter alike;
  - a container that is decoded and quantized again, whole and in parts;
  - bases that nothing is merged into, and a folder that holds model and adapter.
--table prints what a merge costs.
"""

import argparse
import json
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
import safetensors_bytes as st  # noqa: E402
from checks import check  # noqa: E402
from interrupted import check_resumes, interrupt  # noqa: E402

LAYERS, SIZE = 12, 1024


def module(number):
    return f"model.layers.{number}.mlp.up_proj"


def noise(rng, count, exponent):
    """BF16 near 2^exponent, of one pattern again and again."""
    pattern = b"".join(bytes([rng.randrange(256), (0x3F + exponent // 2) | rng.choice((0, 0x80))]) for _ in range(509))
    return (pattern * (2 * count // len(pattern) + 1))[:2 * count]


def lay_base(folder, size=SIZE, layers=LAYERS):
    rng = random.Random(1)
    folder.mkdir()
    tensors = {f"{module(n)}.weight": ("BF16", (size, size), noise(rng, size * size, -4)) for n in range(layers)}
    (folder / "model.safetensors").write_bytes(st.tensor_file(tensors))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


def lay_adapter(folder, seed, rank=8, size=SIZE, layers=LAYERS, **config):
    rng = random.Random(seed)
    folder.mkdir(exist_ok=True)
    tensors = {}
    for n in range(layers):
        tensors[f"base_model.model.{module(n)}.lora_A.weight"] = ("BF16", (rank, size), noise(rng, rank * size, -8))
        tensors[f"base_model.model.{module(n)}.lora_B.weight"] = ("BF16", (size, rank), noise(rng, size * rank, -8))
    (folder / "adapter_model.safetensors").write_bytes(st.tensor_file(tensors))
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 16, **config}))


class Test:
    def __init__(self, arguments, work):
        self.folder, self.work, self.arguments = arguments.tools.resolve(), work, arguments

    def run(self, tool, *given, code=0, says=""):
        done = subprocess.run([self.folder / tool, *map(str, given)], cwd=self.work, capture_output=True, text=True, check=False)
        check(done.returncode == code, f"{tool} {given} ends with {code}", done.returncode, done.stderr)
        check(says in done.stderr, f"{tool} {given} says {says}", done.stderr)
        return done

    def bytes(self, name="out.q4"):
        return (self.work / name).read_bytes()

    def killed(self):
        command = [self.folder / "q4convert", "m", "--adapter", "a", "-o", "out.q4", "-q", "--sync-every", "256KiB", "--threads", "1"]
        subprocess.run(command, cwd=self.work, check=True)
        expected = self.bytes()
        self.run("q4convert", "m", "-o", "plain.q4", "-q")
        check(self.bytes("plain.q4") != expected, "an adapter changes the model")
        check_resumes(command, self.work, expected, 6, 1500)
        # Exchanged between two runs: other factors of the same size, or another scale.
        for exchange in (lambda: lay_adapter(self.work / "a", 3), lambda: lay_adapter(self.work / "a", 3, lora_alpha=32)):
            (self.work / "out.q4").unlink()
            while not interrupt(command, self.work, 1500):
                (self.work / "out.q4").unlink()
            exchange()
            subprocess.run(command, cwd=self.work, check=True)
            resumed = self.bytes()
            (self.work / "out.q4").unlink()
            subprocess.run(command, cwd=self.work, check=True)
            check(resumed == self.bytes(), "an exchanged adapter begins again")
            check(resumed != expected, "and gives another model")
            expected = resumed
        self.run("q4verify", "out.q4", "--against", "m", "--adapter", "a", "-q")
        lay_adapter(self.work / "a", 2)
        self.run("q4verify", "out.q4", "--against", "m", "--adapter", "a", "-q", code=6, says="adapter_model.safetensors")
        self.run("q4verify", "plain.q4", "--against", "m", "--adapter", "a", "-q", code=6, says="no shard records it")
        self.run("q4verify", "plain.q4", "--adapter", "a", code=1, says="--against")
        self.run("q4verify", "out.q4", "--against", "m", code=1, says="Q4-1830")

    def memory(self):
        lay_adapter(self.work / "large", 5, rank=700)
        bound = 48 << 20
        runner = ("import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:]); _, s, u = os.wait4(p.pid, 0);"
                  "print(os.waitstatus_to_exitcode(s), u.ru_maxrss)")
        command = [str(self.folder / "q4convert"), "m", "--adapter", "large", "-o", "large.q4", "-q", "--threads", "4", "--max-memory", str(bound)]
        done = subprocess.run([sys.executable, "-c", runner, *command], cwd=self.work, capture_output=True, text=True, check=True)
        code, peak = done.stdout.split()
        check(code == "0", "a large rank converts", done.stderr)
        if not self.arguments.sanitized:
            check(int(peak) * 1024 < bound + (64 << 20), "within the bound and the fixed overhead", peak)
        self.run("q4verify", "large.q4", "--against", "m", "--adapter", "large", "-q")

    def names(self):
        self.run("q4convert", "m", "--adapter", "a", "-o", "s.q4", "-q", "--shard-size", "3MB")
        parts = sorted(self.work.glob("s-0*.q4"))
        check(len(parts) > 1, "several shards", parts)
        seen = set()
        for part in parts:
            told = json.loads(self.run("q4inspect", part.name, "--json").stdout)["provenance"]
            seen.add(json.dumps(told["adapter"]))
            check(all(not file["name"].startswith("adapter") for file in told["source"]["files"]), "no file of the model", told["source"])
        check(len(seen) == 1 and "adapter_config.json" in seen.pop(), "each names the adapter's files")
        self.run("q4verify", "s.q4.index.json", "--against", "m", "--adapter", "a", "-q")
        self.run("q4verify", parts[1].name, "--against", "m", "--adapter", "a", "-q")
        before = self.bytes("a/adapter_config.json")
        for more in (("-o", "a/adapter_model.safetensors", "--force"), ("-o", "x.q4", "--report", "a/adapter_config.json"),
                     ("-o", "x.q4", "--report", "a/adapter_model.safetensors")):
            self.run("q4convert", "m", "--adapter", "a", *more, code=1)
        self.run("q4verify", "out.q4", "--against", "m", "--adapter", "a", "--markdown", "a/adapter_config.json", code=1)
        check(self.bytes("a/adapter_config.json") == before, "nothing of the adapter is overwritten")
        (self.work / "a" / "tokenizer.json").write_text("{}")
        self.run("q4convert", "m", "--adapter", "a", "-o", "x.q4", "--dry-run", says="'tokenizer.json', which is not read")
        (self.work / "a" / "tokenizer.json").unlink()

    def links(self):
        folder = self.work / "linked"
        folder.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / name).symlink_to(self.work / "a" / name)
        self.run("q4convert", "m", "--adapter", "linked", "-o", "x.q4", code=3, says="symbolic link")
        self.run("q4convert", "m", "--adapter", "linked", "-o", "x.q4", "-q", "--follow-symlinks")
        (self.work / "x.q4").unlink()

    def bases(self):
        for says in ("[Q4-1756]", "--adapter", "--from-quantized"):
            self.run("q4convert", "plain.q4", "--adapter", "a", "-o", "x.q4", code=1, says=says)
        self.run("q4convert", "a", "-o", "x.q4", code=5, says="--adapter")
        (self.work / "pipeline").mkdir()
        (self.work / "pipeline" / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]}))
        for says in ("[Q4-1826]", "--adapter", "q4convert FOLDER_OF_THE_COMPONENT"):
            self.run("q4convert", "pipeline", "--adapter", "a", "-o", "x", code=1, says=says)
        # Model and adapter in one folder: the model's alone is left out, with the adapter it is merged.
        both = self.work / "both"
        shutil.copytree(self.work / "m", both)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(self.work / "a" / name, both)
        plan = json.loads(self.run("q4convert", "both", "--adapter", "both", "-o", "x.q4", "--dry-run", "--json").stdout)
        check(plan["left_out"] == [], "what is merged is not left out", plan["left_out"])
        check(all(tensor["stored"]["merged"] for tensor in plan["tensors"]), "all are merged")
        told = self.run("q4convert", "both", "--adapter", "both", "-o", "x.q4", "--dry-run", "-v").stdout
        check(f"merged of BF16 '{module(0)}.weight', 'base_model.model.{module(0)}.lora_A.weight'" in told, "a dry run says of what", told)

    def requantized(self):
        """Merged into what a container decodes to: as into a checkpoint of the decoded weights."""
        self.run("q4export", "plain.q4", "-o", "decoded", "--to", "safetensors", "-q")
        self.run("q4convert", "decoded", "--adapter", "a", "-o", "wanted.q4", "-q", "--block-size", "128")
        self.run("q4convert", "plain.q4", "-o", "parts.q4", "-q", "--shard-size", "3MB")
        contents = [json.loads(self.run("q4inspect", "wanted.q4", "--content", "--json").stdout)["content_sha256"]]
        for container in ("plain.q4", "parts.q4.index.json"):
            self.run("q4convert", container, "--from-quantized", "--adapter", "a", "-o", "again.q4", "-q", "--force", "--block-size", "128")
            told = json.loads(self.run("q4inspect", "again.q4", "--content", "--json").stdout)
            contents.append(told["content_sha256"])
            document = told["provenance"]
            check(document["source"]["quantized"] == "NF4" and "first" in document["parent"] and len(document["adapter"]["files"]) == 2,
                  "the provenance names container and adapter", document)
            self.run("q4verify", "again.q4", "--against", container, "--adapter", "a", "-q")
            self.run("q4verify", "again.q4", "--against", container, "-q", code=1, says="Q4-1830")
        check(len(set(contents)) == 1, "the content of the decoded checkpoint with the adapter", contents)

    def cost(self):
        size, layers = 4096, 8
        lay_base(self.work / "big", size, layers)
        for rank in (16, 64):
            lay_adapter(self.work / f"rank{rank}", 9, rank, size, layers)
        for name, more in (("without", ()), ("r = 16", ("--adapter", "rank16")), ("r = 64", ("--adapter", "rank64"))):
            times = []
            for _ in range(3):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                start = time.monotonic()
                self.run("q4convert", "big", *more, "-o", "big.q4", "-q", "--force", "--source-digest", "xxh3", "--threads", "1")
                wall = time.monotonic() - start
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                times.append((after.ru_utime - before.ru_utime, wall))
            cpu, wall = min(times)
            print(f"{name}: {cpu:.2f} s of processor time in user mode, {wall:.2f} s, {layers * size * size * 2 / 1e9 / cpu:.2f} GB/s of it")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        test = Test(arguments, pathlib.Path(name))
        lay_base(test.work / "m")
        lay_adapter(test.work / "a", 2)
        if arguments.table:
            return test.cost()
        test.killed()
        test.memory()
        test.names()
        test.requantized()
        test.links()
        test.bases()
    return print(f"adapter_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
