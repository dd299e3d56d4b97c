#!/usr/bin/env python3
"""The GitHub Actions pipeline of docs/ci.md: it parses, it carries away what scripts/convert_and_judge.sh writes, and its step
"Convert and judge" does what the page says, with gates that hold and with one that breaks.

    ci_yaml_check.py --bin TOOLS --root REPOSITORY
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    blocks = re.findall(r"```yaml\n(.*?)```", (arguments.root / "docs/ci.md").read_text(encoding="utf-8"), re.DOTALL)
    check(len(blocks) == 1, "there is one pipeline")
    pipeline = yaml.safe_load(blocks[0])
    check(pipeline[True].keys() == {"pull_request", "workflow_dispatch"}, "it runs on pull requests")  # YAML 1.1 reads "on" as true
    job = pipeline["jobs"]["convert"]
    steps = {step.get("name", step.get("uses")): step for step in job["steps"]}
    for step in job["steps"]:
        check(("uses" in step) != ("run" in step), "a step uses an action or runs a command", step)
    judge = steps["Convert and judge"]["run"]
    names = list(steps)
    for name in ("Show the verdict", "Comment on the pull request", "Keep the reports", "Publish the test results"):
        check("!cancelled()" in steps[name]["if"], f"'{name}' runs after a failure too")
        check(names.index(name) > names.index("Convert and judge"), f"'{name}' comes after the verdict")
    check("if" not in steps["Keep the container"], "a container that failed is not kept")
    for target in re.search(r"--target (.*)", steps["Build q4"]["run"]).group(1).split():
        check((arguments.root / "tools" / f"{target}.cc").exists(), f"{target} can be built")

    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        (work / "q4").symlink_to(arguments.root.resolve())

        def run_step(gates: str, without: str = "") -> int:
            environment = {**os.environ, **job["env"], "MODEL": str(arguments.root.resolve() / "testdata/checkpoints/tiny_bf16st_src"),
                           "GATES": gates, "PATH": f"{arguments.bin.resolve()}:{os.environ['PATH']}"}
            environment.pop(without, None)
            return subprocess.run(["bash", "-e", "-c", judge], cwd=work, env=environment, capture_output=True).returncode

        for name in job["env"]:
            check(f"${{{name}:?}}" in judge, f"the step fails where {name} is not set")
            check(run_step("--gate default", without=name) not in (0, 6) and not (work / "out").exists(), f"without {name} it fails")
        check(run_step("") not in (0, 6) and not (work / "out").exists(), "and with an empty one")
        for step in job["steps"]:
            for name in re.findall(r"\$\{?([A-Z_]+)", step.get("run", "")):
                known = name in job["env"] or name.startswith("GITHUB_") or name == "PWD"
                check(known, "no step uses a variable that the page does not set", name)
        check(run_step(job["env"]["GATES"]) == 0, "the step passes with the gates of the page")
        check((work / steps["Keep the container"]["with"]["path"]).is_file(), "the container is where the pipeline looks for it")
        check((work / "out/model.q4").unlink() is None and run_step("--max-nmse 0.001") == 6, "and fails with 6 when one breaks")
        check(not (work / steps["Keep the container"]["with"]["path"]).exists(), "without a container")
        check((work / steps["Publish the test results"]["with"]["report_paths"]).is_file(), "the test results are there")
        check((work / steps["Keep the reports"]["with"]["path"]).is_dir(), "so are the reports")
        comment = re.search(r"--body-file (\S+)", steps["Comment on the pull request"]["run"]).group(1)
        check("down_proj" in (work / comment).read_text(encoding="utf-8"), "and the comment names the breach")
    print(f"ci_yaml: {checks.count()} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
