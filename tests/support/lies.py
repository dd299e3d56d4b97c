"""Lies about a container, one for each field that docs/format.md knows, and who must notice each.

A lie is told with every digest right (forger.py). Who notices it first, in this order:

  reader    whoever opens the container: q4inspect
  alone     q4verify, from the container itself
  against   q4verify --against the source
  nobody    no tool, for the reason given: the field binds nothing that a reader uses

`of(container)` gives the lies of a container made by q4convert from the source that `SOURCE` describes: `(table, field, what,
notices, data)`. `FIELDS` reads the tables of docs/format.md, so that a field without a lie is found.
"""

import pathlib
import re
import struct

from forger import STATS_FIELDS, Forged, canonical

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NESTED, PLAIN, KEPT = b"model.layers.0.mlp.up_proj.weight", b"model.layers.1.mlp.up_proj.weight", b"model.norm.weight"
READER, ALONE, AGAINST, NOBODY = "reader", "alone", "against", "nobody"

# Headings of docs/format.md over the tables of fields.
TABLES = {
    "header": "## 2. Header",
    "section": "## 5. Index",
    "tensor": "**Section 1, Tensors.**",
    "file": "**Section 4, Files.**",
    "chunk": "**Section 5, Chunks.**",
    "stats": "**Section 6, Stats.**",
    "footer": "## 6. Footer",
    "provenance": "## 8. Provenance",
    "options": "**Options.**",
}


def fields():
    """{table: [field]} as docs/format.md lists them."""
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    found = {}
    for table, heading in TABLES.items():
        rows, inside = [], False
        for line in page[page.index(heading) :].splitlines():
            if line.startswith("|"):
                inside = True
                rows.append([cell.strip() for cell in line.strip("|").split("|")])
            elif inside:
                break
        column = 0 if table in ("provenance", "options") else 2
        found[table] = [row[column].strip("`") for row in rows[2:]]
    return found


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def with_code(codes, elem, code):
    shift = 4 if elem % 2 == 0 else 0
    byte = codes[elem // 2] & ~(15 << shift) | code << shift
    return codes[: elem // 2] + bytes([byte]) + codes[elem // 2 + 1 :]


def code_at(codes, elem):
    return codes[elem // 2] >> (4 if elem % 2 == 0 else 0) & 15


class Lies:
    def __init__(self, data):
        self.right = Forged(data)
        self.number = {t.name: i for i, t in enumerate(sorted(self.right.tensors, key=lambda t: t.name))}
        self.told = []

    def tell(self, table, field, what, notices, forged):
        data = forged.write() if isinstance(forged, Forged) else forged
        self.told.append((table, field, what, notices, data))

    def field(self, table, record, field, value, notices=READER, what=None):
        self.tell(table, field, what or f"{value!r:.40}", notices, self.right.copy().lie(table, record, field, value))

    def change(self, table, field, what, notices, edit):
        forged = self.right.copy()
        edit(forged)
        self.tell(table, field, what, notices, forged)

    def document(self, field, what, notices, edit, table="provenance"):
        def change(forged):
            document = forged.document
            document = edit(document) or document
            forged.document = document

        self.change(table, field, what, notices, change)

    # ---- by table

    def header(self):
        self.field("header", 0, "Magic", b"\x89Q4G\r\n\x1a\n")
        self.field("header", 0, "Version", 2)
        self.field("header", 0, "Header_Bytes", 8192)
        self.field("header", 0, "Required_Features", 1)
        self.field("header", 0, "Optional_Features", 1, NOBODY, "a bit that a reader may ignore")
        self.field("header", 0, "File_Id", bytes(32), NOBODY, "a seed of digests")
        self.field("header", 0, "Shard", 1)
        self.field("header", 0, "Shard_Count", 2, ALONE, "a part of a model that was not cut")
        self.field("header", 0, "reserved", b"\1")
        data = self.right.write()
        self.tell("header", "Header_XXH3", "a flipped bit", READER, flipped(data, 4088))

    def index(self):
        for record in (0, 6):
            self.field("section", record, "Kind", 9)
            self.field("section", record, "Flags", 2)
            self.field("section", record, "Offset", 8)
            self.field("section", record, "Bytes", 1)
        self.field("index", 0, "Section_Count", 8)
        self.field("index", 0, "reserved", 1)

    def tensor(self):
        at, plain = self.number[NESTED], self.number[PLAIN]
        self.field("tensor", at, "First_Chunk", 0)
        self.field("tensor", at, "Name_Bytes", 1)
        self.field("tensor", at, "Block_Size", 32)
        self.field("tensor", at, "DType", 9, AGAINST, "F16 for BF16")
        self.field("tensor", at, "DType", 2)
        self.field("tensor", at, "Rank", 1)
        self.field("tensor", at, "Scheme", 2, ALONE, "FP4 for NF4")
        self.field("tensor", at, "Scheme", 3)
        self.field("tensor", at, "Encoder", 0, ALONE, "codes of nobody")
        self.field("tensor", at, "Encoder", 2, ALONE, "an encoder that was not asked for")
        self.field("tensor", at, "Encoder", 3, ALONE, "one that weighs errors, by nothing on record")
        self.field("tensor", at, "Encoder", 5)
        self.field("tensor", at, "Flags", 2, READER, "not nested")
        self.field("tensor", plain, "Flags", 3, READER, "nested")
        self.field("tensor", at, "Flags", 7)
        self.change("tensor", "Flags", "no statistics", ALONE, lambda f: setattr(f.tensor(NESTED), "stats", None))
        offset = self.right.tensor(NESTED).fields["Nested_Offset"]
        self.field("tensor", at, "Nested_Offset", offset * 1.5, ALONE, "half as much again")
        self.field("tensor", at, "Nested_Offset", float("inf"))
        self.field("tensor", plain, "Nested_Offset", 1.0)
        self.field("tensor", at, "reserved", b"\1\0\0")
        self.field("tensor", at, "reserved 2", 1)

        def reshape(shape):
            return lambda f: setattr(f.tensor(NESTED), "shape", shape)

        rows, columns = self.right.tensor(NESTED).shape
        self.change("dims", "dimension", "transposed", AGAINST, reshape([columns, rows]))
        self.change("dims", "dimension", "flat, which the policy keeps", ALONE, reshape([rows * columns]))
        self.change("dims", "dimension", "another size", READER, reshape([rows + 1, columns]))

        def rename(name):
            return lambda f: setattr(f.tensor(NESTED), "name", name)

        self.change("names", "tensor", "another one", AGAINST, rename(b"model.layers.0.mlp.gate_proj.weight"))
        self.change("names", "tensor", "a head, which the policy keeps", ALONE, rename(b"lm_head.weight"))
        self.change("names", "tensor", "not UTF-8", READER, rename(b"model.\xff"))
        self.change("names", "tensor", "with NUL", READER, rename(b"model.\0"))

    def file(self):
        self.field("file", 0, "Raw_Bytes", 1 << 40)
        self.field("file", 0, "Name_Bytes", 1)
        self.field("file", 0, "reserved", 1)
        self.change("names", "file", "another one", AGAINST, lambda f: f.files[0].__setitem__(0, b"generation_config.json"))
        self.change("names", "file", "a path", READER, lambda f: f.files[0].__setitem__(0, b"../config.json"))

        def content(forged):
            forged.files[0][1] = forged.files[0][1].replace(b"llama", b"llamb")

        self.change("payload", "file", "another model_type", AGAINST, content)

    def chunk(self):
        first = self.right.tensor(NESTED).fields["First_Chunk"]
        self.field("chunk", first, "Offset", 4096)
        self.field("chunk", first, "Stored_Bytes", 1)
        self.field("chunk", first, "Raw_Bytes", 1)
        self.field("chunk", first, "Codec", 1)
        self.field("chunk", first, "Planes", 2)
        self.field("chunk", first, "reserved", b"\1" + bytes(5))
        self.field("chunk", first, "Chunk_XXH3", 1, ALONE)
        self.field("chunk", first, "Chunk_SHA256", bytes(32), ALONE)

    def stats(self):
        """Each by a little, so that nothing else of the record contradicts it."""
        for name in (NESTED, PLAIN):
            at, right = self.number[name], self.right.tensor(name).stats
            for field in STATS_FIELDS:
                notices = self.STATS_NOTICED.get(field.split("[")[0], AGAINST)
                if field == "Clipped" and name == PLAIN:
                    notices = ALONE  # absmax with fp32 scales clips nothing
                value = right[field] + 1 if isinstance(right[field], int) else right[field] * (1 + 1e-12)
                self.field("stats", at, field, value, notices, "a little more")
                if isinstance(right[field], float):
                    self.field("stats", at, field, float("nan"), ALONE)
                    self.field("stats", at, field, float("inf"), ALONE)
            # 160 dB, and all that goes with it.
            def flatter(forged, name=name):
                stats = forged.tensor(name).stats
                for field in ("Sum_E", "Sum_Abs_E", "Max_Abs_Err"):
                    stats[field] *= 1e-8
                for field in ("Sum_E2", "Worst_Block_E2"):
                    stats[field] *= 1e-16

            self.change("stats", "Sum_E2", "160 dB", ALONE, flatter)

            # Two codes that change places in the histogram.
            def exchanged(forged, name=name):
                stats = forged.tensor(name).stats
                stats["Hist[2]"], stats["Hist[3]"] = stats["Hist[2]"] + 1, stats["Hist[3]"] - 1

            self.change("stats", "Hist", "two codes exchanged", ALONE, exchanged)

    # By a little; what is not listed follows from the source alone.
    STATS_NOTICED = {"Count": ALONE, "Hist": ALONE, "Zero_Blocks": ALONE, "Tiny_Blocks": ALONE, "Overflow": ALONE}

    def payload(self):
        for name in (NESTED, PLAIN):

            def one_code(forged, name=name):
                tensor = forged.tensor(name)
                tensor.parts[0] = with_code(tensor.parts[0], 40, (code_at(tensor.parts[0], 40) + 1) % 16)

            self.change("payload", "Codes", "one code", ALONE, one_code)

            def exchanged(forged, name=name):
                tensor = forged.tensor(name)
                codes = tensor.parts[0]
                a = 3
                b = next(i for i in range(4, 30) if code_at(codes, i) != code_at(codes, a))
                first, second = code_at(codes, a), code_at(codes, b)
                tensor.parts[0] = with_code(with_code(codes, a, second), b, first)

            self.change("payload", "Codes", "two codes of a block exchanged", AGAINST, exchanged)

        def scale(factor):
            def change(forged):
                tensor = forged.tensor(PLAIN)
                scales = tensor.scales()
                scales[1] = factor if factor in (0.0, 3e38) else scales[1] * factor
                tensor.set_scales(scales)

            return change

        for factor in (0.0, 3e38, 1.01):
            self.change("payload", "Scales", f"{factor}", ALONE, scale(factor))
        self.change("payload", "Scales", "negative", ALONE, scale(-1.0))
        self.change("payload", "Scales", "nan", ALONE, scale(float("nan")))

        def part(number, edit):
            def change(forged):
                tensor = forged.tensor(NESTED)
                tensor.parts[number] = edit(tensor.parts[number])

            return change

        self.change("payload", "Scale_Codes", "one code", ALONE, part(1, lambda b: bytes([b[0] ^ 64]) + b[1:]))
        twice = part(2, lambda b: struct.pack("<f", 2 * struct.unpack("<f", b[:4])[0]) + b[4:])
        self.change("payload", "Scales2", "twice", ALONE, twice)

        def kept(forged):
            tensor = forged.tensor(KEPT)
            tensor.parts[0] = flipped(tensor.parts[0], 2)

        self.change("payload", "Data", "one bit", AGAINST, kept)

    def provenance(self):
        tell = self.document

        def put(key, value, *path):
            def edit(document):
                at = document
                for step in path:
                    at = at[step]
                at[key] = value

            return edit

        tell("schema", "one to come", ALONE, put("schema", 2))
        tell("schema", "the one that is not written", ALONE, put("schema", 1))
        tell("numerics", "another arithmetic", ALONE, put("numerics", "q4n-2"))
        tell("numerics", "no text", ALONE, put("numerics", 1))
        tell("options", "none", AGAINST, put("options", {}))
        tell("options", "one is missing", ALONE, lambda d: d["options"].pop("recipe") and None)
        tell("options", "one that is unknown", ALONE, put("zeal", 1, "options"))
        tell("tool", "another name", NOBODY, put("name", "q4forge", "tool"))
        tell("tool", "another version", NOBODY, put("version", "9.9", "tool"))
        tell("tool", "no version", ALONE, lambda d: d["tool"].pop("version") and None)
        tell("source", "no files", AGAINST, put("files", [], "source"))
        tell("source", "another format", AGAINST, put("format", "safetensors-sharded", "source"))
        tell("source", "another size", AGAINST, put("size", 1, "source", "files", 0))
        tell("source", "another name", AGAINST, put("name", "other.safetensors", "source", "files", 0))
        tell("source", "another digest", AGAINST, put("sha256", "0" * 64, "source", "files", 0))
        tell("source", "no digest", ALONE, lambda d: d["source"]["files"][0].pop("sha256") and None)
        tell("source", "two digests", ALONE, put("xxh3", "0" * 16, "source", "files", 0))
        tell("source", "a path", ALONE, put("name", "../model.safetensors", "source", "files", 0))
        tell("source", "a file twice", ALONE, lambda d: d["source"]["files"].append(d["source"]["files"][0]))
        entry = {"name": "modeling.py", "reason": "code", "warning": True}
        tell("left_out", "something that was not there", NOBODY, put("left_out", [entry]))
        tell("left_out", "nothing, written down", ALONE, put("left_out", []))
        tell("left_out", "no warning", ALONE, put("left_out", [{"name": "a", "reason": "b"}]))
        tell("bitsandbytes", "of weights that were not taken over", ALONE, put("bitsandbytes", {"storage": "BF16"}))
        tell("bitsandbytes", "nothing, written down", ALONE, put("bitsandbytes", {}))
        tell("bitsandbytes", "a table of another size", ALONE, put("bitsandbytes", {"nf4_map": "00"}))
        tell("bitsandbytes", "an index that says nothing", ALONE, put("bitsandbytes", {"index": {}}))
        tell("bitsandbytes", "an index in words", ALONE, put("bitsandbytes", {"index": {"total_size": "1"}}))
        tell("bitsandbytes", "no files, written down", ALONE, put("bitsandbytes", {"files": []}))
        for run in ({"file": 0}, {"file": 0, "tensors": -1}, {"file": 0, "tensors": 1, "name": "a"}, {"file": True, "tensors": 1}, 1):
            tell("bitsandbytes", f"tensors of a file as {run}", ALONE, put("bitsandbytes", {"files": [run]}))
        record = {"name": "a", "size": 1, "xxh3": "0" * 16}
        for field, right, wrong in (
            ("parent", {"root": "ab" * 32}, {"root": "AB" * 32}),
            ("plan", "ab" * 32, "ab"),
        ):
            tell(field, "a statement that nothing here can check", NOBODY, put(field, right))
            tell(field, "in another form", ALONE, put(field, wrong))
        tell("calibration", "one that no encoder uses", ALONE, put("calibration", {"files": [record], "tokens": 5}))
        tell("calibration", "in another form", ALONE, put("calibration", {"files": [record]}))
        # In its right form it makes q4verify ask for the adapter.
        tell("adapter", "in another form", ALONE, put("adapter", {"files": [record, record]}))
        self.change("provenance", "(text)", "white space", ALONE, lambda f: setattr(f, "provenance", f.provenance + b"\n"))
        for text in (b"", b"[]", b"{}", b"null", b"\xff", b'{"a":1,"a":1}'):
            # What is not UTF-8 is refused at once.
            notices = READER if text == b"\xff" else ALONE
            self.change("provenance", "(text)", repr(text), notices, lambda f, t=text: setattr(f, "provenance", t))

        def option(name, what, notices, value):
            tell(name, what, notices, put(name, value, "options"), table="options")

        option("block_size", "128", ALONE, 128)
        option("block_size", "65", ALONE, 65)
        option("compress", "allowed, and never needed", NOBODY, "zstd:3")
        option("compress", "no such way", ALONE, "lzma")
        option("double_quant", "false", ALONE, False)
        option("encoder", "mse", ALONE, "mse")
        option("effort", "where no encoder searches", NOBODY, 2)
        option("effort", "4", ALONE, 4)
        option("encoder", "none", ALONE, "none")
        option("keep_dtype", "F32", ALONE, "F32")
        option("keep_dtype", "I8", ALONE, "I8")
        option("on_nonfinite", "what was never needed", NOBODY, "keep")
        option("on_nonfinite", "ignore", ALONE, "ignore")
        option("patterns", "a tensor that is kept", ALONE, [{"include": "norm"}])
        option("patterns", "a tensor that is quantized", ALONE, [{"exclude": "layers.0"}])
        option("patterns", "no pattern", ALONE, [{"include": "("}])
        option("patterns", "one that changes nothing", NOBODY, [{"exclude": "zzz"}])
        option("recipe", "none", ALONE, None)
        option("recipe", "another", ALONE, '{"rules":[{"block_size":32,"match":"layers"}]}')
        option("recipe", "no recipe", ALONE, "{}")
        option("recipe", "white space", ALONE, self.right.document["options"]["recipe"] + " ")
        option("shard_by", "source files, without a plan", ALONE, "source")
        option("shard_by", "tensors", ALONE, "tensors")
        option("shard_size", "one that would cut", ALONE, 500)
        option("shard_size", "one that would not", NOBODY, 1 << 40)
        option("type", "fp4", ALONE, "fp4")

    def footer(self):
        self.field("footer", 0, "Footer_Magic", b"Q4FOOT\r\r")
        self.field("footer", 0, "Index_Offset", 4096)
        self.field("footer", 0, "Index_Bytes", 8)
        self.field("footer", 0, "File_Bytes", 1)
        self.field("footer", 0, "Index_XXH3", 1)
        self.field("footer", 0, "Root", bytes(32))
        self.field("footer", 0, "reserved", b"\1" + bytes(47))
        data = self.right.write()
        self.tell("footer", "Footer_XXH3", "a flipped bit", READER, flipped(data, len(data) - 8))

    # ---- whole forgeries: several fields that agree with each other

    def forgeries(self, others):
        """`others`: {name of a treatment: a container of the same source that was converted so}."""

        def random_codes(tensor):
            tensor.parts[0] = bytes((i * 167 + 31) % 256 for i in range(len(tensor.parts[0]) - 1)) + tensor.parts[0][-1:]

        def claim(encoder, record, edit, stats=False):
            def change(forged):
                for tensor in forged.tensors:
                    if not tensor.fields["Scheme"]:
                        continue
                    tensor.fields["Encoder"] = encoder
                    edit(tensor)
                    if not stats:
                        tensor.stats = None
                if record:
                    document = forged.document
                    document["options"]["encoder"] = record
                    forged.document = document

            return change

        tell = self.change
        for encoder in (0, 2):
            tell("forgery", f"random codes, encoder {encoder}", "L01", ALONE, claim(encoder, None, random_codes))
        # The record agrees, and mse may have any scale: only the source tells.
        tell("forgery", "random codes, mse on record", "L02", ALONE, claim(2, "mse", random_codes))

        def few_codes(tensor):
            for at in (1, 5, 9):
                tensor.parts[0] = with_code(tensor.parts[0], at, (code_at(tensor.parts[0], at) + 4) % 16)

        tell("forgery", "a few codes, mse on record", "L02", ALONE, claim(2, "mse", few_codes))
        for treatment, data in others.items():
            other = Forged(data)

            def exchange(forged, other=other):
                at = next(i for i, t in enumerate(forged.tensors) if t.name == NESTED)
                forged.tensors[at] = other.tensor(NESTED)

            tell("forgery", f"one tensor as {treatment}, statistics right", "L03", ALONE, exchange)

            def exchange_unrecorded(forged, exchange=exchange):
                exchange(forged)
                forged.document = {**forged.document, "options": {}}

            tell("forgery", f"one tensor as {treatment}, no options", "L03", AGAINST, exchange_unrecorded)


def of(data, others=()):
    """[(table, field, what, notices, bytes)]"""
    lies = Lies(data)
    for tables in (lies.header, lies.index, lies.tensor, lies.file, lies.chunk, lies.stats, lies.payload, lies.provenance, lies.footer):
        tables()
    lies.forgeries(dict(others))
    return lies.told
