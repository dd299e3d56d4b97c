"""q4.sglang in SGLang's own code, on a machine without a GPU.

    python scripts/sglang_check.py --work DIR [--case NAME ...] [--tp N ...]

Downloads SGLang's wheel and what its Python imports into DIR, once; nothing is installed. Needs the package q4 (PYTHONPATH), torch,
transformers and bitsandbytes. SGLang's compiled kernels (sgl_kernel) and torchvision are for GPUs: modules that answer to any name stand
in for them, and what is run here calls none of them. All else is SGLang's: the discovery of the plugin, server arguments, configuration,
its models, layers, weight loaders, and tensor parallelism by processes that talk through gloo.

For each tiny model, made here by transformers, and each degree of tensor parallelism:
  - the thin directory is taken for quantization "q4", and SGLang's get_model() loads it with the load format "auto";
  - on every rank each layer in 4 bits, decoded, and every other parameter equals, bit for bit, what SGLang's default loader makes of
    the dequantized export;
  - a layer in 4 bits multiplies as its decoded weight does.
No prompt is answered: attention is a compiled kernel.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import os
import pathlib
import socket
import subprocess
import sys
import types
from unittest import mock

import serving_packages

SGLANG = "0.5.23"
NEEDED = (
    "orjson pybase64 starlette msgspec pyzmq aiohttp multidict yarl propcache aiohappyeyeballs aiosignal frozenlist apache-tvm-ffi dill "
    "sentencepiece IPython traitlets triton einops fastapi openai opentelemetry-api partial-json-parser sniffio uvicorn"
).split()
ABSENT = ("torchvision", "sgl_kernel")
TEXT = {"vocab_size": 256, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2}
# name: configuration of transformers, its model, settings, options of q4.convert, degrees, layers that are fused and dequantized
CASES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {}, {}, (1, 2, 4), ()),
    "llama_fp4_tied": ("LlamaConfig", "LlamaForCausalLM", {"tie_word_embeddings": True}, {"type": "fp4", "double_quant": False}, (1, 2), ()),
    "llama_mixed": ("LlamaConfig", "LlamaForCausalLM", {}, {"exclude": [r"layers\.0\..*k_proj", r"layers\.1\..*down_proj"]}, (1, 2), ("model.layers.0.self_attn.qkv_proj", "model.layers.1.mlp.down_proj")),
    "llama_blocks": ("LlamaConfig", "LlamaForCausalLM", {"intermediate_size": 320}, {"block_size": 32}, (1, 2), ()),
    "llama_not_cut": ("LlamaConfig", "LlamaForCausalLM", {"intermediate_size": 320}, {}, (1, 2), ()),
    "llama_mse": ("LlamaConfig", "LlamaForCausalLM", {}, {"encoder": "mse"}, (1, 2), ()),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}, {}, (1, 2), ()),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 32}, {"block_size": 128}, (1, 2), ()),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {"pad_token_id": 0}, {}, (1, 2), ()),
}  # fmt: skip
REFUSED = {("llama_not_cut", 2): "no multiple of the block size"}


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that are not here: whatever is asked of them is there, and nothing works."""

    class Module(types.ModuleType):
        __path__: list[str] = []

        def __getattr__(self, name: str):
            if name.startswith("__"):
                raise AttributeError(name)
            setattr(self, name, mock.MagicMock(name=f"{self.__name__}.{name}"))
            return getattr(self, name)

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in ABSENT else None

    def create_module(self, spec):
        return Absent.Module(spec.name)

    def exec_module(self, module):
        pass


def make(name: str, work: pathlib.Path) -> None:
    """The container, its thin directory and its dequantized export."""
    import q4
    import q4.sglang
    import torch
    import transformers

    config, cls, members, options, _, _ = CASES[name]
    torch.manual_seed(0)
    model = getattr(transformers, cls)(getattr(transformers, config)(**TEXT | members))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05)
    model.bfloat16().save_pretrained(work / f"{name}_source")
    q4.convert(work / f"{name}_source", work / f"{name}.q4", **options)
    q4.sglang.thin_directory(work / f"{name}.q4", work / f"{name}_thin")
    q4.export(work / f"{name}.q4", work / f"{name}_plain", to="safetensors")


def load(directory: pathlib.Path, tp: int):
    """The model, by SGLang."""
    from sglang.srt.configs.device_config import DeviceConfig
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.distributed import parallel_state
    from sglang.srt.layers.dp_attention import initialize_dp_attention
    from sglang.srt.model_loader import get_model
    from sglang.srt.runtime_context import SpawnRanks, publish
    from sglang.srt.server_args import ServerArgs

    rank = int(os.environ["RANK"])
    arguments = ServerArgs(model_path=str(directory), device="cpu", dtype="bfloat16", skip_tokenizer_init=True, tp_size=tp)
    publish(arguments, role="scheduler", ranks=SpawnRanks(world_rank=rank))
    parallel_state.init_distributed_environment(tp, rank, f"tcp://127.0.0.1:{os.environ['PORT']}", rank, "gloo")
    parallel_state.initialize_model_parallel(backend="gloo")
    initialize_dp_attention(server_args=arguments)
    config = ModelConfig.from_server_args(arguments)
    load_config = LoadConfig(load_format=arguments.load_format, tp_rank=rank)
    return get_model(model_config=config, load_config=load_config, device_config=DeviceConfig("cpu"))


def load_on_rank(name: str, kind: str, tp: int, work: pathlib.Path) -> None:
    """Leaves what this rank holds, layers in 4 bits decoded, in a file for compare(). In a process of its own: SGLang loads one model in each."""
    import torch

    # Before torchvision seems to be there.
    import transformers.models.auto.image_processing_auto
    import transformers.processing_utils
    import transformers.utils.import_utils as there
    import transformers.video_utils  # noqa: F401

    there.is_torchvision_available(), there.is_torchvision_v2_available()
    sys.meta_path.insert(0, Absent())
    import sglang.srt.model_loader.loader  # noqa: F401
    from sglang.srt.plugins import load_plugins

    load_plugins()
    from q4._sglang import Q4LinearMethod

    torch.set_num_threads(1)
    model = load(work / f"{name}_{kind}", tp)
    packed = {key: module for key, module in model.named_modules() if isinstance(getattr(module, "quant_method", None), Q4LinearMethod)}
    values = {key: value.detach() for key, value in model.named_parameters() if key.rpartition(".")[0] not in packed or key.endswith(".bias")}
    for key, module in packed.items():
        weight = values[f"{key}.weight"] = module.quant_method.dequantize_weight(module)
        x = torch.randn(2, 3, weight.shape[1], dtype=torch.bfloat16)
        product, expected = module.quant_method.apply(module, x), torch.nn.functional.linear(x, weight)
        assert torch.allclose(product.float(), expected.float(), rtol=2e-2, atol=2e-2), f"the product of {key}"
    torch.save((sorted(packed), values), work / f"{name}_{kind}_{tp}_{os.environ['RANK']}.pt")


def compare(name: str, tp: int, rank: int, work: pathlib.Path) -> str:
    import torch

    (packed, mine), (none, theirs) = (torch.load(work / f"{name}_{kind}_{tp}_{rank}.pt") for kind in ("thin", "plain"))
    assert packed and not none, "layers in 4 bits"
    assert not set(CASES[name][5]) & set(packed), "layers that are dequantized"
    assert mine.keys() == theirs.keys(), sorted(mine.keys() ^ theirs.keys())
    for key, value in theirs.items():
        assert mine[key].dtype == value.dtype and torch.equal(mine[key], value), f"{key} on rank {rank}"
    return f"{name} tp={tp} rank {rank}: {len(packed)} layers in 4 bits and {len(theirs) - len(packed)} parameters, equal"


def check(name: str, tp: int, work: pathlib.Path, paths: str) -> None:
    """All ranks of one model."""
    for kind in ("thin", "plain"):
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            port = str(place.getsockname()[1])
        environment = {**os.environ, "PYTHONPATH": paths, "PORT": port, "WORLD_SIZE": str(tp), "SGLANG_USE_CPU_ENGINE": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, __file__, "--work", work, "--rank", kind, "--case", name, "--tp", str(tp)]
        ranks = [
            subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
            for rank in range(tp)
        ]
        errors = [process.communicate()[1] for process in ranks]
        refused = REFUSED.get((name, tp))
        if refused is not None:
            assert all(process.returncode != 0 and refused in text for process, text in zip(ranks, errors)), "it should have been refused"
            print(f"{name} tp={tp}: refused, as it should be: {next(line for line in errors[0].splitlines() if refused in line)}", flush=True)
            return
        assert not any(process.returncode for process in ranks), "\n".join(text[-2500:] for text in errors)
    for rank in range(tp):
        print(compare(name, tp, rank, work), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--case", nargs="*", default=list(CASES))
    parser.add_argument("--tp", nargs="*", type=int)
    parser.add_argument("--rank", choices=("thin", "plain"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    if arguments.rank:
        load_on_rank(arguments.case[0], arguments.rank, arguments.tp[0], work)
        return 0
    work.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join(serving_packages.prepare(work, "sglang", SGLANG, NEEDED, "sglang.srt.plugins"))
    failed = done = 0
    for name in arguments.case:
        if not (work / f"{name}_plain").is_dir():
            make(name, work)
        for tp in arguments.tp or CASES[name][4]:
            done += 1
            try:
                check(name, tp, work, paths)
            except AssertionError as error:
                failed += 1
                print(f"FAILED {name} tp={tp}: {error}", flush=True)
    print(f"sglang_check: {done} runs, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
