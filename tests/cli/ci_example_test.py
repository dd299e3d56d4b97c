#!/usr/bin/env python3
"""scripts/convert_and_judge.sh on a small model: gates that hold, then one that breaks; options of both tools. scripts/get_q4.sh.

    ci_example_test.py TOOLS CHECKPOINTS
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree

SCRIPT = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts" / "convert_and_judge.sh"
REPORTS = {"convert.json", "verify.json", "junit.xml", "comment.md", "report.html"}

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402


def options(run, work: pathlib.Path) -> None:
    """Options of both tools, in any order, each to the tool that has it; all checked before anything is converted."""
    (work / "recipe.json").write_text('{"rules": [{"match": "it\'s no name|down_proj", "keep": true}]}')
    done = run("--block-size", "128", "--min-sqnr", "18", "--exclude", "o_proj|it's a 'name'", "--recipe=recipe.json", "--threads", "1", "--sample-seed", "5",
               "--sample", "50", "--no-double-quant", "--gate", "default", "--tensor", "mlp", "--allow-unmatched")
    check(done.returncode == 0, "options of both tools", done.stderr)
    last = done.stdout.splitlines()[-1]
    size = (work / "out/model.q4").stat().st_size
    check(last.startswith(f"convert_and_judge.sh: passed: out/model.q4, {size} bytes, published; limits that hold: "), "the last line is the verdict", last)
    made = json.loads((work / "reports/convert.json").read_text())
    recorded = made["provenance"]["options"]
    check(recorded["block_size"] == 128 and recorded["double_quant"] is False and "down_proj" in recorded["recipe"], "as they were given", recorded)
    check(recorded["patterns"] == [{"exclude": "o_proj|it's a 'name'"}], "a pattern with quotes", recorded["patterns"])
    judged = json.loads((work / "reports/verify.json").read_text())
    check(judged["sample_percent"] == 50 and judged["sample_seed"] == 5 and judged["only"] == "mlp", "and the judge's own", judged["sample_seed"])
    published = (work / "out/model.q4").read_bytes()
    wrong = [
        (("--block-size", "100"), 1, "'100' is none of 32, 64"), (("--blocksize", "64"), 1, "has an option '--blocksize'"),
        (("--min-sqnr", "much"), 1, "--min-sqnr: a number"), (("--recipe", "none.json"), 2, "none.json"), (("--gate", "none.gate"), 2, "none.gate"),
        (("--exclude", "["), 1, "--exclude"), (("--include", "nothing_like_it"), 1, "matches no tensor"), (("--output", "x.q4"), 1, "is given by this script"),
        (("--baseline", "none.json"), 2, "none.json"), (("--sample", "0"), 1, "--sample"), (("--compress", "zstd:99"), 1, "--compress"),
    ]
    for words, code, why in wrong:
        done = run("--min-sqnr", "1", *words) if words[0] != "--min-sqnr" else run(*words)
        check(done.returncode == code and why in done.stderr, f"{words}", done.returncode, done.stderr)
        check("%" not in done.stderr and not (work / "reports/convert.json").exists() or "given by" in why or "has an option" in why, f"{words}: before converting", done.stderr)
        check((work / "out/model.q4").read_bytes() == published and [path.name for path in (work / "out").iterdir()] == ["model.q4"], f"{words}: nothing changed")
    done = run("--max-nmse", "0.001")
    check(done.stderr.splitlines()[-1] == "convert_and_judge.sh: FAILED (6): out/model.q4 is as it was before", "the verdict of a failure", done.stderr)


def tarballs(tools: pathlib.Path, work: pathlib.Path) -> None:
    """scripts/get_q4.sh: out of a tarball with a folder in it, or without one; kept; never of another digest."""
    script = SCRIPT.parent / "get_q4.sh"
    for number, prefix in enumerate(("q4-1.0/", "")):
        packed = work / f"{number}.tar.gz"
        with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
            tar.add(tools / "q4convert", f"{prefix}bin/q4convert")
        digest = hashlib.sha256(packed.read_bytes()).hexdigest()
        folder = work / f"got{number}"

        def get(*words) -> subprocess.CompletedProcess:
            return subprocess.run(["sh", script, *words], cwd=work, capture_output=True, text=True)

        for where in (packed, f"file://{packed}") if shutil.which("curl") else (packed,):
            shutil.rmtree(folder, ignore_errors=True)
            done = get(where, digest, folder)
            check(done.returncode == 0 and done.stdout.startswith("get_q4.sh: q4convert ") and (folder / "bin/q4convert").is_file(), f"{where}", done.stderr)
        check("kept" in get("/no/such.tar.gz", digest, folder).stdout, "what is there is kept")
        other = "0" * 64
        done = get(packed, other, folder)
        check(done.returncode == 1 and "expected 000" in done.stderr and (folder / "bin/q4convert").is_file(), "another digest changes nothing", done.stderr)
        for words in ((packed, "", folder), ("", digest, folder), (packed, digest, ""), (packed, digest)):
            check(get(*words).returncode == 1, f"an empty argument is refused {words}")


def main() -> int:
    tools, checkpoints = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    source = checkpoints / "tiny_bf16st_src"
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)

        def run(*gates: str) -> subprocess.CompletedProcess:
            return subprocess.run(["sh", SCRIPT, source, "out/model.q4", "reports", *gates], cwd=work, env=environment,
                                  capture_output=True, text=True)

        def files() -> set:
            return {path.name for path in (work / "reports").iterdir()}

        done = run("--max-nmse", "0.012", "--min-sqnr", "18")
        check(done.returncode == 0, "gates that hold end with 0", done.stderr)
        check(files() == REPORTS, "all reports are there", files())
        check(json.loads((work / "reports/verify.json").read_text())["passed"] is True, "the JSON report says passed")
        check(ElementTree.parse(work / "reports/junit.xml").getroot().get("failures") == "0", "JUnit counts no failure")
        check([path.name for path in (work / "out").iterdir()] == ["model.q4"], "the container is published, and nothing else")
        published = (work / "out/model.q4").read_bytes()

        done = run("--max-nmse", "0.001")
        check(done.returncode == 6, "a gate that breaks ends with 6", done.returncode, done.stderr)
        check(files() == REPORTS, "all reports are there again", files())
        tensor = "model.layers.1.mlp.down_proj.weight"
        check(tensor in done.stderr, "stderr names the breach", done.stderr)
        verdict = json.loads((work / "reports/verify.json").read_text())
        check(verdict["passed"] is False and any(finding["tensor"] == tensor for finding in verdict["findings"]), "and so does JSON")
        failed = [case.get("name") for case in ElementTree.parse(work / "reports/junit.xml").iter("testcase") if len(case)]
        check(any(tensor in name for name in failed), "and JUnit", failed)
        for name in ("comment.md", "report.html"):
            text = (work / "reports" / name).read_text(encoding="utf-8")
            check("ailed" in text and tensor in text, f"and {name}")
        check([path.name for path in (work / "out").iterdir()] == ["model.q4"], "what failed is not published")
        check((work / "out/model.q4").read_bytes() == published, "what was published before is as it was")

        # A variable that is not set, with quotes around it and without: nothing is done, and nothing is let through.
        def refused(*words, why: str) -> None:
            for shell in ("sh", "bash"):
                environment_of_ci = {**environment, "SOURCE": str(source), "OUT": "out/other.q4", "REPORTS": "others", "GATE": "default"}
                for word in words:
                    environment_of_ci.pop(word, None)
                for command in ('"$SOURCE" "$OUT" "$REPORTS" --gate "$GATE"', "$SOURCE $OUT $REPORTS --gate $GATE",
                                '"$SOURCE" "$OUT" "$REPORTS" --gate="$GATE"'):
                    done = subprocess.run([shell, "-c", f"sh {SCRIPT} {command}"], cwd=work, env=environment_of_ci, capture_output=True, text=True)
                    check(done.returncode == 1, f"{why} ({command}) ends with 1", done.returncode, done.stderr)
                    check({path.name for path in work.iterdir()} == {"out", "reports"} and [path.name for path in (work / "out").iterdir()] == ["model.q4"],
                          f"{why} ({command}): nothing is written", list(work.iterdir()))

        refused("SOURCE", why="no source")
        refused("OUT", why="no output")
        refused("REPORTS", why="no folder for the reports")
        refused("GATE", why="no gate")
        refused("SOURCE", "OUT", "REPORTS", "GATE", why="nothing at all")
        done = run()
        check(done.returncode == 1 and "no limit" in done.stderr, "a judge without limits is refused", done.stderr)
        done = run("--sample", "50")
        check(done.returncode == 1 and "no limit" in done.stderr, "with other options too", done.stderr)
        done = run("--no-limits", "--sample", "50")
        check(done.returncode == 0, "unless that is said", done.stderr)

        options(run, work)
        tarballs(tools, work)

        # A source that cannot be read: no report of an earlier run is left to be mistaken for this one's.
        source = work / "no-such-model"
        done = run("--gate", "default")
        check(done.returncode not in (0, 6) and files() == set(), "old reports do not survive", done.returncode, files())
    print(f"ci_example: {checks.count()} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
