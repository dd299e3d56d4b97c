#!/usr/bin/env python3
"""scripts/convert_and_judge.sh on a small model: gates that hold, then one that breaks.

    ci_example_test.py TOOLS CHECKPOINTS
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

SCRIPT = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts" / "convert_and_judge.sh"
REPORTS = {"convert.json", "verify.json", "junit.xml", "comment.md", "report.html"}

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402


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

        # A source that cannot be read: no report of an earlier run is left to be mistaken for this one's.
        source = work / "no-such-model"
        done = run("--gate", "default")
        check(done.returncode not in (0, 6) and files() == set(), "old reports do not survive", done.returncode, files())
    print(f"ci_example: {checks.count()} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
