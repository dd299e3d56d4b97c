"""Random lies: a container changed in one to four places of any kind, and written with every digest right."""

import json
import math
import random
import struct

import container_bytes as q4
import forger
from forger import CHUNK_FIELDS, FILE_FIELDS, FOOTER_FIELDS, HEADER_FIELDS, STATS_FIELDS, TENSOR_FIELDS, Forged

FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 3e38, -3e38, math.inf, -math.inf, math.nan)
NAMES = (b"", b"a", b"../a", b"a/../b", b".git", b"a\0b", b"\xff", b"CON", b"a.", b"a" * 4097, "ä".encode(), b"a/b", b"model.norm.weight")
VALUES = (None, True, False, 0, 1, -1, 1.5, 2**64, "", "q4n-1", "a", [], {}, [0], {"a": 1}, "0" * 64, "\x00", "\ud7ff", [[[]]])
FORMATS = {  # of the fields of each table, as struct codes
    "header": dict(zip(HEADER_FIELDS, ("8s", "I", "I", "Q", "Q", "32s", "I", "I"))),
    "tensor": dict(zip(TENSOR_FIELDS, ("Q", "I", "I", "B", "B", "B", "B", "B", "3s", "f", "I"))),
    "file": dict(zip(FILE_FIELDS, "QII")),
    "chunk": dict(zip(CHUNK_FIELDS, ("Q", "I", "I", "B", "B", "6s", "Q", "32s"))),
    "stats": {name: "d" if i in range(21, 27) or i in (28, 29) else "Q" for i, name in enumerate(STATS_FIELDS)},
    "section": dict(zip(forger.SECTION_FIELDS, "IIQQ")),
    "footer": dict(zip(FOOTER_FIELDS, ("8s", "Q", "Q", "Q", "Q", "32s", "48s"))),
}


class RandomLies:
    def __init__(self, data, seed):
        self.right = Forged(data)
        self.random = random.Random(seed)
        self.changes = (
            *(self.field,) * 4,
            *(self.stats,) * 2,
            *(self.provenance,) * 4,
            *(self.part,) * 3,
            self.treatment,
            self.shape,
            self.name,
            self.tensors,
            self.files,
            self.section,
        )

    def tell(self):
        """(what, bytes)"""
        pick = self.random
        while True:
            forged, what = self.right.copy(), []
            try:
                for _ in range(pick.choice((1, 1, 1, 2, 2, 3, 4))):
                    change = pick.choice(self.changes)
                    what.append(change.__name__)
                    change(forged)
                data = forged.write()
            except (struct.error, ZeroDivisionError, OverflowError, IndexError, ValueError):
                continue  # what no bytes can say
            if pick.random() < 0.1:
                what.append("bytes")
                data = self.bytes(data)
            return "+".join(what), data

    def number(self, form, right=0):
        pick = self.random
        if form in ("f", "d"):
            return pick.choice((*FLOATS, pick.gauss(0, 1), right * 2 if isinstance(right, float) else 0.5))
        if form[-1] == "s":
            return pick.choice((bytes(int(form[:-1])), pick.randbytes(int(form[:-1]))))
        most = {"B": 0xFF, "I": 0xFFFFFFFF, "Q": (1 << 64) - 1}[form]
        value = right if isinstance(right, int) else 0
        near = (value + 1, value - 1, value ^ 1 << pick.randrange(8), value * 2, value // 2)
        return pick.choice((0, 1, 2, 3, most, most >> 1, pick.randrange(most + 1), *near, *near)) & most

    def field(self, forged):
        pick = self.random
        table = pick.choice(list(FORMATS))
        field = pick.choice(list(FORMATS[table]))
        count = {"tensor": len(forged.tensors), "stats": len(forged.tensors), "chunk": 8, "section": 7}.get(table, 1)
        record = pick.randrange(count)
        right = 0
        if table == "tensor":
            right = sorted(forged.tensors, key=lambda t: t.name)[record].fields[field]
        forged.lie(table, record, field, self.number(FORMATS[table][field], right))

    def stats(self, forged):
        pick = self.random
        tensor = pick.choice(forged.tensors)
        if tensor.stats is None or pick.random() < 0.1:
            tensor.stats = pick.choice((None, {name: 0 for name in STATS_FIELDS}))
            return
        field = pick.choice(STATS_FIELDS)
        tensor.stats[field] = self.number(FORMATS["stats"][field], tensor.stats[field])

    def provenance(self, forged):
        pick = self.random
        if pick.random() < 0.2:
            text = bytearray(forged.provenance)
            for _ in range(pick.choice((1, 1, 2, 8))):
                text[pick.randrange(len(text))] = pick.randrange(256)
            forged.provenance = bytes(text[: pick.choice((len(text), len(text), pick.randrange(len(text))))])
            return
        document = forged.document
        at = document
        while isinstance(at, (dict, list)) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = pick.choice(keys)
            if not isinstance(at[key], (dict, list)) or not at[key] or pick.random() < 0.4:
                kind = pick.randrange(4)
                if kind == 0:
                    del at[key]
                elif kind == 1 and isinstance(at, dict):
                    at[pick.choice(("schema", "plan", "parent", "zeal", "adapter"))] = pick.choice(VALUES)
                else:
                    at[key] = pick.choice((*VALUES, self.number("Q", at[key])))
                break
            at = at[key]
        if pick.random() < 0.9:
            forged.document = document
        else:
            forged.provenance = json.dumps(document, ensure_ascii=True).encode()

    def part(self, forged):
        pick = self.random
        tensor = pick.choice(forged.tensors)
        number = pick.randrange(len(tensor.parts))
        part = bytearray(tensor.parts[number])
        kind = pick.randrange(5)
        if kind == 0:
            part[:] = pick.randbytes(len(part))
        elif kind == 1:
            part[pick.randrange(len(part))] ^= 1 << pick.randrange(8)
        elif kind == 2:
            at = pick.randrange(len(part) // 4) * 4
            part[at : at + 4] = struct.pack("<f", pick.choice(FLOATS))
        elif kind == 3:
            other = pick.choice(forged.tensors)
            part = bytearray(pick.choice(other.parts))
        else:
            part = part[: pick.randrange(len(part) + 1)] + bytes(pick.choice((0, 0, 1, 4)))
        tensor.parts[number] = bytes(part)

    def treatment(self, forged):
        """Another block size, type or encoder, with as many scales as that needs."""
        pick = self.random
        tensor = pick.choice(forged.tensors)
        fields = tensor.fields
        kind = pick.randrange(4)
        if kind == 0:
            fields["Encoder"] = pick.choice((0, 1, 2, 3))
        elif kind == 1:
            fields["Scheme"] = pick.choice((0, 1, 2, 3))
        elif kind == 2:
            fields["DType"] = pick.choice((9, 10, 13, 2, 0, 18))
        elif fields["Scheme"]:
            fields["Block_Size"] = pick.choice((32, 64, 128, 4096, 16, 8192, 48))
            sizes = tensor.part_sizes()
            if max(size for size, _ in sizes) > 1 << 20:
                raise ValueError("a shape that another change made huge")
            tensor.parts = [(part * (size // max(1, len(part)) + 1))[:size] for part, (size, _) in zip(tensor.parts, sizes)]

    def shape(self, forged):
        pick = self.random
        tensor = pick.choice(forged.tensors)
        elems = tensor.elems
        tensor.shape = pick.choice(
            ([elems], [1, elems], list(reversed(tensor.shape)), [], [0], [1] * 8 + [elems], [1 << 48], [elems, 1 << 20])
        )

    def name(self, forged):
        self.random.choice(forged.tensors).name = self.random.choice(NAMES)

    def tensors(self, forged):
        pick = self.random
        kind = pick.randrange(3)
        if kind == 0 and len(forged.tensors) > 1:
            del forged.tensors[pick.randrange(len(forged.tensors))]
        elif kind == 1:
            forged.tensors.append(forged.copy().tensors[pick.randrange(len(forged.tensors))])
            forged.tensors[-1].name += pick.choice((b"", b"x"))
        forged.order = list(range(len(forged.tensors)))
        if kind == 2:
            pick.shuffle(forged.order)

    def files(self, forged):
        pick = self.random
        kind = pick.randrange(3)
        if kind == 0 or not forged.files:
            forged.files.append([pick.choice(NAMES), pick.randbytes(pick.choice((0, 1, 100)))])
        elif kind == 1:
            forged.files[0][0] = pick.choice(NAMES)
        else:
            forged.files[0][1] = pick.choice((b"", b"{}", b"[" * 100, b"\xff", pick.randbytes(50)))

    def section(self, forged):
        forged.extra_sections.append((self.random.choice((8, 9, 7, 1, 1 << 31)), self.random.choice((0, 0, 1, 2)), b"x"))

    def bytes(self, data):
        """A byte of a region, and the digests made right again."""
        pick = self.random
        header, payload, index = q4.split(data)
        region = pick.choice(("header", "payload", "index"))
        size = {"header": len(header) - 8, "payload": len(payload), "index": len(index)}[region]
        return q4.lie(data, region, pick.randrange(size), pick.randbytes(pick.choice((1, 2, 8)))) if size > 8 else data
