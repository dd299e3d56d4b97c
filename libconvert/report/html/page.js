// What q4verify's HTML report does beyond showing: sorts, searches and opens the rows of the tensor table. The rows stand
// in the page, worst first; this script only moves them. The row of id "t7" belongs to tensor 7 of the JSON block. All text
// goes in as text nodes.
"use strict";
(() => {
  // Rows are cards in a narrow window (page.css), and many of those are a long way to what follows.
  const isNarrow = (rem) => matchMedia(`(max-width: ${rem}rem)`).matches;
  const SHOWN_AT_FIRST = isNarrow(44) ? 12 : isNarrow(62) ? 30 : 250;
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("tensor-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const tensors = data.tensors.map((values, index) => {
    const row = document.getElementById(`t${index}`);
    const tensor = { index, row, details: null, kept: row.classList.contains("kept") };
    row.classList.remove("kept");
    data.fields.forEach((field, i) => { tensor[field] = values[i]; });
    tensor.lowerName = tensor.name.toLowerCase();
    return tensor;
  });
  const search = document.getElementById("search");
  const roleSelect = document.getElementById("role");
  const sortSelect = document.getElementById("sort");
  const showKept = document.getElementById("show-kept");
  const onlyFailed = document.getElementById("only-failed");
  const shown = document.getElementById("shown");
  const more = document.getElementById("more");
  const headings = Array.from(table.tHead.rows[0].cells);
  const worstFirst = rows.map((row) => tensors[Number(row.id.slice(1))]);
  let order = worstFirst.slice();
  let limit = SHOWN_AT_FIRST;

  // Elements and numbers.

  function element(name, properties, ...children) {
    const made = document.createElement(name);
    Object.assign(made, properties);
    made.append(...children);
    return made;
  }

  function svgElement(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // As C's "%.<digits>g", which the other reports use.
  function general(value, digits) {
    if (value === null) return "-";
    if (value === 0) return "0";
    const [mantissa, exponentText] = value.toExponential(digits - 1).split("e");
    const exponent = Number(exponentText);
    const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
    if (exponent >= -4 && exponent < digits) return trim(value.toFixed(digits - 1 - exponent));
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${trim(mantissa)}e${exponent < 0 ? "-" : "+"}${size}`;
  }

  const grouped = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
  const percent = (part, whole) => (whole === 0 ? "-" : `${((100 * part) / whole).toFixed(2)} %`);
  const sum = (values) => values.reduce((a, b) => a + b, 0);

  // Which rows are in the table.

  function matching() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    // What is searched for is shown, folded away or not.
    const fold = showKept && !showKept.checked && words.length === 0 && roleSelect.value === "" && !onlyFailed.checked;
    return order.filter((tensor) =>
      !(fold && tensor.kept) &&
      (!onlyFailed.checked || !tensor.passed) &&
      (roleSelect.value === "" || tensor.role === roleSelect.value) &&
      words.every((word) => tensor.lowerName.includes(word)));
  }

  function render() {
    const matches = matching();
    const whole = tensors.length - (showKept && !showKept.checked ? tensors.filter((tensor) => tensor.kept).length : 0);
    const placed = [];
    for (const tensor of matches.slice(0, limit)) {
      prepare(tensor);
      placed.push(tensor.row);
      if (tensor.details) placed.push(tensor.details);
    }
    body.replaceChildren(...placed);
    const now = Math.min(matches.length, limit);
    shown.textContent = `${grouped(now)} of ${grouped(tensors.length)} tensors` +
      (matches.length > now && matches.length < whole ? `, ${grouped(matches.length)} match` : "");
    more.hidden = matches.length <= limit;
    more.textContent = `Show all ${grouped(matches.length)}`;
  }

  // Sorting: largest first for numbers, A to Z for text, the other way round on the second press. What has no value comes last.

  function compare(field, descending) {
    const sign = descending ? -1 : 1;
    return (a, b) => {
      const x = a[field], y = b[field];
      if (x === y) return a.index - b.index;
      if (x === null || x === "") return 1;
      if (y === null || y === "") return -1;
      return (x < y ? -1 : 1) * sign;
    };
  }

  function sortBy(heading) {
    const field = heading.dataset.field;
    const key = field === "shape" ? "elems" : field;
    const before = heading.getAttribute("aria-sort");
    const numeric = tensors.some((tensor) => typeof tensor[key] === "number");
    const descending = before === null ? numeric && field !== "sqnr_db" : before === "ascending";
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    order.sort(compare(key, descending));
    sortSelect.value = field;
    render();
  }

  // Cards have no headings to press.
  function sortByChoice() {
    const heading = headings.find((one) => one.dataset.field === sortSelect.value);
    for (const other of headings) other.removeAttribute("aria-sort");
    if (heading) {
      sortBy(heading);
    } else {
      order = worstFirst.slice();
      render();
    }
  }

  for (const heading of headings) {
    sortSelect.append(element("option", { value: heading.dataset.field }, heading.textContent));
    const button = element("button", { type: "button" }, ...heading.childNodes);
    button.addEventListener("click", () => sortBy(heading));
    heading.append(button);
  }

  // Opening a row.

  function prepare(tensor) {
    if (tensor.button) return;
    const heading = tensor.row.cells[0];
    tensor.button = element("button", { type: "button" }, ...heading.childNodes);
    tensor.button.setAttribute("aria-expanded", "false");
    tensor.button.addEventListener("click", () => toggle(tensor));
    heading.append(tensor.button);
  }

  function toggle(tensor) {
    if (tensor.details) {
      tensor.details.remove();
      tensor.details = null;
      tensor.button.removeAttribute("aria-controls");
    } else {
      tensor.details = detailsRow(tensor);
      tensor.row.after(tensor.details);
      tensor.button.setAttribute("aria-controls", tensor.details.id);
    }
    tensor.button.setAttribute("aria-expanded", String(tensor.details !== null));
  }

  function detailsRow(tensor) {
    const inner = element("div", { className: "inner" }, figures(tensor));
    if (tensor.hist) inner.append(codePlot(tensor));
    if (tensor.scales) inner.append(scalePlot(tensor.scales));
    if (tensor.blocks && tensor.blocks.length !== 0) inner.append(blockTable(tensor.blocks));
    const cell = element("td", { colSpan: headings.length }, inner);
    return element("tr", { className: "details", id: `d${tensor.index}` }, cell);
  }

  function figures(tensor) {
    const list = element("dl", { className: "facts" });
    const add = (label, value) => list.append(element("div", {}, element("dt", {}, label), element("dd", {}, value)));
    if (tensor.layer) add("layer", tensor.layer);
    if (tensor.role) add("role", tensor.role);
    add("elements", `${grouped(tensor.elems)} ${tensor.shape}`);
    if (tensor.hist) {
      add("RMSE", general(tensor.rmse, 6));
      add("bias", general(tensor.bias, 6));
      add("cosine", tensor.cosine === null ? "-" : tensor.cosine.toFixed(6));
      add("largest error", `${general(tensor.max_abs_err, 6)} at ${tensor.max_at}`);
      add("entropy", `${general(tensor.entropy, 5)} bits per code`);
      add("overflow", grouped(tensor.overflow));
      add("zero blocks", grouped(tensor.zero_blocks));
      add("tiny blocks", grouped(tensor.tiny_blocks));
    } else {
      add("statistics", tensor.book ? "not recorded" : "stored as it was");
    }
    return element("div", {}, element("h4", {}, "Figures"), list);
  }

  // bars: {label, title, count}. The same plot as bar_plots.cc draws for the whole model.
  function barPlot(name, axis, bars) {
    const width = 480, height = 190, top = 10, bottom = 38, room = height - top - bottom;
    const pitch = width / bars.length;
    const most = Math.max(1, ...bars.map((bar) => bar.count));
    const labelEvery = Math.ceil(bars.length / 16);
    const svg = svgElement("svg", { class: "bars", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
    bars.forEach((bar, i) => {
      const size = (room * bar.count) / most;
      const middle = pitch * (i + 0.5);
      const group = svgElement("g", {}, svgElement("title", {}, bar.title), svgElement("rect", {
        x: (middle - 0.38 * pitch).toFixed(1), y: (top + room - size).toFixed(1),
        width: (0.76 * pitch).toFixed(1), height: size.toFixed(1) }));
      if (i % labelEvery === 0) {
        const minor = (i / labelEvery) % 2 === 1 ? { class: "minor" } : {};
        group.append(svgElement("text", { x: middle.toFixed(1), y: height - bottom + 14, ...minor }, bar.label));
      }
      svg.append(group);
    });
    svg.append(svgElement("line", { x1: 0, x2: width, y1: top + room, y2: top + room }),
      svgElement("text", { class: "axis", x: width / 2, y: height - 6 }, axis));
    return element("div", {}, element("h4", {}, name), svg);
  }

  function codePlot(tensor) {
    const values = data.books[tensor.book];
    const total = sum(tensor.hist);
    const codes = values.map((value, code) => ({ value, code })).sort((a, b) => a.value - b.value || a.code - b.code);
    return barPlot("Codes", "value of the code", codes.map(({ value, code }) => ({
      label: value.toFixed(1),
      title: `code ${code}, value ${general(value, 6)}: ${grouped(tensor.hist[code])}, ${percent(tensor.hist[code], total)}`,
      count: tensor.hist[code],
    })));
  }

  function scalePlot([count, least, largest, zeros, first, counts]) {
    if (counts.length === 0) return element("div", {}, element("h4", {}, "Scales"), `${grouped(zeros)} scales, all zero`);
    return barPlot(`Scales, ${general(least, 4)} to ${general(largest, 4)}`, "exponent of two", counts.map((n, i) => ({
      label: String(first + i),
      title: `from 2^${first + i} to 2^${first + i + 1}: ${grouped(n)}, ${percent(n, count)}`,
      count: n,
    })));
  }

  function blockTable(blocks) {
    const list = element("dl", { className: "facts" });
    for (const [block, position, sumE2, scale, elements] of blocks) {
      const lines = elements.map(([at, source, decoded]) =>
        element("div", {}, `${general(source, 6)} \u2192 ${general(decoded, 6)} at ${at}`));
      list.append(element("div", {}, element("dt", {}, `block ${grouped(block)} at ${position}`),
        element("dd", {}, `\u03a3e\u00b2 ${general(sumE2, 4)}, scale ${general(scale, 4)}`, ...lines)));
    }
    return element("div", { className: "blocks" }, element("h4", {}, "Worst blocks, source \u2192 decoded"), list);
  }

  // A link to a tensor shows its row, whatever is searched for, and opens it.
  function followHash() {
    const match = /^#t(\d+)$/.exec(location.hash);
    const tensor = match && tensors[Number(match[1])];
    if (!tensor) return;
    search.value = "";
    roleSelect.value = "";
    onlyFailed.checked = false;
    if (showKept && tensor.kept) showKept.checked = true;
    if (order.indexOf(tensor) >= limit) limit = Infinity;
    render();
    if (!tensor.details) toggle(tensor);
    tensor.row.scrollIntoView({ block: "center" });
    tensor.button.focus({ preventScroll: true });
  }

  const roles = Array.from(new Set(tensors.map((tensor) => tensor.role).filter(Boolean))).sort();
  roleSelect.append(...roles.map((role) => element("option", { value: role }, role)));
  const restart = () => { limit = SHOWN_AT_FIRST; render(); };
  search.addEventListener("input", restart);
  roleSelect.addEventListener("change", restart);
  onlyFailed.addEventListener("change", restart);
  sortSelect.addEventListener("change", sortByChoice);
  if (showKept) showKept.addEventListener("change", restart);
  more.addEventListener("click", () => { limit = Infinity; render(); });
  window.addEventListener("hashchange", followHash);
  document.getElementById("controls").hidden = false;
  render();
  followHash();
})();
