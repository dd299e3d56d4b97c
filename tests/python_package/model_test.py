"""open, Model, Tensor and loaded tensors."""

import copy
import gc
import importlib.util
import inspect
import json
import multiprocessing
import pathlib
import pickle
import struct
import tempfile
import threading

from package_setup import KEPT, QUANTIZED, SOURCE, TOOLS, Tools, check, count, raises

import q4


def safetensors(path):
    """name -> (dtype, shape, bytes)."""
    octets = path.read_bytes()
    length = struct.unpack("<Q", octets[:8])[0]
    header = json.loads(octets[8 : 8 + length])
    header.pop("__metadata__", None)
    base = 8 + length
    return {name: (e["dtype"], tuple(e["shape"]), octets[base + e["data_offsets"][0] : base + e["data_offsets"][1]]) for name, e in header.items()}


def octets(array):
    view = memoryview(array)
    return view.tobytes()


def flat_scales(parts, nested_map):
    """Decoded as bitsandbytes' table of 256 values and numerics Q5.5 say: two roundings to float32."""
    if "scales" in parts.parts:
        return octets(parts.scales)
    table = struct.unpack("<256f", nested_map)
    groups, offset = memoryview(parts.scales2).tolist(), memoryview(parts.offset).tolist()
    single = lambda value: struct.unpack("<f", struct.pack("<f", value))[0]  # noqa: E731
    scales = [single(single(table[code] * groups[i // 256]) + offset) for i, code in enumerate(memoryview(parts.scale_codes))]
    return struct.pack(f"<{len(scales)}f", *scales)


class Models:
    """Containers of the checkpoint: nested and plain scales, both code books, compressed, in shards."""

    def __init__(self, work):
        self.work = work
        self.paths = {}
        for name, arguments in (
            ("nested", {}), ("plain", {"double_quant": False, "block_size": 128}), ("fp4", {"type": "fp4", "compress": "zstd"}),
            ("shards", {"shard_size": 200_000}),
        ):  # fmt: skip
            self.paths[name] = q4.convert(SOURCE, work / f"{name}.q4", **arguments).path
        self.nested = self.paths["nested"]


def test_index(models):
    for path in models.paths.values():
        document = json.loads(Tools(TOOLS, models.work).run("q4inspect", path, "--tensors", "--stats", "--json").stdout)
        model = q4.open(path)
        check(model.root == "sha256:" + document["root_sha256"] and model.file_bytes == document["file_bytes"], "root and size")
        check(model.provenance == document["provenance"], "provenance")
        check(list(model) == [tensor["name"] for tensor in document["tensors"]] and len(model) == document["tensor_count"], "names")
        for expected in document["tensors"]:
            tensor = model[expected["name"]]
            check(list(tensor.shape) == expected["shape"] and tensor.dtype == expected["dtype"], "shape and dtype", tensor)
            check(tensor.quantized == ("stats" in expected and expected["stats"] is not None), "quantized", tensor)
            if tensor.quantized:
                words = [tensor.scheme, f"b{tensor.block_size}"] + ["dq"] * tensor.nested
                check(expected["treatment"] == " ".join(words), "treatment", words, expected["treatment"])
                check(tensor.stats == q4.Stats.of(expected["stats"]), "statistics", tensor)
            else:
                check(tensor.stats is None and tensor.block_size == 0 and not tensor.nested, "a kept tensor", tensor)
        check(model.config == json.loads((SOURCE / "config.json").read_text()), "config.json")
        check(dict(model.files) == {n: (SOURCE / n).read_bytes() for n in ("config.json", "generation_config.json")}, "embedded files")
        check(str(path) in repr(model) and QUANTIZED in repr(model[QUANTIZED]) and repr(model.files) != "", "repr")
    model = q4.open(str(models.nested))
    for key in ("none", "", "\ud800", 3, None):
        check(key not in model and model.get(key) is None, "no such tensor", ascii(key))
        raises(KeyError, lambda key=key: model[key], "no such tensor")
    raises(KeyError, lambda: model.files["none"], "no such file")
    check(QUANTIZED in model and model == q4.open(models.nested) and model != q4.open(models.paths["plain"]), "equality")
    check(len({model, q4.open(models.nested)}) == 1, "hash")


def test_values(models):
    """What q4export --to safetensors writes, in each type; and codes and scales as q4export --to bnb has them."""
    for name, path in models.paths.items():
        model = q4.open(path)
        for form, dtype in (("float32", "fp32"), ("float16", "fp16"), ("bfloat16", "bf16"), ("source", "same")):
            target = models.work / f"{name}_{dtype}.safetensors"
            q4.export(path, target, to="safetensors", dtype=dtype)
            loaded = model.load(form=form)
            check(list(loaded) == sorted(model) and loaded.device == "cpu" and loaded.nbytes > 0 and loaded.read_bytes > 0, "what was loaded")
            for tensor, (kind, shape, values) in safetensors(target).items():
                if model[tensor].quantized or form == "source":
                    parts = loaded[tensor]
                    check((parts.parts, parts.dtype, parts.shape) == (("values",), kind, shape), "parts of values", tensor)
                    check(octets(parts.raw("values")) == values and not hasattr(parts, "codes"), "values", tensor, form)
        q4.export(path, models.work / f"{name}_bnb")
        exported = safetensors(models.work / f"{name}_bnb" / "model.safetensors")
        nested_map = exported.get(QUANTIZED + ".nested_quant_map", (None, None, b""))[2]
        parts = model.load([QUANTIZED])[QUANTIZED]
        tensor = model[QUANTIZED]
        check(octets(parts.codes) == exported[QUANTIZED][2], "codes")
        if tensor.nested:
            check(parts.parts == ("codes", "scale_codes", "scales2", "offset") and not hasattr(parts, "scales"), "parts of nested scales")
            check(octets(parts.scale_codes) == exported[QUANTIZED + ".absmax"][2], "scale codes")
            check(octets(parts.scales2) == exported[QUANTIZED + ".nested_absmax"][2], "scales of scales")
            check(memoryview(parts.offset).shape == () and memoryview(parts.offset).nbytes == 4, "the offset is a scalar")
        else:
            check(parts.parts == ("codes", "scales") and octets(parts.scales) == exported[QUANTIZED + ".absmax"][2], "scales")
        flat = model.load([QUANTIZED], form="flat")[QUANTIZED]
        check(flat.parts == ("codes", "scales") and octets(flat.codes) == octets(parts.codes), "parts with flat scales")
        check(octets(flat.scales) == flat_scales(parts, nested_map), "flat scales")
        check(sum(memoryview(parts.raw(part)).nbytes for part in parts.parts) == tensor.nbytes, "nbytes of a tensor")
        raises(KeyError, lambda parts=parts: parts.raw("values"), "a part that is not there")
        check("it has codes" in str(raises(AttributeError, lambda parts=parts: parts.values, "a part that is not there")), "what is there")
    check(model.load().nbytes == model.nbytes, "nbytes of what is loaded")
    check(model.nbytes == sum(tensor.nbytes for tensor in model.values()), "nbytes of a model")


def test_loading_some(models):
    model = q4.open(models.nested)
    told = []
    loaded = model.load([KEPT, QUANTIZED, KEPT], threads=1, check="sha256", progress=told.append)
    check(sorted(loaded) == sorted([KEPT, QUANTIZED]) and told[-1].done_bytes == told[-1].total_bytes == loaded.read_bytes, "progress", told)
    check(list(model.load(QUANTIZED)) == [QUANTIZED], "one name")
    for arguments in ({"names": ["none"]}, {"names": []}, {"form": "int8"}, {"check": "md5"}, {"threads": -1}, {"threads": 9999}, {"device": "tpu"},
                      {"device": "cuda:0,1"}):  # fmt: skip
        raises(q4.UsageError, lambda arguments=arguments: model.load(**arguments), str(arguments))
    if q4.build_info().no_gpu_reason:
        error = None
        try:
            model.load(device="cuda")
        except (q4.DeviceError, q4.UnsupportedError) as caught:
            error = caught
        check(error is not None and error.path is None, "no GPU", error)
        check(model.load(device="auto").device == "cpu", "auto without a GPU")


def test_memory_lives_as_long_as_its_parts(models):
    model = q4.open(models.nested)
    loaded = model.load()
    parts = loaded[QUANTIZED]
    view, before = memoryview(parts.codes), octets(parts.codes)
    array = parts.scale_codes
    expected = octets(array)
    model.close()
    check(parts.shape == (128, 344) and octets(parts.codes) == before, "what is loaded needs no open model")
    del loaded, parts, model
    gc.collect()
    other = [q4.open(models.nested).load() for _ in range(8)]  # would take the memory if it had gone
    check(view.tobytes() == before and octets(array) == expected and len(other) == 8, "parts keep their memory alive")
    view[0] ^= 255
    check(view.tobytes() != before, "the memory is the caller's")


def test_numpy(models):
    if importlib.util.find_spec("numpy") is None:
        print("SKIP NumPy: not installed")
        return
    import numpy

    model = q4.open(models.nested)
    wide = safetensors(models.work / "nested_fp32.safetensors")
    for name in (QUANTIZED, KEPT):
        values = numpy.frombuffer(wide[name][2], dtype="<f4").reshape(wide[name][1])
        ours = model[name].numpy("float32")
        check(ours.dtype == numpy.float32 and ours.shape == values.shape and (ours == values).all(), "numpy('float32')", name)
        bits = model[name].numpy("raw")
        check(bits.dtype == numpy.uint16 and bits.tobytes() == safetensors(models.work / "nested_same.safetensors")[name][2], "numpy('raw')", name)
    check((model[QUANTIZED].numpy("float16") == numpy.asarray(model[QUANTIZED].dequantize("float16"))).all(), "dequantize('float16')")
    check((numpy.from_dlpack(model[QUANTIZED].dequantize("float32")) == model[QUANTIZED].numpy("float32")).all(), "numpy.from_dlpack")
    if importlib.util.find_spec("ml_dtypes") is None:
        check("ml_dtypes" in str(raises(q4.UnsupportedError, lambda: model[KEPT].numpy(), "bfloat16 without ml_dtypes")), "the way out")
    else:
        check(str(model[KEPT].numpy().dtype) == "bfloat16", "bfloat16 of ml_dtypes")


def test_dlpack(models):
    model = q4.open(models.nested)
    check(model[KEPT].dequantize().__dlpack_device__() == (1, 0), "memory of the host")
    error = raises(q4.UsageError, lambda: model[KEPT].dequantize("float32"), "a kept tensor has no codes")
    check("BF16" in str(error), "the way out")
    values = safetensors(models.work / "nested_fp32.safetensors")[QUANTIZED][2]
    check(octets(model[QUANTIZED].dequantize("float32")) == values, "dequantize('float32')")
    if importlib.util.find_spec("torch") is None:
        print("SKIP torch: not installed")
        return
    import torch

    values = torch.from_dlpack(model[KEPT].dequantize())
    check(values.dtype == torch.bfloat16 and tuple(values.shape) == model[KEPT].shape, "torch.from_dlpack")
    check(values.view(torch.int16).numpy().tobytes() == safetensors(SOURCE / "model.safetensors")[KEPT][2], "its bits")
    parts = model.load()[QUANTIZED]
    offset = torch.from_dlpack(parts.offset)
    check(offset.dim() == 0 and offset.dtype == torch.float32 and torch.from_dlpack(parts.codes).dtype == torch.uint8, "parts in torch")
    codes = torch.from_dlpack(parts.codes)
    check(codes.untyped_storage().nbytes() == codes.numel(), "a storage of its own")
    check(copy.deepcopy(torch.nn.Parameter(codes, requires_grad=False)).equal(codes), "deepcopy")


def root_of(model):
    """In another process."""
    return model.root, len(model), bytes(memoryview(model.load([QUANTIZED])[QUANTIZED].codes))[:16]


def test_pickling(models):
    model = q4.open(models.nested)
    for duplicate in (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model)):
        check(duplicate == model and list(duplicate) == list(model), "copies")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        check(pool.map(root_of, [model] * 4) == [root_of(model)] * 4, "spawn")
    raises(TypeError, lambda: pickle.dumps(model.load()), "loaded tensors do not pickle")
    pinned = pickle.loads(pickle.dumps(q4.open(models.nested, root=model.root)))
    check(pinned._pinned and not pickle.loads(pickle.dumps(model))._pinned, "a pin goes with the model")
    moved = models.work / "moved.q4"
    moved.write_bytes(models.nested.read_bytes())
    left = pickle.dumps(q4.open(moved))
    moved.write_bytes(models.paths["plain"].read_bytes())
    check(raises(q4.DamagedError, lambda: pickle.loads(left), "another model under its name").issue == "Q4-7642", "its number")


def test_threads(models):
    model = q4.open(models.nested)
    expected = octets(model.load()[QUANTIZED].codes)
    wrong = []

    def work():
        for _ in range(20):
            if octets(model.load([QUANTIZED])[QUANTIZED].codes) != expected or model[KEPT].stats is not None:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not wrong, "eight threads load from one model")


def test_closing(models):
    with q4.open(models.nested) as model:
        check(len(model) > 0, "open")
        files = model.files
    for call in (lambda: model.load(), lambda: model[KEPT], lambda: model.file_bytes, lambda: model.files):
        check("closed" in str(raises(q4.UsageError, call, "a closed model")), "says so")
    check(files["config.json"] and model.root and repr(model), "what is known stays")
    model.close()


def test_extracting(models):
    model = q4.open(models.nested)
    folder = model.extract_files(models.work / "new" / "folder")
    check({p.name: p.read_bytes() for p in folder.iterdir()} == dict(model.files), "extracted files")
    (models.work / "taken").mkdir()
    (models.work / "taken" / "generation_config.json").write_text("mine")
    raises(FileExistsError, lambda: model.extract_files(models.work / "taken"), "a file that is there")
    check([p.name for p in (models.work / "taken").iterdir()] == ["generation_config.json"], "and nothing is written")


def test_damage(models):
    model = q4.open(models.nested)
    document = json.loads(Tools(TOOLS, models.work).run("q4inspect", models.nested, "--tensor", QUANTIZED, "--json").stdout)
    octets_ = bytearray(models.nested.read_bytes())
    octets_[document["tensors"][0]["offset"]] ^= 1
    path = models.work / "damaged.q4"
    path.write_bytes(octets_)
    damaged = q4.open(path)
    for call in (lambda: damaged.load(), lambda: damaged[QUANTIZED].dequantize(), lambda: damaged.load([QUANTIZED], check="sha256")):
        error = raises(q4.DamagedError, call, "a damaged tensor")
        check((error.tensor, error.path, error.exit_code, error.issue) == (QUANTIZED, str(path), 6, "Q4-7040"), "what is damaged", vars(error))
    check(octets(damaged.load([KEPT])[KEPT].raw("values")) == octets(model.load([KEPT])[KEPT].raw("values")), "others load")
    damaged.load(check="none")
    for cut in (0, 10, 1000, len(octets_) - 1):
        path.write_bytes(octets_[:cut])
        try:
            q4.open(path)
        except q4.Error as caught:
            check(caught.exit_code in (3, 6) and caught.path == str(path), "a truncated file", cut, caught)
        else:
            check(False, "a truncated file opens", cut)
    raises(q4.InputError, lambda: q4.open(models.work / "none.q4"), "no file")
    raises(q4.FormatError, lambda: q4.open(SOURCE / "config.json"), "no container")
    raises(q4.UsageError, lambda: q4.open(models.nested, root="sha256:12"), "no root")
    raises(q4.UsageError, lambda: q4.open(str(models.nested) + "\0x"), "a NUL")
    raises(TypeError, lambda: q4.open(3), "no path")
    check(raises(q4.DamagedError, lambda: q4.open(models.nested, root="sha256:" + "0" * 64), "another root").issue == "Q4-7642", "its number")
    pinned = q4.open(models.nested, root=model.root)
    check(len(pinned.load()) == len(model), "a pinned root")


def main():
    with tempfile.TemporaryDirectory(prefix="q4-python-model-") as work:
        models = Models(pathlib.Path(work))
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                test(*[models] * len(inspect.signature(test).parameters))
    print(f"python_model: {count()} checks")


# Guarded: processes of "spawn" import this file.
if __name__ == "__main__":
    main()
