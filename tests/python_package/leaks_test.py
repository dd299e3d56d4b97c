"""Ten thousand opens and loads, with flat memory and open files; and objects of the extension that outlive the interpreter."""

import gc
import os
import pathlib
import tempfile

from package_setup import KEPT, QUANTIZED, SOURCE, check, count, python

import q4

ROUNDS = 10_000
# Of growth behind the first tenth: an object of 100 bytes that each round forgets would be a megabyte.
MOST_KIB = 512


def resident_kib():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def test_rounds(path):
    level = files = 0
    for number in range(ROUNDS):
        model = q4.open(path)
        parts = model.load(threads=1)[QUANTIZED]
        view = memoryview(parts.codes)
        tensor = model[KEPT]
        if number % 100 == 0:
            assert tensor.stats is None and view.nbytes and list(model) and parts.raw("codes") and model.config
            for call in (lambda: model["none"], lambda: model.load(["none"]), lambda: q4.open("none"), lambda: q4.open(path, root="x")):
                try:
                    call()
                except (q4.Error, KeyError):
                    pass
        if number == ROUNDS // 10:
            gc.collect()
            level, files = resident_kib(), len(os.listdir("/proc/self/fd"))
    gc.collect()
    growth = resident_kib() - level
    check(growth <= MOST_KIB, f"memory is flat over {ROUNDS} opens and loads", f"grows by {growth} KiB")
    check(len(os.listdir("/proc/self/fd")) <= files, "open files")
    check(len(os.listdir("/proc/self/task")) == 1, "threads")


USE = """
import pickle, sys, q4
model = q4.open(sys.argv[1])
loaded = model.load()
held = [memoryview(loaded[name].raw(loaded[name].parts[0])) for name in loaded]
report = q4.verify(sys.argv[1])
report.to_html(), model.files["config.json"], pickle.loads(pickle.dumps(model))
try: model.load(["none"], progress=print)
except q4.UsageError as error: kept = error
"""
LEAK = USE + "import ctypes; ctypes.pythonapi.Py_IncRef(ctypes.py_object(model._core))\n"


def test_warnings(path):
    done = python(USE, path)
    check(done.returncode == 0 and done.stderr == "", "nothing of the extension outlives the interpreter", done.stderr)
    check("leak" in python(LEAK, path).stderr, "what does is told")


def main():
    with tempfile.TemporaryDirectory(prefix="q4-python-leaks-") as work:
        path = pathlib.Path(work) / "m.q4"
        q4.convert(SOURCE, path)
        test_rounds(path)
        test_warnings(path)
    print(f"python_leaks: {count()} checks")


main()
