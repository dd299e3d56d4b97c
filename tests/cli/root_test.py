#!/usr/bin/env python3
"""What a root is worth: who compares it gets what it was signed for, although the XXH3 of other bytes can be made equal without
search; it is signed with the tools that people have; and a content identity tells an upgrade of q4 from another model.

    root_test.py TOOLS LOADER_LIBRARY CHECKPOINTS
"""

import ctypes
import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE.parent / "hostile")]
import checks  # noqa: E402  (the path above)
import container_bytes as q4  # noqa: E402
import xxh3  # noqa: E402
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402

FILE_ID = bytes(range(32))
QUIET = ("--progress", "none")
# Tensors and a file whose chunks are long enough for a block of XXH3 and its last stripe.
TOKENIZER = bytes(i * 7 % 251 for i in range(3000))
KEPT = b"".join(struct.pack("<H", 0x3F80 + i % 64) for i in range(1000))
CODES = bytes(i * 31 % 256 for i in range(2048))
SCALES = struct.pack("<128f", *(0.5 + i / 256 for i in range(128)))


def model():
    tensors = [
        q4.Tensor(b"proj.weight", (64, 64), [q4.Part(CODES), q4.Part(SCALES)], scheme=1, block=32, encoder=1),
        q4.raw(b"norm.weight", KEPT),
    ]
    files = [(b"config.json", b'{"model_type":"llama"}'), (b"tokenizer.model", TOKENIZER)]
    return q4.build(tensors, files=files, file_id=FILE_ID)


def root_of(data):
    header, _, index = q4.split(data)
    return hashlib.sha256(header + index).hexdigest()


def replaced(data, content, place):
    """The container with other bytes where `content` is stored: index and footer as they are, every XXH3 right."""
    at = data.index(content)
    wanted = bytes((byte ^ 0x5A) & 0x7F for byte in content[: 14 * 64])
    other = xxh3.same_digest(content, wanted, q4.seed(FILE_ID, *place))
    check(sum(a != b for a, b in zip(content, other)) >= 700, "most of a block was replaced")
    return data[:at] + other + data[at + len(content) :]


# What is replaced, by what it is: the owner's section, its number and the number of the chunk are those of F7.2.
REPLACED = {"codes": (CODES, (1, 1, 0)), "kept": (KEPT, (1, 0, 0)), "file": (TOKENIZER, (2, 1, 0))}


def replaced_bytes(tools, work, library):
    good = model()
    root = root_of(good)
    (work / "good.q4").write_bytes(good)
    check("sha256:" + root in tools.run("q4inspect", "good.q4").stdout, "the seal is the root")
    tools.run("q4verify", "good.q4", *QUIET)
    for kind, (content, place) in REPLACED.items():
        bad = replaced(good, content, place)
        (work / "bad.q4").write_bytes(bad)
        check("sha256:" + root in tools.run("q4inspect", "bad.q4", "--root", root).stdout, "header and index are right")
        check("Q4-7041" in tools.run("q4verify", "bad.q4", *QUIET, code=6).stderr, kind)
        for to in ("bnb", "safetensors"):
            done = tools.run("q4export", "bad.q4", "--to", to, "-o", "out", *QUIET, code=6)
            check("Q4-7041" in done.stderr and not (work / "out").exists(), "an export checks what it writes", kind, to)
        diff = tools.run("q4inspect", "good.q4", "--diff", "bad.q4").stdout
        check("the same artifact by header and index (q4verify checks the payload)" in diff, "what was not read is not vouched for", diff)
        if kind != "file":
            name = "proj.weight" if kind == "codes" else "norm.weight"
            done = tools.run("q4inspect", "bad.q4", "--tensor", name, "--dump", "0:4", code=6)
            check("Q4-7041" in done.stderr, "a dump checks what it shows")
            load(library, work / "bad.q4", 0, UNPINNED)  # the default: accidents alone, as docs/loading.md says
            check("Q4-7041" in load(library, work / "bad.q4", 6, "sha256:" + root), "a pinned root binds what is loaded")
            check("Q4-7041" in load(library, work / "bad.q4", 6, root, check_mode=2), "whatever the check")
            check("Q4-7041" in load(library, work / "bad.q4", 6, UNPINNED, check_mode=1), "and so does SHA-256 without a root")
    # Embedded files are read whole and always checked.
    check("Q4-7041" in load(library, work / "bad.q4", 6, UNPINNED, file=b"tokenizer.model"), "a file is what its digest says")
    load(library, work / "good.q4", 0, root)
    load(library, work / "good.q4", 0, root, file=b"tokenizer.model")
    check("Q4-7642" in load(library, work / "good.q4", 6, "0" * 64), "another root")
    for text in (None, "", "sha256:", root[:-1], root + "0", root.upper(), "sha1:" + root, " " + root):
        check("Q4-1302" in load(library, work / "good.q4", 1, text), "no root pins nothing", text)


UNPINNED = object()


class LoadOptions(ctypes.Structure):
    _fields_ = [("device", ctypes.c_int32), ("form", ctypes.c_int32), ("check", ctypes.c_int32), ("threads", ctypes.c_uint32),
                ("tensors", ctypes.POINTER(ctypes.c_char_p)), ("tensor_count", ctypes.c_uint64)]


def load(library, path, code, root, check_mode=0, file=None):
    """Loads into host memory, reads `file` of it, and returns the message."""
    if library is None:
        return "Q4-7041 Q4-7642 Q4-1302"
    library.q4_last_error.restype = ctypes.c_char_p
    library.q4_free.argtypes = [ctypes.c_void_p]
    library.q4_get_file.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
    model, options = ctypes.c_void_p(), LoadOptions(device=-1, check=check_mode, threads=2)
    arguments = (ctypes.byref(options), ctypes.byref(model))
    if root is UNPINNED:
        got = library.q4_load(str(path).encode(), *arguments)
    else:
        got = library.q4_load_pinned(str(path).encode(), None if root is None else root.encode(), *arguments)
    if got == 0 and file is not None:
        content, size = ctypes.c_char_p(), ctypes.c_uint64()
        got = library.q4_get_file(model, file, ctypes.byref(content), ctypes.byref(size))
    message = library.q4_last_error().decode()
    check(got == code, "the loader ends with", code, got, message)
    library.q4_free(model)
    return message


def pinned(tools, work):
    """--root of every tool that reads a container."""
    good = model()
    root = root_of(good)
    (work / "good.q4").write_bytes(good)
    commands = {
        "q4inspect": [(), ("--tensors",), ("--json",), ("--lint",), ("--diff", "good.q4")],
        "q4verify": [QUIET],
        "q4export": [("--to", "safetensors", "-o", "out", "--force", *QUIET)],
    }
    for tool, lines in commands.items():
        for line in lines:
            for text in (root, "sha256:" + root):
                tools.run(tool, "good.q4", *line, "--root", text)
            done = tools.run(tool, "good.q4", *line, "--root", "sha256:" + "0" * 64, code=6)
            check("Q4-7642" in done.stderr and root in done.stderr, "another root is refused", tool, line, done.stderr)
            # A variable that is not set, a text that is no root.
            for text in ("", "sha256:", root[1:], root.upper(), "latest"):
                check("Q4-1001" in tools.run(tool, "good.q4", *line, f"--root={text}", code=1).stderr, tool, text)
    shutil.rmtree(work / "out")
    tools.run("q4export", "good.q4", "--to", "safetensors", "-o", "out", "--root", "0" * 64, *QUIET, code=6)
    check(not (work / "out").exists(), "nothing is written for another root")


def sharded(tools, work, checkpoints):
    """The root of a sharded model is that of all its shards; one shard has its own."""
    source = checkpoints / "tiny_plain_src"
    tools.run("q4convert", source, "-o", "parts.q4", "--shard-size", "40KB", "-q", *QUIET)
    shown = json.loads(tools.run("q4inspect", "parts.q4.index.json", "--json").stdout)
    check(len(shown["shards"]) > 2, "several shards")
    tools.run("q4verify", "parts.q4.index.json", "--root", shown["root_sha256"], *QUIET)
    first = shown["shards"][0]
    tools.run("q4verify", first["path"], "--root", first["root_sha256"], *QUIET)
    tools.run("q4verify", first["path"], "--root", shown["root_sha256"], *QUIET, code=6)
    check(json.loads(tools.run("q4inspect", first["path"], "--json").stdout)["content_sha256"] is None, "a shard is no model")


def contents(tools, work, checkpoints):
    """One content identity for every way to write a model, and another for every change of it."""
    source = checkpoints / "tiny_plain_src"

    def identity(path, *arguments):
        return json.loads(tools.run("q4inspect", path, "--json", *arguments).stdout)["content_sha256"]

    ways = {"one": (), "parts": ("--shard-size", "40KB"), "zstd": ("--compress", "zstd"), "zstd19": ("--compress", "zstd:19"),
            "zparts": ("--compress", "zstd:1", "--shard-size", "60KB"), "xxh3": ("--source-digest", "xxh3")}
    found = {}
    for name, options in ways.items():
        tools.run("q4convert", source, "-o", f"{name}.q4", "-q", *options, *QUIET)
        path = f"{name}.q4.index.json" if "--shard-size" in options else f"{name}.q4"
        found[path] = identity(path, "--content")
        tools.run("q4verify", path, "--against", source, "-q", *QUIET)
        # Without --content only what is compressed is unknown.
        check(identity(path) == (None if name.startswith("z") else found[path]), "told by the index", name, found)
    check(len(set(found.values())) == 1, "the same content", found)
    roots = {json.loads(tools.run("q4inspect", path, "--json").stdout)["root_sha256"] for path in found}
    check(len(roots) == len(found), "and each another artifact")
    diff = tools.run("q4inspect", "one.q4", "--diff", "zparts.q4.index.json").stdout
    check("the same content, another artifact" in diff, diff)
    text = tools.run("q4inspect", "one.q4").stdout
    check("sha256:" + found["one.q4"] in text, "in words too")
    check("--content" in tools.run("q4inspect", "zstd.q4").stdout, "and what would tell it")
    document = json.loads(tools.run("q4inspect", "one.q4", "--diff", "parts.q4.index.json", "--json").stdout)
    check(document["left_content_sha256"] == document["right_content_sha256"] == found["one.q4"], document)
    # Settings are content; so is each of the files.
    changed = {"block": ("--block-size", "128"), "flat": ("--no-double-quant",), "fp4": ("--type", "fp4")}
    others = set()
    for name, options in changed.items():
        tools.run("q4convert", source, "-o", f"{name}.q4", "-q", *options, *QUIET)
        others.add(identity(f"{name}.q4"))
    copy = work / "copy"
    shutil.copytree(source, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "note": 1}))
    tools.run("q4convert", copy, "-o", "config.q4", "-q", *QUIET)
    others.add(identity("config.q4"))
    check(len(others) == 4 and found["one.q4"] not in others, "other content", others)


def identity_from_the_page(tools, work):
    """F7.8, computed here, for a container of every kind of part; then a bit of each tensor and file is changed."""
    tensors = [q4.nf4(), q4.nested(), q4.raw(), q4.Tensor(b"empty", (0, 3), [])]
    files = [(b"config.json", b"{}"), (b"empty.md", b"")]

    def expected(tensors, files):
        text = b"q4-content-1\n" + struct.pack("<Q", len(tensors))
        for t in sorted(tensors, key=lambda tensor: tensor.name):
            text += struct.pack("<I", len(t.name)) + t.name
            text += struct.pack("<IBBBBIf", t.block, t.dtype, len(t.shape), t.scheme, t.encoder, t.flags & 1, t.offset)
            text += struct.pack(f"<{len(t.shape)}Q", *t.shape) + b"".join(hashlib.sha256(p.stored).digest() for p in t.parts)
        text += struct.pack("<Q", len(files))
        for name, content in files:
            text += struct.pack("<I", len(name)) + name + struct.pack("<Q", len(content))
            text += hashlib.sha256(content).digest() if content else b""
        return hashlib.sha256(text).hexdigest()

    def told(tensors, files):
        (work / "m.q4").write_bytes(q4.build(tensors, files=files, file_id=os.urandom(32)))
        return json.loads(tools.run("q4inspect", "m.q4", "--json").stdout)["content_sha256"]

    right = expected(tensors, files)
    check(told(tensors, files) == right, "the page's definition")
    seen = {right}
    variants = [
        [q4.nf4(codes=bytes(15) + b"\x01\x07"), *tensors[1:]],
        [q4.nf4(scale=0.75), *tensors[1:]],
        [q4.nf4(name=b"proj.bias"), *tensors[1:]],
        [tensors[0], q4.nested(absmax2=1.5), *tensors[2:]],
        [tensors[0], q4.nested(offset=0.5), *tensors[2:]],
        [*tensors[:2], q4.raw(values=b"\x81\x3f\x00\x3f\x00\xc0\x00\x00"), tensors[3]],
        [*tensors[:2], q4.raw(dtype=9), tensors[3]],
        [*tensors[:3], q4.Tensor(b"empty", (3, 0), [])],
        tensors[:3],
    ]
    for other in variants:
        check(told(other, files) == expected(other, files), "the page's definition, changed")
        seen.add(told(other, files))
    for other in ([(b"config.json", b"[]"), files[1]], files[:1], [(b"config.json", b"{}"), (b"empty.txt", b"")], []):
        check(told(tensors, other) == expected(tensors, other), "files are content")
        seen.add(told(tensors, other))
    check(len(seen) == 1 + len(variants) + 4, "every change has an identity of its own")


def signatures(tools, work):
    """docs/q4verify.md, "Signing": the root as one line of text, signed and checked by ssh-keygen and by minisign."""
    good = model()
    (work / "m.q4").write_bytes(good)
    root = "sha256:" + json.loads(tools.run("q4inspect", "m.q4", "--json").stdout)["root_sha256"]
    (work / "m.q4.root").write_text(root + "\n")
    skipped = []

    def run(*command, code=0, stdin=None):
        done = subprocess.run(command, cwd=work, capture_output=True, stdin=stdin)
        check((done.returncode == 0) == (code == 0), command, done.stderr)

    if shutil.which("ssh-keygen"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "release@example.org", "-f", "key")
        run("ssh-keygen", "-q", "-Y", "sign", "-f", "key", "-n", "q4", "m.q4.root")
        (work / "signers").write_text("release@example.org " + (work / "key.pub").read_text())
        verify = ("ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "release@example.org", "-n", "q4", "-s", "m.q4.root.sig")
        with open(work / "m.q4.root") as text:
            run(*verify, stdin=text)
        (work / "other.root").write_text("sha256:" + "0" * 64 + "\n")
        with open(work / "other.root") as text:
            run(*verify, stdin=text, code=1)
    else:
        skipped.append("ssh-keygen is not installed")
    if shutil.which("minisign"):
        run("minisign", "-G", "-W", "-p", "mini.pub", "-s", "mini.key")
        run("minisign", "-S", "-s", "mini.key", "-m", "m.q4.root")
        run("minisign", "-V", "-p", "mini.pub", "-m", "m.q4.root")
        signed = (work / "m.q4.root").read_text()
        (work / "m.q4.root").write_text(signed.replace("sha256:", "sha256:0", 1))
        run("minisign", "-V", "-p", "mini.pub", "-m", "m.q4.root", code=1)
        (work / "m.q4.root").write_text(signed)
    else:
        skipped.append("minisign is not installed")
    # Then the signed text is what the tools compare.
    tools.run("q4verify", "m.q4", "--root", (work / "m.q4.root").read_text().strip(), *QUIET)
    return skipped


def main(tools_path, library_path, checkpoints, sanitized):
    skipped = []
    # A library with a sanitizer needs its runtime in the process, which Python does not have.
    library = None if sanitized else ctypes.CDLL(library_path)
    if sanitized:
        skipped.append("the loader, which has a sanitizer")
    with tempfile.TemporaryDirectory(prefix="q4_root_") as folder:
        parts = (
            lambda tools, work: replaced_bytes(tools, work, library),
            pinned,
            lambda tools, work: sharded(tools, work, checkpoints),
            lambda tools, work: contents(tools, work, checkpoints),
            identity_from_the_page,
            lambda tools, work: skipped.extend(signatures(tools, work)),
        )
        for number, part in enumerate(parts):
            work = pathlib.Path(folder) / str(number)
            work.mkdir()
            part(Tools(tools_path, work), work)
    for what in skipped:
        print("SKIP", what)
    print(f"root_test: {checks.count()} checks held")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], pathlib.Path(sys.argv[3]).resolve(), sys.argv[4:] == ["--sanitized"])
