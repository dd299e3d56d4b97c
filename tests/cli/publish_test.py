#!/usr/bin/env python3
"""publish_test.py TOOLS FAULT_SHIM_SO [--sanitized]: outputs appear whole, whatever the file system can do.

Every way of publishing (a container, one in shards, a directory, one into an empty directory, over an older export or among
other files, a single file, a report; new and with --force) meets file systems that lack a call (no renameat2 flags, no hard
links, no locks, no rename at all, no sync of directories, no fallocate), servers whose replies get lost, and calls that fail
from the k-th on. What must come out: the right bytes and nothing besides, or an error that leaves everything as it was; never
the loss of what was there. --sanitized: the tools have sanitizers; fewer calls are met.
"""
import argparse
import errno
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import sanitizers  # noqa: E402
from checks import check, count  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402

CONFIG = '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16"}'
UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def tree(folder: pathlib.Path) -> dict:
    """Everything below a folder: contents of files, True for directories, where links lead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else True
    return found


class Operation:
    """A command that makes an output in the folder `place`, from what lies beside it in `base`."""

    def __init__(self, bench, name, command, before=None, compare=None):
        self.bench, self.name, self.command = bench, name, command
        self.before = before or {}  # what lies in `place`: {name: bytes}, a name that ends in "/" is an empty directory
        self.compare = compare or (lambda content: content)
        self.prepare()
        check(self.run().returncode == 0, f"{name}: the undisturbed run", self.last.stderr)
        self.new = self.look()
        self.prepare()
        self.old = self.look()
        check(self.new != self.old, f"{name}: it makes something")

    def prepare(self):
        place = self.bench.place
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name, content in self.before.items():
            path = place / name
            if name.endswith("/"):
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def look(self):
        return {name: self.compare(content) for name, content in tree(self.bench.place).items()}

    def run(self, faults=""):
        environment = {**os.environ, **sanitizers.ENVIRONMENT}
        if faults:
            environment |= {"LD_PRELOAD": self.bench.preload, "Q4_FAULT": faults}
        command = [self.bench.tools / self.command[0], *self.command[1:]]
        self.last = subprocess.run(command, cwd=self.bench.place, env=environment, capture_output=True, text=True, timeout=60)
        found = sanitizers.report(self.last.returncode, self.last.stderr)
        check(not found, f"{self.name}, {faults}: sanitizers", found)
        return self.last

    def succeeds(self, faults, may_stay=""):
        """With these faults: the right bytes, and nothing besides but what matches `may_stay`."""
        self.prepare()
        done = self.run(faults)
        check(done.returncode == 0, f"{self.name}, {faults}: succeeds", done.returncode, done.stderr)
        left = {name: content for name, content in self.look().items() if not (may_stay and re.search(may_stay, name))}
        check(left == self.new, f"{self.name}, {faults}: right bytes", differences(left, self.new))

    def refused(self, faults, numbers=()):
        """With these faults: an error, and everything as it was."""
        self.prepare()
        done = self.run(faults)
        check(done.returncode == 2, f"{self.name}, {faults}: is refused", done.returncode, done.stderr)
        check(not numbers or set(re.findall(r"\[Q4-(\d+)\]", done.stderr)) & set(numbers), f"{self.name}, {faults}: {numbers}",
              done.stderr)
        check(self.look() == self.old, f"{self.name}, {faults}: as it was", differences(self.look(), self.old))

    def each_call(self, call, error, most):
        """Fails from the k-th call of a kind on, for each k until it is not met: old or new, and the same command completes it."""
        for k in range(1, most):
            self.prepare()
            done = self.run(f"{call}:{k}:{error}")
            if done.returncode == 0:
                check(self.look() == self.new, f"{self.name}, {call} {k}: right bytes", differences(self.look(), self.new))
                return
            check(done.returncode == 2 and "[Q4-" in done.stderr, f"{self.name}, {call} {k}: an error", done.returncode, done.stderr)
            now = self.look()
            if now in (self.old, self.new):
                continue
            # What was there is there still, old or new; what is new besides is what the same command goes on with.
            for name, content in self.old.items():
                # Where not even putting it back succeeds, an old file is kept in the partial directory.
                aside = [other for place, other in now.items() if "/.q4-old/" in place]
                kept = now.get(name) in (content, self.new.get(name)) or content in aside
                check(kept, f"{self.name}, {call} {k}: {name} is old or new", sorted(now))
            for name, content in now.items():
                known = content in (self.old.get(name), self.new.get(name)) or re.search(r"\.(partial|journal|q4-replaced)(/|$)", name)
                check(bool(known), f"{self.name}, {call} {k}: {name} is no half-written file", sorted(now))
            if self.name.startswith("report"):
                continue  # each file is for itself
            again = self.run()
            check(again.returncode == 0 and self.look() == self.new, f"{self.name}, {call} {k}: the next run completes it",
                  again.stderr, differences(self.look(), self.new))
        raise SystemExit(f"{self.name}, {call}: still failing after {most} calls")


def differences(got: dict, expected: dict):
    return {"missing": sorted(set(expected) - set(got)), "besides": sorted(set(got) - set(expected)),
            "other": sorted(name for name in set(got) & set(expected) if got[name] != expected[name])}


class Bench:
    def __init__(self, tools, preload, base):
        self.tools, self.preload, self.base, self.place = tools, preload, base, base / "place"
        self.make()
        self.operations = self.all_operations()

    def make(self):
        """Two models, so that an old output differs from a new one, and what becomes of them."""
        for name, low in (("one", 7), ("two", 9)):
            folder = self.base / name
            folder.mkdir()
            named = {f"model.layers.{i}.mlp.up_proj.weight": ("BF16", (32, 64), bytes((low, 0x3C)) * 2048) for i in range(3)}
            (folder / "model.safetensors").write_bytes(tensor_file(named, {"format": "pt"}))
            (folder / "config.json").write_text(CONFIG)
            (folder / "tokenizer.json").write_text("{}")
        self.do("q4convert", "one", "-o", "one.q4")
        self.do("q4convert", "two", "-o", "two.q4")
        (self.base / "old").mkdir()
        self.do("q4convert", "two", "-o", "old/m.q4")
        self.do("q4convert", "two", "-o", "old/s.q4", "--shard-size", "2KB")
        self.do("q4export", "two.q4", "-o", "old/out", "--to", "bnb", "--shard-size", "3KB")
        self.do("q4export", "two.q4", "-o", "old/x.safetensors", "--to", "safetensors")
        self.do("q4convert", "two", "-o", "two_again.q4", "--report", "old/r.json")
        self.do("q4verify", "two.q4", "--junit", "old/r.xml", "--markdown", "old/r.md", "--html", "old/r.html")

    def do(self, *command):
        done = subprocess.run([self.tools / command[0], *command[1:], "-q"], cwd=self.base, capture_output=True, text=True)
        check(done.returncode == 0, str(command), done.stderr)

    def old(self, *names):
        return {name: content for name, content in tree(self.base / "old").items()
                if any(re.fullmatch(pattern, name) for pattern in names) and content is not True}

    def all_operations(self):
        convert = ("q4convert", "../one", "--progress", "none", "--device", "cpu", "-o")
        export = ("q4export", "../one.q4", "--progress", "none", "--to")
        # The time, and that there are no locks.
        changing = rb'"seconds": [0-9.e-]+|"warnings": \[[^]]*\]'
        seconds = lambda c: re.sub(changing, b"", c) if isinstance(c, bytes) else c  # noqa: E731
        out = self.old("out/.*")
        verify = ("q4verify", "../one.q4", "-q", "--junit", "r.xml", "--markdown", "r.md", "--html", "r.html")
        return {operation.name: operation for operation in (
            Operation(self, "container", (*convert, "m.q4")),
            Operation(self, "container --force", (*convert, "m.q4", "--force"), self.old("m.q4")),
            Operation(self, "shards", (*convert, "s.q4", "--shard-size", "2KB")),
            Operation(self, "shards --force", (*convert, "s.q4", "--shard-size", "2KB", "--force"), self.old("s-.*", "s.q4.*")),
            Operation(self, "directory", (*export, "bnb", "-o", "out")),
            Operation(self, "empty directory", (*export, "bnb", "-o", "out"), {"out/": b""}),
            Operation(self, "the directory itself", (*export, "bnb", "-o", ".")),
            Operation(self, "directory --force", (*export, "bnb", "-o", "out", "--force"), out),
            Operation(self, "directory --into", (*export, "bnb", "-o", "out", "--into"), {"out/.git/HEAD": b"ref", "out/README.md": b"mine"}),
            Operation(self, "directory --into --force", (*export, "bnb", "-o", "out", "--into", "--force"), {**out, "out/mine.txt": b"mine"}),
            Operation(self, "file", (*export, "safetensors", "-o", "x.safetensors")),
            Operation(self, "file --force", (*export, "safetensors", "-o", "x.safetensors", "--force"), self.old("x.safetensors")),
            Operation(self, "report", (*convert, "m.q4", "--report", "r.json"), self.old("r.json"), seconds),
            Operation(self, "reports", verify, self.old("r.xml", "r.md", "r.html"), seconds),
        )}


def file_systems(bench, operations):
    """File systems that lack calls."""
    flags = [f"renameat2:1:{number}" for number in UNKNOWN]
    links = [f"link:1:{number}" for number in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)]
    locks = [f"flock:1:{number}" for number in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)]
    for operation in operations:
        for faults in flags:
            operation.succeeds(faults)
        for faults in links:
            operation.succeeds(f"{flags[0]},{faults}")
        for faults in locks:
            operation.succeeds(faults)
            check("no locks" in operation.last.stderr or operation.name.startswith("report"), "it is said", operation.last.stderr)
        operation.succeeds(f"{flags[1]},{links[1]},{locks[0]}")
        for number in UNKNOWN:
            operation.succeeds(f"fsyncdir:1:{number}")
            operation.succeeds(f"fallocate:1:{number}")
        # No exchange, as on most network file systems: an old directory steps aside.
        operation.succeeds(f"exchange:1:{errno.EINVAL}")
        # A bucket that cannot rename at all, or a file system that turned read-only: known before the work.
        operation.refused(f"rename:1:{errno.ENOSYS},{links[0]}", ("2561",))
        operation.refused(f"{flags[0]},{links[0]},renameplain:1:{errno.EROFS}", ("2561",))
        operation.refused(f"create:1:{errno.EROFS}")
        operation.refused(f"fsyncdir:1:{errno.EIO}")


def lost_replies(bench, operations, most):
    """A server did what was asked, and its reply got lost: success, or an error of a later step that changed nothing."""
    calls = (("renameat2", errno.EIO, ""), ("renameat2", errno.ENOENT, ""), ("unlink", errno.EIO, ""),
             ("link", errno.EEXIST, f"renameat2:1:{errno.EINVAL},"), ("link", errno.EIO, f"renameat2:1:{errno.EINVAL},"),
             ("renameplain", errno.EIO, f"renameat2:1:{errno.EINVAL},link:1:{errno.EPERM},"),
             ("mkdir", errno.EEXIST, ""), ("rmdir", errno.ENOENT, ""))
    for operation in operations:
        for call, error, others in calls:
            for k in range(1, most):
                operation.succeeds(f"{others}{call}:lost{k}:{error}")


def failing_calls(bench, operations, most):
    for operation in operations:
        for call, error in (("rename", errno.EIO), ("fsync", errno.EIO), ("fsyncdir", errno.EIO), ("create", errno.EACCES),
                            ("mkdir", errno.EDQUOT)):
            operation.each_call(call, error, most)


def what_is_not_ours(bench):
    """--force and reports replace what q4 wrote, and nothing else."""
    convert, export = ("q4convert", "../one", "-o"), ("q4export", "../one.q4", "--to", "bnb", "-o")
    old = bench.old("out/.*")
    shard_name, shard = bench.old("s-00002.*").popitem()
    cases = (
        ("another file", (*convert, "m.q4", "--force"), {"m.q4": b"thesis"}, "1560"),
        ("a checkpoint", (*convert, "m.q4", "--force"), {"m.q4": (bench.base / "one/model.safetensors").read_bytes()}, "1560"),
        ("a GGUF file", (*convert, "m.q4", "--force"), {"m.q4": b"GGUF\3\0\0\0"}, "1560"),
        ("a foreign list", (*convert, "s.q4", "--force", "--shard-size", "2KB"), {"s.q4.index.json": b'{"weight_map": {}}'}, "1560"),
        ("a foreign shard", (*convert, "s.q4", "--force", "--shard-size", "2KB"), {shard_name: b"PK\3\4"}, "1560"),
        ("a clone", (*export, "out", "--force"), {**old, "out/.git/HEAD": b"ref"}, "8003"),
        ("a note", (*export, "out", "--force"), {**old, "out/notes/today.txt": b"x"}, "8003"),
        ("an empty folder in it", (*export, "out", "--force"), {**old, "out/eval/": b""}, "8003"),
        ("a changed configuration", (*export, "out", "--force"), {**old, "out/config.json": CONFIG.encode()}, "8003"),
        ("changed weights of the same size", (*export, "out", "--force"),
         {**old, "out/model.safetensors.index.json": old["out/model.safetensors.index.json"][:-1] + b" "}, "8003"),
        ("an export without its record", (*export, "out", "--force"),
         {name: content for name, content in old.items() if "q4_export" not in name}, "8003"),
        ("a record that lies", (*export, "out", "--force"),
         {**old, "out/q4_export.json": old["out/q4_export.json"].replace(b'"sha256": "', b'"sha256": "0')}, "8003"),
        ("a record that reaches out", (*export, "out", "--force"),
         {"m.txt": b"mine", "out/q4_export.json": b'{"document": "q4export-record", "files": [{"name": "../m.txt", "bytes": 4, '
          b'"sha256": "' + b"0" * 64 + b'"}]}', "out/a": b""}, "8003"),
        ("without --force", (*export, "out"), old, "8002"),
        ("a name that is taken", (*export, "out", "--into"), {"out/config.json": b"{}"}, "8003"),
        ("a folder where a file belongs", (*export, "out", "--into"), {"out/config.json/": b""}, "8003"),
        ("another file's name", ("q4export", "../one.q4", "--to", "safetensors", "-o", "x.safetensors", "--force"),
         {"x.safetensors": (bench.base / "two/model.safetensors").read_bytes()}, "8003"),
        ("the original", ("q4export", "../one.q4", "--to", "safetensors", "-o", "x.safetensors", "--force"),
         {"x.safetensors": (bench.base / "one/model.safetensors").read_bytes()}, "8011"),
        ("an exported file with one byte changed", ("q4export", "../one.q4", "--to", "safetensors", "-o", "x.safetensors", "--force"),
         {"x.safetensors": bench.old("x.safetensors")["x.safetensors"][:-1] + b"!"}, "8003"),
        ("a report over a text", (*convert, "m.q4", "--report", "r.txt"), {"r.txt": b"my notes"}, "1561"),
        ("a report over JSON", (*convert, "m.q4", "--force", "--report", "r.json"), {"r.json": b'{"a": 1}'}, "1561"),
        ("JUnit of another tool", ("q4verify", "../one.q4", "--junit", "r.xml"), {"r.xml": b'<?xml version="1.0"?><testsuites/>'}, "1561"),
        ("a page", ("q4verify", "../one.q4", "--html", "r.html"), {"r.html": b"<!DOCTYPE html>"}, "1561"),
        ("a container as Markdown", ("q4verify", "../one.q4", "--markdown", "r.md"), {"r.md": shard}, "1561"),
    )
    for what, command, before, number in cases:
        bench.place.exists() and shutil.rmtree(bench.place)
        Operation.prepare(operation := type("Place", (), {"bench": bench, "before": before})())
        held = tree(bench.place)
        done = subprocess.run([bench.tools / command[0], *command[1:], "-q"], cwd=bench.place, capture_output=True, text=True)
        check(done.returncode == 1 and f"[Q4-{number}]" in done.stderr, f"{what} is refused", done.returncode, done.stderr)
        check(tree(bench.place) == held, f"{what}: everything is as it was", differences(tree(bench.place), held))
    for name, command in (("m.q4", (*convert, "m.q4", "--force")), ("r.json", (*convert, "n.q4", "--report", "r.json"))):
        Operation.prepare(type("Place", (), {"bench": bench, "before": {name: b""}})())
        done = subprocess.run([bench.tools / command[0], *command[1:], "-q"], cwd=bench.place, capture_output=True, text=True)
        check(done.returncode == 0 and (bench.place / name).stat().st_size > 0, f"an empty {name} is replaced", done.stderr)
    for target in ("m.q4", "out"):
        Operation.prepare(type("Place", (), {"bench": bench, "before": bench.old("m.q4", "out/.*")})())
        (bench.place / target).rename(bench.place / "elsewhere")
        (bench.place / target).symlink_to("elsewhere")
        held = tree(bench.place)
        command = (*convert, "m.q4", "--force") if target == "m.q4" else (*export, "out", "--force")
        done = subprocess.run([bench.tools / command[0], *command[1:], "-q"], cwd=bench.place, capture_output=True, text=True)
        check(done.returncode == 1 and tree(bench.place) == held, f"a link at {target} is refused", done.stderr)


def what_goes(bench):
    """What an older output of the same name has besides goes with --force, and a file beside it does not."""
    shards = bench.old("s-.*", "s.q4.*")
    convert = ("q4convert", "../one", "-q", "-o", "s.q4", "--force")
    bench.place.exists() and shutil.rmtree(bench.place)
    stranger = {"s-00009-of-00009.q4": b"mine", bench.old("s-00002.*").popitem()[0]: bench.old("m.q4")["m.q4"]}
    for what, before, words, left in (
            ("one file for shards", shards, (), {"s.q4"}),
            ("one file for shards, one of which is another's", {**shards, **stranger}, (), {"s.q4", *stranger}),
            ("fewer shards", shards, ("--shard-size", "3KB"), {"s-00001-of-00002.q4", "s-00002-of-00002.q4", "s.q4.index.json"}),
            ("shards for one file", {"s.q4": bench.old("m.q4")["m.q4"]}, ("--shard-size", "3KB"),
             {"s-00001-of-00002.q4", "s-00002-of-00002.q4", "s.q4.index.json"})):
        Operation.prepare(type("Place", (), {"bench": bench, "before": before})())
        done = subprocess.run([bench.tools / convert[0], *convert[1:], *words], cwd=bench.place, capture_output=True, text=True)
        check(done.returncode == 0 and set(tree(bench.place)) == left, what, done.stderr, sorted(tree(bench.place)))


def modes(bench):
    """A directory that somebody made keeps its mode; a new one follows the umask."""
    for before, words in (({"out/": b""}, ()), (bench.old("out/.*"), ("--force",))):
        Operation.prepare(type("Place", (), {"bench": bench, "before": before})())
        (bench.place / "out").chmod(0o700)
        done = subprocess.run([bench.tools / "q4export", "../one.q4", "--to", "bnb", "-o", "out", "-q", *words], cwd=bench.place,
                              capture_output=True, text=True)
        check(done.returncode == 0 and (bench.place / "out").stat().st_mode & 0o777 == 0o700, "the mode stays", done.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("shim", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    arguments = parser.parse_args()
    tools, preload = arguments.tools.resolve(), str(arguments.shim.resolve())
    if arguments.sanitized:
        preload = f"{sanitizers.runtime(tools / 'q4convert')} {preload}"
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(tools, preload, pathlib.Path(name).resolve())
        every = list(bench.operations.values())
        some = every if not arguments.sanitized else every[::3]
        what_is_not_ours(bench)
        what_goes(bench)
        modes(bench)
        file_systems(bench, some)
        lost_replies(bench, some, 2 if arguments.sanitized else 5)
        failing_calls(bench, some, 40)
    print(f"publish: {len(some)} ways of publishing, {count()} checks")


if __name__ == "__main__":
    main()
