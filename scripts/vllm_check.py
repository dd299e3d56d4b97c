"""q4.vllm in vLLM's own code, on a machine without a GPU.

    python scripts/vllm_check.py --work DIR [--case NAME ...] [--tp N ...]

Downloads vLLM's wheel and what its Python imports into DIR, once; nothing is installed. Needs the package q4 (PYTHONPATH), torch,
transformers and bitsandbytes. vLLM's compiled kernels are for GPUs: its Python is run with the platform "cpu", and what would be a
kernel (attention, multiplication of unquantized layers) is PyTorch's. All else is vLLM's: the discovery of the plugin, the
configuration, its models, layers, weight loaders, and tensor parallelism by processes that talk through gloo.

For each tiny model, made here by transformers, and each degree of tensor parallelism:
  - the thin directory is taken for quantization "q4" by vLLM's engine configuration, and loaded by load format "q4";
  - on every rank each layer in 4 bits, decoded, and every other parameter equals, bit for bit, what vLLM's default loader makes of
    the dequantized export;
  - logits equal those of that model, bit for bit, and those of q4.transformers within the rounding of bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys

import serving_packages

VLLM = "0.33.0"
NEEDED = (
    "pyzmq cbor2 msgspec cachetools blake3 py-cpuinfo einops openai partial-json-parser prometheus_client fastapi starlette aiohttp tiktoken "
    "compressed-tensors==0.17.0 depyf pybase64 ijson setproctitle cloudpickle python-json-logger orjson jiter anyio sniffio distro annotated-doc "
    "multidict yarl frozenlist propcache aiosignal aiohappyeyeballs openai-harmony mistral_common sentencepiece six watchfiles mcp anthropic "
    "opentelemetry-api opentelemetry-sdk gguf lark uvloop xgrammar apache-tvm-ffi"
).split()
IDS = [5, 6, 7, 8, 9, 10, 11, 12]

TEXT = dict(vocab_size=256, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2,
            max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2)  # fmt: skip
# name: (configuration, class, members, options of convert, degrees of tensor parallelism, kinds of layers that are not in 4 bits)
CASES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {}, {}, (1, 2, 4), ()),
    "llama_tied": ("LlamaConfig", "LlamaForCausalLM", {"tie_word_embeddings": True}, {"type": "fp4", "double_quant": False}, (1, 2), ()),
    "llama_kept": ("LlamaConfig", "LlamaForCausalLM", {}, {"exclude": [r"layers\.0\.self_attn\.k_proj", r"layers\.1\.mlp"]}, (1, 2),
                   ("layers.0.self_attn.qkv_proj", "layers.1.mlp.gate_up_proj", "layers.1.mlp.down_proj")),  # fmt: skip
    "llama_blocks": ("LlamaConfig", "LlamaForCausalLM", {"intermediate_size": 320}, {"block_size": 32}, (1, 2), ()),
    "llama_not_cut": ("LlamaConfig", "LlamaForCausalLM", {"intermediate_size": 320}, {}, (1, 2), ()),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}, {}, (1, 2), ()),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 32}, {"block_size": 128}, (1, 2), ()),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {}, {}, (1, 2), ()),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {"num_key_value_heads": 8}, {}, (1, 2), ()),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {"head_dim": 32}, {}, (1, 2), ()),
}  # fmt: skip
REFUSED = {("llama_not_cut", 2): "no multiple of the block size"}


def make(name: str, work: pathlib.Path) -> None:
    """The container, its thin directory, its dequantized export, and the logits of q4.transformers."""
    import q4
    import q4.transformers
    import q4.vllm
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
    q4.vllm.thin_directory(work / f"{name}.q4", work / f"{name}_thin")
    q4.export(work / f"{name}.q4", work / f"{name}_plain", to="safetensors")
    with torch.no_grad():
        logits = q4.transformers.load(work / f"{name}.q4", device_map="cpu").train()(torch.tensor([IDS])).logits[0]
    torch.save(logits.float(), work / f"{name}_logits.pt")


def stand_in_for_kernels() -> None:
    import torch
    from torch.nn.functional import linear, scaled_dot_product_attention
    from vllm.model_executor.custom_op import CustomOp
    from vllm.model_executor.layers.attention import Attention
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    torch.accelerator.empty_cache = lambda: None
    # Normalization, rotation, activation as vLLM writes them in PyTorch.
    CustomOp.dispatch_forward = lambda self, *_, **__: self.forward_native
    for method in (UnquantizedLinearMethod, UnquantizedEmbeddingMethod):
        method.process_weights_after_loading = lambda self, layer: None
        method.apply = lambda self, layer, x, bias=None: linear(x, layer.weight, bias)

    def attention(self, query, key, value, *_, **__):
        query, key, value = (each.view(len(IDS), -1, self.head_size).transpose(0, 1) for each in (query, key, value))
        groups = query.shape[0] // key.shape[0]
        key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=self.impl.scale).transpose(0, 1).reshape(len(IDS), -1)

    Attention.forward = attention


def load(directory: pathlib.Path, load_format: str, tp: int):
    """(model, engine configuration) by vLLM."""
    from vllm.config import set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel, model_parallel_is_initialized
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model

    arguments = EngineArgs(
        model=str(directory), load_format=load_format, skip_tokenizer_init=True, enforce_eager=True, max_model_len=64, tensor_parallel_size=tp,
        distributed_executor_backend="mp",
    )  # fmt: skip
    config = arguments.create_engine_config()
    with set_current_vllm_config(config):
        if not model_parallel_is_initialized():
            init_distributed_environment(tp, int(os.environ["RANK"]), f"tcp://127.0.0.1:{os.environ['PORT']}", int(os.environ["RANK"]), "gloo")
            initialize_model_parallel(tp)
        return get_model(vllm_config=config), config


def logits_of(model, config):
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.forward_context import set_forward_context

    with torch.no_grad(), set_current_vllm_config(config), set_forward_context(None, config):
        return model.compute_logits(model(torch.tensor(IDS), torch.arange(len(IDS)), None))


def worker(name: str, tp: int, work: pathlib.Path) -> None:
    """One rank; what it found goes to a file."""
    import torch

    stand_in_for_kernels()
    rank = int(os.environ["RANK"])
    wrong: list[str] = []
    model, config = load(work / f"{name}_thin", "q4", tp)
    plain, plain_config = load(work / f"{name}_plain", "auto", tp)
    if config.model_config.quantization != "q4" or type(config.quant_config).__name__ != "Q4Config":
        wrong.append(f"quantization {config.model_config.quantization}")
    own, other = dict(model.named_modules()), dict(plain.named_modules())
    packed = {layer for layer, module in own.items() if type(getattr(module, "quant_method", None)).__name__ == "Q4LinearMethod"}
    kept = {layer for layer, module in own.items() if "ParallelLinear" in type(module).__name__} - packed
    if {layer.partition(".")[2] for layer in kept} != set(CASES[name][5]):
        wrong.append(f"layers that are not in 4 bits: {sorted(kept)}")
    for layer in packed:
        if not torch.equal(own[layer].quant_method.dequantize_weight(own[layer]), other[layer].weight):
            wrong.append(f"{layer} differs")
    mine = {parameter: value for parameter, value in model.named_parameters() if parameter.rpartition(".")[2] not in ("qweight", "scales")}
    theirs = {parameter: value for parameter, value in plain.named_parameters() if parameter.rpartition(".")[0] not in packed or not parameter.endswith(".weight")}
    if mine.keys() != theirs.keys():
        wrong.append(f"parameters: {sorted(mine.keys() ^ theirs.keys())}")
    wrong += [f"{parameter} differs" for parameter in mine.keys() & theirs.keys() if not torch.equal(mine[parameter], theirs[parameter])]
    logits, expected = logits_of(model, config), logits_of(plain, plain_config)
    if rank == 0:
        reference = torch.load(work / f"{name}_logits.pt")
        error = (logits.float() - reference).abs().max().item() / reference.abs().max().item()
        if not torch.equal(logits, expected):
            wrong.append("logits differ from those of the dequantized model")
        if not error < 0.03:
            wrong.append(f"logits are {error:.3f} away from those of q4.transformers")
        print(f"{name} tp {tp}: {len(packed)} layers in 4 bits, {len(mine)} other parameters, logits within {error:.4f} of q4.transformers", flush=True)
    (work / f"{name}_{tp}_{rank}.json").write_text(json.dumps(wrong))


def run(name: str, tp: int, work: pathlib.Path, environment: dict[str, str]) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--work", str(work), "--worker", name, "--tp", str(tp)]
    ranks = [
        subprocess.Popen(command, env=environment | {"RANK": str(rank), "PORT": str(port)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for rank in range(tp)
    ]  # fmt: skip
    wrong = []
    for rank, process in enumerate(ranks):
        out, error = process.communicate(timeout=600)
        print("".join(line + "\n" for line in out.splitlines() if line.startswith(name + " tp")), end="", flush=True)
        result = work / "tiny" / f"{name}_{tp}_{rank}.json"
        refused = REFUSED.get((name, tp))
        if refused is not None:
            if process.returncode == 0 or refused not in error:
                wrong.append(f"rank {rank}: not refused: {error[-300:]}")
        elif process.returncode != 0 or not result.is_file():
            wrong.append(f"rank {rank}: exit code {process.returncode}: {error[-2000:]}")
        else:
            wrong += [f"rank {rank}: {each}" for each in json.loads(result.read_text())]
    if REFUSED.get((name, tp)) and not wrong:
        print(f"{name} tp {tp}: refused, as columns are no whole blocks", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for downloads and tiny models")
    parser.add_argument("--case", action="append", choices=CASES, help="only this case; repeatable")
    parser.add_argument("--tp", type=int, action="append", help="only this degree; repeatable")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--make", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    if arguments.make:
        make(arguments.make, work / "tiny")
        return 0
    if arguments.worker:
        worker(arguments.worker, arguments.tp[0], work / "tiny")
        return 0
    work.mkdir(parents=True, exist_ok=True)
    # The version is how vLLM knows for which platform it was built.
    paths = serving_packages.prepare(work, "vllm", VLLM, NEEDED, "vllm.general_plugins", endings=(".py",), as_version=f"{VLLM}+cpu")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING",
        "OMP_NUM_THREADS": "1", "VLLM_CACHE_ROOT": str(work / "cache"), "VLLM_PLUGINS": "q4",
    }  # fmt: skip
    tiny = work / "tiny"
    failures = done = 0
    for name, (*_, degrees, _) in CASES.items():
        if arguments.case and name not in arguments.case:
            continue
        if tiny.exists():
            subprocess.run(["rm", "-r", str(tiny)], check=True)
        tiny.mkdir()
        subprocess.run([sys.executable, __file__, "--work", str(work), "--make", name], env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for tp in degrees:
            if arguments.tp and tp not in arguments.tp:
                continue
            done += 1
            for each in run(name, tp, work, environment):
                failures += 1
                print(f"FAILED {name} tp {tp}: {each}", flush=True)
    print(f"vllm_check: {done} cases, {failures} failures (vLLM {VLLM})")
    return 1 if failures or not done else 0


if __name__ == "__main__":
    sys.exit(main())
