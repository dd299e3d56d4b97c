#!/usr/bin/env python3
"""Mistakes that people make at a command line, and the way out that each message must show.

    messages_test.py TOOLS CHECKPOINTS

A row is a command, its exit code, and words that the one line of stderr must have. Nothing may be left behind.
"""

import json
import os
import pathlib
import random
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402
import safetensors_bytes as st  # noqa: E402
from tools import Stranger, Tools  # noqa: E402

MISTAKES = [
    # The command line.
    ("q4convert", 1, "--help"),
    ("q4convert src x.q4", 1, "'x.q4' is one argument too many; to name the output, put -o before it"),
    ("q4convert src -o x.q4 more", 1, "'more' is one argument too many"),
    ("q4convert src -- x.q4", 1, "'x.q4' is one argument too many; to name the output, put -o before it"),
    ("q4convert -o x.q4 -- -src", 2, "-src: cannot open the file"),
    ("q4convert -o x.q4 -- --force=1", 2, "--force=1: cannot open the file"),
    ("q4inspect src --command", 3, "src: --command: not a .q4 container (a container records how it was made"),
    ("q4inspect src --content", 1, "it is about a container (.q4), and this is none"),
    ("q4inspect src --card", 1, "it is about a container (.q4), and this is none"),
    ("q4inspect m.q4 --tree --sort nmse", 1, "--sort: bad command line (what is shown has no rows; add --tensors, --stats or --top)"),
    ("q4inspect m.q4 --tensors --content", 1, "stands in the summary: give it without other views, or with --json"),
    ("q4inspect m.q4 --tensor model.norm.weight --files", 1, "--tensor excludes --files"),
    ("q4inspect m.q4 --tensor model.norm.weight --dump 0:4 --scales", 1, "prints the values alone"),
    ("q4verify m.q4 --against n.q4", 5, "--against takes the original, and this is a container; q4inspect FILE --diff OTHER compares two containers"),
    ("q4verify m.q4 --against bnb", 5, "the weights are in 4 bits already, and the container was not made of them; give the checkpoint that it was made of"),
    ("q4verify m.q4 --against src --sample-seed 7", 1, "--sample-seed requires --sample"),
    ("q4convert src -o x.q4 --gate value.gate", 3, "rule 1, max_nmse: value not allowed in a gate file (got \"small\", expected a number or null)"),
    ("q4convert src -o x.q4 --recipe value.recipe", 3, "rule 1, type: value not allowed in a recipe (got \"nf3\", expected \"nf4\" or \"fp4\")"),
    ("q4convert gguf_only -o x.q4", 3, "gguf_only/model.gguf: data section is not that of the tensors"),
    ("q4verify m.q4 --against src --require-proof --sample 5", 1, "--require-proof: bad command line (not with --sample)"),
    ("q4inspect m.q4 n.q4", 1, "put --diff before the second"),
    ("q4verify m.q4 src", 1, "put --against before it"),
    ("q4export m.q4 out --to bnb", 1, "put -o before it"),
    ("q4convert src -o x.q4 --blocksize 64", 1, "no option '--blocksize'; did you mean '--block-size'?"),
    ("q4convert src -o x.q4 --block_size=64", 1, "did you mean '--block-size'?"),
    ("q4verify m.q4 --agianst src", 1, "did you mean '--against'?"),
    ("q4export m.q4 -o out --to bnb --frobnicate", 1, "no option '--frobnicate'; q4export --help lists them)"),
    ("q4convert src -o x.q4 --bits 4", 1, "there is no option '--bits'; q4convert --help lists them"),
    ("q4inspect m.q4 --tensor", 1, "--tensor has no value; it takes NAME"),
    ("q4verify m.q4 --html", 1, "--html has no value; it takes FILE"),
    ("q4convert src -o", 1, "-o has no value; it takes OUTPUT"),
    ("q4convert src --exclude q_proj k_proj -o x.q4", 1, "'k_proj' is one argument too many"),
    ("q4convert src -o x.q4 --exclude *norm*", 1, "a regular expression matches anywhere in a name and needs no '*' around it"),
    ("q4convert src -o x.q4 --exclude q_proj,k_proj", 1, "several patterns are joined by '|', not by ','"),
    ("q4convert src -o x.q4 --type nf3", 1, "--type: 'nf3' is none of nf4, fp4; did you mean 'nf4'?"),
    ("q4convert src -o x.q4 --encoder msee", 1, "'msee' is none of absmax, mse, weighted, feedback; did you mean 'mse'?"),
    ("q4convert src -o x.q4 --block-size 50", 1, "'50' is none of 32, 64, 128, 256"),
    ("q4convert src -o x.q4 --device gpu", 1, "got gpu, expected auto, cpu, cuda or cuda:N[,M...]"),
    ("q4convert src -o x.q4 --on-nonfinite skip", 1, "'skip' is none of error, keep"),
    ("q4convert src -o x.q4 --exclude [", 1, "not a valid regular expression"),
    ("q4convert src -output x.q4", 1, "'-output': write '--output'"),
    ("q4inspect m.q4 -tensors", 1, "'-tensors': write '--tensors'"),
    ("q4inspect m.q4 --sort nsme", 1, "'nsme' is none of name, size, elems, nmse, sqnr; did you mean 'name' or 'nmse'?"),
    ("q4inspect m.q4 --filter zzz", 1, "matches no tensor (use --allow-unmatched if that is meant)"),
    ("q4inspect m.q4 --dump 0:4", 1, "--dump requires --tensor"),
    ("q4inspect m.q4 --top 0", 1, "--top: a number from 1 to"),
    ("q4inspect m.q4 --all", 1, "--all requires --diff"),
    ("q4export m.q4 -o out --to bnbb", 1, "'bnbb' is none of bnb, safetensors; did you mean 'bnb'?"),
    ("q4export m.q4 -o out", 1, "--to bnb|safetensors is required: bnb: "),
    ("q4export -o out --to bnb", 1, "FILE is required: A .q4 file"),
    ("q4convert m.q4", 1, "the output has no name; give one by -o (such as -o smaller.q4)"),
    ("q4verify m.q4 --sample 5", 1, "--sample requires --against"),
    ("q4verify m.q4 --junit r.x --html r.x", 1, "two reports cannot be one file"),
    ("q4verify m.q4 --baseline-slack 5%", 1, "--baseline-slack requires --baseline"),
    ("q4verify m.q4 --baseline src/config.json --baseline-slack 15", 1, "got 15, expected 15% or 0.15"),
    ("q4verify m.q4 --baseline src/config.json --baseline-slack -1", 1, "a share such as 0.5% or 0.005, at most 10000%"),
    ("q4convert src -o m.q4", 1, "the output exists; use --force to replace it"),
    ("q4convert src -o x.q4 --max-memory 2xb", 1, "not a size: 2xb (such as 256MiB or 2GB)"),
    ("q4convert src -o x.q4 --max-memory 1MB", 1, "--max-memory: less memory than this checkpoint needs (got 1000000 bytes, expected at least"),
    # Names that do not exist.
    ("q4convert org/model -o x.q4", 2, "if this is a model of the Hugging Face Hub: hf://org/model, or download it first"),
    ("q4inspect org/model", 2, "hf download"),
    ("q4convert hf://org/model/../x -o x.q4", 1, "not a URL that can be read"),
    ("q4convert http://host.example/model.safetensors -o x.q4", 1, "http:// is read from this machine itself only"),
    ("q4convert src -o s3://bucket/x.q4", 1, "outputs are files; write to a folder and copy what is finished"),
    ("q4export hf://org/model -o x --to bnb", 2, "no URL is read here: download it first"),
    ("q4convert src/absent.safetensors -o x.q4", 2, "cannot open the file (No such file or directory) "),
    ("q4inspect m.q4 --tensor q_proj.weight", 1, "did you mean 'model.layers.0.self_attn.q_proj.weight'"),
    ("q4inspect m.q4 --tensor nothing_like_it", 1, "--tensors lists the names"),
    # Files of another kind.
    ("q4convert lfs.safetensors -o x.q4", 3, "looks like a Git LFS pointer, not weights; fetch the file with git lfs pull"),
    ("q4verify lfs.safetensors", 3, "git lfs pull"),
    ("q4convert locks -o x.q4", 3, "no checkpoint in the directory (got no such file, expected model.safetensors or its index)"),
    ("q4verify src", 3, "a directory; name the .q4 file. A model directory is for q4convert and q4inspect"),
    ("q4export src -o out --to bnb", 3, "a directory; name the .q4 file"),
    ("q4verify src/model.safetensors", 3, "looks like a safetensors file; q4inspect reads it, q4convert converts it"),
    ("q4verify src/config.json", 3, "a JSON document, but not the list of a sharded container"),
    ("q4verify model.gguf", 3, "looks like a GGUF file; q4inspect reads it, q4convert converts it"),
    ("q4convert model.gguf -o x.q4", 3, "got a file of 72 bytes, expected 32 bytes at most"),
    ("q4convert model.bin -o x.q4", 3, "the end record is missing: the file was cut off, or something follows the archive"),
    ("q4verify model.bin", 3, "a PyTorch checkpoint; q4inspect reads it, q4convert converts it"),
    ("q4convert pickle.bin -o x.q4", 5, "torch.save(torch.load(FILE, weights_only=True), NEW_FILE)"),
    ("q4convert m.q4 -o x.q4 --type nf4", 1, "--type: a .q4 container is packed anew and not quantized again"),
    ("q4verify empty", 3, "the file is empty"),
    ("q4verify cut.q4", 6, "the file has 5000 bytes; a copy or download that was cut off"),
    ("q4inspect cut.q4", 6, "a copy or download that was cut off"),
    ("q4convert config -o x.q4", 3, "weight_map is missing; name the model's folder, or its weights"),
    ("q4inspect config", 3, "name the model's folder, or its weights"),
    ("q4verify m.q4 --against config", 3, "name the model's folder, or its weights"),
    ("q4convert text.safetensors -o x.q4", 3, "looks like a text file"),
    ("q4inspect text.bin", 3, "looks like a text file"),
    ("q4verify m.q4 --against text.safetensors", 3, "looks like a text file"),
    ("q4verify text.bin", 3, "looks like a text file"),
    ("q4export text.bin -o out --to bnb", 3, "looks like a text file"),
    ("q4convert empty -o x.q4", 3, "the file is empty: copy or download it again"),
    ("q4inspect empty", 3, "the file is empty: copy or download it again"),
    ("q4convert random.bin -o x.q4", 3, "this is no safetensors file"),
    ("q4inspect random.bin", 3, "this is no safetensors file"),
    ("q4verify random.bin", 3, "it does not begin with the magic of .q4"),
    ("q4convert cut.safetensors -o x.q4", 3, "data ends early (got 400000 bytes, expected 984464; the file was cut off: copy or download it again)"),
    ("q4inspect cut_header.safetensors", 3, "header length exceeds the file (got 2184, expected at most 992; the file was cut off: copy or download it again)"),
    ("q4verify m.q4 --against cut.safetensors", 3, "the file was cut off"),
    # Keys and names of gates and recipes.
    ("q4verify m.q4 --gate key.gate", 3, "rule 1: unknown key in a gate file ('max_nsme'; did you mean 'max_nmse'? there are scope, match, type, block_size, name, optional, encoder, and max_ or min_ before nmse, sqnr_db, "),
    ("q4convert src -o x.q4 --gate foreign.gate", 3, "rule 1: unknown key in a gate file ('double_quant'; there are scope, "),
    ("q4verify m.q4 --gate outside.gate", 3, "unknown key in a gate file ('rule'; did you mean 'rules'? there are rules, and nothing else)"),
    ("q4convert src -o x.q4 --recipe key.recipe", 3, "rule 1: unknown key in a recipe ('blocksize'; did you mean 'block_size'? there are match, type, block_size, double_quant, encoder, keep)"),
    ("q4convert src -o x.q4 --gate defualt", 2, "there is no such file; did you mean 'default'?"),
    ("q4verify m.q4 --gate Defaults", 2, "there is no such file; did you mean 'default'?"),
    ("q4verify m.q4 --gate absent.json", 2, "cannot open the file (No such file or directory)"),
    # What a script makes of a variable that is not set ('' is an empty argument), and other values that are none.
    ("q4verify m.q4 --max-nmse ''", 1, "an empty argument behind '--max-nmse'"),
    ("q4verify m.q4 --min-sqnr=", 1, "'--min-sqnr=' has an empty value"),
    ("q4verify m.q4 --gate ''", 1, "an empty argument behind '--gate'"),
    ("q4verify m.q4 --against ''", 1, "an empty argument behind '--against'"),
    ("q4verify m.q4 --baseline=", 1, "'--baseline=' has an empty value"),
    ("q4verify ''", 1, "an empty argument"),
    ("q4convert src -o x.q4 --recipe ''", 1, "an empty argument behind '--recipe'"),
    ("q4convert src -o x.q4 --block-size ''", 1, "an empty argument behind '--block-size'"),
    ("q4convert src -o x.q4 --report --gate=default", 1, "--report has no value; if it is '--gate=default', join the two by '='"),
    ("q4inspect m.q4 --tensor ''", 1, "an empty argument behind '--tensor'"),
    ("q4export m.q4 -o '' --to bnb", 1, "an empty argument behind '-o'"),
    ("q4export m.q4 -o out --to bnb --force=", 1, "'--force=' has an empty value"),
    ("q4export m.q4 -o out --to bnb --force=no", 1, "--force takes no value, got 'no'"),
    ("q4convert src -o=x.q4", 1, "'-o=x.q4': write '-o x.q4'"),
    ("q4verify m.q4 --gate default --gate default", 1, "--gate is given 2 times; it has one value"),
    ("q4verify m.q4 --max-nmse nan", 1, "--max-nmse: a number of at least 0 is expected, got nan"),
    ("q4verify m.q4 --against src --sample 0", 1, "more than 0, at most 100"),
    ("q4convert src -o x.q4 --compress zstd:", 1, "LEVEL 1 to 19"),
    ("q4convert src -o x.q4 --compress zstd:0x3", 1, "LEVEL 1 to 19"),
    ("q4convert src -o x.q4 --device cuda:", 1, "device is not understood"),
    ("q4convert src -o x.q4 --device cuda:-1", 1, "device is not understood"),
    ("q4inspect m.q4 --tensor model.norm.weight --dump 1:", 1, "Q4-"),
    ("q4inspect m.q4 --tensor model.norm.weight --dump 0x0:4", 1, "Q4-"),
    # Places to write to.
    ("q4convert src -o folder/", 1, "a folder; name the file too: folder/NAME.q4"),
    ("q4convert src -o folder", 1, "a folder; name the file too: folder/NAME.q4"),
    ("q4convert src -o absent/", 1, "a folder; name the file too: absent/NAME.q4"),
    ("q4convert src -o folder.q4", 1, "a folder; name a file in it"),
    ("q4convert src -o x.safetensors", 1, "got x.safetensors, expected NAME.q4"),
    ("q4convert src -o absent/x.q4", 2, "the output's directory does not exist (absent; make it first)"),
    ("q4convert src -o x.q4 --report absent/r.json", 2, "the folder absent does not exist, make it first"),
    ("q4verify m.q4 --html absent/deep/r.html", 2, "the folder absent/deep does not exist, make it first"),
    ("q4verify m.q4 --junit config/r.xml", 2, "config is no folder"),
    ("q4verify m.q4 --markdown folder", 2, "a folder; name a file in it"),
    ("q4export m.q4 -o absent/out --to bnb", 2, "the folder absent does not exist, make it first"),
    # Names that are too long, alone or with what the tools put behind them while they write.
    *[(f"{command} {'n' * (length - len(end))}{end}{rest}", 2, words)
      for length, words in ((256, "bytes, and file systems take 255 at the most: choose a shorter one"), (255, "is named as the output is with up to 50 bytes more"))
      for command, end, rest in (
          ("q4convert src -o", ".q4", ""), ("q4convert src -o", ".q4", " --target-bpw 4.5"), ("q4convert src -o", ".q4", " --shard-size 200KB"), ("q4convert m.q4 -o", ".q4", ""),
          ("q4convert src -o x.q4 --report", "", ""), ("q4verify m.q4 --html", "", ""), ("q4verify m.q4 --junit", "", ""), ("q4verify m.q4 --markdown", "", ""),
          ("q4export m.q4 --to bnb -o", "", ""), ("q4export m.q4 --to safetensors -o", "", ""), ("q4export m.q4 --to safetensors -o", ".safetensors", ""))],
    (f"q4convert src -o {'folder/' * 800}x.q4", 2, "the path has 5604 bytes: go to the folder"),
    # In the place of a calibration.
    ("q4convert src -o x.q4 --encoder weighted --calibration m.q4", 3, "it looks like a .q4 container; q4calibrate MODEL --texts FILE... or MODEL --imatrix FILE.gguf makes one"),
    ("q4convert src -o x.q4 --encoder weighted --calibration model.gguf", 3, "it looks like a GGUF file; q4calibrate MODEL"),
    ("q4verify m.q4 --against src --calibration model.gguf", 3, "it looks like a GGUF file; q4calibrate MODEL"),
    ("q4convert src -o x.q4 --encoder feedback --calibration model.bin", 3, "it looks like a PyTorch checkpoint; q4calibrate MODEL"),
    ("q4convert src -o x.q4 --encoder weighted --calibration text.bin", 3, "it looks like a text file, perhaps an error message saved by a download; q4calibrate MODEL"),
    ("q4convert src -o x.q4 --encoder weighted --calibration src/config.json", 3, "it looks like a JSON document; q4calibrate MODEL"),
    ("q4convert src -o x.q4 --encoder weighted --calibration src/model.safetensors", 3, "'q4_calibration' is missing: a safetensors file of something else, with '"),
    ("q4convert src -o x.q4 --encoder weighted --calibration src", 3, "not a regular file (got a directory)"),
]
# As a user who may read all and write nowhere. "locked" may be listed and not entered.
WITHOUT_RIGHTS = [
    ("q4convert src -o readonly/x.q4", 2, "this user has no right to the folder readonly"),
    ("q4convert src -o x.q4", 2, "this user has no right to the folder ."),
    ("q4convert src -o locked/x.q4", 2, "this user has no right to the folder locked"),
    ("q4convert src -o x.q4 --report locked/r.json", 2, "this user has no right to the folder locked"),
    ("q4verify m.q4 --html readonly/r.html", 2, "this user has no right to the folder readonly"),
    ("q4export m.q4 -o readonly/out --to bnb", 2, "this user has no right to the folder readonly"),
    ("q4export m.q4 -o locked/out --to bnb", 2, "this user has no right to the folder locked"),
    ("q4convert locked/model -o x.q4", 2, "this user has no right to the folder locked"),
]


def alone(tools: Tools) -> None:
    """Weights without what lay beside them: the cause is one line, before what follows from it."""
    lines = tools.run("q4verify", "m.q4", "--against", "alone/model.safetensors", code=6).stderr.strip().split("\n")
    check(len(lines) == 1 and "all 2 files: embedded file is not beside the source (nothing lies beside the weights; name the "
          "model's folder or its index, not one of its files) [Q4-6215]" in lines[0], "weights alone are one problem", lines)
    lines = tools.run("q4verify", "m.q4", "--against", "renamed/other.safetensors", code=6).stderr.strip().split("\n")
    check("there is no file of that name; name the model's folder" in lines[0] and "no shard records it" in lines[1],
          "a file of another name comes first", lines)
    lines = tools.run("q4verify", "s.q4", "--against", "sharded/a.safetensors", code=6).stderr.strip().split("\n")
    causes = [line for line in lines if "source file 'b.safetensors'" in line and "name the model's folder or its index, not one of its files" in line]
    check(len(causes) == 1 and causes[0] in lines[:2], "one shard of two: that the other is missed comes before what follows", lines)


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
        (work / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 5\n")
        (work / "locks").mkdir()
        (work / "config").write_text('{"model_type": "llama"}')
        (work / "text.safetensors").write_text("Access to this model is restricted.\n")
        (work / "text.bin").write_text("- a list\n- in YAML, d\u00e9j\u00e0 vu\n" * 40)
        (work / "random.bin").write_bytes(random.Random(1).randbytes(1000))
        whole = (work / "src/model.safetensors").read_bytes()
        (work / "cut.safetensors").write_bytes(whole[:400_000])
        (work / "cut_header.safetensors").write_bytes(whole[:1000])
        (work / "key.gate").write_text('{"rules": [{"max_nsme": 1}]}')
        (work / "foreign.gate").write_text('{"rules": [{"match": "x", "double_quant": true}]}')
        (work / "outside.gate").write_text('{"rules": [{"max_nmse": 1}], "rule": []}')
        (work / "value.gate").write_text('{"rules": [{"max_nmse": "small"}]}')
        (work / "value.recipe").write_text('{"rules": [{"match": "x", "type": "nf3"}]}')
        (work / "gguf_only").mkdir()
        shutil.copy(work / "model.gguf", work / "gguf_only/model.gguf")
        tools.run("q4export", "m.q4", "--to", "bnb", "-o", "bnb", "-q")
        (work / "key.recipe").write_text('{"rules": [{"match": "x", "blocksize": 64}]}')
        for name in ("folder", "folder.q4", "readonly", "locked", "alone", "renamed", "sharded"):
            (work / name).mkdir()
        for name in ("alone/model", "renamed/other"):
            (work / f"{name}.safetensors").write_bytes(whole)
        tensors = st.read(work / "src/model.safetensors")
        halves = [dict(list(tensors.items())[:10]), dict(list(tensors.items())[10:])]
        for name, half in zip("ab", halves):
            (work / f"sharded/{name}.safetensors").write_bytes(st.tensor_file(half))
        (work / "sharded/model.safetensors.index.json").write_text(json.dumps(
            {"metadata": {}, "weight_map": {name: f"{file}.safetensors" for file, half in zip("ab", halves) for name in half}}))
        tools.run("q4convert", "sharded", "-o", "s.q4", "-q")
        alone(tools)
        before = sorted(str(path) for path in work.rglob("*"))
        for mode, name in ((0o555, "readonly"), (0o444, "locked")):
            (work / name).chmod(mode)
        mistakes = [(*row, tools) for row in MISTAKES]
        stranger = Stranger(tools_folder, work)
        if stranger.there():
            mistakes += [(*row, stranger) for row in WITHOUT_RIGHTS]
        else:
            print("messages: SKIPPED what a user without rights is told: only root can become one")
        for command, code, words, who in mistakes:
            done = who.run(*["" if word == "''" else word for word in command.split()], code=code)
            check(words in done.stderr, f"`{command}` says {words!r}", done.stderr)
            check(done.stderr.count("\n") == 1 and not done.stdout, f"`{command}` says one line", done.stderr, done.stdout)
        check(sorted(str(path) for path in work.rglob("*")) == before, "nothing was left behind")
    print(f"messages: {len(mistakes)} mistakes, {checks.count()} checks")


if __name__ == "__main__":
    main()
