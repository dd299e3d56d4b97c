"""Sections 3.3 and 3.4: PyTorch archives and the pickles in them."""

import io
import struct
import zipfile

import torch_bytes as pt
from harness import CONVERT, Case, Row, accept, require
from torch_bytes import CENTRAL, END, LOCAL, PROTO, mapping, number, program, state, storage, tensor, text

IN = "in.safetensors"  # the content says what a file is
INSPECT = ("q4inspect", IN)
FLOATS = struct.pack("<4f", 1, 2, 3, 4)
DIRECTORY, ENTRY, RANGES, NAME, CRC, MANY, PICKLE = 3710, 3711, 3712, 3713, 3714, 3715, 3716
PROGRAM, GLOBAL, OPERAND, LARGE, KEY = 3123, 3124, 3125, 3126, 3127
STORAGE, SIZE, SHAPE, VIEW, EXPANDED, HOOKS = 3131, 3132, 3133, 3134, 3135, 3136
COMPRESSED, VERSION, SCRIPT, LEGACY, PROTOCOL, KIND, NO_STATE = 5710, 5711, 5712, 5713, 5714, 5715, 5716


def bad(data, issue, word="", **rest):
    for command in (CONVERT, INSPECT):
        yield Case({IN: data}, code=issue // 1000, issue=issue, text=word, command=command, **rest)


def good(data, **rest):
    yield accept({IN: data}, **rest)
    yield accept({IN: data}, command=INSPECT, makes=())


def torch(pickle, storages=(FLOATS,), **rest):
    return pt.checkpoint(pickle, storages, **rest)


PLAIN = torch(state(("a", tensor())))
LAST = PLAIN.rindex(END)


def patched(data, signature, offset, form, value, last=False):
    """`data` with another value at `offset` behind a record's signature."""
    at = (data.rindex if last else data.index)(signature) + offset
    new = struct.pack("<" + form, value)
    return data[:at] + new + data[at + len(new) :]


def zipped(entries, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, content in entries:
            file.writestr(name, content)
    return out.getvalue()


def with_zip64(entries=None, directory=None, offset=None, at=None, size=44):
    """PLAIN with zip64 records, of which some may lie."""
    count, length, begin = struct.unpack("<10xHII", PLAIN[LAST : LAST + 20])
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", size, 45, 45, 0, 0, count, entries or count, directory or length, offset or begin)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, LAST if at is None else at, 1)
    return PLAIN[:LAST] + record + locator + PLAIN[LAST:]


def z01():
    yield from good(PLAIN)
    yield from bad(PLAIN[:LAST], DIRECTORY, "end record")
    yield from bad(PLAIN[:-2] + b"\x16\0" + END + bytes(18), DIRECTORY)
    yield from bad(PLAIN + PLAIN[-22:], DIRECTORY)
    yield from bad(PLAIN[:-2] + b"\1\0x", DIRECTORY)
    yield from bad(PLAIN + b"\n", DIRECTORY)
    yield from bad(LOCAL + bytes(10), DIRECTORY)


def z02():
    yield from good(with_zip64())
    yield from bad(PLAIN[:LAST] + struct.pack("<4sIQI", b"PK\x06\x07", 0, 1 << 40, 1) + PLAIN[LAST:], DIRECTORY)
    for lie in (dict(entries=9), dict(directory=9), dict(offset=9), dict(at=9), dict(size=45)):
        yield from bad(with_zip64(**lie), DIRECTORY)


def z03():
    yield from bad(patched(patched(PLAIN, END, 10, "H", 9, True), END, 8, "H", 9, True), DIRECTORY, "fewer")
    yield from bad(patched(patched(PLAIN, END, 10, "H", 2, True), END, 8, "H", 2, True), DIRECTORY, "more")
    yield from bad(patched(PLAIN, END, 10, "H", 9, True), DIRECTORY)


def z04():
    yield from bad(patched(PLAIN, END, 16, "I", 0xFFFFFFF0, True), DIRECTORY)
    for offset in (0xFFFFFF00, LAST, len(PLAIN)):
        yield from bad(patched(PLAIN, CENTRAL, 42, "I", offset), RANGES)
    yield from bad(patched(PLAIN, CENTRAL, 42, "I", 0xFFFFFFFF), ENTRY)
    wide = with_zip64(entries=2**63)
    yield from bad(patched(patched(wide, END, 8, "H", 0xFFFF, True), END, 10, "H", 0xFFFF, True), DIRECTORY)


def z05():
    yield from bad(PLAIN.replace(b"m/data.pkl", b"m/dbta.pkl", 1), ENTRY, "another name")
    yield from bad(patched(PLAIN, LOCAL, 4, "H", 0)[:26] + b"\x09" + PLAIN[27:], ENTRY)


def z06():
    for bit in (1, 32, 64, 1 << 13):
        both = patched(patched(PLAIN, LOCAL, 6, "H", 0x0808 | bit), CENTRAL, 8, "H", 0x0808 | bit)
        yield from bad(both, ENTRY, "flag")
    yield from bad(patched(PLAIN, LOCAL, 6, "H", 0), ENTRY)
    # No descriptor where the flags promise one, and one where they do not.
    plain = torch(state(("a", tensor())), described=False)
    yield from good(plain)
    yield from bad(patched(patched(plain, LOCAL, 6, "H", 8), CENTRAL, 8, "H", 8), ENTRY)
    none = patched(patched(PLAIN, LOCAL, 6, "H", 0x0800), CENTRAL, 8, "H", 0x0800)
    yield from bad(none, ENTRY)


def z07():
    bomb = [("m/data.pkl", state(("a", tensor()))), ("m/data/0", bytes(1 << 20)), ("m/version", b"3")]
    yield from bad(zipped(bomb, zipfile.ZIP_DEFLATED), COMPRESSED, "torch.save writes none")


def z08():
    yield from bad(patched(PLAIN, CENTRAL, 42, "I", 0, True), RANGES)
    size = len(FLOATS)
    at = PLAIN.index(b"m/data/0", PLAIN.index(CENTRAL)) - 46
    # A size that reaches into what follows: the entry's own descriptor, the next entry, the directory.
    for more in (1, 16, 64, 1 << 20):
        longer = PLAIN[: at + 20] + struct.pack("<II", size + more, size + more) + PLAIN[at + 28 :]
        yield from bad(longer, RANGES)


def z09():
    yield from bad(torch(state(("a", tensor())), more=[("m/Data/0", b"x")]), NAME, "twice")
    yield from bad(torch(state(("a", tensor())), more=[("m\\data/0", b"x")]), NAME)
    yield from bad(torch(state(("a", tensor())), more=[("m/data/0", FLOATS)]), NAME, "twice")


def flipped(data, name, offset=0):
    """A bit of an entry's content is another one."""
    at = data.index(name) + len(name)
    extra = struct.unpack("<H", data[at - len(name) - 2 : at - len(name)])[0]
    at += extra + offset
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def z10():
    yield from bad(flipped(PLAIN, b"m/data.pkl", 2), CRC)
    yield from bad(patched(PLAIN, CENTRAL, 16, "I", 1), ENTRY)
    # Storages are compared by who reads them all.
    yield Case({IN: flipped(PLAIN, b"m/data/0")}, issue=CRC, text="m/data/0")
    yield accept({IN: flipped(PLAIN, b"m/data/0")}, command=INSPECT, makes=())
    # With set_crc32_options(False) PyTorch writes 0 for "not computed".
    yield from good(torch(state(("a", tensor())), crc=0))


def z11():
    yield from bad(patched(PLAIN, CENTRAL, 24, "I", 9), ENTRY, "sizes differ")


def z12():
    for name in ("n/data/0", "../x", "/x", "m/../x", "m//x", "m/./x", "m", "C:/x", "m/a:b", b"m/\xff", b"m/\0"):
        yield from bad(torch(state(("a", tensor())), more=[(name, b"x")]), NAME)


def many(path):
    """A directory of more entries than the limit, none of which is read."""
    count = 1_000_001
    record = CENTRAL + struct.pack("<HHHHIIIIHHHHHII", 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0) + b"m/a"
    with open(path, "wb") as file:
        file.write(LOCAL + bytes(26))
        file.write(record * count)
        file.write(struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(record) * count, 30))
        file.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, 30 + len(record) * count, 1))
        file.write(END + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))


def z13():
    yield from bad(torch(state(("a", tensor())), more=[("m/x/data.pkl", b".")]), PICKLE)
    yield from bad(torch(state(("a", tensor()))).replace(b"data.pkl", b"data.pkx"), PICKLE, "no PyTorch")
    yield from bad(zipped([("word/document.xml", b"<x/>"), ("[Content_Types].xml", b"")]), PICKLE)
    yield from bad(pt.archive([("m/x/data.pkl", b".")]), PICKLE, "too deep")
    yield from bad(many, MANY, seconds=5)


def z14():
    for order in (b"big", b"pdp", b"little" * 20):
        yield from bad(torch(state(("a", tensor())), byteorder=order), VERSION, "byteorder")
    for version in (b"0", b"11", b"999999", b"99999999999999999999", b"", b"three", b"-3", b"3 "):
        yield from bad(torch(state(("a", tensor())), version=version), VERSION, "version")


def z15():
    at = PLAIN.index(CENTRAL)
    # Before the first entry: then nothing lies where the directory says.
    yield from bad(b"prefix" + PLAIN, 3103)
    yield from bad(PLAIN[:at] + b"gap" + PLAIN[at:], DIRECTORY)
    begin = struct.unpack("<16xI", PLAIN[LAST : LAST + 20])[0]
    gap = PLAIN[:at] + b"gap" + patched(PLAIN[at:], END, 16, "I", begin + 3, True)
    yield from bad(gap, RANGES)
    moved = b"PK\x03\x04" + patched(PLAIN, END, 16, "I", begin + 4, True)
    yield from bad(moved, ENTRY)
    yield from bad(pt.archive([]), 3103)


def z16():
    code = [("m/constants.pkl", PROTO + b")."), ("m/code/x.py", b"import os")]
    yield from bad(torch(state(("a", tensor())), more=code), SCRIPT, "state_dict")
    yield from bad(torch(state(("a", tensor())), more=code[1:]), SCRIPT)
    yield from bad(zipped([("m/data.pkl", b"."), *code], zipfile.ZIP_DEFLATED), SCRIPT)


def z17():
    yield from bad(patched(PLAIN, LOCAL, 28, "H", 0xFFFF), ENTRY)
    at = PLAIN.index(b"FB")
    for lie in (b"FB\xff\xff", b"FB\0\0", b"UT" + PLAIN[at + 2 : at + 4], b"\1\0" + PLAIN[at + 2 : at + 4]):
        changed = PLAIN[:at] + lie + PLAIN[at + 4 :]
        if lie[:2] == b"\1\0":
            yield from good(changed)  # with a descriptor its sizes say nothing, and PyTorch writes offsets there
        else:
            yield from bad(changed, ENTRY, "extra")


def z18():
    magic = PROTO + b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    yield from bad(magic, LEGACY, "torch.save")
    yield from bad(state(("a", tensor())), LEGACY)
    yield from bad(PROTO + b"cos\nsystem\n" + text("touch hacked") + b"\x85R.", LEGACY)
    yield from bad(b"x" + bytes(256) + b"ustar\x0000" + bytes(760), 5101, "tar")


def z19():
    yield from bad(b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(40), 5101, "7z")
    yield from bad(b"sys_info" + bytes(249) + b"ustar  \0" + bytes(760), 5101, "tar")


def call(module, name, argument=text("touch hacked") + b"\x85"):
    """GLOBAL, arguments, REDUCE."""
    return program(f"c{module}\n{name}\n".encode() + argument + b"R")


def programs(issue, *pickles, word=""):
    for pickle in pickles:
        yield from bad(torch(pickle), issue, word)


def k01():
    for module, name in (("os", "system"), ("posix", "system"), ("builtins", "eval"), ("__builtin__", "exec"), ("builtins", "getattr"),
                         ("__builtin__", "getattr"), ("nt", "system"), ("subprocess", "call"), ("", ""), ("collections", "OrderedDict\0"),
                         ("torch", "\x1b[31mX")):
        yield from programs(GLOBAL, call(module, name), word="not part of a plain state dict")
    # Where it would be left out, it is refused all the same.
    yield from programs(GLOBAL, state(("a", tensor()), ("x", b"cos\nsystem\n)R")), word="os.system")


def k02():
    yield from programs(GLOBAL, call("torch.jit._script", "script"), call("torch.utils.bottleneck.__main__", "run_cprofile"),
                        call("torch", "load"), call("torch.hub", "load"), call("torch._utils", "_import_dotted_name"),
                        call("torch.nn.modules.linear", "Linear", b")"))


def k03():
    """Each of the 256 is tried in tests/formats/torch/torch_checkpoint_test.cc."""
    yield from programs(PROGRAM, PROTO + b"\x8c\x02os\x8c\x06system\x93.", PROTO + b"(ios\nsystem\n.", PROTO + b"\x82\x01.", PROTO + b"Pid\n.", PROTO + b"\x97.",
                        PROTO + b"\x95" + b"\xff" * 8 + b".", PROTO + b"(o.", PROTO + b"N}\x92.", PROTO + b"V\n.", PROTO + b"N2.", PROTO + b"\0.", word="opcode")


def k04():
    for protocol in (0, 1, 3, 4, 5):
        yield from programs(PROTOCOL, b"\x80" + bytes([protocol]) + state(("a", tensor()))[2:], word="expected 2")
    yield from programs(PROTOCOL, b"(dp0\n.", b"", b"\x80", word="expected 2")


def k05():
    yield from programs(OPERAND, PROTO + b"K\x01)R.", PROTO + b"ccollections\nOrderedDict\nK\x01R.", PROTO + b"ccollections\nOrderedDict\n]\x85R.",
                        PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n)R.", PROTO + b"ctorch\nFloatStorage\n)R.", PROTO + b"ctorch\nfloat16\n)R.",
                        PROTO + b")ctorch._utils\n_rebuild_parameter\nNR.", PROTO + b"ctorch\nTensor\n)\x81.", word="offset")
    yield from programs(OPERAND, state(("a", tensor(of=b"N"))), state(("a", pt.parameter(b"N"))))
    yield from programs(SHAPE, state(("a", tensor(shape=()).replace(b"(t", b"N", 1))))


def k06():
    yield from programs(OPERAND, PROTO + b"]}b.", PROTO + b"}(" + text("a") + tensor() + b"u}" + text("__class__") + b"Nsb.",
                        PROTO + pt.ORDERED + b"}" + text("__class__") + b"Nsb.", PROTO + pt.ORDERED + b"Nb.", state(("a", tensor() + b"}b")))
    metadata = mapping([("_metadata", pt.ORDERED)])
    yield from good(torch(program(pt.ORDERED + b"(" + text("a") + tensor() + b"u" + metadata + b"b")))


def k07():
    yield from programs(OPERAND, state(("a", tensor() + b"K\x01K\x01s")), PROTO + b"NK\x01K\x01s.", PROTO + b"}]K\x01s.", PROTO + b"NK\x01a.", PROTO + b"}K\x01a.")
    yield from programs(PROGRAM, PROTO + b"}(K\x01u.")


def k08():
    yield from programs(PROGRAM, PROTO + b"0.", PROTO + b"t.", PROTO + b".", PROTO + b"(0u.", PROTO + b"N(.", PROTO + b"NN.", PROTO + b"(u.", PROTO + b"N(\x85.",
                        PROTO + b"q\0.", PROTO + b"Q.", PROTO + b"R.", PROTO + b"b.", PROTO + b"a.", PROTO + b"s.", PROTO + b"e.")


def k09():
    yield from programs(PROGRAM, PROTO + b"h\x07.", PROTO + b"Nr\xff\xff\xff\xffj\xff\xff\xff\xff.", PROTO + b"Nq\1.", PROTO + b"j\0\0\0\0.")
    # A number that is given again means the later value.
    again = text("c") + b"Nq\0" + text("b") + tensor() + b"q\0" + text("a") + b"h\0"
    yield from good(torch(program(b"}(" + again + b"u")))


def k10():
    yield from programs(PROGRAM, PROTO + b"X\xff\xff\xff\x7fa.", PROTO + b"\x8a\xff" + b"\xff" * 9 + b".", PROTO + b"B\xff\xff\xff\xff.", PROTO + b"K", PROTO + b"M\1",
                        PROTO + b"J\1\1", PROTO + b"G\1", PROTO + b"c", PROTO + b"ccollections\nOrderedDict", PROTO + b"Nq", PROTO + b"Nh", PROTO + b"\x8a")
    yield from programs(NO_STATE, PROTO + b"\x8a\xff" + b"\xff" * 255 + b".", PROTO + b"\x8a\0.")


def k11():
    yield from programs(OPERAND, PROTO + b"NQ.", PROTO + b"K\x01\x85Q.", PROTO + b"(" + text("foo") + b"NNNNtQ.", PROTO + b")Q.",
                        PROTO + storage()[:-2] + b"NtQ.", PROTO + storage().replace(text("0"), b"N") + b".", word="persistent id|a tuple|got")
    yield from programs(OPERAND, state(("a", tensor(kind="float16"))), word="no storage")


def k12():
    yield from programs(SIZE, *(state(("a", tensor(elements=n))) for n in (5, 3, 0, -1, 2**62, 2**63 - 1, -(2**62))))
    yield from programs(OPERAND, state(("a", tensor(elements=2**63))))


def k13():
    yield from programs(STORAGE, *(state(("a", tensor(key=key))) for key in ("../0", "a/b", "9", "", "/0", "0\0")))
    yield from bad(torch(state(("a", tensor(key="a/b"))), more=[("m/data/a/b", FLOATS)]), STORAGE)


def k14():
    yield from programs(VIEW, state(("a", tensor(offset=1))), state(("a", tensor(strides=(2**63 - 1,)))), state(("a", tensor(shape=(2, 2), strides=(2, 2)))),
                        state(("a", tensor(shape=(1,), offset=4))), state(("a", tensor(shape=(2, 2), strides=(2**62, 2**62)))), state(("a", tensor(shape=(1,), offset=2**63 - 1))))
    # A stride of a dimension that is not stepped through says nothing.
    yield from good(torch(state(("a", tensor(shape=(1, 4), strides=(2**63 - 1, 1))))))
    yield from good(torch(state(("a", tensor(shape=(0, 4), strides=(4, 1), offset=9)), ("b", tensor()))))


def k15():
    yield from programs(SHAPE, state(("a", tensor(strides=(-1,)))), state(("a", tensor(strides=(1, 1)))), state(("a", tensor(shape=(-4,)))), state(("a", tensor(offset=-1))),
                        state(("a", tensor(shape=(1,) * 9))), state(("a", tensor(shape=(2**47, 2)))), state(("a", tensor(shape=(2**62, 0)))))


def k16():
    yield from programs(EXPANDED, state(("a", tensor(shape=(2**40,), strides=(0,)))), state(("a", tensor(shape=(2, 2), strides=(0, 1)))),
                        state(("a", tensor(shape=(5,)))), word="contiguous")


def q4_tensors(bench, pickle, storages):
    bench.build({IN: torch(pickle, storages)})
    bench.ok(*CONVERT)
    bench.ok("q4verify", "out.q4", "--against", IN, "-q", "--progress", "none")


def k17():
    """Tied weights: two names, one storage, and views of it that overlap."""
    yield from good(torch(state(("a", tensor()), ("b", tensor()))))

    def tied(bench):
        big = struct.pack("<8192f", *(i % 61 / 7 for i in range(8192)))
        whole = dict(key="0", elements=8192)
        q4_tensors(bench, state(("model.embed.weight", tensor((64, 128), **whole)), ("lm_head.weight", tensor((64, 128), **whole)),
                                ("layers.0.proj.weight", tensor((32, 128), **whole)), ("layers.1.proj.weight", tensor((32, 128), offset=2048, **whole)),
                                ("layers.2.proj.weight", tensor((128, 64), (1, 128), **whole))), [big])

    yield tied


def k18():
    """Views that are not contiguous, of one storage."""
    yield from good(torch(state(("a", tensor(shape=(2, 2), strides=(1, 2))))))

    def views(bench):
        big = struct.pack("<16384f", *(i % 97 / 8 - 6 for i in range(16384)))
        whole = dict(key="0", elements=16384)
        q4_tensors(bench, state(("layers.0.proj.weight", tensor((128, 128), (1, 128), **whole)), ("layers.1.proj.weight", tensor((64, 64), (256, 2), **whole)),
                                ("layers.2.proj.weight", tensor((64, 128), (128, 1), 8192, **whole)), ("b", tensor((128,), (128,), 127, **whole)),
                                ("c", tensor((2, 3, 5, 7), (7, 1400, 1, 33), 5, **whole))), [big])

    yield views


def streamed(size, head, pieces):
    """An archive whose pickle is `head` and `size` bytes of what `pieces` gives, else zeros, which never lie in memory together."""

    def write(path):
        entries = [(b"m/data.pkl", size + len(head)), (b"m/version", 1)]
        directory = b""
        with open(path, "wb") as file:
            for name, length in entries:
                fields = struct.pack("<IIIHH", 0, length, length, len(name), 0)  # the CRC-32 was not computed
                directory += CENTRAL + bytes(12) + fields + bytes(10) + struct.pack("<I", file.tell()) + name
                file.write(LOCAL + bytes(10) + fields + name)
                begin = file.tell()
                file.write(b"3" if length == 1 else head)
                for piece in pieces() if length != 1 else ():
                    file.write(piece)
                file.seek(begin + length)
            begin = file.tell()
            file.write(directory + END + struct.pack("<HHHHIIH", 0, 0, 2, 2, len(directory), begin, 0))

    return write


def k19():
    yield from programs(NO_STATE, PROTO + b"]q\0h\0a.", PROTO + b"(]" + b"q\0]h\0ah\0a" * 60 + b"t.", PROTO + b"]" * 10_000 + b"a" * 9_999 + b".")
    yield from programs(PROGRAM, PROTO + b"(" * 100_000 + b"l" * 100_000 + b".")
    # Dictionaries in dictionaries, and one in itself, under the name of a model.
    nested = tensor()
    for _ in range(9):
        nested = mapping([("model", nested)])
    yield from programs(NO_STATE, program(nested), word="without an end")
    yield from programs(NO_STATE, PROTO + b"}q\0" + text("model") + b"h\0s.")
    # 2^60 paths to one tensor, beside the model.
    paths = b"(}(" + text("w") + tensor() + b"uq\0"
    for level in range(60):
        paths += b"]q" + bytes([level + 1]) + b"(h" + bytes([level]) + b"h" + bytes([level]) + b"e"
    paths += b"t"
    yield from good(torch(state(("state_dict", mapping([("a", tensor())])), ("more", paths))))
    # One tensor under more names than a checkpoint may have tensors.
    names = b"".join(text(f"{i:x}") + b"h\0s" for i in range(1_000_001))
    yield from bad(torch(PROTO + b"}" + text("t") + tensor() + b"q\0s" + names + b"."), 3137, seconds=5, rss=512)
    # Beyond the limits of the stack, of marks, of values and of what is remembered.
    many = b"(" + b"N" * 999_990 + b"e"
    yield from bad(torch(PROTO + b"(" * 1_000_001 + b"."), LARGE, seconds=2)
    yield from bad(torch(PROTO + b"N" * 1_000_001 + b"."), LARGE, seconds=2)
    yield from bad(torch(PROTO + b"]" + many * 5 + b"."), LARGE, seconds=4)
    steps = range(0, 4_001_000, 1000)

    def remembered():
        for i in steps:
            yield b"".join(b"r" + struct.pack("<I", i + k) for k in range(1000))

    yield from bad(streamed(len(steps) * 5000, PROTO + b"N", remembered), LARGE, seconds=4)
    yield from bad(streamed(64 * 2**20, b"x", tuple), LARGE, seconds=4)


def k20():
    whole = state(("a", tensor()))
    yield from programs(PROGRAM, whole[:-1], whole + b"x", whole * 2)


def k21():
    yield from programs(NO_STATE, state(("a", number(1)), ("b", text("c"))), program(b"N"), program(tensor()), program(b"](" + tensor() + b"e"), word="state")
    yield from programs(NO_STATE, state(("state", mapping([(number(0), mapping([("exp_avg", tensor())]))])), ("param_groups", b"]")), word="optimizer")
    yield from programs(NO_STATE, state(("g", mapping([("w", tensor())])), ("d", mapping([("w", tensor())]))), word="could be the model")
    yield from programs(NO_STATE, state(("g", mapping([("w", tensor())])), ("w", tensor())), word="could be the model")
    yield Case({IN: torch(program(b"}"))}, issue=3122)
    yield accept({IN: torch(program(b"}"))}, command=INSPECT, makes=())
    optimizer = mapping([("state", mapping([(number(0), mapping([("exp_avg", tensor())]))])), ("param_groups", b"]")])

    def told(bench):
        """What is left out is said, and the model is found."""
        for key in ("state_dict", "model", "module", "net_g"):
            bench.build({IN: torch(state((key, mapping([("a", tensor())])), ("optimizer", optimizer), ("epoch", number(7)), ("best", tensor(shape=(), elements=4))))})
            require("optimizer (1 tensor)" in bench.ok("q4inspect", IN, "--files").stdout.decode(), "the optimizer is not named")
            shown = bench.ok("q4inspect", IN, "--tensors").stdout.decode()
            require(" a " in shown or "\na" in shown or "a" in shown.split(), f"the tensor has another name: {shown}")

    yield told


def k22():
    yield from programs(KEY, program(b"}(K\x01" + tensor() + b"u"), program(b"}(" + (text("a") + tensor()) * 2 + b"u"), state(("", tensor())), state(("x" * 4097, tensor())),
                        state(("a\0b", tensor())))
    yield from programs(PROGRAM, program(b"}(" + text(b"\xff") + tensor() + b"u"), word="UTF-8")
    yield from programs(OPERAND, program(b"}(]" + tensor() + b"u"))


def k23():
    for name, word in (("_rebuild_qtensor", "quantized"), ("_rebuild_sparse_tensor", "sparse"), ("_rebuild_sparse_csr_tensor", "sparse"), ("_rebuild_nested_tensor", "nested"),
                       ("_rebuild_meta_tensor_no_storage", "meta"), ("_rebuild_wrapper_subclass", "subclass")):
        made = f"ctorch._utils\n{name}\n)R".encode()
        yield from programs(KIND, state(("a", tensor()), ("x.weight", made)), word=f"x.weight.*{word}")
        yield from programs(KIND, program(made), word=word)
    for kind, word in (("ComplexDoubleStorage", "complex128"), ("QInt8Storage", "quantized"), ("QUInt4x2Storage", "quantized")):
        yield from programs(KIND, state(("a", tensor(kind=kind))), word=word)
    for dtype in ("float8_e4m3fnuz", "complex128", "uint4", "quint8"):
        yield from programs(KIND, state(("a", tensor(dtype=dtype, kind="UntypedStorage", module="torch.storage", elements=16))), word=dtype.replace("quint8", "quantized"))
    conjugated = mapping([("conj", b"\x88")])
    yield from bad(torch(state(("a", tensor(shape=(2,), kind="ComplexFloatStorage", elements=2, metadata=conjugated)))), KIND, "conjugated")
    yield from good(torch(state(("a", tensor(metadata=b"}"), ))))
    # Where it was is of no interest, nor what is left out.
    yield from good(torch(state(("a", tensor().replace(text("cpu"), text("cuda:0"))))))
    yield from good(torch(state(("model", mapping([("a", tensor())])), ("ema_q", b"ctorch._utils\n_rebuild_qtensor\n)R"))))


def k24():
    hook = pt.ORDERED + text("h") + b"Ns"
    yield from programs(HOOKS, state(("a", tensor(hooks=hook))), state(("a", pt.parameter(tensor(), hooks=hook))), state(("a", tensor(hooks=b"K\x01"))))
    yield from good(torch(state(("a", pt.parameter(tensor())), ("b", tensor(hooks=b"N")))))


def rows(letter, *entries):
    return [Row(f"{letter}{i + 1:02}", title, cases) for i, (title, cases) in enumerate(entries)]


ROWS = [
    *rows(
        "Z",
        ("no, hidden or two ends of directory", z01),
        ("zip64 records that disagree", z02),
        ("entry count differs", z03),
        ("central header outside the file", z04),
        ("local and central names differ", z05),
        ("flag bits", z06),
        ("compressed entries", z07),
        ("overlapping entries", z08),
        ("duplicate names", z09),
        ("wrong CRC-32", z10),
        ("stored, but sizes differ", z11),
        ("roots and paths", z12),
        ("missing or second data.pkl", z13),
        ("byteorder and version", z14),
        ("bytes before and between entries", z15),
        ("TorchScript", z16),
        ("extra fields", z17),
        ("legacy tar or bare pickle", z18),
        ("7z, tar by that name", z19),
    ),
    *rows(
        "K",
        ("names that execute", k01),
        ("gadgets of torch", k02),
        ("opcodes that are not allowed", k03),
        ("other protocols", k04),
        ("REDUCE of wrong operands", k05),
        ("BUILD of other than OrderedDict", k06),
        ("SETITEM on a wrong type", k07),
        ("stack underflow", k08),
        ("memo", k09),
        ("lengths past the end", k10),
        ("persistent id of another form", k11),
        ("storage of another size", k12),
        ("storage key that is a path or absent", k13),
        ("view outside the storage", k14),
        ("strides", k15),
        ("one element viewed as 2^40", k16),
        ("tied weights [A]", k17),
        ("views that are not contiguous [A]", k18),
        ("self-reference, deep nesting, doubling", k19),
        ("no STOP, bytes after STOP", k20),
        ("no tensors, leftovers", k21),
        ("keys", k22),
        ("quantized, sparse, meta", k23),
        ("backward hooks", k24),
    ),
]
