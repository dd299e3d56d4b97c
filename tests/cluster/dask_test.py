#!/usr/bin/env python3
"""dask_test.py SOURCE: the example of docs/scale_out.md for Dask runs on a cluster of two processes, to the bytes of q4.convert.

Needs the packages q4 and distributed.
"""
import pathlib
import re
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import q4  # noqa: E402
from checks import check, count  # noqa: E402
from cluster_model import digests, write_model  # noqa: E402
from distributed import LocalCluster  # noqa: E402


def main() -> int:
    begin = time.monotonic()
    page = (pathlib.Path(sys.argv[1]) / "docs/scale_out.md").read_text()
    example = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "distributed" in block]
    check(len(example) == 1, "the page has one example for Dask", len(example))
    with tempfile.TemporaryDirectory(prefix="q4-dask-") as work:
        work = pathlib.Path(work)
        write_model(work / "model", 8)
        one, parts = work / "one", work / "parts"
        one.mkdir(), parts.mkdir()
        q4.convert(work / "model", one / "out.q4", shard_by="source")
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            code = example[0].replace('"tcp://scheduler:8786"', repr(cluster.scheduler_address))
            code = code.replace("/shared/MODEL", str(work / "model")).replace("/shared/OUT.q4", str(parts / "out.q4"))
            exec(compile(code, "docs/scale_out.md", "exec"), {})
        check(digests(parts) == digests(one), "the bytes of one process, and nothing else", digests(parts), digests(one))
    print(f"dask: {count()} checks, {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
