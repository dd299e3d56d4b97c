"""Documents of q4.evaluate that lie, given to q4verify --evaluation, and gates on numbers that nobody measured."""

import json

import container_bytes as q4
from harness import CONVERT, QUIET, Case, Fifo, Row, Sparse

GOOD = q4.sample()
ROOT = GOOD[-88:-56].hex()  # in the footer (docs/format.md section 7)
OTHER = "5" * 64
VERIFY = ("q4verify", "in.q4", "--evaluation", "e.json", "-q", *QUIET)
NUMBERS = {"kl_mean": 0.01, "kl_max": None, "top1_agreement": 0.97}
LAYER = {"name": "h.0", "rows": 64, "relative_error": 0.01}


def document(**more):
    side = {"name": "original", "kind": "directory", "path": "llama", "root_sha256": None, "content_sha256": None, "sha256": OTHER, "files": []}
    model = {**side, "name": "nf4", "kind": "container", "root_sha256": ROOT, "sha256": None, "numbers": NUMBERS, "layers": [LAYER]}
    settings = {"max_length": 512, "max_tokens": None, "batch_size": 8, "layer_rows": 512, "bootstrap": 1000, "seed": 0, "dtype": "auto"}
    inputs = {"kind": "texts", "sha256": OTHER, "sequences": 16, "tokens": 512, "truncated": 0, "compared": 496}
    found = {"document": "q4-evaluation", "version": 1, "tool_version": "0.1.0", "task": "causal_lm", "settings": settings,
             "inputs": inputs, "original": side, "models": [model]}  # fmt: skip
    for place, value in more.items():
        *path, last = place.split("__")
        at = found
        for step in path:
            at = at[int(step)] if step.isdigit() else at[step]
        if value is KeyError:
            del at[last]
        else:
            at[last] = value
    return json.dumps(found).encode()


def bad(content, issue=4940, code=3, command=VERIFY, **rest):
    return Case({"in.q4": GOOD, "e.json": content}, code=code, issue=issue, command=command, **rest)


def j01():
    yield Case({"in.q4": GOOD, "e.json": document()}, code=0, makes=(), command=VERIFY)
    for content in (b"[]", b"7", b"null", b"{}", b'"q4-evaluation"', document(document="q4verify-report"), document(document=KeyError)):
        yield bad(content)
    for content in (b"", b"{", b"\xff\xfe", document() + b"{}", document()[:-5], document().replace(b"0.01", b"NaN"), document().replace(b"496", b"1e")):
        yield bad(content, 3001)
    yield bad(b'{"a":' * 100_000, 3003)
    yield bad(document().replace(b'"task"', b'"task": "a", "task"'), 3002)
    for version in (0, 2, 1.5, 1 << 63):
        yield bad(document(version=version), 5940, 5)
    for version in ("1", None, [1], KeyError):
        yield bad(document(version=version))


def j02():
    for place, values in {
        "task": (7, None, KeyError), "settings": ([], None), "settings__seed": (-1, 0.5, "0", 1 << 70, KeyError), "settings__more": (1,),
        "inputs__sha256": ("", "x" * 64, OTHER[1:], None, 5), "inputs__compared": (-1, "many", None), "original__files": (None, {}, [7], [{"name": "a"}]),
        "original__path": (7, []), "models": ({}, None, [], [7]), "models__0__root_sha256": ("", "0x" + OTHER[2:], 7, KeyError),
        "models__0__numbers": ([], {}, None, {"kl_meen": 1}, {"kl_mean": -1e-9}, {"kl_mean": True}, {"kl_mean": "0"}, {"top1_agreement": 1.0001},
                               {"cosine_min": -1.5}, {"\x1b[2J": 1}, {"kl_mean": [0]}),
        "models__0__layers": ({}, None, [7], [{}], [{**LAYER, "rows": -1}], [{**LAYER, "relative_error": "0"}], [{**LAYER, "x": 1}]),
    }.items():  # fmt: skip
        for value in values:
            # Integers beyond 64 bits are no JSON of q4's.
            yield bad(document(**{place: value}), (4940, 3001, 3005), name=f"{place} {value!r:.40}")
    yield bad(document().replace(b"0.01,", b"1e999,"), (4940, 3001))


def j03():
    """Of another container, of none, of one that is damaged."""
    yield bad(document(models__0__root_sha256=OTHER), 4941, text="expected sha256:" + ROOT)
    yield bad(document(models__0__root_sha256=None), 4941, text="not a model or a directory")
    yield bad(document(models__0__content_sha256=OTHER, models__0__root_sha256=OTHER), 4941)
    damaged = bytearray(GOOD)
    damaged[70] ^= 1
    yield Case({"in.q4": bytes(damaged), "e.json": document()}, code=(3, 6), command=VERIFY)


def j04():
    """Files that are none, or without an end; names that would be shown."""
    yield bad(Fifo, 2003)
    yield bad(Sparse(b"{", 1 << 40), 2007, (2, 3))
    yield Case({"in.q4": GOOD}, code=2, issue=2001, command=VERIFY)
    yield bad(document(models__0__layers=[{**LAYER, "name": "a\x1b[2J</script>" + "n" * 100_000}], original__path="\u202e<b>"), None, 0,
              command=VERIFY[:-2] + ("--html", "e.html", "--progress", "none"), makes=("e.html",))  # fmt: skip
    yield bad(document(models__0__layers=[{**LAYER, "name": f"h.{i}"} for i in range(50_000)]), None, 0, seconds=4)


def j05():
    rule = json.dumps({"rules": [{"scope": "evaluation", "max_kl_mean": 0.001}]}).encode()
    optional = json.dumps({"rules": [{"scope": "evaluation", "max_kl_mean": 0.001, "optional": True}]}).encode()
    lacks = json.dumps({"rules": [{"scope": "evaluation", "min_cosine_mean": 0.9}]}).encode()
    gate = ("--gate", "g.json")
    files = {"in.q4": GOOD, "e.json": document(), "g.json": rule}
    yield Case(files, code=6, issue=6305, text="kl_mean", command=VERIFY + gate)
    yield Case(files, code=1, issue=1940, command=("q4verify", "in.q4", "-q", *QUIET, *gate))
    yield Case({**files, "g.json": optional}, code=0, command=("q4verify", "in.q4", "-q", *QUIET, *gate))
    yield Case({**files, "g.json": lacks}, code=6, issue=6940, text="it holds kl_mean", command=VERIFY + gate)
    yield Case({**files, "in.safetensors": b""}, code=1, issue=1940, command=CONVERT + gate)
    yield Case(files, code=6, issue=6305, command=VERIFY + ("--limit", "kl_mean <= 0.001"))
    yield Case(files, code=0, command=VERIFY + ("--limit", "kl_mean <= 0.01"))
    yield Case(files, code=1, issue=1941, command=VERIFY + ("--limit", "nmse <= 0.01"))
    yield Case(files, code=1, issue=1001, command=("q4verify", "in.q4", "--limit", "kl_mean <= 1", *QUIET))


ROWS = [
    Row("J01", "no JSON, no evaluation, another version", j01),
    Row("J02", "keys that lack, lie or are unknown", j02),
    Row("J03", "an evaluation of another container", j03),
    Row("J04", "files without an end, names that would be shown", j04),
    Row("J05", "limits on numbers that nobody measured", j05),
]
