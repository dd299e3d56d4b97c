"""Cases of a check in Python that are looked at one after the other, all of them whatever fails, and programs that it runs."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile


class Failures:
    def __init__(self):
        self.count = 0

    def require(self, case, holds, message):
        """Prints and counts what does not hold; `case` is what has a name, or a name."""
        if not holds:
            self.count += 1
            print(f"FAILED {getattr(case, 'name', case)}: {message}")


def run(program, *arguments):
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False)


def must(program, *arguments):
    """The same of a program that has to end with 0."""
    done = run(program, *arguments)
    if done.returncode != 0:
        raise RuntimeError(f"{program.name} {arguments}: exit code {done.returncode}: {done.stderr}{done.stdout}")
    return done


def parse_arguments(doc, **more):
    """The arguments of a check whose first line of documentation is that of `doc`; `more`: others that are folders, by name with help."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="directory with the tools")
    for name, about in more.items():
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True, help=about)
    parser.add_argument("--case", action="append", help="only this case; repeatable")
    os.environ["HF_HUB_OFFLINE"] = "1"
    return parser.parse_args()


def run_cases(arguments, cases, check, versions, failures=None):
    """check(case, folder of the tools, a folder to work in, failures) for each case of cases(that folder); the exit status."""
    failures, done = failures or Failures(), 0
    name = pathlib.Path(sys.argv[0]).stem
    with tempfile.TemporaryDirectory(prefix=f"q4-{name.replace('_', '-')}-") as work:
        for case in cases(pathlib.Path(work)):
            if arguments.case and case.name not in arguments.case:
                continue
            try:
                check(case, arguments.bin, pathlib.Path(work), failures)
            except Exception as error:  # the other cases are worth knowing all the same
                failures.require(case, False, f"{type(error).__name__}: {error}")
            done += 1
    print(f"{name}: {done} cases, {failures.count} failures ({versions})")
    return 1 if failures.count or not done else 0
