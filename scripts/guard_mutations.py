#!/usr/bin/env python3
"""Takes each validation guard of formats/ away in turn; the tests must notice every time. Run before a release.

  guard_mutations.py [--out DIR] [--goal PERCENT] [--jobs N] [--only PATH[:LINE]]... [--shard I/N]
                     [--seconds N] [--build-only | --built] [--skip-failing]

Builds once: DIR (build/guard_mutations) gets a copy of formats/ in which every guard (scripts/guards.py says what that is) asks
tests/support/guard_switch.h whether it is there, and links to everything else. A guard is then taken away by an environment
variable. It is killed when a test fails, crashes, runs out of memory or takes ten times as long as it should: formats_test, the
exporter's tests, the hostile table and the tests of publishing, one after the other, until one kills it. A test in whose undisturbed
run a guard refuses nothing is not tried: the run would be the same. N tests run at once (2), with low priority.

--only: the guards of a file, a line of it or a folder (formats/torch). --shard 2/4: every fourth of these, from the second on, so that
four machines can share them; the goal is then that of the shard. --seconds: nothing is tried later than that after the start; what is
left counts as alive. --built: the programs lie there already, as --build-only left them, with the list of their guards;
scripts/guard_carry.sh takes them to a machine without a compiler. --skip-failing: what fails there with every guard is named and left
out, else it ends the run.

Prints a table by file and every survivor; DIR/guards.txt tells who killed what, from the first guard that was tried on. Exit status 1 below the goal (95 % of all guards).
"""
import argparse
import collections
import concurrent.futures
import dataclasses
import json
import math
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree

import guards

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUICK_SECONDS = 0.1  # a test case that takes longer is not among the first
MEMORY_LIMIT = 4 << 30  # bytes of address space: a size limit that is gone must not take the machine down
# Joined files are half the work, which many cores do sooner apart.
JOINED = (os.cpu_count() or 1) < 16
OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", f"-DQ4_JOIN={'ON' if JOINED else 'OFF'}", "-DCMAKE_CXX_FLAGS_RELEASE=-O1", "-DQ4_BUILD_TESTS=ON", "-DQ4_ENABLE_CUDA=OFF"]
TOOLS = ["q4convert", "q4inspect", "q4verify", "q4export"]
NETWORK_PARTS = ["mistakes", "hub", "bucket", "one_file", "changes", "denied", "secrets", "same_bytes", "pipeline", "faults", "refusals", "tls"]
HOSTILE_ROWS = "ZKGFMBAPSXQV"  # the groups of the table whose rows give files to readers
LINKED = ["CMakeLists.txt", "cmake", "docs", "kernels", "libconvert", "python", "scripts", "testdata", "tests", "tools"]

# Guards without which nothing can be seen to differ, or that nothing but a failing machine reaches: (file, condition): reason.
# They count as survivors all the same. An entry for a guard that is killed is an error.
EXPLAINED: "dict[tuple[str, str], str]" = {
    ("formats/base/digest.cc", "xxh3 == nullptr"): "malloc() in libxxhash must fail",
    ("formats/gguf/gguf_input.cc", "!ok()"): "the first error is kept by those who ask before they believe what was read",
    ("formats/gguf/gguf_input.cc", "!Need(1)"): "the same",
    ("formats/posix/file_posix.cc", "::fstat(opened.fd.get(), &info) != 0"): "of what was just opened: fails with the disk or the network",
    ("formats/q4/writer.cc", "chunk_count > limits::kQ4IndexBytes / kQ4ChunkRecordBytes"): "takes millions of chunks",
    ("formats/source/open_checkpoint.cc", "content->files.size() + payload.files.size() > limits::kShards"):
        "takes ten thousand open files",
    ("formats/source/open_checkpoint.cc", "content->tensors.size() + payload.tensors.size() > limits::kTensorsPerCheckpoint"):
        "takes folders with over a million tensors together",
    ("formats/source/split_files.cc", "payload.tensors.size() + part.tensors.size() > limits::kTensorsPerCheckpoint"):
        "takes parts with over a million tensors together",
    ("formats/posix/posix_files.cc", "put == 0"): "Linux never writes 0 of some bytes; if it did, the loop would not end",
    ("formats/posix/file_posix.cc", "::fstat(fd.get(), &info) != 0"): "of what was just opened: fails with the disk or the network",
    ("formats/posix/file_posix.cc", "RetryOnEintr([&] { return ::fsync(fd.get()); }) == 0 || IsUnknownHere(errno)"):
        "of a directory that opens: fails with the disk",
    ("formats/posix/file_posix.cc", "errno != 0"): "readdir() of a directory that opens: fails with the disk",
    ("formats/base/zstd_codec.cc", "context == nullptr"): "malloc() in libzstd must fail",
    ("formats/base/zstd_codec.cc", "ZSTD_isError(result)"): "the library clamps the level, and the other parameters are constants",
    ("formats/q4/index.cc", "!ComputeQ4Elements(tensor->shape, &tensor->elems)"):
        "ValidateQ4Tensor() behind it refuses the same shapes in the same words",
    ("formats/source/shard_index.cc", "payload.tensors.size() + tensors.size() > limits::kTensorsPerCheckpoint"):
        "takes shards with over a million tensors together: seconds of every test run",
    ("formats/source/shard_index.cc", "!CheckedAdd(total_bytes, tensor.bytes, &total_bytes)"): "takes files of 2^64 bytes together",
    ("formats/source/open_checkpoint.cc", 'AddWeights(std::move(payload), "", &content, &remarks)'): "fails with the two limits above alone",
    ("formats/base/system_text.cc", "fd < 0"): "a read of no file fails as well",
    ("formats/net/read_ahead.cc", "threads_.empty()"): "the system must refuse every thread",
    ("formats/net/read_ahead.cc", "piece->state != Piece::State::kThere"):
        "what is coming would be given up sooner, and asked for again: time alone",
    ("formats/posix/file_posix.cc", "CheckOwner(*there, path, /*shared=*/false)"): "takes a second user who may not write",
    ("formats/posix/posix_places.cc", "!named.valid()"): "takes a file system without O_TMPFILE in which nothing can be made",
    ("formats/publish/atomic_directory.cc", "back"): "the directory that could not go back is no empty one: removing it fails next",
    ("formats/publish/leftover.cc", "info.identity != held.identity()"): "another directory must take the name between two calls",
    ("formats/publish/leftover.cc", "!info.is_directory || info.is_symlink"): "Hold() has refused it before",
    ("formats/publish/leftover.cc", "fs.Remove(JoinPath(root, name))"): "a directory that still holds it cannot be removed either",
    ("formats/publish/leftover.cc", "RemoveTreeOf(fs, JoinPath(root, name), info.owner)"): "the same",
    ("formats/publish/publish_directory.cc", "fs_.Remove(JoinPath(path_, kReplacedName))"): "takes two calls that fail",
    ("formats/tensor/tensor.cc", "static_cast<std::size_t>(kDTypes[i].dtype) != i + 1"): "a static_assert; what it refuses does not compile",
}


@dataclasses.dataclass
class Mutant:
    number: int
    file: str
    guard: guards.Guard
    killed_by: str = ""  # the stage
    how: str = ""
    cut_short: bool = False  # for lack of time

    def __str__(self) -> str:
        return f"{self.file}:{self.guard.line}: {self.guard.kind}: {self.guard.text}"


@dataclasses.dataclass
class Stage:
    """A command that tests something, and what it did while every guard was there."""
    name: str
    command: "list[str]"
    seconds: float = 0
    met: "set[int]" = dataclasses.field(default_factory=set)  # guards that refused something
    tries: int = 1  # times that it has to fail: a machine under load makes a test fail that waits for sockets


def write_if_changed(path: pathlib.Path, text: str) -> None:
    """So that a second run builds only what changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def copy_sources(source: pathlib.Path) -> "list[Mutant]":
    """Makes the copy with switches and returns its guards."""
    source.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        link = source / name
        if not link.is_symlink():
            link.symlink_to(ROOT / name)
    mutants: "list[Mutant]" = []
    for path in sorted((ROOT / "formats").rglob("*")):
        if not path.is_file():
            continue
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        if path.suffix in (".h", ".cc"):
            found = guards.find_guards(text)
            text = guards.with_switches(text, found, len(mutants) + 1)
            mutants += [Mutant(number, name, guard) for number, guard in enumerate(found, len(mutants) + 1)]
        write_if_changed(source / name, text)
    return mutants


def save_guards(mutants: "list[Mutant]", path: pathlib.Path) -> None:
    """For a run elsewhere, whose tree may have other sources by then."""
    path.write_text(json.dumps([[mutant.file, dataclasses.asdict(mutant.guard)] for mutant in mutants]), encoding="utf-8")


def load_guards(path: pathlib.Path) -> "list[Mutant]":
    saved = json.loads(path.read_text(encoding="utf-8"))
    return [Mutant(number, file, guards.Guard(**guard)) for number, (file, guard) in enumerate(saved, 1)]


def build(out: pathlib.Path, targets: "list[str]", jobs: int) -> None:
    flags = f"-include {ROOT / 'tests' / 'support' / 'guard_switch.h'}"
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    configure = ["cmake", "-S", str(out / "source"), "-B", str(out / "build"), "-G", "Ninja", f"-DCMAKE_CXX_FLAGS={flags}"]
    subprocess.run(configure + OPTIONS + launcher, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["nice", "cmake", "--build", str(out / "build"), "-j", str(jobs), "--target", *targets], check=True)


def run(stage: Stage, out: pathlib.Path, name: str, environment: "dict[str, str]", seconds: float) -> str:
    """How the command fails: "fails", "crashes", "too slow", or "" if it succeeds. What it leaves behind is removed."""
    scratch = out / "tmp" / name
    scratch.mkdir(parents=True)
    process = subprocess.Popen(stage.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "TMPDIR": str(scratch), **environment}, start_new_session=True, cwd=ROOT)
    try:
        status = process.wait(timeout=seconds)
        return "crashes" if status < 0 else "fails" if status > 0 else ""
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "too slow"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run_undisturbed(stage: Stage, out: pathlib.Path) -> bool:
    """Fills in the stage's time and the guards that it meets. Whether it succeeds."""
    scratch = stage.name.replace(", ", "-").replace(" ", "_")
    met = out / f"met-{scratch}.txt"
    met.unlink(missing_ok=True)
    start = time.monotonic()
    if run(stage, out, scratch, {"Q4_GUARDS_MET": str(met)}, 3600):
        print(f"{stage.name} fails although every guard is there: {' '.join(stage.command)}", flush=True)
        return False
    stage.seconds = time.monotonic() - start
    stage.met = {int(line) for line in met.read_text().split()} if met.exists() else set()
    print(f"{stage.name}: {stage.seconds:.1f} s undisturbed, refused by {len(stage.met)} guards", flush=True)
    return True


def try_all(stages: "list[Stage]", mutants: "list[Mutant]", out: pathlib.Path, jobs: int, deadline: float) -> None:
    """Runs the stages that meet a guard without it, one after the other, until one kills it; many guards at once."""
    def try_one(mutant: Mutant) -> None:
        for stage in (stage for stage in stages if mutant.number in stage.met):
            if time.monotonic() > deadline:
                mutant.cut_short = True
                return
            for _ in range(stage.tries):
                mutant.how = run(stage, out, str(mutant.number), {"Q4_GUARD_OFF": str(mutant.number)}, max(10, 10 * stage.seconds))
                if not mutant.how:
                    break
            if mutant.how:
                mutant.killed_by = stage.name
                return

    def try_and_write(mutant: Mutant) -> None:
        try_one(mutant)
        with lock:
            record.write(f"{mutant.killed_by or ('not tried' if mutant.cut_short else 'alive')}: {mutant.how}: {mutant}\n")
            record.flush()

    start = time.monotonic()
    lock = threading.Lock()
    with open(out / "guards.txt", "w", encoding="utf-8") as record, concurrent.futures.ThreadPoolExecutor(max_workers=jobs) as pool:
        list(pool.map(try_and_write, mutants))
    print(f"all guards tried in {time.monotonic() - start:.0f} s", flush=True)


def catch_stages(program: pathlib.Path, out: pathlib.Path, skip_failing: bool) -> "list[Stage]":
    """The quick cases of a Catch2 program, then its others."""
    report = out / "durations.xml"
    # In the root of the repository, where testdata/ lies.
    subprocess.run([program, "-r", "xml", "-d", "yes", "-o", report], check=not skip_failing, stdout=subprocess.DEVNULL, cwd=ROOT)
    lists: "dict[str, list[str]]" = {"quick cases": [], "other cases": []}
    for case in xml.etree.ElementTree.parse(report).getroot().iter("TestCase"):
        result = case.find("OverallResult")
        if skip_failing and (result is None or result.get("success") != "true"):
            print(f"left out, for it fails here: {case.get('name')}")
            continue
        seconds = float(result.get("durationInSeconds", "0")) if result is not None else 0
        pattern = re.sub(r"([\\,\[])", r"\\\1", case.get("name", ""))
        lists["quick cases" if seconds < QUICK_SECONDS else "other cases"].append(pattern)
    stages = []
    for part, patterns in lists.items():
        file = out / f"{program.name}_{part.replace(' ', '_')}.txt"
        file.write_text("".join(f"{pattern}\n" for pattern in patterns), encoding="utf-8")
        stages.append(Stage(f"{program.name}, {part}", [str(program), "--abort", "--input-file", str(file)]))
    return stages


def stages_of(out: pathlib.Path, skip_failing: bool) -> "list[Stage]":
    built = out / "build"
    tools, tests = str(built / "tools"), ROOT / "tests"
    stages = catch_stages(built / "tests" / "formats" / "formats_test", out, skip_failing)
    stages += catch_stages(built / "tests" / "libconvert" / "libconvert_export_test", out, skip_failing)
    stages += [Stage(f"hostile, rows {row}", ["env", "Q4_EXHAUSTIVE=1", sys.executable, str(tests / "hostile" / "hostile_test.py"),
                                              "--tools", tools, "--jobs", "1", "--row", row]) for row in HOSTILE_ROWS]
    shim = built / "tests" / "cli" / "libfault_shim.so"
    stages.append(Stage("publish", [sys.executable, str(tests / "cli" / "publish_test.py"), tools, str(shim)]))
    stages.append(Stage("shared folder", [sys.executable, str(tests / "cli" / "shared_folder_test.py"), tools, str(shim)]))
    network = [sys.executable, str(tests / "cli" / "network_test.py"), tools]
    stages += [Stage(f"network, {part}", [*network, part], tries=2) for part in NETWORK_PARTS]
    return stages


def limit_children() -> None:
    """What is started from here on, other than by build(): little memory, no core files, low priority."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)


def is_chosen(mutant: Mutant, only: "list[str]") -> bool:
    names = (mutant.file, f"{mutant.file}:{mutant.guard.line}")
    return not only or any(name in names or mutant.file.startswith(name.rstrip("/") + "/") for name in only)


def parse_shard(text: str) -> "tuple[int, int]":
    number, _, count = text.partition("/")
    shard = (int(number), int(count))
    if not 1 <= shard[0] <= shard[1]:
        raise ValueError(text)
    return shard


def print_table(mutants: "list[Mutant]", stages: "list[Stage]") -> None:
    print(f"\n{'file':34} {'guards':>6} {'killed':>6} {'alive':>6}")
    by_file = collections.defaultdict(list)
    for mutant in mutants:
        by_file[mutant.file].append(bool(mutant.killed_by))
    for file, killed in by_file.items():
        print(f"{file:34} {len(killed):6} {sum(killed):6} {len(killed) - sum(killed):6}")
    print(f"{'all':34} {len(mutants):6} {sum(bool(m.killed_by) for m in mutants):6} {sum(not m.killed_by for m in mutants):6}\n")
    for kind in ("refuse", "accept", "pass on"):
        killed = [bool(mutant.killed_by) for mutant in mutants if mutant.guard.kind == kind]
        print(f"{kind}: {sum(killed)} of {len(killed)} killed")
    for stage in stages:
        ways = collections.Counter(mutant.how for mutant in mutants if mutant.killed_by == stage.name)
        print(f"killed by {stage.name}: {ways.total()} ({', '.join(f'{how}: {count}' for how, count in sorted(ways.items()))})")


def print_survivors(mutants: "list[Mutant]", stages: "list[Stage]") -> None:
    met = set().union(*(stage.met for stage in stages))
    print("\nsurvivors:")
    for mutant in (mutant for mutant in mutants if not mutant.killed_by):
        reason = EXPLAINED.get((mutant.file, mutant.guard.text))
        refuses = "not tried to the end" if mutant.cut_short else "it refuses something, and nothing fails without it"
        note = reason or (refuses if mutant.number in met else "nothing reaches it")
        print(f"  {mutant}\n      {note}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "guard_mutations")
    parser.add_argument("--goal", type=float, default=95)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--only", action="append", default=[], metavar="PATH[:LINE]")
    parser.add_argument("--shard", type=parse_shard, default=(1, 1), metavar="I/N")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--built", action="store_true")
    parser.add_argument("--skip-failing", action="store_true")
    args = parser.parse_args()
    start = time.monotonic()
    out = args.out.resolve()
    if args.built:
        mutants = load_guards(out / "build" / "guards.json")
    else:
        mutants = copy_sources(out / "source")
        build(out, ["formats_test", "libconvert_export_test", "fault_shim", *TOOLS], args.jobs)
        save_guards(mutants, out / "build" / "guards.json")
    if args.build_only:
        return 0
    limit_children()
    shutil.rmtree(out / "tmp", ignore_errors=True)
    mutants = [mutant for mutant in mutants if is_chosen(mutant, args.only)][args.shard[0] - 1 :: args.shard[1]]

    stages = stages_of(out, args.skip_failing)
    with concurrent.futures.ThreadPoolExecutor(max_workers=args.jobs) as pool:
        if not all(list(pool.map(lambda stage: run_undisturbed(stage, out), stages))) and not args.skip_failing:
            return 1
    try_all(stages, mutants, out, args.jobs, start + args.seconds)

    print_table(mutants, stages)
    print_survivors(mutants, stages)
    wrong = [f"{mutant}" for mutant in mutants if mutant.killed_by and (mutant.file, mutant.guard.text) in EXPLAINED]
    for entry in wrong:
        print(f"is killed, so EXPLAINED must not hold it: {entry}")
    killed = sum(bool(mutant.killed_by) for mutant in mutants)
    percent = 100 * killed / len(mutants) if mutants else 0
    print(f"\nguard mutations: {killed} of {len(mutants)} killed ({percent:.1f} %), at least {args.goal:g} % wanted")
    return 1 if percent < args.goal or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
