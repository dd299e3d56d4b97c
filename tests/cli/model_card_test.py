#!/usr/bin/env python3
"""The model card of exports and containers: what it says is what the container has; the original's is kept byte for byte; who gets one
and who does not; hostile cards.

Usage: model_card_test.py DIR     the folder of the tools
"""

import json
import pathlib
import random
import re
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import safetensors_bytes  # noqa: E402
import checks  # noqa: E402
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
ODD = "model.layers.1.mlp.up|`proj\n# x.weight"


class Bench(Tools):
    def convert(self, name, card=None, config=CONFIG, options=(), card_name="README.md", more=None):
        """The container of a small model whose folder has this card."""
        rng = random.Random(1)
        folder = self.work / name
        folder.mkdir()
        data = lambda: b"".join(struct.pack("<f", rng.gauss(0, 0.02))[2:] for _ in range(8192))  # noqa: E731
        names = ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight", *(more or ()))
        (folder / "model.safetensors").write_bytes(safetensors_bytes.tensor_file({tensor: ("BF16", (64, 128), data()) for tensor in names}))
        if config is not None:
            (folder / "config.json").write_text(json.dumps(config))
        if card is not None:
            (folder / card_name).write_bytes(card)
        self.run("q4convert", name, "-o", f"{name}.q4", "-q", *options)
        return f"{name}.q4"

    def export(self, container, out, *options, to="bnb"):
        self.run("q4export", container, "-o", out, "--to", to, "-q", *options)
        return {path.relative_to(self.work / out).as_posix(): path.read_bytes() for path in (self.work / out).rglob("*") if path.is_file()}


def head_of(card):
    """The YAML of a card, in the few forms in which it is written; and the rest."""
    text = card.decode()
    check(text.startswith("---\n"), "begins with a head", text[:50])
    head, rest = text[4:].split("\n---\n", 1)
    members = {}
    for line in head.split("\n"):
        if line.startswith("- "):
            members[key].append(line[2:])  # noqa: F821
            continue
        key, value = re.fullmatch(r"([a-z_]+):(?: ([A-Za-z0-9][A-Za-z0-9./_:%?=&~+-]*))?", line).groups()
        members[key] = value if value is not None else []
    return members, rest


def test_what_it_says(bench):
    original = b"---\nlicense: apache-2.0 # free\nlanguage: en\npipeline_tag: text-generation\ntags:\n- x\n---\n# Mine\n\nText.\n"
    container = bench.convert("plain", original)
    files = bench.export(container, "plain-bnb", "--base-model", "owner/Name-1.0")
    check(files["README.original.md"] == original, "the original's card is kept byte for byte")
    head, text = head_of(files["README.md"])
    check(head == {"base_model": "owner/Name-1.0", "base_model_relation": "quantized", "library_name": "transformers", "license": "apache-2.0",
                   "pipeline_tag": "text-generation", "tags": ["4-bit", "bitsandbytes", "nf4", "q4"]}, "its head", head)  # fmt: skip
    report = json.loads(bench.run("q4verify", container, "--json").stdout)
    check(f"sha256:{report['root_sha256']}" in text, "the seal", text)
    totals = report["model"]
    check(f"NMSE {totals['nmse']:.6f}, SQNR {totals['sqnr_db']:.3f} dB" in text, "the error", text, totals)
    worst = max(report["tensors"], key=lambda tensor: tensor["stats"]["nmse"])
    check(f"`{worst['name']}`, NMSE {worst['stats']['nmse']:.6f}" in text, "the worst tensor", text)
    check("| nf4 b64 dq | 2 | 16,384 |" in text and "README.original.md" in text, "settings, and the other card", text)
    check("AutoModelForCausalLM" in text and "vllm serve" in text and "model.safetensors" in text, "how to load it, and what it was made of", text)
    listed = {file["name"]: file for file in json.loads(files["q4_export.json"])["files"]}
    check({"README.md", "README.original.md"} <= set(listed), "both are in the record, so that --force knows them", listed)
    check(bench.export(container, "again", "--base-model", "owner/Name-1.0") == files, "the same again")
    check(bench.export(container, "plain-bnb", "--base-model", "other/x", "--force")["README.md"] != files["README.md"], "is replaced with --force")
    for odd in ("", "/", "a/b/c", "-a/b", "a/.b", "a b", "x/y\n", "a/b#c"):
        bench.run("q4export", container, "-o", "none", "--to", "bnb", f"--base-model={odd}", code=1)
    bench.run("q4export", container, "-o", "none", "--to", "bnb", "--base-model", "a/b", "--no-card", code=1)


def test_who_gets_one(bench):
    container = bench.convert("who", b"# Mine\n")
    check("README.original.md" not in (files := bench.export(container, "no", "--no-card")) and files["README.md"] == b"# Mine\n", "--no-card")
    dequantized = bench.export(container, "dequantized", to="safetensors")
    check(dequantized["README.md"] == b"# Mine\n", "not what is dequantized")
    asked = bench.export(container, "asked", "--card", to="safetensors")
    head, text = head_of(asked["README.md"])
    check(asked["README.original.md"] == b"# Mine\n" and head["tags"] == ["nf4", "q4"] and "decoded from 4 bits" in text, "unless it is asked for", head)
    bench.run("q4export", container, "-o", "one.safetensors", "--to", "safetensors", "--card", code=1)
    part = bench.export(container, "part", "--tensor", "up_proj")
    check(part["README.md"] == b"# Mine\n", "not a part of a model")
    # Somebody's folder keeps his README.
    (bench.work / "his").mkdir()
    (bench.work / "his/README.md").write_bytes(b"his")
    bare = bench.convert("bare")
    check(bench.export(bare, "his", "--into")["README.md"] == b"his", "his stays")
    bench.run("q4export", bare, "-o", "his", "--to", "bnb", "--into", "--card", "--force", code=1)
    check((bench.work / "his/README.md").read_bytes() == b"his", "and is never replaced")
    # Weights that were taken over come back as they were.
    bench.export(container, "bnb", "--no-card")
    bench.run("q4convert", "bnb", "-o", "taken.q4", "-q")
    back = bench.export("taken.q4", "back")
    check(back["README.md"] == b"# Mine\n" and back["model.safetensors"] == (bench.work / "bnb/model.safetensors").read_bytes(), "as they were")
    check(head_of(bench.export("taken.q4", "back-card", "--card")["README.md"])[0]["tags"][0] == "4-bit", "with --card they get one, too")


def test_exports_of_exports(bench):
    """A card of ours is replaced, not kept beside: cards do not pile up."""
    container = bench.convert("first", b"---\nlicense: mit\n---\nMine\n")
    first = bench.export(container, "decoded", "--card", to="safetensors")
    bench.run("q4convert", "decoded", "-o", "second.q4", "-q")
    second = bench.export("second.q4", "second")
    check(second["README.original.md"] == first["README.original.md"] == b"---\nlicense: mit\n---\nMine\n", "the first one stays")
    check(not [name for name in second if name.startswith("README.original-")], "no other", sorted(second))
    head, text = head_of(second["README.md"])
    check(head["license"] == "mit" and "README.original.md" in text, "the licence goes on", head)
    # Where the name is taken by a file that is none of ours, there is another one.
    taken = bench.convert("taken-name", b"two", options=())
    (bench.work / "taken-name/README.original.md").write_bytes(b"one")
    bench.run("q4convert", "taken-name", "-o", taken, "-q", "--force")
    both = bench.export(taken, "both")
    check(both["README.original.md"] == b"one" and both["README.original-2.md"] == b"two", "both are kept", sorted(both))


def test_hostile_cards(bench):
    long = b"---\nlicense: mit\n" + b"x: y\n" * 20000 + b"---\n"
    cases = {
        "no head": (b"license: mit\n", None),
        "not terminated": (b"---\nlicense: mit\ntext\n", None),
        "not UTF-8": (b"---\nlicense: mit\nx: \xff\xfe\n---\n\xff\xff", "mit"),
        "too long a head": (long, None),
        "huge": (b"---\nlicense: mit\n---\n" + b"z" * (20 << 20), "mit"),
        "empty": (b"", None),
        "CRLF and BOM": (b"\xef\xbb\xbf---\r\nlicense: 'cc-by-4.0'\r\n---\r\n", "cc-by-4.0"),
        "a list": (b"---\nlicense:\n  - mit\n- apache-2.0\nother:\n- x\n---\n", ["mit", "apache-2.0"]),
        "an injection": (b'---\nlicense: "mit\\n---\\n# x"\nlicense_name: a: b\nlicense_link: "javascript:x y"\n---\n', None),
        "nested": (b"---\nmodel:\n  license: gpl\nlicenses: x\n---\n", None),
        "an anchor": (b"---\nlicense: &a mit\n---\n", None),
        "an alias": (b"---\nlicense: *a\n---\n", None),
        "NUL": (b"---\nlicense: mit\0x\n---\n", None),
        "twice": (b"---\nlicense: mit\nlicense: gpl-3.0\n---\n", "gpl-3.0"),
    }
    for i, (name, (card, expected)) in enumerate(cases.items()):
        container = bench.convert(f"hostile{i}", card)
        files = bench.export(container, f"hostile{i}-bnb")
        head, _ = head_of(files["README.md"])
        check(head.get("license") == expected, name, head)
        check(files["README.original.md"] == card, "kept", name)
    named = bench.convert("named", b"---\nlicense: other\nlicense_name: llama3\nlicense_link: https://x.org/LICENSE?a=1\n---\n")
    head, _ = head_of(bench.export(named, "named-bnb")["README.md"])
    check(head["license_name"] == "llama3" and head["license_link"] == "https://x.org/LICENSE?a=1", "a licence of its own", head)
    small = bench.export(bench.convert("small", b"small", card_name="Readme.MD"), "small-bnb")
    check("README.md" in small and small["README.original.md"] == b"small" and "Readme.MD" not in small, "in any case", sorted(small))
    # Names of tensors mean nothing in Markdown, and a class that is none is not named.
    odd = bench.convert("odd", config={"architectures": ["x\n---\n# y"], "model_type": "llama"}, more=[ODD])
    text = bench.export(odd, "odd-bnb")["README.md"].decode()
    check("\n# x" not in text and "# y" not in text and text.count("\n# ") == 1, "escaped", text)


def test_others(bench):
    container = bench.convert("containers", b"---\nlicense: mit\n---\n")
    card = bench.run("q4inspect", container, "--card", "--base-model", "a/b").stdout.encode()
    head, text = head_of(card)
    check(head == {"base_model": "a/b", "base_model_relation": "quantized", "license": "mit", "tags": ["4-bit", "nf4", "q4"]}, "a container's", head)
    check("q4.transformers.load" in text and "is inside" in text, "how to load it", text)
    bench.run("q4inspect", "containers", "--card", code=1)
    bench.run("q4inspect", container, "--card", "--json", code=1)
    bench.run("q4inspect", container, "--base-model", "a/b", code=1)
    bench.run("q4convert", "containers", "-o", "parts.q4", "--shard-size", "5KB", "-q")
    whole = bench.run("q4inspect", "parts.q4.index.json", "--card").stdout
    check("| nf4 b64 dq | 2 |" in whole, "of all parts", whole)
    part = sorted(path.name for path in bench.work.glob("parts-*.q4"))[0]
    bench.run("q4inspect", part, "--card", code=1)
    component = bench.convert("component", config={"_class_name": "FluxTransformer2DModel"}, options=("--include", "proj"))
    files = bench.export(component, "component-bnb", "--unloadable", "keep4bit")
    head, text = head_of(files["README.md"])
    check(head["library_name"] == "diffusers" and "from diffusers import FluxTransformer2DModel" in text, "a component's", head, text)
    # Of a pipeline each component that was converted gets one, and the pipeline's own stays.
    (bench.work / "pipeline").mkdir()
    (bench.work / "component").rename(bench.work / "pipeline/transformer")
    (bench.work / "pipeline/transformer/model.safetensors").rename(bench.work / "pipeline/transformer/diffusion_pytorch_model.safetensors")
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (bench.work / "pipeline/model_index.json").write_text(json.dumps(index))
    (bench.work / "pipeline/README.md").write_bytes(b"the pipeline's")
    bench.run("q4convert", "pipeline", "-o", "pipeline-q4", "--include", "proj", "-q")
    files = bench.export("pipeline-q4", "pipeline-bnb", "--unloadable", "keep4bit", "--base-model", "a/b")
    head, text = head_of(files["transformer/README.md"])
    check(head["base_model"] == "a/b" and files["README.md"] == b"the pipeline's", "of a pipeline", sorted(files))
    bench.export("pipeline-q4", "no-cards", "--unloadable", "keep4bit", "--no-card")
    check(not (bench.work / "no-cards/transformer/README.md").exists(), "and none with --no-card")


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="q4-card-") as work:
        bench = Bench(folder, pathlib.Path(work))
        for test in (test_what_it_says, test_who_gets_one, test_exports_of_exports, test_hostile_cards, test_others):
            test(bench)
        print(f"model_card: {checks.count()} checks hold")


if __name__ == "__main__":
    main()
