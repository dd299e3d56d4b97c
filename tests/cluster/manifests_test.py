#!/usr/bin/env python3
"""manifests_test.py SOURCE: the manifests of deploy/kubernetes are what Kubernetes takes, strictly, and say one thing.

Needs kubernetes-validate, which holds the schemas of Kubernetes itself; of a JobSet it checks the Jobs that it is made of. No cluster has run them.
"""
import pathlib
import sys

import kubernetes_validate
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check, count  # noqa: E402

# What another attempt cannot mend: docs/scale_out.md.
FINAL_CODES = [1, 3, 5, 6]
# The first whose retries by index are no longer in trial, and the newest.
VERSIONS = ("1.33", "1.37")


def validated(job: dict) -> dict:
    for version in VERSIONS:
        kubernetes_validate.validate(job, version, strict=True)
    return job


def main() -> int:
    folder = pathlib.Path(sys.argv[1]) / "deploy/kubernetes"
    documents = {path.name: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))}
    check(sorted(documents) == ["indexed_job.yaml", "jobset.yaml", "merge_job.yaml"], "every manifest is known here", sorted(documents))
    parts, merge = validated(documents["indexed_job.yaml"]), validated(documents["merge_job.yaml"])
    for job in (parts, merge):
        failing = [rule["onExitCodes"]["values"] for rule in job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
        check(failing == [FINAL_CODES], "what is final ends the job", failing)
    spec = parts["spec"]
    command = spec["template"]["spec"]["containers"][0]["command"]
    check(command[command.index("--parts") + 1] == str(spec["completions"]), "an index for each part", command, spec["completions"])
    check("--part-from-env" in command, "the part is taken from the environment", command)

    first, second = documents["jobset.yaml"]["spec"]["replicatedJobs"]
    for replicated, job in ((first, parts), (second, merge)):
        validated({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": replicated["name"]}, **replicated["template"]})
        check(replicated["template"]["spec"] == job["spec"], "a JobSet of the same Jobs", replicated["name"])
    check(second["dependsOn"] == [{"name": first["name"], "status": "Complete"}], "the merge waits for all parts", second["dependsOn"])
    print(f"manifests: {len(documents)} files: {count()} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
