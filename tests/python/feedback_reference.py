"""The encoder feedback (docs/numerics.md Q17) in numpy, from the page alone: an evaluation that shares no code with the kernels.

Usage: feedback_reference.py --golden testdata/golden     writes the file q4_feedback, which golden_test reads
"""

import sys
from pathlib import Path

import numpy as np
from mse_reference import BOOKS, F32, F64, TINY, bf16, codes_of, codes_under, pack

PANEL = 64


def old_codes(book, x, scales, block_size):
    """Q9.2 of a flat tensor under its decoded scales."""
    full = len(x) // block_size * block_size
    codes = [codes_under(book, x[:full].reshape(-1, block_size), scales[: full // block_size], False).ravel()]
    if full < len(x):
        codes.append(codes_under(book, x[full:][None], scales[-1:], True).ravel())
    return np.concatenate(codes)


def factor(hessian):
    """Q17.2 to Q17.4: order, U, N, D, damping."""
    upper = np.triu(hessian)
    h = upper + np.triu(upper, 1).T
    n = len(h)
    order = np.argsort(-h.diagonal(), kind="stable")
    total = 0.0
    for entry in h.diagonal():
        total += float(entry)
    damping = total / n * 0.01 if total > 0 else 1.0
    h = h[order][:, order].astype(F64)
    for _ in range(5):
        damped = h.copy()
        damped[np.arange(n), np.arange(n)] += damping
        left, r, good = damped.copy(), np.zeros((n, n)), True
        for m in reversed(range(n)):
            if not left[m, m] >= damping * 0.5:
                good = False
                break
            r[m, m] = np.sqrt(left[m, m])
            r[:m, m] = left[:m, m] / r[m, m]
            left[:m, :m] -= r[:m, m : m + 1] * r[:m, m]
        if good:
            break
        damping *= 10
    else:
        return None
    root = r.diagonal()
    u = np.triu(r / root, 1).astype(F32)
    couplings = (damped / damped.diagonal()).astype(F32)
    couplings[np.arange(n), np.arange(n)] = 0
    return order, u, couplings, root * root, damping


def one_pass(book, x, s, e, codes, m):
    """Q17.5, Q17.6, of all rows: x, s, e and codes are [row, column] in the order of work."""
    values = BOOKS[book]["values"]
    divisor = np.where(np.abs(s) > TINY, s, np.copysign(TINY, s))
    reciprocal = F32(1) / divisor
    for begin in range(0, x.shape[1], PANEL):
        end = min(begin + PANEL, x.shape[1])
        sums = np.zeros((len(x), end - begin), F32)
        for j in range(x.shape[1]):
            sums += e[:, j : j + 1] * m[j, begin:end]
        for k in range(begin, end):
            target = x[:, k] + sums[:, k - begin]
            target = np.where(np.isfinite(target) & (np.abs(s[:, k]) > TINY), target, x[:, k])
            codes[:, k] = codes_of(book, target * reciprocal[:, k])
            error = x[:, k] - values[codes[:, k]] * s[:, k]
            sums[:, k - begin + 1 :] += (error - e[:, k])[:, None] * m[k, k + 1 : end]
            e[:, k] = error


def row_errors(e, u, pivots):
    """Q17.7."""
    total = np.zeros(len(e))
    for k in range(e.shape[1]):
        s = np.zeros(len(e), F32)
        for j in range(k):
            s += e[:, j] * u[j, k]
        r = (e[:, k] + s).astype(F64)
        total += r * r * pivots[k]
    return total


def feedback(book, x, scales, block_size, hessian, passes=2, transposed=False):
    """Codes of one matrix x[out, in], which may be stored transposed, under decoded scales of its flat blocks as it is stored, and how many rows
    keep the old ones."""
    with np.errstate(all="ignore"):
        order, u, couplings, pivots, _ = factor(hessian)
        stored = x.T if transposed else x
        old = old_codes(book, stored.ravel(), scales, block_size).reshape(stored.shape)
        s = scales[np.arange(x.size) // block_size].reshape(stored.shape)
        old, s = (old.T, s.T[:, order]) if transposed else (old, s[:, order])
        w = x[:, order]
        old_e = w - BOOKS[book]["values"][old[:, order]] * s
        e, codes = np.zeros_like(w), np.zeros(w.shape, np.uint8)
        for m in [u] + [couplings] * passes:
            one_pass(book, w, s, e, codes, m)
        better = row_errors(e, u, pivots) < row_errors(old_e, u, pivots)
    result = old.copy()
    result[np.ix_(better, order)] = codes[better]
    return result, int((~better).sum())


def golden_cases():
    """{name: (type of the elements, book, block size, whether stored transposed, x[out, in], scales, Hessian)}."""
    random = np.random.default_rng(17)

    def hessian(n, rows):
        inputs = random.standard_normal((rows, n)) * (0.1 + random.random(n)) + random.standard_normal((rows, 1))
        return (inputs.T @ inputs / rows).astype(F32)

    def matrix(rows, n):
        return (random.standard_t(5, (rows, n)) * 0.05).astype(F32)

    def case(kind, book, block_size, x, h, transposed=False, factor=1.0):
        x = {"f32": x, "bf16": bf16(x), "f16": x.astype(np.float16).astype(F32)}[kind]
        flat = (x.T if transposed else x).ravel()
        blocks = np.resize(np.abs(flat), (len(flat) + block_size - 1) // block_size * block_size).reshape(-1, block_size)
        # As a search leaves them: of either sign, and smaller than what they scale.
        scales = (blocks.max(1) * random.uniform(0.8, 1.0, len(blocks)) * random.choice([-1, 1], len(blocks)) * factor).astype(F32)
        return kind, book, block_size, transposed, x, scales, h

    dead, square = hessian(67, 200), hessian(70, 40)
    dead[5:9] = dead[:, 5:9] = 0
    zeros = matrix(66, 67)
    zeros[[3, 65]] = 0
    slanted = hessian(40, 90)
    slanted -= np.eye(40, dtype=F32) * F32(np.linalg.eigvalsh(slanted)[0] + 0.03 * slanted.diagonal().mean())
    lower = hessian(33, 100)
    lower[np.tril_indices(33, -1)] = 7  # what does not count
    wide = hessian(130, 400)
    return {
        "plain": case("f32", "nf4", 64, matrix(70, 130), wide),
        "dead": case("bf16", "fp4", 32, zeros, dead),
        "transposed": case("f16", "nf4", 64, matrix(66, 70), square, transposed=True),
        "raised": case("bf16", "nf4", 128, matrix(9, 40), slanted),
        "large": case("f32", "fp4", 64, np.clip(matrix(12, 33) * F32(1e39), -3e38, 3e38).astype(F32), lower),
        "tiny": case("f32", "nf4", 32, matrix(7, 33) * F32(1e-39), lower, factor=0.5),
        "one": case("f32", "fp4", 64, matrix(65, 1), hessian(1, 9)),
    }


def write_golden(folder):
    from safetensors.numpy import save_file

    tensors = {}
    for name, (kind, book, block_size, transposed, x, scales, h) in golden_cases().items():
        order, u, couplings, pivots, damping = factor(h)
        codes, kept = feedback(book, x, scales, block_size, h, transposed=transposed)
        turned = (lambda m: np.ascontiguousarray(m.T)) if transposed else lambda m: m
        flat = turned(x).ravel()
        stored = {"f32": flat, "bf16": (flat.view(np.uint32) >> 16).astype(np.uint16), "f16": flat.astype(np.float16).view(np.uint16)}[kind]
        key = f"{name}.{kind}.{book}.b{block_size}.{'transposed' if transposed else 'straight'}"
        filler = codes_of(book, F32(0))
        tensors |= {
            f"{key}.input": stored.view(np.uint8), f"{key}.scales": scales, f"{key}.hessian": h, f"{key}.order": order.astype(np.int32),
            f"{key}.factor": u, f"{key}.couplings": couplings, f"{key}.pivots": pivots, f"{key}.damping": np.array([damping]),
            f"{key}.nearest": pack(old_codes(book, flat, scales, block_size), filler), f"{key}.codes": pack(turned(codes).ravel(), filler),
            f"{key}.kept": np.array([kept], np.int32),
        }  # fmt: skip
    save_file(tensors, Path(folder) / "q4_feedback.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--golden":
        sys.exit(__doc__)
    write_golden(sys.argv[2])
