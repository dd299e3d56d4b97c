#!/usr/bin/env python3
"""A .q4 container as input of q4convert: packed anew, with every code, scale and statistic as it was.

    repack_test.py TOOLS TESTDATA [KILL_LIBRARY]

For every container of the project and for tiny checkpoints of each kind: compressed and back, in shards and back, gives the payload of
the first conversion byte for byte; what is exported of it is the same; the source proves it as before. Other companion files and a
subset are what they say they are, in the provenance too. What cannot be right is refused and leaves everything as it was.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
import checks  # noqa: E402  (the path above)
import container_bytes as q4  # noqa: E402
from checks import check  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402
from tools import Tools  # noqa: E402

QUIET = ("-q", "--progress", "none")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Bench:
    def __init__(self, tools: Tools):
        self.tools, self.work = tools, tools.work

    def repack(self, source, output, *options, code=0):
        return self.tools.run("q4convert", source, "-o", output, *options, *QUIET, code=code)

    def inspect(self, path):
        return json.loads(self.tools.run("q4inspect", path, "--content", "--stats", "--json").stdout)

    def content(self, path):
        return self.inspect(path)["content_sha256"]

    def provenance(self, path):
        return self.inspect(path)["provenance"]

    def export(self, path):
        """What is exported of it, but for the record, which names the container."""
        out = self.work / "exported"
        shutil.rmtree(out, ignore_errors=True)
        self.tools.run("q4export", path, "-o", out, "--to", "safetensors", *QUIET)
        files = contents(out) if out.is_dir() else {"": out.read_bytes()}
        return {name: data for name, data in files.items() if name != "q4_export.json"}

    def findings(self, path):
        done = subprocess.run([self.tools.folder / "q4verify", path, "--json"], cwd=self.work, capture_output=True, text=True, check=False)
        report = json.loads(done.stdout)
        return sorted((finding["issue"], finding.get("tensor") or "") for finding in report["findings"])

    def payload(self, path):
        return q4.split((self.work / path).read_bytes())[1]

    def left_out(self, path):
        return {entry["name"]: entry["reason"] for entry in self.provenance(path).get("left_out", [])}


def whole(bench, name, against=None):
    """The container, packed in every way and back."""
    tools = bench.tools
    exported, content, first, findings = bench.export(name), bench.content(name), bench.provenance(name), bench.findings(name)
    shards = 3 if "index" in str(name) else 1
    bench.repack(name, "z.q4", "--compress", "zstd:5", "--shard-size", "0")
    bench.repack("z.q4", "plain.q4", "--compress", "none")
    bench.repack("z.q4", "parts.q4", "--shard-size", "1")
    bench.repack("parts.q4.index.json", "one.q4", "--shard-size", "0", "--compress", "none", "--threads", "3")
    bench.repack("z.q4", "again.q4", "--threads", "1")
    if shards == 1:
        bench.repack(name, "raw.q4", "--compress", "none", "--shard-size", "0")
        check(bench.payload("raw.q4") == bench.payload("plain.q4"), f"{name}: compressed and back, the payload is the same")
    check(bench.payload("one.q4") == bench.payload("plain.q4"), f"{name}: in shards and back, the payload is the same")
    check(bench.payload("again.q4") == bench.payload("z.q4"), f"{name}: what is compressed so already keeps its bytes")
    for packed in ("z.q4", "plain.q4", "parts.q4.index.json", "one.q4", "again.q4"):
        check(bench.content(packed) == content, f"{name}: {packed} has the same content")
        check(bench.export(packed) == exported, f"{name}: {packed} exports the same")
        # Made-up containers have statistics that are none: what is found does not change.
        check(bench.findings(packed) == findings, f"{name}: {packed} is as intact as it was")
        if against is not None:
            tools.run("q4verify", packed, "--against", against, *QUIET)
    # The provenance of the first, and where this one comes from; however often, it is as long.
    last, parent = bench.provenance("one.q4"), bench.inspect("parts.q4.index.json")["root_sha256"]
    check(last["parent"] == {"root": parent}, f"{name}: the parent is named", last["parent"], parent)
    for member in ("tool", "numerics", "source"):
        check(last[member] == first[member], f"{name}: {member} is the first one's", last[member], first[member])
    if first["options"]:
        kept = {key: value for key, value in first["options"].items() if key not in ("compress", "shard_size")}
        check({key: last["options"][key] for key in kept} == kept, f"{name}: the options are the first one's")
        check(last["options"]["compress"] == "none" and last["options"]["shard_size"] == 0, f"{name}: and how it is packed now")
    for path in [*bench.work.glob("parts*"), *(bench.work / n for n in ("z.q4", "plain.q4", "one.q4", "again.q4", "raw.q4"))]:
        path.unlink(missing_ok=True)


def module_folders(model):
    """A model of sentence-transformers with weights in a folder."""
    folder = model / "2_Dense"
    folder.mkdir(parents=True)
    layer = {"encoder.layer.0.attention.self.query.weight": ("F16", (64, 64), bytes(i % 251 % (64 if i % 2 else 256) for i in range(8192)))}
    (model / "model.safetensors").write_bytes(tensor_file(layer, {"format": "pt"}))
    (folder / "model.safetensors").write_bytes(tensor_file({"linear.weight": ("F32", (8, 64), bytes(2048))}, {"format": "pt"}))
    (folder / "config.json").write_text('{"in_features": 64, "out_features": 8}')
    (model / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
               {"idx": 1, "name": "1", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]
    (model / "modules.json").write_text(json.dumps(modules))
    return model


def kinds(bench, checkpoints):
    """Conversions of each kind; (container, source)."""
    dense = module_folders(bench.work / "dense")
    parts = bench.work / "sharded"
    parts.mkdir()
    named = [{f"model.layers.{i}.mlp.up_proj.weight": ("BF16", (64, 64), bytes((i, 0x3C)) * 4096), f"model.layers.{i}.empty": ("F32", (0, 3), b"")}
             for i in range(3)]
    index = {}
    for i, tensors in enumerate(named):
        name = f"model-0000{i + 1}-of-00003.safetensors"
        (parts / name).write_bytes(tensor_file(tensors, {"format": "pt"}))
        index.update({tensor: name for tensor in tensors})
    (parts / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (parts / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    (parts / "merges.txt").write_text("")
    rows = [
        (checkpoints / "tiny_bnb_src", ("--double-quant",)),
        (checkpoints / "tiny_plain_src", ("--no-double-quant", "--compress", "zstd")),
        (checkpoints / "tiny_fp4_src", ("--type", "fp4", "--shard-size", "20KB")),
        (dense, ("--keep-dtype", "bf16")),
        (parts, ("--shard-size", "6KB", "--block-size", "32")),
    ]
    for number, (source, options) in enumerate(rows):
        output = f"kind{number}.q4"
        bench.tools.run("q4convert", source, "-o", output, *options, *QUIET)
        yield output if (bench.work / output).exists() else output + ".index.json", source


def first_again(bench, source):
    """Packed as the conversion packed it, a container has the conversion's payload."""
    for options in ((), ("--compress", "zstd:7"), ("--shard-size", "6KB"), ("--shard-size", "6KB", "--compress", "zstd")):
        bench.tools.run("q4convert", source, "-o", "asked.q4", *options, *QUIET)
        bench.tools.run("q4convert", source, "-o", "other.q4", "--compress", "zstd:2", *QUIET)
        bench.repack("other.q4", "made.q4", *(options if "--compress" in options else (*options, "--compress", "none")))
        asked = sorted(path.name for path in bench.work.glob("asked*.q4"))
        check(len(asked) == (4 if "--shard-size" in options else 1) or len(asked) > 1, "as many shards as were asked for", asked)
        for name in asked:
            check(bench.payload(name) == bench.payload(name.replace("asked", "made")), f"{options}: {name} as converted so at once")
        for path in (*bench.work.glob("asked*"), *bench.work.glob("made*"), bench.work / "other.q4"):
            path.unlink()


def files_and_tensors(bench, source):
    bench.tools.run("q4convert", source, "-o", "m.q4", *QUIET)
    (bench.work / "card").write_text("made here")
    (bench.work / "conf").write_text('{"model_type": "llama", "new": 1}')
    before = bench.content("m.q4")
    bench.repack("m.q4", "f.q4", "--add-file", "notes/README.md=card", "--add-file", "config.json=conf", "--drop-file",
                 "generation_config.json")
    exported = bench.export("f.q4")
    check(exported["notes/README.md"] == b"made here" and b'"new"' in exported["config.json"], "files are added and replaced")
    check("generation_config.json" not in exported, "a file is dropped")
    check(bench.content("f.q4") != before, "other files are another content")
    noted = bench.left_out("f.q4")
    check("added" in noted["notes/README.md"] and "took its place" in noted["config.json"] and
          "left out" in noted["generation_config.json"], "and the provenance says so", noted)
    # Undone, nothing but what cannot be known remains.
    original = bench.export("m.q4")["generation_config.json"]
    (bench.work / "generation").write_bytes(original)
    (bench.work / "conf").write_bytes((source / "config.json").read_bytes())
    bench.repack("f.q4", "g.q4", "--drop-file", "notes/README.md", "--add-file", "config.json=conf", "--add-file",
                 "generation_config.json=generation")
    check(set(bench.left_out("g.q4")) - set(bench.left_out("m.q4")) == {"config.json", "generation_config.json"}, "a note for a file")
    bench.tools.run("q4verify", "g.q4", *QUIET)
    check(bench.content("g.q4") == before, "the same files again are the same content")
    bench.tools.run("q4verify", "g.q4", "--against", source, *QUIET)

    bench.repack("m.q4", "t.q4", "--tensor", r"layers\.0\.", "--shard-size", "9KB", "--compress", "zstd")
    everything = {tensor["name"]: tensor for tensor in bench.inspect("m.q4")["tensors"]}
    taken = {tensor["name"]: tensor for tensor in bench.inspect("t.q4.index.json")["tensors"]}
    check(taken and set(taken) == {name for name in everything if "layers.0." in name}, "a subset", taken)
    check(all(everything[name]["stats"] == tensor["stats"] for name, tensor in taken.items() if "stats" in tensor), "its statistics")
    missing = len(everything) - len(taken)
    check(f"{missing} tensors" in bench.left_out("t.q4.index.json"), "the provenance says how many are missing")
    bench.repack("t.q4.index.json", "u.q4", "--tensor", "self_attn")
    still = len(bench.inspect("u.q4" if (bench.work / "u.q4").exists() else "u.q4.index.json")["tensors"])
    name = "u.q4" if (bench.work / "u.q4").exists() else "u.q4.index.json"
    check(f"{len(everything) - still} tensors" in bench.left_out(name), "and counts on", bench.left_out(name))
    bench.repack("t-00001-of-00002.q4" if (bench.work / "t-00001-of-00002.q4").exists() else next(bench.work.glob("t-00001-of-*.q4")).name,
                 "part.q4")
    bench.tools.run("q4verify", "part.q4", *QUIET)
    check(any("parts of the model" in entry for entry in bench.left_out("part.q4")), "a part alone says that others are missing")


REFUSED = (
    # options, exit code, number, words
    (("--type", "nf4"), 1, 1755, "--type"),
    (("--block-size", "64"), 1, 1755, "16-bit checkpoint"),
    (("--double-quant",), 1, 1755, "--double-quant"),
    (("--no-double-quant",), 1, 1755, "--double-quant"),
    (("--encoder", "absmax"), 1, 1755, "--encoder"),
    (("--keep-dtype", "bf16"), 1, 1755, "--keep-dtype"),
    (("--recipe", "x.json"), 1, 1755, "--recipe"),
    (("--calibration", "x"), 1, 1755, "--calibration"),
    (("--target-bpw", "4.2"), 1, 1755, "--target-bpw"),
    (("--target-nmse", "0.01"), 1, 1755, "--target-nmse"),
    (("--keep-most-sensitive", "5"), 1, 1755, "--keep-most-sensitive"),
    (("--fused-alike",), 1, 1755, "--fused-alike"),
    (("--write-recipe", "x.json"), 1, 1755, "--write-recipe"),
    (("--include", "x"), 1, 1755, "--include"),
    (("--exclude", "x"), 1, 1755, "--exclude"),
    (("--on-nonfinite", "keep"), 1, 1755, "--on-nonfinite"),
    (("--source-digest", "xxh3"), 1, 1755, "--source-digest"),
    (("--device", "cpu"), 1, 1756, "--device"),
    (("--max-nmse", "1"), 1, 1756, "q4verify"),
    (("--gate", "default"), 1, 1756, "q4verify"),
    (("--follow-symlinks",), 1, 1756, "--follow-symlinks"),
    (("--allow-empty",), 1, 1756, "--allow-empty"),
    (("--sync-every", "1MiB"), 1, 1756, "--sync-every"),
    (("--add-file", "../x=card"), 1, 1750, "../x"),
    (("--add-file", "a.safetensors=card"), 1, 1750, "a.safetensors"),
    (("--add-file", "CONFIG.json=card"), 1, 1750, "onfig.json"),
    (("--add-file", "x.txt=card", "--add-file", "x.txt=card"), 1, 1750, "twice"),
    (("--add-file", "config.json=card", "--drop-file", "config.json"), 1, 1750, "--drop-file"),
    (("--add-file", "config.json=card"), 3, 3001, "card"),
    (("--add-file", "x.txt"), 1, 1001, "NAME=PATH"),
    (("--add-file", "x.txt=absent"), 2, 2001, "absent"),
    (("--drop-file", "absent.txt"), 1, 1751, "q4inspect --files"),
    (("--tensor", "no such"), 1, 1753, "no such"),
    (("--tensor", "("), 1, 1201, "--tensor"),
    (("--max-memory", "1KiB"), 1, 1754, "at least"),
    (("--root", "sha256:" + 64 * "0"), 6, 7642, "root"),
    (("--compress", "gzip"), 1, 1001, "--compress"),
)


def refusals(bench):
    tools = bench.tools
    for options, code, number, words in REFUSED:
        before = contents(bench.work)
        # -v: notes do not hide the error, and quiet is not given twice.
        done = tools.run("q4convert", "m.q4", "-o", "no.q4", *options, code=code)
        check(words in done.stderr, f"{options}: says why", done.stderr)
        check(f"[Q4-{number}]" in done.stderr, f"{options}: Q4-{number}", done.stderr)
        check(contents(bench.work) == before, f"{options}: nothing is left")
    # The input under each of its names, and a file that is embedded.
    bench.repack("m.q4", "s.q4", "--shard-size", "9KB")
    part = next(bench.work.glob("s-00001-of-*.q4")).name
    (bench.work / "link.q4").symlink_to("m.q4")
    (bench.work / "hard.q4").hardlink_to(bench.work / "m.q4")
    shutil.copy(bench.work / "card", bench.work / "card.q4")
    before = contents(bench.work)
    for source, output, options in (("m.q4", "m.q4", ()), ("m.q4", "link.q4", ()), ("link.q4", "m.q4", ()), ("m.q4", "hard.q4", ()),
                                    ("s.q4.index.json", part, ("--shard-size", "0")), (part, part, ("--shard-size", "0")),
                                    ("m.q4", "card.q4", ("--add-file", "x.txt=card.q4"))):
        done = bench.repack(source, output, "--force", *options, code=1)
        check("[Q4-1101]" in done.stderr, f"{source} to {output} is refused", done.stderr)
    check("[Q4-1102]" in bench.repack("m.q4", "f.q4", code=1).stderr, "an output that exists")
    check("[Q4-1560]" in bench.repack("m.q4", "card.q4", "--force", code=1).stderr, "and is no container")
    report = tools.run("q4convert", "m.q4", "-o", "no.q4", "--report", "m.q4", code=1)
    check("[Q4-1002]" in report.stderr, "the report is an input", report.stderr)
    # A checkpoint takes none of this.
    for options in (("--tensor", "x"), ("--add-file", "x.txt=card"), ("--drop-file", "x"), ("--root", "sha256:" + 64 * "0")):
        done = tools.run("q4convert", "dense", "-o", "no.q4", *options, code=1)
        check("[Q4-1757]" in done.stderr, f"{options} goes with a container", done.stderr)
    # Damage of every kind, found by whoever copies a chunk, with all its digests right too.
    good = (bench.work / "m.q4").read_bytes()
    for what, at in (("payload", 4096), ("index", len(good) - 400), ("header", 20), ("footer", len(good) - 20)):
        (bench.work / "bad.q4").write_bytes(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
        bench.repack("bad.q4", "no.q4", code=6)
    (bench.work / "bad.q4").write_bytes(good[: len(good) // 2])
    bench.repack("bad.q4", "no.q4", code=6)
    (bench.work / "bad.q4").write_bytes(q4.build([q4.nf4(scale=float("nan"))]))
    check("[Q4-7044]" in bench.repack("bad.q4", "no.q4", code=6).stderr, "a scale that is no number")
    (bench.work / "bad.q4").write_bytes(q4.lie(good, "header", 8, (2).to_bytes(4, "little")))
    check("[Q4-7010]" in bench.repack("bad.q4", "no.q4", code=5).stderr, "a newer version")
    (bench.work / "bad.q4").unlink()
    check(contents(bench.work) == before, "everything is as it was")


def plans(bench):
    """A dry run is exact, and writes nothing; the report is one of a conversion."""
    before = contents(bench.work)
    plan = json.loads(bench.tools.run("q4convert", "m.q4", "-o", "p.q4", "--shard-size", "9KB", "--dry-run", "--json").stdout)
    check("zstd" not in plan and plan["output_bytes_exact"], "an exact plan")
    check(contents(bench.work) == before, "a dry run writes nothing")
    text = bench.tools.run("q4convert", "m.q4", "-o", "p.q4", "--dry-run", "--compress", "zstd").stdout
    check("at most" in text and "as in the container" in text, "a plan in words", text)
    report = json.loads(bench.tools.run("q4convert", "m.q4", "-o", "p.q4", "--shard-size", "9KB", "--json", "--max-memory",
                                        f"{plan['least_memory_bytes']}", "--report", "p.json").stdout)
    check(sum(output["bytes"] for output in report["outputs"]) == plan["output_bytes"], "as large as planned")
    check(json.loads((bench.work / "p.json").read_text())["outputs"] == report["outputs"], "the report is written")
    # --force: what an older output of the name had besides goes with it.
    bench.repack("m.q4", "p.q4", "--force", "--shard-size", "0")
    check(sorted(path.name for path in bench.work.glob("p*.q4*")) == ["p.q4"] or
          not list(bench.work.glob("p-*")) and not (bench.work / "p.q4.index.json").exists(), "the older shards are gone")


def killed(bench, library):
    """Killed at any of its calls that change files, it leaves the old output or none, and the same command then ends."""
    tools, old, new = bench.tools, bench.content("f.q4"), bench.content("m.q4")
    for options, output in ((("--compress", "zstd", "--shard-size", "0"), "k.q4"), (("--shard-size", "9KB"), "k.q4.index.json")):
        for force in ((), ("--force",)):
            calls = None
            while calls is None or points:
                number = points.pop() if calls is not None else 0
                for path in bench.work.glob("k[.-]*"):
                    path.unlink()
                if force:
                    shutil.copy(bench.work / "f.q4", bench.work / "k.q4")
                command = [tools.folder / "q4convert", "m.q4", "-o", "k.q4", *options, *force, *QUIET]
                environment = {"LD_PRELOAD": str(library), "Q4_KILL_AT": str(number), "Q4_KILL_COUNT": str(bench.work / "count")}
                done = subprocess.run(command, cwd=bench.work, capture_output=True, check=False, env={**os.environ, **environment})
                if calls is None:
                    check(done.returncode == 0, "it runs", done.stderr)
                    calls = int((bench.work / "count").read_text())
                    # The last ones, where files get their names, and a few before.
                    points = sorted({*range(1, calls, max(calls // 3, 1)), *range(max(calls - 5, 1), calls + 1)})
                    continue
                check(done.returncode == -signal.SIGKILL, "killed", number, done.returncode, done.stderr)
                if force and (bench.work / "k.q4").exists():
                    check(bench.content("k.q4") in (old, new), "the old output or the new one")
                if not (bench.work / output).exists() or force:
                    bench.repack("m.q4", "k.q4", *options, *force)
                check(bench.content(output) == new, "and whole after another run")
            check(calls > 5, "it was killed on the way", calls)


def main():
    folder, testdata = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as place:
        work = pathlib.Path(place)
        bench = Bench(Tools(folder, work))
        for path in sorted((testdata / "q4").glob("*.q4*")):
            if "-of-" not in path.name:
                whole(bench, path)
        converted = list(kinds(bench, testdata / "checkpoints"))
        for name, source in converted:
            whole(bench, name, source)
        first_again(bench, testdata / "checkpoints" / "tiny_bnb_src")
        files_and_tensors(bench, testdata / "checkpoints" / "tiny_bnb_src")
        refusals(bench)
        plans(bench)
        if len(sys.argv) > 3:
            killed(bench, pathlib.Path(sys.argv[3]).resolve())
    print(f"repack_test: {checks.count()} checks passed")


if __name__ == "__main__":
    main()
