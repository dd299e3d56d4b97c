#!/usr/bin/env python3
"""Inputs that are no plain weights: quantized already, or an adapter. Refused by name and with a way out, with nothing left behind; and
plain models that look like them, which are converted.

    foreign_test.py TOOLS
"""

import json
import math
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402
from safetensors_bytes import ITEM_SIZE, tensor_file  # noqa: E402
from tools import Tools  # noqa: E402

LINEAR = "model.layers.0.mlp.up_proj"
ATTENTION = "model.layers.1.self_attn.q_proj"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
# What every model here holds beside what is looked at.
PLAIN = {
    "model.embed_tokens.weight": ("BF16", (8, 64)),
    "model.layers.0.input_layernorm.weight": ("BF16", (64,)),
    "model.layers.1.mlp.down_proj.weight": ("BF16", (64, 64)),
}


def parts(**suffixes):
    """Tensors of one module: {suffix: (dtype, shape)}, `__` in a suffix standing for a dot."""
    return {f"{LINEAR}.{suffix.replace('__', '.')}": tensor for suffix, tensor in suffixes.items()}


# By tensors alone: (what the message names, tensors).
BY_TENSORS = [
    ("GPTQ", parts(qweight=("I32", (8, 64)), qzeros=("I32", (1, 8)), scales=("F16", (1, 64)), g_idx=("I32", (64,)))),
    ("AWQ", parts(qweight=("I32", (64, 8)), qzeros=("I32", (1, 8)), scales=("F16", (1, 64)))),
    ("HQQ", parts(W_q=("U8", (32, 64)), scale=("F16", (64, 1)), zero=("F16", (64, 1)))),
    ("SINQ", parts(W_q=("U8", (32, 64)), meta=("U8", (100,)))),
    ("AQLM", parts(codes=("I8", (8, 8, 1)), codebooks=("F16", (1, 16, 1, 8)), scales=("F16", (64, 1, 1, 1)))),
    ("VPTQ", parts(indices=("I32", (1, 8, 64)), centroids__weight=("F16", (1, 64)))),
    ("QuIP#", parts(Qidxs=("I64", (8, 8)), SU=("F16", (64,)), SV=("F16", (64,)))),
    ("EXL2", parts(q_weight=("I32", (8, 64)), q_scale=("I32", (2, 8)), q_groups=("I16", (4,)))),
    ("EXL3", parts(trellis=("I16", (4, 4, 64)), suh=("F16", (64,)), svh=("F16", (64,)))),
    ("SpQR", parts(dense_weights=("I64", (64,)), row_offsets=("I32", (65,)), col_vals=("I32", (3,)))),
    ("Marlin", parts(B=("I32", (4, 128)), s=("F16", (1, 64)))),
    ("FP-Quant", parts(qweight=("U8", (64, 32)), scales=("U8", (64, 2)), forward_hadamard_matrix=("BF16", (32, 32)))),
    ("EETQ", parts(weight=("I8", (64, 64)), weight_scales=("F16", (64,)))),
    ("bitsandbytes 8-bit", parts(weight=("I8", (64, 64)), SCB=("F32", (64,)), weight_format=("U8", ()))),
    # Without the text that would let it be taken over.
    ("bitsandbytes 4-bit", parts(weight=("U8", (2048, 1)), weight__absmax=("F32", (64,)), weight__quant_map=("F32", (16,)))),
    ("compressed-tensors", parts(weight_packed=("I32", (64, 8)), weight_scale=("BF16", (64, 1)), weight_shape=("I64", (2,)))),
    ("integers with scales", parts(weight=("I8", (64, 64)), weight_scale=("F32", (64, 1)))),
    ("ModelOpt", parts(weight=("U8", (64, 32)), weight_scale=("F32", (64, 1)), weight_scale_2=("F32", ()), pre_quant_scale=("F32", (64,)))),
    ("MLX", parts(weight=("U32", (64, 8)), scales=("BF16", (64, 1)), biases=("BF16", (64, 1)))),
    ("MLX", parts(weight=("U32", (64, 8)), scales=("U8", (64, 2)))),
    ("Metal", parts(weight=("U32", (64, 8)), scales=("BF16", (64, 1)), qbiases=("BF16", (64, 1)))),
    ("MXFP4", {"model.layers.0.mlp.experts.up_blocks": ("U8", (2, 8, 1, 16)), "model.layers.0.mlp.experts.up_scales": ("U8", (2, 8, 1))}),
    ("torchao", parts(_weight_qdata=("I8", (64, 64)), _weight_scale=("F32", (64, 1)))),
    ("quanto", parts(weight___data=("I8", (64, 64)), weight___scale=("F32", (64, 1)))),
    ("Quark", parts(weight=("I8", (64, 64)), weight_quantizer__scale=("F32", (64,)))),
    ("HIGGS", parts(weight=("I16", (64, 8)), scales=("F16", (64,)), tables=("F16", (16,)), tables2=("F16", (16, 2)))),
    ("SVDQuant", parts(qweight=("I8", (64, 32)), wscales=("BF16", (1, 64)))),
    ("Gemma", parts(weight=("U8", (64, 32)), weight_scale=("F32", (64, 1)), input_activation_scale=("F32", ()))),
    ("msModelSlim", parts(weight=("I8", (64, 64)), weight_scale=("F32", (64, 1)), weight_offset=("F32", (64, 1)))),
]

# By the configuration: (what the message names, what is added to config.json).
BY_CONFIG = [
    *[(name, {"quantization_config": {"quant_method": method}})
      for name, method in [
          ("GPTQ", "gptq"), ("AWQ", "awq"), ("AQLM", "aqlm"), ("quanto", "quanto"), ("Quark", "quark"), ("HQQ", "hqq"), ("EETQ", "eetq"),
          ("HIGGS", "higgs"), ("FBGEMM FP8", "fbgemm_fp8"), ("torchao", "torchao"), ("BitNet", "bitnet"), ("VPTQ", "vptq"),
          ("SpQR", "spqr"), ("FP8", "fp8"), ("FP8", "mxfp8"), ("NVFP4", "nvfp4"), ("MXFP4", "mxfp4"), ("Metal", "metal"), ("SINQ", "sinq"),
          ("AutoRound", "auto-round"), ("AutoRound", "intel/auto-round"), ("FP-Quant", "fp_quant"), ("Four Over Six", "fouroversix"),
          ("Gemma QAT", "gemma"), ("compressed-tensors", "compressed-tensors"), ("ModelOpt", "modelopt"), ("ModelOpt", "modelopt_fp4"),
          ("GPTQ", "GPTQ"), ("GPTQ", "gptq_marlin"), ("GGUF", "gguf"),
      ]],
    ("bitsandbytes 4-bit", {"quantization_config": {"load_in_4bit": True}}),
    ("bitsandbytes 8-bit", {"quantization_config": {"load_in_8bit": True, "quant_method": "bitsandbytes"}}),
    ("ModelOpt", {"quantization_config": {"quant_algo": "NVFP4"}}),
    ("AWQ", {"quantization_config": {"w_bit": 4, "q_group_size": 128}}),
    ("compressed-tensors", {"compression_config": {"format": "pack-quantized"}}),
    ("MLX", {"quantization": {"group_size": 64, "bits": 4}}),
    ("ChatGLM", {"quantization_bit": 4}),
    ("AWQ", {"text_config": {"model_type": "llama", "quantization_config": {"quant_method": "awq"}}}),
    ("GPTQ", {"quantization_config": {}, "text_config": {"quantization_config": {"quant_method": "gptq"}}}),
]

# By a file that a quantizer wrote: (what the message names, file, content).
BY_FILE = [
    ("ModelOpt", "hf_quant_config.json", {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}),
    ("GPTQ", "quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": False}),
    ("AWQ", "quant_config.json", {"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"}),
    ("AutoRound", "quantization_config.json", {"bits": 4, "quant_method": "auto-round"}),
    ("quanto", "quanto_qmap.json", {"model.layers.0.mlp.up_proj": {"weights": "qint8", "activations": "none"}}),
]

# Plain models: (why somebody might doubt it, tensors, what is added to config.json, files, a word of the note or "").
NO_METHOD = "no quantization that a loader knows"
CONVERTED = [
    ("null", {}, {"quantization_config": None}, {}, ""),
    ("an empty object", {}, {"quantization_config": {}}, {}, NO_METHOD),
    ("a method that no loader has", {}, {"quantization_config": {"quant_method": "frobnicate"}}, {}, NO_METHOD),
    ("bitsandbytes with neither flag", {}, {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": False}}, {}, NO_METHOD),
    ("where no loader looks", {}, {"vision_config": {"quantization_config": {"quant_method": "gptq"}}}, {}, ""),
    ("quantization_bit of ChatGLM's plain models", {}, {"quantization_bit": 0}, {}, ""),
    ("a cache alone is quantized", {}, {}, {"hf_quant_config.json": {"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}}, ""),
    ("somebody's own quant_config.json", {}, {}, {"quant_config.json": {"note": "later"}}, ""),
    ("float parameters called as codes are", parts(scales=("F32", (64,)), codes=("F32", (8, 8)), W_q=("F32", (64, 64))), {}, {}, ""),
    ("int8 buffers", {"model.position_ids": ("I64", (1, 64)), "model.layers.0.attn.relative_position_index": ("I64", (64, 64)),
                      "model.mask": ("I8", (64, 64)), "bn.num_batches_tracked": ("I64", ()), "bn.weight": ("F32", (64,))}, {}, {}, ""),
    ("a scale beside a float weight", parts(weight=("F32", (64, 64)), weight_scale=("F32", (64, 1)), scale=("F32", (1,))), {}, {}, ""),
    ("8-bit floats without scales", parts(weight=("F8_E4M3", (64, 64))), {}, {}, "the values that they are"),
    ("8-bit floats with scales", parts(weight=("F8_E4M3", (64, 64)), weight_scale=("F32", ()), input_scale=("F32", ())), {}, {}, "read as BF16: each times its scale"),
    ("FP8", parts(weight=("F8_E4M3", (64, 64)), weight_scale_inv=("F32", (1, 1))), {}, {}, "read as BF16: each times its scale"),
    ("FP8", {"model.layers.0.mlp.experts.up": ("F8_E4M3", (2, 8, 8)), "model.layers.0.mlp.experts.up_scale_inv": ("F32", (2, 1, 1))}, {}, {}, "read as BF16: each times its scale"),
    ("ComfyUI", parts(weight=("F8_E4M3", (64, 64)), scale_weight=("F32", (1,))), {}, {}, "read as BF16: each times its scale"),
    ("Mistral", parts(weight=("F8_E4M3", (64, 64)), qscale_weight=("F32", ())), {}, {}, "read as BF16: each times its scale"),
    ("packed words without scales", parts(weight=("I32", (64, 8))), {}, {}, ""),
    ("an adapter inside a model", parts(base_layer__weight=("F32", (64, 64)), lora_A__vision__weight=("F32", (8, 64)),
                                        lora_B__vision__weight=("F32", (64, 8))), {}, {}, ""),
    ("an adapter's file beside the model", {}, {}, {"adapter_config.json": {"peft_type": "LORA"}}, ""),
]

PEFT = "base_model.model.model.layers.0.self_attn.q_proj."
DIFFUSERS = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1."
# A lone file of each: (what the message names, its tensors).
ADAPTERS = [
    ("LoRA", {PEFT + "lora_A.weight": (8, 64), PEFT + "lora_B.weight": (64, 8)}),
    ("LoRA", {PEFT + "lora_A.weight": (8, 64), PEFT + "lora_B.weight": (64, 8), PEFT + "lora_magnitude_vector": (64,)}),
    ("LoRA", {PEFT + "lora_A.weight": (8, 64), "base_model.model.lm_head.weight": (64, 64)}),
    ("LoRA", {"base_model.model.model.embed_tokens.lora_embedding_A": (8, 64), "base_model.model.model.embed_tokens.lora_embedding_B": (64, 8)}),
    ("LoRA", {PEFT + "base_layer.weight": (64, 64), PEFT + "lora_A.default.weight": (8, 64), "base_model.model.lm_head.weight": (64, 64)}),
    ("LoRA", {"lora_unet_down_blocks_0_attn_to_q.lora_down.weight": (8, 64), "lora_unet_down_blocks_0_attn_to_q.alpha": ()}),
    ("LoRA", {DIFFUSERS + "to_q.lora.down.weight": (8, 64), DIFFUSERS + "to_q.lora.up.weight": (64, 8)}),
    ("LoRA", {DIFFUSERS + "processor.to_q_lora.down.weight": (8, 64), DIFFUSERS + "processor.to_q_lora.up.weight": (64, 8)}),
    ("LoRA", {"model.layers.0.self_attn.q_proj.lora_a": (64, 8), "model.layers.0.self_attn.q_proj.lora_b": (8, 64)}),
    ("LoHa", {PEFT + "hada_w1_a": (64, 8), PEFT + "hada_w1_b": (8, 64)}),
    ("LoKr", {PEFT + "lokr_w1": (8, 8), PEFT + "lokr_w2_a": (8, 4)}),
    ("IA3", {PEFT + "ia3_l": (64, 1)}),
    ("VeRA", {"base_model.vera_A": (8, 64), PEFT + "vera_lambda_b": (64,)}),
    ("OFT", {PEFT + "oft_R.weight": (8, 28)}),
    ("prompt or prefix tuning", {"prompt_embeddings": (8, 64)}),
]


def weights(named) -> bytes:
    return tensor_file({name: (dtype, shape, bytes(math.prod(shape) * ITEM_SIZE[dtype])) for name, (dtype, shape) in named.items()})


class Inputs(Tools):
    """Folders that are made, converted and removed one after the other."""

    dry: set = set()

    def lay(self, files) -> pathlib.Path:
        path = self.work / "input"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            (path / name).write_bytes(data)
        return path

    def convert(self, source, *flags, code=0):
        done = self.run("q4convert", source, "-o", "out.q4", "--progress", "none", *flags, code=code)
        left = [path.name for path in self.work.iterdir() if path.name.startswith("out.q4")]
        check(bool(left) == (code == 0 and "--dry-run" not in flags), "an output exactly where it succeeds", left)
        for name in left:
            (self.work / name).unlink()
        return done.stderr

    def refuse(self, source, number, *words):
        """Refused by that error, in the same words by a dry run."""
        said = self.convert(source, code=5)
        # Both ask the same plan; one of each number is enough to see it.
        if number not in self.dry:
            self.dry.add(number)
            check(said == self.convert(source, "--dry-run", code=5), "a dry run says the same", said)
        check(said.count("\n") == 1 and f"[Q4-{number}]" in said, "one line with its number", said)
        for word in words:
            check(word in said, f"it says {word}", said)
        return said


def model(tensors=(), config=None, **files):
    return {"model.safetensors": weights(PLAIN | dict(tensors)), "config.json": CONFIG | (config or {}), **files}


def quantized(inputs: Inputs) -> None:
    for name, tensors in BY_TENSORS:
        first = next(iter(tensors)).rsplit(".", 2)[0]
        source = inputs.lay(model(tensors))
        inputs.refuse(source, 5510, name, first, "convert the checkpoint that it was made from")
    for name, config in BY_CONFIG:
        said = inputs.refuse(inputs.lay(model(config=config)), 5510, name, "config.json: ")
        check("if its weights are plain all the same, remove " in said, "a stale configuration has a way out", said)
    for name, file, content in BY_FILE:
        inputs.refuse(inputs.lay(model(**{file: content})), 5510, name, file, f"remove {file}")
    # A lone file has no configuration, and needs none.
    (source := inputs.lay(model(BY_TENSORS[0][1])) / "config.json").unlink()
    inputs.refuse(source.parent / "model.safetensors", 5510, "GPTQ")
    # The configuration names the method, and a tensor bears it out.
    said = inputs.refuse(inputs.lay(model(BY_TENSORS[1][1], {"quantization_config": {"quant_method": "gptq"}})), 5510, "GPTQ", "qweight")
    check("plain all the same" not in said, "nothing is stale", said)
    # The ways out of methods that a common tool undoes.
    inputs.refuse(inputs.lay(model(config={"quantization_config": {"load_in_4bit": True}})), 5510, "model.dequantize()")
    inputs.refuse(inputs.lay(model(config={"quantization_config": {"quant_method": "fp8"}})), 5510, "FineGrainedFP8Config(dequantize=True)")
    # Text of the input is escaped, and in two tensors of one shard the first counts.
    hostile = {"a\u001b[2J.qweight": ("I32", (8, 8)), "a\u001b[2J.qzeros": ("I32", (1, 1)), "a\u001b[2J.scales": ("F16", (1, 8))}
    said = inputs.refuse(inputs.lay(model(hostile)), 5510, "\\x1b[2J")
    check("\x1b" not in said, "no control character of the input is echoed")


def looked_at(inputs: Inputs) -> None:
    """What the other tools say of such an input, and of a container beside it."""
    source = inputs.lay(model(BY_TENSORS[0][1]))
    report = json.loads(inputs.run("q4inspect", source, "--json").stdout)
    check(report["format"] == "safetensors, GPTQ", "the inspector names it", report["format"])
    plain = inputs.work / "plain"
    plain.mkdir()
    (plain / "model.safetensors").write_bytes(weights(PLAIN))
    (plain / "config.json").write_text(json.dumps(CONFIG))
    inputs.run("q4convert", plain, "-o", "plain.q4", "-q")
    for arguments in (("q4verify", "plain.q4", "--against", source), ("q4inspect", "plain.q4", "--diff", source)):
        said = inputs.run(*arguments, code=5).stderr
        check("GPTQ" in said and "[Q4-5510]" in said, "the source is named for what it is", said)


def converted(inputs: Inputs) -> None:
    for why, tensors, config, files, note in CONVERTED:
        said = inputs.convert(inputs.lay(model(tensors, config, **files)))
        check(note in said, f"{why}: the note is there", said)
        check(bool(note) or NO_METHOD not in said, f"{why}: no note", said)


def adapters(inputs: Inputs) -> None:
    for name, shapes in ADAPTERS:
        data = weights({tensor: ("F32", shape) for tensor, shape in shapes.items()})
        source = inputs.lay({"some-name.safetensors": data})
        inputs.refuse(source / "some-name.safetensors", 5511, name, "merge_and_unload()")
        inputs.refuse(source, 5511, name)
    data = weights({"x": ("F32", (4, 4))})
    for files in ({"adapter_model.safetensors": data}, {"adapter_model.bin": b"x"}, {}, {"adapter_model.safetensors": data, "new_embeddings.safetensors": data},
                  {"adapter_model.safetensors": data, "config.json": CONFIG, "tokenizer.json": {}}):
        for kind, name in (("LORA", "LoRA"), ("IA3", "IA3"), ("PREFIX_TUNING", "prefix tuning"), ("NEW_ONE", "adapter")):
            source = inputs.lay(files | {"adapter_config.json": {"peft_type": kind}})
            inputs.refuse(source, 5511, name, f"peft_type {kind}")
    # It can be looked at.
    source = inputs.lay({"adapter_model.safetensors": data, "adapter_config.json": {"peft_type": "LORA"}})
    check(json.loads(inputs.run("q4inspect", source, "--json").stdout)["format"] == "safetensors, LoRA adapter", "the inspector names it")
    source = inputs.lay({"pytorch_lora_weights.safetensors": weights({"unet.a.lora_A.weight": ("F32", (4, 4))})})
    inputs.refuse(source, 5511, "adapter")
    # Files that nobody can read are no reason to call it anything else.
    inputs.refuse(inputs.lay({"adapter_model.safetensors": data, "adapter_config.json": b"{"}), 5511, "adapter")


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        inputs = Inputs(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(work))
        quantized(inputs)
        looked_at(inputs)
        converted(inputs)
        adapters(inputs)
    print(f"foreign_test: {len(BY_TENSORS)} layouts by their tensors, {len(BY_CONFIG)} by configuration, {len(BY_FILE)} by files, "
          f"{len(ADAPTERS)} adapters, {len(CONVERTED)} plain models; {checks.count()} checks")


if __name__ == "__main__":
    main()
