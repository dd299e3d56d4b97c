"""q4.evaluate: a quantized model held against its original, on the caller's own inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._evaluation import Evaluation
from ._words import StrPath


def evaluate(
    original: Any,
    quantized: Any,
    inputs: StrPath | Sequence[str] | Iterable[Mapping[str, Any]],
    *,
    tokenizer: Any = None,
    max_length: int | None = None,
    max_tokens: int | None = None,
    batch_size: int = 8,
    layer_rows: int = 512,
    bootstrap: int = 1000,
    seed: int = 0,
    device: Any = None,
    dtype: Any = "auto",
    cls: Any = None,
    code: StrPath | None = None,
    sequential: bool = False,
    scratch: StrPath | None = None,
) -> Evaluation:
    """How far what a quantized model computes is from what its original computes, on the caller's inputs (docs/evaluate.md).

    Models that predict tokens or classes are compared by the KL divergence of their predictions (in nats), by how often the most
    likely one is the same, and, where the model predicts the next token, by perplexity. Models that give embeddings are compared
    by the cosine of these. Of each linear layer the relative squared error of its output is measured, for the inputs that it has in
    the original.

    Args:
        original: a directory in 16 (or 32) bits, a container ``NAME.q4``, a directory that q4export wrote, a :class:`q4.Model`, or a
            model (``torch.nn.Module``: of transformers, or a SentenceTransformer).
        quantized: the same, or several of them by name: ``{"nf4": "a.q4", "fp4": "b.q4"}``.
        inputs: a list of texts; the path of a text file in UTF-8, which a model that predicts the next token sees as one text, and any
            other line by line; or batches, each a dict of tensors that is given to the models (``input_ids``, ``attention_mask``,
            ``pixel_values``, ...). Labels in a batch say which predictions count, and what is right for perplexity; -100 leaves out.
        tokenizer: of texts; None: the one that lies with the original.
        max_length: tokens of a sequence. Longer texts are cut into several where the next token is predicted, else at this length, which
            the report counts. None: 512, or less where model or tokenizer take less.
        max_tokens: stop after so many tokens of the texts; None: all.
        batch_size: sequences in a forward pass; with batches they are as given.
        layer_rows: input vectors that each linear layer is measured on, the first that come, at most 64 of a batch; 0: no layers.
        bootstrap, seed: resamplings of the sequences for the interval of the ratio of perplexities, and their seed; 0: no interval.
        device: where models that are given by path are loaded, as of ``q4.transformers.load(device_map=...)``; None: the current GPU,
            else the CPU.
        dtype: of what is not in 4 bits, for models given by path; ``"auto"``: as the configuration says.
        cls, code: as of ``q4.transformers.load``: the class, and the directory of a model's own code.
        sequential: one model after the other, where memory does not hold all. What the original computes waits in a temporary file
            of 2 or 4 bytes for each prediction and each word of the vocabulary. The numbers are the same.
        scratch: the folder of that file; None: that of temporary files.

    Returns:
        The numbers by model; the same inputs give the same document. ``print()`` shows a table, ``save()`` writes what
        ``q4verify --evaluation`` joins with its report.

    Raises:
        UsageError, InputError, FormatError, UnsupportedError: inputs or models that cannot be compared; what loading raises.

    Needs torch and transformers; containers need accelerate and bitsandbytes too.
    """
    from . import _evaluate_run

    return _evaluate_run.run(
        original,
        quantized,
        inputs,
        _evaluate_run.Options(
            tokenizer=tokenizer,
            max_length=max_length,
            max_tokens=max_tokens,
            batch_size=batch_size,
            layer_rows=layer_rows,
            bootstrap=bootstrap,
            seed=seed,
            device=device,
            dtype=dtype,
            cls=cls,
            code=code,
            sequential=sequential,
            scratch=scratch,
        ),
    )
