"""Section 3.6: .q4 containers, damaged by chance and by somebody who recomputes the digests."""

import errno
import hashlib
import json
import os
import random
import struct

import container_bytes as q4
from container_bytes import CHUNKS, DIMS, FILES, NAMES, STATS, TENSORS, lie, lie_in
from harness import QUIET, VERIFY, Bench, Case, Row, accept, require
from name_table import name_table
from safetensors_bytes import tensors

IN = "in.q4"
INSPECT = ("q4inspect", IN)
EXPORT = ("q4export", IN, "-o", "out", "--to", "safetensors", *QUIET)
REPACK = ("q4convert", IN, "-o", "out.q4", *QUIET)
GOOD = q4.sample()
HEADER, PAYLOAD, INDEX = q4.split(GOOD)
NAN, INF = float("nan"), float("inf")


def bad(data, issue, code=6, commands=(VERIFY, INSPECT, EXPORT, REPACK), **rest):
    """A container that every tool must refuse, as its structure lies."""
    for command in commands:
        yield Case({IN: data}, code=code, issue=issue, command=command, **rest)


def bad_content(data, issue, **rest):
    """A container whose index is right: what breaks the rule is seen when the bytes are read."""
    yield from bad(data, issue, commands=(VERIFY,), **rest)


def never_exported(data, issue, **rest):
    yield from bad(data, issue, commands=(VERIFY, EXPORT, REPACK), **rest)


def q01():
    yield accept({IN: GOOD}, makes=(), command=VERIFY)
    small = q4.build([q4.nf4(), q4.raw()])
    # A prime step meets all bits of a byte and all regions; bytes that are not zero are flipped each.
    bits = set(range(0, 8 * len(small), 331)) | {8 * at + at % 8 for at, byte in enumerate(small) if byte}
    for bit in sorted(bits):
        damaged = bytearray(small)
        damaged[bit // 8] ^= 1 << bit % 8
        yield Case({IN: bytes(damaged)}, code=3 if bit < 64 else (5, 6), command=VERIFY, name=f"bit {bit}")


def q02():
    for size in sorted({*range(0, 129), *range(129, len(GOOD), 211), *range(len(GOOD) - 130, len(GOOD))}):
        yield Case({IN: GOOD[:size]}, code=3 if size < 8 else 6, command=VERIFY, name=f"prefix of {size}")
    for tail in (b"\0", b"x", bytes(4096), GOOD[-128:], GOOD):
        yield Case({IN: GOOD + tail}, code=6, command=VERIFY)


def q03():
    yield from bad(lie(GOOD, "header", 8, struct.pack("<I", 2)), 7010, code=5, text="version 2.*<= 1")
    yield from bad(lie(GOOD, "header", 8, struct.pack("<I", 2**32 - 1)), 7010, code=5)
    yield from bad(lie(GOOD, "header", 8, struct.pack("<I", 0)), 7008)


def q04():
    for bit in (0, 17, 63):
        yield from bad(lie(GOOD, "header", 16, struct.pack("<Q", 1 << bit)), 7011, code=5)
    yield from bad(q4.sample(extra_sections=[(9, 1, b"new")]), 7012, code=5)
    yield accept({IN: q4.sample(extra_sections=[(9, 0, b"new")])}, makes=(), command=VERIFY)
    for at in (72, 2000, 4087):
        yield from bad(lie(GOOD, "header", at, b"\1"), 7007)
    yield from bad(lie(GOOD, "footer", 80, b"\1"), 7007)
    yield from bad(lie(GOOD, "index", 4, b"\1"), 7007)
    yield from bad(lie_in(GOOD, TENSORS, 0, 21, "B", 1), 7007)
    yield from bad(lie_in(GOOD, TENSORS, 0, 28, "I", 1), 7007)
    yield from bad(lie_in(GOOD, FILES, 0, 12, "I", 1), 7007)
    yield from bad(lie_in(GOOD, CHUNKS, 0, 18, "B", 1), (7007, 7034))
    for at, byte in ((len(q4.FILE[1]), 1), (len(PAYLOAD) - 1, 0x80)):  # padding between chunks and before the index
        yield from bad_content(lie(GOOD, "payload", at, bytes([byte])), 7043)
    padded = q4.split(GOOD)[2]
    _, _, at, size = q4.section_list(padded)[NAMES - 1]
    yield from bad(lie(GOOD, "index", at + size, b"\1"), 7007)
    for field, value in ((12, 8192), (64, 1), (68, 0), (68, 10_001)):
        yield from bad(lie(GOOD, "header", field, struct.pack("<I", value)), 7008)


def q05():
    size, index = len(GOOD), len(INDEX)
    for at, values in (
        (8, (0, 8, size, 2**64 - 4096, 2**64 - 1, size - index - 128 + 8)),
        (16, (0, 2**63, 2**64 - 1, (256 << 20) + 1, index + 8)),
        (24, (0, size - 1, 2**64 - 1)),
    ):
        for value in values:
            yield from bad(lie(GOOD, "footer", at, struct.pack("<Q", value)), 7009)
    yield from bad(GOOD[:-128] + q4.FOOTER_MAGIC + bytes(120), 7004)
    yield from bad(lie(GOOD, "footer", 40, bytes(32)), 7006)
    for number in range(7):
        for field, value in ((8, 0), (8, 2**63), (8, 2**64 - 8), (16, 2**64 - 1), (16, index)):
            yield from bad(lie(GOOD, "index", 8 + 24 * number + field, struct.pack("<Q", value)), (7020, 7021))
    for count in (0, 6, 8, 65, 2**32 - 1):
        yield from bad(lie(GOOD, "index", 0, struct.pack("<I", count)), 7020)
    for flags in (0, 2, 3):
        yield from bad(lie(GOOD, "index", 8 + 4, struct.pack("<I", flags)), 7020)
    yield from bad(lie(GOOD, "index", 8, struct.pack("<I", 2)), 7020)
    yield from bad(q4.close(HEADER, PAYLOAD, INDEX + bytes(8)), 7020)
    yield from bad(q4.close(HEADER, PAYLOAD, b""), 7020)
    for section, extra in ((DIMS, bytes(8)), (NAMES, b"x"), (STATS, bytes(248)), (TENSORS, b"x"), (CHUNKS, b"x")):
        parts = [(kind, flags, INDEX[at : at + size]) for kind, flags, at, size in q4.section_list(INDEX)]
        parts[section - 1] = (*parts[section - 1][:2], parts[section - 1][2] + extra)
        yield from bad(q4.close(HEADER, PAYLOAD, q4.pack_index(parts)), 7021)


def q06():
    count = q4.section_list(INDEX)[CHUNKS - 1][3] // 64
    for chunk in range(count):
        for offset in (0, 8, len(GOOD) - len(INDEX) - 128, 2**64 - 8, 4096 * 9):
            yield from bad(lie_in(GOOD, CHUNKS, chunk, 0, "Q", offset), 7032)
    (offset,) = struct.unpack_from("<Q", INDEX, q4.place(GOOD, CHUNKS, 1))
    yield from bad(lie_in(GOOD, CHUNKS, 1, 0, "Q", offset + 64), 7032)
    for tensor in range(3):
        for first in (0, 1, 99, 2**63, 2**64 - 1):
            if (tensor, first) != (0, 1):  # that is where it begins
                yield from bad(lie_in(GOOD, TENSORS, tensor, 0, "Q", first), (7031, 7032, 7033))
    unowned = [*q4.sample_tensors(), q4.raw(b"zz")]
    with_more = q4.build(unowned)
    yield from bad(lie_in(with_more, TENSORS, 3, 0, "Q", 0), (7031,))
    # The index where the payload should end, and the payload where the index should be.
    yield from bad(q4.close(HEADER, PAYLOAD + bytes(4096), INDEX), 7032)


def q07():
    for claimed in (1 << 31, 2**32 - 1, 4097, 4095, 0):
        small = q4.compressed(q4.rle_frame(4096))
        yield from bad(lie_in(small, CHUNKS, 0, 12, "I", claimed), (7033, 7034))
    # The frame says far more than the shape.
    yield from never_exported(q4.compressed(q4.rle_frame(1 << 20)), 7902)
    bomb = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 40) + struct.pack("<I", (1 << 17) << 3 | 2 | 1)[:3] + b"\0"
    yield from never_exported(q4.compressed(bomb), 7902)
    # The shape says far more than is stored: nothing of 2^40 bytes is allocated.
    tensors = [q4.Tensor(b"t", (1 << 40,), [q4.Part(bytes(8))], dtype=q4.U8)]
    yield from bad(q4.build(tensors), (7031, 7033), rss=64)
    tensors = [q4.Tensor(b"t", (1 << 23,), [q4.Part(q4.rle_frame(1 << 23), 1 << 23)], dtype=q4.U8)]
    yield accept({IN: q4.build(tensors)}, makes=(), command=VERIFY)


def q08():
    good = q4.rle_frame(4096)
    yield accept({IN: q4.compressed(good)}, makes=(), command=VERIFY)
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    frames = [
        (q4.rle_frame(4096, content_size=False, window=0), 7902),
        (q4.rle_frame(4096, window=0xA8), 7901),  # 2 GiB
        (q4.rle_frame(4096, dictionary=True), 7901),
        (q4.rle_frame(4096, checksum=True), 7901),
        (skippable + good, 7901),
        (good + skippable, 7901),
        (q4.rle_frame(2048) * 2, 7901),
        (good + b"x", 7901),
        (good[:-1], (7901, 7903)),
        (good[:4], 7901),
        (b"\0" + good[1:], 7901),
        (good[:4] + bytes([good[4] | 8]) + good[5:], 7901),
    ]
    for frame, issue in frames:
        yield from never_exported(q4.compressed(frame), issue)


def q09():
    good = q4.rle_frame(4096)
    head = good[:-4]
    reserved = head + struct.pack("<I", 4096 << 3 | 3 << 1 | 1)[:3] + b"\0"  # block type 3
    yield from never_exported(q4.compressed(reserved), (7901, 7903))
    for payload in (b"\xff" * 9, bytes(9), bytes(range(9))):  # a compressed block of garbage
        yield from never_exported(q4.compressed(head + struct.pack("<I", 9 << 3 | 2 << 1 | 1)[:3] + payload), 7903)
    short = head + struct.pack("<I", 100 << 3 | 1 << 1 | 1)[:3] + b"\0"  # fewer bytes than the frame states
    yield from never_exported(q4.compressed(short), 7903)


def q10():
    names = [tensor.name for tensor in sorted(q4.sample_tensors(), key=lambda t: t.name)]
    quantized, plain = names.index(b"proj.weight"), names.index(b"norm.weight")
    for field, form, values in (
        (12, "I", (0, 1, 16, 33, 48, 8192, 2**31, 2**32 - 1)),
        (16, "B", (0, 2, 18, 255)),
        (18, "B", (0, 3, 255)),
        (19, "B", (3, 255)),
        (20, "B", (4, 8, 255)),
    ):
        for value in values:
            yield from bad(lie_in(GOOD, TENSORS, quantized, field, form, value), 7022)
    for value in (64, 1024, 4096):  # a right block size with the scales of another
        yield from bad(lie_in(GOOD, TENSORS, quantized, 12, "I", value), (7033, 7031))
    yield from bad(lie_in(GOOD, TENSORS, quantized, 18, "B", 2), None, code=(0, 6), commands=(INSPECT,))
    for field, form, value in ((12, "I", 64), (16, "B", 18), (19, "B", 1), (20, "B", 2), (24, "I", 1)):
        yield from bad(lie_in(GOOD, TENSORS, plain, field, form, value), (7022,))
    for rank in (9, 255):
        yield from bad(lie_in(GOOD, TENSORS, plain, 17, "B", rank), (7021, 7025))
    for dim in (2**48, 2**63, 2**64 - 1):
        yield from bad(lie_in(GOOD, DIMS, 0, 0, "Q", dim), 7025)
    yield from bad(lie_in(GOOD, DIMS, 0, 0, "Q", 0), (7022, 7031))
    yield from bad(lie_in(GOOD, DIMS, 0, 0, "Q", 1 << 40), (7031, 7033))
    for field, form, value in ((16, "B", 2), (17, "B", 3), (17, "B", 0)):
        yield from bad(lie_in(GOOD, CHUNKS, 1, field, form, value), 7034)
    yield from bad(lie_in(GOOD, CHUNKS, 1, 8, "I", 0), 7034)
    yield from bad(lie_in(GOOD, FILES, 0, 0, "Q", (256 << 20) + 1), 7026)
    yield from bad(q4.sample(provenance=b"\xff"), 7030)
    yield from bad(q4.sample(shard=(1, 2)), 7026)


def q11():
    for value in (NAN, INF, -INF, -0.5, -0.0):
        yield from never_exported(q4.build([q4.nf4(scale=value)]), 7044)
        yield from never_exported(q4.build([q4.nested(absmax2=value)]), 7044)
    for value in (NAN, INF):
        yield from bad(q4.build([q4.nested(offset=value)]), 7022)
    yield from bad_content(q4.build([q4.nested(absmax2=3e38, offset=3e38)]), 7044)
    stats = bytearray(248)
    struct.pack_into("<Q", stats, 0, 33)
    struct.pack_into("<Q", stats, 40, 33)
    struct.pack_into("<dd", stats, 192, 8.0625, 8.0625)  # 32 times -0.5 and once -0.25, without an error
    yield accept({IN: q4.build([q4.nf4(stats=bytes(stats))])}, makes=(), command=VERIFY)
    for at, form, value in (
        (0, "Q", 32),
        (8, "Q", 3),
        (24, "Q", 34),
        (40, "Q", 2**64 - 1),
        (168, "d", NAN),
        (176, "d", -1.0),
        (208, "d", INF),
        (216, "Q", 33),
    ):
        wrong = bytearray(stats)
        struct.pack_into("<" + form, wrong, at, value)
        yield from bad_content(q4.build([q4.nf4(stats=bytes(wrong))]), 6011)
    for at, form, value in ((40, "QQ", (32, 1)), (8, "Q", (1,)), (32, "Q", (1,)), (192, "dd", (8.25, 8.15625)), (192, "d", (8.1,))):
        wrong = bytearray(stats)
        struct.pack_into("<" + form, wrong, at, *value)
        yield from bad_content(q4.build([q4.nf4(stats=bytes(wrong))]), 6636)


def q12():
    for nibble in (0, 6, 15):
        yield from bad_content(q4.build([q4.nf4(codes=bytes(16) + bytes([nibble]))]), 7045)


def q13():
    for names in ((b"a", b"a"), (b"b", b"a")):
        yield from bad(q4.build([q4.raw(name) for name in names], sort=False), 7024)
        yield from bad(q4.build([q4.raw()], files=[(name + b".md", b"x") for name in names]), 7028)
    for name in (b"\xff", b"a\0b"):
        yield from bad(q4.build([q4.raw(name)]), 7023)
    yield from bad(lie_in(GOOD, TENSORS, 0, 8, "I", 0), (7021, 7023))
    yield from bad(lie_in(GOOD, TENSORS, 0, 8, "I", 2**32 - 1), (7021, 7023))
    yield from bad(q4.build([q4.raw(b"x" * 4097)]), 7023)
    yield from bad(q4.build([q4.raw()], files=[(b"x" * 4097, b"x")]), 7027)
    # The whole rule of names is one for all readers: q4_dump and q4ref.py judge the same table and random names (q4ref).
    for kind, names in name_table():
        data = q4.build([q4.raw()], files=[(name, b"x") for name in sorted(names)])
        if kind == "bad":
            yield from bad(data, 7027, commands=(EXPORT,))
        elif kind == "apart":
            yield from bad(data, 7028 if names[0] == names[1] else 7640)
        else:
            yield accept({IN: data}, makes=(), command=VERIFY)


def chunk_at(data, number):
    offset, size = struct.unpack_from("<QI", q4.split(data)[2], q4.place(data, CHUNKS, number))
    return offset, size


def q14():
    """Two tensors of one shape change places: payload bytes, and payload with its records."""
    data = q4.build([q4.raw(b"a", b"\1" * 8), q4.raw(b"b", b"\2" * 8)])
    (first, size), (second, _) = chunk_at(data, 0), chunk_at(data, 1)
    swapped = bytearray(data)
    swapped[first : first + size], swapped[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )
    yield from bad_content(bytes(swapped), 7040)
    records = [index_of(data)[q4.place(data, CHUNKS, n) + 24 : q4.place(data, CHUNKS, n) + 64] for n in (0, 1)]
    payload = bytes(swapped)
    for number, record in enumerate(reversed(records)):
        payload = lie(payload, "index", q4.place(payload, CHUNKS, number, 24), record)
    yield from never_exported(payload, 7040)
    # A right XXH3 with the SHA-256 of other bytes: the verifier sees it.
    yield from bad_content(lie_in(data, CHUNKS, 0, 32, "32s", bytes(32)), 7041)


def index_of(data):
    return q4.split(data)[2]


def q15():
    """A chunk of another file of the same model: with its bytes, and with its record as well."""
    ours = q4.build([q4.raw(b"a", b"\1" * 8)])
    other = q4.build([q4.raw(b"a", b"\3" * 8)], file_id=bytes(range(1, 33)))
    spliced = ours[:4096] + other[4096:4104] + ours[4104:]
    yield from bad_content(spliced, 7040)
    record = index_of(other)[q4.place(other, CHUNKS, 0, 24) : q4.place(other, CHUNKS, 0, 64)]
    yield from never_exported(lie(spliced, "index", q4.place(ours, CHUNKS, 0, 24), record), 7040)
    yield from bad(ours[: -128 - len(index_of(ours))] + other[-128 - len(index_of(other)) :], (7004, 7005))


def shard_files():
    """Two shards and their list, as q4convert writes them."""
    shards = [
        q4.build([q4.raw(b"a")], shard=(0, 2)),
        q4.build([q4.raw(b"b")], file_id=bytes(range(1, 33)), shard=(1, 2)),
    ]
    roots = [shard[-128 + 40 : -128 + 72] for shard in shards]
    document = {
        "format": "q4-shards-1",
        "root": hashlib.sha256(b"".join(roots)).hexdigest(),
        "tensors": {"a": 0, "b": 1},
        "parts": [
            {"bytes": len(shard), "name": f"m-{i}.q4", "root": root.hex()}
            for i, (shard, root) in enumerate(zip(shards, roots))
        ],
    }
    return document, {f"m-{i}.q4": shard for i, shard in enumerate(shards)}


def canonical(document):  # as q4convert writes it
    return json.dumps(document, sort_keys=True, indent=2).encode() + b"\n"


def shards():
    """Lists of shards that lie."""
    name = "m.q4.index.json"

    def case(change, issue, code, files=None):
        document, parts = shard_files()
        change(document)
        content = {name: canonical(document), **(parts if files is None else files)}
        yield Case(content, code=code, issue=issue, command=("q4verify", name, *QUIET))
        yield Case(
            content, code=code, issue=(issue, 3140), command=("q4inspect", name)
        )  # which reads shard indices too

    def part(key, value):
        return lambda document: document["parts"][1].update({key: value})

    yield accept(
        {name: canonical(shard_files()[0]), **shard_files()[1]}, makes=(), command=("q4verify", name, "-q", *QUIET)
    )
    for bad_name in ("../m-1.q4", "/etc/passwd", "", ".x", "a\\b"):
        yield from case(part("name", bad_name), 7050, 3)
    for value in (-1, 1.5, "x"):
        yield from case(part("bytes", value), 7050, 3)
    yield from case(part("root", "0" * 64), 7050, 3)
    yield from case(part("root", "zz"), 7050, 3)
    yield from case(part("bytes", 9), 7051, 6)
    yield from case(lambda document: document["tensors"].update(a=1), 7051, 6)
    yield from case(lambda document: document["tensors"].update(c=0), 7051, 6)
    yield from case(lambda document: document["tensors"].update(a=2), 7050, 3)
    yield from case(lambda document: document.update(format="q4-shards-2"), 7050, 3)
    yield from case(lambda document: document.update(more=1), 7050, 3)
    yield from case(lambda document: document["parts"].clear(), 7050, 3)
    yield from case(lambda document: None, 7001, 3, {"m-0.q4": shard_files()[1]["m-0.q4"], "m-1.q4": b"another file"})
    yield from case(
        lambda document: None, 7051, 6, {"m-0.q4": shard_files()[1]["m-0.q4"], "m-1.q4": shard_files()[1]["m-0.q4"]}
    )
    yield Case(
        {"m.q4": shard_files()[1]["m-0.q4"]},
        code=1,
        issue=8010,
        command=("q4export", "m.q4", "-o", "out", "--to", "bnb", *QUIET),
    )


def q16():
    for size in (4096, 8192, len(GOOD) - len(INDEX) - 128, len(GOOD) - 1):
        yield from bad(GOOD[:size], 7002)
    yield from bad(HEADER + bytes(60_000), 7002)
    yield Case({IN: b"something else"}, code=3, issue=7001, command=VERIFY)


def q17():
    """What an interrupted run left is gone on with if it is this run's, whole or torn, and otherwise never becomes an output."""
    from rows_values import MODEL

    def leftovers(bench: Bench):
        """Partial files without a journal."""
        bench.build({"in.safetensors": MODEL})
        bench.ok(*CONVERT_ALL, "-o", "right.q4")
        right = (bench.work / "right.q4").read_bytes()
        for leftover in (
            b"",
            b"garbage" * 1000,
            right[:-1],
            right[: len(right) // 2],
            right,
            right + right,
            bytes(100_000),
        ):
            (bench.work / "out.q4.partial").write_bytes(leftover)
            bench.ok(*CONVERT_ALL, "-o", "out.q4")
            require(
                (bench.work / "out.q4").read_bytes() == right, f"a leftover of {len(leftover)} bytes changed the output"
            )
            (bench.work / "out.q4").unlink()
            require(not (bench.work / "out.q4.partial").exists(), "the partial file is still there")

    def journals(bench: Bench):
        """A run whose last step, the rename, fails leaves everything; then journal, input or options are changed."""
        weights = [bytes(random.Random(i).randbytes(2 * 64 * 64)).translate(FINITE) for i in range(6)]
        layers = tensors(**{f"layers.{i}.up_proj.weight": ("BF16", (64, 64), data) for i, data in enumerate(weights)})
        bench.build({"in.safetensors": layers, "other.safetensors": layers[:-1] + bytes([layers[-1] ^ 1])})
        journal, partial, out = (bench.work / name for name in ("out.q4.journal", "out.q4.partial", "out.q4"))
        bench.ok(*CONVERT_ALL, "-o", "right.q4")
        bench.ok("q4convert", "other.safetensors", *CONVERT_ALL[2:], "-o", "other.q4")
        right, other = ((bench.work / name).read_bytes() for name in ("right.q4", "other.q4"))
        command = (*CONVERT_ALL, "--sync-every", "1", "-o", "out.q4")
        result = bench.run(command, env={"LD_PRELOAD": bench.shim(), "Q4_FAULT": f"rename:2:{errno.EIO}"})
        require(result.code == 2 and journal.exists() and partial.exists(), f"exit code {result.code}: {result.stderr}")
        whole, stored = journal.read_bytes(), partial.read_bytes()

        def rerun(what, journal_bytes, partial_bytes, expected, resumes=None, words=command):
            journal.write_bytes(journal_bytes)
            partial.write_bytes(partial_bytes)
            done = bench.run([word for word in words if word != "-q"])
            require(done.code == 0, f"{what}: exit code {done.code}: {done.stderr}")
            require(out.read_bytes() == expected, f"{what}: other bytes")
            require(not journal.exists() and not partial.exists(), f"{what}: leftovers remain")
            if resumes is not None:
                note = "resumed: " if resumes else "began again: "
                require(note in done.stderr, f"{what}: no remark '{note}': {done.stderr}")
            out.unlink()

        rerun("undisturbed", whole, stored, right, resumes=True)
        sampled = bench.settings.sanitized and "Q4_EXHAUSTIVE" not in os.environ
        step = 5 if sampled else 1  # tests/libconvert/convert/resume_test.cc flips every bit, under sanitizers too
        for size in [0, 1, 47, 48, 49, *range(50, len(whole), 97 * step), len(whole) - 1]:
            rerun(f"journal torn after {size} bytes", whole[:size], stored, right, resumes=None if size > 300 else False)
        for at in [*range(0, 64, step), *range(64, len(whole), 131 * step)]:
            flipped = bytearray(whole)
            flipped[at] ^= 1 << at % 8
            rerun(f"journal with a bit flipped in byte {at}", flipped, stored, right, resumes=False if at < 300 else None)
        for at in range(0, len(stored), 1997 * step):
            flipped = bytearray(stored)
            flipped[at] ^= 0x10
            rerun(f"partial file with a bit flipped in byte {at}", whole, flipped, right)
        for size in range(0, len(stored), 4999 * step):
            rerun(f"journal longer than the partial file of {size} bytes", whole, stored[:size], right)
        rerun("journal doubled", whole + whole, stored, right, resumes=True)
        rerun("other input", whole, stored, other, False, ("q4convert", "other.safetensors", *command[2:]))
        rerun("--no-resume", whole, stored, right, None, (*command, "--no-resume"))
        plain = bench.run((*CONVERT_ALL, "--block-size", "128", "-o", "plain.q4"))
        require(plain.code == 0, plain.stderr)
        rerun("other options", whole, stored, (bench.work / "plain.q4").read_bytes(), False, (*command, "--block-size", "128"))
        os.utime(bench.work / "in.safetensors", ns=(1, 1))
        # Read again, and found the same.
        rerun("input of another time", whole, stored, right, resumes=True)

    yield leftovers
    yield journals


FINITE = bytes(value & 0x3F for value in range(256))  # no bf16 of such bytes is NaN or infinite
CONVERT_ALL = ("q4convert", "in.safetensors", "--device", "cpu", "-q", *QUIET)


LARGE = 5 << 30


def large(path):
    """A container whose payload is LARGE zeros that take no room, under digests that they do not have."""
    size = LARGE
    chunk, records, at = 8 << 20, b"", 4096
    for number in range(0, size, chunk):
        records += struct.pack("<QIIBB6xQ32s", at + number, chunk, chunk, 0, 1, 0, bytes(32))
    tensor = struct.pack("<QIIBBBBB3xfI", 0, 1, 0, q4.BF16, 1, 0, 0, 0, 0.0, 0)
    index = q4.pack_index(
        [
            (1, 1, tensor),
            (2, 1, struct.pack("<Q", size // 2)),
            (3, 1, b"t"),
            (4, 1, b""),
            (5, 1, records),
            (6, 0, b""),
            (7, 0, q4.PROVENANCE),
        ]
    )
    whole = q4.close(q4.header_of(bytes(32)), b"", index)
    header, index = whole[:4096], whole[4096:-128]
    with open(path, "wb") as file:
        file.write(header)
        file.seek(4096 + size)
        file.write(index)
        file_id = header[32:64]
        footer = q4.FOOTER_MAGIC + struct.pack(
            "<QQQQ", 4096 + size, len(index), 4096 + size + len(index) + 128, q4.xxh3_64(index, q4.seed(file_id, 3))
        )
        footer += hashlib.sha256(header + index).digest() + bytes(48)
        file.write(footer + struct.pack("<Q", q4.xxh3_64(footer, q4.seed(file_id, 4))))


def q18():
    """Reading the payload would take seconds."""
    for words in ((), ("--tensors",), ("--files",), ("--json",)):
        yield accept({IN: large}, makes=(), command=(*INSPECT, *words), seconds=0.5, rss=64)


ROWS = [
    Row(
        "Q01",
        "one bit flipped",
        q01,
        note="every byte that is not zero and a prime step over the rest; all bits in process: tests/formats/q4/integrity_test.cc",
    ),
    Row("Q02", "prefixes and extensions", q02),
    Row("Q03", "newer version", q03, note="unsupported, exit code 5, as docs/format.md F9.1 asks"),
    Row("Q04", "unknown feature, reserved bytes, padding", q04, note="an unknown feature is unsupported, exit code 5"),
    Row("Q05", "footer and section table that lie", q05),
    Row("Q06", "chunks that overlap, are unordered or leave holes", q06),
    Row("Q07", "claimed sizes, zstd bomb", q07),
    Row("Q08", "zstd frames of another form", q08),
    Row("Q09", "right digest, corrupt zstd", q09),
    Row("Q10", "tensor, file and chunk records out of range", q10),
    Row("Q11", "scales that are NaN, infinite or negative; statistics that contradict each other or the codes", q11),
    Row("Q12", "padding nibble", q12),
    Row("Q13", "names: twice, unsorted, paths", q13),
    Row("Q14", "chunks of two tensors swapped", q14),
    Row("Q15", "chunk of another file; lists of shards that lie", lambda: [*q15(), *shards()]),
    Row("Q16", "partial file renamed by hand", q16),
    Row(
        "Q17",
        "leftovers and journals",
        q17,
        note="another version of q4 is part of the run id, as another input is: tests/libconvert/convert/resume_test.cc",
    ),
    Row("Q18", "q4inspect on a large file reads its index only", q18, note="a sparse file of 5 GiB"),
]
