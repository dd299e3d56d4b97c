#!/usr/bin/env python3
"""An independent reader of .q4 containers, written from docs/format.md and docs/numerics.md alone.

Checks every rule of the format that a file can break, decodes every tensor, and prints JSON: the root, and for every tensor and
embedded file the SHA-256 of its content. Rules are cited as F1.2 (format.md) and Q1.2 (numerics.md).

Usage: q4ref.py docs/numerics.md FILE...     exit status 1 when a file is damaged
Needs numpy, xxhash, zstandard.
"""
import hashlib
import json
import re
import struct
import sys

import numpy as np
import xxhash
import zstandard

MAGIC = b"\x89Q4F\r\n\x1a\n"
ITEM_SIZE = {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 2, 8: 2, 9: 2, 10: 2, 11: 4, 12: 4, 13: 4, 14: 8, 15: 8, 16: 8, 17: 8}
F16, BF16, F32 = 9, 10, 13
DATA, CODES, SCALES, SCALE_CODES, SCALES2 = "data", "codes", "scales", "scale codes", "nested scales"

# Q2.1, as fp32 bit patterns.
NF4 = """BF800000 BF3239B1 BF066B30 BECA32A0 BE91A24D BE3D353F BDBA7871 00000000
         3DA2FAFF 3E24CAE3 3E7C04DD 3EAD033A 3EE1A4B8 3F1007AB 3F3913B3 3F800000"""
FP4 = """00000000 3BAAAAAB 3F2AAAAB 3F800000 3EAAAAAB 3F000000 3E2AAAAB 3E800000
         80000000 BBAAAAAB BF2AAAAB BF800000 BEAAAAAB BF000000 BE2AAAAB BE800000"""


def floats(words):
    return np.array([int(word, 16) for word in words.split()], dtype=np.uint32).view(np.float32)


CODE_VALUES = {1: floats(NF4), 2: floats(FP4)}


class Damaged(Exception):
    pass


def need(condition, rule):
    if not condition:
        raise Damaged(rule)


def align(value, multiple):
    return -(-value // multiple) * multiple


def ceil_div(value, unit):
    return -(-value // unit)


# F5.4
COMPONENT = re.compile(r"(?![. -])[A-Za-z0-9 ()+,.=@_-]{1,255}(?<![. ])", re.ASCII)
DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]) *(\..*)?", re.ASCII)
# F5.5
ENDINGS = set("bpe cff cfg codes conf dict ini jinja jinja2 json json5 md merges model pdf rst rtf spm tiktoken tokenizer toml txt "
              "vocab yaml yml".split())
BARE = re.compile(r"(licen[sc]e|copying|copyright|notice|eula|use_policy|usage_policy|acceptable_use|readme|modelcard|model_card|"
                  r"authors|citation|changelog|tokenizer|vocab|merges).*|.*[-_]license.*", re.ASCII)
# F5.6
RESERVED = ("adapter_config.json", "desktop.ini", "model_index.json", "modular_model_index.json", "q4_export.json")


def is_component(text):
    return bool(COMPONENT.fullmatch(text)) and not DEVICE.fullmatch(text.lower())


def is_file_name(name):
    *folders, file = name.split("/")
    if len(name.encode()) > 1024 or len(folders) > 7 or not all(map(is_component, [*folders, file])) or any("." in f for f in folders):
        return False
    file = file.lower()
    if file in RESERVED or ".index." in file:
        return False
    ending = file.rpartition(".")[2] if "." in file else ""
    if ending in ENDINGS or re.fullmatch(r".*\.model\.v[0-9]+(m[0-9]+)?", file, re.ASCII):
        return True
    return bool(re.fullmatch("[0-9]*", ending)) and bool(BARE.fullmatch(file))


def lie_side_by_side(names):
    """F5.7: with all folders on the way, one spelling and one kind for each name in lower case."""
    seen = {}
    for name in names:
        parts = name.split("/")
        for i in range(1, len(parts) + 1):
            what = ("/".join(parts[:i]), i == len(parts))
            if seen.setdefault(what[0].lower(), what) != what or (what[1] and names.count(name) > 1):
                return False
    return True


# Section 8: the members of each object. "?" marks one that may be absent, "|" alternatives of which there is one.
FILE_RECORD = {"name": "name", "sha256|": "hex64", "size": "count", "xxh3|": "hex16"}
OPTIONS = {"block_size": "count", "compress": "text", "double_quant": "bool", "effort?": "count", "encoder": "text",
           "keep_dtype": "text", "on_nonfinite": "text", "patterns": [{"exclude|": "text", "include|": "text"}], "recipe": "text or null",
           "shard_size": "count", "type": "text"}
BNB = {"files?": [{"file": "count", "tensors": "count"}], "fp4_map?": "hex128",
       "index?": {"total_parameters?": "count", "total_size?": "count"}, "nested_map?": "hex2048", "nf4_map?": "hex128",
       "storage?": "text", "weights?": [{"name": "text", "quant_state?": "text", "storage?": "text"}]}
PROVENANCE = {"adapter?": {"files": [FILE_RECORD]}, "bitsandbytes?": BNB, "calibration?": {"files": [FILE_RECORD], "tokens": "count"},
              "left_out?": [{"name": "text", "reason": "text", "warning": "bool"}], "numerics": "text", "options": OPTIONS,
              "parent?": {"root": "hex64"}, "plan?": "hex64",
              "source": {"files": [FILE_RECORD], "format": "text", "quantized?": "text"}, "tool": {"name": "text", "version": "text"}}
PROVENANCE["parent?"]["first?"] = PROVENANCE


def check_member(value, form, where):
    if isinstance(form, dict):
        need(isinstance(value, dict), where)
        if form is OPTIONS and not value:
            return
        rows = {name.rstrip("?|"): (name, row) for name, row in form.items()}
        need(set(value) <= set(rows), f"{where}: an unknown member")
        need(all(name in value for name, (spelt, _) in rows.items() if spelt == name), f"{where}: a member is missing")
        alternatives = [name for name, (spelt, _) in rows.items() if spelt.endswith("|")]
        need(not alternatives or sum(name in value for name in alternatives) == 1, f"{where}: alternatives")
        for name, member in value.items():
            spelt, row = rows[name]
            need(not (spelt.endswith("?") and member in ([], {})), f"{where}.{name} is empty")
            check_member(member, row, f"{where}.{name}")
    elif isinstance(form, list):
        need(isinstance(value, list), where)
        for element in value:
            check_member(element, form[0], f"{where}[]")
        if form[0] is FILE_RECORD:
            need(len({file["name"] for file in value}) == len(value), f"{where}: a file twice")
    elif form.startswith("hex"):
        need(isinstance(value, str) and len(value) == int(form[3:]) and not set(value) - set("0123456789abcdef"), where)
    elif form == "count":
        need(type(value) is int and 0 <= value < 1 << 64, where)
    elif form == "bool":
        need(type(value) is bool, where)
    else:
        need(isinstance(value, str) or (value is None and form == "text or null"), where)
        if form == "name":
            parts = value.split("/")
            need(parts[-1] not in ("", ".", ".."), where)
            need(not any(part[:1] in ("", ".") for part in parts[:-1]), where)


def check_provenance(text):
    need(len(text) <= 16 << 20, "Provenance")
    try:
        document = json.loads(text.decode("utf-8"))
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Damaged(f"Provenance: {error}") from None
    need(isinstance(document, dict) and "schema" not in document, "Provenance, or one for a newer reader")
    check_member(document, PROVENANCE, "Provenance")
    need(document["numerics"] == "q4n-1", "Provenance for a newer reader")
    need(canonical == text, "Provenance is not canonical")  # a member that comes twice is gone


class Container:
    def __init__(self, data, nested_map):
        self.data, self.nested_map = data, nested_map
        need(len(data) >= 4096 + 128 and data[:8] == MAGIC, "Magic")
        self.read_header()
        self.read_footer()
        self.read_index()
        self.assign_chunks()
        self.check_payload()

    def seed(self, section, owner=0, chunk=0):  # F7.2
        return xxhash.xxh3_64_intdigest(self.file_id + struct.pack("<IQQ", section, owner, chunk), seed=0)

    def xxh3(self, data, *place):
        return xxhash.xxh3_64_intdigest(data, seed=self.seed(*place))

    def read_header(self):  # section 2
        self.header = self.data[:4096]
        version, size, required, _, self.file_id, self.shard, shards = struct.unpack_from("<IIQQ32sII", self.header, 8)
        need(struct.unpack_from("<Q", self.header, 4088)[0] == self.xxh3(self.header[:4088], 0), "Header_XXH3")
        need(version == 1 and required == 0, "needs a newer reader")
        need(size == 4096 and not any(self.header[72:4088]), "header")
        need(1 <= shards <= 10000 and self.shard < shards, "Shard")

    def read_footer(self):  # section 6
        footer = self.data[-128:]
        magic, offset, size, file_bytes, index_xxh3, self.root = struct.unpack_from("<8sQQQQ32s", footer)
        need(magic == b"Q4FOOT\r\n", "Footer_Magic")
        need(struct.unpack_from("<Q", footer, 120)[0] == self.xxh3(footer[:120], 4), "Footer_XXH3")
        need(not any(footer[72:120]), "reserved bytes of the footer")
        need(file_bytes == len(self.data) == offset + size + 128 and size <= 256 << 20 and offset >= 4096, "Index_Offset")
        self.index_offset, self.index = offset, self.data[offset:offset + size]
        need(index_xxh3 == self.xxh3(self.index, 3), "Index_XXH3")
        need(self.root == hashlib.sha256(self.header + self.index).digest(), "Root")

    def sections(self):  # section 5
        index = self.index
        need(len(index) >= 8, "Section_Count")
        count, reserved = struct.unpack_from("<II", index)
        need(7 <= count <= 64 and reserved == 0 and len(index) >= 8 + 24 * count, "Section_Count")
        end, last, found = 8 + 24 * count, 0, {}
        for i in range(count):
            kind, flags, offset, size = struct.unpack_from("<IIQQ", index, 8 + 24 * i)
            need(kind > last and (i >= 7 or kind == i + 1), "Kind")
            need(flags == (1 if kind <= 5 else 0), "Flags of a section, or a section for a newer reader")
            need(offset == align(end, 8) and offset + size <= len(index) and not any(index[end:offset]), "Offset of a section")
            end, last, found[kind] = offset + size, kind, index[offset:offset + size]
        need(len(index) == align(end, 8) and not any(index[end:]), "end of the index")
        return found

    def read_index(self):
        found = self.sections()
        need(len(found[1]) % 32 == 0 and len(found[4]) % 16 == 0 and len(found[5]) % 64 == 0, "records")
        need(len(found[1]) // 32 <= 1000000 and len(found[4]) // 16 <= 1000, "records")
        dims, names, stats = found[2], found[3], found[6]
        self.tensors, self.files = [], []

        def name(size):
            nonlocal names
            need(1 <= size <= 4096 and size <= len(names), "Name_Bytes")
            taken, names = names[:size], names[size:]
            need(b"\0" not in taken, "name")
            try:
                return taken.decode("utf-8")
            except UnicodeDecodeError:
                raise Damaged("name is not UTF-8") from None

        for first, size, block, dtype, rank, scheme, encoder, flags, reserved, offset, reserved2 in struct.iter_unpack(
                "<QIIBBBBB3sfI", found[1]):
            need(not any(reserved) and reserved2 == 0 and flags <= 3 and rank <= 8 and 8 * rank <= len(dims), "tensor record")
            shape, dims = struct.unpack_from(f"<{rank}Q", dims), dims[8 * rank:]
            tensor = {"name": name(size), "dtype": dtype, "shape": shape, "scheme": scheme, "encoder": encoder, "block": block,
                      "nested": bool(flags & 1), "offset": np.float32(offset), "first": first, "chunks": []}
            if flags & 2:
                need(len(stats) >= 248, "Stats")
                tensor["stats"], stats = struct.unpack_from("<21Q5ddQddQ", stats), stats[248:]
            self.check_tensor(tensor)
            self.tensors.append(tensor)
        for raw, size, reserved in struct.iter_unpack("<QII", found[4]):
            need(raw <= 256 << 20 and reserved == 0, "file record")
            file = {"name": name(size), "raw": raw, "chunks": []}
            need(is_file_name(file["name"]), "F5.4 to F5.6, name of a file")
            self.files.append(file)
        need(lie_side_by_side([file["name"] for file in self.files]), "F5.7, names of files")
        need(sum(file["raw"] for file in self.files) <= 1 << 30, "files together")
        need(not dims and not names and not stats, "Dims, Names and Stats are used up")
        for items in (self.tensors, self.files):
            encoded = [item["name"].encode() for item in items]
            need(all(a < b for a, b in zip(encoded, encoded[1:])), "order of names")
        need(self.shard == 0 or not self.files, "only shard 0 has files")
        self.chunks = list(struct.iter_unpack("<QIIBB6sQ32s", found[5]))
        self.provenance = found[7]
        check_provenance(self.provenance)

    def check_tensor(self, t):
        need(t["dtype"] in ITEM_SIZE and t["scheme"] <= 2 and t["encoder"] <= 4, "tensor record")
        n = 1
        for dim in t["shape"]:
            need(dim < 1 << 48, "dimension")
            n *= dim
        need(n < 1 << 48, "number of elements")
        t["n"] = n
        offset_bits = t["offset"].tobytes()
        if t["scheme"] == 0:
            need(not any((t["encoder"], t["block"], t["nested"], "stats" in t, any(offset_bits))), "raw tensor")
            t["parts"] = [(DATA, n * ITEM_SIZE[t["dtype"]], {F16: 2, BF16: 2, F32: 4}.get(t["dtype"], 1))]
        else:
            need(t["block"] in [32 << i for i in range(8)] and t["dtype"] in (F16, BF16, F32) and n > 0, "quantized tensor")
            need(np.isfinite(t["offset"]) and (t["nested"] or not any(offset_bits)), "Nested_Offset")
            nb = ceil_div(n, t["block"])
            t["parts"] = [(CODES, ceil_div(n, 2), 1)]
            t["parts"] += [(SCALE_CODES, nb, 1), (SCALES2, 4 * ceil_div(nb, 256), 4)] if t["nested"] else [(SCALES, 4 * nb, 4)]
        if "stats" in t:
            self.check_stats(t)

    @staticmethod
    def check_stats(t):
        s = t["stats"]
        n, nb, reals = t["n"], ceil_div(t["n"], t["block"]), s[21:26] + (s[26],) + s[28:30]
        need(s[0] == n == sum(s[5:21]) and s[1] + s[2] <= nb and s[3] <= n and s[4] <= n, "counts of Stats")
        need(s[27] < n and s[30] < nb and all(np.isfinite(reals)), "Stats")
        need(all(reals[i] >= 0 for i in (1, 2, 3, 5, 6, 7)), "magnitudes of Stats")

    def assign_chunks(self):  # F3.1 to F3.5: what each chunk must be, from the shapes alone
        expected = [None] * len(self.chunks)

        def assign(first, section, owner, item, parts):
            number = 0
            for part, raw, planes in parts:
                size = 2 << 20 if part == CODES else 8 << 20
                for i in range(ceil_div(raw, size)):
                    at = first + number
                    need(at < len(expected) and expected[at] is None, "owner of a chunk")
                    alignment = 4096 if number == 0 else 64 if i == 0 else 1
                    expected[at] = (section, owner, number, min(size, raw - i * size), planes, alignment)
                    item["chunks"].append((part, at))
                    number += 1
            return first + number

        at = 0
        for i, file in enumerate(self.files):
            at = assign(at, 2, i, file, [(DATA, file["raw"], 1)])
        for i, tensor in enumerate(self.tensors):
            need(tensor["n"] > 0 or tensor["first"] == 0, "First_Chunk of an empty tensor")
            assign(tensor["first"], 1, i, tensor, tensor["parts"])
        need(None not in expected, "owner of a chunk")
        self.expected = expected

    def check_payload(self):
        end, self.raw = 4096, []
        for (offset, stored, raw, codec, planes, reserved, xxh3, sha256), want in zip(self.chunks, self.expected):
            section, owner, number, want_raw, want_planes, alignment = want
            need(raw == want_raw and not any(reserved), "Raw_Bytes")
            need(offset == align(end, alignment) and not any(self.data[end:offset]), "Offset of a chunk, or padding")
            end = offset + stored
            need(end <= self.index_offset, "Offset of a chunk")
            data = self.data[offset:end]
            need(xxh3 == self.xxh3(data, section, owner, number), "Chunk_XXH3")
            need(sha256 == hashlib.sha256(data).digest(), "Chunk_SHA256")
            if codec == 0:
                need(stored == raw and planes == 1, "stored chunk")
            else:
                need(codec == 1 and planes == want_planes and stored <= raw - raw // 16, "compressed chunk")
                data = self.decompress(data, raw)
                if planes > 1:  # F4.4
                    data = np.frombuffer(data, np.uint8).reshape(planes, -1).T.tobytes()
            self.raw.append(data)
        need(self.index_offset == align(end, 4096) and not any(self.data[end:self.index_offset]), "Index_Offset, or padding")

    @staticmethod
    def decompress(data, raw):  # F4.2
        try:
            frame = zstandard.get_frame_parameters(data)
            need(data[:4] == b"\x28\xb5\x2f\xfd" and frame.content_size == raw and frame.dict_id == 0, "zstd frame")
            need(not frame.has_checksum and frame.window_size <= 1 << 26, "zstd frame")
            decoder = zstandard.ZstdDecompressor().decompressobj()
            out = decoder.decompress(data)
        except zstandard.ZstdError as error:
            raise Damaged(f"zstd: {error}") from None
        need(len(out) == raw and decoder.eof and not decoder.unused_data, "zstd frame")
        return out

    def content(self, item, part):
        return b"".join(self.raw[at] for p, at in item["chunks"] if p == part)

    def decode(self, t):
        """The tensor as fp32 and its parts; None for a raw tensor of another type than F16, BF16, F32."""
        parts = {part: self.content(t, part) for part, _, _ in t["parts"]}
        if t["scheme"] == 0:
            data = parts[DATA]
            if t["dtype"] == BF16:
                return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32), parts
            kind = {F16: np.float16, F32: np.float32}.get(t["dtype"])
            return (None if kind is None else np.frombuffer(data, kind).astype(np.float32)), parts
        if t["nested"]:  # Q5.5
            absmax2 = np.frombuffer(parts[SCALES2], np.float32)
            need(np.isfinite(absmax2).all() and not np.signbit(absmax2).any(), "Scales2")
            codes = np.frombuffer(parts[SCALE_CODES], np.uint8)
            scales = self.nested_map[codes] * np.repeat(absmax2, 256)[:len(codes)] + t["offset"]
        else:
            scales = np.frombuffer(parts[SCALES], np.float32)
            need(np.isfinite(scales).all() and not (t["encoder"] == 1 and np.signbit(scales).any()), "Scales")
        packed = np.frombuffer(parts[CODES], np.uint8)
        codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)  # Q3.1
        if t["n"] % 2 and t["encoder"] != 0:
            need(codes[-1] == {1: 7, 2: 0}[t["scheme"]], "padding nibble")
        codes = codes[:t["n"]]
        return CODE_VALUES[t["scheme"]][codes] * np.repeat(scales, t["block"])[:t["n"]], parts  # Q6.1

    def report(self):
        def sha256(data):
            return hashlib.sha256(data).hexdigest()

        tensors = {}
        for t in self.tensors:
            values, parts = self.decode(t)
            tensors[t["name"]] = {"dtype": t["dtype"], "parts": {p: sha256(b) for p, b in parts.items()}, "shape": list(t["shape"]),
                                  "values": None if values is None else sha256(values.astype("<f4").tobytes())}
        return {"files": {f["name"]: sha256(self.content(f, DATA)) for f in self.files}, "provenance": sha256(self.provenance),
                "root": self.root.hex(), "tensors": tensors}


def nested_map(numerics):
    """The 256 fp32 words that docs/numerics.md lists under Q5.6."""
    text = numerics[numerics.index("**Q5.6**"):]
    return floats(text.split("```")[1])


def main(numerics_path, paths):
    with open(numerics_path, encoding="utf-8") as file:
        table = nested_map(file.read())
    reports = {}
    for path in paths:
        with open(path, "rb") as file:
            try:
                reports[path] = Container(file.read(), table).report()
            except Damaged as rule:
                sys.exit(f"q4ref.py: {path}: damaged: {rule}")
    print(json.dumps(reports, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
