"""Section 3.7: values and shapes. What is read back from a container goes through q4export, whose files are easy to read."""

import json
import math
import random
import struct

from harness import CONVERT, QUIET, Bench, Case, Row, Skip, Sparse, accept, require
from safetensors_bytes import ITEM_SIZE, floats, read, sparse_header, stream, tensor_file, tensors, words

SLOW = False  # set by hostile_test.py
NAN, INF = float("nan"), float("inf")
WEIGHT = "a.q_proj.weight"
NF4 = (
    -1.0,
    -0.6961928,
    -0.52507305,
    -0.3949175,
    -0.28444138,
    -0.18477343,
    -0.091050036,
    0.0,
    0.0795803,
    0.1609302,
    0.24611230,
    0.33791524,
    0.44070983,
    0.562617,
    0.72295684,
    1.0,
)
MODEL = tensor_file(
    {
        WEIGHT: ("F32", (64, 64), floats(*(math.sin(i) for i in range(4096)))),
        "b.norm.weight": ("F32", (4,), floats(1, 2, 3, 4)),
    }
)


def weight(data, dtype="F32", shape=None):
    return tensor_file({WEIGHT: (dtype, (1, len(data) // ITEM_SIZE[dtype]) if shape is None else shape, data)})


def round_trip(bench, data, *options, verify=True):
    """Converts, verifies against the source, exports to fp32; returns the exported values by name."""
    bench.build({"in.safetensors": data})
    bench.ok(*CONVERT, "--force", *options)
    if verify:
        bench.ok("q4verify", "out.q4", "--against", "in.safetensors", "-q", *QUIET)
    bench.ok(
        "q4export",
        "out.q4",
        "-o",
        "plain.safetensors",
        "--to",
        "safetensors",
        "--dtype",
        "fp32",
        "--force",
        "-q",
        *QUIET,
    )
    found = read(bench.work / "plain.safetensors")
    return {
        name: struct.unpack(f"<{len(data) // 4}f", data) for name, (dtype, _, data) in found.items() if dtype == "F32"
    }


SETTINGS = [("--type", kind, nesting) for kind in ("nf4", "fp4") for nesting in ("--double-quant", "--no-double-quant")]


def v01():
    for dtype in ("F32", "F16", "BF16"):
        for value in (NAN, INF, -INF):
            data = weight(floats(1, 2, 3, 4, 5, value, 7, 8, dtype=dtype), dtype)
            yield Case({"in.safetensors": data}, issue=4101, text=f"'{WEIGHT}', element 5")
            yield accept({"in.safetensors": data}, command=(*CONVERT, "--on-nonfinite", "keep"))
    # A tensor that stays as it is, NaN of every width and sign; infinities stand in masks.
    for dtype in ("F32", "F16", "BF16", "F64"):
        for value in (NAN, -NAN, INF, -INF):
            data = tensors(norm=(dtype, (4,), floats(1, 2, value, 4, dtype=dtype)), w=("F32", (1, 64), floats(*[1] * 64)))
            if value == value:
                yield accept({"in.safetensors": data})
                continue
            yield Case({"in.safetensors": data}, issue=4103, text="'norm', element 2")
            yield accept({"in.safetensors": data}, command=(*CONVERT, "--on-nonfinite", "keep"))
    yield against_nan
    yield Case(
        {"in.safetensors": tensors(a=("F32", (1,), floats(3e38)))},
        issue=4102,
        command=(*CONVERT, "--keep-dtype", "fp16"),
    )


def against_nan(bench: Bench):
    """A container that claims to come from a source with a NaN."""
    bench.build({"in.safetensors": weight(floats(1, 2))})
    bench.ok(*CONVERT)
    bench.build({"nan.safetensors": weight(floats(1, NAN))})
    bench.expect(
        Case({}, code=6, issue=6213, command=("q4verify", "out.q4", "--against", "nan.safetensors", "-q", *QUIET))
    )


def v02(bench: Bench):
    zeros = [0.0] * 64 + [-0.0] * 64 + [1.0] * 64 + [0.0] * 64
    for settings in SETTINGS:
        values = round_trip(
            bench,
            tensor_file({WEIGHT: ("F32", (4, 64), floats(*zeros)), "z.q_proj.weight": ("F32", (2, 64), bytes(512))}),
            *settings,
        )
        require(
            all(v == 0 for at, v in enumerate(values[WEIGHT]) if not 128 <= at < 192), f"{settings}: a zero is not zero"
        )
        require(set(values["z.q_proj.weight"]) == {0.0}, f"{settings}: a zero tensor is not zero")


def v03(bench: Bench):
    tiny = words(*[1, 0x80000001, 0x007FFFFF, 0x00000100] * 16)
    for settings in SETTINGS:
        values = round_trip(bench, weight(tiny + floats(*[1.0] * 64), shape=(2, 64)), *settings)[WEIGHT]
        # A nested scale is off by up to half a gap of its map, relative to the largest scale of its group.
        most = 0.00704 if "--double-quant" in settings else 1e-37
        require(
            all(abs(v) <= most for v in values[:64]),
            f"{settings}: a block of subnormals gives {max(map(abs, values[:64]))}",
        )
        require(all(math.isfinite(v) for v in values), f"{settings}: not finite")


def v04(bench: Bench):
    for dtype, data, most in (
        ("F32", words(0x7F7FFFFF, 0xFF7FFFFF) * 32, 3.4028235e38),
        ("F16", floats(65504, -65504, dtype="F16") * 32, 65504.0),
        ("BF16", struct.pack("<2H", 0x7F7F, 0xFF7F) * 32, 3.3895314e38),
    ):
        for settings in SETTINGS:
            values = round_trip(bench, weight(data, dtype), *settings)[WEIGHT]
            worst = max(abs(abs(v) - most) / most for v in values)
            require(worst < 0.01, f"{dtype} {settings}: off by {worst:.3g} of the largest value")


def v05_small(bench: Bench):
    for count in (1, 63, 64, 65, 127, 128, 129, 16383, 16384, 16385, 7919):
        source = [math.sin(i) for i in range(count)]
        for settings in SETTINGS[1:3]:
            values = round_trip(bench, weight(floats(*source)), *settings)[WEIGHT]
            require(len(values) == count, f"{count} elements became {len(values)}")
            require(max(abs(a - b) for a, b in zip(source, values)) < 0.25, f"{count}: an element is lost")


def v05_large(bench: Bench):
    """The plan of tensors beyond 32 bits: exact sizes, and no memory that grows with them."""
    for count in (2**31 - 1, 2**31, 2**32 + 1, 2**40):
        head, size = sparse_header({WEIGHT: ("BF16", (1, count))})
        bench.build({"in.safetensors": Sparse(head, size)})
        result = bench.run(("q4convert", "in.safetensors", "-o", "out.q4", "--dry-run", "--json", "--no-double-quant"))
        require(result.code == 0, result.stderr)
        text = result.stdout.decode()
        require(str(count) in text, f"the plan does not name {count} elements: {text[:300]}")
        require(result.rss < 256 or bench.settings.sanitized, f"the plan of {count} elements took {result.rss:.0f} MiB")


def v05_slow(bench: Bench):
    if not SLOW:
        raise Skip("--slow converts 2^32 + 1 elements")
    head, size = sparse_header({WEIGHT: ("BF16", (1, 2**32 + 1))})
    bench.build({"in.safetensors": Sparse(head, size)})
    result = bench.ok(*CONVERT, "--compress", "zstd", "--max-memory", "256MiB")
    require(result.rss < 256 + 64, f"{result.rss:.0f} MiB")
    bench.ok("q4verify", "out.q4", "-q", *QUIET)


def v06(bench: Bench):
    """Elements at each threshold, its neighbours, and at random: one container on every target."""
    middles = [(a + b) / 2 for a, b in zip(NF4, NF4[1:])]
    near = [struct.unpack("<I", floats(m))[0] + step for m in middles for step in (-1, 0, 1)]
    block = [0x3F800000] + near
    block += [0] * (64 - len(block))
    random.seed(1)
    blocks = [block] + [
        [
            random.choice((random.getrandbits(23) | random.randrange(255) << 23, near[i % len(near)]))
            | random.getrandbits(1) << 31
            for i in range(64)
        ]
        for _ in range(255)
    ]
    data = b"".join(words(*one) for one in blocks)
    for settings in SETTINGS:
        bench.build({"in.safetensors": weight(data, shape=(256, 64))})
        bench.ok(*CONVERT, "--force", *settings)
        best = (bench.work / "out.q4").read_bytes()
        bench.ok(*CONVERT, "--force", *settings, env={"Q4_CPU_TARGET": "scalar"})
        require((bench.work / "out.q4").read_bytes() == best, f"{settings}: the scalar target gives other bytes")


def v07(bench: Bench):
    """The statistics of blocks with one outlier each, recomputed here from what is exported."""
    random.seed(2)
    source = []
    for block in range(128):
        source += [random.gauss(0, 1) * 0.01 for _ in range(64)]
        source[64 * block + block % 64] = 1000.0 * (-1) ** block
    exact = struct.unpack("<8192f", floats(*source))
    for settings in SETTINGS:
        values = round_trip(bench, weight(floats(*source), shape=(128, 64)), *settings)[WEIGHT]
        errors = [x - y for x, y in zip(exact, values)]
        nmse = math.fsum(e * e for e in errors) / math.fsum(x * x for x in exact)
        shown = json.loads(bench.ok("q4inspect", "out.q4", "--stats", "--json").stdout)
        found = [number for key, number in numbers(shown) if key == "nmse"]
        require(
            any(math.isclose(n, nmse, rel_tol=1e-9, abs_tol=1e-300) for n in found),
            f"{settings}: NMSE {nmse}, recorded {found}",
        )


def numbers(document, key=""):
    """Every (key, number) in a JSON document."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from numbers(value, name)
    elif isinstance(document, list):
        for value in document:
            yield from numbers(value, key)
    elif isinstance(document, (int, float)):
        yield key, document


def tiny_tensors(count):
    return lambda path: stream(
        path,
        count,
        lambda i: b'"layers.%d.bias":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}' % (i, 4 * i, 4 * i + 4),
        4 * count,
    )


def v08(bench: Bench):
    """300,000 tensors of one element, four times as many as 75,000, with few open files."""
    seconds, fewer, more, converted = {}, *(count // bench.settings.slower for count in (75_000, 300_000, 20_000))
    for count in (fewer, more):
        bench.build({"in.safetensors": tiny_tensors(count)})
        result = bench.run(("q4convert", "in.safetensors", "-o", "out.q4", "--dry-run"), limits={"n": 16})
        require(result.code == 0, result.stderr)
        seconds[count] = result.cpu
    require(seconds[more] < 8 * seconds[fewer] + 0.5, f"not linear: {seconds}")
    bench.build({"in.safetensors": tiny_tensors(converted)})
    bench.ok(*CONVERT, limits={"n": 16})


def v09(bench: Bench):
    """Types that are not quantized travel bit for bit, whatever their tensors are called. 8-bit floats are read as values (numerics.md Q13)."""
    random.seed(3)
    named = {
        f"{dtype.lower()}.q_proj.weight": (dtype, (8, 8), random.randbytes(64 * size))
        for dtype, size in ITEM_SIZE.items()
        if dtype not in ("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
    }
    named["bool.q_proj.weight"] = ("BOOL", (8, 8), bytes(i % 2 for i in range(64)))
    bench.build({"in.safetensors": tensor_file(named)})
    bench.ok(*CONVERT)
    bench.ok("q4verify", "out.q4", "--against", "in.safetensors", "-q", *QUIET)
    bench.ok("q4export", "out.q4", "-o", "plain.safetensors", "--to", "safetensors", "-q", *QUIET)
    require(read(bench.work / "plain.safetensors") == named, "a tensor changed")


ROWS = [
    Row("V01", "NaN and infinity", v01),
    Row("V02", "zero blocks, -0.0, zero tensor", lambda: [v02]),
    Row(
        "V03",
        "blocks of subnormals",
        lambda: [v03],
        note="coded against TINY (docs/numerics.md Q4.3), not as a zero block; with nested scales off by what those are off",
    ),
    Row("V04", "largest finite values", lambda: [v04]),
    Row(
        "V05",
        "element counts at every edge",
        lambda: [v05_small, v05_large, v05_slow],
        note="2^31 and more: the plan; --slow converts 2^32 + 1 elements; GPU: tests/kernels/cuda_kernels_test.cc",
    ),
    Row(
        "V06",
        "values at each threshold and beside it",
        lambda: [v06],
        note="every target: tests/kernels/backends_agree_test.cc",
    ),
    Row("V07", "one outlier per block", lambda: [v07]),
    Row(
        "V08",
        "300,000 tiny tensors",
        lambda: [v08],
        note="planned; 20,000 are converted, as each begins a page of 4096 bytes",
    ),
    Row("V09", "integers, bool, fp8, f64", lambda: [v09]),
]
