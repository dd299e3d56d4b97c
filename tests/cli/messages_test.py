#!/usr/bin/env python3
"""Mistakes that people make at a command line, and the way out that each message must show.

    messages_test.py TOOLS CHECKPOINTS

A row is a command, its exit code, and words that the one line of stderr must have. Nothing may be left behind.
"""

import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402

MISTAKES = [
    # The command line.
    ("q4convert", 1, "--help"),
    ("q4convert src x.q4", 1, "'x.q4' is one argument too many; to name the output, put -o before it"),
    ("q4convert src -o x.q4 more", 1, "'more' is one argument too many"),
    ("q4inspect m.q4 n.q4", 1, "put --diff before the second"),
    ("q4verify m.q4 src", 1, "put --against before it"),
    ("q4export m.q4 out --to bnb", 1, "put -o before it"),
    ("q4convert src -o x.q4 --blocksize 64", 1, "no option '--blocksize'; did you mean '--block-size'?"),
    ("q4convert src -o x.q4 --block_size=64", 1, "did you mean '--block-size'?"),
    ("q4verify m.q4 --agianst src", 1, "did you mean '--against'?"),
    ("q4export m.q4 -o out --to bnb --frobnicate", 1, "no option '--frobnicate')"),
    ("q4convert src -o x.q4 --type nf3", 1, "nf3 not in {nf4,fp4}"),
    ("q4convert src -o x.q4 --max-memory 2xb", 1, "not a size: 2xb (such as 256MiB or 2GB)"),
    ("q4convert src -o x.q4 --max-memory 1MB", 1, "--max-memory: less memory than this checkpoint needs (got 1000000 bytes, expected at least"),
    # Names that do not exist.
    ("q4convert org/model -o x.q4", 2, "hf download ORGANISATION/MODEL --local-dir DIR"),
    ("q4inspect org/model", 2, "hf download"),
    ("q4convert hf://org/model -o x.q4", 2, "a URL is not read: download the model first"),
    ("q4convert https://host/model.safetensors -o x.q4", 2, "a URL is not read"),
    ("q4convert src/absent.safetensors -o x.q4", 2, "cannot open the file (No such file or directory) "),
    ("q4inspect m.q4 --tensor q_proj.weight", 1, "did you mean 'model.layers.0.self_attn.q_proj.weight'"),
    ("q4inspect m.q4 --tensor nothing_like_it", 1, "--tensors lists the names"),
    # Files of another kind.
    ("q4verify src", 3, "a directory; name the .q4 file. A model directory is for q4convert and q4inspect"),
    ("q4export src -o out --to bnb", 3, "a directory; name the .q4 file"),
    ("q4verify src/model.safetensors", 3, "looks like a safetensors file; q4inspect reads it, q4convert converts it"),
    ("q4verify src/config.json", 3, "a JSON document, but not the list of a sharded container"),
    ("q4verify model.gguf", 3, "looks like a GGUF file; start from the safetensors checkpoint"),
    ("q4convert model.gguf -o x.q4", 5, "looks like a GGUF file; start from the safetensors checkpoint"),
    ("q4convert model.bin -o x.q4", 5, "a PyTorch checkpoint; load it and save it as safetensors"),
    ("q4convert pickle.bin -o x.q4", 5, "load it and save it as safetensors"),
    ("q4convert m.q4 -o x.q4", 5, "a .q4 container; q4inspect, q4verify and q4export read it"),
    ("q4verify empty", 3, "the file is empty"),
    ("q4verify cut.q4", 6, "the file has 5000 bytes; a copy or download that was cut off"),
    ("q4inspect cut.q4", 6, "a copy or download that was cut off"),
]


def main() -> None:
    tools_folder, checkpoints = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        tools = Tools(tools_folder, work)
        shutil.copytree(checkpoints / "tiny_plain_src", work / "src")
        # Words in another case mean what they say, and so do units.
        tools.run("q4convert", "src", "-o", "m.q4", "--type", "NF4", "--max-memory", "2gb", "-q")
        tools.run("q4convert", "src", "-o", "n.q4", "-q")
        check((work / "m.q4").read_bytes() == (work / "n.q4").read_bytes(), "upper and lower case are one setting")
        (work / "cut.q4").write_bytes((work / "m.q4").read_bytes()[:5000])
        (work / "model.gguf").write_bytes(b"GGUF\3\0\0\0" + bytes(64))
        (work / "model.bin").write_bytes(b"PK\3\4" + bytes(22) + b"\x10\0\0\0" + b"archive/data.pkl" + bytes(64))
        (work / "pickle.bin").write_bytes(b"\x80\2\x8a\x0a" + bytes(64))
        (work / "empty").write_bytes(b"")
        before = sorted(str(path) for path in work.rglob("*"))
        for command, code, words in MISTAKES:
            done = tools.run(*command.split(), code=code)
            check(words in done.stderr, f"`{command}` says {words!r}", done.stderr)
            check(done.stderr.count("\n") == 1 and not done.stdout, f"`{command}` says one line", done.stderr, done.stdout)
        check(sorted(str(path) for path in work.rglob("*")) == before, "nothing was left behind")
    print(f"messages: {len(MISTAKES)} mistakes, {checks.count()} checks")


if __name__ == "__main__":
    main()
