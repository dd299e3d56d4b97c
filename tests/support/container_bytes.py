"""Builds .q4 containers from docs/format.md, and lies about them with digests that hold.

`sample()` is a right container. `lie()` changes bytes of one and recomputes every digest that covers them, as an attacker would,
so that a reader has nothing but the structure to refuse it by.
"""

import dataclasses
import hashlib
import json
import struct

from xxh3 import xxh3_64

MAGIC = b"\x89Q4F\r\n\x1a\n"
FOOTER_MAGIC = b"Q4FOOT\r\n"
HEADER, FOOTER = 4096, 128
ZSTD_BLOCK = 128 << 10
U8, BF16, F32 = 2, 10, 13


def provenance(files=(), **members):
    """The canonical document (section 8); `members` replace or add some."""
    document = {
        "numerics": "q4n-1",
        "options": {},
        "source": {"files": list(files), "format": "safetensors"},
        "tool": {"name": "hostile", "version": "1"},
        **members,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


PROVENANCE = provenance()
# Offsets of fields in the records of the index.
TENSOR_RECORD, FILE_RECORD, CHUNK_RECORD = 32, 16, 64
TENSORS, DIMS, NAMES, FILES, CHUNKS, STATS, TEXT = range(1, 8)


def align(value, multiple):
    return -(-value // multiple) * multiple


@dataclasses.dataclass
class Part:
    """A part of one chunk: its bytes as stored, and what the record says of them."""

    stored: bytes
    raw_bytes: int = None  # the same as stored unless compressed
    planes: int = 1

    def record(self):
        raw = len(self.stored) if self.raw_bytes is None else self.raw_bytes
        return len(self.stored), raw, 0 if self.raw_bytes is None else 1, self.planes


@dataclasses.dataclass
class Tensor:
    name: bytes
    shape: tuple
    parts: list
    dtype: int = BF16
    scheme: int = 0
    block: int = 0
    encoder: int = 0
    flags: int = 0
    offset: float = 0.0
    stats: bytes = b""
    first_chunk: int = None


def seed(file_id, section, owner=0, chunk=0):
    return xxh3_64(file_id + struct.pack("<IQQ", section, owner, chunk))


def section_list(index):
    """(kind, flags, offset, bytes) of each section."""
    count = struct.unpack_from("<I", index)[0]
    return [struct.unpack_from("<IIQQ", index, 8 + 24 * i) for i in range(count)]


def pack_index(sections):
    """An index of [(kind, flags, content)]."""
    table, body, at = struct.pack("<II", len(sections), 0), b"", 8 + 24 * len(sections)
    begin = at
    for kind, flags, content in sections:
        at = align(at, 8)
        body += bytes(at - begin - len(body)) + content
        table += struct.pack("<IIQQ", kind, flags, at, len(content))
        at += len(content)
    return table + body + bytes(align(at, 8) - at)


def close(header, payload, index):
    """The file: recomputes the digests of header, index and footer, and the root."""
    header = bytes(header[: HEADER - 8])
    file_id = header[32:64]
    header += struct.pack("<Q", xxh3_64(header, seed(file_id, 0)))
    offset = HEADER + len(payload)
    footer = FOOTER_MAGIC + struct.pack(
        "<QQQQ", offset, len(index), offset + len(index) + FOOTER, xxh3_64(index, seed(file_id, 3))
    )
    footer += hashlib.sha256(header + index).digest() + bytes(48)
    return header + payload + index + footer + struct.pack("<Q", xxh3_64(footer, seed(file_id, 4)))


def header_of(file_id, shard=0, shards=1):
    return MAGIC + struct.pack("<IIQQ", 1, HEADER, 0, 0) + file_id + struct.pack("<II", shard, shards) + bytes(4024)


def build(
    tensors, files=(), file_id=bytes(range(32)), provenance=PROVENANCE, extra_sections=(), sort=True, shard=(0, 1)
):
    """A container of those tensors and embedded files [(name, content)], each part one chunk. Content is bytes, in one chunk, or a list
    of Part."""
    tensors = sorted(tensors, key=lambda tensor: tensor.name) if sort else list(tensors)
    payload, records = bytearray(), b""

    def chunk(part, section, owner, number, alignment):
        nonlocal records
        payload.extend(bytes(align(HEADER + len(payload), alignment) - HEADER - len(payload)))
        records += (
            struct.pack(
                "<QIIBB6xQ",
                HEADER + len(payload),
                *part.record(),
                xxh3_64(part.stored, seed(file_id, section, owner, number)),
            )
            + hashlib.sha256(part.stored).digest()
        )
        payload.extend(part.stored)

    number = 0
    files = [(name, content if isinstance(content, list) else [Part(content)] * bool(content)) for name, content in files]
    for owner, (_, parts) in enumerate(files):
        for i, part in enumerate(parts):
            chunk(part, 2, owner, i, 1 if i else 4096)
            number += 1
    tensor_records = b""
    for owner, tensor in enumerate(tensors):
        first = (number if tensor.parts else 0) if tensor.first_chunk is None else tensor.first_chunk
        for i, part in enumerate(tensor.parts):
            chunk(part, 1, owner, i, 64 if i else 4096)
            number += 1
        flags = tensor.flags | (2 if tensor.stats else 0)
        tensor_records += struct.pack(
            "<QIIBBBBB3xfI",
            first,
            len(tensor.name),
            tensor.block,
            tensor.dtype,
            len(tensor.shape),
            tensor.scheme,
            tensor.encoder,
            flags,
            tensor.offset,
            0,
        )
    payload.extend(bytes(align(HEADER + len(payload), 4096) - HEADER - len(payload)))
    index = pack_index(
        [
            (TENSORS, 1, tensor_records),
            (DIMS, 1, b"".join(struct.pack(f"<{len(t.shape)}Q", *t.shape) for t in tensors)),
            (NAMES, 1, b"".join(t.name for t in tensors) + b"".join(name for name, _ in files)),
            (
                FILES,
                1,
                b"".join(struct.pack("<QII", sum(part.record()[1] for part in parts), len(name), 0) for name, parts in files),
            ),
            (CHUNKS, 1, records),
            (STATS, 0, b"".join(t.stats for t in tensors)),
            (TEXT, 0, provenance),
            *extra_sections,
        ]
    )
    return close(header_of(file_id, *shard), bytes(payload), index)


def nf4(name=b"proj.weight", scale=0.5, codes=bytes(16) + b"\x07", scales=None, **rest):
    """33 codes in two blocks of 32."""
    scales = struct.pack("<2f", scale, 0.25) if scales is None else scales
    return Tensor(name, (3, 11), [Part(codes), Part(scales)], scheme=1, block=32, encoder=1, **rest)


def nested(name=b"nested.weight", absmax2=0.5, offset=0.25, **rest):
    """64 codes in two blocks of 32 with nested scales."""
    return Tensor(
        name,
        (2, 32),
        [Part(bytes(range(32))), Part(b"\x10\xf0"), Part(struct.pack("<f", absmax2))],
        scheme=1,
        block=32,
        encoder=1,
        flags=1,
        offset=offset,
        **rest,
    )


def raw(name=b"norm.weight", values=b"\x80\x3f\x00\x3f\x00\xc0\x00\x00", **rest):
    return Tensor(name, (len(values) // 2,), [Part(values)], **rest)


def sample_tensors():
    return [nf4(), nested(), raw()]


FILE = (b"config.json", b'{"model_type":"llama"}')


def sample(**rest):
    return build(sample_tensors(), files=[FILE], **rest)


def split(data):
    """(header, payload, index) of a right file."""
    offset, size = struct.unpack_from("<QQ", data, len(data) - FOOTER + 8)
    return data[:HEADER], data[HEADER:offset], data[offset : offset + size]


def lie(data, region, at, new):
    """`data` with `new` at offset `at` of its region "header", "payload", "index" or "footer", and right digests."""
    header, payload, index = (bytearray(part) for part in split(data))
    if region == "footer":
        file_id = bytes(header[32:64])
        footer = bytearray(data[-FOOTER:-8])
        footer[at : at + len(new)] = new
        return data[:-FOOTER] + bytes(footer) + struct.pack("<Q", xxh3_64(footer, seed(file_id, 4)))
    part = {"header": header, "payload": payload, "index": index}[region]
    part[at : at + len(new)] = new
    return close(bytes(header), bytes(payload), bytes(index))


def place(data, section, record=0, field=0):
    """Offset in the index of a field of a record of a section."""
    size = {TENSORS: TENSOR_RECORD, FILES: FILE_RECORD, CHUNKS: CHUNK_RECORD, DIMS: 8, STATS: 248}.get(section, 1)
    return section_list(split(data)[2])[section - 1][2] + size * record + field


def lie_in(data, section, record, field, form, *values):
    """`data` with another value in a record of the index, and right digests."""
    return lie(data, "index", place(data, section, record, field), struct.pack("<" + form, *values))


def rle_frame(size, value=0, *, content_size=True, window=None, dictionary=False, checksum=False):
    """A zstd frame of `size` equal bytes (RFC 8878), in RLE blocks."""
    single = window is None
    descriptor = (
        (0x80 if content_size else 0)
        | (0x20 if single else 0)
        | (0x04 if checksum else 0)
        | (0x01 if dictionary else 0)
    )
    if single and not content_size:
        raise ValueError("a single segment states its size")
    frame = b"\x28\xb5\x2f\xfd" + bytes([descriptor])
    frame += b"" if single else bytes([window])
    frame += b"\x07" if dictionary else b""
    frame += struct.pack("<I", size) if content_size else b""
    for left in range(size, 0, -ZSTD_BLOCK):
        last = left <= ZSTD_BLOCK
        frame += struct.pack("<I", min(left, ZSTD_BLOCK) << 3 | 1 << 1 | last)[:3] + bytes([value])
    return frame + (bytes(4) if checksum else b"")


def compressed(frame, raw_bytes=4096, name=b"zeros"):
    """A container whose only tensor is `raw_bytes` of U8 in that frame."""
    return build([Tensor(name, (raw_bytes,), [Part(frame, raw_bytes)], dtype=U8)])
