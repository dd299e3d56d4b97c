"""q4's tools as a test runs them."""

import pathlib
import subprocess

from checks import check


class Tools:
    """The tools of a folder, run in the folder `work`."""

    def __init__(self, folder: pathlib.Path, work: pathlib.Path):
        self.folder, self.work = folder, work

    def run(self, tool: str, *arguments, code: int = 0) -> subprocess.CompletedProcess:
        """Checks that it ends with `code`; stdout and stderr are text."""
        command = [self.folder / tool, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True)
        check(done.returncode == code, f"{tool} {arguments} ends with {code}", done.returncode, done.stderr)
        return done
