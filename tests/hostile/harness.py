"""What every row of the hostile table stands on: how a case is described, run in a child process and held to the contract.

The contract (unless a case says otherwise): the documented exit code; one error line of the documented grammar, without control
characters; nothing new in the directory and nothing changed; bounded address space, memory and time. Tools with sanitizers
(tests/support/sanitizers.py) are held to the same, but memory is not judged and time is multiplied; any report fails the row.
"""

import dataclasses
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Iterable, Union

import sanitizers

GRAMMAR = re.compile(r"q4(convert|inspect|verify|export): .+ \[Q4-\d{4}\]")
# C0 without the newline, DEL, C1 and the characters that reorder text on a terminal.
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ISSUE = re.compile(r"\[Q4-(\d{4})\]")

MIB = 1 << 20
ADDRESS_SPACE_MIB = 1024  # threads reserve far more than they touch; resident memory is bounded by `rss`
HANG_SECONDS = 120
# Cases of a row that are tried, by whether the tools have sanitizers. Rows with more loop over bits, prefixes and fields, as `formats` and
# the fuzz corpora do in process, in both builds; Q4_EXHAUSTIVE=1 tries all (.ci/nightly).
MOST = {sanitized: sys.maxsize if "Q4_EXHAUSTIVE" in os.environ else most for sanitized, most in ((False, 64), (True, 8))}
DESCRIPTORS_OF_SANITIZERS = 5  # the standard ones, and a pipe through which they ask whether memory can be read
QUIET = ("--threads", "2", "--progress", "none")
CONVERT = ("q4convert", "in.safetensors", "-o", "out.q4", "--device", "cpu", "-q", *QUIET)
VERIFY = ("q4verify", "in.q4", "-q", *QUIET)


class Failure(Exception):
    """A row does not hold."""


class Skip(Exception):
    """A case cannot be tried on this machine."""


# ---- what a case puts into its directory; plain bytes are a file's content


@dataclasses.dataclass
class Link:
    target: str


@dataclasses.dataclass
class Hard:
    target: str


@dataclasses.dataclass
class Sparse:
    """`head`, then zeros up to `size` that take no room on the disk."""

    head: bytes
    size: int


class Fifo:
    pass


class Socket:
    pass


class Directory:
    pass


Content = Union[bytes, Link, Hard, Sparse, Fifo, Socket, Directory, Callable[[pathlib.Path], None]]


@dataclasses.dataclass
class Case:
    """One command on one bad input. `issue` and `code` may be tuples of what is allowed."""

    files: dict[str, Content]
    code: Any = 3
    issue: Any = None
    text: str = ""  # regular expression over stderr
    command: tuple[str, ...] = CONVERT
    makes: tuple[str, ...] = ()  # what an accepted run leaves
    seconds: float = 1.0  # processor time, which a busy machine does not stretch
    rss: int = 256  # MiB
    limits: dict[str, int] = dataclasses.field(default_factory=dict)  # options of the shell's ulimit
    env: dict[str, str] = dataclasses.field(default_factory=dict)
    stdout: str = ""  # "closed", a path, or "" for a file that is kept
    check: Callable[["Result"], None] = None
    name: str = ""


def accept(files, makes=("out.q4",), **rest):
    """A case that must be accepted."""
    return Case(files, code=0, makes=tuple(makes), **rest)


@dataclasses.dataclass
class Row:
    id: str
    title: str
    cases: Callable[[], Iterable[Any]]  # yields cases, and functions of a Bench for what one command cannot show
    note: str = ""  # where q4 differs from the specification, and why; what is proven elsewhere


@dataclasses.dataclass
class Result:
    code: int
    stdout: bytes
    stderr: str
    cpu: float
    rss: float  # MiB
    work: pathlib.Path

    def issues(self):
        return {int(number) for number in ISSUE.findall(self.stderr)}


@dataclasses.dataclass
class Settings:
    tools: pathlib.Path
    sanitized: bool
    shims: str  # what LD_PRELOAD is to say for the faults of fault_shim.c, or ""

    @property
    def slower(self):
        """The factor on limits of time."""
        return sanitizers.SLOWER if self.sanitized else 1


def require(condition, message):
    if not condition:
        raise Failure(message)


def snapshot(directory):
    """Every path below `directory` with what must not change about it."""
    found = {}
    for path in sorted(directory.rglob("*")):
        info = path.lstat()
        what = [stat.S_IFMT(info.st_mode), info.st_ino]
        if stat.S_ISREG(info.st_mode):
            what += [info.st_size, info.st_mtime_ns]
            if info.st_size <= MIB:
                what.append(hashlib.sha256(path.read_bytes()).digest())
        found[str(path.relative_to(directory))] = what
    return found


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content) and not isinstance(content, type):
        content(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, Link):
        path.symlink_to(content.target)
    elif isinstance(content, Hard):
        os.link(path.parent / content.target, path)
    elif isinstance(content, Sparse):
        with open(path, "wb") as file:
            file.write(content.head)
            file.truncate(content.size)
    elif content is Fifo:
        os.mkfifo(path)
    elif content is Directory:
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))


class Bench:
    """A directory in which the commands of one case run."""

    def __init__(self, settings, work):
        self.settings, self.work = settings, work
        self.issues_seen = set()
        self.commands = 0
        self.cpu = 0.0
        self.heaviest = 0.0

    def build(self, files):
        for name, content in files.items():
            put(self.work / name, content)

    def start(self, command, limits=None, env=None, stdout="", out=None, err=None):
        """The child, under its limits. The caller waits for it."""
        limits = dict(limits or {})
        if not self.settings.sanitized:  # a sanitizer reserves terabytes of addresses
            limits.setdefault("v", ADDRESS_SPACE_MIB * 1024)
        else:
            limits.pop("v", None)
            if limits.get("n", DESCRIPTORS_OF_SANITIZERS) < DESCRIPTORS_OF_SANITIZERS:
                raise Skip("sanitizers need two descriptors beside the standard ones themselves")
        shell = "".join(f"ulimit -{option} {value} && " for option, value in limits.items()) + 'exec "$@"'
        if stdout == "closed":
            shell += " >&-"
        elif stdout:
            shell += f" > {stdout}"
        words = [str(self.settings.tools / command[0]), *command[1:]]
        # The kernel counts this process's peak as the child's until it is forgotten.
        pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        settings_of_others = ("Q4_", "LD_PRELOAD", "ASAN_", "LSAN_", "UBSAN_")
        ours = ("Q4_GUARD_OFF", "Q4_GUARDS_MET")  # scripts/guard_mutations.py tells the tools by these what to leave out
        environment = {key: value for key, value in os.environ.items() if not key.startswith(settings_of_others) or key in ours}
        if self.settings.sanitized:
            environment.update(sanitizers.ENVIRONMENT)
        environment.update(env or {})
        return subprocess.Popen(
            ["sh", "-c", shell, "sh", *words],
            cwd=self.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )

    def run(self, command, limits=None, env=None, stdout="", meanwhile=None):
        """Runs `command` to its end; `meanwhile(process)` is called once it has started."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = self.start(command, limits, env, stdout, out, err)
            hung = threading.Event()

            def stop():
                hung.set()
                os.killpg(child.pid, signal.SIGKILL)

            timer = threading.Timer(HANG_SECONDS * self.settings.slower, stop)
            timer.start()
            try:
                if meanwhile:
                    meanwhile(child)
                _, status, usage = os.wait4(child.pid, 0)
            finally:
                timer.cancel()
            child.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            stdout_bytes, stderr = out.read(), err.read()
        self.commands += 1
        self.cpu += usage.ru_utime + usage.ru_stime
        self.heaviest = max(self.heaviest, usage.ru_maxrss / 1024)
        result = Result(
            child.returncode,
            stdout_bytes,
            stderr.decode("utf-8", "surrogateescape"),
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            self.work,
        )
        words = " ".join(command)
        require(not hung.is_set(), f"{words}: hangs")
        found = sanitizers.report(result.code, result.stderr)
        require(not found, f"{words}: {found}")
        require(result.code >= 0 or meanwhile, f"{words}: died of signal {-result.code}: {result.stderr[-300:]}")
        try:
            stderr.decode("utf-8")
        except UnicodeDecodeError:
            raise Failure(f"{words}: stderr is not UTF-8: {stderr!r}") from None
        bad = FORBIDDEN.search(result.stderr) or FORBIDDEN.search(stdout_bytes.decode("utf-8", "replace"))
        require(not bad, f"{words}: control character {bad and bad.group()!r} on the terminal")
        return result

    def expect(self, case):
        """Runs one case and holds it to the contract."""
        before = snapshot(self.work)
        result = self.run(case.command, case.limits, case.env, case.stdout)
        shown = f"{' '.join(case.command)}: exit code {result.code}: {result.stderr.strip()[:600] or 'no message'}"
        codes = case.code if isinstance(case.code, tuple) else (case.code,)
        require(result.code in codes, f"expected exit code {case.code}; {shown}")
        lines = result.stderr.splitlines()
        if result.code not in (0, 6):
            require(len(lines) == 1, f"expected one error line; {shown}")
        if result.code != 0:
            require(lines and all(GRAMMAR.fullmatch(line) for line in lines), f"error line breaks the grammar; {shown}")
        if case.issue is not None:
            issues = set(case.issue if isinstance(case.issue, tuple) else (case.issue,))
            require(issues & result.issues(), f"expected Q4-{case.issue}; {shown}")
        require(re.search(case.text, result.stderr), f"expected '{case.text}'; {shown}")
        after = snapshot(self.work)
        for name in case.makes:
            require(after.pop(name, None), f"{name} was not made; {shown}")
            before.pop(name, None)  # it may have been replaced
        inside = tuple(f"{name}/" for name in case.makes)  # as may what lay in it
        before, after = (
            {name: what for name, what in files.items() if not name.startswith(inside)} for files in (before, after)
        )
        require(
            after == before,
            f"left behind or changed: {sorted(set(map(str, after.items())) ^ set(map(str, before.items())))}",
        )
        seconds = case.seconds * self.settings.slower
        require(result.cpu <= seconds, f"took {result.cpu:.2f} s of processor time, at most {seconds}; {shown}")
        if not self.settings.sanitized:  # most of whose memory is the sanitizer's
            require(result.rss <= case.rss, f"took {result.rss:.0f} MiB, at most {case.rss}; {shown}")
        if case.check:
            case.check(result)
        self.issues_seen |= result.issues()
        return result

    def ok(self, *command, **rest):
        """Runs a command that must succeed."""
        result = self.run(command, **rest)
        require(result.code == 0, f"{' '.join(command)}: exit code {result.code}: {result.stderr}")
        return result

    def shim(self):
        """LD_PRELOAD for the faults of fault_shim.c."""
        if not self.settings.shims:
            raise Skip("needs a C compiler")
        return self.settings.shims


@dataclasses.dataclass
class Outcome:
    row: Row
    state: str  # "pass", "FAIL" or "skip"
    message: str = ""
    commands: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    rss: float = 0.0
    issues: set = dataclasses.field(default_factory=set)


def selection(cases, most):
    """`most` of a row's numbered cases: the first that expects each issue, and others by a fixed seed."""
    first = {}
    for number, case in cases:
        first.setdefault(case.issue if isinstance(case, Case) else number, number)
    rest = sorted(set(range(len(cases))) - set(first.values()))
    chosen = [*first.values(), *random.Random(1).sample(rest, max(0, most - len(first)))]
    return [cases[number] for number in sorted(chosen)]


def run_row(row, settings):
    begin = time.monotonic()
    outcome = Outcome(row, "pass")
    skipped, tried = [], 0
    cases = list(enumerate(row.cases()))
    if len(cases) > MOST[settings.sanitized]:
        chosen = selection(cases, MOST[settings.sanitized])
        skipped.append(f"{len(cases) - len(chosen)} of {len(cases)} cases without Q4_EXHAUSTIVE")
        cases = chosen
    for number, case in cases:
        if settings.sanitized and isinstance(case, Case) and case.seconds > 1 and case.command[0] == "q4inspect":
            skipped.append("q4inspect on what takes seconds even without sanitizers, as q4convert reads it by the same code")
            continue
        work = pathlib.Path(tempfile.mkdtemp(prefix="q4-hostile-"))
        bench = Bench(settings, work)
        try:
            if isinstance(case, Case):
                bench.build(case.files)
                bench.expect(case)
            else:
                case(bench)
            tried += 1
        except Skip as reason:
            skipped.append(str(reason))
        except Failure as failure:
            outcome.state = "FAIL"
            outcome.message = (
                f"case {number}{' ' + case.name if isinstance(case, Case) and case.name else ''}: {failure}"
            )
            break
        finally:
            shutil.rmtree(work, ignore_errors=True)
            outcome.commands += bench.commands
            outcome.cpu += bench.cpu
            outcome.rss = max(outcome.rss, bench.heaviest)
            outcome.issues |= bench.issues_seen
    if skipped and outcome.state != "FAIL":
        outcome.message = "not tried: " + "; ".join(sorted(set(skipped)))
        if tried == 0:
            outcome.state = "skip"
    outcome.seconds = time.monotonic() - begin
    return outcome
