#!/usr/bin/env python3
"""slurm_test.py TOOLS KILL_AT_SO SOURCE: the array of deploy/slurm on a Slurm of this machine alone.

A model in 8 files is converted in 4 parts on two nodes. Of their first attempts one is killed right before it publishes, and Slurm cancels
the merge; one gets TERM, as before a preemption, and queues itself again; submit.sh called again runs what is missing alone, and merges.
The bytes are those of one process. Then a node is lost with its task. Skipped (77) where slurm-wlm is not installed, or may not run.
"""
import argparse
import os
import pathlib
import re
import stat
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check, count  # noqa: E402
from cluster_model import SETTINGS, digests, write_model  # noqa: E402
from slurm_cluster import Cluster, Unavailable, missing  # noqa: E402
from tools import Tools  # noqa: E402

FILES, PARTS = 8, 4

# The first attempt of task 1 is killed; that of task 2 waits for TERM, so that it has something to end. Beside these q4convert itself.
WRAPPER = """#!/bin/bash
first=$FOLDER/attempted.$SLURM_ARRAY_TASK_ID
if [ "$1" = --merge ] || [ "$1" = --status ] || [ -e "$first" ]; then exec "$TOOLS/q4convert" "$@"; fi
touch "$first"
case $SLURM_ARRAY_TASK_ID in
  1) export LD_PRELOAD=$KILL_AT Q4_KILL_AT=8 ;;
  2) trap 'exit 7' TERM; mkfifo "$FOLDER/never"; read <"$FOLDER/never" & wait $! ;;
esac
exec "$TOOLS/q4convert" "$@"
"""


def jobs(said: str) -> "dict[str, str]":
    return dict(re.findall(r"^(array|merge) (\d+)", said, re.M))


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("tools", "kill_at", "source"):
        parser.add_argument(name, type=lambda text: pathlib.Path(text).resolve())
    args = parser.parse_args()
    if missing():
        print(f"slurm: skipped: {missing()}")
        return 77
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="q4-slurm-") as work:
        work = pathlib.Path(work)
        tools, model = Tools(args.tools, work), work / "model"
        write_model(model, FILES)
        one, parts = work / "one", work / "parts"
        one.mkdir(), parts.mkdir()
        tools.run("q4convert", model, "-o", one / "out.q4", "--shard-by", "source", *SETTINGS)
        expected = digests(one)
        check(len(expected) == FILES + 1, "a shard for each file, and the index", expected)

        wrapper = work / "q4convert.sh"
        wrapper.write_text(WRAPPER)
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
        with Cluster(work / "slurm") as cluster:
            cluster.environment.update(Q4CONVERT=str(wrapper), FOLDER=str(work), TOOLS=str(args.tools), KILL_AT=str(args.kill_at))
            submit = [args.source / "deploy/slurm/submit.sh", model, parts / "out.q4", str(PARTS), *SETTINGS]

            first = jobs(cluster.command(*submit, cwd=work))
            cluster.wait(first["array"], 60, lambda _: (work / "never").exists())
            cluster.command("scancel", "--signal=TERM", "--batch", f"{first['array']}_2")
            task = f"{first['array']}_2"
            cluster.wait(first["array"], 60, lambda states: states.get(task) == "PENDING")
            time.sleep(3)  # the first attempt's end may be told late, on a busy machine, and would then be taken for the second's
            cluster.command("scontrol", "update", f"JobId={task}", "StartTime=now")  # Slurm waits minutes before it takes up a task again
            states = cluster.ended(first["array"], 60)
            check(states[f"{first['array']}_1"] == "FAILED", "a killed task has failed", states)
            check(sum(state == "COMPLETED" for state in states.values()) == PARTS - 1, "the others are complete, one of them by itself", states,
                  {path.name: path.read_text(errors="replace")[-800:] for path in sorted(work.rglob("q4-*.log"))}, cluster.logs())
            merge = cluster.ended(first["merge"], 60)
            check(list(merge.values()) == ["CANCELLED"], "no merge of an array with a failed task", merge)
            check(not (parts / "out.q4.index.json").exists(), "there is no model yet")

            again = cluster.command(*submit, cwd=work)
            check("(tasks 1)" in again, "called again: what is missing alone", again)
            second = jobs(again)
            states = cluster.ended(second["merge"], 60)
            check(list(states.values()) == ["COMPLETED"], "the merge is complete", states, cluster.logs())
            check(digests(parts) == expected, "the bytes of one process, and nothing else", sorted(digests(parts)), sorted(expected))
        tools.run("q4verify", parts / "out.q4.index.json", "--against", model, "-q")
    print(f"slurm: {PARTS} parts on 2 nodes, one killed, one preempted: {count()} checks, {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unavailable as error:
        print(f"slurm: skipped: {error}")
        sys.exit(77)
