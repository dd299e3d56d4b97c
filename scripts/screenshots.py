#!/usr/bin/env python3
"""Draws the pictures of the manuals: q4verify's HTML report at three widths, light and dark, and the terminal tools.

    screenshots.py --tools DIR --model CHECKPOINT --out docs/images

The tools run in a pseudo-terminal, so that their output is what a person sees; its colours become HTML, which the same Chromium
draws. scripts/screenshots.sh installs what this needs.
"""

import argparse
import fcntl
import html
import os
import pathlib
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import chromium  # noqa: E402  (the path above)

MOST_BYTES = 150_000  # of a picture in git
COLUMNS, LINES = 118, 48

# The same fonts on every machine that draws.
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>/usr/share/fonts</dir><cachedir>{cache}</cachedir>
{aliases}</fontconfig>"""
ALIAS = '<match target="pattern"><test name="family"><string>{name}</string></test><edit name="family" mode="assign" binding="strong">' \
        "<string>{font}</string></edit></match>"

# The 16 colours of a terminal, as a calm dark theme has them.
COLOURS = ["#3b4048", "#e0726c", "#8fc57f", "#d9b26a", "#74a9e8", "#c08fdc", "#62bcc4", "#d5d8dd",
           "#7b838f", "#f08d87", "#a8d99a", "#ecca8a", "#93bff2", "#d3aaea", "#83d0d7", "#ffffff"]
TERMINAL = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 20px; background: #fff; width: max-content; }}
.window {{ background: #1a1d23; border-radius: 10px; padding: 14px 20px 18px; color: #d5d8dd; }}
.dots {{ height: 22px; }} .dots i {{ display: inline-block; width: 10px; height: 10px; border-radius: 5px; background: #3b4048; margin-right: 6px; }}
pre {{ margin: 0; font: 14px/1.45 "JetBrains Mono", monospace; font-variant-ligatures: none; }}
.prompt {{ color: #7b838f; }}
</style><div class="window"><div class="dots"><i></i><i></i><i></i></div><pre>{}</pre></div>"""


def fonts(work: pathlib.Path) -> dict:
    aliases = "".join(ALIAS.format(name=name, font=font) for name, font in (
        ("system-ui", "Inter"), ("sans-serif", "Inter"), ("sans", "Inter"), ("ui-monospace", "JetBrains Mono"),
        ("monospace", "JetBrains Mono"), ("Liberation Mono", "JetBrains Mono"), ("Menlo", "JetBrains Mono"), ("Consolas", "JetBrains Mono")))
    path = work / "fonts.conf"
    path.write_text(FONTS.format(cache=work / "font-cache", aliases=aliases), encoding="utf-8")
    return {"FONTCONFIG_FILE": str(path)}


def run_in_terminal(command: list[str], directory: pathlib.Path, environment: dict) -> str:
    """What `command` prints to a terminal of COLUMNS x LINES, with stderr, in the order of appearance."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    output = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        output += piece
    os.close(ours)
    process.wait()
    text = output.decode().replace("\r\n", "\n")
    # A progress bar redraws its line: what was drawn last is what stays.
    return "\n".join(re.split(r"\r|\x1b\[2?K", line)[-1] for line in text.split("\n"))


def colour_of(numbers: list[int]) -> tuple[str, list[int]]:
    """The colour that the numbers after 38 or 48 name, and the numbers left."""
    if numbers[:1] == [2]:
        return "rgb({},{},{})".format(*numbers[1:4]), numbers[4:]
    index = numbers[1]
    if index < 16:
        return COLOURS[index], numbers[2:]
    if index >= 232:
        return "rgb({0},{0},{0})".format(8 + 10 * (index - 232)), numbers[2:]
    levels = [0, 95, 135, 175, 215, 255]
    index -= 16
    return f"rgb({levels[index // 36]},{levels[index // 6 % 6]},{levels[index % 6]})", numbers[2:]


def apply(style: dict, numbers: list[int]) -> None:
    """One SGR sequence, "ESC [ numbers m"."""
    numbers = numbers or [0]
    while numbers:
        number, *numbers = numbers
        if number == 0:
            style.clear()
        elif number == 1:
            style["font-weight"] = "700"
        elif number == 2:
            style["opacity"] = "0.6"
        elif number == 4:
            style["text-decoration"] = "underline"
        elif number == 22:
            style.pop("font-weight", None)
            style.pop("opacity", None)
        elif number == 24:
            style.pop("text-decoration", None)
        elif number in (38, 48):
            style["color" if number == 38 else "background"], numbers = colour_of(numbers)
        elif number in (39, 49):
            style.pop("color" if number == 39 else "background", None)
        elif 30 <= number <= 37 or 90 <= number <= 97:
            style["color"] = COLOURS[number - 30 if number < 90 else number - 82]


def terminal_markup(text: str) -> str:
    style, markup = {}, ""
    for part in re.split(r"(\x1b\[[\d;]*m)", text):
        if part.startswith("\x1b["):
            apply(style, [int(number or 0) for number in part[2:-1].split(";")])
        elif part:
            css = ";".join(f"{key}:{value}" for key, value in style.items())
            markup += f'<span style="{css}">{html.escape(part)}</span>' if css else html.escape(part)
    return markup


class Gallery:
    def __init__(self, browser, work: pathlib.Path, out: pathlib.Path):
        self.browser, self.work, self.out = browser, work, out

    def save(self, page, name: str, clip: dict) -> None:
        path = self.out / f"{name}.png"
        page.screenshot(path, clip)
        subprocess.run(["pngquant", "--force", "--skip-if-larger", "--strip", "--quality", "70-95", "--ext", ".png", path], check=False)
        size = path.stat().st_size
        print(f"{path.name}: {clip['width']} x {clip['height']}, {size / 1000:.0f} kB")
        if size > MOST_BYTES:
            raise SystemExit(f"{path} is too large for git")

    def report(self, name: str, width: int, height: int, scale: float = 1, mobile: bool = False, scheme: str = "light", start: str = "body",
               script: str = "") -> None:
        """A part of the report, `height` high, from the top of `start`, after `script` has run."""
        page = self.browser.page()
        page.viewport(width, height, scale, mobile)
        page.media(prefers_color_scheme=scheme)
        page.open(self.work / "report.html")
        if script:
            page.evaluate(script)
        top = page.evaluate(f"document.querySelector('{start}').getBoundingClientRect().top + scrollY")
        # Sticky in a browser; in a picture of a whole page it would hide something.
        page.evaluate("document.querySelector('nav').hidden = false; document.querySelector('nav').scrollLeft = 0")
        self.save(page, name, {"x": 0, "y": top, "width": width, "height": height})

    def terminal(self, name: str, commands: list[tuple[list[str], int]], environment: dict) -> None:
        """Commands and their output, each at most so many lines of it."""
        markup = ""
        for command, most_lines in commands:
            output = run_in_terminal(command, self.work, environment).rstrip("\n").split("\n")
            if len(output) > most_lines:
                output = output[:most_lines] + ["…"]
            markup += f'<span class="prompt">$</span> {html.escape(" ".join(command))}\n' + terminal_markup("\n".join(output)) + "\n\n"
        path = self.work / f"{name}.html"
        path.write_text(TERMINAL.format(markup.rstrip("\n")), encoding="utf-8")
        page = self.browser.page()
        page.viewport(1600, 900)
        page.open(path)
        box = page.evaluate("(() => { const b = document.body.getBoundingClientRect(); return [b.width, b.height]; })()")
        self.save(page, name, {"x": 0, "y": 0, "width": round(box[0]), "height": round(box[1])})


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        environment = {**os.environ, "PATH": f"{arguments.tools.resolve()}:{os.environ['PATH']}", "TERM": "xterm-256color",
                       "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
        environment.pop("NO_COLOR", None)
        (work / "all-MiniLM-L6-v2").symlink_to(arguments.model.resolve())
        with chromium.Chromium(environment=fonts(work)) as browser:
            gallery = Gallery(browser, work, arguments.out)
            verify = ["q4verify", "minilm.q4", "--against", "all-MiniLM-L6-v2"]
            gallery.terminal("q4convert", [(["q4convert", "all-MiniLM-L6-v2", "-o", "minilm.q4", "--force"], 40)], environment)
            gallery.terminal("q4inspect", [(["q4inspect", "minilm.q4"], 46)], environment)
            gallery.terminal("q4verify", [(verify, 30), (["q4verify", "minilm.q4", "--min-sqnr", "20.2"], 11)], environment)
            judged = [*verify, "--gate", "default", "--html", "report.html", "-q"]
            subprocess.run(judged, cwd=work, env=environment, check=True)
            gallery.report("report", 1440, 1500)
            gallery.report("report_dark", 1440, 900, scheme="dark", start="#tensors",
                           script="document.querySelector('#tensor-table tbody th button').click()")
            gallery.report("report_tablet", 820, 1100, scheme="dark", start="#layers")
            subprocess.run([*judged, "--min-sqnr", "20.2"], cwd=work, env=environment, check=False, stderr=subprocess.DEVNULL)
            gallery.report("report_failed", 1440, 900)
            gallery.report("report_phone", 390, 900, scale=1.5, mobile=True)
            gallery.report("report_phone_dark", 390, 900, scale=1.5, mobile=True, scheme="dark", start="#layers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
