"""Takes .q4 containers apart into fields and puts them together again with every digest right, from docs/format.md alone.

`Forged(data)` holds what a container says: header, tensors with their parts as raw bytes, statistics, embedded files, provenance.
`write()` gives the bytes of a container that says it. What follows from the rest (places, sizes, digests) is computed; `lies` names
fields of records that are written otherwise, and digests are right all the same. So a lie is found for what it says or not at all.
"""

import copy
import json
import struct

import container_bytes as q4

HEADER = struct.Struct("<8sIIQQ32sII")
HEADER_FIELDS = (
    "Magic",
    "Version",
    "Header_Bytes",
    "Required_Features",
    "Optional_Features",
    "File_Id",
    "Shard",
    "Shard_Count",
)
TENSOR = struct.Struct("<QIIBBBBB3sfI")
TENSOR_FIELDS = (
    "First_Chunk",
    "Name_Bytes",
    "Block_Size",
    "DType",
    "Rank",
    "Scheme",
    "Encoder",
    "Flags",
    "reserved",
    "Nested_Offset",
    "reserved 2",
)
FILE = struct.Struct("<QII")
FILE_FIELDS = ("Raw_Bytes", "Name_Bytes", "reserved")
CHUNK = struct.Struct("<QIIBB6sQ32s")
CHUNK_FIELDS = ("Offset", "Stored_Bytes", "Raw_Bytes", "Codec", "Planes", "reserved", "Chunk_XXH3", "Chunk_SHA256")
STATS = struct.Struct("<21Q6dQddQ")
STATS_FIELDS = (
    "Count",
    "Zero_Blocks",
    "Tiny_Blocks",
    "Clipped",
    "Overflow",
    *(f"Hist[{code}]" for code in range(16)),
    "Sum_E",
    "Sum_Abs_E",
    "Sum_E2",
    "Sum_X2",
    "Sum_XY",
    "Max_Abs_Err",
    "Max_Abs_Err_Index",
    "Max_Gap_Ratio",
    "Worst_Block_E2",
    "Worst_Block",
)
SECTION = struct.Struct("<IIQQ")
SECTION_FIELDS = ("Kind", "Flags", "Offset", "Bytes")
FOOTER = struct.Struct("<8sQQQQ32s48s")
FOOTER_FIELDS = ("Footer_Magic", "Index_Offset", "Index_Bytes", "File_Bytes", "Index_XXH3", "Root", "reserved")

ITEM_SIZE = (None, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8, 8)  # by DType
CODES_BYTES, OTHER_BYTES = 2 << 20, 8 << 20  # F3.5


def ceil(value, unit):
    return -(-value // unit)


class Tensor:
    """A record of section 1 by its fields, with the name, the shape, a Stats record or None, and its parts."""

    def __init__(self, name, shape, fields, stats):
        self.name, self.shape, self.fields, self.stats = name, shape, fields, stats
        self.parts = []  # raw bytes of each, in the order of F3.4

    @property
    def elems(self):
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def blocks(self):
        return ceil(self.elems, self.fields["Block_Size"]) if self.fields["Block_Size"] else 0

    @property
    def nested(self):
        return bool(self.fields["Flags"] & 1)

    def part_sizes(self):
        """(bytes, bytes of a chunk) of each part (F3.4, F3.5)."""
        if not self.fields["Scheme"]:
            return [(self.elems * ITEM_SIZE[self.fields["DType"]], OTHER_BYTES)]
        codes = (ceil(self.elems, 2), CODES_BYTES)
        if self.nested:
            return [codes, (self.blocks, OTHER_BYTES), (4 * ceil(self.blocks, 256), OTHER_BYTES)]
        return [codes, (4 * self.blocks, OTHER_BYTES)]

    def scales(self):
        """The fp32 scales of a tensor that is not nested."""
        return list(struct.unpack(f"<{self.blocks}f", self.parts[1]))

    def set_scales(self, scales):
        self.parts[1] = struct.pack(f"<{len(scales)}f", *scales)


class Forged:
    """A container as fields. Chunks that are compressed are not read: make them without."""

    def __init__(self, data):
        header, _, index = q4.split(data)
        self.header = dict(zip(HEADER_FIELDS, HEADER.unpack_from(header)))
        sections = {kind: index[at : at + size] for kind, _, at, size in q4.section_list(index)}
        chunks = list(CHUNK.iter_unpack(sections[q4.CHUNKS]))
        dims, names, stats = (sections[kind] for kind in (q4.DIMS, q4.NAMES, q4.STATS))
        self.tensors, self.files = [], []
        for record in TENSOR.iter_unpack(sections[q4.TENSORS]):
            fields = dict(zip(TENSOR_FIELDS, record))
            rank, size = fields["Rank"], fields["Name_Bytes"]
            tensor = Tensor(names[:size], list(struct.unpack_from(f"<{rank}Q", dims)), fields, None)
            dims, names = dims[8 * rank :], names[size:]
            if fields["Flags"] & 2:
                tensor.stats, stats = dict(zip(STATS_FIELDS, STATS.unpack_from(stats))), stats[STATS.size :]
            self.tensors.append(tensor)

        def take(first, size, most):
            """The bytes of a part that begins with chunk `first`, and the chunk behind it."""
            out, end = b"", first + ceil(size, most)
            for offset, stored, _, codec, *_ in chunks[first:end]:
                if codec:
                    raise ValueError("a compressed chunk")
                out += data[offset : offset + stored]
            return out, end

        at = 0
        for raw, size, _ in FILE.iter_unpack(sections[q4.FILES]):
            content, at = take(at, raw, OTHER_BYTES)
            self.files.append([names[:size], content])
            names = names[size:]
        for tensor in self.tensors:
            at = tensor.fields["First_Chunk"]
            for size, most in tensor.part_sizes():
                part, at = take(at, size, most)
                tensor.parts.append(part)
        # Writing goes by it: the tensors' segments in the order in which they lie in the file.
        self.order = sorted(range(len(self.tensors)), key=lambda i: self.tensors[i].fields["First_Chunk"])
        self.provenance = sections[q4.TEXT]
        self.extra_sections = []
        self.lies = {}  # {(table, number of the record, field): value}, tables "header", "section", "tensor", "file", ...

    def copy(self):
        return copy.deepcopy(self)

    def tensor(self, name):
        return next(tensor for tensor in self.tensors if tensor.name == name)

    @property
    def document(self):
        return json.loads(self.provenance)

    @document.setter
    def document(self, value):
        self.provenance = canonical(value)

    def lie(self, table, record, field, value):
        self.lies[table, record, field] = value
        return self

    def _pack(self, table, record, form, names, fields):
        values = [self.lies.get((table, record, name), value) for name, value in zip(names, fields)]
        return form.pack(*values)

    def write(self):
        file_id = self.lies.get(("header", 0, "File_Id"), self.header["File_Id"])
        payload, chunks = bytearray(), []

        def append(raw, most, section, owner, number, alignment):
            """The chunks of one part; returns how many."""
            count = ceil(len(raw), most)
            for i in range(count):
                stored = raw[i * most : (i + 1) * most]
                payload.extend(bytes(-len(payload) % (alignment if i == 0 else 1)))
                offset = q4.HEADER + len(payload)
                xxh3 = q4.xxh3_64(stored, q4.seed(file_id, section, owner, number + i))
                sha256 = q4.hashlib.sha256(stored).digest()
                fields = (offset, len(stored), len(stored), 0, 1, bytes(6), xxh3, sha256)
                chunks.append(self._pack("chunk", len(chunks), CHUNK, CHUNK_FIELDS, fields))
                payload.extend(stored)
            return count

        for owner, (_, content) in enumerate(self.files):
            append(content, OTHER_BYTES, 2, owner, 0, 4096)
        first_chunks = [0] * len(self.tensors)
        # Sorted by name, as the format asks; owners in digests go by that place.
        places = sorted(range(len(self.tensors)), key=lambda i: self.tensors[i].name)
        for i in self.order:
            tensor = self.tensors[i]
            first_chunks[i] = len(chunks) if any(tensor.parts) else 0
            number = 0
            for part, raw in enumerate(tensor.parts):
                most = CODES_BYTES if tensor.fields["Scheme"] and part == 0 else OTHER_BYTES
                number += append(raw, most, 1, places.index(i), number, 64 if part else 4096)
        payload.extend(bytes(-len(payload) % 4096))

        records, stats = b"", b""
        for place, i in enumerate(places):
            tensor = self.tensors[i]
            flags = tensor.fields["Flags"] & ~2 | (2 if tensor.stats else 0)
            fields = {
                **tensor.fields,
                "First_Chunk": first_chunks[i],
                "Name_Bytes": len(tensor.name),
                "Rank": len(tensor.shape),
                "Flags": flags,
            }
            records += self._pack("tensor", place, TENSOR, TENSOR_FIELDS, (fields[name] for name in TENSOR_FIELDS))
            if tensor.stats:
                values = (tensor.stats[name] for name in STATS_FIELDS)
                stats += self._pack("stats", place, STATS, STATS_FIELDS, values)
        files = b"".join(
            self._pack("file", i, FILE, FILE_FIELDS, (len(content), len(name), 0))
            for i, (name, content) in enumerate(self.files)
        )
        ordered = [self.tensors[i] for i in places]
        dims = b"".join(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape) for tensor in ordered)
        names = b"".join(tensor.name for tensor in ordered) + b"".join(name for name, _ in self.files)
        contents = [records, dims, names, files, b"".join(chunks), stats, self.provenance]
        sections = [(i + 1, 1 if i < 5 else 0, content) for i, content in enumerate(contents)] + self.extra_sections
        index = bytearray(q4.pack_index(sections))
        for number in range(len(sections)):
            fields = SECTION.unpack_from(index, 8 + SECTION.size * number)
            packed = self._pack("section", number, SECTION, SECTION_FIELDS, fields)
            index[8 + SECTION.size * number : 8 + SECTION.size * (number + 1)] = packed
        count = self.lies.get(("index", 0, "Section_Count"), len(sections))
        struct.pack_into("<II", index, 0, count, self.lies.get(("index", 0, "reserved"), 0))
        header = self._pack("header", 0, HEADER, HEADER_FIELDS, (self.header[name] for name in HEADER_FIELDS))
        header += bytes(q4.HEADER - len(header))
        if ("header", 0, "reserved") in self.lies:
            header = header[:72] + self.lies["header", 0, "reserved"] + header[73:]
        data = q4.close(header, bytes(payload), bytes(index))
        for table, _, field in self.lies:
            if table == "footer":
                fields = FOOTER.unpack_from(data, len(data) - q4.FOOTER)
                footer = self._pack("footer", 0, FOOTER, FOOTER_FIELDS, fields)
                data = data[: -q4.FOOTER] + footer + struct.pack("<Q", q4.xxh3_64(footer, q4.seed(file_id, 4)))
                break
        return data


def canonical(document):
    """The one text of a provenance (section 8)."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
