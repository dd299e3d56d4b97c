#!/usr/bin/env python3
"""Opens q4verify's HTML report in a headless Chromium and uses it as a person would.

    html_report_check.py --bin TOOLS --sample REPORT_SAMPLE --checkpoints testdata/checkpoints

Exit code 77, and the reason, where there is no Chromium (scripts/install_deps.sh installs it on Debian; Q4_CHROMIUM names one).
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
import chromium  # noqa: E402
from checks import check  # noqa: E402

COLUMN = "Array.from(document.querySelectorAll('#tensor-table tbody tr:not(.details)')).map(row => row.cells[{}].textContent.trim())"
NAMES = COLUMN.format(0)
ROWS = "document.querySelectorAll('#tensor-table tbody tr:not(.details)').length"


def quiet(page, path: pathlib.Path, what: str) -> None:
    check(page.complaints() == [], f"{what}: the console is silent", page.complaints())
    outside = [url for url in page.requests() if not url.startswith("data:") and url.split("#")[0] != path.resolve().as_uri()]
    check(outside == [], f"{what}: nothing is loaded", outside)


def shown_number(text: str) -> float:
    return float(text.replace(",", "")) if text and text != "-" else float("nan")


def check_sorting(page) -> None:
    headings = page.evaluate("Array.from(document.querySelectorAll('#tensor-table thead th')).map(th => th.dataset.field)")
    check(len(headings) == 11, "there are eleven columns", headings)
    press = "document.querySelector('#tensor-table th[data-field={}] button').click()"
    state = "document.querySelector('#tensor-table th[data-field={}]').getAttribute('aria-sort')"
    numbers = {"elems", "bits", "sqnr_db", "nmse", "max_abs_err", "max_gap_ratio", "clipped"}
    for index, field in enumerate(headings):
        for _ in range(2):
            page.evaluate(press.format(field))
            direction = page.evaluate(state.format(field))
            check(direction in ("ascending", "descending"), f"aria-sort says how {field} is sorted", direction)
            check(page.evaluate("document.querySelectorAll('#tensor-table th[aria-sort]').length") == 1, "one column is sorted by")
            cells = [cell for cell in page.evaluate(COLUMN.format(index)) if cell]
            if field in numbers:
                values = [shown_number(cell) for cell in cells]
            elif field in ("name", "treatment"):
                values = cells
            else:
                continue  # a shape is sorted by its elements, a state by failed and passed
            check(len(values) > 3 and values == sorted(values, reverse=direction == "descending"), f"rows follow {field}, {direction}",
                  values)
        check(page.evaluate(state.format(field)) in ("ascending", "descending"), "the second press turns the order round")
    first = [page.evaluate(press.format("nmse")) or page.evaluate(NAMES)[0] for _ in range(2)]
    check(first[0] != first[1], "the two directions differ", first)


def check_filters(page) -> None:
    set_search = "(() => {{ const s = document.getElementById('search'); s.value = '{}'; s.dispatchEvent(new Event('input')); }})()"
    everything = page.evaluate(ROWS)
    page.evaluate(set_search.format("LAYERS.1 proj"))
    names = page.evaluate(NAMES)
    check(0 < len(names) < everything, "a search narrows the rows", len(names), everything)
    check(all("layers.1" in name and "proj" in name for name in names), "only matches are shown", names)
    check(f"{len(names)} of {everything}" in page.evaluate("document.getElementById('shown').textContent"), "the count is told")
    page.evaluate(set_search.format("no such tensor"))
    check(page.evaluate(ROWS) == 0, "a search may find nothing")
    page.evaluate(set_search.format(""))
    check(page.evaluate(ROWS) == everything, "an empty search shows all rows")

    select = "(() => {{ const s = document.getElementById('role'); s.value = '{}'; s.dispatchEvent(new Event('change')); }})()"
    page.evaluate(select.format("q_proj"))
    names = page.evaluate(NAMES)
    check(len(names) > 0 and all("q_proj" in name for name in names), "a role can be chosen", names)
    page.evaluate(select.format(""))


def check_keyboard(page) -> None:
    page.evaluate("document.querySelector('#search').focus()")
    for _ in range(40):
        page.press("Tab")
        if page.evaluate("document.activeElement.matches('#tensor-table tbody th button')"):
            break
    check(page.evaluate("document.activeElement.matches('#tensor-table tbody th button')"), "Tab leads into the table")
    check(page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "false", "a row is closed at first")
    # Sorted by NMSE, largest first: the first row is of a quantized tensor.
    page.press("Enter")
    check(page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true", "Enter opens a row")
    check(page.evaluate("document.getElementById(document.activeElement.getAttribute('aria-controls')).matches('tr.details')"),
          "aria-controls names what was opened")
    check(page.evaluate("document.querySelectorAll('tr.details svg.bars rect').length") >= 16, "an opened row has its histogram")
    page.press(" ", " ")
    check(page.evaluate("document.querySelectorAll('tr.details').length") == 0, "Space closes it")


def check_histogram(page) -> None:
    bars = page.evaluate("Array.from(document.querySelectorAll('#codes rect')).map(bar => bar.getBoundingClientRect().height)")
    check(len(bars) == 16 and max(bars) > 80 and min(bars) > 0, "the code histogram has 16 bars", bars)


def check_plots(page) -> None:
    plots = page.evaluate("""Array.from(document.querySelectorAll('main svg')).map(svg => {
        const box = svg.getBoundingClientRect();
        return [svg.getAttribute('class'), box.width, box.height, svg.querySelectorAll('rect, path').length];
    })""")
    check({"layers", "bars"} <= {plot[0] for plot in plots}, "there is a plot by layer and a histogram", plots)
    check(all(width > 200 and height > 80 and marks > 2 for _, width, height, marks in plots), "no plot is empty", plots)
    labels = page.evaluate("Array.from(document.querySelectorAll('svg.layers .series text')).map(text => text.textContent)")
    check("q_proj" in labels and len(set(labels)) == len(labels), "the lines are named", labels)
    shapes = page.evaluate("""Array.from(document.querySelectorAll('svg.layers .series')).filter(g => g.querySelector('text'))
        .map(g => g.querySelector('.marker').getAttribute('d').replace(/^M[\\d.]+ [\\d.]+/, ''))""")
    check(len(set(shapes)) == len(labels), "and can be told apart without colours", shapes)


def check_phone(page) -> None:
    page.viewport(390, 844, 2, mobile=True)
    check(page.evaluate("document.documentElement.scrollWidth") <= 390, "a phone need not scroll sideways",
          page.evaluate("document.documentElement.scrollWidth"))
    check(page.evaluate("""(() => { const box = document.querySelector('#tensor-table').parentElement;
        return box.scrollWidth > box.clientWidth; })()"""), "the table scrolls in its own container")
    page.viewport(1280, 900)


def check_dark(page) -> None:
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    page.media(prefers_color_scheme="light")
    light = page.evaluate(colours)
    page.media(prefers_color_scheme="dark")
    dark = page.evaluate(colours)
    check(light[0] != dark[0] and light[1] != dark[1], "dark mode has other colours", light, dark)
    check(luminance(dark[0]) < 0.1 < 0.5 < luminance(dark[1]), "light on dark", dark)
    page.media(prefers_color_scheme="light")


def luminance(colour: str) -> float:
    channels = [int(part) for part in colour[colour.index("(") + 1:-1].split(",")[:3]]
    return sum(channels) / 765


def check_real_model(browser, report: pathlib.Path) -> None:
    page = browser.page()
    page.viewport(1280, 900)
    page.open(report)
    check(page.evaluate("document.querySelector('h1').textContent") == "tiny.q4", "the page names the container")
    check(page.evaluate("document.querySelector('.verdict').textContent").strip().startswith("✓ Passed"), "and says that it passed")
    check_histogram(page)
    check_plots(page)
    check_sorting(page)
    check_filters(page)
    check_keyboard(page)
    check_phone(page)
    check_dark(page)
    quiet(page, report, "a real model")


def check_links(browser, report: pathlib.Path) -> None:
    page = browser.page()
    page.open(report)
    page.evaluate("document.querySelector('#worst td a').click()")
    page.evaluate("new Promise(done => setTimeout(done, 100))")
    check(page.evaluate("document.querySelectorAll('tr.details').length") == 1, "a link to a tensor opens its row")
    check(page.evaluate("document.activeElement.matches('#tensor-table tbody th button')"), "and moves the focus there")
    check(page.evaluate("document.querySelectorAll('tr.details .facts').length") == 2, "with figures and worst blocks")
    page.evaluate("document.getElementById('only-failed').click()")
    failed = page.evaluate(COLUMN.format(1))
    check(failed != [] and all("failed" in cell for cell in failed), "failed ones can be shown alone", failed)
    quiet(page, report, "a failed verification")


def check_without_script(browser, report: pathlib.Path) -> None:
    page = browser.page()
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(report)
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    rows = page.call("DOM.querySelectorAll", nodeId=document, selector="#tensor-table tbody tr")["nodeIds"]
    check(len(rows) == 36, "all rows are there without JavaScript", len(rows))
    box = page.call("DOM.getBoxModel", nodeId=rows[-1])["model"]
    check(box["width"] > 300 and box["height"] > 10, "and visible")
    hidden = page.call("DOM.querySelectorAll", nodeId=document, selector="#controls[hidden], #more[hidden]")["nodeIds"]
    check(len(hidden) == 2, "controls that would do nothing are not")


def check_hostile_names(browser, report: pathlib.Path) -> None:
    page = browser.page()
    page.viewport(390, 844, mobile=True)
    page.open(report)
    check(page.evaluate("document.title").endswith(": failed"), "no name of a tensor was run", page.evaluate("document.title"))
    check(page.evaluate("document.scripts.length") == 2 and page.evaluate("document.images.length") == 0, "or became an element")
    page.evaluate("document.querySelectorAll('#tensor-table tbody th button').forEach(button => button.click())")
    check(page.evaluate("document.querySelectorAll('tr.details').length") == page.evaluate(ROWS), "every row opens")
    check(page.evaluate("document.scripts.length") == 2 and page.evaluate("document.images.length") == 0, "and stays harmless")
    check(page.evaluate("document.documentElement.scrollWidth") <= 390, "no name makes the page wider than a phone",
          page.evaluate("document.documentElement.scrollWidth"))
    quiet(page, report, "hostile names")


def check_large(browser, report: pathlib.Path) -> float:
    page = browser.page()
    page.viewport(1280, 900)
    started = time.monotonic()
    page.open(report)
    rows = page.evaluate(ROWS)
    seconds = time.monotonic() - started
    check(rows == 250, "a large model shows its first rows", rows)
    check(seconds < 60, "and opens in reasonable time", seconds)  # far above the usual, for busy machines
    page.evaluate("document.querySelector('#tensor-table th[data-field=nmse] button').click()")
    page.evaluate("document.getElementById('more').click()")
    check(page.evaluate(ROWS) == 10008, "all of them on demand", page.evaluate(ROWS))
    quiet(page, report, "a large model")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--sample", type=pathlib.Path, required=True)
    parser.add_argument("--checkpoints", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    if chromium.find() is None:
        print("SKIP html_report: no Chromium here; scripts/install_deps.sh installs it on Debian")
        return 77
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        source = arguments.checkpoints / "tiny_bf16st_src"
        subprocess.run([arguments.bin / "q4convert", source, "-o", work / "tiny.q4", "-q"], check=True)
        subprocess.run([arguments.bin / "q4verify", work / "tiny.q4", "--against", source, "--html", work / "tiny.html", "-q"], check=True)
        for layers, kind in ((4, "failed"), (4, "hostile"), (1112, "sound")):
            subprocess.run([arguments.sample, str(layers), kind, work / kind], check=True)
        with chromium.Chromium() as browser:
            check_real_model(browser, work / "tiny.html")
            check_links(browser, work / "failed.html")
            check_without_script(browser, work / "failed.html")
            check_hostile_names(browser, work / "hostile.html")
            seconds = check_large(browser, work / "sound.html")
            version = browser.call("Browser.getVersion")["product"]
        size = (work / "sound.html").stat().st_size / 1e6
    print(f"html_report: {checks.count()} checks in {version}; 10,008 tensors: {size:.1f} MB, open in {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
