"""Which 4-bit weights bitsandbytes computes rightly on every CPU, by its source of version 0.50.2, and a test of that.

What it does with a weight of `rows` x `columns` depends on the CPU (docs/export_bnb.md, "bitsandbytes on CPUs"):
  - the native decoder, where there is AVX-512 and `columns` is a multiple of 16, takes floor(columns / block size)
    scales for each row: unless the block size divides `columns`, all rows but the first get wrong ones;
  - the first forward pass in eval mode, where there is AVX-512 BF16, packs the weight anew, in its place, and fails
    unless `rows` is a multiple of 32 and `columns` one of the block size.
The functions below say for which weights neither matters. check() calls what they rest upon, so that a bitsandbytes
that does otherwise is noticed. It needs no particular CPU: packing is PyTorch's code and runs on all, and the native
decoder must be wrong exactly where bitsandbytes says that it uses AVX-512.
"""

import copy

import bitsandbytes as bnb
import torch
from bitsandbytes.cextension import lib

PACKED_ROWS = 32
DECODED_AT_ONCE = 16


def decodes_right(shape, block_size):
    """Whether dequantize_4bit() gives the right values of such a weight on every CPU."""
    return shape[-1] % block_size == 0 or shape[-1] % DECODED_AT_ONCE != 0


def multiplies_right(shape, block_size):
    """Whether the forward pass of a Linear4bit with such a weight succeeds, and is right, on every CPU."""
    return len(shape) == 2 and shape[0] % PACKED_ROWS == 0 and shape[1] % block_size == 0


def decoded_scales(state):
    """One fp32 scale per block. Nested scales by PyTorch, which multiplies and adds in two steps, each rounded."""
    if not state.nested:
        return state.absmax
    groups = state.state2.absmax.repeat_interleave(state.state2.blocksize)[: state.absmax.numel()]
    return state.state2.code[state.absmax.long()] * groups + state.offset


def decode(packed, state):
    """The weight in fp32, without bitsandbytes' decoder: code value times scale, high nibble first."""
    codes = packed.contiguous().view(torch.uint8).flatten()
    codes = torch.stack((codes >> 4, codes & 15), dim=1).flatten()[: state.shape.numel()].long()
    scales = decoded_scales(state).repeat_interleave(state.blocksize)[: codes.numel()]
    return (state.code[codes] * scales).reshape(state.shape)


def has(feature):
    """Whether bitsandbytes uses it: the CPU has it, and so does the library, which exports the question only then."""
    try:
        return bool(getattr(lib, f"has_{feature}_cpu")())
    except (AttributeError, RuntimeError):
        return False


def _quantized(rows, columns, nested=False):
    """A weight whose blocks have scales far apart, so that no wrong one passes."""
    weight = torch.linspace(-1, 1, rows * columns).reshape(rows, columns) * torch.arange(1, rows + 1).reshape(rows, 1)
    return bnb.functional.quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=nested)


def _packing_fails_with(rows, columns, error, message):
    packed, state = _quantized(rows, columns)
    try:
        bnb.functional._convert_weight_packed_for_cpu(packed, state)
    except error as caught:
        return message in str(caught)
    return False


def _check_decoder(require):
    for rows, columns in ((4, 128), (4, 72), (1, 80), (4, 80), (4, 48)):
        packed, state = _quantized(rows, columns)
        right = decode(packed, state)
        expected = right
        if has("avx512f") and rows > 1 and not decodes_right((rows, columns), 64):
            # Row r takes the scales from r * floor(columns / 64) on.
            first = torch.arange(rows).reshape(rows, 1) * (columns // 64)
            wrong = copy.copy(state)
            wrong.absmax = state.absmax[first + torch.arange(columns).reshape(1, columns) // 64].flatten()
            wrong.blocksize = 1
            expected = decode(packed, wrong)
            require(not torch.equal(expected, right), f"{rows} x {columns}: the two ways to take scales do not differ")
        got = bnb.functional.dequantize_4bit(packed, state)
        require(torch.equal(got, expected), f"{rows} x {columns} is decoded otherwise than docs/export_bnb.md says")


def _check_packing(require):
    for nested in (False, True):
        packed, state = _quantized(PACKED_ROWS, 128, nested)
        scales = decoded_scales(state)
        again, state = bnb.functional._convert_weight_packed_for_cpu(packed.clone(), state)
        require(not torch.equal(again.flatten(), packed.flatten()), "packing leaves the codes as they are")
        require(not state.nested and torch.equal(state.absmax.T.flatten(), scales.bfloat16()),
                "packing does not round the scales to BF16")
    require(_packing_fails_with(40, 128, AssertionError, "N must be divisible by block_n"),
            "packing accepts rows that are no multiple of 32, or refuses them otherwise")
    require(_packing_fails_with(PACKED_ROWS, 96, RuntimeError, "is invalid for input of size"),
            "packing accepts columns that are no multiple of the block size, or refuses them otherwise")


@torch.no_grad()
def _check_forward(require):
    layer = bnb.nn.Linear4bit(64, PACKED_ROWS, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer = layer.to("cpu").eval()
    before = layer.weight.data.clone().flatten()
    layer(torch.ones(1, 64))
    packs = not torch.equal(layer.weight.data.flatten(), before)
    require(packs == has("avx512bf16"), f"the first forward pass {'packs' if packs else 'does not pack'} the weight")


def check(require):
    """Calls require(holds, message) for everything that the functions above take for granted."""
    _check_decoder(require)
    _check_packing(require)
    _check_forward(require)
