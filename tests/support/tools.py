"""q4's tools as a test runs them."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from checks import check, count


class Tools:
    """The tools of a folder, run in the folder `work`."""

    before: tuple = ()  # what the command begins with

    def __init__(self, folder: pathlib.Path, work: pathlib.Path):
        self.folder, self.work = folder, work

    def run(self, tool: str, *arguments, code: int = 0) -> subprocess.CompletedProcess:
        """Checks that it ends with `code`; stdout and stderr are text."""
        command = [*self.before, self.folder / tool, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True)
        check(done.returncode == code, f"{tool} {arguments} ends with {code}", done.returncode, done.stderr)
        return done


class Stranger(Tools):
    """The same as another user, who owns nothing in `work` and belongs to no group of its owner. Only root can be one."""

    before = ("setpriv", "--reuid=1001", "--regid=1001", "--clear-groups", "--no-new-privs")

    def there(self) -> bool:
        """Whether this process may become that user, who must reach the tools and `work`; opens `work` to that end."""
        if os.geteuid() != 0 or shutil.which("setpriv") is None:
            return False
        self.work.chmod(0o755)
        command = [*self.before, self.folder / "q4convert", "--version"]
        return subprocess.run(command, cwd=self.work, capture_output=True, check=False).returncode == 0


def run_tests(*tests) -> None:
    """The whole of a check with --bin DIR: each of its tests in turn, with the tools of DIR and one folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(arguments.bin.resolve(), pathlib.Path(folder))
        for test in tests:
            test(tools)
    print(f"{pathlib.Path(sys.argv[0]).stem}: {count()} checks")
