"""Loads q4export's output in transformers for many architectures, each with nothing kept and with one layer kept.

    python architectures_check.py --bin DIR [--case NAME ...] [--lint NAME ...]

Each architecture is a small random model, made here from a configuration and saved by transformers. It is converted twice:
as the default says, and with one more linear layer excluded, which then stands in llm_int8_skip_modules. Each is exported
with --to bnb and --to safetensors. Then
  - the first loads with from_pretrained, and every parameter of it equals that of the second: 4-bit weights as this file
    decodes them (bitsandbytes' own decoding depends on the CPU, bitsandbytes_cpu.py), all others as they are;
  - the kept layer is a plain one, and no 4-bit layer is without its quantized weight;
  - its first forward pass runs, on the inputs that the case has;
  - q4inspect --lint has no finding that is an error.
And lint against transformers' own files: each case of LINT is quantized and saved by transformers with a list of modules to
skip, on which lint is clean; and spoilt, once by an entry that is taken away and once by one that is added, on which it is
not. Exits with 1 if anything fails, or if fewer than 60 architectures were right.
"""

import argparse
import json
import logging
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import warnings

import bitsandbytes as bnb
import policy_check
import torch
import transformers as tf
from bitsandbytes.functional import dequantize_blockwise

LEAST = 60

# Sizes that every linear layer has rows of whole blocks of 64 elements, and a multiple of 32 of them: bitsandbytes is right
# about others on some CPUs only (docs/export_bnb.md).
TEXT = dict(
    vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, head_dim=16,
)
ENCODER = dict(
    vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, pad_token_id=0,
)
VISION = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14)
SPEECH = dict(
    vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    conv_dim=(64, 64), conv_stride=(4, 4), conv_kernel=(8, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4, pad_token_id=0,
)

IDS = lambda: {"input_ids": torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])}
PIXELS = lambda size=28: {"pixel_values": torch.zeros(1, 3, size, size)}
SEQ2SEQ = lambda: IDS() | {"decoder_input_ids": torch.tensor([[1, 3]])}
AUDIO = lambda: {"input_values": torch.zeros(1, 4000)}


def text(name, **extra):
    """A causal language model of TEXT's sizes: the class, its configuration, inputs."""
    return getattr(tf, name + "ForCausalLM"), {**TEXT, **extra}, IDS


def encoder(name, head="ForMaskedLM", **extra):
    return getattr(tf, name + head), {**ENCODER, "num_labels": 32, **extra}, IDS


def vision(name, head="ForImageClassification", **extra):
    return getattr(tf, name + head), {**VISION, "num_labels": 32, **extra}, PIXELS


def composite(name, vision_config, head="ForConditionalGeneration", text_config=None, **extra):
    """A vision-language model. Its text alone is enough for a forward pass of every language layer."""
    config = dict(text_config=text_config or {"model_type": "llama", **TEXT}, vision_config=vision_config, **extra)
    return getattr(tf, name + head), config, IDS


CLIP = {"model_type": "clip_vision_model", "projection_dim": 64, **VISION}
SIGLIP = {"model_type": "siglip_vision_model", **VISION}
GEMMA = {"model_type": "gemma", **TEXT}
QWEN2 = {"model_type": "qwen2", **TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}}

# {name: (class, configuration, inputs), or a function that gives it}; the layer to keep is found by KEEP or, as a default, the first one.
CASES = {
    # language models
    "llama": lambda: text("Llama"),
    "llama-tied": lambda: text("Llama", tie_word_embeddings=True),
    "mistral": lambda: text("Mistral"),
    "ministral": lambda: text("Ministral"),
    "qwen2": lambda: text("Qwen2"),
    "qwen3": lambda: text("Qwen3"),
    "gemma": lambda: text("Gemma"),
    "gemma2": lambda: text("Gemma2", query_pre_attn_scalar=16),
    "gemma3_text": lambda: text("Gemma3"),
    "phi": lambda: text("Phi"),
    "phi3": lambda: text("Phi3"),
    "cohere": lambda: text("Cohere"),
    "cohere2": lambda: text("Cohere2"),
    "olmo": lambda: text("Olmo"),
    "olmo2": lambda: text("Olmo2"),
    "olmo3": lambda: text("Olmo3"),
    "stablelm": lambda: text("StableLm"),
    "starcoder2": lambda: text("Starcoder2"),
    "granite": lambda: text("Granite"),
    "glm": lambda: text("Glm"),
    "glm4": lambda: text("Glm4"),
    "helium": lambda: text("Helium"),
    "nemotron": lambda: text("Nemotron"),
    "persimmon": lambda: text("Persimmon"),
    "smollm3": lambda: text("SmolLM3"),
    "ernie4_5": lambda: text("Ernie4_5"),
    "seed_oss": lambda: text("SeedOss"),
    "exaone4": lambda: text("Exaone4"),
    "arcee": lambda: text("Arcee"),
    "hunyuan": lambda: text("HunYuanDenseV1"),
    "gpt_neox": lambda: text("GPTNeoX"),
    "gptj": lambda: (tf.GPTJForCausalLM, dict(vocab_size=128, n_embd=64, n_layer=2, n_head=4, rotary_dim=16, n_positions=64), IDS),
    "gpt_neo": lambda: (tf.GPTNeoForCausalLM, dict(vocab_size=128, hidden_size=64, num_layers=2, num_heads=4, max_position_embeddings=64, attention_types=[[["global", "local"], 1]]), IDS),
    "bloom": lambda: (tf.BloomForCausalLM, dict(vocab_size=128, hidden_size=64, n_layer=2, n_head=4), IDS),
    "opt": lambda: (tf.OPTForCausalLM, dict(vocab_size=128, hidden_size=64, ffn_dim=128, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, word_embed_proj_dim=64), IDS),
    "mamba2": lambda: (tf.Mamba2ForCausalLM, dict(vocab_size=128, hidden_size=64, state_size=12, num_hidden_layers=2, num_heads=8, head_dim=16, n_groups=1, expand=2, conv_kernel=4), IDS),
    "recurrent_gemma": lambda: (tf.RecurrentGemmaForCausalLM, dict(TEXT, num_hidden_layers=3, lru_width=64), IDS),
    "falcon_h1": lambda: text("FalconH1", mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1, mamba_d_state=14),
    "lfm2": lambda: text("Lfm2", layer_types=["conv", "full_attention"]),
    "xglm": lambda: (tf.XGLMForCausalLM, dict(vocab_size=128, d_model=64, ffn_dim=128, num_layers=2, attention_heads=4, max_position_embeddings=64), IDS),
    # encoders
    "bert": lambda: encoder("Bert"),
    "bert-classifier": lambda: encoder("Bert", "ForSequenceClassification"),
    "bert-model": lambda: encoder("Bert", "Model"),
    "roberta": lambda: encoder("Roberta"),
    "xlm_roberta": lambda: encoder("XLMRoberta", "ForSequenceClassification"),
    "camembert": lambda: encoder("Camembert"),
    "electra": lambda: encoder("Electra", embedding_size=64),
    "deberta": lambda: encoder("Deberta"),
    "deberta_v2": lambda: encoder("DebertaV2"),
    "mpnet": lambda: encoder("MPNet"),
    "albert": lambda: encoder("Albert", embedding_size=64),
    "distilbert": lambda: (tf.DistilBertForMaskedLM, dict(vocab_size=128, dim=64, hidden_dim=128, n_layers=2, n_heads=4, max_position_embeddings=64), IDS),
    "modernbert": lambda: encoder("ModernBert", reference_compile=False, bos_token_id=1, cls_token_id=1, sep_token_id=2, eos_token_id=2),
    "ernie": lambda: encoder("Ernie"),
    "esm": lambda: encoder("Esm", mask_token_id=3),
    "nystromformer": lambda: encoder("Nystromformer", num_landmarks=4, segment_means_seq_len=8),
    "rembert": lambda: encoder("RemBert", input_embedding_size=64, output_embedding_size=64),
    # encoder and decoder
    "t5": lambda: (tf.T5ForConditionalGeneration, dict(vocab_size=128, d_model=64, d_ff=128, d_kv=16, num_layers=2, num_heads=4), SEQ2SEQ),
    "t5-gated": lambda: (tf.T5ForConditionalGeneration, dict(vocab_size=128, d_model=64, d_ff=128, d_kv=16, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu", tie_word_embeddings=False), SEQ2SEQ),
    "mt5": lambda: (tf.MT5ForConditionalGeneration, dict(vocab_size=128, d_model=64, d_ff=128, d_kv=16, num_layers=2, num_heads=4), SEQ2SEQ),
    "bart": lambda: (tf.BartForConditionalGeneration, seq2seq(), SEQ2SEQ),
    "mbart": lambda: (tf.MBartForConditionalGeneration, seq2seq(), SEQ2SEQ),
    "marian": lambda: (tf.MarianMTModel, seq2seq(decoder_start_token_id=0), SEQ2SEQ),
    "pegasus": lambda: (tf.PegasusForConditionalGeneration, seq2seq(), SEQ2SEQ),
    "blenderbot": lambda: (tf.BlenderbotForConditionalGeneration, seq2seq(), SEQ2SEQ),
    "m2m_100": lambda: (tf.M2M100ForConditionalGeneration, seq2seq(), SEQ2SEQ),
    "whisper": lambda: (
        tf.WhisperForConditionalGeneration,
        seq2seq(num_mel_bins=16, max_source_positions=8, max_target_positions=16, decoder_start_token_id=1),
        lambda: {"input_features": torch.zeros(1, 16, 16), "decoder_input_ids": torch.tensor([[1, 3]])},
    ),
    # speech
    "wav2vec2": lambda: (tf.Wav2Vec2ForCTC, SPEECH, AUDIO),
    "hubert": lambda: (tf.HubertForCTC, SPEECH, AUDIO),
    # vision
    "vit": lambda: vision("ViT"),
    "deit": lambda: vision("DeiT"),
    "beit": lambda: vision("Beit"),
    "dinov2": lambda: vision("Dinov2", "Model"),
    "dinov2-classifier": lambda: vision("Dinov2"),
    "siglip_vision": lambda: vision("Siglip", "VisionModel"),
    "clip_vision": lambda: vision("CLIP", "VisionModel"),
    "clip": lambda: (
        tf.CLIPModel,
        dict(text_config=dict(ENCODER, eos_token_id=2, bos_token_id=1, projection_dim=64), vision_config=CLIP, projection_dim=64),
        lambda: IDS() | PIXELS(),
    ),
    "siglip": lambda: (tf.SiglipModel, dict(text_config=dict(ENCODER, projection_size=64), vision_config=VISION), lambda: IDS() | PIXELS()),
    # vision and language
    "llava": lambda: composite("Llava", CLIP, image_token_index=100),
    "llava_next": lambda: composite("LlavaNext", CLIP, image_token_index=100, image_grid_pinpoints=[[28, 28]]),
    "llava_onevision": lambda: composite("LlavaOnevision", SIGLIP, image_token_index=100, video_token_index=101, text_config={"model_type": "qwen2", **TEXT}),
    "vipllava": lambda: composite("VipLlava", CLIP, image_token_index=100, vision_feature_layers=[-1, -2]),
    "paligemma": lambda: composite("PaliGemma", {**SIGLIP, "projection_dim": 64, "vision_use_head": False}, text_config=GEMMA, projection_dim=64, image_token_index=100),
    "gemma3": lambda: composite("Gemma3", VISION, text_config=TEXT, mm_tokens_per_image=4, image_token_index=100, boi_token_index=101, eoi_token_index=102),
    "aya_vision": lambda: composite("AyaVision", SIGLIP, text_config={"model_type": "cohere2", **TEXT}, image_token_index=100),
    "mistral3": lambda: composite("Mistral3", {"model_type": "pixtral", **VISION}, text_config={"model_type": "mistral", **TEXT}, image_token_index=100),
    "internvl": lambda: composite("InternVL", {"model_type": "internvl_vision", **VISION, "image_size": [28, 28], "patch_size": [14, 14]}, text_config={"model_type": "qwen2", **TEXT}, image_token_id=100),
    "got_ocr2": lambda: composite("GotOcr2", dict(hidden_size=64, output_channels=64, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=16, mlp_dim=128, window_size=2, global_attn_indexes=[1]), text_config={"model_type": "qwen2", **TEXT}, image_token_index=100),
    "idefics3": lambda: composite("Idefics3", {**VISION}, image_token_id=100, scale_factor=2, pad_token_id=0),
    "smolvlm": lambda: composite("SmolVLM", {**VISION}, image_token_id=100, scale_factor=2, pad_token_id=0),
    "mllama": lambda: composite("Mllama", dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_global_layers=1, attention_heads=4, image_size=28, patch_size=14, vision_output_dim=128, intermediate_layers_indices=[0], max_num_tiles=1, supported_aspect_ratios=[[1, 1]]), text_config={**TEXT, "cross_attention_layers": [1]}, image_token_index=100),
    "qwen2_vl": lambda: composite("Qwen2VL", dict(depth=2, embed_dim=64, hidden_size=64, num_heads=4, mlp_ratio=2), text_config=QWEN2, image_token_id=100, video_token_id=101, vision_start_token_id=102, vision_end_token_id=103),
    "qwen2_5_vl": lambda: composite("Qwen2_5_VL", dict(depth=2, hidden_size=64, out_hidden_size=64, intermediate_size=128, num_heads=4, fullatt_block_indexes=[1]), text_config=QWEN2, image_token_id=100, video_token_id=101, vision_start_token_id=102, vision_end_token_id=103),
    "fuyu": lambda: (tf.FuyuForCausalLM, dict(text_config={"model_type": "persimmon", **TEXT}, patch_size=8, num_channels=4, image_token_id=100, **{k: v for k, v in TEXT.items() if k != "head_dim"}), IDS),
    "blip-captions": lambda: (
        tf.BlipForConditionalGeneration,
        dict(text_config=dict(ENCODER, encoder_hidden_size=64, bos_token_id=1, sep_token_id=2, is_decoder=True), vision_config=VISION, projection_dim=64, image_text_hidden_size=64),
        lambda: IDS() | PIXELS(),
    ),
}


def seq2seq(**extra):
    return dict(
        vocab_size=128, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    ) | extra


# Their code computes in float32 somewhere, whatever the model is in.
FLOAT32 = ("deberta", "nystromformer")


def build(case):
    model_class, config, inputs = CASES[case]()
    torch.manual_seed(0)
    wanted = model_class.config_class
    model = model_class(wanted(**config)).eval()
    return model if case in FLOAT32 else model.bfloat16(), inputs


def decoded(weight):
    """What codes and scales stand for, by their definition."""
    state = weight.quant_state
    packed = weight.data.contiguous().view(torch.uint8).flatten()
    codes = torch.stack([packed >> 4, packed & 15], 1).flatten()[: state.shape.numel()].long()
    scales = state.absmax
    if state.nested:
        scales = dequantize_blockwise(state.absmax, state.state2) + state.offset
    scales = scales.float().repeat_interleave(state.blocksize)[: codes.numel()]
    return (state.code.float()[codes] * scales).to(state.dtype).reshape(state.shape).float()


def parameters(model):
    """{name: values}, None for a 4-bit layer whose weight is not quantized."""
    found = {}
    for name, parameter in model.named_parameters():
        if isinstance(parameter, bnb.nn.Params4bit):
            found[name] = None if parameter.quant_state is None else decoded(parameter)
        else:
            found[name] = parameter.data.float()
    return found


def layers(model, kind):
    return [name for name, module in model.named_modules() if type(module) is kind]


class Tools:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def run(self, tool, *arguments, expect=0):
        command = [str(self.folder / tool), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == expect, f"{tool}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


def export(tools, source, folder, *flags):
    """The two exports of `source`, converted with `flags`."""
    container = folder / "m.q4"
    tools.run("q4convert", source, "-o", container, "-q", "--no-double-quant", *flags)
    paths = folder / "bnb", folder / "dequantized"
    for path, name in zip(paths, ("bnb", "safetensors")):
        tools.run("q4export", container, "--to", name, "-o", path, "-q")
    return paths


def load(model_class, path):
    model = model_class.from_pretrained(path, device_map="cpu") if "bnb" in path.name else model_class.from_pretrained(path, dtype="auto")
    return model.eval()


def check_export(tools, model, inputs, source, folder, kept_module, flags):
    folder.mkdir()
    quantized_path, dequantized_path = export(tools, source, folder, *flags)
    quantized, dequantized = load(type(model), quantized_path), load(type(model), dequantized_path)
    ours, theirs = parameters(quantized), parameters(dequantized)
    bare = [name for name, values in ours.items() if values is None]
    assert not bare, f"4-bit layers without a quantized weight: {bare[:4]}"
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())[:4]
    differing = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not differing, f"parameters differ: {differing[:4]}"
    four_bits = layers(quantized, bnb.nn.Linear4bit)
    assert kept_module not in four_bits, f"{kept_module} was kept, but is a 4-bit layer"
    # In the dtype of the model, as its processor's output would be.
    arguments = {k: v.to(quantized.dtype) if v.is_floating_point() else v for k, v in inputs().items()}
    with torch.no_grad():
        quantized(**arguments)
    tools.run("q4inspect", quantized_path, "--lint")
    return four_bits


def check_case(tools, case, scratch):
    model, inputs = build(case)
    source = scratch / "src"
    model.save_pretrained(source)
    four_bits = check_export(tools, model, inputs, source, scratch / "none", None, ())
    # One layer in the middle: by its name on disk, which is what --exclude sees.
    plan = json.loads(tools.run("q4convert", source, "-o", scratch / "x.q4", "--dry-run", "--json", "-q"))
    candidates = [t["name"] for t in plan["tensors"] if t["quantized"]]
    on_disk = candidates[len(candidates) // 2]
    kept = module_in_memory(model, on_disk)
    now = check_export(tools, model, inputs, source, scratch / "one", kept, ("--exclude", f"^{re.escape(on_disk)}$"))
    assert sorted(now + [kept]) == sorted(four_bits), f"not just {kept} was kept: {sorted(set(four_bits) - set(now))}"
    return len(four_bits)


def module_in_memory(model, name):
    """The module of a tensor on disk, by transformers' own loader."""
    return policy_check.Loader(model).places(name)[0].removesuffix(".weight")


# {case: lists of modules to skip, as a user would pass them}
LINT = {
    "llama": [["lm_head"], ["model.layers.0", "lm_head"], ["q_proj", "lm_head"], ["model.layers.1.mlp.down_proj", "lm_head"], []],
    "llama-tied": [["lm_head"], ["model.layers.0.self_attn", "lm_head"]],
    "gemma3": [["vision_tower", "lm_head"], ["model.language_model.layers.0.mlp", "lm_head"], ["model.vision_tower", "multi_modal_projector", "lm_head"], ["lm_head", "up_proj"]],
    "llava": [["model.vision_tower", "model.multi_modal_projector", "lm_head"], ["model.language_model.layers.1.self_attn", "lm_head"]],
    "qwen2_vl": [["model.visual", "lm_head"], ["visual.blocks.0", "lm_head"], [r"model.visual.blocks.\d+.attn", "lm_head"]],
    "paligemma": [["model.vision_tower", "lm_head"]],
    "mllama": [["model.vision_model", "lm_head"], ["cross_attn", "lm_head"]],
    "bert": [["cls"], ["bert.encoder.layer.0.attention", "cls"]],
    "whisper": [["proj_out"], ["model.decoder.layers.0", "proj_out"]],
    "t5": [["lm_head"], ["decoder.block.1", "lm_head"]],
    "vit": [["classifier"], ["vit.layers.0.attention", "classifier"]],
}


def errors_of(tools, path):
    done = subprocess.run([str(tools.folder / "q4inspect"), str(path), "--lint", "--json"], capture_output=True, text=True)
    report = json.loads(done.stdout)
    return done.returncode, sorted({f["rule"] for f in report["findings"]} if done.returncode else [])


def check_lint(tools, case, scratch):
    model, inputs = build(case)
    source = scratch / "src"
    model.save_pretrained(source)
    checked = 0
    for number, skip in enumerate(LINT[case]):
        path = scratch / f"saved{number}"
        settings = tf.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=skip)
        quantized = type(model).from_pretrained(source, device_map="cpu", quantization_config=settings)
        quantized.save_pretrained(path)
        code, rules = errors_of(tools, path)
        assert code == 0, f"saved with {skip}: {rules}"
        # Spoilt: the list names a layer that is quantized.
        config = json.loads((path / "config.json").read_text())
        saved = config["quantization_config"]["llm_int8_skip_modules"]
        some = layers(quantized, bnb.nn.Linear4bit)[-1]
        config["quantization_config"]["llm_int8_skip_modules"] = [*saved, some]
        (path / "config.json").write_text(json.dumps(config))
        code, rules = errors_of(tools, path)
        assert code == 6 and "skip-but-quantized" in rules, f"{skip} and {some}, which is quantized: exit code {code}, {rules}"
        # Spoilt: the list misses layers that are not, unless nothing but the head was skipped.
        missing = [entry for entry in saved if entry in ("lm_head", "cls", "proj_out", "classifier")]
        skipped = [n for n in layers(quantized, torch.nn.Linear) if not any(e in n for e in missing)]
        namesakes = {re.sub(r"\d+", "#", n) for n in layers(quantized, bnb.nn.Linear4bit)}
        if any(re.sub(r"\d+", "#", n) in namesakes for n in skipped):
            config["quantization_config"]["llm_int8_skip_modules"] = missing
            (path / "config.json").write_text(json.dumps(config))
            code, rules = errors_of(tools, path)
            assert code == 6 and "skip-not-listed" in rules, f"{missing} instead of {skip}: exit code {code}, {rules}"
        checked += 1
    return checked


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--case", nargs="+", default=[])
    parser.add_argument("--lint", nargs="+", default=[])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tf.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    tools = Tools(options.bin)
    named = options.case or options.lint
    jobs = [(case, check_case) for case in (options.case if named else CASES)]
    jobs += [(case, check_lint) for case in (options.lint if named else LINT)]
    right, failures = 0, 0
    for case, check in jobs:
        start = time.process_time()
        with tempfile.TemporaryDirectory() as scratch:
            try:
                count = check(tools, case, pathlib.Path(scratch))
                right += check is check_case
                print(f"ok   {check.__name__[6:]} {case}: {count} ({time.process_time() - start:.1f} s)", flush=True)
            except Exception as error:
                failures += 1
                print(f"FAIL {check.__name__[6:]} {case}: {type(error).__name__}: {str(error)[:600]}", flush=True)
    print(f"architectures_check: {right} architectures right, {failures} failures")
    sys.exit(failures > 0 or (not named and right < LEAST))


if __name__ == "__main__":
    main()
