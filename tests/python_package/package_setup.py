"""What the tests of the package share: the folder of the tools, the tiny checkpoints, and a container made of one."""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from checks import check, count  # noqa: E402
from tools import Tools  # noqa: E402

TOOLS = pathlib.Path(sys.argv[1])
ROOT = pathlib.Path(sys.argv[2])
CHECKPOINTS = ROOT / "testdata" / "checkpoints"
SOURCE = CHECKPOINTS / "tiny_plain_src"
QUANTIZED = "model.layers.0.mlp.down_proj.weight"
KEPT = "lm_head.weight"

__all__ = ["CHECKPOINTS", "KEPT", "QUANTIZED", "ROOT", "SOURCE", "TOOLS", "Tools", "check", "count", "python", "raises"]


def raises(kind, call, what):
    """The exception of exactly that class that `call` raises."""
    try:
        call()
    except kind as error:
        check(type(error) is kind, f"{what}: class of the error", type(error), error)
        return error
    except BaseException as error:
        check(False, f"{what}: {kind.__name__} is raised", type(error), error)
    check(False, f"{what}: an error is raised")


def python(code, *arguments, cwd=None):
    """Another process of the same Python, which gets `code`; warnings are errors."""
    return subprocess.run([sys.executable, "-W", "error", "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd)
