#!/usr/bin/env python3
"""Pipelines of diffusers with calibrations and budgets: a calibration file for each component, one account of bits over all of them, the same bytes as
components alone, proof of the whole, and everything that is refused.

    pipeline_calibrated_test.py TOOLS
"""

import json
import pathlib
import random
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
import safetensors_bytes as st  # noqa: E402
from calibration_bytes import metadata_of, tensors_of  # noqa: E402
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402

QUIET = ("--progress", "none", "--device", "cpu", "-q")
COLUMNS = 128
# Two text encoders of one kind: their tensors have the same names.
INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
TEXT = [f"text_model.encoder.layers.{i}.self_attn.{p}_proj.weight" for i in range(2) for p in "qkv"]
IMAGE = [f"transformer_blocks.{i}.ff.net.2.weight" for i in range(3)]
QUANTIZED = {"text_encoder": TEXT, "text_encoder_2": TEXT, "transformer": IMAGE}


def weights(names, seed, outliers):
    """Normal weights; the components differ in how many large ones there are among them, so that a bit is worth most in one of them."""
    rng = random.Random(seed)
    tensors = {}
    for name in names:
        values = [rng.gauss(0, 0.02) * (12 if rng.random() < outliers else 1) for _ in range(64 * COLUMNS)]
        tensors[name] = ("F32", (64, COLUMNS), st.floats(*values))
    return st.tensor_file(tensors)


def calibration(groups, seed):
    """A Hessian for each list of weights, which share it."""
    rng = random.Random(seed)
    tensors, names = {}, {}
    for group in groups:
        size = [2 ** rng.gauss(0, 1) for _ in range(COLUMNS)]
        common = [s * rng.gauss(0, 1) for s in size]
        rows = [[a * b + (0.3 * s * s if i == j else 0) for j, b in enumerate(common)] for i, (a, s) in enumerate(zip(common, size))]
        tensors |= tensors_of({group[0]: [row[i] for i, row in enumerate(rows)]})
        tensors[f"{group[0]}.hessian"] = ("F32", (COLUMNS, COLUMNS), st.floats(*[value for row in rows for value in row]))
        names |= {name: group[0] for name in group}
    return st.tensor_file(tensors, metadata_of(names))


class Pipeline:
    def __init__(self, tools, work):
        self.path, self.out, self.work = work / "pipe", work / "out", work
        self.tools = Tools(tools, work)
        write = {
            "pipe/model_index.json": json.dumps(INDEX),
            "pipe/scheduler/scheduler_config.json": "{}",
            "pipe/text_encoder/config.json": json.dumps({"model_type": "clip_text_model", "architectures": ["CLIPTextModel"]}),
            "pipe/text_encoder/model.safetensors": weights(TEXT, 1, 0),
            "pipe/text_encoder_2/config.json": json.dumps({"model_type": "clip_text_model", "architectures": ["CLIPTextModelWithProjection"]}),
            "pipe/text_encoder_2/model.safetensors": weights(TEXT, 2, 0.001),
            "pipe/transformer/config.json": json.dumps({"_class_name": "FluxTransformer2DModel"}),
            "pipe/transformer/diffusion_pytorch_model.safetensors": weights(IMAGE, 3, 0.03),
            "pipe/vae/config.json": json.dumps({"_class_name": "AutoencoderKL"}),
            "pipe/vae/diffusion_pytorch_model.safetensors": weights(["decoder.conv_in.weight"], 4, 0),
            "c/text_encoder.safetensors": calibration([TEXT[:3], TEXT[3:]], 5),
            "c/transformer.safetensors": calibration([[name] for name in IMAGE], 6),
            "c/notes.txt": "made by hand\n",
        }
        for name, content in write.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def convert(self, *arguments, code=0, text=""):
        done = self.tools.run("q4convert", self.path, "-o", self.out, "--force", *QUIET, *arguments, code=code)
        check(text in done.stderr, f"stderr has {text}", done.stderr)
        return done

    def verify(self, *arguments, code=0, text=""):
        done = self.tools.run("q4verify", self.out, "--against", self.path, "--progress", "none", *arguments, code=code)
        check(text in done.stderr, f"stderr has {text}", done.stderr)
        return done

    def container(self, component):
        return self.out / component / "model.q4"

    def encoders(self, component):
        document = json.loads(self.tools.run("q4inspect", self.container(component), "--tensors", "--json").stdout)
        return {tensor["name"]: tensor["encoder"] for tensor in document["tensors"]}


def check_calibrations(pipe):
    """Each component has its file; one without is left to mse; a component alone gives the same container."""
    for encoder in ("weighted", "feedback"):
        done = pipe.convert("--encoder", encoder, "--calibration", "c", "--json")
        notes = json.loads(done.stdout)["notes"]
        check(any("text_encoder_2: the folder of calibrations has no text_encoder_2.safetensors" in note and "mse" in note for note in notes), "what has no file", notes)
        for component, names in QUANTIZED.items():
            expected = "mse" if component == "text_encoder_2" else encoder
            check(pipe.encoders(component) == dict.fromkeys(names, expected), f"encoders of {component}", pipe.encoders(component))
            own = ("--encoder", "mse") if expected == "mse" else ("--encoder", encoder, "--calibration", f"c/{component}.safetensors")
            pipe.tools.run("q4convert", pipe.path / component, "-o", "alone.q4", "--force", *QUIET, *own)
            check((pipe.work / "alone.q4").read_bytes() == pipe.container(component).read_bytes(), f"{component} alone gives the same container")
        # The whole is proven with the folder, bounded without it.
        text = pipe.verify("--calibration", "c", "--require-proof").stdout
        check("recomputed bit for bit" in text, "all of it is computed again", text)
        text = pipe.verify().stdout
        check("bounded, not proven" in text, "without the folder there are bounds", text)
    seal = (pipe.out / "q4-pipeline.json").read_bytes()
    for options in (("--threads", "1"), ("--threads", "3", "--max-memory", "64MiB")):
        pipe.convert("--encoder", "feedback", "--calibration", "c", *options)
        check((pipe.out / "q4-pipeline.json").read_bytes() == seal, f"the same bytes {options}")
    plan = json.loads(pipe.convert("--encoder", "feedback", "--calibration", "c", "--dry-run", "--json").stdout)
    cost = {component["name"]: component["plan"].get("feedback_core_seconds") for component in plan["components"]}
    check(cost["text_encoder_2"] is None and cost["text_encoder"] > cost["transformer"] > 0, "what it will cost", cost)
    text = pipe.tools.run("q4convert", pipe.path, "--encoder", "feedback", "--calibration", "c", "--dry-run").stdout
    check("time    feedback takes about" in text, "in words", text)
    # A recipe that names an encoder is turned in a component without a file, too.
    (pipe.work / "r.json").write_text(json.dumps({"rules": [{"match": "layers\\.1\\.|net\\.2", "encoder": "weighted"}]}))
    pipe.convert("--calibration", "c", "--recipe", "r.json")
    check(set(pipe.encoders("text_encoder").values()) == {"absmax", "weighted"}, "by a recipe", pipe.encoders("text_encoder"))
    check(set(pipe.encoders("text_encoder_2").values()) == {"absmax", "mse"}, "by a recipe, without a file", pipe.encoders("text_encoder_2"))
    pipe.verify("--calibration", "c", "--require-proof", "-q")
    # Other numbers than those that were used.
    pipe.convert("--encoder", "weighted", "--calibration", "c")
    shutil.copytree(pipe.work / "c", pipe.work / "other")
    (pipe.work / "other/transformer.safetensors").write_bytes(calibration([[name] for name in IMAGE], 7))
    pipe.verify("--calibration", "other", code=6, text="Q4-6620")
    shutil.copyfile(pipe.work / "c/text_encoder.safetensors", pipe.work / "other/text_encoder_2.safetensors")
    shutil.copyfile(pipe.work / "c/transformer.safetensors", pipe.work / "other/transformer.safetensors")
    pipe.verify("--calibration", "other", code=1, text="Q4-1622")


def check_refused(pipe):
    """A folder that is none, that has nothing for this pipeline, or a file under a name of nothing."""
    asked = ("--encoder", "weighted", "--calibration")
    pipe.convert(*asked, "c/transformer.safetensors", code=1, text="Q4-1460")
    done = pipe.convert(*asked, "missing", code=1, text="Q4-1460")
    check("text_encoder.safetensors, text_encoder_2.safetensors, transformer.safetensors" in done.stderr, "what is expected", done.stderr)
    (pipe.work / "empty").mkdir()
    pipe.convert(*asked, "empty", code=1, text="Q4-1460")
    shutil.copytree(pipe.work / "c", pipe.work / "slip")
    (pipe.work / "slip/transfomer.safetensors").write_bytes(b"")
    done = pipe.convert(*asked, "slip", code=1, text="Q4-1460")
    check("'transfomer.safetensors' is of no component" in done.stderr, "a slip is named", done.stderr)
    # One for a component that is carried is not opened; one that is broken is an error by its path.
    (pipe.work / "slip/transfomer.safetensors").rename(pipe.work / "slip/vae.safetensors")
    pipe.convert(*asked, "slip")
    (pipe.work / "slip/transformer.safetensors").write_bytes(b"x")
    check("slip/transformer.safetensors" in pipe.convert(*asked, "slip", code=3).stderr, "a broken file")
    # Chosen by name: the others' files do no harm.
    pipe.convert(*asked, "slip", "--components", "text_encoder")
    pipe.convert("--calibration", "c", code=1, text="Q4-1621")
    pipe.convert("--encoder", "weighted", code=1, text="Q4-1620")
    # A report may not be one of the files, and an output not where they lie.
    pipe.convert(*asked, "c", "--report", "c/transformer.safetensors", code=1, text="Q4-1002")
    before = (pipe.work / "c/transformer.safetensors").read_bytes()
    done = pipe.tools.run("q4convert", pipe.path, "-o", "c", "--force", *QUIET, *asked, "c", code=1)
    check("Q4-1824" in done.stderr and (pipe.work / "c/transformer.safetensors").read_bytes() == before, "not into their folder", done.stderr)
    pipe.convert("--target-bpw", "4.2", "--write-recipe", "w.json", code=1, text="Q4-1826")
    check(not (pipe.work / "w.json").exists(), "nothing is written")


def choice_of(pipe, *options):
    return json.loads(pipe.convert(*options, "--json").stdout)["choice"]


def check_budgets(pipe):
    """One account over all components: within the bits, better than any one way for all, and better than an account for each."""
    weights_of = {component: 64 * COLUMNS * len(names) for component, names in QUANTIZED.items()}
    choice = choice_of(pipe, "--encoder", "mse", "--target-bpw", "4.2")
    check(choice["weights"] == sum(weights_of.values()), "every weight counts", choice["weights"])
    check(4.15 < choice["bits_per_weight"] <= 4.2, "within the bits", choice["bits_per_weight"])
    names = {tensor["name"] for tensor in choice["tensors"]}
    check(names == {f"{component}/{name}" for component, list_ in QUANTIZED.items() for name in list_}, "named by component", names)
    check(choice["recipes"].keys() == QUANTIZED.keys() and "recipe" not in choice, "a recipe for each")
    check(choice["nmse"] < choice_of(pipe, "--encoder", "mse", "--target-bpw", "4.2", "--block-size", "64")["nmse"], "block sizes are worth something")
    pipe.convert("--encoder", "mse", "--target-bpw", "4.2")
    pipe.verify("--require-proof", "-q")
    whole = {component: pipe.container(component).read_bytes() for component in QUANTIZED}
    bits = {component: sum(t["bits_per_weight"] * t["weights"] for t in choice["tensors"] if t["name"].startswith(component + "/")) for component in QUANTIZED}
    each = {component: bits[component] / weights_of[component] for component in QUANTIZED}
    check(max(each.values()) - min(each.values()) > 0.02, "bits go where they buy most", each)
    # What each component would do with as many bits for itself is no better as a whole.
    error = 0
    for component, count in weights_of.items():
        pipe.tools.run("q4convert", pipe.path / component, "-o", "alone.q4", "--force", *QUIET, "--encoder", "mse", "--target-bpw", "4.2", "--report", "alone.json")
        error += json.loads((pipe.work / "alone.json").read_text())["choice"]["nmse"] * count
    check(choice["nmse"] <= error / choice["weights"], "one account is no worse than three", choice["nmse"], error / choice["weights"])
    # The rules that each container has make the same container.
    for component in QUANTIZED:
        (pipe.work / "r.json").write_text(choice["recipes"][component])
        pipe.tools.run("q4convert", pipe.path / component, "-o", "alone.q4", "--force", *QUIET, "--encoder", "mse", "--recipe", "r.json")
        check((pipe.work / "alone.q4").read_bytes() == whole[component], f"the recipe of {component} makes the same")
    for options in (("--threads", "1"), ("--threads", "3", "--max-memory", "32MiB")):
        pipe.convert("--encoder", "mse", "--target-bpw", "4.2", *options)
        check(all(pipe.container(component).read_bytes() == whole[component] for component in QUANTIZED), f"the same choice {options}")
    # The other ways to ask.
    least = choice_of(pipe, "--encoder", "mse", "--target-nmse", f"{choice['nmse'] * 1.1}")
    check(least["nmse"] <= choice["nmse"] * 1.1 and least["bits_per_weight"] < choice["bits_per_weight"], "by an error", least["nmse"])
    kept = choice_of(pipe, "--encoder", "mse", "--keep-most-sensitive", "10")
    reasons = [tensor["name"] for tensor in kept["tensors"] if tensor["reason"] == "most sensitive"]
    check(reasons and all(name.startswith("transformer/") for name in reasons), "what loses most is kept, in whichever component", reasons)
    done = pipe.convert("--target-bpw", "40", code=1, text="Q4-1651")
    check(not (pipe.out / "w").exists() and "bits per weight" in done.stderr, "out of reach", done.stderr)
    # With calibrations; and codes of feedback under what was chosen.
    choice_of(pipe, "--encoder", "weighted", "--calibration", "c", "--target-bpw", "4.2")
    pipe.verify("--calibration", "c", "--require-proof", "-q")
    done = pipe.convert("--encoder", "feedback", "--calibration", "c", "--target-bpw", "4.2", "--json")
    notes = json.loads(done.stdout)["notes"]
    check(sum("chosen by the errors that weighted makes" in note for note in notes) == 2, "by what feedback was chosen", notes)
    pipe.verify("--calibration", "c", "--require-proof", "-q")
    text = pipe.tools.run("q4convert", pipe.path, "--encoder", "mse", "--target-bpw", "4.2", "--dry-run").stdout
    check(text.count("budget  4.1") == 1 and "transformer/transformer_blocks.0" in text, "a plan tells it once", text)


def check_compared(pipe):
    """Settings side by side for the whole pipeline: each row is what a conversion with these settings records, and the command makes the chosen one."""
    for options in ((), ("--calibration", "c")):
        document = json.loads(pipe.tools.run("q4convert", pipe.path, "--compare", "--type", "nf4", "--block-size", "64", "--json", "--progress", "none", *options).stdout)
        encoders = {row["encoder"] for row in document["rows"]}
        check(encoders == {"absmax", "mse", "weighted"} if options else encoders == {"absmax", "mse"}, "encoders", encoders)
        for row in document["rows"]:
            own = ("--encoder", row["encoder"], *(options if row["encoder"] == "weighted" else ()), "--double-quant" if row["double_quant"] else "--no-double-quant")
            report = json.loads(pipe.convert(*own, "--json").stdout)["components"]
            tensors = [(component["name"], tensor) for component in report for tensor in component["report"]["tensors"]]
            bytes_ = sum(component["report"]["output_bytes"] for component in report)
            check(row["output_bytes"] == bytes_ and row["quantized_tensors"] == len(tensors), f"size of {row['settings']}", row["output_bytes"], bytes_)
            worst = max(tensors, key=lambda each: each[1]["stats"]["nmse"])
            check(row["worst_tensor"] == f"{worst[0]}/{worst[1]['name']}" and row["worst_nmse"] == worst[1]["stats"]["nmse"], "the worst, to the bit", row["worst_tensor"])
        chosen = next(row for row in document["rows"] if row["chosen"])
        shutil.rmtree(pipe.out)
        words = document["command"]
        check(words[0] == "q4convert" and not words[3].endswith(".q4"), "a folder is what it makes", words)
        pipe.tools.run("q4convert", *words[1:3], pipe.out, *words[4:], *QUIET)
        check(set(pipe.encoders("transformer").values()) == {chosen["encoder"]}, "what was chosen", chosen["encoder"])
    pipe.tools.run("q4convert", pipe.path, "--compare", "--encoder", "feedback", "--calibration", "c", code=5)


def main():
    tools = pathlib.Path(sys.argv[1]).resolve()
    for step in (check_budgets, check_calibrations, check_refused, check_compared):
        with tempfile.TemporaryDirectory() as work:
            step(Pipeline(tools, pathlib.Path(work)))
    print(f"pipeline_calibrated_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
