"""q4calibrate, the tool of the wheel that is written in Python: q4.calibrate and q4.calibration_from_imatrix for a command line."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import _core
from ._calibrate import calibrate, calibration_from_imatrix
from ._calibration import Calibration
from ._errors import Error, FormatError, InputError, UsageError

_UNITS = {"": 1, "K": 10**3, "KB": 10**3, "KIB": 2**10, "M": 10**6, "MB": 10**6, "MIB": 2**20, "G": 10**9, "GB": 10**9, "GIB": 2**30, "T": 10**12, "TB": 10**12,
          "TIB": 2**40}  # fmt: skip
_EPILOG = """\
exit status: 0 done; 1 usage, output exists; 2 a file cannot be read or written; 3 invalid input, or a layer's input is NaN or infinite;
4 a device or memory failed; 5 unsupported, or a package is missing; 7 interrupted"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}; see {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:  # --help and --version
            _print(message, end="")
        else:
            super()._print_message(message, file)


def main(words: Sequence[str] | None = None) -> NoReturn:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = _run(_parser().parse_args(words))
        sys.stdout.flush()
    except Error as error:
        code = _fail(str(error) + (f" [{error.issue}]" if error.issue else ""), error.exit_code)
    except KeyboardInterrupt:
        code = _fail("interrupted; there is no output", 7)
    except ModuleNotFoundError as error:
        code = _fail(f"needs the package {error.name} (pip install torch transformers; for an imatrix gguf)", 5)
    except OSError as error:
        code = _fail(f"{error.filename or 'output'}: {error.strerror or error}", 2)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # what cannot be written is not tried again
    except MemoryError:
        code = _fail("not enough memory; --batch-size 1, --length and --memory-limit take less", 4)
    except Exception as error:
        # Of torch, as of a GPU without memory, of transformers, or of the model's own code.
        code = _fail(f"{type(error).__name__}: {' '.join(str(error).split())}", 4)
    sys.exit(code)


def _run(options: argparse.Namespace) -> int:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("q4calibrate: %(message)s"))
    # What q4convert would note is for q4convert to say.
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.getMessage().startswith("pass "))
    log = logging.getLogger("q4")
    log.addHandler(handler)
    log.setLevel(logging.ERROR if options.quiet else logging.INFO)
    try:
        _print(_calibrated(options))
    finally:
        log.removeHandler(handler)
    return 0


def _calibrated(options: argparse.Namespace) -> Calibration:
    if (options.imatrix is None) == (not options.texts):
        raise UsageError("give either --texts FILE... or --imatrix FILE", exit_code=1)
    if options.imatrix is not None:
        given = [name for name in _TEXT_OPTIONS if getattr(options, name) != _parser().get_default(name)]
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')}: is about running the model, which --imatrix does not", exit_code=1)
        return calibration_from_imatrix(options.imatrix, options.model, output=options.output, force=options.force)
    if options.quiet or not sys.stderr.isatty():
        # Of transformers, which is not imported yet.
        os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
    texts = [text for file in options.texts for text in read_texts(file, options.split, options.field)]
    if not texts:
        raise UsageError(f"{', '.join(options.texts)}: hold no text", exit_code=1)
    return calibrate(
        options.model,
        texts,
        output=options.output,
        hessian=not options.no_hessian,
        memory_limit=options.memory_limit,
        samples=options.samples,
        max_length=options.length,
        max_tokens=options.tokens,
        batch_size=options.batch_size,
        device=options.device,
        dtype=options.dtype,
        code=options.code,
        force=options.force,
    )


_TEXT_OPTIONS = ("split", "field", "no_hessian", "samples", "length", "tokens", "batch_size", "memory_limit", "device", "dtype", "code")


def read_texts(path: str, split: str, field: str) -> Iterator[str]:
    """The texts of a file: of .jsonl one a line, of others as `split` says."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", exit_code=2, path=path) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is no text in UTF-8 (byte {error.start})", exit_code=3, path=path) from error
    if path.endswith(".jsonl"):
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield _jsonl_text(path, number, line, field)
        return
    pieces = [text] if split == "file" else text.split("\n") if split == "line" else re.split(r"\n[ \t\r]*\n", text)
    yield from (piece.strip() for piece in pieces if piece.strip())


def _jsonl_text(path: str, number: int, line: str, field: str) -> str:
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise FormatError(f"{path}: line {number}: is no JSON: {error}", exit_code=3, path=path) from error
    found = value.get(field) if isinstance(value, dict) else value
    if not isinstance(found, str):
        raise FormatError(
            f"{path}: line {number}: has no text under {field!r} (got {type(found).__name__}); --field names another member", exit_code=3, path=path
        )
    return found


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="q4calibrate",
        usage="q4calibrate MODEL --texts FILE... -o FILE [options]\n       q4calibrate MODEL --imatrix FILE.gguf -o FILE [--force]",
        description="Records what goes into the linear layers of a model, for q4convert --calibration (docs/calibration.md).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="the checkpoint's directory, in 16 or 32 bits; with --imatrix anything that q4convert takes")
    add("-o", "--output", required=True, metavar="FILE", help="the calibration file to write")
    add("--texts", nargs="+", default=[], metavar="FILE", help="texts in UTF-8, or .jsonl")
    add("--split", choices=("paragraph", "line", "file"), default="paragraph", help="what is one text of a file: what blank lines divide (default), a line, all of it")
    add("--field", default="text", metavar="NAME", help="of .jsonl: the member that has the text (text)")
    add("--imatrix", metavar="FILE", help="take the sums of an imatrix that llama.cpp wrote as GGUF; the model is not run")
    add("--no-hessian", action="store_true", help="second moments alone: all that the encoder weighted needs, and a small file")
    add("--samples", type=_count, metavar="N", help="so many sequences, spread evenly over the texts; all")
    add("--length", type=_count, metavar="L", help="tokens of a sequence at most; 512, or what the model takes")
    add("--tokens", type=_count, metavar="N", help="stop after so many tokens; all")
    add("--batch-size", type=_count, default=8, metavar="N", help="sequences in a forward pass (8)")
    add("--memory-limit", type=_size, metavar="SIZE", help="of Hessians under way: fewer bytes, more passes, the same file; half of what is free")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:N; the current GPU, else the CPU")
    add("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"), help="what the model computes in; as the configuration says")
    add("--code", metavar="DIR", help="a directory with the model's own Python code, which is run")
    add("--force", action="store_true", help="replace an existing calibration file, never another file")
    add("-q", "--quiet", action="store_true", help="say nothing on stderr but errors")
    add("--version", action="version", version=f"q4calibrate {_core.version}")
    return parser


def _count(word: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", word) or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is no integer of at least 1")
    return int(word)


def _size(word: str) -> int:
    found = re.fullmatch(r"([0-9]{1,15})([A-Za-z]{0,3})", word)
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is no size, such as 4GiB or 500MB")
    return int(found[1]) * unit


def _print(text: object, end: str = "\n") -> None:
    """A reader that has left (`q4calibrate ... | head`) ends the tool as it ends others, without a word."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    print(text, end=end, flush=True)
    signal.signal(signal.SIGPIPE, before)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"q4calibrate: {message}\n")
    return code


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
