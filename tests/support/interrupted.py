"""Conversions that are killed in their middle, and gone on with."""

import pathlib
import subprocess
import time

from checks import check

MORE_TRIES = 20


def interrupt(command: list, work: pathlib.Path, journal_bytes: int) -> bool:
    """Runs a conversion to out.q4 in `work` and kills it when its journal has more than so many bytes. Whether it still ran."""
    process = subprocess.Popen(command, cwd=work)
    journal = work / "out.q4.journal"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > journal_bytes):
        time.sleep(0.001)
    process.kill()
    return process.wait() != 0


def check_resumes(command: list, work: pathlib.Path, expected: bytes, tries: int, journal_bytes: int) -> None:
    """That many times killed and run again: each time the bytes of an undisturbed run, and at least one kill met a run at work. Where a busy
    machine let every run end before its kill came, it is tried some times more."""
    stopped, tried = 0, 0
    while tried < tries or stopped == 0 and tried < tries + MORE_TRIES:
        tried += 1
        (work / "out.q4").unlink(missing_ok=True)
        stopped += interrupt(command, work, journal_bytes)
        subprocess.run(command, cwd=work, check=True)
        check((work / "out.q4").read_bytes() == expected, "the bytes of an undisturbed run")
    check(stopped != 0, "a run was stopped while it worked")
