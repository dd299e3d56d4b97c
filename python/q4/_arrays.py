"""Arrays of the loader for those who have NumPy. Nothing here imports it before it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

from ._errors import UnsupportedError

if TYPE_CHECKING:
    import numpy


class Array(Protocol):
    """Memory with a shape and an element type, which it keeps alive: ``torch.from_dlpack(array)``, ``numpy.from_dlpack(array)``,
    ``cupy.from_dlpack(array)``; also ``memoryview(array)``, of this process's memory and of types that it has a name for, else it
    raises BufferError."""

    def __dlpack__(self, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...

    def __buffer__(self, flags: int, /) -> memoryview: ...


# Names of safetensors -> NumPy's, and of those that it lacks ml_dtypes'.
_NUMPY = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32", "U64": "uint64",
    "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64",
}  # fmt: skip
_ML_DTYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}


def to_numpy(raw: Array, dtype: str, shape: tuple[int, ...], wanted: str | None) -> numpy.ndarray[Any, Any]:
    """`raw`: bytes of elements of `dtype`. `wanted`: None: as they are; "raw": as unsigned integers; else a name of a dtype."""
    np: Any = importlib.import_module("numpy")
    octets = np.frombuffer(raw, dtype=np.uint8)
    values: numpy.ndarray[Any, Any]
    if wanted == "raw":
        size = {"BOOL": 1, "BF16": 2}.get(dtype) or np.dtype(_NUMPY.get(dtype, "uint8")).itemsize
        values = octets.view(f"<u{size}").reshape(shape)
        return values
    if dtype == "BF16" and wanted == "float32":
        values = (octets.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return values
    values = octets.view(_NUMPY.get(dtype) or _ml_dtype(dtype)).reshape(shape)
    if wanted is None:
        return values
    return values.astype(wanted if wanted != "bfloat16" else _ml_dtype("BF16"), copy=False)


def _ml_dtype(dtype: str) -> Any:
    try:
        ml_dtypes = importlib.import_module("ml_dtypes")
    except ImportError as error:
        raise UnsupportedError(
            f"NumPy has no {_ML_DTYPES[dtype]}: pip install ml_dtypes, or ask for dtype='float32', or for dtype='raw', the bits as integers",
            exit_code=5,
        ) from error
    return getattr(ml_dtypes, _ML_DTYPES[dtype])
