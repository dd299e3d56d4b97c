#!/usr/bin/env python3
"""The text that bench/decoder_bench.py trains on: English pages of the distribution's documentation packages, as JSON lines in xz.

  mkdir debs; (cd debs; apt-get download $(python3 bench/decoder_text.py --packages))
  python3 bench/decoder_text.py debs -o text.xz [--megabytes 40] [--of-package 1.6]

A line is {"name": "PACKAGE/PATH", "text": TEXT}, a page a line. Pages are HTML, plain text, reStructuredText and Markdown. Paragraphs that
an earlier page has are left out, so that held-out pages share no boilerplate with those that are trained on; pages are taken where at least
one word in twelve is one of the commonest English ones. Each package gives at most so much, linux-doc four times that. Needs dpkg-deb only.
"""
import argparse
import gzip
import hashlib
import html.parser
import json
import lzma
import pathlib
import re
import subprocess
import sys
import tarfile

PACKAGES = """apache2-doc aptitude-doc-en autoconf-doc bash-doc bind9-doc clang-14-doc cmake-doc debian-faq debian-handbook debian-policy
debian-reference-en debmake-doc developers-reference docker-doc erlang-doc exim4-doc-html fp-docs-3.2.2 git-doc gnuplot-doc haproxy-doc
installation-guide-amd64 libreoffice-help-en-us lilypond-doc-html linux-doc-6.1 live-manual-html llvm-14-doc maint-guide maxima-doc
mercurial-common mutt nodejs-doc"""
PAGE = re.compile(r"\.(html?|txt|rst|md)(\.en)?(\.gz)?$")
OTHER_LANGUAGE = re.compile(r"/translations/|[./_-](ar|ca|cs|da|de|el|es|eu|fi|fr|hu|it|ja|ko|nl|nn|no|pl|pt|pt[-_]br|ro|ru|sv|tr|vi|zh[-_a-z]*)[./]", re.I)
COMMON = {"the", "of", "to", "and", "a", "in", "is", "that", "for", "it", "be", "this", "are", "with", "as", "on", "if", "not", "you", "or", "by", "can"}
BLOCKS = {"p", "div", "li", "dt", "dd", "tr", "table", "ul", "ol", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote", "section", "br"}
HIDDEN = {"script", "style", "nav", "title", "button", "header", "footer"}


class Text(html.parser.HTMLParser):
    """The text of a page: a blank line between blocks, white space kept in <pre> only."""

    def __init__(self):
        super().__init__()
        self.parts, self.hidden, self.preformatted = [], 0, 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in HIDDEN
        self.preformatted += tag == "pre"
        if tag in BLOCKS:
            self.parts.append("\n" if tag in ("br", "tr") else "\n\n")

    def handle_endtag(self, tag):
        self.hidden = max(0, self.hidden - (tag in HIDDEN))
        self.preformatted = max(0, self.preformatted - (tag == "pre"))
        if tag in BLOCKS:
            self.parts.append("\n" if tag in ("br", "tr") else "\n\n")

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(data if self.preformatted else re.sub(r"\s+", " ", data))


def text_of(name, data):
    text = data.decode("utf-8", "replace")
    if re.search(r"\.html?(\.|$)", name):
        parser = Text()
        parser.feed(text)
        text = "".join(parser.parts)
    return re.sub(r"[ \t]+\n", "\n", text.replace("\r\n", "\n"))


def is_english(text):
    words = re.findall(r"[a-z]+", text.lower())
    return len(words) >= 150 and sum(word in COMMON for word in words) >= len(words) / 12 and text.count("�") == 0


def pages(package):
    """Name and bytes of each page of a package, in the order of the archive."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process, tarfile.open(fileobj=process.stdout, mode="r|") as archive:
        for member in archive:
            if member.isfile() and PAGE.search(member.name) and not OTHER_LANGUAGE.search(member.name) and member.size < 2 << 20:
                data = archive.extractfile(member).read()
                yield member.name.lstrip("./"), gzip.decompress(data) if member.name.endswith(".gz") else data


def documents(package, limit, seen):
    """Documents of a package, those first whose names have the smallest digests, until `limit` characters. `seen` has digests of paragraphs."""
    name = package.name.split("_")[0]
    taken = 0
    for path, data in sorted(pages(package), key=lambda page: hashlib.sha256(page[0].encode()).digest()):
        if taken >= limit:
            return
        text = text_of(path, data)
        if not is_english(text):
            continue
        kept = []
        for paragraph in re.split(r"\n\s*\n", text):
            digest = hashlib.sha256(" ".join(paragraph.split()).encode()).digest()[:8]
            if digest not in seen:
                seen.add(digest)
                kept.append(paragraph.strip("\n"))
        text = "\n\n".join(kept)
        if len(text) >= 1000:
            taken += len(text)
            yield {"name": f"{name}/{path}", "text": text}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path, nargs="?", help="with .deb files")
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("--megabytes", type=float, default=40)
    parser.add_argument("--of-package", type=float, default=1.6)
    parser.add_argument("--packages", action="store_true", help="print the names of packages that the project used, and end")
    arguments = parser.parse_args()
    if arguments.packages:
        print(" ".join(PACKAGES.split()))
        return
    if not arguments.folder or not arguments.output:
        parser.error("a folder and -o are needed")
    seen, total = set(), 0
    with lzma.open(arguments.output, "wt", preset=9, encoding="utf-8") as out:
        for package in sorted(arguments.folder.glob("*.deb")):
            size = count = 0
            limit = arguments.of_package * 1e6 * (4 if package.name.startswith("linux-doc") else 1)
            for document in documents(package, limit, seen):
                if total + len(document["text"]) > arguments.megabytes * 1e6:
                    break
                out.write(json.dumps(document) + "\n")
                size, count, total = size + len(document["text"]), count + 1, total + len(document["text"])
            print(f"{package.name}: {count} documents, {size / 1e6:.2f} M characters", file=sys.stderr)
    print(f"{total / 1e6:.2f} M characters", file=sys.stderr)


if __name__ == "__main__":
    main()
