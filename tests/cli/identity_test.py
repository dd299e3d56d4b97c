#!/usr/bin/env python3
"""identity_test.py TOOLS: no tool writes to, replaces or removes what it reads, whatever name that has.

Each input lies under each name that a run writes, as itself, as a hard link, as a symbolic link: OUTPUT, parts, list, partial files,
journal, probes, reports, and in directories that a run clears. The command is refused, and everything is as it was.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check, count  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402

PROBES = (".partial", ".partial.q4-probe", ".partial.q4-probe2")
GATE = '{"rules": [{"scope": "tensor", "match": ".*", "max_nmse": 1}]}'


def tree(folder: pathlib.Path) -> dict:
    """Contents, kinds and links of everything below a folder."""
    return {str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else True
            for path in sorted(folder.rglob("*"))}


class Bench:
    def __init__(self, tools, base):
        self.tools, self.base, self.place = tools, base, base / "place"
        model = base / "model"
        model.mkdir()
        named = {f"model.layers.{i}.mlp.up_proj.weight": ("BF16", (32, 64), bytes((7, 0x3C)) * 2048) for i in range(3)}
        (model / "model.safetensors").write_bytes(tensor_file(named, {"format": "pt"}))
        (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
        (model / "merges.txt").write_text("")
        (base / "recipe.json").write_text('{"rules": [{"match": "up_proj", "type": "fp4"}]}')
        (base / "gate.json").write_text(GATE)
        self.do("q4convert", "model", "-o", "m.q4")
        self.do("q4convert", "model", "-o", "s.q4", "--shard-size", "2KB")
        self.do("q4verify", "m.q4", "--junit", "old.xml")
        self.do("q4convert", "model", "-o", "again.q4", "--report", "old.json")
        (base / "base.json").write_text(self.do("q4verify", "m.q4", "--json").stdout)

    def do(self, *command, cwd=None):
        return subprocess.run([self.tools / command[0], *map(str, command[1:]), "-q"], cwd=cwd or self.base, capture_output=True,
                              text=True, timeout=60)

    def prepare(self):
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        shutil.copytree(self.base / "model", self.place / "model")
        for path in self.base.iterdir():
            if path.is_file():
                shutil.copy(path, self.place / path.name)

    def refused(self, what, command, numbers):
        before = tree(self.place)
        done = self.do(*command, cwd=self.place)
        check(done.returncode == 1 and any(f"[Q4-{number}]" in done.stderr for number in numbers), f"{what} is refused", command,
              done.returncode, done.stderr)
        check(tree(self.place) == before, f"{what}: everything is as it was", set(tree(self.place).items()) ^ set(before.items()))

    def link(self, kind, source, name):
        """Puts the input `source` under `name`; returns the name that the command is to be given for it."""
        target = self.place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == "itself":
            (self.place / source).rename(target)
            return name
        (os.link if kind == "hard link" else os.symlink)(self.place / source, target)
        return source

    def files(self):
        """Names that single files are written under."""
        convert = ("q4convert", "model", "--force", "-o")
        parts = [f"t-0000{i}-of-00003.q4" for i in (1, 2, 3)]
        cases = []
        for kind in ("hard link", "symbolic link"):
            for source in ("model/model.safetensors", "model/config.json", "model/merges.txt", "recipe.json", "gate.json"):
                for name in ("new.q4", "new.q4.journal", *("new.q4" + end for end in PROBES)):
                    flags = ("--recipe", source) if source == "recipe.json" else ("--gate", source) if source == "gate.json" else ()
                    cases.append((kind, source, name, (*convert, "new.q4", *flags), (1101,)))
            for name in (parts[0], parts[2] + ".partial", "t.q4.index.json", "t.q4.index.json.partial", "t.q4.journal",
                         parts[1] + ".partial.q4-probe"):
                cases.append((kind, "model/model.safetensors", name, (*convert, "t.q4", "--shard-size", "2KB"), (1101,)))
            for source in ("model/model.safetensors", "model/merges.txt", "recipe.json"):
                for end in ("", *PROBES):
                    cases.append((kind, source, "r.json" + end,
                                  (*convert, "new.q4", "--recipe", "recipe.json", "--report", "r.json"), (1002,)))
            for source in ("m.q4", "model/config.json", "base.json", "gate.json"):
                for end in ("", *PROBES):
                    flags = ("--against", "model", "--gate", "gate.json", "--baseline", "base.json")
                    cases.append((kind, source, "r.xml" + end, ("q4verify", "m.q4", *flags, "--junit", "r.xml"), (1002,)))
            for source, given in (("m.q4", "m.q4"), ("s-00002-of-00003.q4", "s.q4.index.json")):
                for end in ("", *PROBES):
                    cases.append((kind, source, "x.safetensors" + end,
                                  ("q4export", given, "--to", "safetensors", "--force", "-o", "x.safetensors"), (8001,)))
        for kind, source, name, command, numbers in cases:
            self.prepare()
            self.link(kind, source, name)
            self.refused(f"{source} as a {kind} at {name}", command, numbers)
        # As itself.
        for name, command, numbers in (
                ("a.q4.partial", ("q4convert", "a.q4.partial", "-o", "a.q4"), (1101,)),
                ("a.q4.journal", ("q4convert", "a.q4.journal", "-o", "a.q4"), (1101,)),
                ("a.q4.partial.q4-probe", ("q4convert", "a.q4.partial.q4-probe", "-o", "a.q4"), (1101,)),
                ("r.json", ("q4convert", "r.json", "-o", "a.q4", "--report", "r.json"), (1002,)),
                ("r.json.partial", ("q4convert", "r.json.partial", "-o", "a.q4", "--report", "r.json"), (1002,)),
                ("a.q4", ("q4convert", "a.q4", "-o", "a.q4", "--force"), (1101,))):
            self.prepare()
            self.link("itself", "model/model.safetensors", name)
            self.refused(f"a checkpoint called {name}", command, numbers)
        for name in ("x.safetensors", *("x.safetensors" + end for end in PROBES)):
            self.prepare()
            self.link("itself", "m.q4", name)
            self.refused(f"a container called {name}", ("q4export", name, "--to", "safetensors", "--force", "-o", "x.safetensors"), (8001,))

    def directories(self):
        """Directories that an export clears, each as a dead run leaves it."""
        export = ("--to", "bnb", "--force", "-o", "out")
        for folder, mark, flags in (("out.partial", ".q4-lock", ()), ("out.partial/deep/down", "../../.q4-lock", ()),
                                    ("out.partial", ".q4-replaced", ()), ("out.partial.q4-probe", ".q4-lock", ()),
                                    ("out/.q4.partial", ".q4-lock", ("--into",)), ("out.q4-replaced", ".q4-replaced", ()),
                                    ("out.0123456789abcdef.partial", ".q4-lock", ("--into",)), ("out", "../other", ())):
            for kind in ("itself", "hard link"):
                self.prepare()
                if folder == "out" and kind == "hard link":
                    continue  # a copy that is not q4export's: tested with what is not replaced
                given = self.link(kind, "m.q4", f"{folder}/m.q4")
                (self.place / "out").mkdir(exist_ok=True) if "0123" in folder else None
                (self.place / folder / mark).write_bytes(b"m.q4\0" if mark == ".q4-replaced" else b"")
                self.refused(f"a container in {folder} as a {kind}", ("q4export", given, *export, *flags), (8001, 8003))
        # A link that is cleared leaves what it leads to, and so the input.
        self.prepare()
        (self.place / "out.partial").mkdir()
        (self.place / "out.partial/.q4-lock").write_bytes(b"")
        (self.place / "out.partial/link").symlink_to(self.place / "m.q4")
        done = self.do("q4export", "m.q4", *export, cwd=self.place)
        check(done.returncode == 0 and (self.place / "m.q4").read_bytes() == (self.base / "m.q4").read_bytes(), "a link goes alone", done.stderr)

    def own_names(self):
        """Folders of the user's that have names of ours stay, with or without something in them."""
        for name in ("out.q4-replaced", "out.partial", "out.partial.q4-probe", "out/.q4-left"):
            for content in ({"thesis.txt": b"text"}, {"sub/thesis.txt": b"text"}, {}):
                if not content and name != "out.q4-replaced":
                    continue  # an empty one may be what a run left that died at once
                self.prepare()
                self.do("q4export", "m.q4", "--to", "bnb", "-o", "out", cwd=self.place)
                if name == "out/.q4-left":
                    continue
                (self.place / name).mkdir(parents=True)
                for file, text in content.items():
                    (self.place / name / file).parent.mkdir(exist_ok=True)
                    (self.place / name / file).write_bytes(text)
                done = self.do("q4export", "m.q4", "--to", "safetensors", "--force", "-o", "out", cwd=self.place)
                check(done.returncode == (0 if name == "out.q4-replaced" else 2), f"{name}: ends well or is refused", done.stderr)
                check((self.place / name).is_dir(), f"{name} is there still")
                for file, text in content.items():
                    check((self.place / name / file).read_bytes() == text, f"{name}: {file} stays")
        # What came into an old output at the last moment, and the run died: no later run removes it.
        self.prepare()
        (self.place / "out.partial").mkdir()
        (self.place / "out.partial/.q4-replaced").write_bytes(b"config.json\0sub/weights\0")
        for file in ("config.json", "thesis.txt"):
            (self.place / "out.partial" / file).write_bytes(b"text")
        for _ in range(2):
            done = self.do("q4export", "m.q4", "--to", "bnb", "-o", "out", cwd=self.place)
            check(done.returncode == 2 and "thesis.txt" in done.stderr, "a foreign file in an old output is named", done.stderr)
            check((self.place / "out.partial/thesis.txt").read_bytes() == b"text", "and stays")
            check(not (self.place / "out.partial/config.json").exists(), "what was replaced goes")
        # A mark that reaches out.
        for text in (b"../m.q4\0", b"/etc/passwd\0", b"a/../../m.q4\0", b"no end", b"\0"):
            (self.place / "out.partial/.q4-replaced").write_bytes(text)
            done = self.do("q4export", "m.q4", "--to", "bnb", "-o", "out", cwd=self.place)
            check(done.returncode == 2 and (self.place / "m.q4").exists(), f"the mark {text} is refused", done.stderr)


def main():
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(name).resolve())
        bench.files()
        bench.directories()
        bench.own_names()
    print(f"identity: {count()} checks")


if __name__ == "__main__":
    main()
