"""An exported directory as bitsandbytes reads it: each weight by its own QuantState, and bitsandbytes' own encoder beside it."""

import json
import pathlib

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import load_file

STATE = ".quant_state.bitsandbytes__"


def quantized(folder):
    """Of each 4-bit weight its name, codes and QuantState."""
    tensors = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        tensors.update(load_file(path))
    for key in sorted(tensors):
        if STATE not in key:
            continue
        name = key[: key.index(STATE)]
        parts = {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + ".")}
        yield name, tensors[name], bnb.QuantState.from_dict(parts, torch.device("cpu"))


def decoded(folder):
    """By name, what bitsandbytes' decoder makes of it."""
    return {name: bnb.dequantize_4bit(codes, state) for name, codes, state in quantized(folder)}


def encoded(weight, book, block_size, nested):
    """What bitsandbytes' encoder and decoder make of a weight."""
    codes, state = bnb.quantize_4bit(weight, blocksize=block_size, compress_statistics=nested, quant_type=book)
    return bnb.dequantize_4bit(codes, state)


def squares(values):
    return float((values.double() ** 2).sum())


def settings(folder):
    return json.loads((pathlib.Path(folder) / "config.json").read_text())["quantization_config"]
