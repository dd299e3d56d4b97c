"""Sections 3.3 and 3.4: PyTorch archives and pickle programs, whose readers do not exist yet.

Each row's input is built all the same, so that the reader finds it here. Until then it must be refused by what it is, as any
other file that q4 does not read, without anything in it having been executed.
"""

import io
import struct
import zipfile

from harness import CONVERT, Case, Row

IN = "in.safetensors"
REFUSED = (3001, 3101, 3103, 3104, 3130, 5101)  # no header, another kind of file, a kind that is not read
INSPECT = ("q4inspect", IN)


def refused(data):
    for command in (CONVERT, INSPECT):
        yield Case({IN: data}, code=(3, 5), issue=REFUSED, command=command)


# ---- pickles

PROTO = b"\x80\x02"


def call(module, name, argument=b"X\x0c\0\0\0touch hacked"):
    """GLOBAL, one argument, REDUCE."""
    return PROTO + b"c" + module + b"\n" + name + b"\n" + argument + b"\x85R."


def dictionary(items):
    return PROTO + b"}(" + items + b"u."


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


GLOBAL_DICT = b"ccollections\nOrderedDict\n)R"
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"


def tensor(offset=b"K\0", size=b"K\x04\x85", stride=b"K\x01\x85", storage=STORAGE, hooks=GLOBAL_DICT):
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride + b"\x89" + hooks + b"tR"


def state(value):
    return dictionary(text(b"a") + value)


# ---- archives as torch.save writes them: every entry stored


def archive(
    pickle=None,
    entries=(),
    compression=zipfile.ZIP_STORED,
    root="m",
    version=b"3\n",
    byteorder=b"little",
    storage=bytes(16),
):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr(f"{root}/data.pkl", state(tensor()) if pickle is None else pickle)
        file.writestr(f"{root}/byteorder", byteorder)
        file.writestr(f"{root}/data/0", storage)
        file.writestr(f"{root}/version", version)
        for name, content in entries:
            file.writestr(name, content)
    return out.getvalue()


def patched(data, signature, offset, form, value, last=False):
    """`data` with another value at `offset` behind a record's signature."""
    at = (data.rindex if last else data.index)(signature) + offset
    new = struct.pack("<" + form, value)
    return data[:at] + new + data[at + len(new) :]


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
PLAIN = archive()


def zip_row(number, title, *files):
    return Row(
        f"Z{number:02}", title, lambda: (case for data in files for case in refused(data)), waits="the zip reader"
    )


def pickle_row(number, title, *programs):
    return Row(
        f"K{number:02}",
        title,
        lambda: (case for program in programs for case in refused(archive(program))),
        waits="the pickle reader",
    )


ROWS = [
    zip_row(
        1,
        "no, hidden or two ends of directory",
        PLAIN[: PLAIN.rindex(END)],
        PLAIN[:-2] + b"\x16\0" + END + bytes(18),
        PLAIN + PLAIN[-22:],
    ),
    zip_row(
        2, "zip64 records that disagree", PLAIN[:-22] + b"PK\x06\x07" + struct.pack("<IQI", 0, 1 << 40, 1) + PLAIN[-22:]
    ),
    zip_row(3, "entry count differs", patched(PLAIN, END, 10, "H", 9, True)),
    zip_row(
        4,
        "central header outside the file",
        patched(PLAIN, END, 16, "I", 0xFFFFFFF0, True),
        patched(PLAIN, CENTRAL, 42, "I", 0xFFFFFF00),
    ),
    zip_row(5, "local and central names differ", PLAIN.replace(b"m/data.pkl", b"m/dbta.pkl", 1)),
    zip_row(
        6, "flag bits", *(patched(patched(PLAIN, LOCAL, 6, "H", bit), CENTRAL, 8, "H", bit) for bit in (1, 8, 32, 64))
    ),
    zip_row(7, "compressed entries", archive(storage=bytes(1 << 20), compression=zipfile.ZIP_DEFLATED)),
    zip_row(8, "overlapping entries", patched(PLAIN, CENTRAL, 42, "I", 0, True)),
    zip_row(9, "duplicate names", archive(entries=[("m/Data/0", b"x"), ("m\\data/0", b"x")])),
    zip_row(10, "wrong CRC-32", patched(PLAIN, CENTRAL, 16, "I", 1)),
    zip_row(11, "stored, but sizes differ", patched(PLAIN, CENTRAL, 24, "I", 9)),
    zip_row(
        12,
        "roots and paths",
        archive(entries=[("n/data/0", b"x")]),
        archive(entries=[("../x", b"x")]),
        archive(entries=[("/x", b"x")]),
    ),
    zip_row(
        13,
        "missing or second data.pkl",
        archive(entries=[("m/x/data.pkl", b".")]),
        archive(root="m").replace(b"data.pkl", b"data.pkx"),
    ),
    zip_row(
        14,
        "byteorder and version",
        archive(byteorder=b"big"),
        archive(byteorder=b"pdp"),
        archive(version=b"0"),
        archive(version=b"999999"),
    ),
    zip_row(15, "bytes before and between entries", b"prefix" + PLAIN, PLAIN.replace(CENTRAL, b"gap" + CENTRAL, 1)),
    zip_row(16, "TorchScript", archive(entries=[("m/constants.pkl", PROTO + b")."), ("m/code/x.py", b"import os")])),
    zip_row(17, "extra field past the end", patched(PLAIN, LOCAL, 28, "H", 0xFFFF)),
    zip_row(
        18,
        "legacy tar or bare pickle",
        PROTO + b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
        call(b"os", b"system"),
    ),
    zip_row(
        19,
        "7z, tar by that name",
        b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(40),
        b"x" + bytes(256) + b"ustar\x0000" + bytes(760),
    ),
    pickle_row(
        1,
        "names that execute",
        *(
            call(m, n)
            for m, n in (
                (b"os", b"system"),
                (b"posix", b"system"),
                (b"builtins", b"eval"),
                (b"builtins", b"getattr"),
                (b"nt", b"system"),
                (b"subprocess", b"call"),
            )
        ),
    ),
    pickle_row(
        2,
        "gadgets of torch",
        call(b"torch.jit._script", b"script"),
        call(b"torch.utils.bottleneck.__main__", b"run_cprofile"),
        call(b"torch", b"load"),
    ),
    pickle_row(
        3,
        "opcodes that are not allowed",
        PROTO + b"\x8c\x02os\x8c\x06system\x93.",
        PROTO + b"(ios\nsystem\n.",
        PROTO + b"\x82\x01.",
        PROTO + b"Pid\n.",
        PROTO + b"\x97.",
        PROTO + b"\x95" + b"\xff" * 8 + b".",
    ),
    pickle_row(4, "other protocols", *(b"\x80" + bytes([p]) + state(tensor())[2:] for p in (0, 1, 3, 4, 5))),
    pickle_row(
        5,
        "REDUCE of wrong operands",
        PROTO + b"K\x01)R.",
        PROTO + b"ccollections\nOrderedDict\nK\x01R.",
        PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    ),
    pickle_row(
        6, "BUILD of other than OrderedDict", PROTO + b"]}b.", PROTO + GLOBAL_DICT + b"}X\x09\0\0\0__class__Nsb."
    ),
    pickle_row(
        7, "SETITEM on a wrong type", state(tensor() + b"K\x01K\x01s"), PROTO + b"NK\x01K\x01s.", PROTO + b"}(K\x01u."
    ),
    pickle_row(8, "stack underflow", PROTO + b"0.", PROTO + b"t.", PROTO + b".", PROTO + b"(0u."),
    pickle_row(9, "memo", PROTO + b"h\x07.", PROTO + b"Nr\xff\xff\xff\xffj\xff\xff\xff\xff.", PROTO + b"Nq\0Kqq\0h\0."),
    pickle_row(
        10,
        "lengths past the end",
        PROTO + b"X\xff\xff\xff\x7fa.",
        PROTO + b"\x8a\xff" + b"\xff" * 255 + b".",
        PROTO + b"B\xff\xff\xff\xff.",
    ),
    pickle_row(
        11, "persistent id of another form", PROTO + b"NQ.", PROTO + b"K\x01\x85Q.", PROTO + b"(X\x03\0\0\0fooNNNNtQ."
    ),
    pickle_row(
        12,
        "storage of another size",
        *(
            state(tensor(storage=STORAGE.replace(b"K\x04t", n + b"t")))
            for n in (b"K\x05", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\0" * 7 + b"\x40")
        ),
    ),
    pickle_row(
        13,
        "storage key that is a path or absent",
        *(state(tensor(storage=STORAGE.replace(b"X\x01\0\0\x000", text(k)))) for k in (b"../0", b"a/b", b"9")),
    ),
    pickle_row(
        14,
        "view outside the storage",
        state(tensor(offset=b"K\x01")),
        state(tensor(stride=b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85")),
    ),
    pickle_row(15, "strides", state(tensor(stride=b"J\xff\xff\xff\xff\x85")), state(tensor(stride=b"K\x01K\x01\x86"))),
    pickle_row(
        16, "one element viewed as 2^40", state(tensor(size=b"\x8a\x06" + b"\0" * 5 + b"\x01\x85", stride=b"K\0\x85"))
    ),
    pickle_row(17, "tied weights [A]", dictionary(text(b"a") + tensor() + text(b"b") + tensor())),
    pickle_row(18, "transposed view [A]", state(tensor(size=b"K\x02K\x02\x86", stride=b"K\x01K\x02\x86"))),
    pickle_row(
        19,
        "self-reference, deep nesting, doubling",
        PROTO + b"]q\0h\0a.",
        PROTO + b"(" * 100_000 + b"l" * 100_000 + b".",
        PROTO + b"]" + b"q\0]h\0ah\0a" * 60 + b".",
    ),
    pickle_row(20, "no STOP, bytes after STOP", state(tensor())[:-1], state(tensor()) + b"x", state(tensor()) * 2),
    pickle_row(21, "no tensors", dictionary(text(b"a") + b"K\x01" + text(b"b") + text(b"c"))),
    pickle_row(
        22,
        "keys",
        dictionary(b"K\x01" + tensor()),
        dictionary((text(b"a") + tensor()) * 2),
        dictionary(text(b"\xff") + tensor()),
    ),
    pickle_row(
        23,
        "quantized, sparse, meta",
        call(b"torch._utils", b"_rebuild_qtensor", b")"),
        call(b"torch._utils", b"_rebuild_sparse_tensor", b")"),
        call(b"torch._utils", b"_rebuild_meta_tensor_no_storage", b")"),
    ),
    pickle_row(24, "backward hooks", state(tensor(hooks=GLOBAL_DICT + text(b"h") + b"Ns"))),
]
