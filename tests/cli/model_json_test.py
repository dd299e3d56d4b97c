#!/usr/bin/env python3
"""config.json as Python reads it: hundreds of odd texts, each converted and exported, held against Python's own json module.

    model_json_test.py TOOLS

Where json.loads() takes a text, so does q4convert, and the exported config.json has the same members, letter by letter (numbers as
they are written, lone surrogates, a key that comes twice, the order), but for those that the export sets. The file that
`--to safetensors` writes, and every other companion, is the same bytes. Where json.loads() refuses, so does q4convert, with exit
code 3, the file's name and a place, and nothing is left behind.
"""

import json
import pathlib
import random
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check  # noqa: E402  (the path above)
from safetensors_bytes import tensor_file  # noqa: E402
from tools import Tools  # noqa: E402

SET = ("quantization_config", "dtype")  # what an export sets, "dtype" only where the text has neither it nor "torch_dtype"
DIGITS = getattr(sys, "get_int_max_str_digits", lambda: 0)()  # 4300 since Python 3.10.7; older ones have no limit

VALUES = """0 -0 1 -1 1.0 0.1 1e-05 1E5 1.5e+300 1e400 -1e400 1e-400 0.30000000000000004 -0.0 100000000000000000000.0
 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615 18446744073709551616
 123456789012345678901234567890123456789 Infinity -Infinity NaN true false null "" "\\ud800" "\\udc00x" "\\ud83d\\ude00"
 "\\ud83d\\ud83d\\ude00" "\\u0000" "\\/" "\\b\\f\\n\\r\\t\\"\\\\" "\x7f" "\u00e9" "\u2028" "\U0001f600" "}]," [] {} [[]] [{}] [1,[2,[3]]]
 {"a":{"b":{}}} {"":1} {"x":1,"x":2} {"\\u0078":1,"x":[2]} {"quantization_config":{"quant_method":7}}""".split()
VALUES += ["9" * 4300, "-" + "9" * 4300, "0." + "1" * 5000, "1" * 5000 + ".5", "[" * 500 + "]" * 500, '[ 1 ,\t2\r\n, 3 ]']

REFUSED = """{'a':1} {a:1} {"a":1,} {"a":[1,]} {"a":[,]} {"a":[1,,2]} {"a":} {"a"} {"a":1 {"a":1}} {"a":1}{"b":2} {"a":01} {"a":-01} {"a":1.}
 {"a":.5} {"a":+1} {"a":0x10} {"a":1_0} {"a":1e} {"a":1e+} {"a":-} {"a":--1} {"a":nan} {"a":inf} {"a":-NaN} {"a":-Inf} {"a":Infinit}
 {"a":NaNx} {"a":True} {"a":None} {"a":undefined} {"a":"\\x41"} {"a":"\\u12"} {"a":"\\u00g0"} {"a":"\\U00000041"} {"a":"\\'"} {"a":'b'}
 {"a":"b {"a":[1} {"a":{"b":1]} {1:2} {null:1} {"a":1}, ;{"a":1} [ [1""".split()
REFUSED += [
    "", " ", "\n", "// c\n{}", "{} // c", "/* c */ {}", "{} # c", '{"a":1\n"b":2}', '{"a" 1}', '{"a":[1 2]}', '{"a":"x\ty"}', '{"a":"x\ny"}',
    '{"a":"\x00"}', '{"a":1}\x00', "\ufeff{}", '{"a":1}\u00a0', "\u2003{}", '{"a":\u0661}', '\x0c{}', '{"a":"\x1f"}',
    b'{"a":"\xff"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xf4\x90\x80\x80"}', b'{"a":"\xe2\x82"}', b'{"\xff":1}',
    b"\xff\xfe{\x00}\x00", b'{"a":1}\xff',
]  # fmt: skip
if DIGITS:
    REFUSED += ['{"a":%s}' % ("9" * (DIGITS + 1)), '{"a":[-%s]}' % ("9" * 5000)]


def pairs(text):
    """The document with every letter that counts: objects as lists of pairs, numbers as they are written."""
    return json.loads(text, object_pairs_hook=lambda p: p, parse_float=str, parse_int=str, parse_constant=str)


def python_reads(data):
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict)


class Corpus(Tools):
    def __init__(self, folder, work):
        super().__init__(folder, work)
        self.accepted = self.refused = 0
        (work / "m").mkdir()
        weights = {"a.q_proj.weight": ("F32", (2, 32), bytes(256)), "a.norm.weight": ("F32", (2,), bytes(8))}
        (work / "m/model.safetensors").write_bytes(tensor_file(weights, {"format": "pt"}))

    def judge(self, text):
        data = text if isinstance(text, bytes) else text.encode("utf-8")
        (self.work / "m/config.json").write_bytes(data)
        if python_reads(data):
            self.accept(data)
        else:
            self.refuse(data)

    def accept(self, data):
        self.accepted += 1
        text = data.decode("utf-8")
        (self.work / "m/generation_config.json").write_bytes(data)
        self.run("q4convert", "m", "-o", "m.q4", "--force", "-q", "--device", "cpu", "--threads", "1")
        self.run("q4export", "m.q4", "--to", "bnb", "-o", "b", "--force", "-q")
        exported = (self.work / "b/config.json").read_bytes().decode("utf-8")
        want = [pair for pair in pairs(text) if pair[0] != "quantization_config"]
        named = {key for key, _ in want}
        new = [pair for pair in pairs(exported) if pair[0] in SET and pair[0] not in named]
        got = [pair for pair in pairs(exported) if pair not in new]
        check(got == want, "every other member is kept letter by letter", text[:300], exported[:600])
        added = {"quantization_config"} | ({"dtype"} if not named & {"dtype", "torch_dtype"} else set())
        check({key for key, _ in new} == added and len(new) == len(added), "the export sets its own", new)
        check(json.loads(exported)["quantization_config"]["quant_method"] == "bitsandbytes", "the export's own is read")
        check((self.work / "b/generation_config.json").read_bytes() == data, "a companion is kept byte for byte")
        if b"quantization_config" not in data:
            self.run("q4export", "m.q4", "--to", "safetensors", "-o", "s", "--force", "-q")
            check((self.work / "s/config.json").read_bytes() == data, "nothing to change: the same bytes")

    def refuse(self, data):
        self.refused += 1
        done = self.run("q4convert", "m", "-o", "none.q4", "-q", "--device", "cpu", code=3)
        lines = done.stderr.splitlines()
        check(len(lines) == 1 and "config.json: " in lines[0], "one message, which names the file", data[:200], done.stderr)
        check(": offset " in lines[0] or "expected an object" in lines[0], "and the place", data[:200], done.stderr)
        check(not list(self.work.glob("none.q4*")), "nothing is left behind")


def mutated(rng):
    """A text of odd values with a few letters changed: mostly refused, by both."""
    members = ", ".join(f'"{rng.choice("abcdef")}": {rng.choice(VALUES[:44])}' for _ in range(rng.randint(1, 4)))
    text = list("{" + members + "}")
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(text))
        change = rng.choice(("drop", "twice", "put"))
        text[at] = {"drop": "", "twice": text[at] * 2, "put": rng.choice(' {}[]",:\\eE+-.0n\x01\t\u00e9')}[change]
    return "".join(text)


def main():
    with tempfile.TemporaryDirectory() as work:
        corpus = Corpus(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(work))
        # Each value as a member, some at a time and never two of them with an unclear fault.
        for first in range(0, len(VALUES), 4):
            members = [f'"m{i}": {value}' for i, value in enumerate(VALUES[first : first + 4])]
            corpus.judge("{" + ", ".join(members) + "}")
            corpus.judge("{\n  " + ",\n  ".join(reversed(members)) + "\n}\n")
        own = '"quantization_config": {"quant_method": "mine"}'
        for text in ("{}", " {\n}\n", "{\r\n\t\"b\": 1\r\n}", '{"b":1,"a":2}', "{%s}" % own.replace("mine", "bitsandbytes"), '\t{"a" :1 , "z"\n:2} \n\n',
                     '{"dtype": "float16", "a": 1}', '{"torch_dtype": null}', '{"a": 1, "a": 2, "dtype": 1, "dtype": "x"}'):  # fmt: skip
            corpus.judge(text)
        for text in REFUSED:
            corpus.judge(text)
        rng = random.Random(13)
        for _ in range(150):
            corpus.judge(mutated(rng))
    check(corpus.accepted >= 60 and corpus.refused >= 150, "both kinds are there", corpus.accepted, corpus.refused)
    print(f"model_json: {corpus.accepted} texts that Python reads and {corpus.refused} that it refuses, no disagreement")


main()
