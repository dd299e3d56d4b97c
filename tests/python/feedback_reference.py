"""The encoder feedback (docs/numerics.md Q17) in numpy, from the page alone: an evaluation that shares no code with the kernels."""

import numpy as np
from mse_reference import BOOKS, F32, F64, TINY, codes_of, codes_under

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


def feedback(book, x, scales, block_size, hessian, passes=2):
    """Codes of one matrix x[out, in] under decoded scales of its flat blocks, and how many rows keep the old ones."""
    with np.errstate(all="ignore"):
        order, u, couplings, pivots, _ = factor(hessian)
        old = old_codes(book, x.ravel(), scales, block_size).reshape(x.shape)
        s = scales[np.arange(x.size) // block_size].reshape(x.shape)[:, order]
        w = x[:, order]
        old_e = w - BOOKS[book]["values"][old[:, order]] * s
        e, codes = np.zeros_like(w), np.zeros(w.shape, np.uint8)
        for m in [u] + [couplings] * passes:
            one_pass(book, w, s, e, codes, m)
        better = row_errors(e, u, pivots) < row_errors(old_e, u, pivots)
    result = old.copy()
    result[np.ix_(better, order)] = codes[better]
    return result, int((~better).sum())
