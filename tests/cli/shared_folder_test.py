#!/usr/bin/env python3
"""shared_folder_test.py TOOLS FAULT_SHIM_SO: outputs in folders that other users may write.

With two real user ids, as root: what another user put where a dead run would have left something is neither believed nor written to
nor removed, in a folder that is sticky and in one that is not; a user who exchanges directories for links while an export runs loses
nobody a file; modes follow the umask. Without root only the last is tested, and the rest skipped by name.
"""
import collections
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check, count  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402

ATTACKER, NEIGHBOUR, VICTIM = 65533, 65532, 65534
FOREIGN = "[Q4-2610]"


def tree(folder: pathlib.Path) -> dict:
    """What lies below a folder: content or link, owner and mode."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else True
        found[str(path.relative_to(folder))] = (content, info.st_uid, info.st_mode)
    return found


class Bench:
    def __init__(self, tools, shim, base):
        self.base, self.place, self.shim = base, base / "place", shim
        base.chmod(0o755)
        # Where every user can run them.
        self.tools = base / "tools"
        self.tools.mkdir()
        for tool in ("q4convert", "q4export", "q4verify"):
            shutil.copy(tools / tool, self.tools / tool)
        model = base / "model"
        model.mkdir()
        named = {f"model.layers.{i}.mlp.up_proj.weight": ("BF16", (64, 64), bytes((7, 0x3C)) * 4096) for i in range(3)}
        (model / "model.safetensors").write_bytes(tensor_file(named, {"format": "pt"}))
        (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
        (model / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}]')
        (model / "1_Pooling").mkdir()
        (model / "1_Pooling/config.json").write_text("{}")
        self.convert = ("q4convert", model, "--device", "cpu", "-q")
        self.export = ("q4export", base / "m.q4", "-q", "--to")
        self.prepare(0o700)
        check(self.run(*self.convert, "-o", base / "m.q4").returncode == 0, "a container")

    def prepare(self, mode):
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        self.place.chmod(mode)

    def run(self, *words, uid=None, umask=0o022, faults=""):
        def become():
            os.umask(umask)
            if uid:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
        environment = {**os.environ, **({"LD_PRELOAD": str(self.shim), "Q4_FAULT": faults} if faults else {})}
        return subprocess.run([self.tools / words[0], *map(str, words[1:])], cwd=self.place, capture_output=True, text=True, timeout=60,
                              preexec_fn=become, env=environment)

    def leave_interrupted(self, owner, mode=0o644):
        """A partial file and a journal as a run leaves them that was interrupted, then given to `owner`."""
        faults = "renameat2:2:5"  # the probe's goes, the output's does not
        done = self.run(*self.convert, "-o", "m.q4", "--sync-every", "1", faults=faults, umask=0o777 & ~(mode | 0o600))
        left = [self.place / name for name in ("m.q4.partial", "m.q4.journal")]
        check(done.returncode == 2 and all(path.exists() for path in left), "an interrupted run", done.stderr, sorted(os.listdir(self.place)))
        for path in left:
            os.chown(path, owner, owner)
            path.chmod(mode)

    def refused(self, what, *words, uid=None, numbers=(FOREIGN,), **more):
        before = tree(self.place)
        done = self.run(*words, uid=uid, **more)
        check(done.returncode == 2 and any(number in done.stderr for number in numbers), f"{what} is refused", done.returncode, done.stderr)
        check(tree(self.place) == before, f"{what}: everything is as it was", set(tree(self.place)) ^ set(before))
        return done

    def leftovers(self, folder_mode, victim):
        """P13 and its kin: files under predictable names."""
        of = f"in a folder {folder_mode:o}, for user {victim}"
        for mode in (0o644, 0o666):
            self.prepare(folder_mode)
            self.leave_interrupted(ATTACKER, mode)
            done = self.refused(f"another user's partial file and journal {of}", *self.convert, "-o", "m.q4", uid=victim)
            check(f"owner {ATTACKER}" in done.stderr and "remove it" in done.stderr, "owner and way out are named", done.stderr)
            self.refused(f"the same with --no-resume {of}", *self.convert, "-o", "m.q4", "--no-resume", uid=victim)
            for name in ("m.q4.partial", "m.q4.journal"):
                self.prepare(folder_mode)
                self.leave_interrupted(victim)
                os.chown(self.place / name, ATTACKER, ATTACKER)
                (self.place / name).chmod(mode)
                self.refused(f"another user's {name} {of}", *self.convert, "-o", "m.q4", uid=victim)
        parts = ("--shard-size", "3KB")
        for name, words in (("x.safetensors.partial", (*self.export, "safetensors", "-o", "x.safetensors")),
                            ("x.safetensors.partial.q4-probe", (*self.export, "safetensors", "-o", "x.safetensors")),
                            ("r.json.partial", (*self.convert, "-o", "m.q4", "--report", "r.json")),
                            ("r.xml.partial", ("q4verify", self.base / "m.q4", "-q", "--junit", "r.xml")),
                            ("s-00001-of-00003.q4.partial", (*self.convert, *parts, "-o", "s.q4")),
                            ("s-00002-of-00003.q4.partial", (*self.convert, *parts, "-o", "s.q4")),
                            ("s.q4.journal", (*self.convert, *parts, "-o", "s.q4"))):
            self.prepare(folder_mode)
            (self.place / name).write_bytes(b"")
            os.chown(self.place / name, ATTACKER, ATTACKER)
            self.refused(f"another user's {name} {of}", *words, uid=victim)
        # Ours, but others may have written to it, or it is somebody's file by another name.
        for name in ("m.q4.partial", "m.q4.journal"):
            self.prepare(folder_mode)
            self.leave_interrupted(victim)
            (self.place / name).chmod(0o666)
            self.refused(f"our {name} that others may write {of}", *self.convert, "-o", "m.q4", uid=victim)
            (self.place / name).chmod(0o644)
            os.link(self.place / name, self.place / "second")
            self.refused(f"our {name} with a second name {of}", *self.convert, "-o", "m.q4", uid=victim)
            (self.place / "second").unlink()
            done = self.run(*self.convert[:-1], "-o", "m.q4", uid=victim)
            check(done.returncode == 0 and "resumed" in done.stderr + done.stdout, f"what is ours is gone on with {of}", done.stderr)
            check((self.place / "m.q4").read_bytes() == (self.base / "m.q4").read_bytes(), "the same bytes")
        # Who lets others write lets them write.
        self.prepare(folder_mode)
        self.leave_interrupted(victim, 0o666)
        done = self.run(*self.convert, "-o", "m.q4", uid=victim, umask=0)
        check(done.returncode == 0 and (self.place / "m.q4").stat().st_mode & 0o777 == 0o666, f"umask 0 goes on {of}", done.stderr)

    def folders(self, folder_mode, victim):
        """P14 and its kin: directories under predictable names."""
        of = f"in a folder {folder_mode:o}, for user {victim}"
        for name, words in (("out.partial", ()), ("out.partial.q4-probe", ()), ("out/.q4.partial", ("--into",))):
            for content in ({}, {".q4-lock": b""}, {".q4-lock": b"", "1_Pooling/thesis.txt": b"text"}, {".q4-replaced": b"a\0", "a": b"b"}):
                for mode in (0o755, 0o777):
                    self.prepare(folder_mode)
                    if name.startswith("out/"):
                        (self.place / "out").mkdir()
                        (self.place / "out/README").write_text("mine")
                        os.chown(self.place / "out", victim, victim)
                    folder = self.place / name
                    folder.mkdir()
                    for file, text in content.items():
                        (folder / file).parent.mkdir(exist_ok=True)
                        (folder / file).write_bytes(text)
                    for path in (folder, *folder.rglob("*")):
                        os.chown(path, ATTACKER, ATTACKER)
                        path.chmod(mode)
                    self.refused(f"another user's {name} with {sorted(content)} {of}", *self.export, "bnb", "-o", "out", *words, uid=victim,
                                 numbers=(FOREIGN, "[Q4-2033]"))
        # A folder of ours in which others may write, and one that holds a folder of others'.
        self.prepare(folder_mode)
        folder = self.place / "out.partial"
        folder.mkdir()
        (folder / ".q4-lock").write_bytes(b"")
        os.chown(folder, victim, victim)
        os.chown(folder / ".q4-lock", victim, victim)
        folder.chmod(0o777)
        self.refused(f"our directory that others may write {of}", *self.export, "bnb", "-o", "out", uid=victim)
        folder.chmod(0o755)
        (folder / "sub").mkdir()
        (folder / "sub/thesis.txt").write_text("text")
        os.chown(folder / "sub", ATTACKER, ATTACKER)
        self.refused(f"a directory of others in ours {of}", *self.export, "bnb", "-o", "out", uid=victim)
        # An empty output of somebody else's is filled and stays theirs; it is said.
        self.prepare(folder_mode)
        (self.place / "out").mkdir()
        (self.place / "out").chmod(0o777)
        os.chown(self.place / "out", ATTACKER, ATTACKER)
        done = self.run("q4export", self.base / "m.q4", "--to", "bnb", "-o", "out", uid=victim)
        check(done.returncode == 0 and "belongs to another user" in done.stderr, f"another user's output {of}", done.stderr)
        check((self.place / "out").stat().st_uid == ATTACKER, "it stays theirs")
        for path in (self.place / "out").rglob("*"):
            check(path.stat().st_uid == victim and path.stat().st_mode & 0o022 == 0, f"what is in it is ours: {path}")

    def race(self, seconds, swapped):
        """P15: links come and go under the names of directories that an export fills, moves and clears."""
        self.prepare(0o777)
        home = self.base / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        for i in range(20):
            (home / f"file{i}").write_text("precious")
        (home / "config.json").write_text("precious")
        (home / "sub").mkdir()
        for path in (home, *home.iterdir()):
            os.chown(path, NEIGHBOUR, NEIGHBOUR)
        before = tree(home)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(ATTACKER)
            os.setuid(ATTACKER)
            os.chdir(self.place)
            number = 0
            while True:
                for name in swapped:
                    number += 1
                    try:
                        os.rename(name, f"taken{number}")  # once it is there, and at one moment or another of the run
                        os.symlink(home, name)
                        time.sleep(0.0001 * (number % 40))
                        os.unlink(name)
                        if number % 3:
                            os.rename(f"taken{number}", name)
                    except OSError:
                        time.sleep(0.0001 * (number % 7))
        runs, ends = 0, collections.Counter()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                for words in ((), ("--force",)):
                    done = self.run(*self.export, "bnb", "-o", "out", *words)
                    check(done.returncode in (0, 1, 2), "it ends", done.returncode, done.stderr)
                    runs += 1
                    ends[(re.findall(r"\[(Q4-\d+)\]", done.stderr) or ["0"])[0]] += 1
                for name in os.listdir(self.place):
                    path = self.place / name
                    # What it is may change between the look and the call; what stays is cleared the next time.
                    with contextlib.suppress(OSError):
                        path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        check(tree(home) == before, f"nothing changed where the links led, {swapped}", set(tree(home)) ^ set(before))
        print(f"shared_folder: {runs} exports beside a user who exchanges {', '.join(swapped)}: {dict(ends)}")

    def modes(self):
        """All outputs have the mode that any other program's would have."""
        for umask in (0o022, 0o027, 0o077, 0o002, 0):
            self.prepare(0o755)
            for words in ((*self.convert, "-o", "m.q4", "--report", "r.json"), (*self.convert, "-o", "s.q4", "--shard-size", "3KB"),
                          (*self.export, "bnb", "-o", "out"), (*self.export, "safetensors", "-o", "x.safetensors"),
                          ("q4verify", "m.q4", "-q", "--junit", "r.xml", "--markdown", "r.md", "--html", "r.html"),
                          (*self.export, "bnb", "-o", "out", "--force")):
                done = self.run(*words, umask=umask)
                check(done.returncode == 0, f"umask {umask:o}: {words[0]}", done.stderr)
            for path in self.place.rglob("*"):
                expected = (0o777 if path.is_dir() else 0o666) & ~umask
                check(path.stat().st_mode & 0o777 == expected, f"umask {umask:o}: {path.name} has mode {expected:o}", oct(path.stat().st_mode))


def why_not(base):
    """What forbids two user ids here; "" for nothing."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        os.chown(base / "tools", VICTIM, VICTIM)
        os.chown(base / "tools", 0, 0)
        done = subprocess.run([base / "tools/q4export", "--version"], capture_output=True, user=VICTIM, group=VICTIM, extra_groups=[])
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if done.returncode == 0 else "another user cannot run the tools here"


def main():
    tools, shim = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(tools, shim, pathlib.Path(name).resolve())
        bench.modes()
        forbidden = why_not(bench.base)
        if forbidden:
            print(f"shared_folder: skipped: two user ids: {forbidden}")
        else:
            for folder_mode in (0o1777, 0o777):
                for victim in (0, VICTIM):
                    bench.leftovers(folder_mode, victim)
                    bench.folders(folder_mode, victim)
            for swapped in (("out.partial",), ("out",), ("out.partial", "out.partial.q4-probe", "out")):
                bench.race(1.5, swapped)
    print(f"shared_folder: {count()} checks")


if __name__ == "__main__":
    main()
