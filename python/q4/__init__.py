"""q4: 4-bit models in one sealed file, converted, verified and loaded (docs/python.md).

>>> import q4
>>> q4.convert("Llama-3.2-1B", "llama.q4")
>>> model = q4.open("llama.q4")
>>> loaded = model.load(device="cuda")

Importing this starts no CUDA and imports neither NumPy nor torch. What is worth knowing goes to ``logging.getLogger("q4")``.
"""

from . import _core
from ._arrays import Array
from ._build_info import BuildInfo, build_info
from ._calibrate import calibrate, calibration_from_imatrix
from ._calibration import Calibration
from ._errors import DamagedError, DeviceError, Error, Finding, FormatError, GateError, InputError, UnsupportedError, UsageError
from ._evaluate import evaluate
from ._evaluation import Evaluation, LayerError
from ._jobs import compare, convert, export, plan, verify
from ._loaded import Loaded, Parts
from ._model import Model, Tensor, open
from ._progress import Progress, ProgressArgument
from ._reports import ComparedSettings, Comparison, Document, ExportReport, OutputFile, Plan, Report, Stats, TensorReport, VerifyReport

__version__: str = _core.version

__all__ = [
    "Array",
    "BuildInfo",
    "Calibration",
    "ComparedSettings",
    "Comparison",
    "DamagedError",
    "DeviceError",
    "Document",
    "Error",
    "Evaluation",
    "ExportReport",
    "Finding",
    "FormatError",
    "GateError",
    "InputError",
    "LayerError",
    "Loaded",
    "Model",
    "OutputFile",
    "Parts",
    "Plan",
    "Progress",
    "ProgressArgument",
    "Report",
    "Stats",
    "Tensor",
    "TensorReport",
    "UnsupportedError",
    "UsageError",
    "VerifyReport",
    "__version__",
    "build_info",
    "calibrate",
    "calibration_from_imatrix",
    "compare",
    "convert",
    "evaluate",
    "export",
    "open",
    "plan",
    "verify",
]
