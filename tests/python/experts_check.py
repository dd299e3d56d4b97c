"""Mixture-of-experts models through q4export --to bnb, in each of the three ways of --experts, and in transformers.

    python experts_check.py --bin DIR [--case NAME ...]

--bin holds q4convert, q4export and q4inspect. The models are tiny, random, and made here: of per-expert matrices, of fused
3-D parameters, and of experts that are plain linear layers. For each:
  - `error`, the default, refuses (exit code 5, Q4-8550) before anything is written, unless transformers itself quantizes
    the experts: then they are 4-bit layers of the loaded model, and there was nothing to decide;
  - `dequantize`: from_pretrained loads it, without a missing or unexpected weight; its 4-bit layers are those that
    transformers makes of the original, with the same bytes; every other parameter equals that of the dequantized
    checkpoint (--to safetensors); a forward pass with decoded weights equals that of the dequantized model;
  - `keep4bit`: every expert weight is on disk in 4 bits with all its parts, and PyTorch decodes the values of the
    dequantized checkpoint; per-expert matrices are what vllm-bnb-plugin reads;
  - q4convert says beforehand that there will be a choice, and q4inspect --lint tells the two exports apart.
"""

import json
import pathlib
import sys
from dataclasses import dataclass

import bitsandbytes as bnb
import bitsandbytes_cpu
import safetensors.torch
import torch
import transformers
from transformers import BitsAndBytesConfig

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import must, parse_arguments, run, run_cases  # noqa: E402  (the path above)

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 64, "head_dim": 16,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
LATENT = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
          "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "kv_lora_rank": 64, "q_lora_rank": 64,
          "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 16, "num_key_value_heads": 4}


@dataclass
class Case:
    name: str
    model: str  # a class of transformers
    config: dict
    fused: bool = True  # transformers holds the experts in 3-D parameters
    per_expert: bool = True  # the checkpoint has a matrix for each expert
    splits: bool = False  # beside 4-bit layers, transformers wants a matrix for each expert all the same


def cases():
    yield Case("mixtral", "MixtralForCausalLM", SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2})
    yield Case("qwen2_moe", "Qwen2MoeForCausalLM", SIZES | EXPERTS | {"shared_expert_intermediate_size": 128})
    yield Case("qwen3_moe", "Qwen3MoeForCausalLM", SIZES | EXPERTS)
    yield Case("olmoe", "OlmoeForCausalLM", SIZES | EXPERTS)
    yield Case("deepseek_v3", "DeepseekV3ForCausalLM", SIZES | LATENT)
    yield Case("phimoe", "PhimoeForCausalLM", SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2})
    yield Case("glm4_moe", "Glm4MoeForCausalLM",
               SIZES | {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
                        "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1})
    yield Case("jamba", "JambaForCausalLM",
               SIZES | {"num_experts": 4, "num_experts_per_tok": 2, "mamba_d_state": 16, "mamba_dt_rank": 64,
                        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
                        "expert_layer_offset": 1, "use_mamba_kernels": False})
    yield Case("gpt_oss", "GptOssForCausalLM",
               SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["full_attention"] * 2},
               per_expert=False)
    yield Case("granitemoe", "GraniteMoeForCausalLM", SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2},
               per_expert=False)
    yield Case("llama4", "Llama4ForCausalLM",
               SIZES | {"intermediate_size_mlp": 128, "num_local_experts": 4, "num_experts_per_tok": 1,
                        "interleave_moe_layer_step": 1}, per_expert=False, splits=True)
    yield Case("jetmoe", "JetMoeForCausalLM",
               SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "kv_channels": 16, "num_key_value_heads": 4},
               per_expert=False)
    yield Case("switch_transformers", "SwitchTransformersForConditionalGeneration",
               {"vocab_size": 96, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 2,
                "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_heads": 4, "num_experts": 4,
                "decoder_start_token_id": 0}, fused=False)


def make(case, directory):
    model_class = getattr(transformers, case.model)
    config = model_class.config_class(**case.config)
    torch.manual_seed(0)
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05)
    model.to(torch.bfloat16).save_pretrained(directory)
    return model_class


def tensors_of(directory):
    return {name: tensor for file in sorted(directory.glob("*.safetensors"))
            for name, tensor in safetensors.torch.load_file(file).items()}


def expert_names(directory):
    """The weights of routed experts in a checkpoint that transformers saved, found without q4's rules."""
    return sorted(name for name, tensor in tensors_of(directory).items()
                  if tensor.dim() > 1 and "shared" not in name and "router" not in name and "bias" not in name
                  and (".experts." in name or name.endswith(("input_linear.weight", "output_linear.weight"))))


def linear4bit(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)}


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        a.contiguous().flatten().view(torch.uint8), b.contiguous().flatten().view(torch.uint8))


def load(model_class, directory, **settings):
    """The model, and what its loading found missing or too much."""
    model, info = model_class.from_pretrained(directory, device_map="cpu", output_loading_info=True, **settings)
    troubles = [f"{kind}: {sorted(map(str, names))[:3]}" for kind, names in info.items()
                if names and kind != "error_msgs"] + list(info.get("error_msgs") or [])
    return model.eval(), troubles


def decoded_into(model, target):
    """Puts the decoded weights of `model` into `target`, of the same class, as plain ones."""
    with torch.no_grad():
        parameters = dict(target.named_parameters())
        for name, module in linear4bit(model).items():
            weight = bitsandbytes_cpu.decode(module.weight.data, module.weight.quant_state)
            parameters[f"{name}.weight"].copy_(weight.to(module.weight.quant_state.dtype))
        for name, parameter in model.named_parameters():
            if not isinstance(parameter, bnb.nn.Params4bit):
                parameters[name].copy_(parameter)
    return target


@torch.no_grad()
def outputs(model):
    tokens = torch.arange(2 * 8).reshape(2, 8) * 7 % 90 + 3
    extra = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    return model(input_ids=tokens, use_cache=False, **extra).logits.float()


def check_loads(case, model_class, source, exported, plain, failures):
    """What transformers makes of an export, beside what it makes of the original and of the dequantized checkpoint."""
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16")
    ours, troubles = load(model_class, exported)
    failures.require(case, not troubles, f"loading the export: {troubles}")
    theirs, _ = load(model_class, source, quantization_config=settings)
    mine, other = linear4bit(ours), linear4bit(theirs)
    failures.require(case, mine.keys() == other.keys() and mine,
                     f"4-bit layers differ: {sorted(mine.keys() ^ other.keys())[:4]}")
    for name in mine.keys() & other.keys():
        a, b = mine[name].weight, other[name].weight
        failures.require(case, a.quant_state is not None and same(a.data, b.data)
                         and same(a.quant_state.absmax, b.quant_state.absmax), f"{name}: not what transformers makes")
    dequantized, troubles = load(model_class, plain, dtype=torch.bfloat16)
    failures.require(case, not troubles, f"loading the dequantized checkpoint: {troubles}")
    expected = dict(dequantized.named_parameters())
    others = {name: p for name, p in ours.named_parameters() if not isinstance(p, bnb.nn.Params4bit)}
    for name, parameter in others.items():
        # Some modules are kept in fp32 by their class; the values are those of the file either way.
        failures.require(case, torch.equal(parameter.float(), expected[name].float()), f"{name}: other values")
    fused = sorted(name for name, p in others.items() if p.dim() == 3 and name.rpartition(".")[0] not in mine)
    failures.require(case, bool(fused) == case.fused, f"fused parameters of the loaded model: {fused[:3]}")
    want = outputs(dequantized)
    got = outputs(decoded_into(ours, dequantized))
    failures.require(case, torch.equal(got, want), "outputs with decoded weights differ from the dequantized model's")
    states = [module.weight.quant_state for module in mine.values()]
    if all(bitsandbytes_cpu.multiplies_right(state.shape, state.blocksize) for state in states):
        failures.require(case, bool(torch.isfinite(outputs(ours)).all()), "the first forward pass gives NaN")
    return len(mine), len(fused)


def check_kept(case, exported, plain, experts, failures):
    """Every expert weight in 4 bits, decoding to the dequantized checkpoint."""
    kept, values = tensors_of(exported), tensors_of(plain)
    for name in experts:
        state = {key: value for key, value in kept.items() if key.startswith(name + ".")}
        failures.require(case, f"{name}.quant_state.bitsandbytes__nf4" in state, f"{name}: not in 4 bits")
        quant_state = bnb.functional.QuantState.from_dict(state, device=torch.device("cpu"))
        decoded = bitsandbytes_cpu.decode(kept[name], quant_state).to(values[name].dtype)
        failures.require(case, torch.equal(decoded, values[name]), f"{name}: decodes to other values")
        failures.require(case, (len(quant_state.shape) == 2) == case.per_expert, f"{name}: shape {quant_state.shape}")


def check(case, programs, work, failures):
    source, container = work / f"{case.name}_src", work / f"{case.name}.q4"
    model_class = make(case, source)
    said = must(programs / "q4convert", source, "-o", container, "--no-double-quant").stderr
    failures.require(case, ("--experts" in said) == case.fused, f"q4convert says: {said}")
    plain = work / f"{case.name}_plain"
    must(programs / "q4export", container, "-o", plain, "--to", "safetensors", "-q")

    exported = work / f"{case.name}_bnb"
    refused = run(programs / "q4export", container, "-o", exported, "--to", "bnb", "--compute-dtype", "bfloat16", "--json")
    if not case.fused:
        failures.require(case, refused.returncode == 0, f"refused: {refused.stderr}")
        report = json.loads(refused.stdout)
        failures.require(case, report["experts"] is None and report["expert_tensors"] == 0, f"report: {report}")
        modules, _ = check_loads(case, model_class, source, exported, plain, failures)
        lint = run(programs / "q4inspect", exported, "--lint")
        failures.require(case, lint.returncode == 0 and "0 warnings" in lint.stdout, lint.stdout)
        print(f"{case.name}: {modules} 4-bit layers, experts among them")
        return
    number, way = ("Q4-8551", "--to safetensors") if case.splits else ("Q4-8550", "--experts dequantize")
    failures.require(case, refused.returncode == 5 and number in refused.stderr and not exported.exists()
                     and way in refused.stderr and "keep4bit" in refused.stderr,
                     f"the default: exit code {refused.returncode}, {refused.stderr}")
    names = expert_names(source)
    if case.splits:
        refused = run(programs / "q4export", container, "-o", exported, "--to", "bnb", "--experts", "dequantize")
        failures.require(case, refused.returncode == 5 and number in refused.stderr and not exported.exists(),
                         f"dequantize: exit code {refused.returncode}, {refused.stderr}")
        _, troubles = load(model_class, plain, dtype=torch.bfloat16)
        failures.require(case, not troubles, f"loading the dequantized checkpoint: {troubles}")
    else:
        modules, fused = check_dequantize(case, programs, model_class, container, source, exported, plain, names, failures)
    kept = work / f"{case.name}_kept"
    report = json.loads(must(programs / "q4export", container, "-o", kept, "--to", "bnb", "--experts", "keep4bit",
                             "--json").stdout)
    failures.require(case, report["experts"] == "keep4bit" and report["expert_tensors"] == len(names)
                     and report["tensors"]["dequantized"] == 0 and any("experts" in w for w in report["warnings"]),
                     f"report: {report}")
    check_kept(case, kept, plain, names, failures)
    lint = run(programs / "q4inspect", kept, "--lint")
    failures.require(case, lint.returncode == 0 and "experts-quantized" in lint.stdout, f"lint of keep4bit: {lint.stdout}")
    print(f"{case.name}: {len(names)} expert tensors" + ("" if case.splits else
          f", {fused} parameters in transformers, {modules} 4-bit layers beside"))


def check_dequantize(case, programs, model_class, container, source, exported, plain, names, failures):
    report = json.loads(must(programs / "q4export", container, "-o", exported, "--to", "bnb", "--compute-dtype", "bfloat16",
                             "--experts", "dequantize", "--json").stdout)
    modules, fused = check_loads(case, model_class, source, exported, plain, failures)
    lint = run(programs / "q4inspect", exported, "--lint")
    failures.require(case, lint.returncode == 0 and "0 warnings" in lint.stdout, f"lint of dequantize: {lint.stdout}")
    ours, values = tensors_of(exported), tensors_of(plain)
    for name in names:
        failures.require(case, same(ours[name], values[name]), f"{name}: not as in the dequantized checkpoint")
    counts = report["tensors"]
    failures.require(case, report["experts"] == "dequantize" and report["expert_tensors"] == len(names)
                     and counts["dequantized"] == len(names) and counts["quantized"] == modules, f"report: {report}")
    return modules, fused


def main():
    arguments = parse_arguments(__doc__)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    return run_cases(arguments, lambda _: cases(), check, f"transformers {transformers.__version__}")


if __name__ == "__main__":
    sys.exit(main())
