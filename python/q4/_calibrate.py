"""q4.calibrate and q4.calibration_from_imatrix: files that tell encoders which errors matter (docs/calibration.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._calibration import Calibration
from ._words import StrPath


def calibrate(
    model: Any,
    inputs: StrPath | Sequence[Any] | Iterable[Mapping[str, Any]],
    *,
    output: StrPath,
    hessian: bool = True,
    memory_limit: int | None = None,
    tokenizer: Any = None,
    samples: int | None = None,
    max_length: int | None = None,
    max_tokens: int | None = None,
    batch_size: int = 8,
    device: Any = None,
    dtype: Any = "auto",
    cls: Any = None,
    code: StrPath | None = None,
    force: bool = False,
) -> Calibration:
    """Runs a model on texts and records what goes into each of its linear layers, for the encoders ``weighted`` and ``feedback``.

    The model goes over the texts once for second moments, and again, several times where not all of them fit, for Hessians. It is
    left as it was. The same model and texts give the same file on the same machine's cores.

    Args:
        model: a directory in 16 (or 32) bits, the name of one in the cache of Hugging Face, or a model (``torch.nn.Module``: of transformers,
            a SentenceTransformer, or any other).
        inputs: a list of texts; the path of a text file in UTF-8, which a model that predicts the next token sees as one text, and any
            other line by line; a list of tensors of token ids; or batches, each a dict of tensors that is given to the model. Tokens
            that ``attention_mask`` leaves out are not counted.
        output: the file to write, such as ``"calibration.safetensors"``.
        hessian: whether second moments of pairs of elements are recorded, which ``feedback`` needs: 4 bytes times the square of a
            layer's columns, for each input. ``weighted`` needs those of single elements alone.
        memory_limit: bytes that Hessians under way may take, beside the model: fewer bytes mean more passes and the same file. None: half of
            what is free, on each device.
        tokenizer: of texts; None: the one that lies with the model.
        samples: stop after so many sequences; None: all.
        max_length, max_tokens, batch_size: as of :func:`q4.evaluate`. Sequences of one batch have the same length, so that nothing is padded.
        device, dtype, cls, code: of a model that is given by path, as of :func:`q4.evaluate`.
        force: replace an existing calibration file; never another file.

    Returns:
        What was recorded and what was skipped.

    Raises:
        FormatError: an input of a layer is NaN or infinite, by name.
        UsageError, InputError, UnsupportedError: inputs, model or output that cannot be; what loading raises.

    Needs torch; texts and models of transformers need transformers 5 too.
    """
    from . import _calibrate_run

    return _calibrate_run.run(
        model,
        inputs,
        output,
        _calibrate_run.Options(
            hessian=hessian,
            memory_limit=memory_limit,
            tokenizer=tokenizer,
            samples=samples,
            max_length=max_length,
            max_tokens=max_tokens,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            cls=cls,
            code=code,
            force=force,
        ),
    )


def calibration_from_imatrix(imatrix: StrPath, model: StrPath, *, output: StrPath, force: bool = False) -> Calibration:
    """Makes a calibration file, without Hessians, of an importance matrix that llama.cpp's ``llama-imatrix`` wrote as GGUF.

    Args:
        imatrix: the file. Its tensors have llama.cpp's names.
        model: the checkpoint that q4convert will read, whose names they are given: anything that q4convert takes, a GGUF model too.
        output, force: as of :func:`calibrate`.

    Returns:
        What was recorded, and which weights found nothing in the imatrix.

    Raises:
        FormatError: it is no such file, or its sums cannot be.
        UnsupportedError: it is an imatrix in the older format (``.dat``).

    Needs the package gguf.
    """
    from . import _imatrix

    return _imatrix.run(imatrix, model, output, force)
