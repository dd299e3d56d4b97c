#!/usr/bin/env python3
"""The benchmarks behind docs/quality.md at tiny size: text out of packages, a decoder that is trained, converted and compared, formats side by side.

    python quality_benches_check.py --bin DIR
"""

import argparse
import json
import lzma
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "bench")]
import checks  # noqa: E402
import decoder_bench  # noqa: E402
import decoder_report  # noqa: E402
import decoder_text  # noqa: E402
import formats_bench  # noqa: E402
import input_moments  # noqa: E402
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402

PAGE = "<html><head><title>gone</title><style>gone</style></head><body><p>Of {0} and of the many\nways to be in it.</p><pre>a  b\n c</pre>{1}</body></html>"


def package(folder, pages):
    """A .deb of pages, by their paths."""
    root = folder / "root"
    for path, text in {"DEBIAN/control": "Package: manual\nVersion: 1\nArchitecture: all\nMaintainer: q4\nDescription: test\n", **pages}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (folder / "debs").mkdir()
    subprocess.run(["dpkg-deb", "--build", str(root), str(folder / "debs")], check=True, stdout=subprocess.DEVNULL)


def test_text(tools):
    filler = "".join(f"<p>The {number} is for the use of {number} in a list, and it can be on or by you if not as this.</p>" for number in range(30))
    boilerplate = "<p>All of the pages say this to you and to the others.</p>"
    german = "<p>Der schnelle Fuchs springt über den faulen Hund und läuft davon, weil er es eilig hat.</p>" * 40
    pages = {f"usr/share/doc/manual/{name}.html": PAGE.format(name, filler.replace("use", name) + boilerplate) for name in ("one", "two")}
    package(tools.work, {**pages, "usr/share/doc/manual/de/one.html": PAGE.format("de", filler), "usr/share/doc/manual/d.html": german})
    sys.argv = ["decoder_text.py", str(tools.work / "debs"), "-o", str(tools.work / "manual.xz")]
    decoder_text.main()
    with lzma.open(tools.work / "manual.xz", "rt") as lines:
        documents = [json.loads(line) for line in lines]
    check({document["name"] for document in documents} == {f"manual/usr/share/doc/manual/{name}.html" for name in ("one", "two")}, "pages", documents)
    text = "\n".join(document["text"] for document in documents)
    check("gone" not in text and "a  b\n c" in text and "Of one and of the many ways to be in it." in text, "text of a page", text[:300])
    check(text.count("All of the pages say this") == 1, "a paragraph of two pages stands once")


def test_inputs(tools):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.last = (torch.nn.Linear(4, 4) for _ in range(3))

        def forward(self, x, mask):
            return self.last(self.query(x) * self.key(x))

    net, batches = Net(), [{"x": torch.randn(2, 3, 4), "mask": torch.tensor([[1, 1, 1], [1, 0, 0]])} for _ in range(2)]
    inputs = input_moments.measured(net, batches, "mask")
    rows = torch.cat([batch["x"][batch["mask"].bool()] for batch in batches]).double()
    check(inputs.weights == {"query.weight": ["query.weight", "key.weight"], "last.weight": ["last.weight"]}, "inputs that layers share", inputs.weights)
    check(torch.allclose(inputs.of("key.weight"), rows.T @ rows / len(rows), atol=1e-5) and inputs.count["query.weight"] == 8, "mean of x x^T")
    inputs.save(tools.work / "c.safetensors", {"tool": "test"})
    stored = load_file(tools.work / "c.safetensors")
    check(torch.equal(stored["last.weight.second_moments"], stored["last.weight.hessian"].diagonal()), "moments are the diagonal")
    matrix, hessian = torch.randn(5, 4), inputs.of("key.weight")
    error = formats_bench.output_error({"key.weight": matrix}, {"key.weight": 1.5 * matrix}, inputs, ["key.weight"])
    check(abs(error - 0.25) < 1e-6, "output error of half the weight too much", error)
    check(torch.linalg.eigvalsh(hessian).min() > 0, "positive definite")


def test_decoder(tools):
    pages = [path.read_text()[:2500] for path in sorted((ROOT / "docs").glob("*.md"))]
    with lzma.open(tools.work / "text.xz", "wt") as lines:
        for number in range(80):
            lines.write(json.dumps({"name": f"page {number}", "text": pages[number % len(pages)]}) + "\n")
    work = tools.work / "decoder"
    shared = ["--work", str(work), "--shape", "tiny", "--context", "32"]

    def stage(name, *options):
        sys.argv = ["decoder_bench.py", name, *shared, *options]
        decoder_bench.main()

    stage("prepare", "--text", str(tools.work / "text.xz"))
    stage("train", "--steps", "3", "--batch", "2")
    stage("evaluate", "--tools", str(tools.folder), "--windows", "8", "--types", "nf4")
    results = json.loads((work / "results.json").read_text())
    itself = results["divergences"]["16 bits"]
    check(max(map(abs, itself)) < 1e-4 and len(results["pages"]) == 8, "16 bits against themselves", itself)
    check(all(sum(sums) > 0 for name, sums in results["divergences"].items() if name != "16 bits"), "4 bits differ from 16")
    # One page of certain words beside one of twice the excess: 20 predictions, what the tables must say of them is known.
    loss, half = np.log(2.0), np.log(1.5)
    made = {"pages": [0, 0, 1], "counts": [5, 5, 10], "losses": {"16 bits": [0, 0, 0], "nf4 | fp32 | absmax": [5 * loss, 5 * loss, 10 * loss],
            "nf4 | fp32 | mse": [5 * half, 5 * half, 10 * half]}}  # fmt: skip
    made["divergences"] = {name: [value * (0.5 if "mse" in name else 1) for value in values] for name, values in made["losses"].items()}
    row = [cell.strip() for cell in decoder_report.tables(made).splitlines()[-1].split("|")][1:-1]
    check(row[3:6] == ["1.500", "0.500", "0.500 to 0.500"] and row[7] == f"{half / loss / 2:.3f}", "perplexity 1.5 against 2 is half the excess", row)


def test_formats(tools):
    weights = {name: value[:128, :256].contiguous() for name, value in formats_bench.reference_weights().items()}
    (tools.work / "references").mkdir()
    save_file(weights, tools.work / "references/model.safetensors")
    arguments = types.SimpleNamespace(tools=tools.folder, block_sizes=[64], encoders=["absmax", "mse"])
    formats = formats_bench.q4_formats(arguments, tools.work / "references", tools.work, None)
    rows = {name: (bits, formats_bench.nmse(weights, decoded, weights)) for name, bits, decoded in formats}
    check(rows["nf4 mse b64 fp32"][1] < 0.9 * rows["nf4 absmax b64 fp32"][1] and rows["nf4 mse b64 dq"][0] == 4.126953125, "q4's rows", rows)
    for name, bits, decoded in formats_bench.compressed_formats(weights):
        error = formats_bench.nmse(weights, decoded, weights)
        check(0.005 < error < 0.03, f"{name} of compressed-tensors", error)
        rows[name] = (bits, error)
    check({"MXFP4", "NVFP4"} <= rows.keys() and rows["NVFP4"][1] < rows["MXFP4"][1], "smaller blocks lose less", rows)
    errors = ("nmse", "output", "student.weight")
    results = {"rows": [{"name": name, "bits": bits, "normal.weight": None, **dict.fromkeys(errors, error)} for name, (bits, error) in rows.items()]}
    table = formats_bench.table(results)
    check(table.splitlines()[2].startswith("| 4.127 | nf4 mse b64 dq |"), "the table", table)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(arguments.bin.resolve(), pathlib.Path(folder))
        if shutil.which("dpkg-deb"):
            test_text(tools)
        else:
            print("SKIP test_text (no dpkg-deb)")
        for test in (test_inputs, test_decoder, test_formats):
            test(tools)
    print(f"quality_benches_check: {checks.count()} checks")


if __name__ == "__main__":
    main()
