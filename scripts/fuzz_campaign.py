#!/usr/bin/env python3
"""Fuzzes all targets at once on a machine with many cores, for long runs.

  fuzz_campaign.py PROGRAMS REPOSITORY OUT --seconds N [--cores N] [--processes TARGET=N]... [--max-len TARGET=N]...

PROGRAMS is a folder of <target>_fuzz programs (scripts/fuzz.sh builds them, scripts/fuzz_carry.sh for another machine), REPOSITORY
one with tests/fuzz/*.dict and testdata/fuzz. Each target runs in as many processes as --processes says, else in its share of --cores
(at least 1), with different seeds and a shared corpus. A process that finds something is started again, and its input is kept. At
the end each corpus is reduced to what adds coverage.

Writes to OUT: summary.txt, the table that is also printed; findings.tar.gz; corpora.tar.gz, what was found beyond testdata/fuzz.
Exits 1 if there was a finding.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

# As in fuzz.sh. A short quarantine and short stacks at allocations make a target up to twice as fast and hide nothing: a
# target keeps no memory from one input to the next.
LIMITS = ["-rss_limit_mb=2048", "-malloc_limit_mb=256", "-timeout=20", "-print_final_stats=1"]
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=8:malloc_context_size=4:thread_local_quarantine_size_kb=256"}


# Address space layouts with more random bits than Clang 14's AddressSanitizer knows make it fail at its start. Where a process may not
# ask for another one, there is no need to.
FIXED_LAYOUT = ["setarch", "-R"]


def fixed_layout() -> "list[str]":
    try:
        done = subprocess.run([*FIXED_LAYOUT, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return []
    return FIXED_LAYOUT if done.returncode == 0 else []


def parse_pairs(pairs: "list[str]") -> "dict[str, int]":
    return {name: int(value) for name, _, value in (pair.partition("=") for pair in pairs)}


class Target:
    def __init__(self, name: str, args: argparse.Namespace, scratch: pathlib.Path):
        self.name = name
        self.program = [*args.layout, str((args.programs / f"{name}_fuzz").resolve())]
        self.seeds = args.repository / "testdata" / "fuzz" / name
        self.dictionary = args.repository / "tests" / "fuzz" / f"{name}.dict"
        self.environment = dict(ENVIRONMENT)
        if name == "alloc_fail":  # as in fuzz.sh
            self.environment["ASAN_OPTIONS"] += ":detect_leaks=0"
        self.merge_seconds = args.merge_seconds
        self.max_len = parse_pairs(args.max_len).get(name)
        self.corpus, self.reduced, self.logs, self.findings = (
            scratch / part / name for part in ("corpus", "reduced", "logs", "findings"))
        self.known = scratch / "known" / name
        for folder in (self.corpus, self.reduced, self.logs, self.findings):
            folder.mkdir(parents=True)
        found_inputs = args.repository / "tests" / "fuzz" / "found_inputs.py"
        found = args.repository / "testdata" / "fuzz" / f"{name}.found"
        subprocess.run([sys.executable, found_inputs, "unpack", found, self.known], check=True)

    def fuzz(self, seed: int, until: float) -> None:
        """Runs one process after the other until the time is up."""
        for attempt in range(1000):
            left = int(until - time.monotonic())
            if left < 2:
                return
            command = self.program + LIMITS + [f"-max_total_time={left}", f"-seed={1000 * attempt + seed}",
                                               f"-artifact_prefix={self.findings}/"]
            if self.dictionary.exists():
                command.append(f"-dict={self.dictionary}")
            # Half of the processes keep to short inputs, which are faster, half do not.
            if self.max_len is not None and seed % 2 == 0:
                command.append(f"-max_len={self.max_len}")
            with open(self.logs / f"{seed}-{attempt}.log", "wb") as log:
                subprocess.run(command + [self.corpus, self.seeds, self.known], stdout=log, stderr=subprocess.STDOUT, env=self.environment,
                               check=False)

    def reduce(self) -> None:
        command = self.program + ["-merge=1", f"-max_total_time={self.merge_seconds}", str(self.reduced), str(self.seeds),
                                  str(self.known), str(self.corpus)]
        with open(self.logs / "merge.log", "wb") as log:
            try:
                subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=self.environment, check=False,
                               timeout=self.merge_seconds + 10)
            except subprocess.TimeoutExpired:
                log.write(b"merge: out of time\n")

    def row(self) -> "tuple[str, int, int, int, int, int]":
        """Name, executions, executions per process and second, edges, size of the corpus, findings."""
        executed = rate = edges = processes = 0
        for log in self.logs.glob("*-*.log"):
            text = log.read_text(errors="replace")
            numbers = {key: [int(n) for n in re.findall(pattern, text)] for key, pattern in
                       (("executed", r"stat::number_of_executed_units: *(\d+)"), ("pulse", r"^#(\d+)"),
                        ("rate", r"stat::average_exec_per_sec: *(\d+)"), ("edges", r" cov: (\d+)"))}
            executed += (numbers["executed"] or numbers["pulse"] or [0])[-1]
            rate += (numbers["rate"] or [0])[-1]
            edges = max([edges, *numbers["edges"]])
            processes += 1
        return (self.name, executed, rate // max(processes, 1), edges, len(list(self.corpus.iterdir())),
                len(list(self.findings.iterdir())))


def pack(folder: pathlib.Path, archive: pathlib.Path) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("repository", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--merge-seconds", type=int, default=60, help="that the reduction of a corpus may take")
    parser.add_argument("--cores", type=int, default=0, help="that all targets share; without, each has one process")
    parser.add_argument("--processes", action="append", default=[], metavar="TARGET=N")
    parser.add_argument("--max-len", action="append", default=[], metavar="TARGET=N")
    parser.add_argument("--only", action="append", default=[], metavar="TARGET")
    args = parser.parse_args()
    processes = parse_pairs(args.processes)
    args.layout = fixed_layout()
    names = sorted(path.name[:-len("_fuzz")] for path in args.programs.glob("*_fuzz"))
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="fuzz_campaign_"))
    targets = [Target(name, args, scratch) for name in names if not args.only or name in args.only]
    # The first targets get what is left over.
    shares = {target.name: max(1, (args.cores + len(targets) - 1 - at) // len(targets)) for at, target in enumerate(targets)}

    until = time.monotonic() + args.seconds
    with concurrent.futures.ThreadPoolExecutor(max_workers=256) as pool:
        for target in targets:
            for seed in range(1, processes.get(target.name, shares[target.name]) + 1):
                pool.submit(target.fuzz, seed, until)
    with concurrent.futures.ThreadPoolExecutor(max_workers=256) as pool:
        list(pool.map(Target.reduce, targets))

    rows = [target.row() for target in targets]
    lines = [f"{'target':<16} {'executions':>12} {'per second':>10} {'edges':>7} {'corpus':>7} {'findings':>8}"]
    lines += [f"{name:<16} {executed:>12} {rate:>10} {edges:>7} {corpus:>7} {findings:>8}"
              for name, executed, rate, edges, corpus, findings in rows]
    table = "\n".join(lines) + "\n"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "summary.txt").write_text(table)
    for part, archive in (("findings", "findings"), ("reduced", "corpora"), ("logs", "logs")):
        pack(scratch / part, args.out / f"{archive}.tar.gz")
    shutil.rmtree(scratch)
    print(table, end="")
    return 1 if any(row[-1] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
