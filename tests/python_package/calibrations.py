"""What tests of calibration share: models, a calibration file as safetensors reads it, and an imatrix as llama.cpp writes it."""

import json

import safetensors
import torch
import transformers
from package_setup import TOOLS, Tools, check

import q4

SIZES = dict(vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
EXPERTS = dict(SIZES, num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2)


def model_of(name, config):
    torch.manual_seed(0)
    return getattr(transformers, name)(config)


def llama():
    return model_of("LlamaForCausalLM", transformers.LlamaConfig(**SIZES, num_key_value_heads=2))


class File:
    """A calibration file as the format's own library reads it."""

    def __init__(self, path):
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
        check(metadata["q4_calibration"] == "1", "version of the file")
        self.weights, self.transposed = json.loads(metadata["weights"]), json.loads(metadata.get("transposed_weights", "{}"))
        self.provenance = json.loads(metadata["provenance"])

    def __getitem__(self, weight):
        """(count, second moments, Hessian) of a weight's input."""
        name = {**self.weights, **self.transposed}[weight]
        return self.tensors[f"{name}.count"], self.tensors[f"{name}.second_moments"], self.tensors.get(f"{name}.hessian")


def imatrix(path, sums, kind="imatrix", dtype=None):
    """`sums`: {llama.cpp's name: (sums of squares, counts)}."""
    import gguf
    import numpy

    writer = gguf.GGUFWriter(path, "")
    writer.add_type(kind)
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 12)
    for name, (squares, counts) in sums.items():
        writer.add_tensor(f"{name}.in_sum2", numpy.asarray(squares, dtype or "float32"))
        if counts is not None:
            writer.add_tensor(f"{name}.counts", numpy.asarray(counts, "float32").reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def is_used(work, source, calibration):
    """q4convert's own reader takes the file: a conversion with it is proven, and weighs the errors of all that is named in it."""
    tools, file = Tools(TOOLS, work), File(calibration)
    tools.run("q4convert", source, "-o", "weighted.q4", "--force", "--encoder", "weighted", "--calibration", calibration, "-q")
    tools.run("q4verify", "weighted.q4", "--against", source, "--calibration", calibration, "--require-proof", "-q")
    named = set(q4.plan(source).quantized) & {*file.weights, *file.transposed}
    found = json.loads(tools.run("q4inspect", "weighted.q4", "--tensors", "--json").stdout)["tensors"]
    check(named and all(each["encoder"] == "weighted" for each in found if each["name"] in named), "what the file names is weighed", named)
