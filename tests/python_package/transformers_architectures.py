"""q4.transformers.load against from_pretrained of the exported directory, for many architectures.

    transformers_architectures.py BIN ROOT [--case NAME ...] [--least N] [--all-settings]

Each architecture is a small random model (tests/python/architectures_check.py). It is converted, with NF4 and FP4, plain and
nested scales in turn (--all-settings: each with all four), exported with --to bnb, and loaded both ways. Then
  - no key is missing or unexpected, and all parameters and buffers are equal bit for bit, tied ones tied;
  - save_pretrained writes weight files that are the export's byte for byte;
  - all floating outputs of a forward pass are equal bit for bit.
Exits with 1 if anything fails, or if fewer than --least architectures were right.
"""

import argparse
import logging
import os
import pathlib
import sys
import tempfile
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "python"))

import architectures_check as architectures  # noqa: E402  (the path above)
import torch  # noqa: E402
import transformers  # noqa: E402

import q4  # noqa: E402
import q4.transformers  # noqa: E402

SETTINGS = [(type_, nested) for type_ in ("nf4", "fp4") for nested in (True, False)]


def ties(model):
    """Which names are one parameter."""
    names = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return sorted(sorted(group) for group in names.values())


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.device == b.device and torch.equal(
        a.detach().contiguous().flatten().view(torch.uint8), b.detach().contiguous().flatten().view(torch.uint8))  # fmt: skip


def outputs_of(value):
    """All floating tensors in what a model returns."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        return [tensor for each in value.values() for tensor in outputs_of(each)]
    if isinstance(value, (list, tuple)):
        return [tensor for each in value for tensor in outputs_of(each)]
    return []


def equal(ours, theirs, inputs):
    """What differs, or None. The models' states are compared first: a forward pass may rewrite weights (bitsandbytes on AVX-512)."""
    if type(ours) is not type(theirs):
        return f"class {type(ours).__name__} instead of {type(theirs).__name__}"
    a, b = ours.state_dict(), theirs.state_dict()
    if a.keys() != b.keys():
        return f"keys {sorted(a.keys() ^ b.keys())[:3]}"
    for name in a:
        if not same(a[name], b[name]):
            return f"state {name}"
    buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        if not same(buffer, buffers[name]):
            return f"buffer {name}"
    if ties(ours) != ties(theirs):
        return "tied parameters"
    if [p.requires_grad for p in ours.parameters()] != [p.requires_grad for p in theirs.parameters()]:
        return "requires_grad"
    with torch.no_grad():
        torch.manual_seed(1)
        got = outputs_of(ours(**inputs))
        torch.manual_seed(1)
        expected = outputs_of(theirs(**inputs))
    if not expected or len(got) != len(expected):
        return "no outputs"
    return None if all(same(x, y) for x, y in zip(got, expected)) else "outputs"


def saved_differs(model, exported, folder):
    model.save_pretrained(folder, max_shard_size="100GB")
    wanted = {path.name: path.read_bytes() for path in exported.glob("*.safetensors*")}
    got = {path.name: path.read_bytes() for path in folder.glob("*.safetensors*")}
    if wanted.keys() != got.keys():
        return f"saved files {sorted(got)}"
    return next((f"saved {name}" for name in wanted if wanted[name] != got[name]), None)


def inputs_as(model, inputs):
    dtype = model.dtype
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}


def check(case, settings, work):
    model, inputs = architectures.build(case)
    source = work / "source"
    model.save_pretrained(source)
    kind = type(model)
    for type_, nested in settings:
        name = f"{type_}-{'nested' if nested else 'plain'}"
        path = q4.convert(source, work / f"{name}.q4", type=type_, double_quant=nested).path
        exported = work / name
        q4.export(path, exported, to="bnb", unloadable="dequantize")
        ours = q4.transformers.load(path, device_map="cpu")
        theirs = kind.from_pretrained(exported, device_map="cpu")
        wrong = saved_differs(ours, exported, work / f"{name}-saved") or equal(ours, theirs, inputs_as(theirs, inputs()))
        if wrong:
            return f"{name}: {wrong}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("root")
    parser.add_argument("--case", action="append")
    parser.add_argument("--least", type=int, default=1)
    parser.add_argument("--all-settings", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    begin, failed, right = time.monotonic(), [], 0
    for number, case in enumerate(arguments.case or architectures.CASES):
        settings = SETTINGS if arguments.all_settings else [SETTINGS[number % 4]]
        with tempfile.TemporaryDirectory(prefix="q4-architectures-") as work:
            try:
                wrong = check(case, settings, pathlib.Path(work))
            except Exception as error:  # noqa: BLE001  (one architecture more that fails, whatever fails there)
                wrong = f"{type(error).__name__}: {str(error)[:300]}"
        if wrong:
            failed.append(case)
            print(f"FAIL {case}: {wrong}", flush=True)
        else:
            right += 1
    print(f"transformers_architectures: {right} right, {len(failed)} wrong, {time.monotonic() - begin:.0f} s")
    sys.exit(1 if failed or right < arguments.least else 0)


if __name__ == "__main__":
    main()
