#!/usr/bin/env python3
"""ray_test.py: q4.ray.convert on a Ray cluster of this machine alone, of which a node is lost.

Two nodes beside the head; while parts run, one is taken away without a word. The bytes are those of q4.convert. Refusals come as q4's errors,
are not repeated, and a broken gate leaves the parts for another merge. Needs the packages q4 and ray.
"""
import os
import pathlib
import sys
import tempfile
import threading
import time

os.environ["RAY_AUTH_MODE"] = "disabled"  # else a token is written into the home folder
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import q4.ray  # noqa: E402
import ray  # noqa: E402
import ray.cluster_utils  # noqa: E402
from checks import check, count  # noqa: E402
from cluster_model import digests, write_model  # noqa: E402

FILES, PARTS = 8, 8
# An encoder that searches hard, so that parts are still running when the node goes.
OPTIONS = {"encoder": "mse", "effort": 3, "device": "cpu"}


def refused(error: type, *arguments, **options) -> Exception:
    try:
        q4.ray.convert(*arguments, **options)
    except error as got:
        return got
    raise SystemExit(f"ray_test: FAILED: not refused: {arguments} {options}")


def main() -> int:
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="q4-ray-") as work:
        work = pathlib.Path(work)
        write_model(work / "model", FILES, rows=4096)
        one, parts = work / "one", work / "parts"
        one.mkdir(), parts.mkdir()
        expected_report = q4.convert(work / "model", one / "out.q4", shard_by="source", **OPTIONS)
        expected = digests(one)

        cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20})
        steady = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
        lost = cluster.add_node(num_cpus=1, resources={"lost": 1}, object_store_memory=80 << 20)
        ray.init(address=cluster.address, log_to_driver=False)
        try:

            def lose():
                """The node, when its first shard is there and others are on their way."""
                while not (parts / "out.q4.parts").exists():
                    time.sleep(0.05)
                time.sleep(0.3)
                cluster.remove_node(lost, allow_graceful=False)
                lost_at.append(len(list((parts / "out.q4.parts").iterdir())))

            lost_at = []
            loser = threading.Thread(target=lose)
            loser.start()
            report = q4.ray.convert(work / "model", parts / "out.q4", parts=PARTS, **OPTIONS)
            loser.join()
            check(lost_at and lost_at[0] < FILES, "the node was lost while parts ran", lost_at)
            check(digests(parts) == expected, "the bytes of one process, and nothing else", digests(parts), expected)
            check(report.json["shards"] == expected_report.json["shards"] if "shards" in report.json else True, "its report")

            error = refused(q4.UsageError, work / "model", parts / "out.q4", parts=PARTS, **OPTIONS)
            check("index.json" in str(error), "a model that is complete is not replaced", error)
            error = refused(q4.InputError, work / "nothing", work / "x.q4", parts=2, attempts=2)
            check(str(work / "nothing") in str(error), "a source that is not there, after two attempts", error)
            refused(ValueError, "model", work / "x.q4", parts=2)

            gated = work / "gated"
            gated.mkdir()
            error = refused(q4.GateError, work / "model", gated / "out.q4", parts=2, max_nmse=1e-9, **OPTIONS)
            check(error.findings, "a broken gate says by what", error)
            check(not (gated / "out.q4.index.json").exists(), "and leaves no model")
            q4.parts.merge(gated / "out.q4")
            check(digests(gated) == expected, "another merge takes the parts as they are")
        finally:
            ray.shutdown()
            cluster.shutdown()
        del steady
    print(f"ray: {PARTS} parts on 2 nodes, one lost: {count()} checks, {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
