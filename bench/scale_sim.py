#!/usr/bin/env python3
"""How long a conversion in parts takes on many machines, simulated over the plan of a real model.

  scale_sim.py (PLAN.json | --tools TOOLS) [--nodes N...] [--node-rate GB/S...] [--file-system GB/S...] [--parts N...] [--preempted PERCENT...] [--check]

PLAN.json is what `q4convert MODEL -o OUT.q4 --shard-by source --dry-run --json` prints. With --tools it is made for a checkpoint of holes with the
names, shapes and files of DeepSeek-V3 (671B, 1.34 TB of bf16), a shard for each file. A node runs --slots parts at once. A part starts (--start seconds), then reads its shards one after another, as fast as
the least of three lets it: a process (--process-rate: SHA-256 of one file), its node, shared among the parts that run there, and the file
system, shared among all. What no bound of its own holds back takes what others leave (max-min fairness). Writing is a quarter of reading
and left out. A preempted part loses the shard it is at, waits --requeue seconds, and starts again behind the shards that it has.

Prints a table; efficiency is the time that reading the source takes at full speed of all nodes, or of the file system, over the
time simulated; "steady" does not count the start. --check exits 1 if, without preemption and up to the file system's limit, a steady
efficiency is below 0.8, or if parts read anything but the source.
"""
import argparse
import heapq
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))
import parts_at_scale  # noqa: E402

GB = 1e9
ITEM_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
LEAST_EFFICIENCY = 0.8


def shard_bytes(plan: dict) -> "list[float]":
    """Source bytes of each shard of the plan."""
    shards = {}
    for tensor in plan["tensors"]:
        elements = 1
        for extent in tensor["shape"]:
            elements *= extent
        shards[tensor["part"]] = shards.get(tensor["part"], 0) + elements * ITEM_BYTES.get(tensor["source_dtype"], 1)
    return [shards[shard] for shard in sorted(shards)]


def cut(shards: "list[float]", count: int) -> "list[list[float]]":
    """Contiguous runs, balanced by source bytes; fewer than `count` if there are fewer shards."""
    total, done, parts = sum(shards), 0.0, [[] for _ in range(count)]
    for size in shards:
        parts[min(count - 1, int((done + size / 2) * count / total))].append(size)
        done += size
    return [part for part in parts if part]


def plan_of_671b(tools: pathlib.Path) -> dict:
    with tempfile.TemporaryDirectory() as work:
        model = pathlib.Path(work, "model")
        parts_at_scale.write_checkpoint(model, small=False)
        command = [tools / "q4convert", model, "-o", pathlib.Path(work, "x.q4"), "--shard-by", "source", "--dry-run", "--json", "-q"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Part:
    def __init__(self, shards):
        self.shards = list(shards)
        self.left = 0.0  # of the shard that is being read
        self.node = -1
        self.preempt_after = None  # bytes of this attempt, or None

    def todo(self):
        return self.left + sum(self.shards)


def rates(running: "list[Part]", node_rate: float, process_rate: float, file_system: float) -> "dict[Part, float]":
    """Max-min fair: the parts that the scarcest share bounds get it, then what is left is shared again."""
    result, free, fs_left = {}, set(running), file_system
    node_left = {part.node: node_rate for part in running}
    while free:
        on_node = {}
        for part in free:
            on_node[part.node] = on_node.get(part.node, 0) + 1
        share = {part: min(process_rate, node_left[part.node] / on_node[part.node], fs_left / len(free)) for part in free}
        least = min(share.values())
        bound = [part for part in free if share[part] <= least * (1 + 1e-9)]
        for part in bound:
            result[part] = least
            node_left[part.node] -= least
            fs_left -= least
            free.discard(part)
    return result


def simulate(shards, nodes, args, node_rate, file_system, part_count, preempted, seed=1):
    """Seconds, and bytes read."""
    draw = random.Random(seed)
    parts = [Part(part) for part in cut(shards, part_count)]
    for part in draw.sample(parts, round(len(parts) * preempted)):
        part.preempt_after = draw.random() * part.todo()
    waiting = list(reversed(parts))
    # Round robin: a scheduler fills nodes evenly.
    slots = [node for _ in range(args.slots) for node in range(nodes)]
    slots.reverse()
    starting, later, running = [], [], []
    order = itertools.count()
    now = read = 0.0

    def place():
        while waiting and slots:
            part = waiting.pop()
            part.node = slots.pop()
            heapq.heappush(starting, (now + args.start, next(order), part))

    place()
    while starting or running or later:
        speed = rates(running, node_rate * GB, args.process_rate * GB, file_system * GB) if running else {}
        step = min(
            [(min(part.left, part.preempt_after if part.preempt_after is not None else part.left)) / speed[part] for part in running]
            + ([starting[0][0] - now] if starting else [])
            + ([later[0][0] - now] if later else [])
        )
        now += step
        for part in running:
            part.left -= step * speed[part]
            read += step * speed[part]
            if part.preempt_after is not None:
                part.preempt_after -= step * speed[part]
        still = []
        for part in running:
            if part.preempt_after is not None and part.preempt_after <= 1:
                part.preempt_after = None
                part.shards.insert(0, part.current)
                part.left = 0.0
                slots.append(part.node)
                heapq.heappush(later, (now + args.requeue, next(order), part))
            elif part.left > 1:
                still.append(part)
            elif part.shards:
                part.current = part.left = part.shards.pop(0)
                still.append(part)
            else:
                slots.append(part.node)
        running = still
        while later and later[0][0] <= now + 1e-9:
            waiting.append(heapq.heappop(later)[2])
        while starting and starting[0][0] <= now + 1e-9:
            part = heapq.heappop(starting)[2]
            part.current = part.left = part.shards.pop(0)
            running.append(part)
        place()
    return now, read


def main() -> int:
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("plan", nargs="?", type=argparse.FileType())
    parser.add_argument("--tools", type=pathlib.Path)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 64])
    parser.add_argument("--node-rate", type=float, nargs="+", default=[1.1, 3.5, 8.0], help="GB/s that a node converts")
    parser.add_argument("--file-system", type=float, nargs="+", default=[5, 100], help="GB/s of the file system, for all nodes together")
    parser.add_argument("--parts", type=int, nargs="+", default=[0], help="0: one for each slot, at most one for each shard")
    parser.add_argument("--preempted", type=float, nargs="+", default=[0], help="percent of the parts, once each")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--process-rate", type=float, default=1.8, help="GB/s")
    parser.add_argument("--start", type=float, default=3, help="seconds")
    parser.add_argument("--requeue", type=float, default=0, help="seconds; Slurm waits 150")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if (args.plan is None) == (args.tools is None):
        parser.error("either PLAN.json or --tools")
    shards = shard_bytes(json.load(args.plan) if args.plan else plan_of_671b(args.tools))
    source = sum(shards)
    print(f"{len(shards)} shards, {source / GB:.1f} GB of source")
    print("| file system GB/s | node GB/s | nodes | parts | preempted | seconds | efficiency | steady | read again GB |")
    print("|---|---|---|---|---|---|---|---|---|")
    broken = 0
    for file_system, node_rate, nodes, parts, percent in itertools.product(
        args.file_system, args.node_rate, args.nodes, args.parts, args.preempted
    ):
        count = min(parts or nodes * args.slots, len(shards))
        seconds, read = simulate(shards, nodes, args, node_rate, file_system, count, percent / 100)
        speed = min(nodes * min(node_rate, args.slots * args.process_rate), file_system) * GB
        efficiency, steady = source / speed / seconds, source / speed / (seconds - args.start)
        print(
            f"| {file_system:g} | {node_rate:g} | {nodes} | {count} | {percent:g} % | {seconds:.0f} | {efficiency:.2f} | {steady:.2f} "
            f"| {max(0, read - source) / GB:.1f} |"
        )
        if percent == 0:
            broken += abs(read - source) > 1e-6 * source
            broken += nodes * node_rate <= file_system and steady < LEAST_EFFICIENCY
    if args.check and broken:
        print(f"{broken} rows break a promise", file=sys.stderr)
    return 1 if args.check and broken else 0


if __name__ == "__main__":
    sys.exit(main())
