"""What q4.vllm and q4.sglang rest upon, without either: thin directories, and layers in 4 bits as rows and columns that may be cut and
stacked. scripts/vllm_check.py and sglang_check.py run the same in their own code."""

import importlib.util
import json
import os
import pathlib
import shutil
import sys
import tempfile

from package_setup import SOURCE, check, count, python, raises

for package in ("torch", "transformers", "accelerate", "bitsandbytes"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_serving (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

import logging
import warnings

warnings.simplefilter("ignore")  # theirs
import torch  # noqa: E402
import transformers  # noqa: E402

import q4  # noqa: E402
import q4.torch  # noqa: E402
import q4.transformers  # noqa: E402
import q4.vllm  # noqa: E402
from q4 import _serving  # noqa: E402

CPU = torch.device("cpu")
LAYER = "model.layers.0."


def llama(work):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=128, hidden_size=256, intermediate_size=320, num_hidden_layers=1, num_attention_heads=8, num_key_value_heads=2)
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(work / "llama")
    return work / "llama"


def test_light():
    done = python("import q4.vllm, q4.sglang, sys\nassert not {'vllm', 'sglang', 'torch', 'numpy', 'transformers'} & set(sys.modules)")
    check(done.returncode == 0, "importing q4.vllm and q4.sglang is light", done.stderr)


def test_thin_directory(work, path):
    thin = q4.vllm.thin_directory(path, work / "thin")
    config = json.loads((thin / "config.json").read_text())
    root = q4.open(path).root
    check(config["quantization_config"] == {"quant_method": "q4", "container": "model.q4", "root": root}, "what vLLM reads", config)
    check(config["architectures"] == ["LlamaForCausalLM"] and config["dtype"] == "bfloat16", "the rest of the configuration", config)
    check(sorted(file.name for file in thin.iterdir()) == sorted(["model.q4", *q4.open(path).files]), "its files")
    check(os.readlink(thin / "model.q4") == "../llama.q4", "a relative link", os.readlink(thin / "model.q4"))
    linked, copied = (q4.vllm.thin_directory(path, work / link, link=link) for link in ("hardlink", "copy"))
    check(os.path.samefile(linked / "model.q4", path) and not os.path.samefile(copied / "model.q4", path), "a hard link and a copy")
    check((copied / "model.q4").read_bytes() == path.read_bytes() and not (copied / "model.q4").is_symlink(), "the copy's bytes")
    ids = torch.tensor([[1, 2, 3]])
    logits = [q4.transformers.load(each, device_map="cpu")(ids).logits for each in (path, thin)]
    check(torch.equal(*logits), "q4.transformers takes the directory")
    check(q4.transformers.generation_config(thin).eos_token_id == 2, "and its generation configuration")

    q4.convert(work / "llama", work / "parts.q4", shard_size="100KB")
    shards = work / "parts.q4.index.json"
    check(shards.is_file(), "a model in shards", list(work.iterdir()))
    apart = q4.vllm.thin_directory(shards, work / "apart")
    check(_serving.Weights(apart).tensors == _serving.Weights(thin).tensors, "its weights")
    check(json.loads((apart / "config.json").read_text())["quantization_config"]["container"] == shards.name, "its list")

    for what, kind, call in (
        ("what is there already", q4.UsageError, lambda: q4.vllm.thin_directory(path, thin)),
        ("another kind of link", q4.UsageError, lambda: q4.vllm.thin_directory(path, work / "no", link="reflink")),
        ("another root", q4.DamagedError, lambda: q4.vllm.thin_directory(path, work / "no", root="sha256:" + "0" * 64)),
        ("no folder to lie in", q4.InputError, lambda: q4.vllm.thin_directory(path, work / "none" / "no")),
        ("another root asked of the directory", q4.DamagedError, lambda: q4.transformers.load(thin, root="sha256:" + "0" * 64)),
        ("a folder that is none", q4.UsageError, lambda: q4.transformers.load(work / "llama")),
        ("the same for a server", q4.UnsupportedError, lambda: _serving.Weights(work / "llama")),
    ):
        raises(kind, call, what)
        check(not list(work.glob("no*")), f"{what}: nothing is left")
    # A model that lies in the place of the sealed one.
    q4.convert(SOURCE, copied / "model.q4", force=True)
    raises(q4.DamagedError, lambda: _serving.Weights(copied), "a container of another root")
    for container in ("../llama.q4", "", "..", None):
        config["quantization_config"]["container"] = container
        (linked / "config.json").write_text(json.dumps(config))
        raises(q4.FormatError, lambda: _serving.Weights(linked), f"container {container!r}")


def test_refused(work):
    """What no loader of such layers would understand."""
    q4.convert(work / "llama.q4", work / "bare.q4", drop_files=["config.json"])
    raises(q4.UnsupportedError, lambda: q4.vllm.thin_directory(work / "bare.q4", work / "no"), "no configuration")
    source = work / "gpt2"
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=64, n_positions=32, n_embd=64, n_layer=1, n_head=2)).save_pretrained(source)
    forced = q4.convert(source, work / "gpt2.q4", include=["c_attn"]).path
    check(bool(q4.open(forced)["transformer.h.0.attn.c_attn.weight"].scheme), "weights that are stored transposed, in 4 bits")
    weights = _serving.Weights(q4.vllm.thin_directory(forced, work / "gpt2_thin"))
    check(not weights.packed, "are no rows and columns of a layer", list(weights.packed))
    check(not (work / "no").exists() and not (work / "no.partial").exists(), "nothing is left")


def decoded(codes, scales, weight):
    return _serving.dequantize(codes.contiguous(), scales.contiguous(), weight.block_size, weight.scheme, torch.bfloat16)


def test_layers(work, path, thin):
    weights = _serving.Weights(thin)
    check(set(weights.packed) == {name for name, tensor in q4.open(path).items() if tensor.scheme}, "weights in 4 bits", sorted(weights.packed))
    loaded = dict(weights.load(weights.packed, CPU))
    values = q4.torch.tensors(path)
    own = {name.removesuffix("weight") + part for name in weights.packed for part in ("qweight", "scales")}
    check(loaded.keys() == own | (values.keys() - weights.packed.keys()), "names", sorted(loaded))
    check(all(torch.equal(loaded[name], values[name]) for name in values.keys() - weights.packed.keys()), "what is no layer in 4 bits")
    none = dict(weights.load((), CPU))
    check(none.keys() == values.keys() and all(torch.equal(none[name], values[name]) for name in values), "all of it dequantized")
    for name, weight in weights.packed.items():
        module = name.removesuffix("weight")
        codes, scales = loaded[module + "qweight"], loaded[module + "scales"]
        whole = values[name]
        check(tuple(whole.shape) == (weight.rows, weight.columns) and torch.equal(decoded(codes, scales, weight), whole), f"{name}: the whole")
        for ranks in (2, 4):
            rows = [decoded(c, s, weight) for c, s in zip(codes.chunk(ranks), scales.chunk(ranks))]
            check(torch.equal(torch.cat(rows), whole), f"{name}: rows for {ranks}")
            if weight.columns % (ranks * weight.block_size) == 0:
                columns = [decoded(c, s, weight) for c, s in zip(codes.chunk(ranks, 1), scales.chunk(ranks, 1))]
                check(torch.equal(torch.cat(columns, 1), whole), f"{name}: columns for {ranks}")
        order = torch.randperm(weight.rows)
        check(torch.equal(decoded(codes[order], scales[order], weight), whole[order]), f"{name}: rows in another order")
    fused = [f"{LAYER}self_attn.{part}_proj." for part in "qkv"]
    stacked = [torch.cat([loaded[module + part] for module in fused]) for part in ("qweight", "scales")]
    one = weights.packed[fused[0] + "weight"]
    check(torch.equal(decoded(*stacked, one), torch.cat([values[module + "weight"] for module in fused])), "q, k and v below one another")
    x = torch.randn(3, one.columns, dtype=torch.bfloat16)
    product = _serving.multiply(x, *stacked, one.block_size, one.scheme)
    check(torch.equal(product, torch.nn.functional.linear(x, decoded(*stacked, one))), "the product")
    bias = torch.randn(product.shape[-1], dtype=torch.bfloat16)
    product = _serving.multiply(x, *stacked, one.block_size, one.scheme, bias)
    check(torch.equal(product, torch.nn.functional.linear(x, decoded(*stacked, one), bias)), "the product and a bias, rounded once")


def test_not_loaded(thin):
    """A part of a fused layer that nothing came for is noticed, and columns of another model."""
    weights = _serving.Weights(thin)
    parts = [weights.packed[f"{LAYER}self_attn.{part}_proj.weight"] for part in "qk"]
    loaded = dict(weights.load([part.name for part in parts], CPU))
    rows, columns = sum(part.rows for part in parts), parts[0].columns
    codes, scales = _serving.layer_tensors(parts, rows, columns, columns)
    check(codes.shape == (rows, columns // 2) and scales.shape == (rows, columns // parts[0].block_size), "room for codes and scales")
    raises(q4.FormatError, lambda: _serving.check_loaded(scales, parts), "nothing was loaded")
    begin = 0
    for part in parts:
        check(bool(scales.isnan().any()), "before the last part")
        raises(q4.FormatError, lambda: _serving.check_loaded(scales, parts), "not all was loaded")
        scales[begin : begin + part.rows] = loaded[part.name.removesuffix("weight") + "scales"]
        begin += part.rows
    _serving.check_loaded(scales, parts)
    raises(q4.FormatError, lambda: _serving.layer_tensors(parts, rows, columns, 2 * columns), "columns of another model")


def test_rules(work, thin):
    packed = _serving.Weights(thin).packed
    fused = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"], "o_proj": ["o_proj"]}

    def parts(module, names=packed):
        return _serving.packed_parts(names, LAYER + module, fused)

    check([part.name for part in parts("self_attn.qkv_proj")] == [f"{LAYER}self_attn.{part}_proj.weight" for part in "qkv"], "in the order of rows")
    check(len(parts("mlp.gate_up_proj")) == 2 and len(parts("self_attn.o_proj")) == 1 and len(parts("mlp.down_proj")) == 1, "fused, and alone")
    check(all(_serving.why_not(parts(module)) is None for module in ("self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj")), "in 4 bits")
    check(parts("self_attn.rotary") == [None] and "none of them" in _serving.why_not(parts("self_attn.rotary")), "no layer in 4 bits")
    less = {name: part for name, part in packed.items() if "k_proj" not in name}
    check("another part is not" in _serving.why_not(parts("self_attn.qkv_proj", less)), "one of three is kept")
    # Fused on disk already, as Phi-3 has it.
    whole = {LAYER + "self_attn.qkv_proj.weight": packed[LAYER + "mlp.down_proj.weight"]}
    check(parts("self_attn.qkv_proj", whole) == list(whole.values()), "fused on disk")
    mixed = q4.convert(work / "llama", work / "mixed.q4", recipe=json_recipe(work)).path
    other = _serving.Weights(q4.vllm.thin_directory(mixed, work / "mixed")).packed
    check("differ" in _serving.why_not(parts("self_attn.qkv_proj", other)), "blocks of two sizes", other)

    _serving.columns_for(128, 256, 64, ["a.weight"])
    error = raises(q4.UnsupportedError, lambda: _serving.columns_for(1376, 11008, 64, ["down_proj.weight"]), "columns that are no whole blocks")
    check(error.tensor == "down_proj.weight" and "tensor parallel 2, 4;" in str(error) and "--block-size 32" in str(error), "the ways out", error)


def json_recipe(work):
    place = work / "recipe.json"
    place.write_text(json.dumps({"rules": [{"match": "k_proj", "block_size": 128}]}))
    return place


def test_odd_rows(work):
    """Rows that are no whole blocks, in a layer that is in 4 bits all the same: it is dequantized."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=128, hidden_size=96, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4)
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(work / "odd")
    path = q4.convert(work / "odd", work / "odd.q4").path
    weights = _serving.Weights(q4.vllm.thin_directory(path, work / "odd_thin"))
    check(list(weights.packed) == [LAYER + "mlp.down_proj.weight"], "rows of 96 in blocks of 64", list(weights.packed))
    loaded, values = dict(weights.load(weights.packed, CPU)), q4.torch.tensors(path)
    check(torch.equal(loaded[LAYER + "mlp.up_proj.weight"], values[LAYER + "mlp.up_proj.weight"]), "values")


def main():
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="q4-python-serving-") as name:
        work = pathlib.Path(name)
        path = q4.convert(llama(work), work / "llama.q4").path
        test_light()
        test_thin_directory(work, path)
        test_layers(work, path, work / "thin")
        test_not_loaded(work / "thin")
        test_rules(work, work / "thin")
        test_odd_rows(work)
        test_refused(work)
        shutil.rmtree(work / "thin")
    print(f"python_serving: {count()} checks")


main()
