#!/usr/bin/env python3
"""Pipelines of diffusers as a whole: conversion, seal, verification, inspection, export; what is carried and what is left out; killed
runs; everything that is refused. The folders are made here; tests/python/pipelines_check.py has those of diffusers.

    pipeline_test.py TOOLS [KILL_AT_SO]
"""
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402
import torch_bytes  # noqa: E402
from tools import Tools  # noqa: E402

QUIET = ("--progress", "none", "--device", "cpu", "-q")
FLUX = {"_class_name": "FluxTransformer2DModel"}
T5 = {"model_type": "t5", "architectures": ["T5EncoderModel"]}
INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "requires_safety_checker": False,
    "text_encoder_out_layers": [9, 18],
}


def matrix(seed, rows=64, columns=64):
    data = bytearray(random.Random(seed).randbytes(2 * rows * columns))
    data[1::2] = bytes([0x3C]) * (rows * columns)
    return ("BF16", (rows, columns), bytes(data))


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Pipeline:
    """A pipeline in a folder of its own, converted to another beside it."""

    def __init__(self, tools, work, name="pipe", rows=64):
        self.path, self.out = work / name, work / f"{name}_q4"
        self.tools = Tools(tools, work)
        flux = {f"transformer_blocks.{i}.ff.net.2.weight": matrix(i, rows) for i in range(3)}
        flux["transformer_blocks.0.norm.weight"] = ("BF16", (64,), bytes([0x80, 0x3F]) * 64)
        text = {f"encoder.block.0.layer.1.DenseReluDense.{leaf}.weight": matrix(leaf) for leaf in ("wi", "wo")}
        self.write({
            "model_index.json": json.dumps(INDEX),
            "README.md": "a pipeline\n",
            "transformer/config.json": json.dumps(FLUX),
            "transformer/diffusion_pytorch_model.safetensors": tensor_file(flux),
            "transformer/diffusion_pytorch_model.fp16.safetensors": b"another variant",
            "text_encoder_2/config.json": json.dumps(T5),
            "text_encoder_2/model.safetensors": tensor_file(text),
            "text_encoder_2/pytorch_model.bin": b"the same in another form",
            "vae/config.json": json.dumps({"_class_name": "AutoencoderKL"}),
            "vae/diffusion_pytorch_model.safetensors": tensor_file({"decoder.conv_in.weight": matrix("vae")}),
            "vae/flax_model.msgpack": b"flax",
            "scheduler/scheduler_config.json": "{}",
            "tokenizer_2/tokenizer.json": "{}",
            "tokenizer_2/spiece.model": b"\0pieces",
            "onnx/model.onnx": b"onnx",
            "flux1.safetensors": b"all in one",
            "pipeline.py": "raise SystemExit\n",
            ".gitattributes": "x",
        })

    def write(self, files):
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def index(self, **members):
        self.write({"model_index.json": json.dumps({**INDEX, **members})})

    def convert(self, *arguments, code=0, text="", out=None):
        done = self.tools.run("q4convert", self.path, "-o", out or self.out, *QUIET, *arguments, code=code)
        check(text in done.stderr, f"stderr has {text}", done.stderr)
        return done

    def verify(self, *arguments, code=0, text=""):
        done = self.tools.run("q4verify", self.out, "--progress", "none", *arguments, code=code)
        check(text in done.stderr, f"stderr has {text}", done.stderr)
        return done

    def seal(self):
        return json.loads((self.out / "q4-pipeline.json").read_text())


def check_whole(tools, work):
    """What is written, byte for byte; what is carried and what is not; the seal; the same bytes again."""
    pipe = Pipeline(tools, work)
    report = json.loads(pipe.convert("--json").stdout)
    written, source = files_of(pipe.out), files_of(pipe.path)
    expected = {
        "README.md", "model_index.json", "q4-pipeline.json", "scheduler/scheduler_config.json", "text_encoder_2/config.json",
        "text_encoder_2/model.q4", "tokenizer_2/spiece.model", "tokenizer_2/tokenizer.json", "transformer/config.json",
        "transformer/model.q4", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    }
    check(written.keys() == expected, "what is written", sorted(written.keys() ^ expected))
    for name, content in written.items():
        if not name.endswith(".q4") and name != "q4-pipeline.json":
            check(source[name] == content, f"{name} is carried as it is")
    seal = pipe.seal()
    check({file["path"] for file in seal["files"]} == expected - {"q4-pipeline.json"}, "the seal lists every file")
    for file in seal["files"]:
        content = written[file["path"]]
        check(file["bytes"] == len(content) and file["sha256"] == hashlib.sha256(content).hexdigest(), f"the seal of {file['path']}")
    root = hashlib.sha256(written["q4-pipeline.json"]).hexdigest()
    check(report["root_sha256"] == root, "the root of the pipeline is the digest of its seal")
    left_out = {file["name"]: file["reason"] for file in report["left_out"]}
    for name in ("transformer/diffusion_pytorch_model.fp16.safetensors", "text_encoder_2/pytorch_model.bin", "vae/flax_model.msgpack",
                 "onnx/", "flux1.safetensors", "pipeline.py"):
        check(name in left_out, f"{name} is named as left out", left_out)
    # Told once: in the list, or in the plan of the component.
    for arguments in ((), ("--dry-run",)):
        told = pipe.tools.run("q4convert", pipe.path, "-o", work / "once", "--progress", "none", "--device", "cpu", "--force", *arguments)
        for name in ("diffusion_pytorch_model.fp16.safetensors", "pytorch_model.bin", "flax_model.msgpack", "onnx/"):
            check((told.stdout + told.stderr).count(name) == 1, f"{name} is told once {arguments}", told.stdout + told.stderr)
    shutil.rmtree(work / "once")
    recorded = {file["name"] for file in seal["left_out"]}
    check(".gitattributes" not in recorded and "onnx/" in recorded, "what is on record", recorded)
    plan = json.loads(pipe.convert("--dry-run", "--json", out=work / "plan").stdout)
    containers = sum(file["bytes"] for file in seal["files"])
    check(plan["output_bytes"] == containers and not (work / "plan").exists(), "a dry run is exact and writes nothing")
    check(not [path for path in work.iterdir() if ".partial" in path.name], "nothing is left beside the output")
    for component in ("transformer", "text_encoder_2"):
        pipe.tools.run("q4convert", pipe.path / component, "-o", "alone.q4", "--force", *QUIET)
        check((work / "alone.q4").read_bytes() == written[f"{component}/model.q4"], f"{component} alone gives the same container")
    reasons = {tensor["name"]: tensor["treatment"] for component in plan["components"] for tensor in component["plan"]["tensors"]}
    check(reasons["encoder.block.0.layer.1.DenseReluDense.wo.weight"] == "BF16", "T5 keeps wo")
    check(reasons["transformer_blocks.0.norm.weight"] == "BF16", "norms are kept")
    check(reasons["encoder.block.0.layer.1.DenseReluDense.wi.weight"].startswith("nf4"), "linear layers are quantized")

    pipe.verify("-q")
    pipe.verify("--against", pipe.path, "-q")
    verified = json.loads(pipe.verify("--against", pipe.path, "--json", "--root", "sha256:" + root).stdout)
    check(verified["passed"] and [c["name"] for c in verified["components"]] == ["text_encoder_2", "transformer"], "verified", verified)
    pipe.verify("--root", "0" * 64, code=6, text="[Q4-6824]")
    pipe.verify("--max-nmse", "1e-9", "-q", code=6, text="transformer")
    pipe.verify("--html", "x.html", code=1, text="[Q4-1826]")
    pipe.verify("--against", pipe.path, "--adapter", "a", code=1, text="q4verify FOLDER/model.q4")
    pipe.verify("--against", pipe.path, "--tensor", "wi", "-q")
    pipe.verify("--against", pipe.path, "--tensor", "none_such", "-q", code=1)

    pipe.convert(code=1, text="[Q4-1823]")
    pipe.convert("--force", "--no-resume", "--threads", "1", "--max-memory", "200MB")
    check(files_of(pipe.out) == written, "the same bytes, whatever the run")
    by_file = pipe.tools.run("q4convert", pipe.path / "model_index.json", "-o", "by_file", *QUIET, "--report", "r.json")
    check(by_file.returncode == 0 and files_of(work / "by_file") == written, "by its model_index.json")
    check(json.loads((work / "r.json").read_text())["root_sha256"] == root, "the report")
    inspected = json.loads(pipe.tools.run("q4inspect", pipe.out, "--json", "--tensors").stdout)
    check(inspected["root_sha256"] == root, "inspected")
    kinds = {component["name"]: component["stored_as"] for component in inspected["components"]}
    check(kinds == {"scheduler": "files", "text_encoder_2": "container", "tokenizer_2": "files", "transformer": "container",
                    "vae": "weights"}, "kinds", kinds)
    text = pipe.tools.run("q4inspect", pipe.path).stdout
    check("FluxPipeline" in text and "to be quantized" in text, "the source is inspected", text)
    for option in (("--lint",), ("--diff", pipe.path), ("--tensor", "x")):
        check("[Q4-1826]" in pipe.tools.run("q4inspect", pipe.out, *option, code=1).stderr, f"refused: {option}")
    check("[Q4-5822]" in pipe.tools.run("q4convert", pipe.out, "-o", "twice", *QUIET, code=5).stderr, "converted already")


def check_broken_gate(pipe):
    """Exit 6 has its document too: what broke, in which component, and that nothing was written."""
    reports = json.loads((pathlib.Path(__file__).resolve().parent.parent.parent / "docs/schema/pipeline_reports.schema.json").read_text())
    keys = next(set(one["required"]) for one in reports["oneOf"] if one["properties"]["document"].get("const") == "q4convert-pipeline-report")
    broken = ("--force", "--max-nmse", "1e-9")
    pipe.convert(*broken, code=6, text="pipe_q4/text_encoder_2/model.q4")
    (pipe.path.parent / "names.gate").write_text('{"rules": [{"match": "^none_such$", "max_nmse": 1}]}')
    unmatched = ("--force", "--gate", pipe.path.parent / "names.gate")
    report = pipe.path.parent / "broken.json"
    for words, measured in ((broken, True), (unmatched, False), ((*unmatched, "--dry-run"), False)):
        for extra in (("--json",), ("--report", report), ("--json", "--report", report, "-v")):
            report.unlink(missing_ok=True)
            done = pipe.tools.run("q4convert", pipe.path, "-o", pipe.out, *words, *extra, "--progress", "none", code=6)
            check(bool(done.stdout) == ("--json" in extra), "--json alone goes to stdout", done.stdout)
            document = json.loads(done.stdout or report.read_text())
            if "--report" in extra:
                check(json.loads(report.read_text()).keys() == document.keys(), "the report is that document")
            check(set(document) == keys, "the keys of its schema", set(document) ^ keys)
            check(document["passed"] is False and document["output"] is None and document["root_sha256"] is None and not document["carried"],
                  "there is no output", document)
            check(document["finding_count"] >= len(document["findings"]) > 0, "it says what broke", document)
            last = document["components"][-1]["report"]
            check(last["passed"] is False and last["findings"] == document["findings"], "by the last component")
            check(bool(last["gates"]) == measured and last["provenance"]["options"], "with limits and options", last)
            check(not any(each["report"]["outputs"] for each in document["components"]), "no component has an output")


def check_choice(tools, work):
    """Options: which components, patterns over all of them, gates, shards."""
    pipe = Pipeline(tools, work)
    pipe.convert("--components", "vae,transformer")
    check({path.parent.name for path in pipe.out.glob("*/model.q4")} == {"vae", "transformer"}, "--components chooses")
    check((pipe.out / "text_encoder_2/model.safetensors").exists(), "what is not chosen is carried")
    pipe.verify("--against", pipe.path, "-q")
    shutil.rmtree(pipe.out)
    pipe.convert("--components", "transformer,scheduler", code=1, text="text_encoder_2, transformer, vae")
    pipe.convert("--components", "../vae", code=1, text="[Q4-1820]")
    pipe.convert("--exclude", "none_such", code=1, text="[Q4-1580]")
    pipe.convert("--exclude", r"\.wi\.", "--type", "fp4", "--block-size", "128")  # matches in one component of two
    check("BF16" in pipe.tools.run("q4inspect", pipe.out / "text_encoder_2/model.q4", "--filter", "wi").stdout, "--exclude")
    check_broken_gate(pipe)
    pipe.verify("-q")  # the old one is untouched by a gate that is broken
    check(not [path for path in work.iterdir() if ".partial" in path.name], "a broken gate leaves nothing")
    pipe.convert("--force", "--shard-size", "3KB")
    check((pipe.out / "transformer/model.q4.index.json").exists(), "shards by component")
    pipe.verify("--against", pipe.path, "-q")
    pipe.tools.run("q4export", pipe.out, "--to", "safetensors", "-o", "shards", "-q")
    check("[Q4-1821]" in pipe.tools.run("q4convert", pipe.path / "vae", "-o", "v.q4", "--components", "vae", *QUIET, code=1).stderr,
          "--components of a single model")
    pipe.tools.run("q4convert", pipe.path / "transformer", "-o", "c.q4", *QUIET)
    check("[Q4-1756]" in pipe.tools.run("q4convert", "c.q4", "-o", "d.q4", "--components", "x", *QUIET, code=1).stderr, "of a container")
    pipe.convert("--tensor", "x", code=1, text="[Q4-1757]")


def check_places(tools, work):
    """What may lie where the output goes; nothing that is not q4's is ever lost."""
    pipe = Pipeline(tools, work)
    before = files_of(pipe.path)
    for out, issue in ((pipe.path, 1825), (work, 1824), (work / "x.q4", 1822), (work / "x.safetensors", 1822)):
        pipe.convert("--force", out=out, code=1, text=f"[Q4-{issue}]")
    (work / "file").write_bytes(b"mine")
    (work / "link").symlink_to("pipe")
    (work / "empty").mkdir()
    pipe.convert("--force", out=work / "file", code=1, text="[Q4-1824]")
    pipe.convert("--force", out=work / "link", code=1, text="[Q4-182")
    pipe.convert(out=work / "empty")
    pipe.convert(out=work / "missing" / "out", code=2)
    pipe.convert(out=pipe.path / "q4")  # inside the source, which then has it among what is an output of q4
    inside = files_of(pipe.path / "q4")
    pipe.convert()
    check(files_of(pipe.out) == inside == files_of(work / "empty"), "an output inside the source is no part of it")
    shutil.rmtree(pipe.path / "q4")
    for change in ("note.txt", "transformer/model.q4", "scheduler/scheduler_config.json"):
        shutil.copytree(pipe.out, work / "changed")
        with open(work / "changed" / change, "ab") as file:
            file.write(b"!")
        kept = files_of(work / "changed")
        pipe.convert("--force", out=work / "changed", code=1, text="[Q4-1824]")
        check(files_of(work / "changed") == kept, f"{change}: nothing is lost")
        shutil.rmtree(work / "changed")
    for report in (pipe.path / "r.json", pipe.path / "vae/r.json", pipe.out / "r.json"):
        pipe.convert("--force", "--report", report, code=1, text="[Q4-1005]")
    check(files_of(pipe.path) == before and (work / "file").read_bytes() == b"mine", "the source is as it was")


def check_export(tools, work):
    pipe = Pipeline(tools, work)
    pipe.convert()
    out = work / "bnb"
    done = pipe.tools.run("q4export", pipe.out, "--to", "bnb", "-o", out, "--json", "--progress", "none")
    report, exported = json.loads(done.stdout), files_of(out)
    check([c["name"] for c in report["components"]] == ["text_encoder_2", "transformer"], "exported", report)
    record = json.loads(exported["q4_export.json"])
    check({file["name"] for file in record["files"]} == exported.keys() - {"q4_export.json"}, "the record lists every file")
    for name in ("model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "tokenizer_2/spiece.model"):
        check(exported[name] == (pipe.path / name).read_bytes(), f"{name} is carried")
    check("quantization_config" in json.loads(exported["transformer/config.json"]), "transformer/config.json")
    check("transformer/diffusion_pytorch_model.safetensors" in exported and "q4-pipeline.json" not in exported, "names")
    check("[Q4-1823]" in pipe.tools.run("q4export", pipe.out, "--to", "bnb", "-o", out, "-q", code=1).stderr, "it exists")
    pipe.tools.run("q4export", pipe.out, "--to", "bnb", "-o", out, "-q", "--force")
    check(files_of(out) == exported, "the same bytes")
    for option in (("--tensor", "x"), ("--into",)):
        check("[Q4-1826]" in pipe.tools.run("q4export", pipe.out, "--to", "bnb", "-o", "x", *option, code=1).stderr, f"{option}")
    check("[Q4-6824]" in pipe.tools.run("q4export", pipe.out, "--to", "bnb", "-o", "x", "--root", "0" * 64, code=6).stderr, "--root")
    inside = pipe.tools.run("q4export", pipe.out, "--to", "bnb", "-o", pipe.out / "x", "-q", code=1).stderr
    check("[Q4-1825]" in inside and not (pipe.out / "x").exists(), "not inside the pipeline", inside)
    # What it was made from is never replaced, be it an export of q4's own.
    plain = work / "plain"
    pipe.tools.run("q4export", pipe.out, "--to", "safetensors", "-o", plain, "-q")
    for digest in ("sha256", "xxh3"):
        pipe.tools.run("q4convert", plain, "-o", work / f"second_{digest}", "--source-digest", digest, *QUIET)
        done = pipe.tools.run("q4export", work / f"second_{digest}", "--to", "safetensors", "-o", plain, "--force", "-q", code=1)
        check("[Q4-1825]" in done.stderr, "a source is not replaced", done.stderr)
    (out / "mine.txt").write_text("mine")
    check("[Q4-1824]" in pipe.tools.run("q4export", pipe.out, "--to", "bnb", "-o", out, "--force", code=1).stderr, "somebody's file")
    # A carried file that is no longer what was sealed, and a container of another root.
    (pipe.out / "vae/config.json").write_text("{}")
    check("[Q4-6821]" in pipe.tools.run("q4export", pipe.out, "--to", "bnb", "-o", "x", "-q", code=6).stderr, "a changed file")
    check(not [path for path in work.iterdir() if path.name.startswith("x")], "nothing is left")


def check_damage(tools, work):
    """Every kind of difference between a pipeline and its seal, and between it and its source."""
    pipe = Pipeline(tools, work)
    pipe.convert()
    sound = work / "sound"
    shutil.copytree(pipe.out, sound)

    def damaged(change, issue, code=6, against=False):
        change()
        pipe.verify("-q", *(("--against", pipe.path) if against else ()), code=code, text=f"[Q4-{issue}]")
        shutil.rmtree(pipe.out)
        shutil.copytree(sound, pipe.out)

    def write(name, content):
        (pipe.out / name).parent.mkdir(exist_ok=True)
        (pipe.out / name).write_bytes(content)

    def reseal(**changes):
        """As somebody else would write it."""
        seal = {**pipe.seal(), **changes}
        for file in seal["files"]:
            path = pipe.out / file["path"]
            if path.exists():
                file.update(bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        write("q4-pipeline.json", (json.dumps(seal, indent=2, ensure_ascii=False) + "\n").encode())

    damaged(lambda: (pipe.out / "vae/config.json").unlink(), 6820)
    damaged(lambda: write("vae/config.json", b"{}"), 6821)
    damaged(lambda: write("vae/more.json", b"{}"), 6822)
    damaged(lambda: write("more/more.json", b"{}"), 6822)
    damaged(lambda: (pipe.out / "hidden").mkdir(), 6822)
    damaged(lambda: (pipe.out / "vae/config.json").unlink() or (pipe.out / "vae/config.json").symlink_to("/etc/passwd"), 6821)
    container = bytearray((sound / "transformer/model.q4").read_bytes())
    container[len(container) // 2] ^= 1
    damaged(lambda: write("transformer/model.q4", bytes(container)), 6821)
    # Resealed: each lie is found by another rule.
    other = (sound / "text_encoder_2/model.q4").read_bytes()
    damaged(lambda: (write("transformer/model.q4", other), reseal()), 6823)
    index = {**INDEX, "vae": ["diffusers", "AutoencoderDC"]}
    damaged(lambda: (write("model_index.json", json.dumps(index).encode()), reseal()), 6826)
    damaged(lambda: (write("model_index.json", b"{"), reseal()), 6826)
    damaged(lambda: (write("vae/config.json", b"{}"), reseal()), 6825, against=True)
    damaged(lambda: (write("vae/new.json", b"{}"), reseal(files=sorted(
        [*pipe.seal()["files"], {"path": "vae/new.json", "bytes": 2, "sha256": "0" * 64}], key=lambda f: f["path"]))), 6825, against=True)
    pipe.write({"scheduler/scheduler_config.json": '{"changed": 1}'})
    pipe.verify("-q", "--against", pipe.path, code=6, text="scheduler/scheduler_config.json")
    pipe.index(vae=[None, None])
    pipe.verify("-q", "--against", pipe.path, code=6, text="[Q4-6825]")
    pipe.verify("-q")


def check_sources(tools, work):
    """Kinds of pipelines: code of their own, absent components, links, what cannot be converted."""
    pipe = Pipeline(tools, work)
    pipe.write({"transformer/my_flux.py": "raise SystemExit\n"})
    pipe.index(transformer=["my_flux", "MyFlux"])
    done = pipe.convert("--json")
    report = json.loads(done.stdout)
    check([c["name"] for c in report["components"]] == ["text_encoder_2"], "code is not quantized", report["components"])
    check(any("code" in warning for warning in report["warnings"]), "and that is told", report["warnings"])
    check(not list(pipe.out.rglob("*.py")), "code is never carried")
    pipe.convert("--force", "--components", "transformer", code=5, text="[Q4-5821]")
    pipe.index(transformer=["stable_diffusion", "Something"], text_encoder_2=[None, None])
    pipe.convert("--force", code=5, text="[Q4-5820]")
    pipe.index(_class_name=["pipeline", "MyPipeline"])
    report = json.loads(pipe.convert("--force", "--json").stdout)
    check(report["class"] == "MyPipeline" and any("code" in warning for warning in report["warnings"]), "code of the pipeline")
    pipe.index(image_encoder=["transformers", "CLIPVisionModel"])
    pipe.convert("--force", code=3, text="[Q4-3822]")
    pipe.write({"image_encoder": "a file"})
    pipe.convert("--force", code=3, text="[Q4-3822]")
    (pipe.path / "image_encoder").unlink()
    (pipe.path / "image_encoder").symlink_to("vae")
    pipe.convert("--force", code=3, text="[Q4-2004]")
    report = json.loads(pipe.convert("--force", "--json", "--follow-symlinks").stdout)
    check(len(report["components"]) == 2, "followed when asked to")
    (pipe.path / "image_encoder").unlink()
    # Names lead nowhere, and what is no list of two texts is an option.
    for name in ("../vae", "/etc", "a/b", "..", "", "C:", "va\u00e9", "a b", "-x", "x" * 65):
        pipe.index(**{name: ["diffusers", "AutoencoderKL"]})
        pipe.convert("--force", code=3, text="[Q4-3820]")
    pipe.index(options=["a", "b", "c"], more=[1, 2], deep={"vae": ["a", "b"]}, text="vae", none=None, empty=[])
    pipe.convert("--force")
    pipe.verify("--against", pipe.path, "-q")
    # Components in PyTorch's form and in shards are read, and carried, as any model's.
    weights = pipe.path / "vae/diffusion_pytorch_model.safetensors"
    vae = weights.read_bytes()
    weights.unlink()
    value = torch_bytes.tensor(shape=(64, 64), of=torch_bytes.storage(elements=4096))
    pipe.write({"vae/diffusion_pytorch_model.bin": torch_bytes.checkpoint(torch_bytes.state(("decoder.conv_in.weight", value)), [bytes(16384)]),
                "vae/config.json": json.dumps({"_class_name": "AutoencoderKL"})})
    pipe.index()
    pipe.convert("--force")
    check((pipe.out / "vae/diffusion_pytorch_model.bin").read_bytes() == (pipe.path / "vae/diffusion_pytorch_model.bin").read_bytes(), ".bin is carried")
    pipe.convert("--force", "--components", "vae")
    pipe.verify("--against", pipe.path, "-q")
    (pipe.path / "vae/diffusion_pytorch_model.bin").unlink()
    parts = {f"diffusion_pytorch_model-0000{i}-of-00002.safetensors": {f"decoder.{i}.weight": matrix(i)} for i in (1, 2)}
    pipe.write({f"vae/{name}": tensor_file(tensors) for name, tensors in parts.items()})
    pipe.write({"vae/diffusion_pytorch_model.safetensors.index.json": json.dumps(
        {"metadata": {}, "weight_map": {tensor: name for name, tensors in parts.items() for tensor in tensors}})})
    pipe.convert("--force")
    check({path.name for path in (pipe.out / "vae").iterdir()} == {path.name for path in (pipe.path / "vae").iterdir()} - {"flax_model.msgpack"}, "shards")
    pipe.verify("--against", pipe.path, "-q")
    pipe.convert("--force", "--components", "vae")
    pipe.verify("--against", pipe.path, "-q")
    for path in (pipe.path / "vae").glob("diffusion*"):
        path.unlink()
    weights.write_bytes(vae)
    # Weights that cannot be read are refused with the component; a model is not half converted.
    pipe.index()
    pipe.write({"vae/diffusion_pytorch_model.safetensors": b"\xff" * 64})
    before = files_of(pipe.out)
    pipe.convert("--force", code=3, text="vae")
    check(files_of(pipe.out) == before, "the old output stays")


def check_single_file(tools, work):
    """A checkpoint of ComfyUI is one model: what its prefixes say is kept is kept."""
    run = Tools(tools, work).run
    names = {"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": "nf4", "model.diffusion_model.img_in.weight": "BF16",
             "model.diffusion_model.final_layer.linear.weight": "BF16", "first_stage_model.decoder.mid.attn_1.q.weight": "BF16",
             "text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wo.weight": "BF16",
             "text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wi_0.weight": "nf4"}
    (work / "flux.safetensors").write_bytes(tensor_file({name: matrix(name) for name in names}))
    run("q4convert", "flux.safetensors", "-o", "flux.q4", *QUIET)
    run("q4verify", "flux.q4", "--against", "flux.safetensors", "-q")
    listed = json.loads(run("q4inspect", "flux.q4", "--tensors", "--json").stdout)["tensors"]
    for tensor in listed:
        check(tensor["treatment"].startswith(names[tensor["name"]]), tensor["name"], tensor["treatment"])
    run("q4export", "flux.q4", "--to", "safetensors", "-o", "again.safetensors", "-q")


def check_kills(tools, work, library):
    """Killed before every seventh call that changes the disk; the rerun gives the same folder, and never converts again what was finished."""
    pipe = Pipeline(tools, work)
    command = [tools / "q4convert", pipe.path, "-o", pipe.out, *QUIET, "--sync-every", "1"]
    count = work / "count"

    def run(**more):
        environment = {**os.environ, "LD_PRELOAD": library, **{name: str(value) for name, value in more.items()}}
        return subprocess.run(list(map(str, command)), env=environment, capture_output=True, check=False).returncode

    def beside():
        return [path for path in work.iterdir() if path.name.startswith("pipe_q4.") or path.name == ".q4.partial"]

    check(run(Q4_KILL_COUNT=count) == 0, "the undisturbed run")
    whole, calls, kills, resumed = files_of(pipe.out), int(count.read_text()), 0, 0
    for at in range(1, calls + 1, 7):
        shutil.rmtree(pipe.out, ignore_errors=True)
        for path in beside():
            shutil.rmtree(path)
        status = run(Q4_KILL_AT=at)
        kills += status == -signal.SIGKILL
        check(status in (-signal.SIGKILL, 0), f"call {at}", status)
        check(not pipe.out.exists() or files_of(pipe.out).keys() - {".q4-lock"} == whole.keys(), f"call {at}: half a folder is published")
        partial = work / "pipe_q4.partial"
        finished = {path.parent.name: path.parent for path in partial.glob("*/model.q4.finished")}
        stamps = {name: (folder / "model.q4").stat().st_ino for name, folder in finished.items()}
        if pipe.out.exists():
            pipe.verify("-q") if not (pipe.out / ".q4-lock").exists() else None
            continue
        report = json.loads(pipe.convert("--json").stdout)
        check(files_of(pipe.out) == whole, f"call {at}: the rerun gives the same folder")
        check(not beside(), f"call {at}: nothing is left", beside())
        for component in report["components"]:
            name = component["name"]
            check(component["resumed"] == (name in finished), f"call {at}: {name} is converted once", component["resumed"])
            if name in stamps:
                resumed += 1
                check((pipe.out / name / "model.q4").stat().st_ino == stamps[name], f"call {at}: {name} is the same file")
    check(kills > calls // 10 and resumed > 0, "kills were met", kills, resumed, calls)
    # A folder that stays, as a mount point does, is filled file by file: a run that is killed meanwhile is completed.
    stays = work / "stays"
    here = [*command[:3], ".", *command[4:]]

    def run_there(**more):
        environment = {**os.environ, "LD_PRELOAD": library, **{name: str(value) for name, value in more.items()}}
        return subprocess.run(list(map(str, here)), cwd=stays, env=environment, capture_output=True, check=False).returncode

    stays.mkdir()
    check(run_there(Q4_KILL_COUNT=count) == 0 and files_of(stays) == whole, "published file by file")
    calls = int(count.read_text())
    for at in (5, *range(calls // 2, calls, 6)):
        shutil.rmtree(stays)
        stays.mkdir()
        killed = run_there(Q4_KILL_AT=at)
        complete = {name for name in files_of(stays) if not name.startswith(".q4")} == whole.keys()
        status = run_there()
        check(status == 0 or complete, f"file by file, call {at}: the rerun", killed, status)
        check(status != 0 or files_of(stays) == whole, f"file by file, call {at}: the same folder")
    # What another run left is not believed: other options, another source, a changed byte.
    last = max(at for at in range(1, calls + 1))
    for change in ("options", "source", "byte"):
        at = last
        while True:
            shutil.rmtree(pipe.out, ignore_errors=True)
            for path in beside():
                shutil.rmtree(path)
            run(Q4_KILL_AT=at)
            note = work / "pipe_q4.partial/transformer/model.q4.finished"
            if note.exists() or at < 1:
                break
            at -= 1
        check(note.exists(), "a finished component")
        options = ()
        if change == "options":
            options = ("--type", "fp4")
        elif change == "source":
            weights = pipe.path / "transformer/diffusion_pytorch_model.safetensors"
            content = bytearray(weights.read_bytes())
            content[-2] ^= 1
            weights.write_bytes(bytes(content))
        else:
            container = note.with_name("model.q4")
            content = bytearray(container.read_bytes())
            content[len(content) // 2] ^= 1
            container.write_bytes(bytes(content))
        report = json.loads(pipe.convert("--json", *options).stdout)
        again = {component["name"]: not component["resumed"] for component in report["components"]}
        check(again["transformer"], f"{change}: converted again", again)
        pipe.verify("--against", pipe.path, "-q")


def main():
    tools = pathlib.Path(sys.argv[1]).resolve()
    library = sys.argv[2] if len(sys.argv) > 2 else ""
    steps = [check_whole, check_choice, check_places, check_export, check_damage, check_sources, check_single_file]
    for step in steps:
        with tempfile.TemporaryDirectory() as work:
            step(tools, pathlib.Path(work))
    if library:
        with tempfile.TemporaryDirectory() as work:
            check_kills(tools, pathlib.Path(work), library)
    print(f"pipeline_test: {checks.count()} checks{'' if library else ', kills not tried'}")


if __name__ == "__main__":
    main()
