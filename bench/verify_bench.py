#!/usr/bin/env python3
"""Measures q4verify beside plain reading of the same files: integrity alone, and --against the source.

  python3 bench/verify_bench.py --build BUILD --work DIR [--gigabytes 2] [--files 1 | --source DIR] [--digest sha256 xxh3] [--repeats 5]
                                [--readers 16]

Needs numpy. Each run of q4verify is compared with a plain read (8 MiB at a time, one thread) and with sha256sum right before it,
because a machine's speed drifts. From the page cache unless --cold. Prints one JSON document: medians of seconds, CPU seconds, peak
RSS, and "share", the median over the pairs of read seconds / q4verify's seconds. --files cuts the checkpoint into so many files, whose
digests run side by side; --source is a checkpoint that exists. --readers N reads the same files by N processes of dd besides, each its run of all bytes:
"parallel_share". --brief leaves out sha256sum and the sample.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from pipeline_bench import bench_arguments, drop_cache, read_seconds, run, write_checkpoint  # noqa: E402


def cut(source, count):
    """The checkpoint in `count` files of about the same size, with their index. Returns them."""
    folder = source.parent.with_name(f"{source.parent.name}-{count}-files")
    names = [folder / f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    if (folder / "model.safetensors.index.json").exists():
        return names
    folder.mkdir(exist_ok=True)
    with open(source, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(length))
        tensors.pop("__metadata__", None)
        ordered = sorted(tensors, key=lambda name: tensors[name]["data_offsets"])
        total = tensors[ordered[-1]]["data_offsets"][1]
        parts = [[] for _ in names]
        for name in ordered:
            parts[min(tensors[name]["data_offsets"][0] * count // total, count - 1)].append(name)
        for path, part in zip(names, parts):
            at, head = 0, {}
            for name in part:
                size = tensors[name]["data_offsets"][1] - tensors[name]["data_offsets"][0]
                head[name] = {**tensors[name], "data_offsets": [at, at + size]}
                at += size
            text = json.dumps(head).encode()
            text += b" " * (-len(text) % 8)
            with open(path, "wb") as out:
                out.write(len(text).to_bytes(8, "little") + text)
                for name in part:
                    file.seek(8 + length + tensors[name]["data_offsets"][0])
                    out.write(file.read(tensors[name]["data_offsets"][1] - tensors[name]["data_offsets"][0]))
    places = {name: path.name for path, part in zip(names, parts) for name in part}
    (folder / "config.json").write_text((source.parent / "config.json").read_text())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    return names


def parallel_seconds(files, readers, cold):
    """Seconds in which `readers` processes of dd read all files, each as many bytes as the others."""
    block, ranges = 8 << 20, []
    blocks = [(path, at) for path in files for at in range(-(-path.stat().st_size // block))]
    for i in range(readers):
        for path, at in blocks[i * len(blocks) // readers : (i + 1) * len(blocks) // readers]:
            if ranges and ranges[-1][0] == i and ranges[-1][1] == path:
                ranges[-1][3] += 1
            else:
                ranges.append([i, path, at, 1])
    words = [" && ".join(f"dd if='{path}' of=/dev/null bs={block} skip={at} count={count} status=none" for n, path, at, count in ranges if n == i) or ":"
             for i in range(readers)]
    if cold:
        for path in files:
            drop_cache(path)
    start = time.monotonic()
    running = [subprocess.Popen(["sh", "-c", line]) for line in words]
    if any(process.wait() for process in running):
        sys.exit("dd failed")
    return time.monotonic() - start


def main():
    parser = bench_arguments(__doc__, repeats=5)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before each read and run")
    parser.add_argument("--files", type=int, default=1, help="of the checkpoint")
    parser.add_argument("--digest", nargs="+", default=["sha256"], choices=["sha256", "xxh3"], help="of the source's files")
    parser.add_argument("--source", type=pathlib.Path, help="directory of a checkpoint that exists")
    parser.add_argument("--readers", type=int, default=0, help="processes of dd that read the same files, too")
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--convert", nargs=argparse.REMAINDER, default=[], help="further options of q4convert")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.source:
        sources = sorted(arguments.source.glob("*.safetensors"))
        arguments.files = len(sources)
    else:
        source = write_checkpoint(arguments.work, arguments.gigabytes)
        sources = [source] if arguments.files == 1 else cut(source, arguments.files)
    folder = sources[0].parent
    tools = arguments.build / "tools"
    result = {"source_bytes": sum(path.stat().st_size for path in sources), "files": arguments.files, "threads": os.cpu_count(),
              "cold": arguments.cold, "repeats": arguments.repeats, "runs": {}}  # fmt: skip
    kinds = {}
    for digest in arguments.digest:
        container = arguments.work / f"verify-{arguments.files}-{digest}.q4"
        words = ["--source-digest", digest, "--force", "-q", *arguments.convert]
        subprocess.run([tools / "q4convert", folder, "-o", container, *words], check=True)
        kinds[f"against, {digest}"] = (container, [container, *sources], ["--against", folder])
    result["container_bytes"] = container.stat().st_size
    kinds["integrity"] = (container, [container], [])
    if not arguments.brief:
        kinds["against, a sample of 5 %"] = (container, [container, *sources], ["--against", folder, "--sample", "5"])
    for kind, (container, files, words) in kinds.items():
        samples = []
        for _ in range(arguments.repeats):
            read = sum(read_seconds(path, arguments.cold) for path in files)
            parallel = parallel_seconds(files, arguments.readers, arguments.cold) if arguments.readers else 0
            digest = 0 if arguments.brief else run(["sha256sum", *map(str, files)])[0]
            if arguments.cold:
                for path in files:
                    drop_cache(path)
            seconds, cpu, rss = run([str(tools / "q4verify"), str(container), *map(str, words), "-q"])
            samples.append((read, parallel, digest, seconds, cpu, rss, read / seconds, parallel / seconds))
        read, parallel, digest, seconds, cpu, rss, share, parallel_share = (statistics.median(column) for column in zip(*samples))
        size = sum(path.stat().st_size for path in files)
        row = {"read_seconds": read, "parallel_read_seconds": parallel, "sha256sum_seconds": digest, "seconds": seconds, "cpu_seconds": cpu,
               "peak_rss_bytes": rss, "gigabytes_per_second": size / seconds / 1e9, "share": share, "parallel_share": parallel_share}  # fmt: skip
        result["runs"][kind] = {name: value for name, value in row.items() if value}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
