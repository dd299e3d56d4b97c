#!/usr/bin/env python3
"""Memory limits and CPU affinity: what the tools take by default, and that no limit kills them; and that storage is asked once. A part that the machine does not
allow is skipped by name.

    machine_limits_test.py TOOLS
"""

import contextlib
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
import safetensors_bytes as st  # noqa: E402
from checks import check  # noqa: E402

MIB = 1 << 20
SHAPE = (4096, 2048)  # 16 MiB in bf16
TENSORS = 6


def skip(what: str, why: str) -> None:
    print(f"machine_limits: SKIPPED {what}: {why}")


def source(work: pathlib.Path) -> pathlib.Path:
    values = random.Random(18).randbytes(1 << 20)
    # Exponents of small numbers: bf16 keeps sign and exponent in the high byte.
    block = bytes(b if i % 2 == 0 else 0x3C + (b & 0x83) for i, b in enumerate(values[: 1 << 16]))
    payload = block * (SHAPE[0] * SHAPE[1] * 2 // len(block))
    path = work / "model.safetensors"
    path.write_bytes(st.tensor_file({f"layers.{i}.up_proj.weight": ("BF16", SHAPE, payload) for i in range(TENSORS)}))
    return path


def run(tools: pathlib.Path, work: pathlib.Path, tool: str, *arguments, before=None) -> subprocess.CompletedProcess:
    command = [tools / tool, *map(str, arguments), "-v", "--progress", "none"]
    return subprocess.run(command, cwd=work, capture_output=True, text=True, preexec_fn=before)


def mounts(kind: str, controller: str) -> list[pathlib.Path]:
    points = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, behind = line.partition(" - ")
        fields = behind.split()
        if fields[0] == kind and (kind == "cgroup2" or controller in fields[2].split(",")):
            points.append(pathlib.Path(before.split()[4]))
    return points


@contextlib.contextmanager
def memory_group(version: int, limit: int):
    """A fresh group with that limit, as a function that the child calls before the tool starts; None and why where there can be none."""
    points = mounts("cgroup" if version == 1 else "cgroup2", "memory")
    if not points:
        yield None, "not mounted"
        return
    top = points[0]
    if version == 2 and "memory" not in (top / "cgroup.controllers").read_text().split():
        yield None, "the memory controller is not in this tree"
        return
    group = top / f"q4-test-{os.getpid()}"
    try:
        if version == 2 and "memory" not in (top / "cgroup.subtree_control").read_text().split():
            (top / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
    except OSError as error:
        yield None, str(error)
        return
    try:
        # A child below it: the limit is the parent's.
        inner = group / "inner"
        if version == 2:
            (group / "cgroup.subtree_control").write_text("+memory")
        inner.mkdir()
        (group / ("memory.limit_in_bytes" if version == 1 else "memory.max")).write_text(str(limit))
        yield lambda: (inner / "cgroup.procs").write_text(str(os.getpid())), ""
    except OSError as error:
        yield None, str(error)
    finally:
        for directory in (inner, group):
            if directory.exists():
                directory.rmdir()


def limited_memory(tools: pathlib.Path, work: pathlib.Path, model: pathlib.Path) -> None:
    run(tools, work, "q4convert", model, "-o", "free.q4", "--force")
    for version in (1, 2):
        for limit in (112,):
            with memory_group(version, limit * MIB) as (enter, why):
                if enter is None:
                    skip(f"cgroup v{version}", why)
                    break
                what = f"cgroup v{version} of {limit} MiB"
                done = run(tools, work, "q4convert", model, "-o", "m.q4", "--force", before=enter)
                check(done.returncode == 0, f"{what}: converts", done.returncode, done.stderr)
                check(f"of {limit} MiB)" in done.stderr, f"{what}: -v says what decided", done.stderr)
                check((work / "m.q4").read_bytes() == (work / "free.q4").read_bytes(), f"{what}: the same bytes")
                done = run(tools, work, "q4verify", "m.q4", "--against", model, before=enter)
                check(done.returncode == 0 and "--max-memory" in done.stderr, f"{what}: verifies", done.returncode, done.stderr)
                done = run(tools, work, "q4export", "m.q4", "--to", "safetensors", "-o", f"e{version}{limit}", before=enter)
                check(done.returncode == 0 and "--max-memory" in done.stderr, f"{what}: exports", done.returncode, done.stderr)
        else:
            with memory_group(version, 24 * MIB) as (enter, why):
                done = run(tools, work, "q4convert", model, "-o", "small.q4", before=enter)
                check(done.returncode == 2 and "Q4-2570" in done.stderr, "too small a group is named", done.returncode, done.stderr)
                check("of 24 MiB)" in done.stderr and "give the process more memory" in done.stderr, "with the way out", done.stderr)
                check(not list(work.glob("small*")), "and nothing is left")


def storage_bytes(tools: pathlib.Path, work: pathlib.Path, folder: pathlib.Path, threads: int, before=None) -> int:
    """What a conversion of a source that is not in the page cache has storage read, by the kernel's count."""
    os.sync()
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [tools / "q4convert", folder, "-o", work / "once.q4", "--force", "-q", "--progress", "none", "--threads", str(threads),
               "--no-double-quant"]  # in one pass, however little memory there is
    process = subprocess.Popen(command, preexec_fn=before)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    counters = pathlib.Path(f"/proc/{process.pid}/io").read_text()
    check(process.wait() == 0, "a conversion from storage", threads)
    return int(counters.split("read_bytes: ")[1].split()[0])


def read_once(tools: pathlib.Path, work: pathlib.Path, model: pathlib.Path) -> None:
    folder = work / "shards"
    folder.mkdir()
    payload = model.read_bytes()[-SHAPE[0] * SHAPE[1] * 2:]
    names = {f"layers.{i}.up_proj.weight": f"model-{i // 2 + 1:05}-of-00003.safetensors" for i in range(6)}
    for shard in set(names.values()):
        tensors = {name: ("BF16", SHAPE, payload) for name in names if names[name] == shard}
        (folder / shard).write_bytes(st.tensor_file(tensors))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    most = size * 1.01 + MIB  # and a little for the program itself
    for threads in (2, 16):
        read = storage_bytes(tools, work, folder, threads)
        if read < size / 2:
            return skip("reads of storage", f"this file system has none, or they are not counted ({read} of {size} bytes)")
        check(read <= most, f"storage is read once on {threads} threads", read, size)
    with memory_group(1, 80 * MIB) as (enter, why):
        if enter is None:
            return skip("reads of storage in a cgroup smaller than the model", why)
        # The page cache belongs to that group too: it keeps less than the model has.
        read = storage_bytes(tools, work, folder, 16, enter)
        check(read <= most, "storage is read once in a cgroup smaller than the model", read, size)


def limited_addresses(tools: pathlib.Path, work: pathlib.Path, model: pathlib.Path) -> None:
    def enter():
        resource.setrlimit(resource.RLIMIT_AS, (800 * MIB, 800 * MIB))

    done = run(tools, work, "q4convert", model, "-o", "m.q4", "--force", before=enter)
    check(done.returncode == 0, "ulimit -v: converts", done.returncode, done.stderr)
    check("ulimit -v leaves free" in done.stderr, "ulimit -v: -v says so", done.stderr)


def affinity(tools: pathlib.Path, work: pathlib.Path, model: pathlib.Path) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return skip("affinity", "one core only")
    for cores in {1, len(allowed) - 1}:
        done = run(tools, work, "q4convert", model, "-o", "m.q4", "--force",
                   before=lambda n=cores: os.sched_setaffinity(0, set(allowed[:n])))
        check(done.returncode == 0 and f"{cores} thread{'s' * (cores > 1)}, " in done.stderr, f"{cores} cores: as many threads", done.stderr)
        # Where a quota or the memory allows less still, that is what is named.
        check(f"--threads {cores}: " in done.stderr, "-v says what decided", done.stderr)
    done = run(tools, work, "q4convert", model, "-o", "m.q4", "--force", "--threads", 3,
               before=lambda: os.sched_setaffinity(0, {allowed[0]}))
    check("3 threads, " in done.stderr and "--threads 3: " not in done.stderr, "what is asked for is taken", done.stderr)


def main() -> None:
    tools = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        model = source(work)
        limited_memory(tools, work, model)
        limited_addresses(tools, work, model)
        affinity(tools, work, model)
        read_once(tools, work, model)
        done = run(tools, work, "q4convert", model, "-o", "m.q4", "--force", "--max-memory", "0")
        check(done.returncode == 1 and "Q4-1001" in done.stderr, "--max-memory 0 is no default", done.returncode, done.stderr)
    print(f"machine_limits: {checks.count()} checks hold")


if __name__ == "__main__":
    main()
