"""q4 beside PyTorch: what torch.save writes, converted as it lies there and as the safetensors of what torch.load gives.

    python torch_check.py --bin DIR

--bin holds the tools. Each layout must give a container of the same content as the safetensors, be inspected, verified against
either source, and refused by name where q4 does not read it. The elements that are kept are compared with PyTorch's own, bit for bit.
"""

import argparse
import json
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from checks import check, count  # noqa: E402
from tools import Tools  # noqa: E402

warnings.filterwarnings("ignore")
UP, DOWN, NORM = (f"model.layers.0.{name}.weight" for name in ("mlp.up_proj", "mlp.down_proj", "norm"))
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


def weights(rows=192, columns=128, dtype=torch.bfloat16):
    torch.manual_seed(0)
    return torch.randn(rows, columns).to(dtype)


def model(dtype=torch.bfloat16):
    return {UP: weights(dtype=dtype), DOWN: weights(128, 192, dtype), NORM: weights(1, 128, dtype)[0]}


def views():
    base = weights(256, 256, torch.float32)
    image = torch.randn(8, 6, 5, 4).to(memory_format=torch.channels_last)
    return {UP: base.t(), DOWN: base[:, 64:192], "model.layers.1.mlp.up_proj.weight": base[::2, ::4],
            "model.layers.1.mlp.down_proj.weight": base[17:49], "diagonal": base.diagonal(), "column": base[:, 3], "image": image,
            "permuted": image.permute(3, 1, 0, 2), "row": base[5], "one": base[7:8, 9:10], "window": base.reshape(-1).unfold(0, 3, 3)}


def tied():
    table = weights(320, 64)
    fused = weights(384, 64)
    q, k, v = fused.chunk(3)
    return {EMBED: table, HEAD: table, "model.layers.0.self_attn.q_proj.weight": q, "model.layers.0.self_attn.k_proj.weight": k,
            "model.layers.0.self_attn.v_proj.weight": v, "model.layers.0.self_attn.qkv_proj.weight": fused, NORM: torch.nn.Parameter(table[0])}


def types():
    values = torch.arange(-60, 60)
    ints = {str(dtype)[6:]: values.to(dtype) for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
                                                            torch.uint16, torch.uint32, torch.uint64)}
    floats = {str(dtype)[6:]: values.float().div(8).to(dtype) for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16,
                                                                              torch.float8_e4m3fn, torch.float8_e5m2)}
    return {**ints, **floats, "complex64": torch.complex(values.float(), values.float()), "scalar": torch.tensor(3.5),
            "empty": torch.zeros(0, 4), UP: weights(dtype=torch.float16)}


def module():
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(64, 192), torch.nn.BatchNorm1d(192), torch.nn.Linear(192, 64))
    return net.state_dict()


def training(wrapper):
    """What a training script saves: the model, its optimizer, random states, arguments."""
    net = torch.nn.Linear(64, 64)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    return {wrapper: net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=1e-3),
            "best": torch.tensor(0.5), "score": np.float64(0.1), "rng": [torch.get_rng_state(), np.random.get_state(), random.getstate()],
            "dtype": torch.float16, "device": torch.device("cpu"), "size": torch.Size([1]), "bytes": b"\x00\xff", "set": {1}}, net.state_dict()


def attributes():
    tensor = weights(64, 64)
    tensor.note = 1
    buffer = torch.nn.Parameter(weights(64, 64), requires_grad=False)
    buffer.tag = "x"
    return {UP: tensor, DOWN: buffer}


def layouts():
    """(name, what torch.save is given, the state dict in it, options of torch.save)"""
    yield "plain", model(), None
    yield "half", model(torch.float16), None
    yield "single", model(torch.float32), None
    yield "views", views(), None
    yield "tied", tied(), None
    yield "types", types(), None
    yield "module", module(), None
    yield "attributes", attributes(), None
    yield "parameters", {key: torch.nn.Parameter(value) for key, value in model().items()}, None
    for wrapper in ("state_dict", "model", "model_state_dict", "module", "net"):
        yield (f"training_{wrapper}", *training(wrapper))
    yield "wrapped_twice", {"epoch": 1, "model": {"module": model(), "version": 2}}, model()


def refused():
    """(name, a function that saves it, issue, a word of the message)"""
    net = torch.nn.Sequential(torch.nn.Linear(8, 8))
    quantized = torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8)
    channels = torch.quantize_per_channel(torch.ones(4, 4), torch.ones(4), torch.zeros(4), 0, torch.qint8)
    save = torch.save
    yield "legacy", lambda path: save(model(), path, _use_new_zipfile_serialization=False), 5713, "torch.save(torch.load("
    yield "script", lambda path: torch.jit.script(net).save(path), 5712, "state_dict"
    yield "whole_module", lambda path: save(net, path), 3124, "torch.nn.modules"
    yield "protocol", lambda path: save(model(), path, pickle_protocol=4), 5714, "expected 2"
    yield "quantized", lambda path: save({"x.weight": quantized}, path), 5715, "quantized"
    yield "per_channel", lambda path: save({"x.weight": channels}, path), 5715, "quantized"
    yield "sparse", lambda path: save({"x.weight": torch.ones(4, 4).to_sparse()}, path), 5715, "sparse"
    yield "csr", lambda path: save({"x.weight": torch.ones(4, 4).to_sparse_csr()}, path), 5715, "sparse"
    yield "meta", lambda path: save({"x.weight": torch.empty(4, device="meta")}, path), 5715, "meta"
    yield "complex", lambda path: save({"x": torch.ones(4, dtype=torch.complex128)}, path), 5715, "complex128"
    yield "conjugate", lambda path: save({"x": torch.ones(4, dtype=torch.complex64).conj()}, path), 5715, "conjugated"
    yield "expanded", lambda path: save({"x": torch.ones(1, 4).expand(4, 4)}, path), 3135, "contiguous"
    yield "tensor", lambda path: save(torch.ones(4), path), 5716, "without a name"
    yield "list", lambda path: save([torch.ones(4)], path), 5716, "no dictionary"
    yield "optimizer", lambda path: save(torch.optim.AdamW(net.parameters()).state_dict(), path), 5716, "optimizer"
    yield "two", lambda path: save({"g": model(), "d": model()}, path), 5716, "could be the model"


class Bench(Tools):
    def describe(self, path):
        report = json.loads(self.run("q4inspect", path, "--json", "--tensors").stdout)
        return {tensor["name"]: (tensor["dtype"], tensor["shape"]) for tensor in report["tensors"]}

    def same(self, name, source, expected):
        """Converts `source` and the safetensors of `expected`: all that a container holds of tensors must be the same."""
        plain = {key: value.detach().contiguous().clone() for key, value in expected.items()}
        reference = f"{name}.safetensors"
        save_file(plain, self.work / reference)
        check(self.describe(source) == self.describe(reference), f"{name}: inspected alike")
        for settings in ((), ("--no-double-quant", "--type", "fp4")):
            self.run("q4convert", source, "-o", "a.q4", "-q", "--force", *settings)
            self.run("q4convert", reference, "-o", "b.q4", "-q", "--force", *settings)
            self.run("q4inspect", "a.q4", "--diff", "b.q4")
            self.run("q4verify", "a.q4", "--against", source, "-q")
        # Everything kept: PyTorch's own elements, bit for bit.
        self.run("q4convert", source, "-o", "kept.q4", "-q", "--force", "--exclude", ".")
        self.run("q4export", "kept.q4", "-o", "kept.safetensors", "--to", "safetensors", "-q", "--force")
        kept = load_file(self.work / "kept.safetensors")
        check(set(kept) == set(plain), f"{name}: the same tensors", set(kept) ^ set(plain))
        for key, value in plain.items():
            if value.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
                value = value.to(torch.bfloat16)  # read as values, and no configuration names another type
            check((kept[key].dtype, kept[key].shape) == (value.dtype, value.shape), f"{name}: {key} has its type and shape")
            check(kept[key].reshape(-1).view(torch.uint8).equal(value.reshape(-1).view(torch.uint8)), f"{name}: {key} has its bytes")

    def saved_layouts(self):
        for name, saved, state in layouts():
            torch.save(saved, self.work / f"{name}.bin")
            self.same(name, f"{name}.bin", saved if state is None else state)
            if name.startswith("training"):
                told = self.run("q4convert", f"{name}.bin", "-o", "told.q4", "--dry-run").stderr
                check("optimizer (4 tensors)" in told or "optimizer (6 tensors)" in told, f"{name}: the optimizer is named", told)

    def other_writers(self):
        """Other ways to write the archive: without CRC, aligned otherwise, as a file object, with storages of the tensors left out."""
        torch.serialization.set_crc32_options(False)
        torch.save(model(), self.work / "no_crc.bin")
        torch.serialization.set_crc32_options(True)
        self.same("no_crc", "no_crc.bin", model())
        with open(self.work / "stream.pt", "wb") as file:
            torch.save(model(), file)
        self.same("stream", "stream.pt", model())

    def folders(self):
        """Folders as from_pretrained loads them: one file, shards behind an index, safetensors beside."""
        parts = [{UP: weights()}, {DOWN: weights(128, 192), NORM: weights(1, 128)[0]}]
        for name, beside in (("one", False), ("shards", False), ("both", True)):
            folder = self.work / name
            folder.mkdir()
            (folder / "config.json").write_text('{"model_type": "llama"}')
            torch.save({"lr": 1}, folder / "training_args.bin")
            torch.save(model(), folder / "optimizer.pt")
            if name == "shards":
                files = [f"pytorch_model-0000{i + 1}-of-00002.bin" for i in range(2)]
                for file, part in zip(files, parts):
                    torch.save(part, folder / file)
                index = {"metadata": {"total_size": 0}, "weight_map": {key: file for file, part in zip(files, parts) for key in part}}
                (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
            else:
                torch.save(model(), folder / "pytorch_model.bin")
            if beside:
                save_file(model(), folder / "model.safetensors")
            report = json.loads(self.run("q4inspect", name, "--json").stdout)
            wanted = {"one": "torch", "shards": "torch-sharded", "both": "safetensors"}[name]
            check(report["format"] == wanted, f"{name}: is read as {wanted}", report["format"])
            self.run("q4convert", name, "-o", f"{name}.q4", "-q")
            self.run("q4verify", f"{name}.q4", "--against", name, "-q")
            if beside:
                left = self.run("q4inspect", name, "--files").stdout
                check("pytorch_model.bin" in left, "what safetensors hide is told", left)
        (self.work / "lone").mkdir()
        torch.save(model(), self.work / "lone" / "weights.pth")
        torch.save(1, self.work / "lone" / "rng_state.pth")
        self.run("q4convert", "lone", "-o", "lone.q4", "-q")

    def refusals(self):
        for name, save, issue, word in refused():
            save(str(self.work / f"{name}.bad.bin"))
            for tool, *more in (("q4inspect",), ("q4convert", "-o", "bad.q4", "-q")):
                done = self.run(tool, f"{name}.bad.bin", *more, code=issue // 1000)
                check(f"[Q4-{issue}]" in done.stderr and word in done.stderr, f"{name}: refused by name", done.stderr)
        check(not (self.work / "bad.q4").exists(), "nothing is left behind")

    def memory(self):
        """A transposed matrix much larger than the bound."""
        big = torch.empty(12288, 8192, dtype=torch.bfloat16).fill_(0.5)
        big[:, ::7] = 0.25
        torch.save({UP: big.t()}, self.work / "big.bin")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        script = ("import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
                  "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024); sys.exit(done.returncode)")
        command = [str(self.folder / "q4convert"), "big.bin", "-o", "big.q4", "-q", "--max-memory", "64MiB", "--threads", "2"]
        done = subprocess.run([sys.executable, "-c", script, *command], cwd=self.work, capture_output=True, text=True)
        check(done.returncode == 0, "a transposed matrix is converted in little memory", done.stderr)
        peak = int(done.stdout.split()[-1])
        check(peak <= 128, "64 MiB and the fixed overhead are enough", peak)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"transposed matrix of 192 MiB: {peak} MiB, {used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime:.1f} s of processor time")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(arguments.bin.resolve(), pathlib.Path(work))
        bench.saved_layouts()
        bench.other_writers()
        bench.folders()
        bench.refusals()
        bench.memory()
    print(f"torch_check: PyTorch {torch.__version__}, {count()} checks hold")


if __name__ == "__main__":
    main()
