"""q4.calibrate against plain sums in float64, and the tool q4calibrate: names, padding, passes, experts, errors."""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from package_setup import ROOT, check, count, raises

for package in ("torch", "transformers", "safetensors"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_calibrate (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

import warnings

warnings.simplefilter("ignore")  # theirs
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from calibrations import EXPERTS, SIZES, File, imatrix, is_used, llama, model_of  # noqa: E402

import q4  # noqa: E402
from q4 import _batches, _calibrate_tool  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
WORDS = [f"w{i}" for i in range(120)]
IDS = [torch.arange(n * 7, n * 7 + length) % 120 + 8 for n, length in enumerate((11, 5, 11, 9))]


def tokenizer(folder):
    """A word is a token, from 8 on; 1 begins a text, 0 pads."""
    vocabulary = {f"<{i}>": i for i in range(8)} | {word: i for i, word in enumerate(WORDS, 8)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<3>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    model.post_processor = tokenizers.processors.TemplateProcessing(single="<1> $A", special_tokens=[("<1>", 1)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<0>", unk_token="<3>", model_max_length=24).save_pretrained(folder)


def inputs_of(model, run):
    """By name all rows that each linear layer is given, found by hooks of the test's own."""
    rows, handles = {}, []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D":
            handles.append(module.register_forward_hook(lambda _, given, __, name=name: rows.setdefault(name, []).append(given[0].detach().flatten(0, -2))))
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return {name: torch.cat(pieces).double() for name, pieces in rows.items()}


def is_right(found, rows, what, hessian=True, rounding=1e-6):
    tokens, moments, square = found
    check(tokens.tolist() == [len(rows)], f"{what}: tokens", tokens, len(rows))
    wanted = rows.T @ rows / len(rows)
    check(torch.allclose(moments.double(), wanted.diagonal(), rtol=rounding, atol=0), f"{what}: second moments")
    check((square is not None) == hessian, f"{what}: has a Hessian")
    if hessian:
        check((square.double() - wanted).abs().max() <= rounding * wanted.abs().max(), f"{what}: Hessian", (square - wanted).abs().max())
        check(torch.equal(square, square.T) and torch.equal(square.diagonal(), moments), f"{what}: symmetric, second moments on the diagonal")


def test_llama(work):
    model = llama().train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    rows = inputs_of(model.eval(), lambda: [model(ids[None]) for ids in sorted(IDS, key=len)])
    for module, mode in zip(model.modules(), modes):
        module.training = mode
    result = q4.calibrate(model, IDS, output=work / "a")
    file = File(work / "a")
    for name, given in rows.items():
        is_right(file[f"{name}.weight"], given, name)
    layer = "model.layers.1."
    shared = [f"{layer}self_attn.{kind}_proj.weight" for kind in "qkv"], [f"{layer}mlp.{kind}_proj.weight" for kind in ("gate", "up")]
    for names in shared:
        check({file.weights[name] for name in names} == {names[0]}, "an input is stored once, under its first weight", names)
    check(len(result.inputs) == 9 and len(result.weights) == 15 and not result.skipped and result.tokens == 36, "the result", result)
    check("9 inputs" in str(result) and "15 weights" in repr(result), "what is printed", str(result), repr(result))
    check("9 of the inputs were seen for fewer tokens than they have elements" in str(result), "36 tokens are few for a Hessian", str(result))
    check([module.training for module in model.modules()] == modes and not any(module._forward_pre_hooks for module in model.modules()), "the model is left as it was")
    size = 12 * 128 * 128
    for name, given, options in (
        ("again", IDS, {}),
        ("passes", IDS, {"memory_limit": size}),
        ("generator", iter(IDS), {"memory_limit": size}),
        ("dicts", [{"input_ids": ids[None]} for ids in IDS], {}),
    ):
        again = q4.calibrate(model, given, output=work / name, **options)
        check((work / name).read_bytes() == (work / "a").read_bytes(), f"{name}: the same file", again)
        check((again.passes > 3) == ("memory_limit" in options), f"{name}: passes", again.passes)
    error = raises(q4.UsageError, lambda: q4.calibrate(model, IDS, output=work / "b", memory_limit=size - 1), "less memory than one Hessian takes")
    check(str(size) in str(error) and "down_proj" in str(error) and not (work / "b").exists(), "it is named", error)
    plain = q4.calibrate(model, IDS, output=work / "plain", hessian=False)
    check(plain.passes == 1 and all(not name.endswith(".hessian") for name in File(work / "plain").tensors), "second moments alone take one pass")
    is_right(File(work / "plain")["lm_head.weight"], rows["lm_head"], "without Hessians", hessian=False)
    model.save_pretrained(work / "llama")
    is_used(work, work / "llama", work / "a")
    check(q4.calibrate(model, IDS, output=work / "some", samples=2, hessian=False).tokens == 16, "two sequences")


def test_padding(work):
    """BERT on a batch with padding, on either side, is BERT on each sequence alone; and a directory gives the checkpoint's names."""
    model = model_of("BertForMaskedLM", transformers.BertConfig(**SIZES)).eval()
    folder = work / "bert"
    model.save_pretrained(folder)
    width = max(map(len, IDS))
    batch = {key: torch.zeros(len(IDS), width, dtype=torch.int64) for key in ("input_ids", "attention_mask", "position_ids")}
    for row, ids in enumerate(IDS):
        place = slice(0, len(ids)) if row % 2 else slice(width - len(ids), width)
        batch["input_ids"][row, place], batch["attention_mask"][row, place], batch["position_ids"][row, place] = ids, 1, torch.arange(len(ids))
    q4.calibrate(model, IDS, output=work / "alone")
    result = q4.calibrate(folder, [batch], output=work / "padded", device="cpu")
    check(result.tokens == 36 and result.covered == result.to_quantize == 13, "coverage of a directory", result)
    alone, padded = File(work / "alone"), File(work / "padded")
    check(set(padded.weights) == set(alone.weights) and "bert.encoder.layer.0.attention.self.query.weight" in padded.weights, "names", padded.weights)
    check("bert.embeddings.word_embeddings.weight" in padded.weights, "a tied weight has the name that is stored", list(padded.weights))
    for name in alone.weights:
        for one, other in zip(alone[name], padded[name]):
            check(torch.allclose(one, other, rtol=1e-4, atol=1e-6), f"padding is not counted: {name}")
    check(padded.provenance["model"] == "bert" and str(work) not in json.dumps(padded.provenance), "no path is stored", padded.provenance)


def test_encoder_decoder(work):
    """The decoder's padding is told by the labels."""
    sizes = dict(vocab_size=128, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, decoder_start_token_id=0)
    model = model_of("T5ForConditionalGeneration", transformers.T5Config(**sizes)).eval()
    batch = {"input_ids": torch.tensor([[5, 6, 7, 1], [8, 9, 1, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])}
    batch["labels"] = torch.tensor([[5, 6, 1], [7, 1, -100]])
    alone = [{"input_ids": torch.tensor([ids]), "labels": torch.tensor([labels])} for ids, labels in (([5, 6, 7, 1], [5, 6, 1]), ([8, 9, 1], [7, 1]))]
    result = q4.calibrate(model, [batch], output=work / "padded")
    q4.calibrate(torch.nn.DataParallel(model), alone, output=work / "alone")
    check({each.counts for each in result.inputs.values()} == {(7,), (5,)}, "tokens of encoder and decoder", result.inputs)
    one, other = File(work / "alone"), File(work / "padded")
    check(one.weights == other.weights and "decoder.block.0.layer.1.EncDecAttention.k.weight" in one.weights, "names", one.weights)
    check(all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for name in one.weights for a, b in zip(one[name], other[name])), "padding is not counted")
    batch["labels"] = torch.tensor([[5, 6, 8, 1], [7, 1, -100, -100]])
    error = raises(q4.UsageError, lambda: q4.calibrate(model, [batch], output=work / "bad"), "masks of one shape")
    check("another length" in str(error) and not (work / "bad").exists(), "the way out", error)


def test_conv1d(work):
    model = model_of("GPT2LMHeadModel", transformers.GPT2Config(vocab_size=128, n_embd=64, n_layer=1, n_head=4, n_positions=32)).eval()
    rows = inputs_of(model, lambda: [model(ids[None]) for ids in sorted(IDS, key=len)])
    q4.calibrate(model, IDS, output=work / "gpt2")
    file = File(work / "gpt2")
    check(set(file.weights) == {"transformer.wte.weight"}, "a tied output head has its embedding's name", file.weights)
    check(set(file.transposed) == {f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")}, "stored as (in, out)")
    for name in file.transposed:
        is_right(file[name], rows[name.removesuffix(".weight")], name)


def routed(model, stack):
    """By expert the rows of a module of experts' first product, found from what its router decided."""
    found = {}

    def hook(_, arguments, options):
        hidden, chosen = [*arguments, *options.values()][:2]
        for expert in range(stack.num_experts):
            found.setdefault(expert, []).append(hidden[(chosen == expert).any(-1)].double())

    handle = stack.register_forward_pre_hook(hook, with_kwargs=True)
    with torch.no_grad():
        for ids in sorted(IDS, key=len):
            model(ids[None])
    handle.remove()
    return {expert: torch.cat(rows) for expert, rows in found.items()}


def test_experts(work):
    model = model_of("MixtralForCausalLM", transformers.MixtralConfig(**EXPERTS)).eval()
    model.set_experts_implementation("grouped_mm")
    stack = model.model.layers[0].mlp.experts
    rows = routed(model, stack)
    q4.calibrate(model, IDS, output=work / "mixtral")
    check(model.config._experts_implementation == "grouped_mm", "the implementation of experts is put back")
    file = File(work / "mixtral")
    name = "model.layers.0.block_sparse_moe.experts.{}.{}.weight".format
    for expert, given in rows.items():
        check((name(expert, "w1") in file.weights) == bool(len(given)), "an expert that no token reached is left out", expert)
        if len(given):
            is_right(file[name(expert, "w1")], given, name(expert, "w1"))
            check(file.weights[name(expert, "w3")] == name(expert, "w1") != file.weights[name(expert, "w2")], "gate and up share an input")
            gate, up = (given.float() @ stack.gate_up_proj[expert].detach().T).chunk(2, -1)
            is_right(file[name(expert, "w2")], (torch.nn.functional.silu(gate) * up).double(), name(expert, "w2"), rounding=1e-4)
    model.save_pretrained(work / "model")
    is_used(work, work / "model", work / "mixtral")
    # Padding is routed as well, and would reach experts.
    width = max(map(len, IDS))
    batch = {
        "input_ids": torch.stack([torch.nn.functional.pad(ids, (0, width - len(ids))) for ids in IDS]),
        "attention_mask": torch.stack([(torch.arange(width) < len(ids)).long() for ids in IDS]),
    }
    q4.calibrate(model, [batch], output=work / "padded")
    padded = File(work / "padded")
    check(set(padded.weights) == set(file.weights), "the same experts are reached")
    for weight in file.weights:
        check(all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(file[weight], padded[weight])), f"experts see no padding: {weight}")


def test_stacks(work):
    """Experts that the checkpoint has in one tensor: an entry for all of them; gpt-oss stores them as (in, out)."""
    model = model_of("GptOssForCausalLM", transformers.GptOssConfig(**EXPERTS, head_dim=16)).eval()
    rows = routed(model, model.model.layers[0].mlp.experts)
    result = q4.calibrate(model, IDS[1:2], output=work / "few", memory_limit=12 * 128 * 128)
    check(any(0 in each.counts for each in result.inputs.values()), "few tokens do not reach all experts", result.inputs)
    q4.calibrate(model, IDS, output=work / "gpt-oss")
    file = File(work / "gpt-oss")
    counts, moments, squares = file["model.layers.0.mlp.experts.gate_up_proj"]
    check("model.layers.0.mlp.experts.gate_up_proj" in file.transposed and moments.shape == (8, 64) and squares.shape == (8, 64, 64), "a stack", moments.shape)
    for expert, given in rows.items():
        each = counts[expert : expert + 1], moments[expert], squares[expert]
        if len(given):
            is_right(each, given, f"expert {expert} of a stack")
        else:
            check(not any(part.any() for part in each), "an expert that no token reached has zeros")
    model.save_pretrained(work / "model")
    is_used(work, work / "model", work / "few")
    model = model_of("Llama4ForCausalLM", transformers.Llama4TextConfig(**EXPERTS, head_dim=16, intermediate_size_mlp=64)).eval()
    q4.calibrate(model, IDS, output=work / "llama4")
    counts = File(work / "llama4")["model.layers.0.feed_forward.experts.down_proj"][0]
    check(counts.sum() == 2 * 36, "each token goes to two experts, though all are handed to each", counts)


class Plain(torch.nn.Module):
    """No model of transformers: three layers, of which two share a weight; a fourth is never called."""

    def __init__(self, width=8):
        super().__init__()
        self.first, self.second, self.third, self.idle = (torch.nn.Linear(width, width) for _ in range(4))
        self.third.weight = self.first.weight
        self.bad = None

    def forward(self, x):
        if self.bad is KeyboardInterrupt:
            raise KeyboardInterrupt
        return self.third(self.second(self.first(x)) * (self.bad or 1))


def test_plain_module(work):
    torch.manual_seed(0)
    model = Plain()
    x = torch.randn(5, 8)
    rows = inputs_of(model, lambda: model(x))
    result = q4.calibrate(model, [{"x": x}], output=work / "plain")
    file = File(work / "plain")
    shared = {"first.weight": "first.weight", "third.weight": "first.weight", "second.weight": "second.weight"}
    check(file.weights == shared, "a weight that two layers share has one input", file.weights)
    is_right(file["first.weight"], torch.cat([rows["first"], rows["third"]]), "what both are given")
    check([each.weight for each in result.skipped] == ["idle.weight"] and "not called" in str(result), "what was skipped", result)


def test_failures(work):
    """Nothing is left behind: no file, no hook, no mode."""
    model = Plain()
    x = torch.ones(5, 8)
    for what, bad, kind in (("infinite", float("inf"), q4.FormatError), ("NaN", float("nan"), q4.FormatError), ("Ctrl-C", KeyboardInterrupt, KeyboardInterrupt)):
        model.bad = bad
        error = raises(kind, lambda: q4.calibrate(model, [{"x": x}], output=work / "bad"), what)
        check(what == "Ctrl-C" or ("first.weight" in str(error) and error.tensor == "first.weight" and "batch 1" in str(error)), "the layer is named", error)
        check(os.listdir(work) == [] and not any(each._forward_pre_hooks for each in model.modules()) and model.training, f"{what} leaves nothing behind")
    model = model_of("MixtralForCausalLM", transformers.MixtralConfig(**EXPERTS)).eval()

    def interrupted(*_):
        raise KeyboardInterrupt

    model.model.layers[1].mlp.experts.act_fn.forward = interrupted
    raises(KeyboardInterrupt, lambda: q4.calibrate(model, IDS, output=work / "bad"), "Ctrl-C among experts")
    check(torch.overrides._get_current_function_mode_stack() == [] and os.listdir(work) == [], "no mode and no file is left")
    model = Plain()
    calls = iter(range(100))
    model.first.register_forward_hook(lambda _, __, output: output * (1 + next(calls)))
    error = raises(q4.FormatError, lambda: q4.calibrate(model, [{"x": x}], output=work / "bad"), "another input in another pass")
    check("ran again" in str(error) and os.listdir(work) == [], "it is told", error)
    error = raises(q4.UsageError, lambda: q4.calibrate(torch.nn.ReLU(), [{"input": x}], output=work / "bad"), "no linear layer")
    for name, value in (("memory_limit", 0), ("samples", True), ("batch_size", 1.5), ("max_length", 1)):
        raises(q4.UsageError, lambda name=name, value=value: q4.calibrate(model, IDS, output=work / "bad", **{name: value}), name)
    for what, given in (("texts without a tokenizer", ["w1"]), ("nothing", []), ("floating ids", [x[0]]), ("a tensor", x), ("a word", 5)):
        raises(q4.UsageError, lambda given=given: q4.calibrate(Plain(), given, output=work / "bad"), what)
    raises(q4.UsageError, lambda: q4.calibrate("no/such", ["w1"], output=work / "bad"), "no such model")
    raises(q4.InputError, lambda: q4.calibrate(Plain(), [{"x": x}], output=work / "no" / "such"), "no such folder")
    for length in (248, 300):
        error = raises(q4.InputError, lambda length=length: q4.calibrate(Plain(), [{"x": x}], output=work / ("n" * length)), "a name that is too long")
        check(f"a name of {length + 8} bytes" in str(error) and "255" in str(error), "the way out", error)
    check(os.listdir(work) == [], "nothing is left", os.listdir(work))


def test_quantized(work):
    """A model that is quantized already is refused by its method, as a directory and in memory; dequantized it is taken."""
    model = llama().bfloat16()
    model.save_pretrained(work / "llama")
    config = json.loads((work / "llama" / "config.json").read_text(encoding="utf-8"))
    methods = [("quantization_config", {"quant_method": name}, name) for name in ("gptq", "awq", "fp8", "mxfp4", "compressed-tensors", "a-new-one")]
    methods += [
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes in 4 bits"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes in 8 bits"),
        ("text_config", {"quantization_config": {"quant_method": "torchao"}}, "torchao"),
        ("compression_config", {"format": "pack-quantized"}, "pack-quantized"),
        ("quantization", {"bits": 4}, "without a name"),
    ]
    for key, section, name in methods:
        (work / "llama" / "config.json").write_text(json.dumps({**config, key: section}), encoding="utf-8")
        error = raises(q4.UnsupportedError, lambda: q4.calibrate(work / "llama", IDS, output=work / "no", device="cpu"), name)
        check(name in str(error) and "16 or 32 bits" in str(error) and error.exit_code == 5 and error.path, "the method is named", error)
    (work / "llama" / "config.json").write_text(json.dumps({**config, "quantization_config": None}), encoding="utf-8")
    q4.calibrate(work / "llama", IDS, output=work / "plain", device="cpu", hessian=False)
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.zeros(128, 64, dtype=torch.float8_e4m3fn), requires_grad=False)
    error = raises(q4.UnsupportedError, lambda: q4.calibrate(model, IDS, output=work / "no"), "a weight of 8 bits")
    check("model.layers.0.mlp.up_proj" in str(error) and "float8" in str(error), "the layer is named", error)
    check(not (work / "no").exists() and not (work / "no.partial").exists(), "nothing is left")
    if importlib.util.find_spec("bitsandbytes") is None:
        print("SKIP bitsandbytes in memory: it is not installed")
        return
    settings = transformers.BitsAndBytesConfig(load_in_4bit=True)
    (work / "llama" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = transformers.AutoModelForCausalLM.from_pretrained(work / "llama", quantization_config=settings, device_map="cpu")
    error = raises(q4.UnsupportedError, lambda: q4.calibrate(model, IDS, output=work / "no"), "bitsandbytes in memory")
    check("bitsandbytes in 4 bits" in str(error) and "model.dequantize()" in str(error), "the way out", error)
    check(len(q4.calibrate(model.dequantize(), IDS, output=work / "dequantized", hessian=False).weights) == 15, "the way out is one")


def test_batches(work):
    """What a model does not take is told by batch, row and token, as a mistake of the caller's."""
    sizes = dict(vocab_size=128, d_model=64, d_kv=16, d_ff=128, num_layers=1, num_heads=4, decoder_start_token_id=0)
    t5 = model_of("T5ForConditionalGeneration", transformers.T5Config(**sizes)).eval()
    gpt = model_of("GPT2LMHeadModel", transformers.GPT2Config(vocab_size=128, n_embd=64, n_layer=1, n_head=4, n_positions=8)).eval()
    ids, good, wrong = torch.arange(8).reshape(2, 4), torch.ones(2, 4, dtype=torch.int64), torch.arange(8).reshape(2, 4)
    wrong[1, 2] = 128
    for what, model, batch, said in (
        ("an id behind the vocabulary", llama(), {"input_ids": wrong}, "the id 128 in row 1, token 2, and 0 more like it: the model knows ids from 0 to 127"),
        ("a negative id", llama(), {"input_ids": ids - 1}, "the id -1 in row 0, token 0"),
        ("a label", t5, {"input_ids": ids, "labels": wrong}, "labels of batch 2 have the id 128 in row 1, token 2"),
        ("a decoder's id", t5, {"input_ids": ids, "decoder_input_ids": wrong}, "decoder_input_ids of batch 2"),
        ("no labels", t5, {"input_ids": ids}, "takes input_ids and labels"),
        ("more tokens than places", gpt, {"input_ids": torch.ones(1, 9, dtype=torch.int64)}, "input_ids (1, 9)"),
        ("an argument that there is not", llama(), {"input_idx": ids}, "input_idx (2, 4)"),
        ("a mask of zeros", llama(), {"input_ids": ids, "attention_mask": good * 0}, "attention_mask of batch 2 is zero everywhere"),
        ("no token in the list", llama(), {"input_ids": ids[:, :0]}, "input_ids of batch 2"),
    ):
        first = {"input_ids": ids, **({"labels": good} if model is t5 else {})}
        for call in (lambda: q4.calibrate(model, [first, batch], output=work / "no"), lambda: q4.evaluate(model, model, [first, batch])):
            error = raises(q4.UsageError, call, what)
            check(said in str(error) and "batch 2" in str(error) and error.exit_code == 1, f"{what}: what is said", error)
    check(os.listdir(work) == [], "nothing is left", os.listdir(work))
    # -100 is no token, and neither is a row that is padding alone, or what stands for an image.
    labels = wrong.masked_fill(wrong == 128, -100)
    q4.calibrate(t5, [{"input_ids": ids, "labels": labels}], output=work / "t5", hessian=False)
    q4.calibrate(llama(), [{"input_ids": ids, "attention_mask": good * torch.tensor([[1], [0]])}], output=work / "row", hessian=False)
    config = type("Config", (), {})()
    config.text_config = type("Config", (), {"__init__": lambda self: setattr(self, "image_token_id", 128)})()
    _batches._check_tokens({"input_ids": wrong}, 1, "input_ids", 128, config)


def test_output(work):
    """A calibration file is replaced when asked, anything else never."""
    run = lambda force: q4.calibrate(Plain(), [{"x": torch.ones(2, 8)}], output=work / "out", force=force)  # noqa: E731
    run(True)
    before = (work / "out").stat().st_ino
    raises(q4.UsageError, lambda: run(False), "an existing output")
    check((work / "out").stat().st_ino == before, "it is as it was")
    run(True)
    check((work / "out").stat().st_ino != before, "force replaces it")
    for content in (b"mine", b"\x10\0\0\0\0\0\0\0{}              ", b""):
        (work / "out").write_bytes(content)
        raises(q4.UsageError, lambda: run(True), "a file of another kind")
        check((work / "out").read_bytes() == content, "it is never replaced")
    (work / "out").unlink()
    (work / "out.partial").write_bytes(b"mine")
    raises(q4.UsageError, lambda: run(True), "what another run left or writes")
    check((work / "out.partial").read_bytes() == b"mine" and not (work / "out").exists(), "it is left alone")


MEMORY = """
import sys, torch, q4
def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM:"))
model = torch.nn.Sequential(*[torch.nn.Linear(768, 768, bias=False) for _ in range(24)])
x = [{"input": torch.randn(8, 768)}]
q4.calibrate(model, x, output="warm", hessian=False)
for limit in map(int, sys.argv[1:]):
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    print(q4.calibrate(model, x, output=str(limit), memory_limit=limit).passes, peak() - before)
"""


def test_memory(work):
    """24 Hessians of 768: 113 MB as they are summed."""
    limits = 24 << 20, 1 << 30
    done = subprocess.run([sys.executable, "-c", MEMORY, *map(str, limits)], capture_output=True, text=True, check=False, cwd=work)
    check(done.returncode == 0, "it runs", done.stderr)
    (many, least), (few, most) = (map(int, line.split()) for line in done.stdout.splitlines())
    check(many > 6 and few == 2, "passes", many, few)
    # Beside the limit: a tile that is being written, and what the allocator keeps, which the second run finds there.
    check(least < (24 << 20) + (32 << 20) < 64 << 20 < most, "the limit is kept", least, most)
    check((work / str(limits[0])).read_bytes() == (work / str(limits[1])).read_bytes(), "the same file")


def test_tool(work):
    llama().bfloat16().save_pretrained(work / "llama")
    tokenizer(work / "llama")
    (work / "a.txt").write_text("w1 w2 w3\n\nw4 w5\nw6 w7\n \n\nw8\n", encoding="utf-8")
    (work / "b.jsonl").write_text('{"text": "w9 w10"}\n\n"w11 w12 w13"\n', encoding="utf-8")
    entry = "import sys; from q4._calibrate_tool import main; main()"

    def tool(*words, code=0):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", entry, *map(str, words)], cwd=work, capture_output=True, text=True, check=False)
        check(done.returncode == code, f"q4calibrate {words} ends with {code}", done.returncode, done.stderr)
        check(code == 0 or (done.stderr.startswith("q4calibrate: ") and done.stderr.count("\n") == 1), "one line says why", done.stderr)
        return done

    done = tool("llama", "--texts", "a.txt", "b.jsonl", "-o", "out", "--memory-limit", "200KB")
    # With <1> before each of five texts; paragraphs of a.txt, lines of b.jsonl.
    check("23 tokens" not in done.stdout and "18 tokens" in done.stdout and "14 weights that q4convert quantizes by default, 14 are recorded" in done.stdout, "what is said", done.stdout)
    check("pass 2" in done.stderr and "Loading" not in done.stderr, "passes are told", done.stderr)
    texts = ["w1 w2 w3", "w4 w5\nw6 w7", "w8", "w9 w10", "w11 w12 w13"]
    q4.calibrate(work / "llama", texts, output=work / "same", device="cpu")
    check((work / "same").read_bytes() == (work / "out").read_bytes(), "the function writes the same bytes")
    check(b"w11" not in (work / "same").read_bytes(), "no text is stored")
    before = (work / "out").read_bytes()
    tool("llama", "--texts", "a.txt", "-o", "out", code=1)
    check((work / "out").read_bytes() == before, "an existing file stays")
    done = tool("llama", "--texts", "a.txt", "--split", "line", "--samples", "2", "--no-hessian", "-o", "out", "--force", "-q")
    check(done.stderr == "" and "7 tokens" in done.stdout, "the first and the third of four lines, without a word", done.stdout, done.stderr)
    for words, code in (
        (("llama", "-o", "x"), 1),
        (("llama", "--texts", "a.txt", "--imatrix", "i", "-o", "x"), 1),
        (("llama", "--imatrix", "i", "--samples", "3", "-o", "x"), 1),
        (("llama", "--texts", "a.txt", "-o", "x", "--memory-limit", "0"), 1),
        (("llama", "--texts", "a.txt", "-o", "x", "--samples", "-1"), 1),
        (("llama", "--texts", "a.txt", "-o", "x", "--dtype", "float33"), 1),
        (("llama", "--texts", "none.txt", "-o", "x"), 2),
        (("llama", "--texts", "llama/model.safetensors", "-o", "x"), 3),
        (("llama", "--texts", "b.jsonl", "--field", "body", "-o", "x"), 3),
        (("llama", "--imatrix", "a.txt", "-o", "x"), 5),
    ):
        tool(*words, code=code)
    check(not any(path.name.startswith("x") for path in work.iterdir()), "failures leave nothing", os.listdir(work))
    bare = [sys.executable, "-c", "import sys; sys.modules['torch'] = None; " + entry, "llama", "--texts", "a.txt", "-o", "x"]
    done = subprocess.run(bare, cwd=work, capture_output=True, text=True, check=False)
    check(done.returncode == 5 and done.stderr.startswith("q4calibrate: needs the package torch"), "without torch it says so", done.returncode, done.stderr)
    help_text = tool("--help").stdout
    check("exit status" in help_text and "--imatrix" in help_text and q4.__version__ in tool("--version").stdout, "--help and --version")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", entry, "--help"], cwd=work, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    check(done.returncode == -signal.SIGPIPE and done.stderr == "", "a reader that has left ends it as it ends others", done.returncode, done.stderr)


def test_page(work):
    """The examples of docs/calibration.md, as a reader would run them."""
    if importlib.util.find_spec("gguf") is None:
        print("SKIP the page: no gguf")
        return
    page = (ROOT / "docs" / "calibration.md").read_text(encoding="utf-8")
    llama().bfloat16().save_pretrained(work / "Llama-3.2-1B")
    tokenizer(work / "Llama-3.2-1B")
    (work / "handbook.txt").write_text("w1 w2 w3 w4\n\nw5 w6 w7", encoding="utf-8")
    imatrix(work / "imatrix.gguf", {"blk.0.ffn_down.weight": ([[1.0] * 128], [36])})
    found = re.findall(r"```python\n(.*?)```", page, re.S)
    check(len(found) == 3, "examples", len(found))
    printed, namespace = io.StringIO(), {"__name__": "example"}
    with contextlib.redirect_stdout(printed):
        for code in found:
            exec(compile(code, "docs/calibration.md", "exec"), namespace)
    check("14 are recorded" in printed.getvalue() and "(64, 64)" in printed.getvalue(), "what they print", printed.getvalue())
    options = {name for pair in re.findall(r"^\| `(--[a-z-]+)|`, `(--[a-z-]+)", page, re.M) for name in pair if name}
    spelled = {word for action in _calibrate_tool._parser()._actions for word in action.option_strings if word.startswith("--")}
    check(options == spelled - {"--output", "--quiet"}, "options of the page are the tool's", options ^ spelled)


def main():
    torch.set_num_threads(1)
    for test in (test_llama, test_padding, test_encoder_decoder, test_conv1d, test_experts, test_stacks, test_plain_module, test_failures, test_quantized, test_batches, test_output, test_memory, test_tool, test_page):
        with tempfile.TemporaryDirectory(prefix="q4-calibrate-") as work:
            os.chdir(work)
            test(pathlib.Path(work))
            os.chdir("/")
    print(f"python_calibrate: {count()} checks")


main()
