"""Is what q4convert refuses as quantized, and what it ignores as loaders do, what transformers makes of it?

    python foreign_check.py --bin DIR

--bin holds the tools. Asked of the real transformers and bitsandbytes:
  - every quantization method that transformers knows is refused by the name in config.json (exit code 5);
  - tiny models that transformers quantized with bitsandbytes, 4 bits and 8, and saved, are refused by their configuration and,
    without it, by their tensors; the way out that the message shows leads to a model that is converted;
  - configurations that q4convert ignores load in transformers with the weights as they are, and those that it refuses although
    the weights are plain do not, or load as another model;
  - weights that are no linear layer's do not load in 4 bits, as --to bnb refuses them for, and load by --unloadable dequantize;
    output heads load in 4 bits;
  - names that a wrapper changed: transformers finds none of the weights, as the warning says.
"""

import argparse
import contextlib
import io
import json
import logging
import pathlib
import subprocess
import tempfile
import warnings

import bitsandbytes as bnb
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

WEIGHT = "model.layers.0.self_attn.q_proj.weight"
IGNORED = [{"quant_method": "frobnicate"}, {"quant_method": "bitsandbytes"}, None]
REFUSED = [{"load_in_4bit": True, "quant_method": "bitsandbytes"}, {"load_in_8bit": True}, {"quant_method": "gptq", "bits": 4},
           {"quant_method": "bitnet", "quantization_mode": "online", "linear_class": "autobitlinear"}]
TEXT = dict(vocab_size=128, hidden_size=64, num_hidden_layers=1, num_attention_heads=4)
LLAMA = dict(TEXT, intermediate_size=128, max_position_embeddings=64)


def t5():
    config = transformers.T5Config(vocab_size=128, d_model=64, d_ff=128, d_kv=16, num_layers=1, num_heads=4, decoder_start_token_id=0)
    return transformers.T5ForConditionalGeneration(config)


def clip():
    config = transformers.CLIPVisionConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
                                           image_size=28, patch_size=14)
    return transformers.CLIPVisionModel(config)


# (a model, what is quantized besides, whether it loads in 4 bits)
INCLUDED = [
    (lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)), "embed_tokens", False),
    (lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)), "norm", False),
    (lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, attention_bias=True)), r"\.bias$", False),
    (lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)), "lm_head", True),
    (t5, r"\.wo\.", False),
    (clip, "patch_embedding|class_embedding", False),
    (lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=128, n_embd=64, n_layer=1, n_head=4, n_positions=64)),
     "c_attn.weight", False),
    (lambda: transformers.FalconForCausalLM(transformers.FalconConfig(**TEXT)), "self_attention.dense", False),
    (lambda: transformers.BertForMaskedLM(transformers.BertConfig(**TEXT, intermediate_size=128, tie_word_embeddings=False)), "predictions.decoder.weight", True),
]

WRAPPERS = ["_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module."]

failures = []


def expect(holds, what, *details):
    if not holds:
        failures.append(what)
        print("FAILED:", what, *details)


def quietly(function, *arguments, **named):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments, **named)


class Check:
    def __init__(self, tools: pathlib.Path, work: pathlib.Path):
        self.tools, self.work = tools, work
        torch.manual_seed(1)
        config = LlamaConfig(vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
                             max_position_embeddings=64)
        self.model = LlamaForCausalLM(config).bfloat16()
        self.model.save_pretrained(work / "plain")
        self.config = json.loads((work / "plain/config.json").read_text())
        self.weights = load_file(work / "plain/model.safetensors")

    def convert(self, source):
        done = subprocess.run([self.tools / "q4convert", source, "-o", self.work / "m.q4", "--dry-run"], capture_output=True, text=True)
        return done.returncode, done.stderr

    def folder(self, config, weights=None):
        path = self.work / "folder"
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text(json.dumps(config))
        save_file(self.weights if weights is None else weights, path / "model.safetensors", metadata={"format": "pt"})
        return path

    def loads_as_plain(self, path):
        """Whether transformers gives the model that the weights are, by its logits."""
        try:
            loaded = quietly(LlamaForCausalLM.from_pretrained, path, device_map="cpu")
            inputs = torch.tensor([[1, 2, 3]])
            with torch.no_grad():
                return torch.equal(quietly(loaded, inputs).logits, self.model(inputs).logits)
        except Exception:
            return False

    def methods(self):
        for method in AUTO_QUANTIZATION_CONFIG_MAPPING:
            entry = {"quant_method": method}
            if method.startswith("bitsandbytes_"):
                entry = {"quant_method": "bitsandbytes", "load_in_" + method.rsplit("_", 1)[1]: True}
            code, said = self.convert(self.folder(self.config | {"quantization_config": entry}))
            expect(code == 5 and "Q4-5510" in said, f"{method} is refused", code, said)

    def bitsandbytes(self):
        for bits, settings in (("4-bit", {"load_in_4bit": True}), ("8-bit", {"load_in_8bit": True})):
            model = quietly(LlamaForCausalLM.from_pretrained, self.work / "plain", device_map="cpu", quantization_config=BitsAndBytesConfig(**settings))
            saved = self.work / bits
            quietly(model.save_pretrained, saved)
            for remove in (False, True):
                if remove:
                    (saved / "config.json").unlink()
                code, said = self.convert(saved)
                if bits == "4-bit":
                    expect(code == 0 and "taken over" in said, "bitsandbytes 4-bit is taken over", code, said)
                    continue
                expect(code == 5 and f"bitsandbytes {bits}" in said, f"bitsandbytes {bits} is refused", code, said)
                if not remove:
                    plain = quietly(LlamaForCausalLM.from_pretrained, saved, device_map="cpu")
                    quietly(plain.dequantize)
                    quietly(plain.save_pretrained, self.work / "dequantized", save_original_format=False)
                    expect("save_original_format=False" in said and self.convert(self.work / "dequantized")[0] == 0, "the way out works", said)

    def claims(self):
        for entries, code in ((IGNORED, 0), (REFUSED, 5)):
            for entry in entries:
                path = self.folder(self.config | {"quantization_config": entry})
                expect(self.convert(path)[0] == code, f"{entry} ends with {code}")
                expect(self.loads_as_plain(path) == (code == 0), f"{entry}: transformers has the plain model only where q4convert takes it")

    def tool(self, tool, *arguments):
        done = subprocess.run([self.tools / tool, *arguments, "-q", "--progress", "none"], capture_output=True, text=True)
        return done.returncode, done.stderr

    def not_linear(self):
        for number, (make, pattern, loads) in enumerate(INCLUDED):
            model, work = make(), self.work / f"model{number}"
            what = f"{type(model).__name__}, {pattern}"
            model.save_pretrained(work / "src")
            code, said = self.tool("q4convert", work / "src", "-o", work / "m.q4", "--include", pattern)
            expect(code == 0, f"{what}: it is converted", said)
            code, said = self.tool("q4export", work / "m.q4", "--to", "bnb", "-o", work / "error")
            expect(code == (0 if loads else 5), f"{what}: q4export ends rightly", code, said)
            transposed = "Q4-8103" in said  # there is no way to keep it
            for choice in ("dequantize",) if loads or transposed else ("keep4bit", "dequantize"):
                out = work / choice
                code, said = self.tool("q4export", work / "m.q4", "--to", "bnb", "-o", out, "--unloadable", choice)
                expect(code == 0, f"{what}: --unloadable {choice} is exported", said)
                try:
                    loaded, found = quietly(type(model).from_pretrained, out, device_map="cpu", output_loading_info=True)
                except RuntimeError:
                    expect(choice == "keep4bit", f"{what}: it loads with --unloadable {choice}")
                    continue
                expect(choice == "dequantize", f"{what}: it does not load with --unloadable {choice}")
                expect(not found["missing_keys"] and not found["unexpected_keys"], f"{what}: all weights are found", found)
                layers = [layer for layer in loaded.modules() if isinstance(layer, bnb.nn.Linear4bit)]
                expect(all(getattr(layer.weight, "quant_state", None) is not None for layer in layers), f"{what}: no 4-bit layer lacks its state")

    def wrappers(self):
        for prefix in WRAPPERS:
            path = self.folder(self.config, {prefix + name: weight for name, weight in self.weights.items()})
            code, said = self.convert(path)
            expect(code == 0 and f"({prefix};" in said, f"{prefix} is converted with a warning", code, said)
            _, found = quietly(LlamaForCausalLM.from_pretrained, path, device_map="cpu", output_loading_info=True)
            expect(WEIGHT in found["missing_keys"], f"{prefix}: transformers finds no weight")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        check = Check(arguments.bin, pathlib.Path(work))
        check.methods()
        check.bitsandbytes()
        check.claims()
        check.not_linear()
        check.wrappers()
    print(f"foreign_check: transformers {transformers.__version__}: {len(AUTO_QUANTIZATION_CONFIG_MAPPING)} methods, "
          f"{len(IGNORED) + len(REFUSED)} claims over plain weights, {len(INCLUDED)} weights quantized besides, {len(WRAPPERS)} wrappers, {len(failures)} failures")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
