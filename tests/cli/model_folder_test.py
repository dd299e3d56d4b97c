#!/usr/bin/env python3
"""Every file of a model's folder is carried, or left out with a reason that all tools tell: conversion, inspection, export,
verification against the source.

    model_folder_test.py TOOLS
"""

import json
import os
import pathlib
import struct
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent / folder) for folder in ("support", "hostile")]
import checks  # noqa: E402  (the path above)
import container_bytes  # noqa: E402
from checks import check  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402
from tools import Tools  # noqa: E402

MATRIX = ("F32", (64, 64), b"".join(struct.pack("<f", (i % 37 - 18) / 7) for i in range(64 * 64)))
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


class Folder:
    """A model in a folder of its own, and the tools run beside it."""

    def __init__(self, tools: pathlib.Path, work: pathlib.Path, name: str, weights: str = "model.safetensors", config=CONFIG):
        self.path, self.q4 = work / name, work / f"{name}.q4"
        self.tools = Tools(tools, work)
        self.write({weights: tensor_file({"model.layers.0.mlp.up_proj.weight": MATRIX})})
        if config is not None:
            self.write({"config.json": json.dumps(config)})

    def write(self, files: dict) -> None:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def convert(self, *arguments) -> str:
        return self.tools.run("q4convert", self.path, "-o", self.q4, "--force", "--progress", "none", *arguments).stderr

    def plan(self) -> dict:
        return json.loads(self.tools.run("q4convert", self.path, "-o", "plan.q4", "--dry-run", "--json").stdout)

    def inspect(self) -> dict:
        return json.loads(self.tools.run("q4inspect", self.q4, "--files", "--json").stdout)

    def carried(self) -> set:
        return {file["name"] for file in self.inspect()["files"]}

    def verify(self, code: int = 0, *arguments):
        done = self.tools.run("q4verify", self.q4, "--against", self.path, "--progress", "none", "--json", *arguments, code=code)
        return json.loads(done.stdout)

    def export(self) -> tuple[pathlib.Path, str]:
        out = self.path.parent / (self.path.name + "-export")
        done = self.tools.run("q4export", self.q4, "--to", "bnb", "--no-card", "-o", out, "--progress", "none")
        return out, done.stderr


def check_carried(tools: pathlib.Path, work: pathlib.Path) -> None:
    """Tokenizers and templates of several families come back from an export where they were, byte for byte."""
    families = {
        "marian": {"source.spm": "s", "target.spm": "t", "vocab.json": "{}", "target_vocab.json": "{}"},
        "phobert": {"bpe.codes": "a b 1", "vocab.txt": "a 1"},
        "mistral": {"tokenizer.model.v3": "m", "tekken.json": "{}", "params.json": "{}"},
        "qwen": {"qwen.tiktoken": "x", "vocab.json": "{}", "merges.txt": "a b", "added_tokens.json": "{}"},
        "prophetnet": {"prophetnet.tokenizer": "x"},
        "rag": {"question_encoder_tokenizer/vocab.txt": "q", "generator_tokenizer/merges.txt": "g", "generator_tokenizer/vocab.json": "{}"},
        "blip": {"qformer_tokenizer/tokenizer.json": "{}", "preprocessor_config.json": "{}", "processor_config.json": "{}"},
        "templates": {"chat_template.jinja": "{{}}", "chat_template.json": "{}", "additional_chat_templates/tool.jinja": "{{x}}"},
        "speech": {"vocab.json": "{}", "feature_extractor/preprocessor_config.json": "{}", "normalizer.json": "{}"},
        "papers": {"LICENCE": "l", "COPYING": "c", "NOTICE.txt": "n", "USE_POLICY.md": "u", "Readme.md": "r"},
        "empty": {"merges.txt": "", "added_tokens.json": "{}"},
        "yaml": {"hyperparams.yaml": "a: 1", "lang.vocab": "v", "code.dict": "d", "dict.txt": "d"},
    }
    for name, files in families.items():
        folder = Folder(tools, work, name)
        folder.write(files)
        stderr = folder.convert()
        check("left out" not in stderr, f"{name}: nothing is left out", stderr)
        check(folder.carried() == {"config.json", *files}, f"{name}: all is carried", folder.carried())
        out, stderr = folder.export()
        for file, content in files.items():
            check((out / file).read_bytes() == content.encode(), f"{name}: {file} comes back")
        check("a loader may miss" not in stderr, f"{name}: nothing to warn of", stderr)
        check(folder.verify()["left_out"] == [], f"{name}: verified")


def check_left_out(tools: pathlib.Path, work: pathlib.Path) -> None:
    """What is not carried is named by every tool, and a second conversion beside its own outputs makes the same bytes."""
    folder = Folder(tools, work, "mixed")
    missed = {
        "mtp.safetensors": tensor_file({"mtp.fc.weight": MATRIX}),
        "colbert_linear.pt": "x",
        "lexicon.fst": "x",
        "language_model/5gram.bin": "x",
        "adapter_config.json": "{}",
    }
    harmless = {
        "consolidated.safetensors": tensor_file({"output.weight": MATRIX}),
        "pytorch_model.bin": "x",
        "onnx/model.onnx": "x",
        "training_args.bin": "x",
        "hf_quant_config.json": "{}",
        "logo.png": "x",
    }
    folder.write(missed | harmless | {".gitattributes": "x", ".cache/x": "x"})
    stderr = folder.convert()
    names = {name.split("/")[0] for name in missed}
    lines = stderr.splitlines()
    warning = next(line for line in lines if "warning: left out" in line)
    note = next(line for line in lines if "left out" in line and "warning" not in line)
    check(all(name in warning for name in names), "the warning names what a loader may miss", warning)
    check(all(name.split("/")[0] in note for name in harmless), "a note names the others", note)
    check(folder.carried() == {"config.json"}, "nothing of it is carried", folder.carried())

    plan = folder.plan()
    told = {file["name"].split("/")[0]: file["warning"] for file in plan["left_out"]}
    check({name for name, warned in told.items() if warned} == names, "the plan says the same", told)
    text = folder.tools.run("q4convert", folder.path, "-o", "plan.q4", "--dry-run").stdout
    check("left out" in text and "mtp.safetensors  (weights that the checkpoint does not name)" in text, "the dry run", text)
    recorded = folder.inspect()["left_out"]
    check({file["name"].split("/")[0] for file in recorded} == {n.split("/")[0] for n in missed | harmless}, "it is on record", recorded)
    check(recorded == folder.inspect()["provenance"]["left_out"], "in the provenance")
    shown = folder.tools.run("q4inspect", folder.q4).stdout
    check("left out" in shown and "5 of which a loader may miss" in shown, "q4inspect shows it", shown)

    first = folder.q4.read_bytes()
    for name in ("model.q4", "model.q4.journal", "model.q4.partial", "model-00001-of-00002.q4", ".nfs0001", "bnb/q4_export.json"):
        folder.write({name: "an output of q4"})
    stderr = folder.convert()
    check(folder.q4.read_bytes() == first, "outputs and hidden files in the folder change no byte")
    check("an output of q4" in stderr, "they are named all the same", stderr)

    _, stderr = folder.export()
    check("warning: the container was made without" in stderr and "mtp.safetensors" in stderr, "the export says so too", stderr)


def check_verify(tools: pathlib.Path, work: pathlib.Path) -> None:
    """q4verify looks into the folder itself: what a loader would miss must be on record."""
    folder = Folder(tools, work, "verified")
    folder.write({"mtp.safetensors": tensor_file({"mtp.fc.weight": MATRIX})})
    folder.convert()
    report = folder.verify()
    check([f["name"] for f in report["left_out"]] == ["mtp.safetensors"], "what is on record is told", report["left_out"])
    text = folder.tools.run("q4verify", folder.q4, "--against", folder.path, "--progress", "none").stdout
    check("1 that a loader may miss: mtp.safetensors" in text, "in text as well", text)
    folder.write({"logo.png": "x", "report.html": "x", "new.q4": "x"})
    check(folder.verify()["passed"], "what no loader reads may come later")
    for name in ("extra.safetensors", "head.pt", "speech/lm.bin", "tok.fst"):
        folder.write({name: "x"})
        findings = folder.verify(6)["findings"]
        check([f["issue"] for f in findings] == [6520] and name.split("/")[0] in findings[0]["message"], f"{name} is missed", findings)
        (folder.path / name).unlink()
        if "/" in name:
            (folder.path / name).parent.rmdir()
    folder.write({"source.spm": "x"})
    check([f["issue"] for f in folder.verify(6)["findings"]] == [6214], "a tokenizer that is not embedded")


def check_code(tools: pathlib.Path, work: pathlib.Path) -> None:
    asks = {
        "config": {"config.json": json.dumps(CONFIG | {"auto_map": {"AutoModelForCausalLM": "modeling_my.My"}})},
        "tokenizer": {"tokenizer_config.json": '{"auto_map": {"AutoTokenizer": ["tok_my.Slow", null]}}'},
        "processor": {"preprocessor_config.json": '{"auto_map": {"AutoImageProcessor": "image_my.My"}}'},
    }
    for name, files in asks.items():
        folder = Folder(tools, work, f"code-{name}")
        folder.write(files | {"modeling_my.py": "pass", "helper.py": "pass"})
        stderr = folder.convert()
        check("trust_remote_code=True" in stderr and "auto_map" in stderr and "helper.py" in stderr, f"{name}: said", stderr)
        out, stderr = folder.export()
        check("trust_remote_code=True" in stderr and "warning" in stderr, f"{name}: said by the export", stderr)
        check(not list(out.glob("*.py")), f"{name}: never carried", list(out.iterdir()))
    folder = Folder(tools, work, "code-unused")
    folder.write({"convert_weights.py": "pass"})
    stderr = folder.convert()
    check("convert_weights.py (code, which is never carried)" in stderr and "warning" not in stderr, "only a note", stderr)


def check_native(tools: pathlib.Path, work: pathlib.Path) -> None:
    """A model in its maker's layout: the folder says that all of it is the model's, and the head is kept."""
    folder = Folder(tools, work, "native", "consolidated.safetensors", config=None)
    head = {name: MATRIX for name in ("tok_embeddings.weight", "output.weight", "layers.0.attention.wq.weight")}
    folder.write({"consolidated.safetensors": tensor_file(head), "params.json": "{}", "tekken.json": "{}"})
    folder.convert()
    check(folder.carried() == {"params.json", "tekken.json"}, "carried", folder.carried())
    quantized = {tensor["name"] for tensor in folder.plan()["tensors"] if tensor["quantized"]}
    check(quantized == {"layers.0.attention.wq.weight"}, "head and embedding stay", quantized)

    lone = Folder(tools, work, "lone", "weights.safetensors", config=None)
    lone.write({"tokenizer.json": "{}"})
    done = lone.tools.run("q4convert", lone.path / "weights.safetensors", "-o", lone.q4, "--progress", "none")
    check("give the folder" in done.stderr and not lone.carried(), "a lone file says what it did not look at", done.stderr)
    lone.convert()
    check(lone.carried() == {"tokenizer.json"}, "the folder given", lone.carried())


def check_odd(tools: pathlib.Path, work: pathlib.Path) -> None:
    """Names, links, special files and crowds cannot hurt: they are told, escaped, and summarised."""
    folder = Folder(tools, work, "odd")
    os.mkfifo(folder.path / "pipe.json")
    (folder.path / "link.bin").symlink_to("/etc/passwd")
    (folder.path / "away").symlink_to("/")
    folder.write({f"shard-{i:05}.bin": "x" for i in range(300)} | {"evil\x1b[31m\n.safetensors": "x"})
    with open(os.path.join(os.fsencode(folder.path), b"\xff\xfe.json"), "wb") as file:
        file.write(b"{}")
    stderr = folder.convert()
    check("\x1b" not in stderr and "\\x1b[31m\\x0a.safetensors" in stderr, "escaped", stderr)
    check("pipe.json" in stderr and "\\xff\\xfe.json" in stderr and "away/ (a link)" in stderr, "named", stderr)
    check("more (weights or data beside the weights that are read)" in stderr and len(stderr) < 3000, "summarised", len(stderr), stderr)
    listed = folder.plan()["left_out"]
    check(len(listed) < 30 and any("more" in file["name"] for file in listed), "also in the plan", listed)
    check(folder.verify()["passed"], "and verified")
    if os.geteuid() != 0:
        (folder.path / "closed").mkdir(mode=0)
        check("closed/ (cannot be read)" in folder.convert(), "an unreadable folder is named")
        (folder.path / "closed").chmod(0o700)


def check_names(tools: pathlib.Path, work: pathlib.Path) -> None:
    """A companion whose name no container may hold is left out by name; of twins the first is carried."""
    folder = Folder(tools, work, "names")
    odd = ["README_\u4e2d\u6587.md", "cafe\u0301.json", "\u202egnp.json", "a\u200bb.json", "CON.json", "aux.txt", "com1.md", "x.json ", "-rf.json",
           "LICENSE:Zone.Identifier", "tokenizer.exe", "tokenizer.model.vbs", "vocab.lnk", "a$(id).json", "x.index.en.json", "desktop.ini"]
    folder.write({name: "{}" for name in odd} | {"README.md": "b", "ReadMe.MD": "a", "License": "l", "LICENSE": "l"})
    stderr = folder.convert()
    check(folder.carried() == {"config.json", "README.md", "LICENSE"}, "only safe names are carried", folder.carried())
    told = {file["name"]: file for file in folder.plan()["left_out"]}
    for name in odd:
        if name != "desktop.ini":  # a file of the system's, as .DS_Store is
            # As they are shown: what a terminal would act on is escaped.
            shown = [file for file in told.values() if file["reason"].startswith(("a name that", "of an unknown kind", "code", "an index", "perhaps"))]
            check(any(name in file["name"] or "\\x" in file["name"] for file in shown), name, told)
    check("'README.md' differs only in case" in told["ReadMe.MD"]["reason"], told)
    check("'LICENSE' differs only in case" in told["License"]["reason"], told)
    check("warning" in stderr and "CON.json" in stderr, "and said", stderr)
    out, _ = folder.export()
    check({path.name for path in out.iterdir()} >= {"README.md", "LICENSE"} and not (out / "CON.json").exists(), "the export has those alone")
    check(folder.verify()["passed"], "and all of it is on record")


def check_named_weights(tools: pathlib.Path, work: pathlib.Path) -> None:
    """transformers_weights is followed as transformers follows it, and no export has it."""
    folder = Folder(tools, work, "named", config=CONFIG | {"transformers_weights": "other.safetensors"})
    folder.write({"other.safetensors": tensor_file({"model.layers.7.mlp.up_proj.weight": MATRIX})})
    stderr = folder.convert()
    check("model.safetensors" in stderr and "warning" in stderr, "what is not loaded is named", stderr)
    names = [tensor["name"] for tensor in json.loads(folder.tools.run("q4inspect", folder.q4, "--tensors", "--json").stdout)["tensors"]]
    check(names == ["model.layers.7.mlp.up_proj.weight"], "the weights that are loaded are converted", names)
    check(folder.verify()["passed"], "and compared")
    for to in ("bnb", "safetensors"):
        out = folder.path.parent / f"named-{to}"
        folder.tools.run("q4export", folder.q4, "--to", to, "--no-card", "-o", out, "--progress", "none")
        config = json.loads((out / "config.json").read_text())
        check("transformers_weights" not in config and config["model_type"] == "llama", to, config)
        lint = json.loads(folder.tools.run("q4inspect", out, "--lint", "--json").stdout)
        check(lint["tensors"] > 0, "lint reads the export", lint)
    # Of other folders' configurations, too, in any case and spelling, whoever made the container.
    texts = {"1_Pooling/config.json": b'{"transformers\\u005fweights": "x.safetensors", "a": 1}', "sub/CONFIG.json": b'{"transformers_weights": 7, "a": 1}'}
    inner = {"text_config": {"transformers_weights": "x", "b": 1}, "attn_implementation": "evil/kernel", "vision": {"_attn_implementation": "sdpa"}}
    files = [(name.encode(), text) for name, text in sorted({**texts, "config.json": json.dumps(inner).encode()}.items())]
    folder.q4.with_name("forged.q4").write_bytes(container_bytes.build([container_bytes.raw()], files=files))
    folder.tools.run("q4export", "forged.q4", "--to", "safetensors", "-o", "forged", "--progress", "none")
    left = json.loads((work / "forged" / "config.json").read_text())
    check(left == {"text_config": {"b": 1}, "vision": {"_attn_implementation": "sdpa"}}, "inner configurations, and code of a repository", left)
    for name in texts:
        check(json.loads((work / "forged" / name).read_text()) == {"a": 1}, "a configuration in a folder", name)
    for value in ('"../other.safetensors"', '"/tmp/x.safetensors"', '"none.safetensors"', '"adapter_model.bin"', "1"):
        (folder.path / "config.json").write_text('{"model_type": "llama", "transformers_weights": %s}' % value)
        done = folder.tools.run("q4convert", folder.path, "-o", "no.q4", "--progress", "none", code=3)
        check("Q4-3640" in done.stderr and "transformers_weights" in done.stderr, value, done.stderr)
        done = folder.tools.run("q4inspect", folder.path, "--lint", "--json", code=6)
        check("file-malformed" in done.stdout, "lint says so, too", done.stdout)
    # What a loader loads besides is named: no verdict speaks of it.
    other = Folder(tools, work, "other", config=CONFIG | {"speculators_config": {"verifier": {"name_or_path": "evil/model"}}})
    other.write({"processor_config.json": '{"audio_tokenizer": {"audio_tokenizer_name_or_path": "owner/codec"}}'})
    for stderr in (other.convert(), other.export()[1]):
        check("another model (evil/model, owner/codec)" in stderr and "warning" in stderr, "other models are named", stderr)


def main() -> int:
    tools = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory).resolve()
        for part in (check_carried, check_left_out, check_verify, check_code, check_native, check_odd, check_names, check_named_weights):
            part(tools, work)
    print(f"model_folder_test: {checks.count()} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
