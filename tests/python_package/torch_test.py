"""q4.torch: tensors, bitsandbytes' parameters, lazy state dicts, filling a module."""

import copy
import importlib.util
import io
import pathlib
import sys
import tempfile

from package_setup import CHECKPOINTS, SOURCE, check, count, raises

for package in ("torch", "bitsandbytes", "safetensors"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_torch (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

import warnings

with warnings.catch_warnings():  # theirs
    warnings.simplefilter("ignore")
    import bitsandbytes as bnb
    import safetensors.torch
    import torch

import q4
import q4.torch


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        a.detach().contiguous().flatten().view(torch.uint8), b.detach().contiguous().flatten().view(torch.uint8))  # fmt: skip


class Models:
    """One container per kind, and what q4export makes of each."""

    def __init__(self, work):
        self.work, self.paths, self.exports = work, {}, {}
        for name, source, options in (
            ("nested", SOURCE, {}), ("plain", SOURCE, {"double_quant": False, "compress": "zstd"}), ("fp4", SOURCE, {"type": "fp4", "block_size": 128}),
            ("bf16", CHECKPOINTS / "tiny_bf16st_src", {"shard_size": 100_000}),
        ):  # fmt: skip
            self.paths[name] = q4.convert(source, work / f"{name}.q4", **options).path
            q4.export(self.paths[name], work / name, to="bnb")
            q4.export(self.paths[name], work / f"{name}-dense", to="safetensors")
            self.exports[name] = (safetensors.torch.load_file(work / name / "model.safetensors"), safetensors.torch.load_file(work / f"{name}-dense" / "model.safetensors"))


def storages(tensors):
    return len({tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()})


def test_tensors(models):
    for name, path in models.paths.items():
        bnb_files, dense = models.exports[name]
        got = q4.torch.tensors(path)
        check(got.keys() == dense.keys() and all(same(got[key], dense[key]) for key in dense), "dequantized as the export is", name)
        check(storages(got.values()) == len(got), "a storage for each", name)
        quantized = q4.torch.tensors(path, form="quantized")
        check(storages(quantized.values()) == len(quantized), "a storage for each part", name)
        flat = q4.torch.tensors(path, form="flat")
        single = q4.torch.tensors(path, form="float32")
        for key, tensor in q4.open(path).items():
            if not tensor.quantized:
                check(same(quantized[key], dense[key]) and same(flat[key], dense[key]), "kept as it is", key)
                continue
            check(same(quantized[f"{key}.codes"], bnb_files[key].flatten()), "codes", key)
            check((f"{key}.offset" in quantized) == tensor.nested and f"{key}.offset" not in flat, "nested parts", key)
            if tensor.nested:
                check(quantized[f"{key}.offset"].shape == (), "the offset is a scalar", key)
            table = bnb_files[f"{key}.quant_map"]
            codes = flat[f"{key}.codes"]
            values = table[torch.stack([codes >> 4, codes & 15], 1).flatten().long()][: tensor.elements]
            decoded = values * flat[f"{key}.scales"].repeat_interleave(tensor.block_size)[: tensor.elements]
            check(torch.equal(single[key], decoded.reshape(tensor.shape)), "codes times scales", key, name)
    path = models.paths["nested"]
    model = q4.open(path)
    first = next(iter(model))
    check(list(q4.torch.tensors(model, [first])) == [first], "a model and a name")
    raises(q4.UsageError, lambda: q4.torch.tensors(path, ["no.such"]), "no such tensor")
    raises(q4.UsageError, lambda: q4.torch.tensors(path, []), "no names")
    raises(q4.UsageError, lambda: q4.torch.tensors(path, form="int4"), "no such form")
    raises(q4.DamagedError, lambda: q4.torch.tensors(path, root="sha256:" + "0" * 64), "another root")
    raises(q4.UsageError, lambda: q4.torch.tensors(model, root="sha256:" + "0" * 64), "a model of another root")
    raises(q4.InputError, lambda: q4.torch.tensors(models.work / "none.q4"), "no file")
    told = []
    q4.torch.tensors(path, progress=told.append)
    check(bool(told) and told[-1].done_bytes == told[-1].total_bytes, "progress is told to its end")


def test_damage(models):
    octets = bytearray(pathlib.Path(models.paths["nested"]).read_bytes())
    # In the middle lies the payload of some tensor.
    octets[len(octets) // 2] ^= 1
    damaged = models.work / "damaged.q4"
    damaged.write_bytes(octets)
    error = raises(q4.DamagedError, lambda: q4.torch.tensors(damaged), "a damaged chunk")
    check(error.tensor is not None and error.path == str(damaged), "which tensor of which file", error)
    state = q4.torch.state_dict(damaged)
    errors = {type(raises(q4.DamagedError, lambda name=name: state[name][...], "a lazy value of it")) for name in state}
    check(errors == {q4.DamagedError}, "each value says so")
    truncated = models.work / "truncated.q4"
    truncated.write_bytes(octets[: len(octets) // 2])
    check(isinstance(error_of(lambda: q4.torch.tensors(truncated)), q4.FormatError | q4.DamagedError), "a truncated file")


def error_of(call):
    try:
        call()
    except q4.Error as error:
        return error
    return None


def test_params4bit(models):
    for name, path in models.paths.items():
        files = models.exports[name][0]
        key = next(key for key, tensor in q4.open(path).items() if tensor.quantized)
        for storage in (torch.uint8, torch.bfloat16):
            layer = bnb.nn.Linear4bit(1, 1, bias=False, quant_storage=storage, device="meta")
            weight = q4.torch.params4bit(path, key, quant_storage=storage, module=layer)
            layer.weight = weight
            state = weight.quant_state
            check(weight.dtype == storage and same(weight.data.view(torch.uint8).flatten(), files[key].flatten()), "codes", name)
            check(layer.quant_state is state and weight.module is layer and not weight.requires_grad and weight.bnb_quantized, "both have the state", name)
            check(state.nested == (state.offset is not None) and (not state.nested or state.offset.shape == ()), "a scalar offset", name)
            saved = layer.state_dict(prefix=f"{key.rpartition('.')[0]}.")
            for part, tensor in saved.items():
                check(same(tensor.view(torch.uint8).flatten(), files[part].view(torch.uint8).flatten()), "saved as the export is", part)
            check(saved.keys() == {part for part in files if part == key or part.startswith(key + ".")}, "all parts", name)
            other = copy.deepcopy(layer)
            check(same(other.weight.data, weight.data) and other.weight.data_ptr() != weight.data_ptr() and other.weight.quant_state == state, "deepcopy", name)
            octets = io.BytesIO()
            torch.save(layer.state_dict(), octets)
            octets.seek(0)
            back = torch.load(octets, weights_only=True)
            check(all(same(back[part], tensor) for part, tensor in layer.state_dict().items()), "torch.save", name)
            moved = weight.to("cpu", torch.bfloat16)
            check(isinstance(moved, bnb.nn.Params4bit) and moved.quant_state is not None, "to()", name)
    kept = next(key for key, tensor in q4.open(models.paths["nested"]).items() if not tensor.quantized)
    raises(q4.UsageError, lambda: q4.torch.params4bit(models.paths["nested"], kept), "a kept tensor")
    raises(q4.UsageError, lambda: q4.torch.params4bit(models.paths["nested"], "no.such"), "no such tensor")


def test_state_dict(models):
    for name, path in models.paths.items():
        for layout, files in zip(("bnb", "dense"), models.exports[name]):
            state = q4.torch.state_dict(path, {"": "cpu"}, layout=layout)
            check(state.keys() == files.keys(), "names of the export", name, layout)
            for key, value in state.items():
                check(value.dtype == files[key].dtype and value.get_shape() == list(files[key].shape), "dtype and shape before loading", key)
            check(all(same(state[key][...], files[key]) for key in files), "the export's bytes", name, layout)
            check(storages(value[...] for value in state.values()) == len(state), "a storage for each", name)
            octets = io.BytesIO()
            torch.save({key: value[...] for key, value in state.items()}, octets)
            check(all(state[key][...] is state[key][...] for key in state), "loaded once", name)
    raises(q4.UsageError, lambda: q4.torch.state_dict(models.paths["nested"], {"model.layers": "cpu"}), "a device map with gaps")


class Module(torch.nn.Module):
    """Two layers of the checkpoint by their own names, one of them in 4 bits, an embedding, and tied names."""

    def __init__(self, tied=False, extra=False):
        super().__init__()
        self.up_proj = bnb.nn.Linear4bit(64, 160, bias=False, quant_type="nf4", device="meta")
        self.down_proj = torch.nn.Linear(160, 64, bias=False, dtype=torch.bfloat16)
        if tied:
            self.again = self.down_proj
        if extra:
            self.gate = torch.nn.Linear(2, 2)


def test_load_into(models):
    path = models.paths["nested"]
    shapes = {key: tensor.shape for key, tensor in q4.open(path).items()}
    prefix = "model.layers.0.mlp."
    files, _ = models.exports["nested"]

    def made(**options):
        module = Module(**options)
        module.up_proj = bnb.nn.Linear4bit(*reversed(shapes[prefix + "up_proj.weight"]), bias=False, device="meta")
        module.down_proj = torch.nn.Linear(*reversed(shapes[prefix + "down_proj.weight"]), bias=False, dtype=torch.bfloat16)
        if options.get("tied"):
            module.again = module.down_proj
        return module

    module = made(tied=True)
    error = raises(q4.UsageError, lambda: q4.torch.load_into(module, path, prefix=prefix), "a name that the module lacks")
    check("gate_proj.weight" in str(error) and module.up_proj.weight.is_meta, "which, and nothing was set", error)
    result = q4.torch.load_into(module, path, strict=False, prefix=prefix)
    check(set(result.loaded) == {"up_proj.weight", "down_proj.weight"} and not result.missing and result.unexpected == ("gate_proj.weight",), "result", result)
    weight = module.up_proj.weight
    check(isinstance(weight, bnb.nn.Params4bit) and same(weight.data, files[prefix + "up_proj.weight"]) and module.up_proj.quant_state is weight.quant_state, "in 4 bits")
    wanted = q4.torch.tensors(path, [prefix + "down_proj.weight"], form="bfloat16")[prefix + "down_proj.weight"]
    check(same(module.down_proj.weight, wanted) and module.down_proj.weight.requires_grad, "dequantized to the parameter's dtype")
    check(module.again.weight is module.down_proj.weight, "tied as before")
    result = q4.torch.load_into(made(extra=True), path, strict=False, prefix=prefix)
    check(set(result.missing) == {"gate.weight", "gate.bias"}, "missing", result)
    small = made()
    small.down_proj = torch.nn.Linear(3, 3, bias=False)
    before = small.down_proj.weight
    result = q4.torch.load_into(small, path, strict=False, prefix=prefix)
    check("down_proj.weight" in result.unexpected and small.down_proj.weight is before, "another shape is left alone", result)


def main():
    with tempfile.TemporaryDirectory(prefix="q4-python-torch-") as work:
        models = Models(pathlib.Path(work))
        for test in (test_tensors, test_damage, test_params4bit, test_state_dict, test_load_into):
            test(models)
    print(f"python_torch: {count()} checks")


main()
