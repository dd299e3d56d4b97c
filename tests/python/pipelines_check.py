"""Pipelines of diffusers through q4 as a whole, and in the real diffusers and transformers.

    python pipelines_check.py --bin DIR [--case NAME ...]

--bin holds the tools. The pipelines are tiny, and made by diffusers itself (pipelines.py): Flux, Stable Diffusion 3 and XL. For each:
  - every container is byte for byte the one that its component gives alone; q4verify accepts the whole, with and without the source;
  - diffusers loads the 4-bit export as a pipeline, without a missing or unexpected weight in any component, and its 4-bit layers are
    those that diffusers and transformers make of the original, with the same codes and scales; T5 keeps wo;
  - the export in 16 bits loads too, and everything that is carried is the source's;
  - the 4-bit export, converted again, is taken over: exported once more it is the same, file by file.
diffusers asks for a GPU before it loads 4-bit weights. On the CPU that question alone is answered for it.
"""
import json
import pathlib
import sys

import diffusers
import pipelines
import torch
import transformers
from diffusers_check import answer_for_the_gpu, linear4bit

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import must, parse_arguments, run_cases  # noqa: E402  (the path above)

QUANTIZED = {"flux": {"transformer", "text_encoder", "text_encoder_2"},
             "sd3": {"transformer", "text_encoder", "text_encoder_2", "text_encoder_3"},
             "sdxl": {"unet", "text_encoder", "text_encoder_2"}}


class Case:
    def __init__(self, name):
        self.name = name


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def original(source, index, name):
    """The component of the source as its library makes it in 4 bits."""
    library, cls = index[name]
    module = {"diffusers": diffusers, "transformers": transformers}[library]
    settings = module.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    return getattr(module, cls).from_pretrained(source / name, quantization_config=settings, device_map={"": "cpu"},
                                                torch_dtype=torch.float16 if "sd" in source.name else torch.bfloat16)


def check_layers(case, name, ours, theirs, failures):
    mine, other = linear4bit(ours), linear4bit(theirs)
    failures.require(case, mine and mine.keys() == other.keys(), f"{name}: 4-bit layers: {sorted(mine.keys() ^ other.keys())[:4]}")
    for layer, module in mine.items():
        a, b = module.weight, other[layer].weight
        failures.require(case, a.quant_state is not None and torch.equal(a.data, b.data) and
                         torch.equal(a.quant_state.absmax, b.quant_state.absmax), f"{name}.{layer}: not what the library makes")
    if "T5" in type(ours).__name__:
        failures.require(case, not any(layer.endswith(".wo") for layer in mine), f"{name}: wo is in 4 bits")
    return len(mine)


def check(case, programs, work, failures):
    source = pipelines.MAKERS[case.name](work)
    index = json.loads((source / "model_index.json").read_text())
    q4, bnb, plain = (work / f"{case.name}_{kind}" for kind in ("q4", "bnb", "plain"))
    options = ["--no-double-quant", "-q"]
    must(programs / "q4convert", source, "-o", q4, *options)
    must(programs / "q4verify", q4, "-q")
    must(programs / "q4verify", q4, "--against", source, "-q")
    quantized = {path.parent.name for path in q4.glob("*/model.q4")}
    failures.require(case, quantized == QUANTIZED[case.name], f"quantized: {sorted(quantized)}")
    for name in quantized:
        must(programs / "q4convert", source / name, "-o", work / "alone.q4", "--force", *options)
        failures.require(case, (work / "alone.q4").read_bytes() == (q4 / name / "model.q4").read_bytes(), f"{name}: another container alone")
    before, after = files(source), files(q4)
    for name, content in before.items():
        if name.partition("/")[0] not in quantized:
            failures.require(case, after.get(name) == content, f"{name} is not carried")

    must(programs / "q4export", q4, "--to", "bnb", "-o", bnb, "-q")
    must(programs / "q4export", q4, "--to", "safetensors", "-o", plain, "-q")
    kind = getattr(diffusers, index["_class_name"])
    dtype = torch.float16 if case.name.startswith("sd") else torch.bfloat16
    pipeline = kind.from_pretrained(bnb, torch_dtype=dtype, local_files_only=True, device_map="cpu")
    layers = 0
    for name in sorted(quantized):
        component = getattr(pipeline, name)
        cls = type(component)
        _, info = cls.from_pretrained(bnb / name, output_loading_info=True, device_map={"": "cpu"}, torch_dtype=dtype)
        troubles = [f"{what}: {list(names)[:3]}" for what, names in info.items() if names]
        failures.require(case, not troubles, f"{name}: {troubles}")
        layers += check_layers(case, name, component, original(source, index, name), failures)
    unchanged = kind.from_pretrained(plain, torch_dtype=dtype, local_files_only=True)
    failures.require(case, torch.equal(unchanged.vae.decoder.conv_in.weight, pipeline.vae.decoder.conv_in.weight), "the VAE differs")

    again, second = work / f"{case.name}_again", work / f"{case.name}_second"
    must(programs / "q4convert", bnb, "-o", again, "-q")
    must(programs / "q4export", again, "--to", "bnb", "-o", second, "-q")
    first, last = files(bnb), files(second)
    # The record has the root of the pipeline, which has another source.
    differ = [name for name in first.keys() | last.keys() if not name.endswith("q4_export.json") and first.get(name) != last.get(name)]
    failures.require(case, not differ, f"taken over, but not the same: {sorted(differ)[:4]}")
    print(f"{case.name}: {len(quantized)} components, {layers} 4-bit layers")


def main():
    arguments = parse_arguments(__doc__)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(2)
    answer_for_the_gpu()
    return run_cases(arguments, lambda _: [Case(name) for name in pipelines.MAKERS], check, f"diffusers {diffusers.__version__}")


if __name__ == "__main__":
    sys.exit(main())
