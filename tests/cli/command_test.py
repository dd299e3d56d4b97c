#!/usr/bin/env python3
"""q4inspect --command: what it prints is run, and makes the same bytes.

    command_test.py TOOLS CHECKPOINTS
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402
import safetensors_bytes as st  # noqa: E402
from tools import Tools  # noqa: E402

# Options of a first conversion; each must come back.
OPTIONS = [
    (),
    ("--type", "fp4", "--block-size", "256", "--no-double-quant"),
    ("--encoder", "mse", "--effort", "1", "--keep-dtype", "fp32", "--on-nonfinite", "keep"),
    ("--encoder", "mse", "--keep-dtype", "bf16", "--source-digest", "xxh3"),
    ("--compress", "zstd:5"),
    ("--exclude=-x|it's \"quoted\" $HOME `id` \\.|q_proj", "--include", "layers\\.0\\..*q_proj", "--exclude", "norm", "--allow-unmatched"),
    ("--recipe", "recipe.json"),
    ("--recipe", "recipe.json", "--exclude", "lm_head", "--shard-size", "200KB", "--compress", "zstd"),
    ("--shard-by", "source"),
]


def rebuilt(tools: Tools, source: str, container: str, **variables) -> str:
    """The script that is printed for `container`, which was run on the source and has made again.q4."""
    script = tools.run("q4inspect", container, "--command").stdout
    (tools.work / "again.sh").write_text(script)
    for old in tools.work.glob("again*.q4*"):
        old.unlink()
    environment = {**os.environ, "PATH": f"{tools.folder}:{os.environ['PATH']}", "SOURCE": source, "OUTPUT": "again.q4", **variables}
    done = subprocess.run(["sh", "again.sh"], cwd=tools.work, env=environment, capture_output=True, text=True)
    check(done.returncode == 0, f"{container}: the command runs", script, done.stderr)
    return script


def main() -> None:
    folder, checkpoints = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        tools = Tools(folder, work)
        shutil.copytree(checkpoints / "tiny_plain_src", work / "model")
        (work / "recipe.json").write_text(json.dumps({"rules": [{"match": "down_proj", "type": "fp4", "block_size": 128}, {"match": "it's \\$\u00e4", "keep": True},
                                                                {"match": "v_proj", "keep": True}]}))  # fmt: skip
        for number, options in enumerate(OPTIONS):
            name = f"c{number}"
            if "--recipe" in options:
                options = (*options, "--allow-unmatched")
            tools.run("q4convert", "model", "-o", f"{name}.q4", "-q", *options)
            made = sorted(work.glob(f"{name}*.q4"))
            container = f"{name}.q4" if (work / f"{name}.q4").exists() else f"{name}.q4.index.json"
            script = rebuilt(tools, "model", container)
            again = sorted(work.glob("again*.q4"))
            check(len(made) == len(again) and all(a.read_bytes() == b.read_bytes() for a, b in zip(made, again)), f"{options}: the same bytes", script)
            if not options:
                check(script.endswith(f'-o "${{OUTPUT:-{name}-again.q4}}"\n') and "sha256:" in script and "984,464 bytes" in script, "a plain one is short", script)
        # Weights that were taken over with their codes, an adapter's and a calibration's variables are in their own tests.
        tools.run("q4export", "c0.q4", "--to", "bnb", "-o", "bnb", "-q")
        tools.run("q4convert", "bnb", "-o", "taken.q4", "-q")
        script = rebuilt(tools, "bnb", "taken.q4")
        check((work / "again.q4").read_bytes() == (work / "taken.q4").read_bytes() and "--type" not in script, "taken over", script)
        tools.run("q4convert", "c0.q4", "-o", "requantized.q4", "--from-quantized", "--block-size", "128", "-q")
        script = rebuilt(tools, "c0.q4", "requantized.q4")
        check((work / "again.q4").read_bytes() == (work / "requantized.q4").read_bytes() and "--from-quantized" in script, "quantized again", script)
        # What cannot be told is not guessed.
        tools.run("q4convert", "c0.q4", "-o", "packed.q4", "--compress", "zstd", "-q")
        error = tools.run("q4inspect", "packed.q4", "--command", code=5).stderr
        root = json.loads(tools.run("q4inspect", "c0.q4", "--json").stdout)["shards"][0]["root_sha256"]
        check(f"packed anew from the container sha256:{root}" in error, "a packed one names its parent", error)
        tools.run("q4convert", "model", "-o", "odd.q4", "--exclude", "a\nb\x1b|norm", "--allow-unmatched", "-q")
        check("characters that a script cannot show" in tools.run("q4inspect", "odd.q4", "--command", code=5).stderr, "control characters")
        done = subprocess.run(["sh", "again.sh"], cwd=work, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}, capture_output=True, text=True)
        check(done.returncode != 0 and "the checkpoint, or its folder" in done.stderr, "without SOURCE it says what is missing", done.stderr)
        check("q4convert makes a container of it" in tools.run("q4inspect", "model/model.safetensors", "--command", code=3).stderr, "a checkpoint has no command")
        for words in (("--json",), ("--tensors",), ("--diff", "c0.q4")):
            tools.run("q4inspect", "c0.q4", "--command", *words, code=1)
        # A name from the input is no word of the script.
        evil = "x'; touch evil; '.safetensors"
        tensors = st.read(work / "model/model.safetensors")
        (work / evil).write_bytes(st.tensor_file(dict(list(tensors.items())[:4])))
        tools.run("q4convert", evil, "-o", "named.q4", "-q")
        shutil.copy(work / "named.q4", work / "$(touch evil).q4")
        for container in ("named.q4", "$(touch evil).q4"):
            rebuilt(tools, evil, container)
            check((work / "again.q4").read_bytes() == (work / "named.q4").read_bytes() and not (work / "evil").exists(), "names are not run", container)
    print(f"command: {checks.count()} checks")


if __name__ == "__main__":
    main()
