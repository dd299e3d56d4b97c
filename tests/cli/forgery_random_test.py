#!/usr/bin/env python3
"""Random forgeries, every digest right: none crashes q4verify, and none that it accepts is refused by the independent reader.

    forgery_random_test.py TOOLS VERIFY_MANY NUMERICS.md [COUNT [SEED]]

COUNT: 2,500 forgeries unless given here or as Q4_FORGERIES. Needs numpy, xxhash and zstandard; skipped (77) without.
"""

import collections
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parent / "reference")]
try:
    import q4ref  # noqa: E402  (the paths above)
    import xxhash  # noqa: E402
except ImportError as error:
    print(f"SKIP: {error}")
    sys.exit(77)
import container_bytes  # noqa: E402
import forgery_test  # noqa: E402
import random_lies  # noqa: E402
import xxh3  # noqa: E402
from tools import Tools  # noqa: E402


def fast_xxh3(data, seed=0):
    return xxhash.xxh3_64_intdigest(bytes(data), seed=seed)


def main():
    tools_folder, driver, numerics = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
    count = int(sys.argv[4]) if len(sys.argv) > 4 else int(os.environ.get("Q4_FORGERIES", 2500))
    seed = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    table = q4ref.nested_map(numerics.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        forgery_test.make_source(work / "src")
        forgery_test.make_recipe(work)
        right = forgery_test.convert(Tools(tools_folder, work), "--recipe", "recipe.json")
        # The forger's own digests are slow, and right: both agree on this file.
        if xxh3.xxh3_64(right) != fast_xxh3(right):
            sys.exit("two implementations of XXH3 differ")
        container_bytes.xxh3_64 = fast_xxh3
        lies = random_lies.RandomLies(right, seed)
        child = subprocess.Popen([driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        path = work / "lie.q4"
        outcomes, issues, accepted = collections.Counter(), collections.Counter(), 0
        for number in range(count):
            what, data = lies.tell()
            path.write_bytes(data)
            child.stdin.write(f"{path}\n")
            child.stdin.flush()
            answer = child.stdout.readline().split()
            if not answer or int(answer[0]) not in (0, 3, 5, 6):
                keep = pathlib.Path.cwd() / f"forgery_{seed}_{number}.q4"
                keep.write_bytes(data)
                sys.exit(f"forgery {number} of seed {seed} ({what}): {answer or 'q4verify died'}; kept as {keep}")
            outcomes[answer[0]] += 1
            issues.update(answer[1:])
            if answer[0] != "0":
                continue
            accepted += 1
            try:
                q4ref.Container(data, table).report()
            except q4ref.Damaged as rule:
                keep = pathlib.Path.cwd() / f"forgery_{seed}_{number}.q4"
                keep.write_bytes(data)
                sys.exit(f"forgery {number} of seed {seed} ({what}) is accepted, but breaks {rule}; kept as {keep}")
        child.stdin.close()
        if child.wait() != 0:
            sys.exit(f"the driver ends with {child.returncode}")
        if accepted == 0 or accepted == count:
            sys.exit(f"{accepted} of {count} accepted: the forgeries show nothing")
        print(
            f"forgery_random: {count} forgeries of seed {seed}: {count - accepted} refused by {len(issues)} rules, "
            f"{accepted} accepted, by the independent reader too; exit codes {dict(sorted(outcomes.items()))}"
        )


if __name__ == "__main__":
    main()
