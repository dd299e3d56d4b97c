"""q4.transformers.load(experts="q4"): experts in 4 bits against the same experts dequantized."""

import copy
import importlib.util
import logging
import pathlib
import sys
import tempfile
import warnings

from package_setup import ROOT, check, count, raises

for package in ("torch", "transformers", "accelerate", "bitsandbytes"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_experts (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

warnings.simplefilter("ignore")  # theirs
sys.path.insert(0, str(ROOT / "tests" / "python"))
import experts_check  # noqa: E402  (the path above)
import torch  # noqa: E402
import transformers  # noqa: E402

import q4  # noqa: E402
import q4.transformers  # noqa: E402

CASES = ("mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss", "qwen2_moe", "olmoe", "glm4_moe", "phimoe", "jamba")
SETTINGS = [{"double_quant": nested, "type": kind} for kind in ("nf4", "fp4") for nested in (True, False)]
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


def made(case, folder):
    model_class = getattr(transformers, case.model)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**case.config)).bfloat16()
    model.save_pretrained(folder / "source")


def logits(model):
    # In train(): bitsandbytes packs weights anew in eval() on some CPUs.
    torch.manual_seed(1)
    with torch.no_grad():
        return model.train()(IDS, use_cache=False).logits


def bytes_of(model):
    """Of the experts: parameters of 16 bits, or what stands in their place."""
    return sum(tensor.nbytes for name, tensor in [*model.named_parameters(), *model.named_buffers()] if ".experts." in name and "bias" not in name and "pairs" not in name)


def test_case(case, settings, folder):
    made(case, folder)
    path = q4.convert(folder / "source", folder / "model.q4", **settings).path
    ours = q4.transformers.load(path, device_map="cpu")
    reference = q4.transformers.load(path, device_map="cpu", experts="dequantize")
    reference.set_experts_implementation("eager")
    in_4bit = [name for name, module in ours.named_modules() if type(module).__name__ == "ExpertWeights"]
    check(len(in_4bit) > 0 and ours.config._experts_implementation == "q4", f"{case.name}: experts are in 4 bits", in_4bit)
    for name in in_4bit:
        weights, dense = ours.get_submodule(name), reference.get_parameter(name)
        check(all(torch.equal(weights[expert], dense[expert]) for expert in range(dense.shape[0])), f"{case.name}: {name} decodes to the dequantized matrices")
    check(torch.equal(logits(ours), logits(reference)), f"{case.name}: logits")
    check(bytes_of(ours) <= 0.30 * bytes_of(reference), f"{case.name}: memory of experts", bytes_of(ours), bytes_of(reference))
    check(ours.config.quantization_config.quant_method == "bitsandbytes" and type(ours.hf_quantizer).__name__ == "Bnb4BitHfQuantizer", "it ends as bitsandbytes' own")
    return ours, path


def test_one(ours, path, folder):
    """What is said of all is tried with one."""
    hit = set()
    kind = type(next(module for module in ours.modules() if type(module).__name__ == "ExpertWeights"))
    decoded = kind.__getitem__

    def noted(self, expert):
        hit.add(int(expert))
        return decoded(self, expert)

    kind.__getitem__ = noted
    try:
        with torch.no_grad():
            ours.train()(IDS[:, :1], use_cache=False)
    finally:
        kind.__getitem__ = decoded
    # Two experts a token and a layer, of four: in two layers at most all.
    check(0 < len(hit) <= 4, "experts that are hit", hit)
    error = raises(q4.UnsupportedError, lambda: ours.save_pretrained(folder / "saved"), "saving")
    check("keep4bit" in str(error) and not (folder / "saved").exists(), "says the way out", error)
    check(torch.equal(logits(copy.deepcopy(ours)), logits(ours)), "deepcopy")
    loss = ours(input_ids=IDS, inputs_embeds=None, labels=IDS, use_cache=False).loss
    check(torch.isfinite(loss).item(), "a loss", loss)
    octets = bytearray(pathlib.Path(path).read_bytes())
    octets[len(octets) // 2] ^= 1
    (folder / "damaged.q4").write_bytes(octets)
    raises(q4.DamagedError, lambda: q4.transformers.load(folder / "damaged.q4", device_map="cpu"), "a damaged chunk")


def main():
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cases = {case.name: case for case in experts_check.cases()}
    for number, name in enumerate(CASES):
        with tempfile.TemporaryDirectory(prefix="q4-python-experts-") as work:
            folder = pathlib.Path(work)
            ours, path = test_case(cases[name], SETTINGS[number % 4], folder)
            if number == 0:
                test_one(ours, path, folder)
    print(f"python_experts: {count()} checks")


main()
