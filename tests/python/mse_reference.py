#!/usr/bin/env python3
"""The encoders mse and weighted (docs/numerics.md Q9, Q16) in numpy, from the page alone: an evaluation that shares no code with the kernels.

Usage: mse_reference.py --golden testdata/golden     writes the files q4_mse and q4_weighted, which golden_test reads
"""
import re
import sys
from pathlib import Path

import numpy as np

F32, F64 = np.float32, np.float64
PAGE = (Path(__file__).parents[2] / "docs/numerics.md").read_text()
TINY = np.uint32(0x006CE3EE).view(F32)
LARGEST = {"f32": F32(np.finfo(F32).max), "f16": F32(65504), "bf16": np.uint32(0x7F7F0000).view(F32)}


def floats(words):
    return np.array([int(word, 16) for word in words], np.uint32).view(F32)


def tables():
    """Values by code, bounds, codes by count, factors of both efforts: {"nf4": ..., "fp4": ...}."""
    q2 = PAGE[PAGE.index("## Q2") : PAGE.index("## Q3")]
    values = re.findall(r"^\| (\d+) \| `[^`]+` \| ([0-9A-F]{8}) \| `[^`]+` \| ([0-9A-F]{8}) \|$", q2, re.M)
    bounds = re.findall(r"^\| \d+ \| `[^`]+` \| ([0-9A-F]{8}) \| `[^`]+` \| ([0-9A-F]{8}) \| \d+ \|$", q2, re.M)
    order = [int(code) for code in re.search(r"order = \{([\d,]+)\}", q2).group(1).split(",")]
    assert len(values) == 16 and len(bounds) == 15 and len(order) == 16
    q9 = PAGE[PAGE.index("## Q9") : PAGE.index("## Q10")]
    books = {}
    for column, (name, codes) in enumerate([("nf4", list(range(16))), ("fp4", order)]):
        rows = [re.search(rf"^\| {name.upper()}{row} \| ([0-9A-F ]+):", q9, re.M).group(1) for row in (", effort 1", "")]
        few, many = (floats(row.split()) for row in rows)
        both = (lambda f: np.concatenate([f, -f])) if name == "nf4" else (lambda f: f)
        books[name] = {
            "values": floats(v[1 + column] for v in values),
            "bounds": floats(b[column] for b in bounds),
            "order": np.array(codes, np.uint8),
            "factors": {1: both(few), 2: both(many), 3: both(many)},
            "signs": (1, -1) if name == "nf4" else (1,),
        }
    return books


BOOKS = tables()
NESTED = re.findall(r"^(?:[0-9A-F]{8} ){6,7}[0-9A-F]{8}$", PAGE[PAGE.index("## Q5") : PAGE.index("## Q6")], re.M)
WORDS = floats(" ".join(NESTED).split())
MAP, MAP_BOUNDS = WORDS[:256], WORDS[256:]
assert len(MAP_BOUNDS) == 255


def codes_of(book, t):
    return BOOKS[book]["order"][np.searchsorted(BOOKS[book]["bounds"], t, side="left")]


def lane_sum(terms, kind):
    """Q7.1 along the last axis."""
    lanes = np.zeros(terms.shape[:-1] + (16,), kind)
    for begin in range(0, terms.shape[-1], 16):
        part = terms[..., begin : begin + 16]
        lanes[..., : part.shape[-1]] += part
    for w in (8, 4, 2, 1):
        lanes = lanes[..., :w] + lanes[..., w : 2 * w]
    return lanes[..., 0]


def s32(terms):
    """Q7.2, rounded to fp32."""
    runs = [lane_sum(terms[..., i : i + 256], F32).astype(F64) for i in range(0, terms.shape[-1], 256)]
    total = runs[0]
    for run in runs[1:]:
        total = total + run
    return total.astype(F32)


def bf16(s):
    bits = np.asarray(s, F32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(F32)


def codes_under(book, x, s, tail):
    s = np.asarray(s, F32)[..., None]
    m = np.where(np.abs(s) > TINY, s, np.copysign(TINY, s))
    return codes_of(book, x / m if tail else x * (F32(1) / m))


def weights_of(moments):
    """Q16.1 of one matrix: h by feature."""
    total = 0.0
    for begin in range(0, len(moments), 256):
        group = 0.0
        for moment in moments[begin : begin + 256]:
            group += float(moment)
        total += group
    mean = total / len(moments)
    return np.ones(len(moments), F32) if mean == 0 else np.maximum((moments.astype(F64) / mean).astype(F32), F32(2.0**-20))


def errors_under(book, x, h, s, tail):
    y = BOOKS[book]["values"][codes_under(book, x, s, tail)] * np.asarray(s, F32)[..., None]
    e = x.astype(F64) - y.astype(F64)
    return lane_sum(e * e * h.astype(F64), F64)


def sweep(book, u, h):
    """Q9.7 of one block: q'."""
    tables = BOOKS[book]
    by_count = tables["values"][tables["order"]].astype(F64)
    best, quotient = -1.0, 1.0
    for sign in tables["signs"]:
        v = F32(sign) * u
        passages, uc, cc = [], 0.0, 0.0
        for i, element in enumerate(v):
            side = [k for k, b in enumerate(tables["bounds"]) if b * element > 0]
            if element <= 0:
                side.reverse()
            count = int(np.searchsorted(tables["bounds"], F32(0), side="right" if element > 0 else "left"))
            for k in side:
                w = element / tables["bounds"][k]
                new = k + 1 if element > 0 else k
                if w > F32(1.6):
                    count = new
                elif w > F32(0.5):
                    passages.append((-w, i, by_count[k if element > 0 else k + 1], by_count[new]))
            uc += float(element) * float(h[i]) * by_count[count]
            cc += by_count[count] * by_count[count] * float(h[i])
        for _, i, old, new in [(0, -1, 0, 0)] + sorted(passages, key=lambda passage: passage[:2]):
            if i >= 0:
                uc += float(v[i]) * float(h[i]) * (new - old)
                cc += (new * new - old * old) * float(h[i])
            if cc > 0 and uc * uc / cc > best:
                best, quotient = uc * uc / cc, sign * (uc / cc)
    return F32(quotient)


def search(book, x, h, effort, dtype, tail):
    """Q9.1 to Q9.7 of blocks x[n, size] with weights h[n, size], and their floors of Q9.9."""
    a = np.abs(x).max(axis=1)
    scale = np.maximum(a, TINY) if tail else a.copy()
    searched = (scale >= TINY) & (a > 0)
    floors = np.zeros(len(x))
    u = x * (F32(1) / np.where(searched, scale, F32(1)))[:, None]
    factors = BOOKS[book]["factors"][effort]
    c = BOOKS[book]["values"][codes_of(book, u[:, None, :] * factors[None, :, None])]
    hc = h[:, None, :] * c
    uc, cc = s32(u[:, None, :] * hc), s32(c * hc)
    score = uc * uc / np.where(cc > 0, cc, F32(1))
    winner = score.argmax(axis=1)
    rows = np.arange(len(x))
    q = uc[rows, winner] / np.where(searched, cc[rows, winner], F32(1))
    best, error = scale.copy(), errors_under(book, x, h, scale, tail)
    first = error.copy()
    for sweeps in (False, True)[: 2 if effort == 3 else 1]:
        quotient = q
        if sweeps:
            quotient = np.array([sweep(book, *block) if is_searched else F32(0) for *block, is_searched in zip(u, h, searched)], F32)
        s = bf16(scale * quotient)
        usable = searched & (np.abs(s) >= TINY) & (np.abs(s) <= LARGEST[dtype])
        e = errors_under(book, x, h, np.where(usable, s, F32(1)), tail)
        better = usable & (e < error)
        best, error = np.where(better, s, best), np.where(better, e, error)
    if not tail:
        uc0, cc0 = uc[:, 0].astype(F64), np.where(searched, cc[:, 0], F32(1)).astype(F64)
        step = scale.astype(F64) * (np.abs(1 - uc0 / cc0) + 2.0**-17)
        floors = np.where(searched, np.maximum(first - step * step * cc0, 0), 0)
    return best.astype(F32), floors


def pack(codes, padding):
    codes = np.append(codes, np.uint8(padding)) if len(codes) % 2 else codes
    return (codes[0::2] << 4 | codes[1::2]).astype(np.uint8)


def encode(x, book, block_size, effort=2, dtype="f32", nested=False, h=None):
    """{"codes", "scales"} of the flat fp32 x, whose errors weigh h; nested also "scale_codes", "absmax2", "floors", "errors"."""
    h = np.ones(len(x), F32) if h is None else h
    with np.errstate(all="ignore"):
        full = len(x) // block_size * block_size
        parts = [(x[:full].reshape(-1, block_size), h[:full].reshape(-1, block_size), False)] if full else []
        parts += [(x[full:][None], h[full:][None], True)] if full < len(x) else []
        searched = [search(book, part, weights, effort, dtype, tail) for part, weights, tail in parts]
        out = {"scales": np.concatenate([scales for scales, _ in searched])}
        decoded = out["scales"]
        if nested:
            out["floors"] = np.concatenate([floors for _, floors in searched])
            blocks = len(decoded)
            groups = np.repeat([np.abs(decoded[g : g + 256]).max() for g in range(0, blocks, 256)], 256)[:blocks]
            groups = np.where(groups > 0, np.maximum(groups, F32(2.0**-126)), F32(0))

            def grid(scales):
                t = np.where(groups > 0, scales * (F32(1) / np.where(groups > 0, groups, F32(1))), F32(0))
                codes = np.searchsorted(MAP_BOUNDS, t, side="left").astype(np.uint8)
                return codes, MAP[codes] * groups + F32(0)

            def errors(scales):
                split = np.split(scales, [len(parts[0][0])])
                return np.concatenate([errors_under(book, p, w, s, tail) for (p, w, tail), s in zip(parts, split)])

            absmax = np.concatenate([np.maximum(np.abs(p).max(axis=1), TINY if tail else F32(0)) for p, _, tail in parts])
            (own, decoded), (rival, rival_decoded) = grid(decoded), grid(absmax)
            e, rival_e = errors(decoded), errors(rival_decoded)
            taken = rival_e < e
            out["scale_codes"] = np.where(taken, rival, own)
            out["absmax2"] = groups[::256].astype(F32)
            decoded = np.where(taken, rival_decoded, decoded)
            out["errors"] = np.where(taken, rival_e, e)
        split = np.split(decoded, [len(parts[0][0])])
        codes = [codes_under(book, p, s, tail).ravel() for (p, _, tail), s in zip(parts, split)]
        out["codes"] = pack(np.concatenate(codes), codes_of(book, F32(0)))
        return out


def widen(name, words):
    return (words.astype(np.uint32) << 16).view(F32) if name == "bf16" else words.view(np.float16).astype(F32)


def inputs():
    """By dtype, a few thousand elements of every kind: normal, heavy tails, equal values, zeros, subnormal, huge."""
    random = np.random.default_rng(9)
    normal = random.standard_normal(1500) * 0.02
    tails = random.standard_t(3, 700) * 0.1
    values = BOOKS["nf4"]["values"][random.integers(0, 16, 300)] * 0.37
    few = random.choice([-0.5, 0.0, 0.5, 0.25], 300)
    zeros = random.choice([0.0, -0.0], 140)
    small = random.standard_normal(300) * 2.0**-128
    huge = random.uniform(-1, 1, 260) * 3e38
    x = np.concatenate([normal, tails, values, few, zeros, small, huge, normal[:77]]).astype(F32)
    half = np.concatenate([normal, tails, values, few, zeros, small * 2.0**110, huge * (65504 / 3e38), normal[:77]])
    return {"f32": x, "bf16": bf16(x), "f16": half.astype(np.float16).astype(F32)}


def moments(columns):
    """Second moments as inputs of layers have them: within a few powers of two, some dead, one that outweighs all others."""
    random = np.random.default_rng(columns)
    moments = (2.0 ** (2 * random.standard_normal(columns))).astype(F32)
    moments[random.integers(0, columns, columns // 8)] = 0
    moments[columns // 3] = 1e4
    return moments


def write_golden(folder, weighted):
    """Of the encoder weighted the input lies in rows of 149, a column of which has the moment of the file."""
    from safetensors.numpy import save_file

    tensors = {"moments": moments(149)} if weighted else {}
    for dtype, x in inputs().items():
        stored = {"f32": x, "bf16": (x.view(np.uint32) >> 16).astype(np.uint16), "f16": x.astype(np.float16).view(np.uint16)}
        tensors[f"{dtype}.input"] = stored[dtype].view(np.uint8)
        h = np.resize(weights_of(tensors["moments"]), len(x)) if weighted else None
        for book in BOOKS:
            for block_size, efforts in [(64, (1, 2, 3)), (32, (2,)), (512, (2, 3))]:
                for effort in efforts:
                    key = f"{dtype}.{book}.b{block_size}.e{effort}"
                    plain, nested = (encode(x, book, block_size, effort, dtype, is_nested, h) for is_nested in (False, True))
                    tensors.update({f"{key}.{part}": plain[part] for part in ("scales", "codes")})
                    tensors.update({f"{key}.nested.{part}": array for part, array in nested.items() if part != "scales"})
    save_file(tensors, Path(folder) / ("q4_weighted.safetensors" if weighted else "q4_mse.safetensors"))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--golden":
        sys.exit(__doc__)
    for weighted in (False, True):
        write_golden(sys.argv[2], weighted)
