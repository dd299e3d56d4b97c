"""A plugin of pytest for other projects' suites (scripts/foreign_suites.py): `-p q4_foreign`. Q4_FOREIGN says through whom weights come:

  stock  as the suite does it
  q4     what bitsandbytes would quantize is converted by q4.convert and comes back by q4.torch.params4bit; models that transformers would
         quantize come by q4.transformers.load

Both ways models of the hub that the suites name are small random ones of the same architecture, made on the spot: nothing is fetched.
At the end it prints how often q4 was in between; a suite that it was never in proves nothing.
"""

import collections
import contextlib
import importlib.util
import os
import pathlib
import shutil
import sys
import tempfile
import types

import bitsandbytes as bnb
import safetensors.torch
import torch
import transformers

THROUGH_Q4 = os.environ["Q4_FOREIGN"] == "q4"
WORK = pathlib.Path(tempfile.mkdtemp(prefix="q4-foreign-"))
counts = collections.Counter()
# PEFT's helpers import it for tests that are not looked at.
if importlib.util.find_spec("datasets") is None:
    sys.modules["datasets"] = types.ModuleType("datasets")
    sys.modules["datasets"].load_dataset = None
NAME = "model.layers.0.mlp.up_proj.weight"


def quantized(weight, *, blocksize, compress_statistics, quant_type, quant_storage):
    """The weight as q4 quantizes and loads it; None of what q4 has not: it is counted, and goes bitsandbytes' way."""
    import q4
    import q4.torch

    if weight.dtype not in (torch.float32, torch.float16, torch.bfloat16) or weight.numel() == 0 or quant_type not in ("nf4", "fp4"):
        counts["left to bitsandbytes"] += 1
        return None
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        source = pathlib.Path(folder) / "source"
        source.mkdir()
        safetensors.torch.save_file({NAME: weight.detach().cpu().contiguous()}, source / "model.safetensors")
        path = q4.convert(source, pathlib.Path(folder) / "w.q4", type=quant_type, block_size=blocksize, double_quant=bool(compress_statistics), include=["."]).path
        made = q4.torch.params4bit(path, NAME, weight.device, quant_storage=quant_storage)
    counts["weights"] += 1
    return made.data, made.quant_state


def intercept_weights():
    stock_params, stock_function = bnb.nn.Params4bit._quantize, bnb.functional.quantize_4bit

    def of_params(self, device):
        found = quantized(
            self.data.to(device), blocksize=self.blocksize, compress_statistics=self.compress_statistics, quant_type=self.quant_type,
            quant_storage=self.quant_storage,
        )  # fmt: skip
        if found is None:
            return stock_params(self, device)
        self.data, self.quant_state = found
        if self.module is not None:
            self.module.quant_state = self.quant_state
        self.bnb_quantized = True
        return self

    def of_functional(A, absmax=None, out=None, blocksize=None, compress_statistics=False, quant_type="fp4", quant_storage=torch.uint8):
        found = None
        if absmax is None and out is None:
            found = quantized(A, blocksize=blocksize or 64, compress_statistics=compress_statistics, quant_type=quant_type, quant_storage=quant_storage)
        return found or stock_function(A, absmax, out, blocksize, compress_statistics, quant_type, quant_storage)

    bnb.nn.Params4bit._quantize = of_params
    bnb.functional.quantize_4bit = of_functional


def local(name):
    """A small random model in the place of one of the hub."""
    folder = WORK / name.replace("/", "--")
    if not folder.exists():
        torch.manual_seed(0)
        config = transformers.OPTConfig(
            vocab_size=1024, hidden_size=128, word_embed_proj_dim=128, ffn_dim=256, num_hidden_layers=12, num_attention_heads=4,
            max_position_embeddings=128,
        )  # fmt: skip
        transformers.OPTForCausalLM(config).save_pretrained(folder)
    return folder


def intercept_models():
    stock = transformers.AutoModelForCausalLM.from_pretrained

    def from_pretrained(name, *arguments, quantization_config=None, device_map=None, **options):
        if not (isinstance(name, str) and name.endswith("/opt-125m")):
            return stock(name, *arguments, quantization_config=quantization_config, device_map=device_map, **options)
        source = local(name)
        if not THROUGH_Q4 or quantization_config is None or not getattr(quantization_config, "load_in_4bit", False):
            return stock(source, *arguments, quantization_config=quantization_config, device_map=device_map, **options)
        import q4
        import q4.transformers

        kind, nested = quantization_config.bnb_4bit_quant_type, quantization_config.bnb_4bit_use_double_quant
        path = WORK / f"{source.name}-{kind}-{nested}.q4"
        if not path.exists():
            q4.convert(source, path, type=kind, double_quant=nested)
        counts["models"] += 1
        return q4.transformers.load(path, device_map=device_map, compute_dtype=quantization_config.bnb_4bit_compute_dtype, **options)

    transformers.AutoModelForCausalLM.from_pretrained = staticmethod(from_pretrained)


def pytest_configure(config):
    if THROUGH_Q4:
        intercept_weights()
    intercept_models()


def pytest_unconfigure(config):
    print(f"\nq4_foreign: {dict(counts)}")
    with contextlib.suppress(OSError):
        shutil.rmtree(WORK)
