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
    folded = page.evaluate(ROWS)
    page.evaluate("document.getElementById('show-kept').click()")
    everything = page.evaluate(ROWS)
    check(folded < everything, "tensors that were kept are folded away at first", folded, everything)
    page.evaluate("document.getElementById('show-kept').click()")
    page.evaluate(set_search.format("layernorm"))
    check(page.evaluate(ROWS) > 0, "a search finds them nevertheless")
    page.evaluate(set_search.format("LAYERS.1 proj"))
    names = page.evaluate(NAMES)
    check(0 < len(names) < everything, "a search narrows the rows", len(names), everything)
    check(all("layers.1" in name and "proj" in name for name in names), "only matches are shown", names)
    check(f"{len(names)} of {everything}" in page.evaluate("document.getElementById('shown').textContent"), "the count is told")
    page.evaluate(set_search.format("no such tensor"))
    check(page.evaluate(ROWS) == 0, "a search may find nothing")
    page.evaluate(set_search.format(""))
    check(page.evaluate(ROWS) == folded, "an empty search shows what there was before")

    select = "(() => {{ const s = document.getElementById('role'); s.value = '{}'; s.dispatchEvent(new Event('change')); }})()"
    page.evaluate(select.format("q_proj"))
    names = page.evaluate(NAMES)
    check(len(names) > 0 and all("q_proj" in name for name in names), "a role can be chosen", names)
    page.evaluate(select.format(""))


def check_keyboard(page) -> None:
    """Every control is reached by Tab, shows that it has the focus, and obeys Enter or Space."""
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    wanted = page.evaluate("""(() => { const all = Array.from(document.querySelectorAll(
        'main a[href], main summary, main button, main input, main select, main [tabindex="0"]'))
        .filter(e => e.checkVisibility()); all.forEach((e, i) => { e.dataset.stop = i; }); return all.length; })()""")
    reached, unmarked = set(), []
    for _ in range(wanted + 5):
        page.press("Tab")
        stop, outline = page.evaluate("[document.activeElement.dataset.stop ?? null, getComputedStyle(document.activeElement).outlineStyle]")
        if stop is None:
            continue
        reached.add(int(stop))
        if outline == "none":
            unmarked.append(page.evaluate("document.activeElement.outerHTML.slice(0, 80)"))
    check(len(reached) == wanted > 40, "Tab reaches every control", wanted, sorted(set(range(wanted)) - reached))
    check(unmarked == [], "and each shows that it has the focus", unmarked)
    for term in (".tiles .term summary", ".terms summary"):
        page.evaluate(f"document.querySelector('{term}').focus()")
        page.press("Enter")
        check(page.evaluate("document.activeElement.parentElement.open && document.activeElement.nextElementSibling.checkVisibility()"),
              f"Enter explains the word of {term}")
        page.press(" ", " ")
        check(not page.evaluate("document.activeElement.parentElement.open"), "and Space closes it")
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
    plots = page.evaluate("""Array.from(document.querySelectorAll('main svg')).filter(svg => svg.checkVisibility()).map(svg => {
        const box = svg.getBoundingClientRect();
        return [svg.classList[0], box.width, box.height, svg.querySelectorAll('rect, path').length];
    })""")
    check({"layers", "bars"} <= {plot[0] for plot in plots}, "there is a plot by layer and a histogram", plots)
    check(all(width > 200 and height > 80 and marks > 2 for _, width, height, marks in plots), "no plot is empty", plots)
    labels = page.evaluate("Array.from(document.querySelectorAll('svg.only-wide .series text')).map(text => text.textContent)")
    check("q_proj" in labels and len(set(labels)) == len(labels), "the lines are named", labels)
    shapes = page.evaluate("""Array.from(document.querySelectorAll('svg.only-wide .series')).filter(g => g.querySelector('text'))
        .map(g => g.querySelector('.marker').getAttribute('d').replace(/^M[\\d.]+ [\\d.]+/, ''))""")
    check(len(set(shapes)) == len(labels), "and can be told apart without colours", shapes)


# What the eye cannot reach: boxes that scroll sideways, and cells, columns or letters outside the window.
OVERFLOWING = """(() => {
    const found = Array.from(document.querySelectorAll('main .scroll, nav')).filter(box => box.scrollWidth > box.clientWidth + 1)
        .map(box => box.getAttribute('aria-label'));
    for (const cell of document.querySelectorAll('main td, main th, main dd, main dt, main h1, main p, main li, main svg text')) {
        if (!cell.checkVisibility()) continue;
        const box = cell.getBoundingClientRect();
        if (box.width && (box.right > innerWidth + 1 || box.left < -1)) found.push(cell.textContent.slice(0, 60));
    }
    return found;
})()"""
# Letters in pixels of the window, those of drawings included, and the smallest of them.
SMALLEST = """Math.min(...Array.from(document.querySelectorAll('main *'))
    .filter(e => e.checkVisibility() && Array.from(e.childNodes).some(n => n.nodeType === 3 && n.textContent.trim()) && !e.closest('title'))
    .map(e => { const svg = e.closest('svg'); const size = parseFloat(getComputedStyle(e).fontSize);
                return svg ? size * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : size; }))"""
# Of numbers in tables, those whose column nobody names.
NAMELESS = """Array.from(document.querySelectorAll('main tbody td')).filter(cell => cell.checkVisibility() && cell.cellIndex > 0
    && !cell.closest('.details') && !(cell.closest('table').tHead.checkVisibility()
        || getComputedStyle(cell, '::before').content.length > 2)).map(cell => cell.textContent)"""
# Words cut in two: a name breaks behind a dot or a slash.
SPLIT = """(() => { const found = [];
    for (const code of document.querySelectorAll('.tiles code, #tensor-table th code')) for (const text of code.childNodes) {
        if (text.nodeType !== 3) continue;
        const range = document.createRange(); range.selectNodeContents(text);
        if (range.getClientRects().length > 1) found.push(text.textContent);
    }
    return found; })()"""


def check_widths(page) -> None:
    for width in (1440, 820, 390):
        page.viewport(width, 900, 1, mobile=width == 390)
        check(page.evaluate("document.documentElement.scrollWidth") <= width, f"{width} pixels: the page need not scroll sideways",
              page.evaluate("document.documentElement.scrollWidth"))
        check(page.evaluate(OVERFLOWING) == [], f"{width} pixels: nothing is hidden at the side", page.evaluate(OVERFLOWING))
        check(page.evaluate(NAMELESS) == [], f"{width} pixels: every value has a name", page.evaluate(NAMELESS))
        check(page.evaluate(SPLIT) == [], f"{width} pixels: no name is cut inside a word", page.evaluate(SPLIT))
        check(page.evaluate(SMALLEST) >= 8.5, f"{width} pixels: nothing is too small to read", page.evaluate(SMALLEST))
        rows = page.evaluate("""(() => { const rows = new Map();
            for (const tile of document.querySelectorAll('.tiles > div')) { const box = tile.getBoundingClientRect();
                rows.set(box.top, Math.max(rows.get(box.top) ?? 0, box.right)); }
            return Array.from(rows.values()); })()""")
        check(max(rows) - min(rows) < 2, f"{width} pixels: no row of cards leaves a hole", rows)
        plots = page.evaluate("Array.from(document.querySelectorAll('svg.layers')).filter(svg => svg.checkVisibility()).length")
        check(plots == 1, f"{width} pixels: one drawing of the layers is shown", plots)
    check(page.evaluate("document.getElementById('sort').checkVisibility()"), "cards can be sorted")
    page.viewport(1280, 900)


def check_order(page) -> None:
    sections = page.evaluate("Array.from(document.querySelectorAll('main > section')).map(section => section.id)")
    links = page.evaluate("Array.from(document.querySelectorAll('nav a')).map(a => a.getAttribute('href').slice(1))")
    check(links == sections and len(links) >= 8, "the menu has the order of the page", links, sections)


# Text and its background, blended, of everything that is shown: ratios as WCAG 2.2 defines them, below 4.5 (3 for large text).
CONTRAST = """(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const light = c => { const v = c / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
    const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
    const backgroundOf = element => { const layers = [];
        for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]); };
    const seen = new Map();
    let count = 0;
    for (const e of document.querySelectorAll('main *')) {
        if (!e.checkVisibility() || e.closest('title')) continue;
        const style = getComputedStyle(e), drawn = e.closest('svg');
        const ground = backgroundOf(drawn ?? e);
        const judge = (colour, least, what) => { ++count;
            const got = ratio(over(rgba(colour), ground), ground);
            if (got < least) seen.set(what + ' ' + colour + ' on ' + ground, got); };
        const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        if (Array.from(e.childNodes).some(n => n.nodeType === 3 && n.textContent.trim())) {
            judge(drawn ? style.fill : style.color, large ? 3 : 4.5, e.tagName + '.' + e.getAttribute('class'));
        }
        if (e.matches('.series path.line, .limit path')) judge(style.stroke, 3, 'line');
        if (e.matches('.marker, .bars rect')) judge(style.fill, 3, 'mark');
        const before = getComputedStyle(e, '::before');
        if (before.content.length > 2) judge(before.color, 4.5, 'label');
    }
    return [count, Array.from(seen)];
})()"""


def check_contrast(page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    for scheme in ("light", "dark"):
        page.media(prefers_color_scheme=scheme)
        for width in (1280, 390):
            page.viewport(width, 900, 1, mobile=width == 390)
            count, low = page.evaluate(CONTRAST)
            check(count > 300 and low == [], f"{scheme}, {width} pixels: all text has the contrast of WCAG AA", count, low)
    page.media(prefers_color_scheme="light")
    page.viewport(1280, 900)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = false; })")


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
    check(page.evaluate("document.querySelector('.verdict').textContent").strip().startswith("✓ Passed: may be deployed"),
          "and says that it passed", page.evaluate("document.querySelector('.verdict').textContent"))
    check("encoder absmax" in page.evaluate("document.querySelector('.saved').textContent"), "and what was done to the model",
          page.evaluate("document.querySelector('.saved').textContent"))
    check_histogram(page)
    check_plots(page)
    check_sorting(page)
    check_filters(page)
    page.evaluate("document.querySelector('#tensor-table th[data-field=nmse] button').click()")
    check_keyboard(page)
    check_order(page)
    check_widths(page)
    check_contrast(page)
    check_dark(page)
    quiet(page, report, "a real model")


def check_print(browser, report: pathlib.Path) -> None:
    page = browser.page()
    page.viewport(718, 1000)  # A4 without its margins
    page.media(prefers_color_scheme="dark")
    page.open(report)
    page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    check(page.evaluate(OVERFLOWING) == [], "on paper nothing is cut", page.evaluate(OVERFLOWING))
    check(page.evaluate("document.querySelector('#tensor-table').tHead.checkVisibility()"), "rows are rows there")
    check(page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", "and paper is white in the dark as well")
    hidden = page.evaluate("['nav', '#controls', '#more', '.terms'].filter(one => document.querySelector(one)?.checkVisibility())")
    check(hidden == [], "what nobody can press is not printed", hidden)


def check_links(browser, report: pathlib.Path) -> None:
    page = browser.page()
    page.open(report)
    check_order(page)
    check_widths(page)
    check_contrast(page)
    page.evaluate("document.querySelector('#blocks td a').click()")
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
    box = page.call("DOM.getBoxModel", nodeId=rows[0])["model"]
    check(box["width"] > 300 and box["height"] > 10, "and visible")

    def is_shown(node: int) -> bool:
        try:
            return page.call("DOM.getBoxModel", nodeId=node)["model"]["height"] > 0
        except RuntimeError:  # no box at all
            return False

    kept = page.call("DOM.querySelectorAll", nodeId=document, selector="#tensor-table tr.kept")["nodeIds"]
    check(len(kept) > 0 and not any(is_shown(row) for row in kept), "but those of kept tensors, which are folded away", len(kept))
    switch = page.call("DOM.querySelector", nodeId=document, selector="#show-kept")["nodeId"]
    page.call("DOM.focus", nodeId=switch)
    page.press(" ", " ")
    check(all(is_shown(row) for row in kept), "until a check box, which needs no script, shows them")
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
    check(page.evaluate(OVERFLOWING) == [], "or is hidden at its side", page.evaluate(OVERFLOWING))
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
    check(page.evaluate(ROWS) == 7784, "all quantized ones on demand", page.evaluate(ROWS))
    page.evaluate("document.getElementById('show-kept').click(); document.getElementById('more').click()")
    check(page.evaluate(ROWS) == 10008, "and the others", page.evaluate(ROWS))
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
        subprocess.run([arguments.bin / "q4verify", work / "tiny.q4", "--against", source, "--gate", "default", "--html",
                        work / "tiny.html", "-q"], check=True)
        for layers, kind in ((4, "failed"), (4, "hostile"), (1112, "sound")):
            subprocess.run([arguments.sample, str(layers), kind, work / kind], check=True)
        with chromium.Chromium() as browser:
            check_real_model(browser, work / "tiny.html")
            check_links(browser, work / "failed.html")
            check_print(browser, work / "failed.html")
            check_without_script(browser, work / "failed.html")
            check_hostile_names(browser, work / "hostile.html")
            seconds = check_large(browser, work / "sound.html")
            version = browser.call("Browser.getVersion")["product"]
        size = (work / "sound.html").stat().st_size / 1e6
    print(f"html_report: {checks.count()} checks in {version}; 10,008 tensors: {size:.1f} MB, open in {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
