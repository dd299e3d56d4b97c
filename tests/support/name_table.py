"""testdata/names/embedded.txt: names that embedded files may and may not have (docs/format.md F5.4 to F5.7)."""

import pathlib
import re

PATH = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "names" / "embedded.txt"
ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|[nrt])")


def unescape(text):
    return ESCAPE.sub(lambda m: {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(m[1]) or bytes([int(m[1][1:], 16)]), text)


def name_table():
    """(kind, [names in bytes]) of each line; the kinds are good, bad, and for sets beside, apart."""
    table = []
    for line in PATH.read_bytes().splitlines():
        if line.startswith(b"#"):
            continue
        kind, _, names = line.partition(b" ")
        kind = kind.decode()
        table.append((kind, [unescape(name) for name in (names.split(b"|") if kind in ("beside", "apart") else [names])]))
    return table
