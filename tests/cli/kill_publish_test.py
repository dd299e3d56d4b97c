#!/usr/bin/env python3
"""kill_publish_test.py TOOLS KILL_AT_SO FAULT_SHIM_SO [--sanitized]: exports, and outputs on poor file systems, killed anywhere.

Kills a command right before every call that changes the disk, and then the next run as well at one or another. What is published by one
rename is then the old output or the new one, whole; what is published file by file has no half-written file under any final name,
and no configuration or index beside files of the other output. The same command run again completes it, and leaves nothing.
--sanitized: every fourth call. Q4_EXHAUSTIVE=1: every pair of calls.
"""
import argparse
import errno
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import sanitizers  # noqa: E402
from checks import check, count  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402

# Names that a killed run may leave, until the next one.
LEFT = re.compile(r"(^|/)[^/]*\.(partial|journal|q4-probe2?|q4-replaced)(/|$)|(^|/)\.q4-(lock|probe)$|/\.q4-left(/|$)")
NO_LOCKS = f"flock:1:{errno.ENOSYS}"
NO_FLAGS = f"renameat2:1:{errno.EINVAL}"
NO_LINKS = f"{NO_FLAGS},link:1:{errno.EPERM}"


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Command:
    def __init__(self, base, name, words, old=None, whole=True, faults="", gap=False, unlocked=False):
        """`gap`: for a moment the old output is aside. `unlocked`: what a dead run leaves is not cleared."""
        self.base, self.name, self.words, self.old = base, name, words, old or {}
        self.whole, self.faults, self.gap, self.unlocked = whole, faults, gap, unlocked
        self.prepare()
        done = self.run()
        check(done.returncode == 0, f"{name}: the undisturbed run", done.stderr)
        self.new = tree(base.place)

    def prepare(self):
        shutil.rmtree(self.base.place, ignore_errors=True)
        for name, content in self.old.items():
            (self.base.place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.base.place / name).write_bytes(content)
        (self.base.place / "out").mkdir(parents=True, exist_ok=True) if "--into" in self.words else None
        self.base.place.mkdir(exist_ok=True)

    def run(self, at=None, counted=None):
        environment = {**os.environ, **sanitizers.ENVIRONMENT, "LD_PRELOAD": self.base.preload}
        environment |= {"Q4_FAULT": self.faults} if self.faults else {}
        environment |= {"Q4_KILL_AT": str(at)} if at else {}
        environment |= {"Q4_KILL_COUNT": str(counted)} if counted else {}
        done = subprocess.run([self.base.tools / self.words[0], *self.words[1:]], cwd=self.base.place, env=environment,
                              capture_output=True, text=True, timeout=120)
        found = sanitizers.report(done.returncode, done.stderr)
        check(not found, f"{self.name}: sanitizers", found)
        return done

    def look(self, what):
        now = {name: content for name, content in tree(self.base.place).items() if not LEFT.search(name)}
        for name, content in now.items():
            check(content in (self.old.get(name), self.new.get(name)), f"{what}: {name} is old or new, and whole", sorted(now))
        if self.whole:
            aside = self.gap and not now and any("q4-replaced" in name for name in tree(self.base.place))
            check(now in (self.old, self.new) or aside, f"{what}: the old output or the new one", sorted(now))
            return
        # File by file: what others have put there stays, and a configuration is never beside files of the other output.
        for name, content in self.old.items():
            check(name in self.new or now.get(name) == content or name in self.removed, f"{what}: {name} is lost", sorted(now))
        makers = ("config.json", "modules.json", "model.safetensors.index.json", "q4_export.json")
        for name in now:
            base, below = name.rpartition("/")[2], name.startswith(self.folder)
            if base not in makers[:3]:
                continue
            complete = []
            for output in (self.old, self.new):
                # Of a folder only the weights and other files must be there, of the model itself also what makes its folders parts.
                rest = {other: data for other, data in output.items() if other.rpartition("/")[2] not in makers
                        or (other.startswith(self.folder) and not below)}
                complete.append(now[name] == output.get(name) and all(now.get(other) == data for other, data in rest.items()))
            check(any(complete), f"{what}: {name} beside what is no whole model", sorted(now))

    @property
    def folder(self):
        return next(name for name in self.new if "1_Pooling/" in name).rpartition("1_Pooling/")[0] + "1_Pooling/"

    @property
    def removed(self):
        return set(self.old) - set(self.new)

    def kill_at_calls(self, step):
        counted = self.base.base / "count"
        self.prepare()
        check(self.run(counted=counted).returncode == 0, f"{self.name}: a counted run")
        calls, kills = int(counted.read_text()), 0
        # Of the run after a kill another call each time, so that all of them are met; with Q4_EXHAUSTIVE=1 every pair.
        pairs = [(at, 0) for at in range(1, calls + 1, step)]
        if "Q4_EXHAUSTIVE" in os.environ:
            pairs += [(at, second) for at in range(1, calls + 1) for second in range(1, calls + 1)]
        else:
            stride = next(number for number in range(19, calls + 20) if math.gcd(number, calls) == 1)
            pairs += [(at, 1 + at * stride % calls) for at in range(1, calls + 1, step if self.whole else 1)][::3 if self.whole else 1]
        for at, second in pairs:
            what = f"{self.name}, call {at} of {calls}"
            self.prepare()
            status = self.run(at=at).returncode
            check(status in (0, -signal.SIGKILL), f"{what}: ends with {status}")
            kills += status != 0
            self.look(what)
            if second:
                what += f", then call {second}"
                self.run(at=second)
                self.look(what)
            done = self.run()
            # It refuses to replace what was complete already; then a lock may still be there.
            check(done.returncode in (0, 1), f"{what}: the next run", done.stderr)
            finished = {name: content for name, content in tree(self.base.place).items()
                        if not ((self.unlocked or done.returncode == 1) and LEFT.search(name))}
            check(finished == self.new, f"{what}: the next run completes it, and leaves nothing", done.stderr, sorted(finished))
        check(kills > 0.7 * len(pairs), f"{self.name}: {kills} kills at {calls} calls")
        print(f"kill_publish, {self.name}: {kills} kills at {calls} calls", flush=True)


class Base:
    def __init__(self, tools, preload, base):
        self.tools, self.preload, self.base, self.place = tools, preload, base, base / "place"
        for name, low in (("one", 7), ("two", 9)):
            (base / name).mkdir()
            named = {f"model.layers.{i}.mlp.up_proj.weight": ("BF16", (32, 64), bytes((low, 0x3C)) * 2048) for i in range(2)}
            (base / name / "model.safetensors").write_bytes(tensor_file(named, {"format": "pt"}))
            (base / name / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
            (base / name / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}]')
            (base / name / "1_Pooling").mkdir()
            (base / name / "1_Pooling/config.json").write_text(f'{{"word_embedding_dimension": {low}}}')
            subprocess.run([tools / "q4convert", name, "-o", f"{name}.q4", "-q"], cwd=base, check=True)
        for words in (("two.q4", "-o", "old/out", "--to", "bnb", "--shard-size", "3KB"),
                      ("two.q4", "-o", "old/x.safetensors", "--to", "safetensors")):
            (base / "old").mkdir(exist_ok=True)
            subprocess.run([tools / "q4export", *words, "-q"], cwd=base, check=True)
        subprocess.run([tools / "q4convert", "two", "-o", "old/m.q4", "-q"], cwd=base, check=True)

    def commands(self):
        old = tree(self.base / "old")
        out = {name: content for name, content in old.items() if name.startswith("out/")}
        export, convert = ("q4export", "../one.q4", "-q", "--to", "bnb", "-o"), ("q4convert", "../one", "-q", "-o")
        file = ("q4export", "../one.q4", "-q", "--to", "safetensors", "-o", "x.safetensors", "--force")
        mine = {"out/README.md": b"mine", "out/.git/HEAD": b"ref"}
        return [
            Command(self, "directory", (*export, "out")),
            Command(self, "directory replaced", (*export, "out", "--force"), out),
            Command(self, "directory replaced, no exchange", (*export, "out", "--force"), out, faults=NO_FLAGS, gap=True),
            Command(self, "directory itself", (*export, "."), whole=False),
            Command(self, "directory among others", (*export, "out", "--into"), mine, whole=False),
            Command(self, "directory replaced among others", (*export, "out", "--into", "--force"), {**mine, **out}, whole=False),
            Command(self, "file replaced", file, {"x.safetensors": old["x.safetensors"]}),
            Command(self, "container, no flags", (*convert, "m.q4"), faults=NO_FLAGS),
            Command(self, "container, no links", (*convert, "m.q4"), faults=NO_LINKS),
            Command(self, "container replaced, no locks", (*convert, "m.q4", "--force"), {"m.q4": old["m.q4"]},
                    faults=f"{NO_LINKS},{NO_LOCKS}", unlocked=True),
        ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("kill_at", type=pathlib.Path)
    parser.add_argument("shim", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    arguments = parser.parse_args()
    tools = arguments.tools.resolve()
    # Faults first: a call that they make fail changes nothing, so that no kill before it is due.
    preload = f"{arguments.shim.resolve()} {arguments.kill_at.resolve()}"
    if arguments.sanitized:
        preload = f"{sanitizers.runtime(tools / 'q4convert')} {preload}"
    with tempfile.TemporaryDirectory() as name:
        for command in Base(tools, preload, pathlib.Path(name).resolve()).commands():
            command.kill_at_calls(4 if arguments.sanitized else 1)
    print(f"kill_publish: {count()} checks")


if __name__ == "__main__":
    main()
