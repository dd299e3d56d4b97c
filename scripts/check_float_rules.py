#!/usr/bin/env python3
"""check_float_rules.py BUILD: every command of a build that compiles C++ or CUDA keeps numerics.md Q10.1: nothing is fused, nothing is
approximated. Also those of tools and tests: an inline function of a header is compiled in each file that includes it, and the linker takes
any one of the copies. C files are of tests alone, and calculate nothing."""

import json
import pathlib
import shlex
import sys

NEEDED = {".cxx": ("-ffp-contract=off", "-fno-fast-math"), ".cu": ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")}
HOST_OF_CUDA = "-ffp-contract=off"
FORBIDDEN = ("-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-march=native", "-ffp-contract=fast", "-ffp-contract=on", "--use_fast_math", "-use_fast_math")


def broken(words: list[str], suffix: str) -> list[str]:
    """What a command lacks, or has and must not."""
    wrong = [word for word in NEEDED[".cu" if suffix == ".cu" else ".cxx"] if word not in words]
    if suffix == ".cu" and not any(word.startswith("-Xcompiler=") and HOST_OF_CUDA in word.split("=", 1)[1].split(",") for word in words):
        wrong.append(f"-Xcompiler={HOST_OF_CUDA}")
    return [f"lacks {word}" for word in wrong] + [f"has {word}" for word in FORBIDDEN if word in words]


def main() -> int:
    good = ["c++", "-O3", *NEEDED[".cxx"]]
    assert not broken(good, ".cc") and broken(good[:-1], ".cc") and broken([*good, "-Ofast"], ".cc") and broken(good, ".cu")
    failed = checked = 0
    for entry in json.loads((pathlib.Path(sys.argv[1]) / "compile_commands.json").read_text()):
        suffix = pathlib.Path(entry["file"]).suffix
        if suffix == ".c":
            continue
        checked += 1
        for why in broken(shlex.split(entry["command"]), suffix):
            failed += 1
            print(f"{entry['file']}: {why}; its target has to link q4_float_rules (C++) or q4_cuda_rules (CUDA)", file=sys.stderr)
    print(f"check_float_rules: {checked} commands, {failed} that break numerics.md Q10.1")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
