#!/usr/bin/env python3
"""Makes a manual page of a tool of its page in docs/: gen_man.py docs/TOOL.md VERSION OUTPUT.1[.gz]

The page's first paragraph is the NAME, its first block of code the SYNOPSIS, its table of options the list of options; headings, lists,
other tables and code follow as they are. The same bytes for the same page. Needs nothing but Python 3.8."""

import gzip
import pathlib
import re
import sys

TOOLS = ("q4convert", "q4export", "q4inspect", "q4verify")


def plain(text: str) -> str:
    """Text that roff takes as it is: no escapes, no requests, and no encoding that matters."""
    out = text.replace("\\", "\\e").replace("-", "\\-")
    out = "".join(char if ord(char) < 0x80 else f"\\[u{ord(char):04X}]" for char in out)
    return "\\&" + out if out[:1] in (".", "'") else out


def inline(text: str) -> str:
    """A paragraph: code and **bold** are bold, *emphasis* is in italics, a link is its text, and its address where it is one of the net."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    parts = re.split(r"(`+[^`]+`+)", text)
    # Links may have code in their text, so they go first, outside of code.
    links = []

    def link(match: re.Match[str]) -> str:
        links.append(match.group(2))
        return match.group(1) + (f" <{match.group(2)}>" if match.group(2).startswith("http") else "")

    text = re.sub(r"\[((?:[^\]`]|`[^`]*`)*)\]\(([^)\s]+)\)", link, "".join(parts))
    out = ""
    for part in re.split(r"(`[^`]+`|\*\*[^*]+\*\*|(?<![\w*])\*[^*\s][^*]*\*(?![\w*]))", text):
        if part.startswith("`") and len(part) > 2:
            out += "\\fB" + plain(part[1:-1]).removeprefix("\\&") + "\\fR"
        elif part.startswith("**") and len(part) > 4:
            out += "\\fB" + inline(part[2:-2]).removeprefix("\\&") + "\\fR"
        elif part.startswith("*") and part.endswith("*") and len(part) > 2:
            out += "\\fI" + plain(part[1:-1]).removeprefix("\\&") + "\\fR"
        else:
            out += plain(part) if not out else plain(part).removeprefix("\\&")
    return "\\&" + out if out[:1] in (".", "'") else out


def cells(row: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def table(rows: list[list[str]]) -> list[str]:
    head, body = rows[0], rows[1:]
    if all(row[0].startswith("`-") for row in body):
        out = []
        for option, *middle, meaning in body:
            sentence = inline(meaning)
            sentence += "." if sentence and not sentence.endswith((".", ":")) else ""
            default = f"Default: {inline(middle[0])}." if middle and middle[0] else ""
            for short, long in (("`-q`", "`--quiet`"), ("`-v`", "`--verbose`")):  # the pages leave them out, a manual page is searched
                if long not in option:
                    option = option.replace(short, f"{short}, {long}")
            out += [".TP", inline(option), f"{sentence} {default}".strip() or "\\&"]
        return out
    if len(head) == 2:
        return [line for first, second in body for line in (".TP", inline(first) or "\\&", inline(second) or "\\&")]
    out = [".TS", "tab(\t);", " ".join(["lbx"] * len(head)), " ".join(["lx"] * len(head)) + "."]
    for row in rows:
        row = (row + [""] * len(head))[: len(head)]
        out.append("\t".join(f"T{{\n{inline(cell) or chr(92) + '&'}\nT}}" for cell in row))
    return [*out, ".TE"]


def body(lines: list[str]) -> list[str]:
    out: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            end = next(i for i in range(at + 1, len(lines)) if lines[i].startswith("```"))
            out += [".PP", ".RS 4", ".nf", *(plain(code) or "\\&" for code in lines[at + 1 : end]), ".fi", ".RE"]
            at = end + 1
        elif line.startswith("|"):
            end = next((i for i in range(at, len(lines)) if not lines[i].startswith("|")), len(lines))
            rows = [cells(row) for row in lines[at:end]]
            if any(inline(cell).strip() for row in rows[2:] for cell in row):  # else a table of pictures
                out += [".PP", *table([rows[0], *rows[2:]])]
            at = end
        elif line.startswith("#"):
            level, title = line.split(" ", 1)
            out.append(f".SH {plain(title).upper()}" if level == "##" else f".SS {inline(title)}")
            at += 1
        elif re.match(r"\s*([-*]|\d+\.) ", line):
            mark, text = re.match(r"\s*([-*]|\d+\.) (.*)", line).groups()  # type: ignore[union-attr]
            text, at = joined(lines, at + 1, text)
            out += [".IP \\(bu 2" if mark in "-*" else f".IP {mark} 4", inline(text)]
        elif not line.strip() or line.startswith("<!--"):  # a comment: of a sample, the command that prints it
            at += 1
        else:
            text, at = joined(lines, at + 1, line)
            if inline(text).strip():
                out += [".PP", inline(text)]
    return out


def joined(lines: list[str], at: int, text: str) -> tuple[str, int]:
    """The text with the lines that go on with it, and the first line that does not."""
    while at < len(lines) and lines[at].strip() and not re.match(r"```|\||#|\s*([-*]|\d+\.) ", lines[at]):
        text += " " + lines[at].strip()
        at += 1
    return text, at


def page(text: str, version: str) -> str:
    lines = text.split("\n")
    tool = lines[0].removeprefix("# ").strip()
    about, at = joined(lines, 3, lines[2])
    begin = lines.index("```", at)
    end = lines.index("```", begin + 1)
    name = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", about).rstrip(".").replace("`", "")
    name = re.split(r"(?<=\w)[.;:] | \(", name)[0].strip()
    synopsis = [plain(line) for line in lines[begin + 1 : end]]
    out = [
        "'\\\" t",
        f".TH {tool.upper()} 1 \"\" \"q4 {version}\" \"User Commands\"",
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{tool} \\- {plain(name[0].lower() + name[1:])}",
        ".SH SYNOPSIS",
        ".nf",
        *(line.replace("\\-o ", "{\\-o | \\-\\-output} ") for line in synopsis),
        ".fi",
        ".SH DESCRIPTION",
        inline(about),
        *body(lines[at:begin] + lines[end + 1 :]),
        ".SH SEE ALSO",
        ", ".join(f"\\fB{other}\\fR(1)" for other in TOOLS if other != tool) + ".",
        "The other pages that this one names are in the folder \\fBdocs\\fR of q4's documentation.",
    ]
    return "\n".join(out) + "\n"


def main() -> None:
    source, version, output = sys.argv[1:]
    roff = page(pathlib.Path(source).read_text(encoding="utf-8"), version).encode("ascii")
    # Without a name or a time in it.
    pathlib.Path(output).write_bytes(gzip.compress(roff, 9, mtime=0) if output.endswith(".gz") else roff)


if __name__ == "__main__":
    main()
