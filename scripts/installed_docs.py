#!/usr/bin/env python3
"""Makes the pages that are installed: installed_docs.py SOURCE OUT

README.md, CHANGELOG.md and docs/ with its images, each as it is but for links to what is not installed (sources, scripts, examples to deploy):
those become their text and the path in the source. Links that lead nowhere in the source are left to
check_docs.py. The same bytes for the same tree. Needs nothing but Python 3.9."""

import pathlib
import re
import shutil
import sys

PAGES = ("README.md", "CHANGELOG.md")
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def installed(source: pathlib.Path) -> list:
    """Paths of all files, relative to the source."""
    pages = [path.relative_to(source) for path in sorted((source / "docs").rglob("*")) if path.is_file()]
    return [pathlib.Path(page) for page in PAGES] + pages


def rewritten(text: str, page: pathlib.Path, source: pathlib.Path, there: set) -> str:
    """The page, which lies at `page`, with the links that it keeps."""

    def link(match: "re.Match[str]") -> str:
        shown, target = match[1], match[2]
        path = target.split("#")[0]
        if not path or re.match(r"[a-z][a-z0-9+.-]*:", target):
            return match[0]
        full = (source / page.parent / path).resolve()
        if not full.is_relative_to(source) or full.relative_to(source) in there:
            return match[0]
        name = full.relative_to(source).as_posix()
        plain = shown.replace("`", "")
        return shown if name == plain else f"`{name}`" if full.name == plain else f"{shown} (`{name}`)"

    # Code is not a link, whatever it looks like.
    parts = re.split(r"(^```.*?^```|`[^`\n]*`(?!\]))", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))


def main() -> None:
    source, out = (pathlib.Path(word).resolve() for word in sys.argv[1:3])
    files = installed(source)
    # A folder is there where a file of it is.
    there = {*files, *(parent for file in files for parent in file.parents if parent.parts)}
    if out.exists():
        shutil.rmtree(out)
    for file in files:
        target = out / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            target.write_text(rewritten((source / file).read_text(encoding="utf-8"), file, source, there), encoding="utf-8")
        else:
            shutil.copyfile(source / file, target)


if __name__ == "__main__":
    main()
