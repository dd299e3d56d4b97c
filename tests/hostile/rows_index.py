"""Section 3.2: a checkpoint of several files; and model directories."""

import json
import os
import time

from harness import CONVERT, Bench, Case, Directory, Fifo, Link, Row, Socket, Sparse, accept, require
from safetensors_bytes import floats, sparse_header, tensors

INDEX = "model.safetensors.index.json"
SHARD = "s1.safetensors"
COMMAND = ("q4convert", INDEX, *CONVERT[2:])
INSPECT = ("q4inspect", INDEX)
GOOD_SHARD = tensors(a=("F32", (1,), floats(1)))


def index_text(weight_map, total=None, **rest):
    document = {"weight_map": weight_map, **rest}
    if total is not None:
        document["metadata"] = {"total_size": total}
    return json.dumps(document).encode()


def bad(index, issue, files=None, **rest):
    """An index that both the converter and the inspector must refuse."""
    for command in (COMMAND, INSPECT):
        yield Case(
            {INDEX: index, **({SHARD: GOOD_SHARD} if files is None else files)}, issue=issue, command=command, **rest
        )


def x01():
    for name in ("../other.safetensors", "a/../../b", "/etc/passwd", "C:\\x", "//x", "", ".", "..", "a\0b", "a\\b"):
        yield from bad(index_text({"a": name}), 3141)


def x02():
    files = {"elsewhere/real.safetensors": GOOD_SHARD, SHARD: Link("elsewhere/real.safetensors")}
    yield from bad(index_text({"a": SHARD}), 2004, files)
    yield accept({INDEX: index_text({"a": SHARD}), **files}, command=COMMAND + ("--follow-symlinks",))
    yield from bad(index_text({"a": SHARD}), (3143, 2004), {SHARD: Link("nowhere")})
    yield Case(
        {INDEX: index_text({"a": SHARD}), SHARD: GOOD_SHARD, "real.json": b"{}", "config.json": Link("real.json")},
        issue=2004,
        command=COMMAND,
    )
    yield from hub_cache()


REPO = "c/models--o--n"
SNAPSHOT = REPO + "/snapshots/0123"
STORE = "c/blobs"
HASH = "ab" * 32


def hub_cache():
    """Links of a hub cache are followed by default, but only those that huggingface_hub makes: out of a snapshot into the blobs of its
    own repository, from there at most into the cache's marked store."""
    good = {
        SNAPSHOT + "/" + INDEX: Link("../../blobs/index"),
        SNAPSHOT + "/" + SHARD: Link("../../blobs/shard"),
        SNAPSHOT + "/config.json": Link("../../blobs/config"),
        SNAPSHOT + "/modules.json": Link("../../blobs/modules"),
        SNAPSHOT + "/1_Pooling/config.json": Link("../../../blobs/config"),
        REPO + "/blobs/index": index_text({"a": SHARD}),
        REPO + "/blobs/shard": GOOD_SHARD,
        REPO + "/blobs/config": b"{}",
        REPO + "/blobs/modules": b'[{"path":"1_Pooling"}]',
    }
    store = {
        REPO + "/blobs/shard": Link(f"../../blobs/ab/{HASH}"),
        f"{STORE}/ab/{HASH}": GOOD_SHARD,
        STORE + "/.huggingface-shared-blobs": b"1\n",
    }
    command = ("q4convert", SNAPSHOT, *CONVERT[2:])

    def moved(old, new):
        return {name.replace(old, new): content for name, content in good.items()}

    yield accept(good, command=command)
    yield accept({**good, **store}, command=command)
    yield accept({**good, "latest": Link(SNAPSHOT)}, command=("q4convert", "latest", *CONVERT[2:]))
    for kind in ("datasets--", "spaces--", "kernels--"):
        yield accept(moved("models--", kind), command=("q4convert", SNAPSHOT.replace("models--", kind), *CONVERT[2:]))
    outside = {"secret": GOOD_SHARD, "secret.json": b"{}"}
    # Every way in which one link may be another's: it is no link of a cache, or leads elsewhere.
    for change in (
        {SNAPSHOT + "/" + SHARD: Link("../../../../secret")},
        {SNAPSHOT + "/" + SHARD: Link("../../blobs/../../../secret")},
        {SNAPSHOT + "/" + SHARD: Link("../../blobs/./shard")},
        {SNAPSHOT + "/" + SHARD: Link("../../../models--o--n/blobs/shard")},
        {SNAPSHOT + "/" + SHARD: Link("../../../models--other/blobs/shard"), "c/models--other/blobs/shard": GOOD_SHARD},
        {SNAPSHOT + "/" + SHARD: Link("/proc/self/cwd/secret")},
        {SNAPSHOT + "/" + SHARD: Link("real"), SNAPSHOT + "/real": GOOD_SHARD},
        {SNAPSHOT + "/" + SHARD: Link("first"), SNAPSHOT + "/first": Link("../../blobs/shard")},
        {SNAPSHOT + "/config.json": Link("../../../../secret.json")},
        {SNAPSHOT + "/1_Pooling/config.json": Link("../../blobs/config")},
        {SNAPSHOT + "/1_Pooling/config.json": Link("../../../../../secret.json")},
        {REPO + "/blobs/shard": Link("../../../secret")},
        {REPO + "/blobs/shard": Link("second"), REPO + "/blobs/second": GOOD_SHARD},
        {**store, STORE + "/.huggingface-shared-blobs": b"2\n"},
        {**store, STORE + "/.huggingface-shared-blobs": Link("marker"), STORE + "/marker": b"1\n"},
        {**store, f"{STORE}/ab/{HASH}": Link("../../../secret")},
        {**store, REPO + "/blobs/shard": Link(f"../../blobs/cd/{HASH}"), f"{STORE}/cd/{HASH}": GOOD_SHARD},
        {**store, REPO + "/blobs/shard": Link(f"../../blobs/ab/{HASH[:-1]}"), f"{STORE}/ab/{HASH[:-1]}": GOOD_SHARD},
    ):
        yield Case({**good, **outside, **change}, issue=2004, command=command)
    # Directories that are links.
    away = {name.replace(REPO + "/blobs", "away"): content for name, content in good.items()}
    yield Case({**away, REPO + "/blobs": Link("../../away")}, issue=2004, command=command)
    unmarked = {**good, **store}
    del unmarked[STORE + "/.huggingface-shared-blobs"]
    yield Case(unmarked, issue=2004, command=command)
    # Names that are not a repository's.
    for old, new in (("models--o--n", "o--n"), ("models--o--n", "models--"), ("snapshots", "snapshot")):
        yield Case(moved(old, new), issue=2004, command=("q4convert", SNAPSHOT.replace(old, new), *CONVERT[2:]))
    no_revision = {name.replace("/0123", ""): content for name, content in good.items() if "1_P" not in name}
    no_revision = {n: Link(c.target[3:]) if isinstance(c, Link) else c for n, c in no_revision.items()}
    yield Case(no_revision, issue=2004, command=("q4convert", REPO + "/snapshots", *CONVERT[2:]))
    # A download that is not complete.
    for name, issue in (("shard", 3143), ("config", 2003)):
        partial = {key: content for key, content in good.items() if key != f"{REPO}/blobs/{name}"}
        yield Case(partial, issue=issue, command=command)


def x03():
    for content in (Fifo, Directory, Socket, Link("/dev/zero")):
        yield Case(
            {INDEX: index_text({"a": SHARD}), SHARD: content}, issue=2003, command=COMMAND + ("--follow-symlinks",)
        )
    yield Case({"in.safetensors": Fifo}, issue=2003)
    yield Case({"in.q4": Fifo}, issue=2003, command=("q4verify", "in.q4"))


def x04():
    yield from bad(index_text({"a": SHARD, "b": SHARD}), 3143, {}, text=f"{SHARD}.*'a'")
    yield Case({}, code=2, issue=2001)
    yield Case(
        {INDEX: index_text({"a": SHARD}), SHARD: GOOD_SHARD}, code=2, issue=2001, command=COMMAND, limits={"n": 4}
    )


def x07():
    shards = {SHARD: GOOD_SHARD, "s2.safetensors": tensors(a=("F32", (1,), floats(1)), b=("F32", (1,), floats(1)))}
    yield from bad(index_text({"a": SHARD, "b": "s2.safetensors"}), 3109, shards)


def x08():
    yield from bad(b'{"weight_map":{"a":"%s","a":"%s"}}' % (SHARD.encode(), SHARD.encode()), 3002)
    for text in (
        b'{"weight_map":[]}',
        b'{"weight_map":{"a":1}}',
        b'{"metadata":{}}',
        b'{"weight_map":"a"}',
        b'{"weight_map":null}',
        b'{"weight_map":{"a":null}}',
    ):
        yield from bad(text, 3140)
    yield from bad(b'{"weight_map":{"a":{"b":{"c":{}}}}}', (3003, 3140))
    yield from bad(b'{"metadata":' + b'{"a":' * 100_000, 3003)
    yield from bad(index_text({"": SHARD}), 3108)


def x10():
    yield from bad(index_text({"a": INDEX}), 3144)
    yield from bad(index_text({"a": "other.index.json"}), 3144, {"other.index.json": index_text({"a": SHARD})})
    yield from bad(index_text({"a": SHARD}), 3710, {SHARD: b"PK\x03\x04" + bytes(60)})


def x11():
    yield from bad(index_text({f"t{i}": f"s{i}" for i in range(10_001)}), 3142)

    def a_million(path):
        with open(path, "w", encoding="ascii") as file:
            file.write('{"weight_map":{' + ",".join(f'"t{i}":"s{i}"' for i in range(50_000)))
            for first in range(50_000, 1_000_000, 50_000):
                file.write("," + ",".join(f'"t{i}":"s{i}"' for i in range(first, first + 50_000)))
            file.write("}}")

    yield from bad(a_million, 3142)
    yield from bad(Sparse(b'{"weight_map":{', 300 << 20), 3004, rss=64)
    yield from bad(Sparse(b'{"weight_map":{', 200 << 20), 3001, rss=64)

    def million_tensors(path):
        with open(path, "w", encoding="ascii") as file:
            file.write('{"weight_map":{"t":"s1.safetensors"')
            for first in range(0, 1_000_001, 50_000):
                file.write("".join(f',"{i}":"s1.safetensors"' for i in range(first, min(first + 50_000, 1_000_001))))
            file.write("}}")

    yield Case({INDEX: million_tensors, SHARD: GOOD_SHARD}, issue=3105, command=COMMAND, seconds=5)


def x12(bench: Bench):
    """The source grows, gets other bytes, or another time only, while it is read, which it takes long enough for."""
    rows = 4096 // bench.settings.slower
    head, size = sparse_header({f"layer.{i}.q_proj.weight": ("BF16", (rows, 8192)) for i in range(8)})
    for change in ("size", "bytes", "time"):
        source = bench.work / "in.safetensors"
        bench.build({"in.safetensors": Sparse(head, size)})
        times = (source.stat().st_atime_ns, source.stat().st_mtime_ns)

        def alter(child):
            deadline = time.monotonic() + 60
            while child.poll() is None and time.monotonic() < deadline:
                if (bench.work / "out.q4.partial").exists():
                    if change == "size":
                        os.truncate(source, size + 1)
                    elif change == "bytes":  # of the last tensor, and the time is put back
                        with open(source, "r+b") as file:
                            file.seek(size - 2)
                            file.write(b"\x01\x3c")
                        os.utime(source, ns=times)
                    else:
                        os.utime(source, ns=(1, 1))
                    return
                time.sleep(0.0005)

        result = bench.run(
            (
                "q4convert",
                "in.safetensors",
                "-o",
                "out.q4",
                "--device",
                "cpu",
                "-q",
                "--threads",
                "1",
                "--progress",
                "none",
            ),
            meanwhile=lambda child: alter(Waiting(child)),
        )
        # Digested again, and found to be what was read: always where only the time is another, and where bytes were
        # changed before they were read.
        if change == "time" or (change == "bytes" and result.code == 0):
            require(result.code == 0, f"{change}: exit code {result.code}: {result.stderr}")
            bench.ok("q4verify", "out.q4", "--against", "in.safetensors", "-q", "--progress", "none")
            (bench.work / "out.q4").unlink()
        else:
            require(result.code == 3 and 2006 in result.issues(), f"{change}: exit code {result.code}: {result.stderr}")
        require({path.name for path in bench.work.iterdir()} == {"in.safetensors"}, "something was left behind")
        bench.issues_seen |= result.issues()
        source.unlink()


class Waiting:
    """A child whose end is awaited elsewhere."""

    def __init__(self, child):
        self.pid = child.pid

    def poll(self):
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
                return 0 if file.read().rsplit(")", 1)[1].split()[0] == "Z" else None
        except OSError:
            return 0


def directories():
    """Rules on model directories, which the table has no rows of their own for."""
    convert = ("q4convert", "d", *CONVERT[2:])
    yield Case({"d": Directory}, issue=3160, command=convert)
    yield Case({"d/a.safetensors": GOOD_SHARD, "d/b.safetensors": GOOD_SHARD}, issue=3161, command=convert)
    yield Case(
        {"d/model.safetensors": GOOD_SHARD, "d/" + INDEX: index_text({"a": SHARD}), "d/" + SHARD: GOOD_SHARD},
        issue=3161,
        command=convert,
    )
    yield Case({"d/pytorch_model.bin": b"x"}, issue=3130, command=convert)
    # Pipelines, whose list may be anything and lead nowhere.
    for text in (b'{"vae":["diffusers","V"],"../up":["a","b"],"/":["a","b"]}', b"[1]", b"{", b"\0"):
        files = {"d/model_index.json": text, "d/vae/model.safetensors": GOOD_SHARD, "in.safetensors": GOOD_SHARD}
        yield Case(files, code=3, issue=(3820, 3001), command=("q4convert", "d", "-o", "out"))
        yield Case(files, code=5, issue=5150, command=("q4inspect", "in.safetensors", "--diff", "d"))
    # Well-formed, but no plain weights; a claim that is malformed claims nothing.
    claim = b'{"quantization_config":{"quant_method":%s}}'
    yield Case({"d/model.safetensors": GOOD_SHARD, "d/config.json": claim % b'"gptq"'}, code=5, issue=5510, command=convert)
    yield Case({"d/model.safetensors": GOOD_SHARD, "d/config.json": claim % b"[1]"}, code=0, command=convert, makes=("out.q4",))
    yield Case({"d/model.safetensors": GOOD_SHARD, "d/hf_quant_config.json": b'{"quant_algo":'}, code=0, command=convert, makes=("out.q4",))
    yield Case({"d/adapter_model.safetensors": GOOD_SHARD, "d/adapter_config.json": b"[]"}, code=5, issue=5511, command=convert)
    yield Case(
        {"d/model.safetensors": GOOD_SHARD, "d/tokenizer.json": Sparse(b"{", (256 << 20) + 1)}, issue=3163, command=convert
    )
    yield Case(
        {"d/model.safetensors": GOOD_SHARD, **{f"d/{i}.json": b"{}" for i in range(1001)}}, issue=3162, command=convert
    )
    yield Case(
        {"d/model.safetensors": GOOD_SHARD, "d/config.json": Sparse(b"{", 17 << 20)}, issue=2007, command=convert
    )
    # Python's limit on recursion, and its limit on the digits of an integer.
    yield Case({"d/model.safetensors": GOOD_SHARD, "d/config.json": b'{"a":' * 1001}, issue=3003, command=convert)
    yield Case(
        {"d/model.safetensors": GOOD_SHARD, "d/config.json": b'{"n":' + b"9" * 5000 + b"}"}, issue=3004, command=convert
    )
    deep = b'{"a":' * 999 + b"[]" + b"}" * 999
    for text in (b'{"n":18446744073709551616,"i":Infinity,"s":"\\ud800","a":1,"a":2}', deep):
        yield accept({"d/model.safetensors": GOOD_SHARD, "d/config.json": text}, command=convert)
    for text in (b"\xef\xbb\xbf{}", b"{} // c", b"{'a':1}", b'{"a":"\xff"}', b'{"a":1,}', b'{"a":nan}'):
        yield Case({"d/model.safetensors": GOOD_SHARD, "d/config.json": text}, issue=3001, command=convert)
    for text in (b"{}", b'[{"path":"../x"}]', b'[{"path":1}]', b'[{"path":"/etc"}]', b'[{"path":".git"}]', b'[{"path":"NUL"}]', b'[{"path":"m.partial"}]'):
        yield Case({"d/model.safetensors": GOOD_SHARD, "d/modules.json": text}, issue=3164, command=convert)
    for name in (b'"../x.safetensors"', b'"/x.safetensors"', b'"none.safetensors"', b'"pytorch_model.bin"', b'{"a":1}'):
        named = {"d/model.safetensors": GOOD_SHARD, "d/config.json": b'{"transformers_weights":%s}' % name}
        yield Case(named, issue=3640, command=convert)
    many = ",".join('{"path":"m%d"}' % i for i in range(10_000))
    yield Case({"d/model.safetensors": GOOD_SHARD, "d/modules.json": f"[{many}]".encode()}, issue=3531, command=convert)
    for text in (b"[]", b'{"types":{"../x":"t"},"structure":{}}'):
        files = {"d/model.safetensors": GOOD_SHARD, "d/modules.json": b'[{"path":""}]', "d/router_config.json": text}
        yield Case(files, issue=3530, command=convert)
    yield Case(
        {
            "d/model.safetensors": tensors(**{"2_Dense/w": ("F32", (1,), floats(1))}),
            "d/modules.json": b'[{"path":""},{"path":"2_Dense"}]',
            "d/2_Dense/config.json": b"{}",
        },
        issue=3532,
        command=convert,
    )


def taken(index, text, files=None):
    """An index that is read as loaders read it, with a note."""
    command = tuple(word for word in COMMAND if word != "-q")
    return accept({INDEX: index, **(files or {SHARD: GOOD_SHARD})}, text=text, command=command)


def total_size():
    yield taken(index_text({"a": SHARD}, total=5), "total_size is 5.*4 bytes")
    yield taken(index_text({"a": SHARD}, total=2**64 - 1), "total_size is 18446744073709551615")
    for value, kind in (("4", "a string"), (4.0, "a number that is no"), (None, "null"), (-4, "a negative integer"), ({}, "an object")):
        yield taken(index_text({"a": SHARD}, metadata={"total_size": value}), "total_size is " + kind)
    for value, kind in ((None, "null"), ([], "an array"), ("x", "a string"), (4, "an unsigned integer")):
        yield taken(index_text({"a": SHARD}, metadata=value), "metadata is " + kind)
    yield taken(index_text({"a": SHARD}), "no metadata")
    yield accept({INDEX: index_text({"a": SHARD}, total=4, other=1), SHARD: GOOD_SHARD}, command=COMMAND)


ROWS = [
    Row("X01", "shard name that is a path", x01),
    Row(
        "X02",
        "shard or companion is a symbolic link",
        x02,
        note="those of a hub cache, from a snapshot into the blobs of its repository, are followed",
    ),
    Row("X03", "shard is FIFO, directory, socket, device", x03),
    Row("X04", "shard missing or unreadable", x04),
    Row(
        "X05",
        "tensor is not in the shard named",
        lambda: bad(
            index_text({"a": SHARD, "b": "s2.safetensors", "c": SHARD}),
            3145,
            {SHARD: GOOD_SHARD, "s2.safetensors": tensors(b=("U8", (1,), b"x"))},
        ),
    ),
    Row(
        "X06",
        "shard holds an unlisted tensor",
        lambda: [
            taken(
                index_text({"a": SHARD}),
                f"1 tensor of its shards is not listed.*b in {SHARD}",
                {SHARD: tensors(a=("U8", (1,), b"x"), b=("U8", (1,), b"x"))},
            )
        ],
        note="taken with a note, as every loader takes it",
    ),
    Row("X07", "one tensor in two shards", x07),
    Row("X08", "weight_map of a wrong form", x08, note="all other members are free-form, as loaders never look at them (X09)"),
    Row("X09", "wrong total_size, odd metadata", total_size, note="no loader believes it: taken with a note"),
    Row(
        "X10",
        "index as a shard of itself or of another",
        x10,
        note="a shard of an alien kind is named by its content (Q4-3130)",
    ),
    Row(
        "X11",
        "10,001 and 1 M shards, 1 M tensors, 300 MB index",
        lambda: [*x11(), *directories()],
        note="also the limits and rules on model directories",
    ),
    Row("X12", "source changes while it is read", lambda: [x12]),
]
