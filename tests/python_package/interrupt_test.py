"""Ctrl-C, exceptions out of a progress function, and the interpreter's lock during long work."""

import json
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

from package_setup import SOURCE, TOOLS, Tools, check, count, raises

import q4

ELEMENTS = 160 << 20  # long enough to be stopped in the middle on any machine


def sparse_checkpoint(path):
    """Zeros, which take no place on the disk."""
    header = json.dumps({f"model.layers.{i}.q_proj.weight": {
        "dtype": "BF16", "shape": [4096, ELEMENTS // 8 // 4096], "data_offsets": [i * ELEMENTS // 4, (i + 1) * ELEMENTS // 4]}
        for i in range(8)}).encode()  # fmt: skip
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + ELEMENTS * 2)


CHILD = """
import sys, time, q4
def told(progress):
    print("going", flush=True)
try:
    q4.convert(sys.argv[1], sys.argv[2], threads=1, device="cpu", progress=told)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(3)
"""


def test_ctrl_c(work, checkpoint):
    output = work / "out.q4"
    child = subprocess.Popen([sys.executable, "-c", CHILD, checkpoint, output], stdout=subprocess.PIPE, text=True)
    check(child.stdout.readline() == "going\n", "the conversion begins")
    begin = time.monotonic()
    child.send_signal(signal.SIGINT)
    rest = child.communicate(timeout=60)[0]
    seconds = time.monotonic() - begin
    check(child.returncode == 3 and rest.endswith("interrupted\n"), "KeyboardInterrupt is raised", child.returncode, rest)
    # What follows is the end of an interpreter; a machine that runs other tests beside gets some time too.
    check(seconds < 20, "Ctrl-C is answered at once", seconds)
    check(not output.exists(), "no output")


def test_going_on(work, checkpoint):
    """What was interrupted is gone on with, to the bytes of the tool."""
    output = work / "out.q4"

    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop(progress.tensor)

    raises(Stop, lambda: q4.convert(checkpoint, output, threads=1, sync_every=1, device="cpu", progress=stop), "what a progress function raises comes out")
    check(not output.exists() and list(work.glob("out.q4.*")), "the run left what the next goes on with", list(work.iterdir()))
    report = q4.convert(checkpoint, output, device="cpu")
    Tools(TOOLS, work).run("q4convert", checkpoint, "-o", "tool.q4", "--device", "cpu")
    check(output.read_bytes() == (work / "tool.q4").read_bytes(), "the bytes of the tool")
    check(any("resum" in note for note in report.notes), "it says that it went on", report.notes)
    for call in (lambda: q4.verify(output, progress=stop), lambda: q4.export(output, work / "export", progress=stop),
                 lambda: q4.open(output).load(progress=stop)):  # fmt: skip
        raises(Stop, call, "of every function")
    check(not (work / "export").exists(), "a stopped export leaves nothing")


def test_others_run(checkpoint, work):
    """Another thread gets on while a call works, and progress comes at most ten times a second, the last time with the end."""
    done, turns, told = threading.Event(), [0], []

    def count_turns():
        while not done.is_set():
            turns[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count_turns)
    thread.start()
    begin = time.monotonic()
    q4.verify(work / "out.q4", against=checkpoint, threads=1, progress=lambda at: told.append((time.monotonic(), at)))
    seconds = time.monotonic() - begin
    done.set()
    thread.join()
    check(turns[0] > seconds * 50, "the interpreter's lock is free", turns, seconds)
    check(len(told) <= seconds * 10 + 2, "ten times a second at most", len(told), seconds)
    last = told[-1][1]
    check(last.done_bytes == last.total_bytes and last.total_tensors == 8, "the end is told", last)
    check(all(a[1].done_bytes <= b[1].done_bytes for a, b in zip(told, told[1:])), "it grows")


def test_float_environment():
    """A process that flushes subnormals (torch.set_flush_denormal) gets the same bytes."""
    import ctypes

    try:
        libm = ctypes.CDLL("libm.so.6")
    except OSError:
        print("SKIP the float environment: no libm.so.6")
        return
    toward_zero, nearest = 0xC00, 0
    with tempfile.TemporaryDirectory() as folder:
        one, two = pathlib.Path(folder) / "1.q4", pathlib.Path(folder) / "2.q4"
        q4.convert(SOURCE, one)
        check(libm.fesetround(toward_zero) == 0, "another rounding is set")
        try:
            q4.convert(SOURCE, two)
        finally:
            libm.fesetround(nearest)
        check(one.read_bytes() == two.read_bytes(), "the rounding of the caller changes nothing")


def test_bar():
    try:
        import tqdm  # noqa: F401
    except ImportError:
        print("SKIP the bar: no tqdm")
        return
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-W", "error", "-c", "import q4, sys; q4.convert(sys.argv[1], sys.argv[2], progress=True)",
                               SOURCE, f"{folder}/m.q4"], capture_output=True, text=True, check=False)  # fmt: skip
    check(done.returncode == 0 and "convert: 100%" in done.stderr, "a bar of tqdm", done.stderr)


def main():
    with tempfile.TemporaryDirectory(prefix="q4-python-interrupt-") as folder:
        work = pathlib.Path(folder)
        checkpoint = work / "model.safetensors"
        sparse_checkpoint(checkpoint)
        test_ctrl_c(work, checkpoint)
        test_going_on(work, checkpoint)
        test_others_run(checkpoint, work)
    test_float_environment()
    test_bar()
    print(f"python_interrupt: {count()} checks")


main()
