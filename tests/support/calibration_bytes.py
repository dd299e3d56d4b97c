"""Builds calibration files (docs/calibration.md) without any library, right ones and wrong ones."""

import json
import struct

import safetensors_bytes as st


def tensors_of(inputs, tokens=1000):
    """{input: moments}, of a stack {input: [moments of each expert]}: the tensors of a file. An expert without moments has no tokens."""
    out = {}
    for name, moments in inputs.items():
        stacked = isinstance(moments[0], list)
        rows = moments if stacked else [moments]
        shape = (len(rows), len(rows[0])) if stacked else (len(moments),)
        out[f"{name}.second_moments"] = ("F32", shape, b"".join(st.floats(*row) for row in rows))
        counts = [tokens if not stacked or any(row) else 0 for row in rows]
        out[f"{name}.count"] = ("I64", (len(rows),), struct.pack(f"<{len(rows)}q", *counts))
    return out


def metadata_of(weights, transposed=None, /, **rest):
    """{weight: input}, of those stored as (in, out) too; `rest`: members instead of the usual ones, None for absent ones."""
    out = {"q4_calibration": "1", "weights": json.dumps(weights)}
    if transposed:
        out["transposed_weights"] = json.dumps(transposed)
    return {key: text for key, text in (out | rest).items() if text is not None}


def calibration_file(inputs, transposed=None, **rest):
    """{weight: moments of its input}: a file in which each weight has an input of its own name."""
    transposed = transposed or {}
    own = lambda names: {name: name for name in names}  # noqa: E731
    return st.tensor_file(tensors_of({**inputs, **transposed}), metadata_of(own(inputs), own(transposed), **rest))
