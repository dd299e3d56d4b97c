#!/usr/bin/env python3
"""The action of action.yml and the pipelines of docs/ci.md: they parse, they carry away what scripts/convert_and_judge.sh writes, and
their steps do what the page says against a tarball of the tools: with gates that hold, with one that breaks, and with the tools cached.

    ci_yaml_check.py --bin TOOLS --root REPOSITORY
    ci_yaml_check.py --tarball Q4.TAR.GZ --root REPOSITORY    the same with a tarball that scripts/release.sh made
"""

import argparse
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402

TOOLS = ("q4convert", "q4verify")


def tarball(bin_folder: pathlib.Path, path: pathlib.Path) -> str:
    """The tools as a release packs them; the digest."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for tool in TOOLS:
            tar.add(bin_folder / tool, f"q4-0.0.0-linux/bin/{tool}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Action:
    """The steps of action.yml, run as GitHub's runner does it."""

    def __init__(self, root: pathlib.Path, work: pathlib.Path):
        self.root, self.work = root, work
        self.document = yaml.safe_load((root / "action.yml").read_text(encoding="utf-8"))
        self.steps = self.document["runs"]["steps"]

    def run(self, inputs: dict) -> tuple:
        """(exit status of the first step that failed or 0, all that was said)."""
        values = {name: str(of.get("default", "")) for name, of in self.document["inputs"].items()} | inputs
        files = {name: self.work / name.lower() for name in ("GITHUB_PATH", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        said, status = "", 0
        for step in self.steps:
            always = "!cancelled()" in str(step.get("if", ""))
            if "run" not in step or (status and not always):
                continue
            step_environment = {name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda match: values[match.group(1)], text) for name, text in step.get("env", {}).items()}
            path = ":".join([*files["GITHUB_PATH"].read_text().splitlines(), os.environ["PATH"]])
            environment = {**os.environ, "PATH": path, "RUNNER_TEMP": str(self.work / "runner"), "GITHUB_ACTION_PATH": str(self.root),
                           **{name: str(file) for name, file in files.items()}, **step_environment}
            done = subprocess.run([step["shell"], "-e", "-c", step["run"]], cwd=self.work, env=environment, capture_output=True, text=True)
            said += done.stdout + done.stderr
            status = status or done.returncode
        return status, said


def check_action(root: pathlib.Path, work: pathlib.Path, inputs: dict, breaking: dict) -> None:
    action = Action(root, work)
    check(action.document["runs"]["using"] == "composite", "a composite action")
    for step in action.steps:
        check(("uses" in step) != ("run" in step) and ("run" not in step or "shell" in step), "a step uses an action, or runs a command in a shell", step)
        for name in re.findall(r"\$\{?([A-Z_0-9]+)", step.get("run", "")):
            check(name in step.get("env", {}) or name.startswith("GITHUB_") or name == "RUNNER_TEMP", "no step uses a variable that nobody sets", name)
        check("${{" not in step.get("run", ""), "no input is pasted into a script", step)
    cache = next(step for step in action.steps if str(step.get("uses", "")).startswith("actions/cache@"))
    check("inputs.sha256" in cache["with"]["key"] and cache["with"]["path"].endswith("/q4"), "what is cached is told by its digest", cache)
    for name, of in action.document["inputs"].items():
        if of.get("required"):
            status, _ = action.run({**inputs, name: ""})
            check(status not in (0, 6) and not (work / "out").exists(), f"without {name} it fails", status)
    status, said = action.run({**inputs, "sha256": "0" * 64})
    check(status == 1 and "expected 0000" in said and not (work / "out").exists(), "another tarball is refused", said)
    status, said = action.run(inputs)
    check(status == 0 and "passed: out/model.q4" in said and (work / "out/model.q4").is_file(), "the action passes with the gates of the page", said)
    check("assed" in (work / "github_step_summary").read_text(), "and shows it")
    before = (work / "runner/q4/bin/q4convert").stat().st_mtime_ns
    (work / "out/model.q4").unlink()
    status, said = action.run({**inputs, **breaking})
    check(status == 6 and not (work / "out/model.q4").exists() and "FAILED (6)" in said, "and fails with 6 when one breaks", said)
    check("get_q4.sh: kept" in said and (work / "runner/q4/bin/q4convert").stat().st_mtime_ns == before, "with the tools that it had", said)
    check("down_proj" in (work / "github_step_summary").read_text(), "and shows the breach")


def check_workflow(pipeline: dict, root: pathlib.Path, work: pathlib.Path) -> dict:
    """Of GitHub; returns what it gives to the action, with its env filled in."""
    check(pipeline[True].keys() == {"pull_request", "workflow_dispatch"}, "it runs on pull requests")  # YAML 1.1 reads "on" as true
    job = pipeline["jobs"]["convert"]
    steps = {step.get("name", step.get("uses")): step for step in job["steps"]}
    names = list(steps)
    for name in ("Comment on the pull request", "Keep the reports", "Publish the test results"):
        check("!cancelled()" in steps[name]["if"], f"'{name}' runs after a failure too")
        check(names.index(name) > names.index("Convert and judge"), f"'{name}' comes after the verdict")
    check("if" not in steps["Keep the container"], "a container that failed is not kept")
    given = steps["Convert and judge"]["with"]
    inputs = yaml.safe_load((root / "action.yml").read_text(encoding="utf-8"))["inputs"]
    check(set(given) <= set(inputs) and {name for name, of in inputs.items() if of.get("required")} <= set(given), "it gives what the action takes", given)
    check(steps["Keep the container"]["with"]["path"] == given["output"], "the container is where the pipeline looks for it")
    check(steps["Keep the reports"]["with"]["path"] == given["reports"], "so are the reports")
    check(steps["Publish the test results"]["with"]["report_paths"] == given["reports"] + "/junit.xml", "and the test results")
    check(given["reports"] + "/comment.md" in steps["Comment on the pull request"]["run"], "and the comment")
    return {name: re.sub(r"\$\{\{ env\.(\w+) \}\}", lambda match: job["env"][match.group(1)], text) for name, text in given.items()}


def check_gitlab(job: dict, root: pathlib.Path, work: pathlib.Path, variables: dict) -> None:
    work.mkdir()
    (work / "scripts").symlink_to(root / "scripts")

    def run(changed: dict) -> tuple:
        environment = {**os.environ, **job["variables"], **variables, **changed}
        done = subprocess.run(["sh", "-e", "-c", "\n".join(job["script"])], cwd=work, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    for name in job["variables"]:
        status, said = run({name: ""})
        check(status not in (0, 6) and not (work / "out").exists(), f"without {name} it fails", said)
    status, said = run({})
    check(status == 0 and (work / "out/model.q4").is_file(), "the job passes with the gates of the page", said)
    (work / "out/model.q4").unlink()
    status, said = run({"GATES": "--max-nmse 0.001"})
    check(status == 6 and "get_q4.sh: kept" in said and not (work / "out/model.q4").exists(), "and fails with 6 when one breaks", said)
    check(job["cache"]["paths"] == [".q4"] and (work / ".q4/bin/q4convert").is_file(), "the cache is where the tools are")
    artifacts = job["artifacts"]
    check(artifacts["when"] == "always" and (work / artifacts["reports"]["junit"]).is_file() and (work / artifacts["paths"][0]).is_dir(), "what is kept is there")


def main() -> int:
    parser = argparse.ArgumentParser()
    tools = parser.add_mutually_exclusive_group(required=True)
    tools.add_argument("--bin", type=pathlib.Path)
    tools.add_argument("--tarball", type=pathlib.Path)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    blocks = re.findall(r"```yaml\n(.*?)```", (root / "docs/ci.md").read_text(encoding="utf-8"), re.DOTALL)
    check(len(blocks) == 2, "there are two pipelines")
    workflow, gitlab = (yaml.safe_load(block) for block in blocks)
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        if arguments.tarball:
            packed = arguments.tarball.resolve()
            digest = hashlib.sha256(packed.read_bytes()).hexdigest()
        else:
            packed = work / "q4.tar.gz"
            digest = tarball(arguments.bin.resolve(), packed)
        model = str(root / "testdata/checkpoints/tiny_bf16st_src")
        inputs = check_workflow(workflow, root, work) | {"model": model, "tarball": str(packed), "sha256": digest}
        (work / "github").mkdir()
        check_action(root, work / "github", inputs, {"options": "--max-nmse 0.001"})
        check_gitlab(gitlab["convert"], root, work / "gitlab", {"MODEL": model, "TARBALL": str(packed), "SHA256": digest})
    print(f"ci_yaml: {checks.count()} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
