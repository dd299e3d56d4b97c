"""Section 3.8: the machine and the command line. Faults come from fault_shim.c, preloaded into the tools."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
import time

import container_bytes as q4
import rows_container
from harness import (
    CONVERT,
    QUIET,
    Bench,
    Case,
    Directory,
    Failure,
    Fifo,
    Hard,
    Link,
    Row,
    Skip,
    Socket,
    Sparse,
    accept,
    require,
)
from rows_values import MODEL, NAN, WEIGHT, weight
from safetensors_bytes import floats, sparse_header, stream, tensors

IN = "in.safetensors"
TO = CONVERT[4:]
SHORT_TIME = 60


def convert(*words, source=IN, output="out.q4"):
    return ("q4convert", source, "-o", output, *TO, *words)


def export(*words, source="m.q4", output="out"):
    return ("q4export", source, "-o", output, *QUIET, *words)


GOOD = q4.sample()
UNREADABLE = weight(floats(1, NAN))  # seen only by reading the payload


def e01():
    yield Case({IN: UNREADABLE}, code=2, issue=2101, command=convert(output="no/such/out.q4"))
    yield Case({IN: UNREADABLE, "file": b""}, code=2, issue=2101, command=convert(output="file/out.q4"))
    yield Case({IN: UNREADABLE}, code=2, issue=2020, command=convert(output="/proc/out.q4"))
    yield Case({IN: MODEL}, code=2, command=convert("--report", "no/such/report.json"))
    yield Case({"m.q4": GOOD}, code=2, issue=2031, command=export("--to", "safetensors", output="no/such/out"))

    def read_only(bench: Bench):
        """Even root may not write once the rights to are dropped."""
        setpriv = shutil.which("setpriv")
        if os.geteuid() == 0 and not setpriv:
            raise Skip("needs setpriv to drop root's rights")
        bench.build({IN: UNREADABLE, "closed": Directory})
        (bench.work / "closed").chmod(0o555)
        words = convert(output="closed/out.q4")
        if os.geteuid() == 0:
            words = (
                setpriv,
                "--bounding-set",
                "-dac_override,-dac_read_search",
                str(bench.settings.tools / words[0]),
                *words[1:],
            )
        result = bench.expect(Case({}, code=2, issue=2020, command=words))
        require("ermission" in result.stderr, result.stderr)

    yield read_only


def e02():
    for extra in ((), ("--force",)):
        yield Case({"in.q4": MODEL}, code=1, issue=1101, command=convert(*extra, source="in.q4", output="in.q4"))
        yield Case({IN: MODEL, "out.q4": Hard(IN)}, code=1, issue=1101, command=convert(*extra))
        yield Case({IN: MODEL, "out.q4": Link(IN)}, code=1, issue=1101, command=convert(*extra))
        yield Case(
            {IN: MODEL, "here": Link("."), "in.q4": Link(IN)},
            code=1,
            issue=1101,
            command=convert(*extra, output="here/in.q4"),
        )
    yield Case({"m.q4": GOOD}, code=1, issue=8001, command=export("--to", "safetensors", "--force", output="m.q4"))
    yield Case(
        {"d/m.q4": GOOD},
        code=1,
        issue=8001,
        command=export("--to", "safetensors", "--force", source="d/m.q4", output="d"),
    )


def e03():
    forced = export("--to", "safetensors", "--force")
    yield Case({IN: MODEL, "out.q4": b"precious"}, code=1, issue=1102)
    # --force replaces containers; an empty file is nobody's loss.
    for old in (GOOD, GOOD[:100], b""):
        yield accept({IN: MODEL, "out.q4": old}, command=convert("--force"))
    for old in (b"precious", MODEL, b"GGUF" + bytes(20), GOOD[:7], Link(IN), Link("nowhere")):
        yield Case({IN: MODEL, "out.q4": old}, code=1, issue=(1101, 1560), command=convert("--force"))
    yield Case({IN: MODEL, "r.json": b"precious"}, code=1, issue=1561, command=convert("--report", "r.json"))
    yield Case({IN: UNREADABLE, "out.q4": GOOD}, issue=4101, command=convert("--force"))
    yield Case({IN: MODEL, "out.q4": GOOD}, code=6, issue=6301, command=convert("--force", "--max-nmse", "1e-12"))
    for words in ((), ("--force",), ("--into",)):
        yield accept({"m.q4": GOOD, "out": Directory}, makes=("out",), command=export("--to", "safetensors", *words))
    yield Case({"m.q4": GOOD, "out/precious.txt": b"x"}, code=1, issue=8003, command=forced)
    # Beside weights, too: a person's files are not those of an export.
    weights = {"out/model.safetensors": MODEL}
    for extra in ({"out/precious.txt": b"x"}, {"out/.git/HEAD": b"x"}, {"out.q4-replaced/precious.txt": b"x"}):
        yield Case({"m.q4": GOOD, **weights, **extra}, code=1, issue=8003, command=forced)
    yield Case({"m.q4": GOOD, **weights}, code=1, issue=8003, command=forced)

    def again(bench: Bench):
        """An export is replaced, and no longer once anything in it has changed."""
        bench.build({"m.q4": GOOD})
        bench.ok(*export("--to", "safetensors"))
        bench.expect(Case({}, code=1, issue=8002, command=export("--to", "safetensors")))
        bench.ok(*forced)
        path = bench.work / "out" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        bench.expect(Case({}, code=1, issue=8003, command=forced))
        # A record is read as everything else is.
        for record in (b"{", b"[]", b'{"document": "q4export-record", "files": [1]}', b"[" * 100_000, bytes(20 << 20)):
            (bench.work / "out" / "q4_export.json").write_bytes(record)
            bench.expect(Case({}, code=1, issue=8003, command=forced))

    yield again

    def unpublishable(bench: Bench):
        """A file system that cannot rename: known before the work, of which the unreadable tensor would be a part."""
        shim = bench.shim()
        env = {"LD_PRELOAD": shim, "Q4_FAULT": f"rename:1:{errno.ENOSYS},link:1:{errno.EPERM}"}
        bench.build({IN: UNREADABLE, "m.q4": GOOD})
        for command in (convert(), export("--to", "safetensors")):
            bench.expect(Case({}, code=2, issue=2561, command=command, env=env))

    yield unpublishable
    # What the container says it was made from; one that gives no digest to know it by says nothing that is believed.
    for digest, code, issue in (({"sha256": hashlib.sha256(MODEL).hexdigest()}, 1, 8011), ({}, 6, 7630)):
        record = dict(sorted({"name": "a.safetensors", "size": len(MODEL), **digest}.items()))
        container = q4.build([q4.raw()], provenance=q4.provenance(files=[record]))
        yield Case({"m.q4": container, **weights}, code=code, issue=issue, command=forced)
    yield Case({"m.q4": GOOD, "real": Directory, "out": Link("real")}, code=1, issue=8003, command=forced)
    yield Case(
        {"m.q4": GOOD, "out.partial/precious.txt": b"x"}, code=2, issue=2033, command=export("--to", "safetensors")
    )


def e04():
    for content in (Directory, Fifo, Socket):
        yield Case({IN: MODEL, "out.q4": content}, code=1, issue=1103, command=convert("--force"))
        if content is not Directory:
            yield Case({IN: MODEL, "out.q4.partial": content}, code=2, issue=2023, command=convert())
    yield Case({IN: MODEL, "out.q4.partial": Link("elsewhere")}, code=2, issue=2023, command=convert())
    yield Case({IN: MODEL, "out.q4.partial": Directory}, code=2, issue=2023, command=convert())
    for output in ("/dev/null", "out.bin", ".q4", "-"):
        yield Case({IN: MODEL}, code=1, issue=1104, command=convert(output=output))
    yield Case({IN: MODEL, "r": Directory}, code=2, issue=2023, command=convert("--report", "r"))


def faults(call, number, issue, *words, most=40):
    """The k-th call fails, for every k until the run succeeds: the old output stays, and nothing is left beside it."""

    def run(bench: Bench):
        shim = bench.shim()
        bench.build({IN: MODEL})
        bench.ok(*convert(*words))
        right = (bench.work / "out.q4").read_bytes()
        (bench.work / "out.q4").write_bytes(GOOD)
        for k in range(1, most):
            before = (bench.work / "out.q4").read_bytes()
            result = bench.run(convert("--force", *words), env={"LD_PRELOAD": shim, "Q4_FAULT": f"{call}:{k}:{number}"})
            if result.code == 0:
                require(k > 1, f"{call} is never called")
                bench.ok("q4verify", "out.q4", "--against", IN, "-q", *QUIET)
                return
            names = {path.name for path in bench.work.iterdir()}
            wanted = issue if isinstance(issue, tuple) else (issue,)
            require(
                result.code == 2 and result.issues() & set(wanted),
                f"{call} {k}: exit code {result.code}: {result.stderr}",
            )
            require(names == {IN, "out.q4"}, f"{call} {k}: left behind: {names}")
            content = (bench.work / "out.q4").read_bytes()
            # Once the rename is done only its flush is left: the new file is complete, and the error is reported.
            require(content in (before, right), f"{call} {k}: the output changed")
            bench.issues_seen |= result.issues()
        raise Failure(f"{call}: still failing after {most} calls")

    return run


def resumable(call, number, issue):
    """A long run, in which every tensor is noted at once, stops at each call in turn: what it left is gone on with."""

    def run(bench: Bench):
        shim = bench.shim()
        names = {f"layers.{i}.up_proj.weight": ("BF16", (64, 64), bytes(8192)) for i in range(5)}
        bench.build({IN: tensors(**names)})
        bench.ok(*convert(output="right.q4"))
        right, resumed = (bench.work / "right.q4").read_bytes(), 0
        out, partial, journal = (bench.work / name for name in ("out.q4", "out.q4.partial", "out.q4.journal"))
        for k in range(1, 60):
            result = bench.run(convert("--sync-every", "1"), env={"LD_PRELOAD": shim, "Q4_FAULT": f"{call}:{k}:{number}"})
            if result.code == 0:
                # How many tensors a record waits for depends on the disk.
                require(resumed >= 1, f"{call}: no run was resumed")
                return
            require(result.code == 2 and issue in result.issues(), f"{call} {k}: exit code {result.code}: {result.stderr}")
            require(not out.exists(), f"{call} {k}: an output was made")
            require(partial.exists() == journal.exists(), f"{call} {k}: a partial file without a journal, or the reverse")
            again = bench.ok(*[word for word in convert("--sync-every", "1") if word != "-q"])
            resumed += "resumed: " in again.stderr
            require(out.read_bytes() == right, f"{call} {k}: the resumed run gave other bytes")
            require(not partial.exists() and not journal.exists(), f"{call} {k}: leftovers remain")
            out.unlink()
        raise Failure(f"{call}: still failing after 60 calls")

    return run


def e05():
    yield resumable("pwrite", errno.ENOSPC, 2024)
    yield faults("pwrite", errno.ENOSPC, 2024)
    yield faults("fallocate", errno.ENOSPC, 2025)
    yield faults("ftruncate", errno.ENOSPC, 2026)
    yield faults("fsync", errno.ENOSPC, 2027)


def e06():
    yield faults("pwrite", errno.EIO, 2024, "--compress", "zstd")
    yield faults("pread", errno.EIO, 2002)
    yield faults("fsync", errno.EIO, 2027)
    yield faults("rename", errno.EIO, (2029, 2561))

    def halves(bench: Bench):
        """Reads and writes of half of what was asked for."""
        bench.build({IN: MODEL})
        bench.ok(*convert())
        bench.ok(*convert(output="half.q4"), env={"LD_PRELOAD": bench.shim(), "Q4_FAULT": "short:1:0"})
        require((bench.work / "out.q4").read_bytes() == (bench.work / "half.q4").read_bytes(), "other bytes")

    yield halves


def e07():
    big = tensors(**{WEIGHT: ("BF16", (512, 1024), bytes(1 << 20))})
    for words in ((), ("--compress", "zstd")):
        yield Case({IN: big}, code=2, issue=(2024, 2025), command=convert(*words), limits={"f": 1})
    yield Case({IN: MODEL}, code=2, limits={"n": 4})
    yield Case(
        {"m.q4": q4.build([q4.raw(values=bytes(1 << 18))])},
        code=2,
        issue=(2024, 2025, 2026),
        command=export("--to", "safetensors"),
        limits={"f": 64},
    )
    for number, name in ((errno.EDQUOT, "fallocate"), (errno.EFBIG, "pwrite")):
        yield faults(name, number, (2024, 2025))


def e08(bench: Bench):
    bench.build({IN: MODEL, "out.q4.partial": b"", "m.q4": GOOD, "out.partial/.q4-lock": b""})
    for lock, command in (("out.q4.partial", convert()), ("out.partial/.q4-lock", export("--to", "safetensors"))):
        with open(bench.work / lock, "rb+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            bench.expect(Case({}, code=2, issue=2022, text="in use", command=command))


def e09():
    head, size = sparse_header({f"layers.{i}.q_proj.weight": ("BF16", (4096, 8192)) for i in range(8)})

    def signalled(number, command, output, codes, issue):
        def run(bench: Bench):
            bench.build({IN: Sparse(head, size)})

            def send(child):
                deadline = time.monotonic() + SHORT_TIME
                partial = bench.work / f"{output}.partial"
                while time.monotonic() < deadline and not partial.exists():
                    time.sleep(0.0005)
                os.kill(child.pid, number)

            result = bench.run(command, meanwhile=send)
            require(
                result.code in codes, f"signal {number}: exit code {result.code}, expected {codes}: {result.stderr}"
            )
            require(not (bench.work / output).exists(), f"signal {number}: an output was made")
            if result.code == 7:
                # On a busy machine a slab may take longer than a second, which ends the tool by itself (4340).
                require(result.issues() in ({issue}, {4340}), result.stderr)
                bench.issues_seen |= result.issues()

        return run

    single = (
        "q4convert",
        IN,
        "-o",
        "out.q4",
        "--device",
        "cpu",
        "-q",
        "--threads",
        "1",
        "--progress",
        "none",
        "--compress",
        "zstd",
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield signalled(number, single, "out.q4", (7,), 4901)
    yield signalled(signal.SIGKILL, single, "out.q4", (-9,), None)

    def verifying(bench: Bench):
        """The verifier, somewhere in a large file."""
        bench.build({"m.q4": rows_container.large})

        def send(child):
            deadline = time.monotonic() + SHORT_TIME
            while time.monotonic() < deadline and not catches(child.pid, signal.SIGINT):
                time.sleep(0.0005)
            time.sleep(0.2)
            os.kill(child.pid, signal.SIGINT)

        result = bench.run(("q4verify", "m.q4", "--threads", "1", "--progress", "none"), meanwhile=send)
        require(result.code == 7 and result.issues() in ({6901}, {4340}), f"exit code {result.code}: {result.stderr[-300:]}")
        bench.issues_seen |= result.issues()

    yield verifying

    def killed(bench: Bench):
        """What a killed run leaves does not show in the next one's bytes."""
        bench.build({IN: MODEL})
        bench.ok(*convert(output="right.q4"))
        (bench.work / "out.q4.partial").write_bytes((bench.work / "right.q4").read_bytes()[:5000])
        bench.ok(*convert())
        require((bench.work / "out.q4").read_bytes() == (bench.work / "right.q4").read_bytes(), "other bytes")

    yield killed


def catches(pid, number):
    """Whether the process has a handler of its own for a signal; before it starts to work it has none."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt:"))
    return caught >> (number - 1) & 1


def e10():
    yield Case({"m.q4": GOOD}, code=2, issue=2090, command=("q4inspect", "m.q4"), stdout="closed")
    yield Case({"m.q4": GOOD}, code=2, issue=2090, command=("q4inspect", "m.q4"), stdout="/dev/full")
    yield Case({"m.q4": GOOD}, code=2, issue=2090, command=("q4verify", "m.q4", *QUIET), stdout="/dev/full")


def e11():
    source = tensors(**{WEIGHT: ("BF16", (2048, 4096), bytes(1 << 24))})
    for limit in (40, 48, 64, 80, 96):
        yield memory(source, limit)
        # A bound that the limit does not hold: the allocation fails that nobody has foreseen.
        yield memory(source, limit, "--max-memory", "1GiB")
    yield Case({IN: source}, code=1, issue=1106, command=convert("--max-memory", "1MiB"))
    yield Case({"m.q4": GOOD}, code=1, issue=8007, command=export("--to", "safetensors", "--max-memory", "1MiB"))


def memory(source, limit, *flags):
    """Under any limit the tool either does its work or says that memory is short."""

    def run(bench: Bench):
        if bench.settings.sanitized:
            raise Skip("a sanitizer needs more addresses than any limit")
        bench.build({IN: source})
        # Beside the program itself, which is large with code for every GPU: the system kills what it cannot map.
        program = (bench.settings.tools / "q4convert").stat().st_size
        result = bench.run(convert(*flags), limits={"v": limit * 1024 + program // 1024})
        names = {path.name for path in bench.work.iterdir()}
        if "error while loading shared libraries" in result.stderr or result.code == 127:
            return  # the limit is below the program itself
        require(result.code in (0, 2), f"{limit} MiB: exit code {result.code}: {result.stderr}")
        require(names == ({IN, "out.q4"} if result.code == 0 else {IN}), f"{limit} MiB: left behind: {names}")
        bench.issues_seen |= result.issues()

    return run


def e12():
    def devices(bench: Bench):
        bench.build({IN: MODEL})
        bench.ok(*convert())
        named = ("q4convert", IN, "-o", "x.q4", "--device", "cuda:4096", "-q", *QUIET)
        result = bench.run(named, limits={"v": "unlimited"})
        require(
            (result.code, bool(result.issues() & {5301, 9301, 9302})) in ((5, True), (4, True)),
            f"{result.code}: {result.stderr}",
        )
        bench.issues_seen |= result.issues()
        automatic = ("q4convert", IN, "-o", "auto.q4", "--device", "auto", "-q", *QUIET)
        bench.ok(*automatic, env={"CUDA_VISIBLE_DEVICES": ""}, limits={"v": "unlimited"})
        require((bench.work / "auto.q4").read_bytes() == (bench.work / "out.q4").read_bytes(), "other bytes")
        require({path.name for path in bench.work.iterdir()} == {IN, "out.q4", "auto.q4"}, "something was left behind")

    yield devices
    for text in ("gpu", "cuda:", "cuda:-1", "cuda:0,0", "cuda:99999999999999999999"):
        yield Case({IN: MODEL}, code=1, issue=1121, command=("q4convert", IN, "-o", "out.q4", "--device", text))


def e13(bench: Bench):
    shim = bench.shim()
    if os.uname().machine != "x86_64":
        raise Skip("the shim sets the flags of x86-64 only")
    bench.build({IN: MODEL, "m.q4": GOOD})
    for command in (convert(), ("q4inspect", "m.q4"), ("q4verify", "m.q4"), export("--to", "safetensors")):
        bench.expect(
            Case({}, code=4, issue=9001, command=command, env={"LD_PRELOAD": shim, "Q4_FLUSH_SUBNORMALS": "1"})
        )


def e14(bench: Bench):
    bench.build({IN: MODEL})
    bench.ok(*convert())
    right = (bench.work / "out.q4").read_bytes()
    commands = [
        ({"LC_ALL": "de_DE.UTF-8", "LANG": "tr_TR.UTF-8"}, "locale"),
        ({"TMPDIR": "/no/such"}, "TMPDIR"),
        ({"TZ": "Asia/Kathmandu"}, "zone"),
        ({"HOME": ""}, "HOME"),
    ]
    if bench.settings.shims:
        commands.append(({"LD_PRELOAD": bench.shim(), "Q4_CLOCK_JUMPS": "1"}, "clock"))
    for number, (env, what) in enumerate(commands):
        bench.ok(*convert(output=f"{number}.q4"), env=env)
        require((bench.work / f"{number}.q4").read_bytes() == right, f"{what}: other bytes")
    os.utime(bench.work / IN, ns=(1, 1))
    (bench.work / IN).rename(bench.work / "other.safetensors")
    (bench.work / "other.safetensors").rename(bench.work / IN)
    bench.ok(*convert(output="old.q4"))
    require((bench.work / "old.q4").read_bytes() == right, "the source's time shows in the output")
    shown = bench.ok("q4inspect", "out.q4", "--stats", env={"LC_ALL": "de_DE.UTF-8"}).stdout
    require(shown == bench.ok("q4inspect", "out.q4", "--stats").stdout, "a locale shows in a report")
    before = os.umask(0o077)
    try:
        bench.ok(*convert(output="mask.q4"))
    finally:
        os.umask(before)
    require(stat.S_IMODE((bench.work / "mask.q4").stat().st_mode) == 0o600, "umask is not obeyed")


def usage():
    """Wrong command lines and recipes, which the table has no rows of their own for."""
    files = {
        IN: MODEL,
        "m.q4": GOOD,
        "d.q4": q4.build(q4.sample_tensors(), files=[(b"config.json", b"[]")]),
        "o.q4": q4.build([q4.nf4()], files=[(b"Config.json", b"{}")]),
    }

    def wrong(command, code, issue, text=""):
        return Case(files, code=code, issue=issue, command=command, text=text)

    yield wrong(convert("--block-size", "48"), 1, 1001)
    yield wrong(convert("--exclude", "["), 1, 1201)
    yield wrong(convert("--include", b"\xff".decode("utf-8", "surrogateescape")), 1, 1202)
    yield wrong(convert("--exclude", ""), 1, 1001)
    for flag in ("--include", "--exclude"):
        yield wrong(convert(flag, "prjo"), 1, 1580, "--allow-unmatched")
        yield wrong((*convert(flag, "prjo"), "--dry-run"), 1, 1580)
    yield wrong(("q4inspect", "m.q4", "--filter", "nothing"), 1, 1580)
    yield wrong(convert("--max-memory", "lots"), 1, 1001)
    yield wrong(convert(source="x" * 300), 2, 2008)
    yield Case(
        {
            IN: lambda path: stream(
                path,
                10_001,
                lambda i: b'"%d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}' % (i, i, i + 1),
                10_001,
            )
        },
        code=1,
        issue=1105,
        command=convert("--shard-size", "1B"),
        seconds=3,
    )
    yield wrong(convert("--encoder", "absmax", "--effort", "3"), 1, 1960)
    yield wrong(convert("--encoder", "mse", "--effort", "0"), 1, 1001)
    yield wrong(convert("--gate", "x"), 2, 2001)
    for text, issue in (
        (b"{}", 4001),
        (b'{"rules":[{"type":"nf4"}]}', 4001),
        (b'{"rules":[{"match":"a","odd":1}]}', 4002),
        (b'{"rules":[{"match":"a","type":"q8"}]}', 4003),
        (b'{"rules":[{"match":"a"}]}', 4004),
        (b"{", 3001),
        (b'{"rules":[{"match":"a","encoder":"none"}]}', 4003),
        (b'{"rules":[{"match":"a","block_size":18446744073709551616}]}', 3005),
        (b'{"rules":[{"match":"a","keep":true,"keep":true}]}', 3002),
        (b'{"rules":[{"match":"a","block_size":NaN}]}', 3001),
        (b'{"rules":[{"match":"prjo","keep":true}]}', 1580),
        (b'{"rules":[{"match":"","keep":true}]}', 1581),
    ):
        code = 1 if issue < 2000 else 3
        yield Case({IN: MODEL, "recipe.json": text}, code=code, issue=issue, command=convert("--recipe", "recipe.json"))
    yield wrong(("q4inspect", "m.q4", "--tensor", "none"), 1, 6401)
    for dump in ("x", "0:1000000", "-1:2", "99999999999999999999:1"):
        yield wrong(("q4inspect", "m.q4", "--tensor", "norm.weight", "--dump", dump), 1, 6402)
    yield wrong(export("--to", "bnb", "--dtype", "fp32"), 1, 8004)
    yield wrong(export("--to", "safetensors", "--tensor", "none"), 1, 8006)
    yield wrong(export("--to", "bnb", source="d.q4"), 3, 8104)
    yield wrong(export("--to", "bnb", source="o.q4"), 5, 8105)
    for command in (("q4verify", "m.q4", "-q", *QUIET), ("q4inspect", "m.q4"), export("--to", "bnb", source="m.q4")):
        yield wrong((*command, "--root", "sha256:" + "0" * 64), 6, 7642)
        yield wrong((*command, "--root="), 1, 1001)
    yield wrong(export("--to", "bnb", "--quant-storage", "float32"), 5, 8102)
    yield Case(
        {"m.q4": q4.build([q4.nf4(b"a.weight"), q4.raw(b"a.weight.absmax")])},
        code=5,
        issue=8101,
        command=export("--to", "bnb"),
    )


ROWS = [
    Row("E01", "output's directory is missing or read-only", e01),
    Row("E02", "output is the input", e02),
    Row("E03", "output exists", e03),
    Row("E04", "output is no regular file", e04),
    Row("E05", "no space", e05),
    Row("E06", "I/O errors, short reads and writes", e06),
    Row("E07", "limits on file size, quota and open files", e07),
    Row("E08", "two converters, one output", lambda: [e08]),
    Row("E09", "signals", e09, note="the rerun after a kill: tests/cli/kill_test.py"),
    Row("E10", "stdout closed or full", e10),
    Row("E11", "memory limits", e11),
    Row(
        "E12",
        "no such device",
        e12,
        note="failures of a device in the middle of a run: tests/libconvert/engine/slab_engine_test.cc",
    ),
    Row("E13", "subnormals flushed by a preloaded library", lambda: [e13]),
    Row("E14", "clock, locale, TMPDIR, umask; command lines and recipes", lambda: [e14, *usage()]),
]
