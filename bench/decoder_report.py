"""Tables of bench/decoder_bench.py from its results.json: perplexity and KL to 16 bits, in units of absmax's excess, with paired intervals."""

import numpy as np

DRAWS = 10_000


def _by_page(results, values):
    pages, index = np.unique(np.array(results["pages"]), return_inverse=True)
    return np.bincount(index, np.array(values, dtype=np.float64), len(pages))


def _interval(values):
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{low:.3f} to {high:.3f}"


def tables(results):
    counts = _by_page(results, results["counts"])
    # How often each page is drawn, for all models the same: [draws, pages].
    drawn = np.random.default_rng(0).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), DRAWS).astype(np.float64)
    total = drawn @ counts

    def measured(name):
        loss, divergence = _by_page(results, results["losses"][name]), _by_page(results, results["divergences"][name])
        here = (np.exp(loss.sum() / counts.sum()), divergence.sum() / counts.sum())
        return here, (np.exp(drawn @ loss / total), drawn @ divergence / total)

    (base, _), (bases, _) = measured("16 bits")
    lines = [
        f"{len(counts)} pages, {int(counts.sum())} predictions; perplexity at 16 bits {base:.3f}",
        "",
        "| type | scales | encoder | perplexity | excess / absmax' | 95 % | KL (nats) | KL / absmax' | 95 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in results["losses"]:
        if name == "16 bits":
            continue
        (perplexity, divergence), (perplexities, divergences) = measured(name)
        (absmax, absmax_kl), (absmaxes, absmax_kls) = measured(" | ".join((*name.split(" | ")[:2], "absmax")))
        excess, ratio = (perplexity - base) / (absmax - base), divergence / absmax_kl
        intervals = _interval((perplexities - bases) / (absmaxes - bases)), _interval(divergences / absmax_kls)
        lines.append(f"| {name} | {perplexity:.3f} | {excess:.3f} | {intervals[0]} | {divergence:.5f} | {ratio:.3f} | {intervals[1]} |")
    return "\n".join(lines)
