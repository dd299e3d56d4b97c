"""Section 3.1: one safetensors file."""

import json
import struct

from harness import CONVERT, Case, Row, Sparse, accept, require
from safetensors_bytes import entry, floats, frame, stream, tensors

IN = "in.safetensors"
INSPECT = ("q4inspect", IN)
ONE = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
ONE_FILE = frame(ONE, bytes(4))


def bad(data, issue, text="", **rest):
    """A file that both the converter and the inspector must refuse."""
    for command in (CONVERT, INSPECT):
        yield Case({IN: data}, issue=issue, text=text, command=command, **rest)


def entries(issue, *fields, text="", **rest):
    """Files of one tensor 'a' whose entry is each of those JSON texts."""
    for field in fields:
        yield from bad(frame('{"a":%s}' % field, bytes(16)), issue, text, **rest)


def shapes(issue, *texts, dtype="F32", offsets="[0,16]"):
    yield from entries(
        issue, *('{"dtype":"%s","shape":%s,"data_offsets":%s}' % (dtype, text, offsets) for text in texts)
    )


def good(data, **rest):
    yield accept({IN: data}, **rest)


def s04():
    for length in (2**64 - 1, 2**63, 2**64 - 8, 2**64 - 4):
        yield from bad(frame(ONE, bytes(4), length), 3103)


def s07(path):
    stream(path, 1_600_000, lambda i: b'"%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i)


def s08(path):
    stream(path, 1_500_000, lambda i: b'"%x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}' % i)


def s08_over(path):
    stream(path, 10_000_000, lambda i: b'"%x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}' % i)


def s09():
    yield from bad(frame("not JSON", bytes(4)), 3001)
    text = '{"__metadata__":{"k":"v\\n"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    for end in range(1, len(text)):
        yield Case({IN: frame(text[:end], bytes(4))}, issue=3001, text=r"offset \d+")


def s14():
    plain = '"a":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    yield from bad(frame("{%s,%s}" % (plain % (0, 1), plain % (1, 2)), b"xx"), 3109)
    yield from bad(frame("{%s,%s}" % (plain % (0, 1), plain.replace('"a"', '"\\u0061"') % (1, 2)), b"xx"), 3109)


def s13():
    for name in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\\ud800", b"\\udc00x", b"\xe2\x82"):
        header = b'{"' + name + b'":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
        yield from bad(frame(header, b"x"), 3001)


def s26():
    whole = tensors(a=("F32", (32,), bytes(128)))
    for cut in range(1, 65):
        yield Case({IN: whole[:-cut]}, issue=3119)


def s28():
    yield from good(
        tensors(**{"a": ("F32", (), floats(1.5)), "b.q_proj.weight": ("F32", (0, 8), b""), "c": ("U8", (1,), b"x")})
    )
    yield Case({IN: frame("{}")}, issue=3122, text="no tensors")
    yield accept({IN: frame("{}")}, command=CONVERT + ("--allow-empty",))


def s31():
    names = [
        "\x1b[31mred",
        "line\nbreak",
        'quote"',
        "\u202eevil",
        "\x7f\x9b31m",
        "../x",
        "/etc/passwd",
        "\u2066x\u2069",
    ]
    payload, header = b"", {}
    for name in names:
        header[name + ".weight"] = entry("F32", (2, 2), (len(payload), len(payload) + 16))
        payload += floats(1, 2, 3, 4)
    data = frame(json.dumps(header), payload)

    def shown(bench):
        """A model of such names, through every tool and every report."""
        bench.build({IN: data})
        bench.ok(*CONVERT)
        for words in (["--tensors", "--stats"], ["--json", "--tensors"], ["--files"]):
            bench.ok("q4inspect", "out.q4", *words)
        bench.ok("q4inspect", IN, "--tensors")
        bench.ok("q4verify", "out.q4", "--against", IN, "--json", "--progress", "none")
        bench.ok("q4convert", IN, "-o", "plan.q4", "--dry-run")
        bench.ok("q4export", "out.q4", "-o", "plain", "--to", "safetensors", "--progress", "none")
        left = {path.name for path in bench.work.iterdir()}
        require(left == {IN, "out.q4", "plain"}, f"a name was used as a path: {left}")

    yield shown
    for name in names:  # in an error message
        yield from bad(frame(json.dumps({name: entry("F33")}), bytes(4)), 3110)
    nan = frame(json.dumps({"\x1b[2J.q_proj.weight": entry("F32", (2,), (0, 8))}), floats(1, float("nan")))
    yield Case({IN: nan}, issue=(4101,), command=CONVERT + ("--include", "proj"))
    for name in ("", "x" * (1 << 20), "a\0b"):
        yield from bad(frame(json.dumps({name: entry()}), bytes(4)), 3108)


def like_json():
    """Right files whose header length, read as text, begins a JSON document: 0x7b is a brace, 0x20 white space."""
    for length in (0x7B, 0x7B20, 0x7B2020):
        yield accept({IN: frame(ONE + " " * (length - len(ONE)), bytes(4))}, name=f"header of {length:#x} bytes")


def s34():
    for data, issue, text in (
        (b"\x1f\x8b\x08\0" + bytes(40), 3130, "gzip"),
        (b"PK\x03\x04" + bytes(40), 3710, "zip"),
        (b"<!DOCTYPE html><html><body>404</body></html>", 3130, "HTML"),
    ):
        yield from bad(data, issue, text)


ROWS = [
    Row("S01", "empty file", lambda: bad(b"", 3101)),
    Row("S02", "1 to 7 bytes", lambda: (c for n in range(1, 8) for c in bad(b"\0" * n, 3101))),
    Row("S03", "header length 0", lambda: bad(bytes(8), 3102)),
    Row("S04", "header length wraps", s04),
    Row("S05", "header length one too many", lambda: bad(frame(ONE, length=len(ONE) + 1), 3103)),
    Row(
        "S06",
        "header length above the limit, sparse file",
        lambda: bad(Sparse(struct.pack("<Q", 100_000_001) + b"{", 1 << 31), 3104, rss=64),
    ),
    Row("S07", "1.6 M tensors in a 99 MB header", lambda: bad(s07, 3105, seconds=5)),
    Row(
        "S08",
        "1.5 M and 10 M entries over one range",
        lambda: [*bad(s08, 3105, seconds=5), Case({IN: s08_over}, issue=3104, seconds=5)],
        note="10 M entries exceed the header limit, 1.5 M the tensor limit",
    ),
    Row("S09", "not JSON; JSON cut at each byte", s09),
    Row(
        "S10",
        "array, string, number at the top",
        lambda: (c for text in ("[1]", '"x"', "7", "null") for c in bad(frame(text, bytes(4)), 3106)),
    ),
    Row(
        "S11",
        "byte order mark; leading space [A]",
        lambda: [*bad(frame(b"\xef\xbb\xbf" + ONE.encode(), bytes(4)), 3001), *good(frame("  " + ONE, bytes(4)))],
    ),
    Row(
        "S12",
        "trailing spaces [A]; trailing NUL, text",
        lambda: [
            *good(frame(ONE + "   ", bytes(4))),
            *like_json(),
            *bad(frame(ONE + "\0", bytes(4)), 3001),
            *bad(frame(ONE + "{}", bytes(4)), 3001),
        ],
    ),
    Row("S13", "invalid UTF-8, overlong, lone surrogate", s13),
    Row("S14", "duplicate tensor, also escaped", s14),
    Row(
        "S15",
        "duplicate or unknown field of an entry",
        lambda: [
            *entries((3002, 3107), '{"dtype":"U8","dtype":"U8","shape":[16],"data_offsets":[0,16]}'),
            *entries(
                3107,
                '{"dtype":"U8","shape":[16],"data_offsets":[0,16],"extra":1}',
                '{"dtype":"U8","shape":[16]}',
                "[1]",
                "null",
            ),
        ],
    ),
    Row(
        "S16",
        "unknown dtype",
        lambda: [
            *entries(
                3110,
                *('{"dtype":%s,"shape":[4],"data_offsets":[0,16]}' % t for t in ('"F33"', '"f32"', "32", "null", "[]")),
            ),
            *entries(3107, '{"shape":[4],"data_offsets":[0,16]}'),
        ],
    ),
    Row(
        "S17",
        "shape of other than unsigned integers",
        lambda: [
            *shapes(3111, "[-4]", "[4.0]", "[1e3]", '["4"]', "[true]", "[[4]]", "{}", "4"),
            *shapes(3112, "[%s]" % ",".join("1" * 9)),
        ],
    ),
    Row("S18", "dimension of 2^64", lambda: shapes((3005, 3111), "[18446744073709551616]")),
    Row(
        "S19",
        "product overflows",
        lambda: [
            *shapes(3113, "[4294967296,4294967296]", "[9223372036854775807,2]", "[281474976710656]"),
            *shapes(3113, "[2305843009213693952]", dtype="F64"),
        ],
    ),
    Row("S20", "[2, 2^63-1] over 16 bytes", lambda: shapes((3113, 3115), "[2,9223372036854775807]")),
    Row(
        "S21",
        "bad offsets",
        lambda: [
            *entries(
                3114,
                *(
                    '{"dtype":"U8","shape":[16],"data_offsets":%s}' % t
                    for t in ("[0]", "[0,8,16]", "[16,0]", "[-1,15]", "[0,16.0]", "{}", "16")
                ),
            ),
            *entries((3005, 3114), '{"dtype":"U8","shape":[16],"data_offsets":[0,18446744073709551616]}'),
        ],
    ),
    Row(
        "S22",
        "byte size differs from shape",
        lambda: entries(3115, '{"dtype":"F32","shape":[3],"data_offsets":[0,16]}', text="16.*12"),
    ),
    Row(
        "S23",
        "overlapping ranges",
        lambda: (
            c
            for second in ((2, 6), (0, 4))
            for c in bad(frame(json.dumps({"a": entry(), "b": entry(offsets=second)}), bytes(second[1])), 3116)
        ),
    ),
    Row(
        "S24",
        "hole; first range not at 0",
        lambda: (
            c
            for offsets in (((0, 4), (8, 12)), ((4, 8), (8, 12)))
            for c in bad(
                frame(json.dumps({"a": entry(offsets=offsets[0]), "b": entry(offsets=offsets[1])}), bytes(12)), 3117
            )
        ),
    ),
    Row(
        "S25",
        "trailing bytes, an appended zip",
        lambda: [*bad(ONE_FILE + b"x", 3118), *bad(ONE_FILE + b"PK\x03\x04" + bytes(30), 3118)],
    ),
    Row("S26", "payload cut, the last 64 sizes", s26),
    Row(
        "S27",
        "types of less than a byte",
        lambda: (
            c
            for t in ("F4", "F6_E2M3", "F6_E3M2")
            for c in bad(frame(json.dumps({"a": entry(t, (3,), (0, 2))}), bytes(2)), 5102, code=5)
        ),
        note="unsupported, exit code 5",
    ),
    Row("S28", "rank 0 [A], empty tensor [A], empty model", s28),
    Row(
        "S29",
        "__metadata__ of other than strings; long ones [A]",
        lambda: [
            *bad(frame('{"__metadata__":{"k":1},%s' % ONE[1:], bytes(4)), 3120),
            *bad(frame('{"__metadata__":[],%s' % ONE[1:], bytes(4)), 3120),
            *bad(frame('{"__metadata__":{"k":null},%s' % ONE[1:], bytes(4)), 3120),
            *bad(frame('{"__metadata__":null,"__metadata__":null,%s' % ONE[1:], bytes(4)), 3120),
            *good(frame('{"__metadata__":null,%s' % ONE[1:], bytes(4))),
            *good(frame('{"__metadata__":{"k":"%s"},%s' % ("x" * 65537, ONE[1:]), bytes(4))),
            *good(
                frame(
                    '{"__metadata__":{%s},%s' % (",".join('"%d":"%s"' % (i, "x" * 65000) for i in range(17)), ONE[1:]),
                    bytes(4),
                )
            ),
            # 90 MB, of which no more than some 64 KiB are in memory at a time.
            accept({IN: frame('{"__metadata__":{"k":"%s"},%s' % ("x" * 90_000_000, ONE[1:]), bytes(4))}, seconds=5),
        ],
        note="of any size under the header's limit, or null, as the reference reader has it; it is shortened, and named as left out",
    ),
    Row(
        "S30",
        "a million nested arrays",
        lambda: [
            *bad(frame('{"a":{"dtype":"F32","shape":' + "[" * 1_000_000, bytes(4)), (3003, 3111)),
            *bad(frame('{"__metadata__":{"k":' + '{"k":' * 1_000_000, bytes(4)), (3003, 3120)),
            *bad(frame("[" * 1_000_000, bytes(4)), (3003, 3106)),
        ],
    ),
    Row("S31", "names with control characters, paths, too long", s31),
    Row(
        "S32",
        "odd alignment [A]",
        lambda: good(
            tensors(
                **{
                    "a": ("U8", (1,), b"x"),
                    "b.q_proj.weight": ("F32", (1, 2), floats(1, 2)),
                    "c": ("BF16", (1,), b"\x80\x3f"),
                }
            )
        ),
    ),
    Row(
        "S33",
        "Git LFS pointer",
        lambda: bad(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 9\n" % (b"0" * 64), 3130, "Git LFS"
        ),
    ),
    Row("S34", "gzip, zip, HTML by that name", s34),
]
