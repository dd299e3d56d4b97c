#!/usr/bin/env python3
"""Output is text: whatever the files say that a tool reads, no control, no mark of direction and no invisible character of theirs reaches
a terminal, a log or a report, and what is shown as an escape is one.

    output_test.py TOOLS CHECKPOINTS

Each input is made twice. In the first every text that a file can hold (names of tensors, files, folders and shards, metadata, values of
configurations, provenance, notes, gates, recipes, baselines, command lines) has all kinds of such characters in it; in the second their
escapes are spelled out instead. Every tool is run on both in every output mode. What is printed of the first must hold no such character and
no escaped backslash, and of the second no escape of a character, since it has none.
"""

import html
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unicodedata
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
for folder in ("support", "hostile"):
    sys.path.insert(0, str(HERE.parent / folder))
import checks  # noqa: E402  (the path above)
import container_bytes as q4  # noqa: E402
import safetensors_bytes as st  # noqa: E402
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402

# Of each kind some: a terminal's commands, ends of lines, C1, directions, what shows nothing, and no characters.
REAL = "\x1b[2J\x1b]0;OWNED\x07\r\n\x7f\x85\x9b\u061c\u200e\u202e\u2066\u200b\u200d\u00ad\u2060\ufeff\ufe0f\u115f\u2028\U000e0041\ufffe"
TWIN = "".join("".join(f"\\x{byte:02x}" for byte in c.encode()) if not 0x20 <= ord(c) < 0x7F else c for c in REAL)
INVISIBLE = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000)}
OWN_COLOURS = re.compile("\x1b\\[[0-9;]*m")
# Of Printable(), but for what JSON makes of a backslash.
SHOWN_ESC = re.compile(r"(?<!\\)\\x1b")
SHOWN_BACKSLASH = re.compile(r"\\x5cx")


def unsafe(text: str) -> str:
    def is_bad(c: str) -> bool:
        kind = unicodedata.category(c)
        return kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n" or ord(c) in INVISIBLE or ord(c) & 0xFFFE == 0xFFFE

    return "".join(sorted({c for c in text if is_bad(c)}))


class World:
    """A folder with inputs that have `mark` in each of their texts, and the tools that run in it."""

    def __init__(self, tools: pathlib.Path, work: pathlib.Path, mark: str, checkpoints: pathlib.Path):
        self.tools, self.work, self.mark, self.is_twin = Tools(tools, work), work, mark, mark == TWIN
        self.runs = self.texts = self.marked = 0
        self.make(checkpoints)

    def write(self, name: str, content) -> pathlib.Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
        return path

    def text(self, document) -> str:
        return json.dumps(document, ensure_ascii=True)

    def weights(self, names, **rest) -> bytes:
        return st.tensor_file({name: ("F32", (64, 64), st.floats(*[(i % 31 - 15) / 16 for i in range(4096)])) for name in names}, **rest)

    def make(self, checkpoints: pathlib.Path) -> None:
        m, in_file = self.mark, self.mark.replace("/", "_")
        layer = f"model.layers.0.{m}.up_proj.weight"
        broken = {f"{m}.nan.weight": ("F32", (64, 64), st.floats(*[float("nan")] * 4096)), f"{m}.ids": ("I64", (2,), bytes(16))}
        good = {layer: ("F32", (64, 64), st.floats(*[(i % 31 - 15) / 16 for i in range(4096)])),
                f"a{m}.weight": ("F32", (64, 64), st.floats(*[(i % 29 - 14) / 16 for i in range(4096)]))}
        metadata = {f"k{m}": f"v{m}", "format": m}
        config = {"model_type": m, "architectures": [m], "torch_dtype": m, m: m, "auto_map": {"AutoModel": f"{m}.py--{m}.C"}, "vocab_size": m}
        for name, tensors in (("nan", {**good, **broken}), ("in", good)):
            self.write(f"{name}/model.safetensors", st.tensor_file(tensors, metadata=metadata))
            self.write(f"{name}/config.json", self.text(config))
            self.write(f"{name}/tokenizer_config.json", self.text({"auto_map": {"AutoTokenizer": [m, None]}, "tokenizer_class": m}))
            for other in (f"x{in_file}.json", f"{in_file}.py", f"y{in_file}.bin", f"z{in_file}.model", f".{in_file}", "LICENSE:Zone.Identifier",
                          f"t{in_file}.txt", f"{in_file}.safetensors", f"onnx{in_file}/model.onnx", f"{in_file}_tokenizer/tokenizer.json"):
                self.write(f"{name}/{other}", "{}")
            for other in (b"caf\xe9.json", b"\xff\x9b.txt", b"\xed\xa0\x80.model"):
                with open(os.path.join(os.fsencode(self.work), name.encode(), other), "wb") as file:
                    file.write(b"{}")
        # Names of folders and shards.
        names = [layer, f"a{m}.weight"]
        shard = f"s{in_file}.safetensors"
        self.write(f"folder{in_file}/{shard}", self.weights(names))
        self.write(f"folder{in_file}/model.safetensors.index.json", self.text(
            {"metadata": {m: m, "total_size": m}, m: m, "weight_map": {name: shard for name in names}}))
        self.write(f"lost/model.safetensors.index.json", self.text({"weight_map": {m: f"gone{in_file}.safetensors"}}))
        self.write(f"wrong/model.safetensors.index.json", self.text({"weight_map": {m: f"../{in_file}"}}))
        self.write("modules/modules.json", self.text([{"idx": 0, "name": m, "path": "", "type": m}, {"idx": 1, "name": m, "path": f"1_{in_file}", "type": m}]))
        self.write("modules/model.safetensors", self.weights([m]))
        self.write(f"modules/1_{in_file}/model.safetensors", self.weights([m]))
        self.write("router/modules.json", self.text([{"path": f"{m}/../.."}]))
        self.write("router/model.safetensors", self.weights([m]))
        for name in "12":
            self.write(f"two/{name}{in_file}.safetensors", self.weights([m]))
        # Halves of pairs, which Python's json reads and no UTF-8 holds.
        lone = "\ud83dx\udc00"
        self.write("lone/config.json", self.text({"model_type": lone, "architectures": [lone], lone: lone, "dtype": lone, "quantization_config": {lone: lone}}))
        self.write("lone/model.safetensors", self.weights([layer], metadata={"k": "v"}))
        # Quantized by others, adapters, pipelines.
        for name, quantization in (("method", {"quant_method": m}), ("field", {"quant_method": "gptq", m: m}), ("none", {m: m}),
                                   ("bnb", {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": m,
                                            "bnb_4bit_compute_dtype": m, "llm_int8_skip_modules": [m]})):
            self.write(f"quantized_{name}/config.json", self.text({**config, "quantization_config": quantization}))
            self.write(f"quantized_{name}/model.safetensors", self.weights([layer]))
        self.write("adapter/adapter_config.json", self.text({"base_model_name_or_path": m, "peft_type": m, m: m}))
        self.write("adapter/adapter_model.safetensors", self.weights([f"base_model.{m}.lora_A.weight"]))
        self.write("pipeline/model_index.json", self.text({"_class_name": m, m: [m, m], "unet": [m, m]}))
        self.write("pipeline/unet/diffusion_pytorch_model.safetensors", self.weights([m]))
        state = {"quant_type": m, "blocksize": m, "shape": [m], "dtype": m}
        self.write("state/model.safetensors", st.tensor_file({
            f"{m}.weight": ("U8", (32, 1), bytes(32)), f"{m}.weight.absmax": ("F32", (1,), bytes(4)),
            f"{m}.weight.quant_map": ("F32", (16,), bytes(64)),
            f"{m}.weight.quant_state.bitsandbytes__nf4": ("U8", (len(self.text(state)),), self.text(state).encode())}))
        # Weights that are wrong, each with the name of what is wrong.
        entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        for i, header in enumerate(({m: {**entry, "dtype": m}}, {m: {**entry, m: m}}, {m: {**entry, "data_offsets": [0, 8]}}, {m: m}, {m: {**entry, "shape": [m]}})):
            self.write(f"bad{i}.safetensors", st.frame(json.dumps(header), bytes(4)))
        self.write("bad5.safetensors", st.frame('{"' + "\\u0061" + '":', b""))
        self.write("text.safetensors", m)
        self.write("not.json", m)
        # Gates, recipes, baselines.
        rules = [{"name": m, "match": ".", "max_nmse": 0}, {"name": f"2{m}", "scope": "role", "match": re.escape(m)[:20], "optional": True, "max_nmse": 0},
                 {"scope": "layer", "name": f"3{m}", "max_nmse": 0}, {"scope": "model", "name": f"4{m}", "max_nmse": 0}]
        self.write("broken.gate", self.text({"rules": rules}))
        self.write("nothing.gate", self.text({"rules": [{"name": m, "match": "^nothing$", "max_nmse": 1}]}))
        for i, rule in enumerate(({m: 1}, {"match": m + "(", "max_nmse": 1}, {"scope": m, "max_nmse": 1}, {"type": m, "max_nmse": 1}, {"max_nmse": m})):
            self.write(f"bad{i}.gate", self.text({"rules": [rule]}))
        self.write(f"bad5.gate", self.text({"rules": [], m: 1}))
        for i, rule in enumerate(({"match": ".", m: 1}, {"match": m + "("}, {"match": ".", "type": m}, {"match": ".", "encoder": m}, {"match": m, "keep": True},
                                  {"match": ".", "block_size": m})):
            self.write(f"bad{i}.recipe", self.text({"rules": [rule]}))
        self.write("good.recipe", self.text({"rules": [{"match": re.escape("a") + ".*", "block_size": 128}]}))
        # Containers: of q4, and of a forger.
        self.run("q4convert", "in", "-o", "m.q4", "--recipe", "good.recipe")
        self.run("q4convert", "in", "-o", "s.q4", "--shard-size", "1KB", "--keep-dtype", "same")
        self.run("q4convert", "in", "-o", "other.q4", "--type", "fp4", "--exclude", "a.*weight$")
        provenance = {"numerics": m, "options": {m: m, "type": m, "recipe": self.text({"rules": [{"match": m, "keep": True}]})},
                      "source": {"files": [{"name": m, "size": 1, "sha256": m, m: m}], "format": m},
                      "tool": {"name": m, "version": m}, "left_out": [{"name": m, "reason": m, "warning": True}], m: m}
        # What was left out is recorded as it is shown, so that a forger's raw text is only made harmless.
        for key in ("name", "reason"):
            provenance["left_out"][0][key] = m.replace("\\x", "\\x5cx")
        code = m.encode()
        for i, (tensors, files, record) in enumerate((
                ([q4.nf4(code + b".weight"), q4.raw(b"b" + code)], [q4.FILE], provenance),
                (q4.sample_tensors(), [(b"config.json", self.text(config).encode()), (code.replace(b"/", b"_") + b".json", b"{}")], provenance),
                ([q4.nf4(b"caf\xe9.weight")], [(b"\xff.json", b"{}")], {}),
                (q4.sample_tensors(), [(b"../" + code, b"{}")], {}),
                ([q4.nf4(code), q4.nf4(code)], [], {}))):
            self.write(f"forged{i}.q4", q4.build(tensors, files=files, provenance=self.text(record).encode()))
        self.write("forged5.q4", q4.build(q4.sample_tensors(), provenance=m.encode()))
        document = self.tools.run("q4verify", "m.q4", "--json").stdout
        self.write("base.json", document.replace('"nmse": 0.', '"nmse": 0.0000'))
        self.write("bad.json", self.text({"document": m, m: m}))
        baseline = json.loads(document)
        baseline["tensors"].append({**next(t for t in baseline["tensors"] if t["stats"]), "name": f"gone{m}"})
        self.write("gone.json", self.text(baseline))

    def run(self, tool: str, *arguments) -> None:
        """Runs it, and looks at all that it says."""
        command = [self.tools.folder / tool, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, capture_output=True, check=False)
        self.runs += 1
        what = f"{tool} {' '.join(map(str, arguments))!r}"
        check(0 <= done.returncode <= 7 and done.returncode != 4, f"{what} ends with a documented code", done.returncode, done.stderr)
        if "--json" in arguments and done.stdout:
            document = json.loads(done.stdout)
            check(isinstance(document, dict) and done.stdout.isascii(), f"{what} prints one document in ASCII")
        lines = done.stderr.decode().split("\n")
        check(lines[-1] == "" and all(line.startswith((f"{tool}: ", "{")) for line in lines[:-1]), f"{what}: each line begins with the tool", done.stderr)
        for name, output in (("stdout", done.stdout), ("stderr", done.stderr)):
            self.look(f"{what}, {name}", OWN_COLOURS.sub("", output.decode()) if "always" in arguments else output.decode())
        for path in self.work.glob("report.*"):
            text = path.read_bytes().decode()
            self.look(f"{what}, {path.name}", text)
            if path.suffix == ".json":
                json.loads(text)
            elif path.suffix == ".xml":
                for element in ElementTree.fromstring(text).iter():
                    self.look(f"{what}, {path.name}", "\n".join([element.text or "", *element.attrib.values()]))
            else:
                self.look(f"{what}, {path.name}, unescaped", html.unescape(text))
            path.unlink()

    def look(self, what: str, text: str) -> None:
        self.texts += 1
        self.marked += "OWNED" in text
        bad = unsafe(text)
        at = next((i for i, c in enumerate(text) if c in bad), 0)
        check(not bad, f"{what}: no character that acts", bad, text[max(0, at - 80):at + 20])
        wrong = (SHOWN_ESC if self.is_twin else SHOWN_BACKSLASH).search(text)
        check(wrong is None, f"{what}: an escape is shown once, and as what it is", wrong and text[max(0, wrong.start() - 80):wrong.end() + 40])


def flags_of(tools: pathlib.Path, tool: str) -> list:
    """Flags without a value, from the tool's own help."""
    text = subprocess.run([tools / tool, "--help"], capture_output=True, text=True, check=True).stdout
    flags = re.findall(r"^  (?:-\w, )?(--[\w-]+)(?:, --[\w-]+)*(?: {2,}|$)", text, re.MULTILINE)
    check(len(flags) > 4, f"{tool} --help lists its flags", flags)
    return [flag for flag in flags if flag not in ("--help", "--version")]


def look_at_all(world: World, tools: pathlib.Path) -> None:
    m = world.mark
    sources = sorted(path.name for path in world.work.iterdir() if path.is_dir())
    weights = sorted(path.name for path in world.work.glob("*.safetensors"))
    containers = sorted(path.name for path in world.work.glob("*.q4"))
    reports = ("--junit", "report.xml", "--markdown", "report.md", "--html", "report.html")
    for source in [*sources, *weights, "not.json"]:
        for words in (["--dry-run"], ["--dry-run", "--json", "-v"], ["--report", "report.json", "-v", "--on-nonfinite", "keep"], ["--json", "--include", "."]):
            world.run("q4convert", source, "-o", "out.q4", "--force", *words)
        world.run("q4verify", "m.q4", "--against", source, *reports, "-v")
        world.run("q4verify", "other.q4", "--against", source, "--json")
        world.run("q4inspect", "m.q4", "--diff", source)
    views = [flag for flag in flags_of(tools, "q4inspect") if flag not in ("--allow-unmatched", "--follow-symlinks", "--all", "--card")]
    for file in [*containers, *sources, *weights]:
        for view in views:
            world.run("q4inspect", file, view)
        for words in (["--json", "--tensors", "--files", "--stats", "--tree"], ["--tensors", "--files", "--tree", "--hist", "--color", "always"],
                      ["--lint", "--json"], ["--diff", "m.q4", "--json"]):
            world.run("q4inspect", file, *words)
    for container in containers:
        world.run("q4verify", container, *reports, "--gate", "broken.gate", "-v")
        world.run("q4verify", container, "--json", "--gate", "nothing.gate", "--baseline", "gone.json")
        world.run("q4inspect", container, "--diff", "other.q4")
        world.run("q4inspect", "m.q4", "--diff", container)
        for to, words in (("bnb", ["--unloadable", "dequantize"]), ("bnb", ["--json"]), ("safetensors", []), ("safetensors", ["--json", "--dtype", "fp32"])):
            out = f"out_{container}_{to}{len(words)}"
            world.run("q4export", container, "-o", out, "--to", to, *words)
            if (world.work / out).is_dir():
                for view in ([], ["--lint"], ["--tensors"], ["--lint", "--json"]):
                    world.run("q4inspect", out, *view)
    for gate in sorted(path.name for path in world.work.glob("*.gate")):
        world.run("q4verify", "m.q4", "--gate", gate, *reports)
        world.run("q4convert", "in", "-o", "out.q4", "--force", "--gate", gate)
        world.run("q4convert", "in", "-o", "out.q4", "--force", "--gate", gate, "--dry-run")
    for recipe in sorted(path.name for path in world.work.glob("*.recipe")):
        world.run("q4convert", "in", "-o", "out.q4", "--force", "--recipe", recipe, "--allow-unmatched", "--dry-run")
        world.run("q4convert", "in", "-o", "out.q4", "--force", "--recipe", recipe)
    for baseline in ("base.json", "bad.json", "gone.json", "not.json"):
        world.run("q4verify", "m.q4", "--baseline", baseline, *reports)
    # Command lines: the mark as the value of every option, joined and apart, and as a word of its own.
    right = {"q4convert": ["in", "-o", "out.q4", "--force"], "q4inspect": ["m.q4"], "q4verify": ["m.q4"], "q4export": ["m.q4", "-o", "exported", "--to", "bnb"]}
    for tool, words in right.items():
        text = world.tools.run(tool, "--help").stdout
        options = sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text)))
        check(len(options) > 10, f"{tool} --help lists its options", options)
        for option in options:
            world.run(tool, *words, f"{option}={m}")
        world.run(tool, *words, m)
        world.run(tool, *words, f"--{m}")
        world.run(tool, f"absent{m}", *words[1:])
    pattern = "(?:" + m.replace("\\", "\\\\").replace("[", "\\[") + ")|a"
    for words in (["--exclude", pattern], ["--include", pattern], ["--include", pattern + "^nothing$", "--allow-unmatched"]):
        world.run("q4convert", "in", "-o", "out.q4", "--force", "--dry-run", *words)
        world.run("q4convert", "in", "-o", "out.q4", "--force", "-v", *words)
        world.run("q4inspect", "out.q4")
        world.run("q4verify", "out.q4", "--against", "in", *reports)
    world.run("q4verify", "m.q4", "--against", "in", "--tensor", pattern, *reports)
    world.run("q4inspect", "m.q4", "--filter", pattern)
    tensor = next(t["name"] for t in json.loads(world.tools.run("q4inspect", "m.q4", "--tensors", "--json").stdout)["tensors"])
    for words in ([], ["--dump", "0:4"], ["--json"], ["--color", "always"], ["--dump", m]):
        world.run("q4inspect", "m.q4", "--tensor", tensor, *words)
    name = m.replace("/", "_")
    world.run("q4convert", "in", "-o", f"out{name}.q4", "-v", "--report", f"r{name}.json")
    world.run("q4convert", "in", "-o", f"out{name}.q4")
    world.run("q4convert", "in", "-o", f"absent{name}/out.q4")
    world.run("q4export", f"out{name}.q4", "-o", f"exported{name}", "--to", "safetensors")
    world.run("q4export", f"out{name}.q4", "-o", f"exported{name}", "--to", "safetensors")
    world.run("q4verify", f"out{name}.q4", *reports, "--max-nmse", "0")
    world.run("q4verify", f"out{name}.q4", "--html", f"absent{name}/r.html")


def names_of_bytes(tools: pathlib.Path, checkpoints: pathlib.Path) -> None:
    """Names that are not UTF-8, anywhere on the command line: each run does its work or says what is wrong, and what was written is read."""
    with tempfile.TemporaryDirectory() as folder:
        work = os.fsencode(folder)

        def run(tool, *words, code=0, says="") -> None:
            done = subprocess.run([os.fsencode(tools / tool), *words], cwd=work, capture_output=True, check=False)
            check(done.returncode == code and says in done.stderr.decode(), f"{tool} {words} ends with {code}", done.returncode, done.stderr)
            check(not unsafe(done.stdout.decode()), f"{tool} {words} prints text")
            if b"--json" in words:
                json.loads(done.stdout)

        source = (checkpoints / "tiny_plain_src/model.safetensors").read_bytes()
        os.mkdir(os.path.join(work, b"d\xff"))
        for name in (b"caf\xe9.safetensors", b"d\xff/model.safetensors"):
            with open(os.path.join(work, name), "wb") as file:
                file.write(source)
        run("q4convert", b"caf\xe9.safetensors", b"-o", b"c.q4", code=3, says="caf\\xe9.safetensors: the name of a weights file must be UTF-8")
        run("q4convert", b"d\xff", b"-o", b"m\xff.q4", b"--report", b"r\xff.json", b"--json")
        run("q4convert", b"d\xff", b"-o", b"s\xff.q4", b"--shard-size", b"100KB", code=1, says="[Q4-1104]")
        run("q4convert", b"d\xff", b"-o", b"d\xff/s.q4", b"--shard-size", b"100KB")
        run("q4verify", b"d\xff/s.q4.index.json", b"--against", b"d\xff", b"--json")
        run("q4verify", b"m\xff.q4", b"--html", b"h\xff.html", b"--junit", b"h\xff.xml", b"--markdown", b"h\xff.md", b"--json")
        run("q4inspect", b"m\xff.q4", b"--json", b"--tensors", b"--files")
        for to, out in ((b"bnb", b"b\xff"), (b"safetensors", b"p\xff"), (b"safetensors", b"q\xff.safetensors")):
            for again in ([], [b"--force"]):
                run("q4export", b"m\xff.q4", b"-o", out, b"--to", to, b"--json", *again)
            run("q4inspect", out, b"--lint", b"--json")


def main() -> None:
    tools, checkpoints = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    runs = texts = 0
    for mark in (REAL, TWIN):
        with tempfile.TemporaryDirectory() as folder:
            world = World(tools, pathlib.Path(folder), mark, checkpoints)
            look_at_all(world, tools)
            check(world.marked > world.runs // 4, "what the files say is shown", world.marked, world.runs)
            runs, texts = runs + world.runs, texts + world.texts
    names_of_bytes(tools, checkpoints)
    print(f"output: {runs} runs, {texts} texts, {checks.count()} checks")


if __name__ == "__main__":
    main()
