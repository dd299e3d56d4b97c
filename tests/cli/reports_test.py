#!/usr/bin/env python3
"""The tools' report files: when they are written, what is refused, and JUnit XML as its readers want it.

    reports_test.py TOOLS REPORT_SAMPLE CHECKPOINTS
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402


# The schema that Jenkins publishes, as far as a reader relies on it: element -> (attributes that must be there, children).
JUNIT = {
    "testsuites": ({"name", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped"}, {"testcase"}),
    "testcase": ({"name", "classname"}, {"failure", "skipped"}),
    "failure": ({"message", "type"}, set()),
    "skipped": ({"message"}, set()),
}


def check_junit(path: pathlib.Path) -> ElementTree.Element:
    root = ElementTree.parse(path).getroot()
    check(root.tag == "testsuites", "the root is testsuites")
    for element in root.iter():
        attributes, children = JUNIT[element.tag]
        check(attributes <= set(element.attrib), f"{element.tag} has its attributes", element.attrib)
        check({child.tag for child in element} <= children, f"{element.tag} has only its children")
        check("time" not in element.attrib and "timestamp" not in element.attrib, "no time makes two runs differ")
    for suite in root.iter("testsuite"):
        cases = suite.findall("testcase")
        check(int(suite.get("tests")) == len(cases), "the count of tests is right")
        check(int(suite.get("failures")) == len(suite.findall("testcase/failure")), "the count of failures is right")
        check(int(suite.get("skipped")) == len(suite.findall("testcase/skipped")), "the count of skipped ones is right")
        check(all(len(case) <= 1 for case in cases), "a case fails or is skipped once")
        check(len({case.get("name") for case in cases}) == len(cases), "no two cases have one name")
    for total in ("tests", "failures", "skipped"):
        check(int(root.get(total)) == sum(int(suite.get(total)) for suite in root), f"the total of {total} is right")
    return root


class Run(Tools):
    def __call__(self, tool: str, *arguments, code: int = 0) -> str:
        return self.run(tool, *arguments, code=code).stderr


def check_writing(run: Run, source: pathlib.Path) -> None:
    work = run.work
    run("q4convert", source, "-o", "model.q4", "-q")
    reports = ("--junit", "r.xml", "--markdown", "r.md", "--html", "r.html")
    names = ("r.xml", "r.md", "r.html")
    run("q4verify", "model.q4", "--against", source, *reports, "-q")
    first = [(work / name).read_bytes() for name in names]
    suites = {suite.get("name"): suite for suite in check_junit(work / "r.xml")}
    check(set(suites) == {"checks", "integrity", "comparison"}, "a suite per kind", set(suites))
    check(first[1].startswith("## ✅".encode()) and first[2].startswith(b"<!DOCTYPE html>"), "Markdown and HTML are what they should be")
    run("q4verify", "model.q4", "--against", source, *reports, "-q", "--threads", "1")
    check([(work / name).read_bytes() for name in names] == first, "the same verification writes the same reports, over the old ones")

    # A broken limit: the reports are there, and name the tensor.
    error = run("q4verify", "model.q4", "--max-nmse", "1e-9", *reports, code=6)
    check("[Q4-63" in error, "the breach is an error line", error)
    root = check_junit(work / "r.xml")
    failed = [case for case in root.iter("testcase") if case.find("failure") is not None]
    check(any("model.layers.0.mlp.down_proj.weight" in case.get("name") for case in failed), "JUnit names the tensor")
    for name in ("r.md", "r.html"):
        text = (work / name).read_text(encoding="utf-8")
        check("model.layers.0.mlp.down_proj.weight" in text and "ailed" in text, f"{name} names the tensor")

    # A flipped bit in the payload: integrity fails, and so does its suite.
    damaged = bytearray((work / "model.q4").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (work / "damaged.q4").write_bytes(damaged)
    run("q4verify", "damaged.q4", *reports, "-q", code=6)
    suites = {suite.get("name"): suite for suite in check_junit(work / "r.xml")}
    check(int(suites["integrity"].get("failures")) == 1, "the integrity suite fails")
    for path in work.glob("*.partial"):
        check(False, "nothing is left behind", path)


def check_refusals(run: Run, source: pathlib.Path) -> None:
    work = run.work
    before = (work / "model.q4").read_bytes()
    (work / "link.html").symlink_to("model.q4")
    os.link(work / "model.q4", work / "hard.html")
    for path in ("model.q4", "./model.q4", "link.html", "hard.html"):
        check("[Q4-1002]" in run("q4verify", "model.q4", "--html", path, code=1), f"{path} is the container")
    (work / "source").mkdir()
    for file in source.iterdir():
        (work / "source" / file.name).write_bytes(file.read_bytes())
    for name in ("model.safetensors", "config.json"):
        error = run("q4verify", "model.q4", "--against", "source", "--markdown", f"source/{name}", code=1)
        check("[Q4-1002]" in error, f"{name} is part of the source", error)
        check((work / "source" / name).read_bytes() == (source / name).read_bytes(), f"{name} is as it was")
    # Nor a file that the next conversion would take for a part of the model; any other name may lie there.
    error = run("q4verify", "model.q4", "--against", "source", "--markdown", "source/new.md", code=1)
    check("[Q4-1005]" in error and not (work / "source" / "new.md").exists(), "a report is no companion", error)
    run("q4verify", "model.q4", "--against", "source", "--html", "source/new.html", "-q")
    # A report is written beside its place first, and so must not be there either.
    os.link(work / "model.q4", work / "hard.partial")
    check("[Q4-1002]" in run("q4verify", "model.q4", "--html", "hard", code=1), "the report's partial file is the container")
    (work / "hard.partial").unlink()
    for other in ("same", "./same", "../" + work.name + "/same"):
        check("[Q4-1003]" in run("q4verify", "model.q4", "--html", "same", "--junit", other, code=1), "two reports are two files")
    check(not (work / "same").exists(), "a refused report does not appear")
    run("q4verify", "model.q4", "--html", "no/such/directory/r.html", code=2)
    # One that cannot be opened stops the tool before the work; the others do not appear.
    run("q4verify", "model.q4", "--junit", "new.xml", "--html", "no/such/r.html", code=2)
    check(not (work / "new.xml").exists() and not list(work.glob("*.partial")), "nothing is left of the others")
    check((work / "model.q4").read_bytes() == before, "the container is as it was")


def contents(directory: pathlib.Path) -> dict:
    return {path.relative_to(directory): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def check_conversion_refusals(run: Run, source: pathlib.Path) -> None:
    """q4convert --report: none of the files that the conversion reads or writes."""
    work = run.work / "conversion"
    (work / "model").mkdir(parents=True)
    for file in source.iterdir():
        (work / "model" / file.name).write_bytes(file.read_bytes())
    (work / "recipe.json").write_text('{"rules":[{"match":"down_proj","type":"fp4"}]}')
    (work / "gate.json").write_text('{"rules":[{"name":"all","max_nmse":1}]}')
    (work / "link.json").symlink_to("model/config.json")
    os.link(work / "model" / "model.safetensors", work / "hard.json")
    os.link(work / "model" / "model.safetensors", work / "late.json.partial")
    before = contents(work)
    run_here = Run(run.folder, work)
    convert = ("q4convert", "model", "-o", "out.q4", "--recipe", "recipe.json", "--gate", "gate.json", "-q")

    def refused(number: int, report: str, *arguments) -> None:
        error = run_here(*convert, *arguments, "--report", report, code=1)
        check(f"[Q4-{number}]" in error and report in error, f"{report} is refused", error)
        check(contents(work) == before, f"{report}: everything is as it was")

    for report in ("model/model.safetensors", "model/config.json", "./model/../model/config.json", "recipe.json", "gate.json",
                   "link.json", "hard.json", "late.json"):
        refused(1002, report)
    for report in ("out.q4", "./out.q4", "model/../out.q4", "out.q4.partial", "out.q4.journal"):
        refused(1004, report)
    size = str((source / "model.safetensors").stat().st_size // 8)
    run(convert[0], source, "-o", "probe.q4", "-q", "--shard-size", size)
    shards = [path.name.replace("probe", "out") for path in sorted(run.work.glob("probe-*.q4"))]
    check(len(shards) > 1, "several shards", shards)
    for report in (*shards, shards[-1] + ".partial", "out.q4.index.json", "out.q4.index.json.partial", "out.q4"):
        refused(1004, report, "--shard-size", size)
    refused(1005, "model/report.json")
    # Beside a lone file that has companions it would become one of them as well.
    error = run_here("q4convert", "model/model.safetensors", "-o", "out.q4", "-q", "--report", "model/report.json", code=1)
    check("[Q4-1005]" in error, "a companion of a lone file", error)
    # An existing output, under another name.
    run_here(*convert)
    os.link(work / "out.q4", work / "again.json")
    before = contents(work)
    refused(1004, "again.json", "--force")
    refused(1004, "out.q4", "--force")
    # An older report is replaced, and an empty file; what is neither stays.
    (work / "report.json").write_text("")
    for _ in range(2):
        run_here(*convert, "--force", "--report", "report.json")
        check(b"q4convert" in (work / "report.json").read_bytes(), "the report is written")
    (work / "notes.json").write_text("mine")
    before = contents(work)
    refused(1561, "notes.json", "--force")
    run_here(*convert, "--force", "--report", "model/report.log")

    # The names that a conversion works under are no place for its input either.
    for name in ("own.q4.partial", "own.q4.journal"):
        (work / name).write_bytes((source / "model.safetensors").read_bytes())
        before = contents(work)
        for arguments in ((), ("--dry-run",)):
            error = run_here("q4convert", name, "-o", "own.q4", "-q", *arguments, code=1)
            check("[Q4-1101]" in error, f"{name} is the input", error)
            check(contents(work) == before, f"{name} is as it was")
        (work / name).unlink()


def write_sharded(source: pathlib.Path, directory: pathlib.Path, index: str) -> None:
    """The checkpoint as one shard with an index."""
    directory.mkdir(parents=True)
    weights = (source / "model.safetensors").read_bytes()
    header = json.loads(weights[8:8 + int.from_bytes(weights[:8], "little")])
    header.pop("__metadata__", None)
    (directory / "model-00001-of-00001.safetensors").write_bytes(weights)
    (directory / index).write_text(json.dumps({"weight_map": {name: "model-00001-of-00001.safetensors" for name in header}}))
    (directory / "config.json").write_bytes((source / "config.json").read_bytes())


def check_index(run: Run, source: pathlib.Path) -> None:
    """The list of shards is read like the shards are: nothing replaces it."""
    work = run.work / "index"
    write_sharded(source, work / "model", "model.safetensors.index.json")
    run_here = Run(run.folder, work)
    run_here("q4convert", "model", "-o", "out.q4", "-q")
    os.link(work / "model" / "model.safetensors.index.json", work / "hard.json")
    before = contents(work)
    for model in ("model", "model/model.safetensors.index.json"):
        for report in ("model/model.safetensors.index.json", "hard.json"):
            error = run_here("q4convert", model, "-o", "other.q4", "-q", "--report", report, code=1)
            check("[Q4-1002]" in error, f"{report} is read", error)
            for flag in ("--junit", "--markdown", "--html"):
                error = run_here("q4verify", "out.q4", "--against", model, flag, report, code=1)
                check("[Q4-1002]" in error, f"{flag} {report} is read", error)
            check(contents(work) == before, f"{report}: everything is as it was")

    # Nor does the output, under whichever of its names; companions, recipe and gate count as the weights do.
    write_sharded(source, work / "own", "m.q4.index.json")
    (work / "recipe.json").write_text('{"rules":[{"match":"down_proj","type":"fp4"}]}')
    (work / "gate.json").write_text('{"rules":[{"name":"all","max_nmse":1}]}')
    size = str((source / "model.safetensors").stat().st_size // 8)
    for original in ("own/m.q4.index.json", "own/config.json", "recipe.json", "gate.json"):
        for name, arguments in (("own/m.q4.index.json", ("-o", "own/m.q4", "--shard-size", size)),
                                ("new.q4.index.json", ("-o", "new.q4", "--shard-size", size)),
                                ("new.q4", ("-o", "new.q4")), ("new.q4.partial", ("-o", "new.q4")),
                                ("new.q4.journal", ("-o", "new.q4"))):
            linked = not (work / name).exists()
            if linked:
                os.link(work / original, work / name)
            before = contents(work)
            for dry in ((), ("--dry-run",)):
                error = run_here("q4convert", "own/m.q4.index.json", *arguments, "-q", "--force", "--recipe", "recipe.json", "--gate",
                                 "gate.json", *dry, code=1)
                check("[Q4-1101]" in error and name in error, f"{name} is {original}", error)
                check(contents(work) == before, f"{name}: everything is as it was")
            if linked:
                (work / name).unlink()


def check_companions(run: Run, source: pathlib.Path) -> None:
    """A report is refused exactly where the next conversion would embed it."""
    work = run.work / "companions"
    weights = (source / "model.safetensors").read_bytes()
    run_here = Run(run.folder, work)

    def tried(directory: str, weight_name: str, report: str, refused: bool, refused_in_folder: bool | None = None) -> None:
        """Given the weights and given their folder, which says that all of it is the model's."""
        model = work / directory / weight_name
        folder = refused if refused_in_folder is None else refused_in_folder
        for path, refused in ((f"{directory}/{weight_name}", refused), (directory, folder)):
            (work / "c.q4").unlink(missing_ok=True)
            error = run_here("q4convert", path, "-o", "c.q4", "-q", "--report", f"{directory}/{report}", code=1 if refused else 0)
            check(("[Q4-1005]" in error) == refused, f"{path}: {report}", error)
            check((model.parent / report).exists() != refused, f"{path}: {report} is there, or not")
            (model.parent / report).unlink(missing_ok=True)

    def model(directory: str, weight_name: str, **files: str) -> None:
        (work / directory).mkdir(parents=True)
        (work / directory / weight_name).write_bytes(weights)
        for name, text in files.items():
            (work / directory / f"{name}.json").write_text(text)

    model("bare", "model.safetensors")
    tried("bare", "model.safetensors", "report.json", True)
    tried("bare", "model.safetensors", "report.log", False)
    model("download", "weights.safetensors")
    tried("download", "weights.safetensors", "report.json", False, refused_in_folder=True)
    tried("download", "weights.safetensors", "config.json", True)
    tried("download", "weights.safetensors", "params.json", True)
    tried("bare", "model.safetensors", "other.safetensors", True)
    tried("bare", "model.safetensors", "model.safetensors.index.json", True)
    model("configured", "weights.safetensors", config='{"model_type":"llama"}')
    tried("configured", "weights.safetensors", "report.json", True)
    model("modules", "model.safetensors", modules='[{"path":""},{"path":"1_Pooling"}]')
    (work / "modules" / "1_Pooling").mkdir()
    (work / "modules" / "2_Other").mkdir()
    tried("modules", "model.safetensors", "1_Pooling/config.json", True)
    tried("modules", "model.safetensors", "1_Pooling/report.json", True)
    tried("modules", "model.safetensors", "1_Pooling/report.log", False)
    tried("modules", "model.safetensors", "2_Other/config.json", False)


def check_samples(sample: pathlib.Path, work: pathlib.Path) -> None:
    for kind, failures in (("sound", 0), ("failed", 10), ("hostile", None)):
        subprocess.run([sample, "3", kind, work / kind], check=True)
        root = check_junit(work / f"{kind}.xml")
        check(failures is None or int(root.get("failures")) == failures, f"{kind}: {failures} failures", root.get("failures"))
        check({suite.get("name") for suite in root} == {"checks", "integrity", "comparison", "evaluation", "gates"}, f"{kind}: all suites")


def main() -> int:
    tools, sample, checkpoints = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory).resolve()
        run = Run(tools, work)
        check_writing(run, checkpoints / "tiny_bf16st_src")
        check_conversion_refusals(run, checkpoints / "tiny_bf16st_src")
        check_refusals(run, checkpoints / "tiny_bf16st_src")
        check_index(run, checkpoints / "tiny_bf16st_src")
        check_companions(run, checkpoints / "tiny_bf16st_src")
        check_samples(sample, work)
    print(f"reports: {checks.count()} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
