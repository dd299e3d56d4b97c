"""q4.transformers: models equal to those of the exported directory, keys, saving, training, copies, errors."""

import copy
import importlib.util
import json
import multiprocessing
import pathlib
import pickle
import shutil
import sys
import tempfile

from package_setup import check, count, raises

for package in ("torch", "transformers", "accelerate", "bitsandbytes"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_transformers (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

import logging
import warnings

# Theirs, of which some come at any time.
warnings.simplefilter("ignore")
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import transformers_architectures as peers  # noqa: E402

import q4  # noqa: E402
import q4._direct as direct  # noqa: E402
import q4.transformers  # noqa: E402

# One of each kind: decoders with names of their own, tied heads, encoders, both, vision, speech, compositions.
CASES = (
    "llama", "llama-tied", "qwen3", "gemma2", "phi3", "gpt_neox", "mamba2", "bert-classifier", "modernbert", "t5", "whisper", "vit", "clip", "qwen2_vl", "gemma3",
)  # fmt: skip
LLAMA = dict(peers.architectures.TEXT, eos_token_id=None)


def llama(folder, **extra):
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA | extra)).bfloat16()
    model.generation_config.max_new_tokens = 5
    model.save_pretrained(folder)
    return folder


class Llama:
    """A container, its export, and both as models."""

    def __init__(self, work):
        self.work, self.source = work, llama(work / "llama")
        self.path = q4.convert(self.source, work / "llama.q4").path
        self.exported = work / "exported"
        q4.export(self.path, self.exported, to="bnb")

    def ours(self, **options):
        return q4.transformers.load(self.path, device_map="cpu", **options)

    def theirs(self, **options):
        return transformers.AutoModelForCausalLM.from_pretrained(self.exported, device_map="cpu", **options)


IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


def test_architectures(work):
    for number, case in enumerate(CASES):
        folder = work / "architectures" / case
        folder.mkdir(parents=True)
        # Each of the four settings in its turn.
        wrong = peers.check(case, [peers.SETTINGS[number % 4]], folder)
        check(wrong is None, f"architecture {case}", wrong)
        shutil.rmtree(folder)


def test_options(models):
    for options in ({}, {"dtype": torch.float32}, {"dtype": "float16"}, {"attn_implementation": "eager"}):
        wrong = peers.equal(models.ours(**options), models.theirs(**options), {"input_ids": IDS})
        check(wrong is None, f"options {options}", wrong)
    model = models.ours(compute_dtype=torch.float32, quant_storage="bfloat16")
    layer = model.model.layers[0].mlp.up_proj
    check(layer.compute_dtype == torch.float32 and layer.weight.dtype == torch.bfloat16 and layer.weight.quant_storage == torch.bfloat16, "what bitsandbytes computes and stores in")
    q4.export(models.path, models.work / "bf16", to="bnb", quant_storage="bfloat16", compute_dtype="float32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(models.work / "bf16", device_map="cpu")
    check(peers.equal(model, theirs, {"input_ids": IDS}) is None, "as the export with these options")
    for cls in (transformers.AutoModelForCausalLM, transformers.LlamaForCausalLM):
        check(type(models.ours(cls=cls)) is transformers.LlamaForCausalLM, "a class that is given", cls)
    model = models.ours()
    check(model.config._name_or_path == str(models.path) == model.name_or_path, "where it came from")
    check(model.generation_config.max_new_tokens == 5 and q4.transformers.generation_config(models.path).max_new_tokens == 5, "generation configuration")
    check(model.is_loaded_in_4bit and model.config.quantization_config.load_in_4bit, "PEFT and Trainer know it")
    opened = q4.transformers.load(q4.open(models.path), device_map={"": "cpu"}, root=q4.open(models.path).root)
    check(peers.equal(opened, models.theirs(), {"input_ids": IDS}) is None, "of an open model with its root")


def mapped_from(model, path):
    """Whether each weight in 4 bits lies in a mapping of the file."""
    ranges = []
    for line in pathlib.Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(str(path)):
            begin, _, end = line.split()[0].partition("-")
            ranges.append((int(begin, 16), int(end, 16)))
    weights = [p for p in model.parameters() if type(p).__name__ == "Params4bit"]
    found = [any(begin <= weight.data_ptr() < end for begin, end in ranges) for weight in weights]
    check(weights and len(set(found)) == 1, "all weights alike", found)
    return found[0]


def test_memory(models):
    root = q4.open(models.path).root
    for options, mapped in (({}, True), ({"memory": "map", "root": root}, True), ({"memory": "copy"}, False), ({"root": root}, False)):
        model = models.ours(**options)
        check(mapped_from(model, models.path) == mapped, f"memory with {list(options)}", mapped)
        check(peers.equal(model, models.theirs(), {"input_ids": IDS}) is None, f"the same model with {list(options)}")
    check(not mapped_from(q4.transformers.load(q4.open(models.path, root=root), device_map="cpu"), models.path), "a pinned model is copied")
    raises(q4.UsageError, lambda: models.ours(memory="gpu"), "no such memory")
    octets = pathlib.Path(models.path).read_bytes()
    model = models.ours()
    with torch.no_grad():
        model.model.norm.weight.add_(1)
        model.model.layers[0].mlp.up_proj.weight.data.zero_()
    check(pathlib.Path(models.path).read_bytes() == octets, "what is written to a model is not written to the file")
    check(peers.equal(models.ours(), models.theirs(), {"input_ids": IDS}) is None, "nor to other models")
    # Replaced, as q4 and mv do: the model keeps what it has.
    path = models.work / "replaced.q4"
    shutil.copy(models.path, path)
    model = q4.transformers.load(path, device_map="cpu")
    shutil.copy(models.work / "llama" / "config.json", models.work / "other")
    (models.work / "other").replace(path)
    check(peers.equal(model, models.theirs(), {"input_ids": IDS}) is None, "a file that was replaced")


def attributes_of(model):
    """What modules and parameters are, beside values: classes, names of attributes, those that are plain, of 4 bits the state."""
    plain = (bool, int, float, str, type, type(None), torch.dtype, torch.Size)
    found = {}
    for name, module in model.named_modules():
        found[name] = (type(module), {key: value if isinstance(value, plain) else "" for key, value in vars(module).items()})
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                state = getattr(tensor, "quant_state", None)
                states = [vars(each) for each in (state, getattr(state, "state2", None)) if each is not None]
                shown = [{key: value if isinstance(value, plain) else "" for key, value in each.items()} for each in (vars(tensor), *states)]
                found[f"{name}.{leaf}"] = (type(tensor), tensor.requires_grad, tensor.dtype, shown)
    return found


def test_ways(models):
    """The short way is taken, and leads to the same model as the long one."""
    if not transformers.__version__.startswith(direct.TESTED):
        print(f"SKIP the short way (transformers {transformers.__version__})")
        return
    taken, tested = [], direct.TESTED
    load = direct.load

    def noted(*arguments):
        found = load(*arguments)
        taken.append(found is not None)
        return found

    direct.load = noted
    try:
        short = models.ours()
        direct.TESTED = ("0.",)
        long = models.ours()
        check(peers.equal(short, long, {"input_ids": IDS}) is None and taken == [True], "both ways", taken)
        check(attributes_of(short) == attributes_of(long), "modules and parameters have the same attributes both ways")
        direct.TESTED = tested
        models.ours(dtype="float16")
        check(taken[1:] == [False], "values that are cast go the long way", taken)
    finally:
        direct.load, direct.TESTED = load, tested


def test_generate(models):
    tokens = [model.generate(IDS, do_sample=False) for model in (models.ours(), models.theirs())]
    check(torch.equal(*tokens) and tokens[0].shape == (1, 13), "greedy tokens", tokens)


def logits_of(model):
    with torch.no_grad():
        return model.train()(IDS).logits


def test_copies(models):
    model = models.ours()
    wanted = logits_of(model)
    check(torch.equal(logits_of(copy.deepcopy(model)), wanted), "deepcopy")
    check(torch.equal(logits_of(pickle.loads(pickle.dumps(model))), wanted), "pickle")
    file = models.work / "state.pt"
    torch.save(model.state_dict(), file)
    back = torch.load(file, weights_only=True)
    check(all(peers.same(back[name], tensor) for name, tensor in model.state_dict().items()), "torch.save")
    file.unlink()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        check(torch.equal(pool.apply(_logits_in_child, (q4.open(models.path),)), wanted), "loaded by another process, of a Model that was sent there")


def _logits_in_child(model):
    return logits_of(q4.transformers.load(model, device_map="cpu"))


def test_saved(models):
    model = models.ours()
    model.save_pretrained(models.work / "again")
    check((models.work / "again" / "model.safetensors").read_bytes() == (models.exported / "model.safetensors").read_bytes(), "the export's file")
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(models.work / "again", device_map="cpu")
    check(peers.equal(reloaded, models.theirs(), {"input_ids": IDS}) is None, "what was saved loads")


def trained(model, folder):
    """The losses of 20 steps of LoRA, and the adapter that is saved."""
    import peft

    torch.manual_seed(3)
    model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM", lora_dropout=0.0))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    losses = []
    model.train()
    for _ in range(20):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.save_pretrained(folder)
    return losses, model


def test_lora(models):
    if importlib.util.find_spec("peft") is None:
        print("SKIP LoRA (no peft; scripts/python_env.sh installs it)")
        return
    import peft

    ours, model = trained(models.ours(), models.work / "adapter-ours")
    theirs, _ = trained(models.theirs(), models.work / "adapter-theirs")
    check(ours == theirs and ours[-1] < 0.8 * ours[0], "the same losses, which fall", ours, theirs)
    adapters = [safetensors.torch.load_file(models.work / f"adapter-{who}" / "adapter_model.safetensors") for who in ("ours", "theirs")]
    check(all(peers.same(adapters[0][name], adapters[1][name]) for name in adapters[1]), "the same adapters")
    config = json.loads((models.work / "adapter-ours" / "adapter_config.json").read_text())
    check(config["base_model_name_or_path"] == str(models.path), "the adapter names what it belongs to", config)
    again = peft.PeftModel.from_pretrained(peft.prepare_model_for_kbit_training(models.ours(), use_gradient_checkpointing=False), models.work / "adapter-ours")
    check(torch.equal(logits_of(again), logits_of(model)), "the adapter on a model that is loaded again")
    merged = again.merge_and_unload()
    check(merged.model.layers[0].mlp.up_proj.weight.quant_state is not None and torch.isfinite(logits_of(merged)).all().item(), "merged")


def changed_source(models, name, change):
    """A container of the checkpoint whose tensors `change` changed."""
    folder = models.work / name
    shutil.copytree(models.source, folder)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return q4.convert(folder, models.work / f"{name}.q4").path


def test_errors(models):
    def drop(tensors):
        del tensors["model.layers.1.input_layernorm.weight"]

    def add(tensors):
        tensors["model.layers.9.input_layernorm.weight"] = torch.ones(64)

    def widen(tensors):
        tensors["model.norm.weight"] = torch.ones(65)

    for name, change, word in (("missing", drop, "has no"), ("unexpected", add, "unlike the class"), ("misshapen", widen, "norm")):
        path = changed_source(models, name, change)
        error = raises(q4.FormatError, lambda path=path: q4.transformers.load(path, device_map="cpu"), name)
        check(word in str(error), f"{name} keys are named", error)
    octets = bytearray(pathlib.Path(models.path).read_bytes())
    octets[len(octets) // 2] ^= 1
    damaged = models.work / "damaged.q4"
    damaged.write_bytes(octets)
    error = raises(q4.DamagedError, lambda: q4.transformers.load(damaged, device_map="cpu"), "a damaged chunk")
    check(error.tensor is not None, "whose", error)
    raises(q4.DamagedError, lambda: models.ours(root="sha256:" + "0" * 64), "another root")
    raises(q4.UnsupportedError, lambda: q4.transformers.load(models.path, device_map={"model": "cpu", "lm_head": "disk"}), "offloading")
    raises(q4.UsageError, lambda: models.ours(cls=transformers.AutoModelForSeq2SeqLM), "a class that has none for it")
    raises(q4.InputError, lambda: q4.transformers.load(models.work / "none.q4"), "no file")

    def stop(_):
        raise KeyboardInterrupt

    raises(KeyboardInterrupt, lambda: models.ours(progress=stop), "interrupted")
    seen = []
    models.ours(progress=seen.append)
    check(bool(seen) and seen[-1].done_bytes == seen[-1].total_bytes, "progress")


def main():
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="q4-python-transformers-") as name:
        work = pathlib.Path(name)
        models = Llama(work)
        for test in (test_options, test_memory, test_ways, test_generate, test_copies, test_saved, test_lora, test_errors):
            test(models)
        test_architectures(work)
    print(f"python_transformers: {count()} checks")


if __name__ == "__main__":
    main()
