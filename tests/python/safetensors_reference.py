"""q4's reader of safetensors headers against the reference implementation: hundreds of headers, right, odd and wrong.

    python safetensors_reference.py --bin DIR

Both must take and refuse the same files, but for DISAGREEMENTS: what the reference takes although it has more than one meaning, or
although q4 has no place for it. Each of those must be met, so that the table cannot outlive its reasons. Nothing that the reference
refuses may be taken. What both take they must see alike: names, dtypes and shapes. Prints a table; exits with 1 on any difference.
"""

import argparse
import collections
import itertools
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile

import safetensors

# Issue of q4 -> why it refuses what the reference takes.
DISAGREEMENTS = {
    3107: "an unknown member of an entry, or an entry that is a list: a later version might mean something by it",
    3108: "an empty name, one of more than 4096 bytes, one with NUL: no other reader can hold them",
    3109: "a name twice: the reference takes the last, others the first",
    3112: "more than 8 dimensions",
    3113: "2^48 elements or more in the dimensions that are not 0",
    5102: "types of less than a byte and the FNUZ variants (exit code 5)",
}
TYPES = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6,
    "F6_E3M2": 6,
}  # fmt: skip
ONE = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


def entry(dtype="F32", shape="[1]", offsets="[0,4]", more=""):
    return '"a":{"dtype":%s,"shape":%s,"data_offsets":%s%s}' % (json.dumps(dtype), shape, offsets, more)


def headers():
    """Texts of headers; every one is tried with as many bytes of payload as its last offset says, and some with others."""
    # __metadata__
    for value in (
        "null", "{}", '{"k":"v"}', '{"":""}', '{"k":"1","k":"2"}', '{"k":"\\u0000"}', '{"k":"\\ud83d\\ude00"}', '{"k":"\u00e9"}',
        '{"modelspec.thumbnail":"%s"}' % ("A" * 300_000), '{"%s":"v"}' % ("k" * 100_000), '{"k":"%s"}' % ("\u20ac" * 50_000),
        "{%s}" % ",".join(f'"{i}":"{"x" * 1000}"' for i in range(2000)),
        "1", "1.5", "true", '"x"', "[]", "[[]]", '["k","v"]', '{"k":1}', '{"k":null}', '{"k":true}', '{"k":1.5}', '{"k":{}}', '{"k":[]}',
        '{"k":"\\ud800"}', '{"k":"\\x"}', '{"k":"a\tb"}', '{"k":"v",}', '{"k"}', "{k:1}", "NaN",
    ):  # fmt: skip
        yield '{"__metadata__":%s,%s}' % (value, ONE)
        yield '{%s,"__metadata__":%s}' % (ONE, value)
    yield '{"__metadata__":{},"__metadata__":{},%s}' % ONE
    yield '{"__metadata__":null,"__metadata__":{"a":"b"},%s}' % ONE
    yield '{"\\u005f_metadata__":{"k":"v"},%s}' % ONE
    yield '{"__Metadata__":{"k":"v"},%s}' % ONE
    # White space, and what stands around the document.
    for before, after in itertools.product(("", " ", "\n", "\t\r\n", "\ufeff", "x", "\0", "\u00a0"), ("", " ", "      ", "\n", "\0", "x", "{}", "//", "\u00a0")):
        yield before + "{" + ONE + "}" + after
    for document in ("", "{", "}", "[]", "null", "1", '"a"', "{}", "{ }", "[{}]", "{%s" % ONE, "{%s,}" % ONE, "{,%s}" % ONE, "{%s;}" % ONE,
                     '{%s "b":1}' % ONE, "{'a':1}", '{"a":1}', '{"a":null}', '{"a":[]}', '{"a":{}}', '{"a":"F32"}', "[" * 200, '{"a":' * 200):  # fmt: skip
        yield document
    # dtype, with every size.
    for dtype, bits in TYPES.items():
        for elements in (1, 2, 3, 4, 8):
            yield "{%s}" % entry(dtype, f"[{elements}]", f"[0,{max(1, elements * bits // 8)}]")
            yield "{%s}" % entry(dtype, f"[{elements}]", f"[0,{elements * bits // 8 + 1}]")
    for dtype in ("F33", "f32", "F128", "U128", "C128", "I4", "U4", "F8", "", "float32", None, 32, ["F32"], {}):
        yield "{%s}" % entry(dtype)
    # shape
    for shape in ("[]", "[0]", "[1,1]", "[1,1,1,1,1,1,1,1]", "[1,1,1,1,1,1,1,1,1]", "[-1]", "[-0]", "[1.0]", "[1e0]", "[true]", '["1"]', "[null]", "[[1]]",
                  "{}", "1", "null", "[1,]", "[01]", "[18446744073709551615]", "[18446744073709551616]", "[4294967296,4294967296]", "[0,18446744073709551615]",
                  "[2,9223372036854775808]", "[281474976710656]"):  # fmt: skip
        yield "{%s}" % entry(shape=shape)
        yield "{%s}" % entry(shape=shape, offsets="[0,0]")
    # data_offsets
    for offsets in ("[]", "[0]", "[0,4,4]", "[4,0]", "[4,4]", "[4,8]", "[-0,4]", "[0,4.0]", "[0,-4]", '["0","4"]', "[[0,4]]", "{}", "null", "4", "[0,5]", "[0,3]", "[1,5]",
                    "[0,18446744073709551615]", "[18446744073709551611,18446744073709551615]", "[0,18446744073709551616]"):  # fmt: skip
        yield "{%s}" % entry(offsets=offsets)
    # members and names
    for more in (',"x":1', ',"x":null', ',"dtype":"F32"', ',"shape":[1]', ',"data_offsets":[0,4]', ',"":{}', ',"x":[[[]]]', ',"Dtype":"F32"'):
        yield "{%s}" % entry(more=more)
    members = ['"dtype":"F32"', '"shape":[1]', '"data_offsets":[0,4]']
    for some in itertools.chain.from_iterable(itertools.permutations(members, n) for n in range(4)):
        yield '{"a":{%s}}' % ",".join(some)
    yield '{"a":["F32",[1],[0,4]]}'
    for name in ("", " ", ".", "..", "/", "a/b", "../a", "\\u0000", "a\\u0000b", "\\u001b[2J", '\\"', "\\\\", "\\n", "\u202e", "\U0001f600", "\\ud800", "\\ud83d\\ude00", "n" * 4096, "n" * 4097,
                 "n" * 200_000, "\u20ac" * 1365, "\u20ac" * 1366, "__metadata_", "a\tb", "a\nb"):  # fmt: skip
        yield '{"%s":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' % name
    # two tensors
    for second, a, b in itertools.product(("a", "\\u0061", "b"), ("[0,4]", "[4,8]", "[0,8]", "[0,0]"), ("[0,4]", "[4,8]", "[8,12]", "[2,6]", "[4,4]")):
        shape = {"[0,8]": "[2]", "[0,0]": "[0]"}.get(a, "[1]")
        yield '{"a":{"dtype":"F32","shape":%s,"data_offsets":%s},"%s":{"dtype":"F32","shape":%s,"data_offsets":%s}}' % (
            shape, a, second, "[0]" if b == "[4,4]" else "[1]", b)  # fmt: skip


def mutated(rng):
    text = list('{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}}')
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(text))
        text[at] = rng.choice(("", text[at] * 2, rng.choice(' {}[]",:\\0189.-eabn\x01\u00e9')))
    return "".join(text)


def files():
    """(what it is, bytes)."""
    rng = random.Random(24)
    for text in itertools.chain(headers(), (mutated(rng) for _ in range(200))):
        ends = [int(end) for end in re.findall(r'data_offsets":\s*\[\s*\d+\s*,\s*(\d+)', text)]
        size = max([end for end in ends if end < 10_000], default=0)
        encoded = text.encode("utf-8", "surrogatepass")
        yield text, struct.pack("<Q", len(encoded)) + encoded + bytes(size)
    good = ("{%s}" % ONE).encode()
    for length, payload in ((len(good), 3), (len(good), 5), (len(good), 0), (len(good) - 1, 4), (len(good) + 1, 4), (0, 4), (2**63, 4), (2**64 - 1, 4), (100_000_001, 4)):
        yield f"length {length}, {payload} bytes", struct.pack("<Q", length) + good + bytes(payload)
    for size in range(9):
        yield f"{size} bytes", bytes(size)
    for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
        for text in (b'{"%s":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b'{"__metadata__":{"k":"%s"},' + ONE.encode() + b"}",
                     b'{"__metadata__":{"k":"' + b"v" * 300_000 + b'%s"},' + ONE.encode() + b"}"):  # fmt: skip
            encoded = text.replace(b"%s", bad)
            yield repr(encoded[:80]), struct.pack("<Q", len(encoded)) + encoded + bytes(4)


def reference(data):
    """The tensors that the reference sees, or None."""
    try:
        return {name: (value["dtype"], list(value["shape"])) for name, value in safetensors.deserialize(data)}
    except safetensors.SafetensorError:
        return None


def ours(tools, path):
    """The tensors that q4 sees, or the number of its issue."""
    done = subprocess.run([tools / "q4inspect", path, "--tensors", "--json"], capture_output=True, check=False)
    if done.returncode == 0:
        # 8-bit floats are shown as what they are read as, and as they are stored.
        return {t["name"]: (t.get("stored", t)["dtype"], t["shape"]) for t in json.loads(done.stdout)["tensors"]}
    if done.returncode not in (3, 5):
        sys.exit(f"q4inspect ends with {done.returncode}: {done.stderr.decode()}")
    return int(re.search(rb"\[Q4-(\d{4})\]", done.stderr).group(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    tools = parser.parse_args().bin
    counts, met, wrong = collections.Counter(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as work:
        path = pathlib.Path(work) / "x.safetensors"
        for what, data in files():
            path.write_bytes(data)
            theirs, own = reference(data), ours(tools, path)
            if theirs is None:
                counts["both refuse"] += 1
                if isinstance(own, dict):
                    wrong.append(f"only q4 takes {what[:200]}")
            elif isinstance(own, dict):
                counts["both take"] += 1
                if own != theirs:
                    wrong.append(f"q4 sees {own}, the reference {theirs}: {what[:200]}")
            elif own in DISAGREEMENTS:
                met[own] += 1
            else:
                wrong.append(f"q4 refuses (Q4-{own}) {what[:200]}")
    for issue, reason in DISAGREEMENTS.items():
        print(f"only the reference takes {met[issue]:4} files, Q4-{issue}: {reason}")
        if not met[issue]:
            wrong.append(f"no file meets Q4-{issue}; remove it from the table")
    print("\n".join(wrong))
    print(f"safetensors_reference: {safetensors.__version__}: {dict(counts)}, {sum(met.values())} listed disagreements, {len(wrong)} others")
    sys.exit(1 if wrong else 0)


main()
