"""PyTorch checkpoints as bytes, without PyTorch: the zip archive and the pickle that torch.save writes, and lies about both."""

import struct
import zlib

LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
ALIGNMENT = 64
FLAGS = 0x0808  # names are UTF-8, and sizes follow each entry


def archive(entries, described=True, crc=None, central=None):
    """The zip archive of (name, content) pairs. `described`: as torch.save writes it, with padding before and a descriptor
    behind each entry; else as Python's zipfile. `crc`: of all entries, where it is not the right one. `central`: a function
    that changes the fields of an entry's record in the directory, a dict of name, flags, method, crc, stored, unpacked, offset."""
    out, directory = bytearray(), bytearray()
    for name, content in entries:
        name = name if isinstance(name, bytes) else name.encode()
        flags = FLAGS if described else 0
        sum32 = zlib.crc32(content) if crc is None else crc
        sizes = (0, 0, 0) if described else (sum32, len(content), len(content))
        extra = b""
        if described:
            begin = len(out) + 30 + len(name) + 4
            pad = -begin % ALIGNMENT
            extra = struct.pack("<2sH", b"FB", pad) + b"Z" * pad
        fields = dict(name=name, flags=flags, method=0, crc=sum32, stored=len(content), unpacked=len(content), offset=len(out))
        if central:
            central(fields)
        out += LOCAL + struct.pack("<HHHIIIIHH", 0, flags, 0, 0, *sizes, len(name), len(extra)) + name + extra + content
        if described:
            out += b"PK\x07\x08" + struct.pack("<III", sum32, len(content), len(content))
        f = fields
        directory += CENTRAL + struct.pack("<HHHHIIIIHHHHHII", 0, 0, f["flags"], f["method"], 0, f["crc"], f["stored"],
                                           f["unpacked"], len(f["name"]), 0, 0, 0, 0, 0, f["offset"]) + f["name"]
    end = END + struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), len(out), 0)
    out += directory + end
    return bytes(out)


def checkpoint(pickle, storages=(), root="m", version=b"3\n", byteorder=b"little", more=(), **rest):
    """An archive with that pickle; `storages` are the contents of data/0, data/1 and so on."""
    entries = [(f"{root}/data.pkl", pickle), (f"{root}/byteorder", byteorder)]
    entries += [(f"{root}/data/{i}", content) for i, content in enumerate(storages)]
    entries += [(f"{root}/version", version), *more]
    return archive(entries, **rest)


# ---- pickles of protocol 2

PROTO = b"\x80\x02"
ORDERED = b"ccollections\nOrderedDict\n)R"


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return b"X" + struct.pack("<I", len(value)) + value


def number(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key="0", elements=4, kind="FloatStorage", module="torch"):
    return b"(" + text("storage") + f"c{module}\n{kind}\n".encode() + text(key) + text("cpu") + number(elements) + b"tQ"


def tensor(shape=(4,), strides=None, offset=0, hooks=ORDERED, metadata=b"", of=None, dtype="", **rest):
    """A call of _rebuild_tensor_v2, or of _v3 for a `dtype`. `of`: the storage, else one of `rest`."""
    if strides is None:
        strides = [1] * len(shape)
        for i in range(len(shape) - 2, -1, -1):
            strides[i] = strides[i + 1] * shape[i + 1]
    where = storage(**rest) if of is None else of
    version, kind = ("v3", f"ctorch\n{dtype}\n".encode()) if dtype else ("v2", b"")
    return (f"ctorch._utils\n_rebuild_tensor_{version}\n(".encode() + where + number(offset) + numbers(shape)
            + numbers(strides) + b"\x89" + hooks + kind + metadata + b"tR")


def parameter(value, hooks=ORDERED):
    return b"ctorch._utils\n_rebuild_parameter\n" + value + b"\x88" + hooks + b"\x87R"


def mapping(items):
    """A dictionary of pickled values by text or pickled keys."""
    body = b"".join((text(key) if isinstance(key, str) else key) + value for key, value in items)
    return b"}(" + body + b"u"


def program(value):
    return PROTO + value + b"."


def state(*items):
    """The pickle of a state dict."""
    return program(mapping(items))
