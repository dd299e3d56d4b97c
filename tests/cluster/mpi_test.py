#!/usr/bin/env python3
"""mpi_test.py TOOLS: four processes of mpirun take their parts by themselves, and one process merges; to the bytes of one process.

Skipped (77) where Open MPI is not installed.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check, count  # noqa: E402
from cluster_model import SETTINGS, digests, write_model  # noqa: E402
from tools import Tools  # noqa: E402


def main() -> int:
    begin, folder = time.monotonic(), pathlib.Path(sys.argv[1]).resolve()
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        print("mpi: skipped: openmpi-bin is not installed")
        return 77
    with tempfile.TemporaryDirectory(prefix="q4-mpi-") as work:
        work = pathlib.Path(work)
        tools, model, one, parts = Tools(folder, work), work / "model", work / "one", work / "parts"
        write_model(model, 8)
        one.mkdir(), parts.mkdir()
        tools.run("q4convert", model, "-o", one / "out.q4", "--shard-by", "source", *SETTINGS)
        settings = [setting for setting in SETTINGS if setting != "-q"]  # which part is by which variable is a note
        command = [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", "4", folder / "q4convert", model, "-o", parts / "out.q4", "--part-from-env"]
        done = subprocess.run([*map(str, command), *settings], capture_output=True, text=True, env={**os.environ, "OMPI_MCA_btl": "self,tcp"})
        check(done.returncode == 0, "all parts are done", done.returncode, done.stderr)
        for part in range(4):
            check(f"part {part} of 4 by OMPI_COMM_WORLD_RANK" in done.stderr, f"part {part} says where it has its number from", done.stderr)
        tools.run("q4convert", "--merge", parts / "out.q4")
        check(digests(parts) == digests(one), "the bytes of one process, and nothing else", digests(parts), digests(one))
    print(f"mpi: 4 processes: {count()} checks, {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
