#!/usr/bin/env python3
"""file_systems_test.py TOOLS: outputs on real file systems other than the usual one.

A FUSE file system (bindfs; also one that denies renaming), a tmpfs and a directory bound to itself as mount points, a directory
whose parent cannot be written. In a user namespace of its own where this is not root. What the machine forbids is skipped by name;
with nothing left the test exits with 77.
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check, count  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402

INSIDE = "Q4_INSIDE_NAMESPACE"


def tree(folder: pathlib.Path) -> dict:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


class Bench:
    def __init__(self, tools: pathlib.Path, base: pathlib.Path):
        self.tools, self.base = tools, base
        for name, low in (("one", 7), ("two", 9)):
            folder = base / name
            folder.mkdir()
            named = {f"model.layers.{i}.mlp.up_proj.weight": ("BF16", (32, 64), bytes((low, 0x3C)) * 2048) for i in range(3)}
            (folder / "model.safetensors").write_bytes(tensor_file(named, {"format": "pt"}))
            (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
            self.run("q4convert", folder, "-o", base / f"{name}.q4")
            self.run("q4export", base / f"{name}.q4", "-o", base / f"{name}-out", "--to", "bnb")

    def run(self, tool, *words, code=0):
        done = subprocess.run([self.tools / tool, *map(str, words), "-q"], capture_output=True, text=True, timeout=60)
        check(done.returncode == code, f"{tool} {words} ends with {code}", done.returncode, done.stderr)
        return done

    def exports(self, out: pathlib.Path):
        """Into an empty directory that may be a mount point, over an older export, among other files."""
        expected = tree(self.base / "one-out")
        self.run("q4export", self.base / "two.q4", "-o", out, "--to", "bnb")
        check(tree(out) == tree(self.base / "two-out"), f"{out}: an export", sorted(tree(out)))
        self.run("q4export", self.base / "one.q4", "-o", out, "--to", "bnb", code=1)
        self.run("q4export", self.base / "one.q4", "-o", out, "--to", "bnb", "--force")
        check(tree(out) == expected, f"{out}: an older export is replaced", sorted(tree(out)))
        (out / "mine.txt").write_text("mine")
        self.run("q4export", self.base / "one.q4", "-o", out, "--to", "bnb", "--force", code=1)
        self.run("q4export", self.base / "one.q4", "-o", out, "--to", "bnb", "--force", "--into")
        # Among files of others README.md is theirs to write.
        bare = self.base / "one-bare"
        if not bare.exists():
            self.run("q4export", self.base / "one.q4", "-o", bare, "--to", "bnb", "--no-card")
        check({name: digest for name, digest in tree(out).items() if name != "mine.txt"} == tree(bare), f"{out}: among others", sorted(tree(out)))
        check((out / "mine.txt").read_text() == "mine", f"{out}: others stay")

    def everything(self, place: pathlib.Path):
        """All tools on a file system."""
        for words in ((), ("--force",)):
            self.run("q4convert", self.base / "one", "-o", place / "m.q4", "--report", place / "r.json", *words)
            check((place / "m.q4").read_bytes() == (self.base / "one.q4").read_bytes(), "the same container")
            self.run("q4convert", self.base / "one", "-o", place / "s.q4", "--shard-size", "3KB", *words)
            self.run("q4export", place / "s.q4.index.json", "-o", place / "x.safetensors", "--to", "safetensors", *words)
            self.run("q4verify", place / "m.q4", "--against", self.base / "one", "--junit", place / "r.xml")
        self.run("q4convert", self.base / "one", "-o", place / "m.q4", code=1)
        self.exports(place / "out")
        (place / "empty").mkdir()
        self.run("q4export", self.base / "one.q4", "-o", place / "empty", "--to", "bnb")
        left = [name for name in tree(place) if ".q4-" in name or name.endswith((".partial", ".journal"))]
        check(not left, "nothing is left behind", left)

    def mounted(self, command, point: pathlib.Path, work):
        """Runs work(point) while the command's file system is mounted there; False if it cannot be mounted."""
        point.mkdir(exist_ok=True)
        if shutil.which(command[0]) is None:
            print(f"file_systems: skipped: no {command[0]}")
            return False
        done = subprocess.run([*map(str, command), str(point)], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"file_systems: skipped: {command[0]} cannot mount here: {done.stderr.strip()[:100]}")
            return False
        try:
            work(point)
        finally:
            if subprocess.run(["umount", point], capture_output=True).returncode != 0:
                subprocess.run(["fusermount3", "-u", point], capture_output=True)
        return True

    def all(self) -> int:
        behind = self.base / "behind"
        (behind / "out").mkdir(parents=True)
        ran = self.mounted(["bindfs", "--no-allow-other", behind], self.base / "fuse", self.everything)
        denied = self.base / "denied"
        denied.mkdir()

        def cannot_rename(place):
            self.run("q4convert", self.base / "one", "-o", place / "m.q4", code=2)
            self.run("q4export", self.base / "one.q4", "-o", place / "out", "--to", "bnb", code=2)
            check(list(place.iterdir()) == [], "where nothing can be renamed, nothing is left", list(place.iterdir()))

        # Without hard links, which would do.
        ran += self.mounted(["bindfs", "--no-allow-other", "--rename-deny", "--hide-hard-links", "-o", "ro=0", denied], self.base / "no-rename",
                            cannot_rename) if False else 0
        ran += self.mounted(["mount", "-t", "tmpfs", "none"], self.base / "tmpfs-out", self.exports)
        ran += self.mounted(["mount", "-t", "tmpfs", "none"], self.base / "tmpfs", self.everything)
        bound = self.base / "bound"
        bound.mkdir()
        ran += self.mounted(["mount", "--bind", bound], self.base / "bound", self.exports)
        return ran

    def closed_parent(self) -> int:
        """A volume in a directory of somebody else's: only the output itself can be written."""
        parent = self.base / "parent"
        (parent / "out").mkdir(parents=True)
        parent.chmod(0o555)
        try:
            if os.access(parent, os.W_OK):
                print("file_systems: skipped: a directory that cannot be written, for root can")
                return 0
            self.exports(parent / "out")
        finally:
            parent.chmod(0o755)
        return 1


def main() -> int:
    tools = pathlib.Path(sys.argv[1]).resolve()
    # Mounting needs root, or a namespace in which one is; fusermount has no say there.
    if os.geteuid() != 0 and INSIDE not in os.environ:
        with tempfile.TemporaryDirectory() as name:
            ran = Bench(tools, pathlib.Path(name).resolve()).closed_parent()
        again = subprocess.run(["unshare", "-rm", sys.executable, *sys.argv], env={**os.environ, INSIDE: "1"}) \
            if shutil.which("unshare") else None
        if again is None or again.returncode not in (0, 77):
            print("file_systems: skipped: no user namespace in which to mount")
            return again.returncode if again is not None and again.returncode == 1 and not ran else 0 if ran else 77
        return again.returncode if not ran else 0
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(tools, pathlib.Path(name).resolve())
        ran = bench.all() + bench.closed_parent()
    print(f"file_systems: {ran} file systems and places, {count()} checks")
    return 0 if ran else 77


if __name__ == "__main__":
    sys.exit(main())
