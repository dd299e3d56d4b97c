#!/usr/bin/env python3
"""What a pinned root costs a load: the default check and q4_load_pinned(), in turn, in one process.

  python3 bench/pinned_load_bench.py LIBQ4_LOADER_C.so MODEL.q4 sha256:ROOT [PAIRS [THREADS [DEVICE]]]

DEVICE: a GPU's number; host memory unless given.

Medians over the pairs of user seconds, of CPU seconds (with system), and of wall seconds.
"""
import ctypes
import resource
import statistics
import sys
import time


class Options(ctypes.Structure):
    _fields_ = [("device", ctypes.c_int32), ("form", ctypes.c_int32), ("check", ctypes.c_int32), ("threads", ctypes.c_uint32),
                ("tensors", ctypes.c_void_p), ("tensor_count", ctypes.c_uint64)]


def load(library, path, root, threads, device):
    """(user, user and system, wall) seconds of one load."""
    model, options = ctypes.c_void_p(), Options(device=device, threads=threads)
    arguments = (ctypes.byref(options), ctypes.byref(model))
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    code = library.q4_load_pinned(path, root, *arguments) if root else library.q4_load(path, *arguments)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    if code != 0:
        sys.exit(library.q4_last_error().decode())
    library.q4_free(model)
    user = after.ru_utime - before.ru_utime
    return user, user + after.ru_stime - before.ru_stime, wall


def main(library_path, model, root, pairs=11, threads=2, device=-1):
    library = ctypes.CDLL(library_path)
    library.q4_last_error.restype = ctypes.c_char_p
    library.q4_free.argtypes = [ctypes.c_void_p]
    rows = []
    for i in range(int(pairs)):
        order = (None, root.encode()) if i % 2 else (root.encode(), None)
        found = {pinned: load(library, model.encode(), pinned, int(threads), int(device)) for pinned in order}
        rows.append((found[None], found[root.encode()]))
    for i, what in enumerate(("user", "CPU", "wall")):
        before, after = (statistics.median(row[side][i] for row in rows) for side in (0, 1))
        difference = statistics.median(row[1][i] - row[0][i] for row in rows)
        print(f"{what:5} default {before:.3f} s, pinned {after:.3f} s, difference {difference:.3f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
