"""GGUF files of the real writer (PyPI gguf), as q4 reads them.

    python gguf_check.py --bin DIR

--bin holds the tools. Asked of files that gguf's GGUFWriter made, beside a safetensors file with the same names and elements:
  - F32, F16, BF16, integers and F64, one to four dimensions, every alignment: the elements that a container keeps are those that were
    written, and so are those of an export; q4inspect --diff finds GGUF and safetensors equal;
  - versions 2 and 3, and files in parts, opened by any part and by their folder: the same tensors;
  - quantized by one recipe, the container has the codes and scales of the safetensors file's, and q4verify proves it against both;
  - metadata of every type of value, arrays and a vocabulary of 256,000 texts: the file in the container is one that gguf's own reader
    reads, with the same fields; the peak of memory stays within the bound;
  - the default policy by llama.cpp's names; adapters, importance matrices and block-quantized files refused; mmproj told; an export
    for bitsandbytes refused; a conversion that was killed goes on and gives the same bytes.
"""

import argparse
import json
import logging
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import gguf  # noqa: E402
import numpy as np  # noqa: E402
from checks import check, count  # noqa: E402
from gguf import GGMLQuantizationType as Kind  # noqa: E402
from tools import Tools  # noqa: E402

logging.disable(logging.CRITICAL)
METADATA = "gguf_metadata.vocab"
TYPES = {Kind.F32: "F32", Kind.F16: "F16", Kind.BF16: "BF16", Kind.F64: "F64", Kind.I8: "I8", Kind.I16: "I16", Kind.I32: "I32",
         Kind.I64: "I64"}  # fmt: skip
RNG = np.random.default_rng(7)


def weights(shape, kind):
    """Random elements of a type, as an array that the writer takes; BF16 as the upper halves of F32."""
    values = (RNG.standard_normal(shape) * 0.02).astype(np.float32)
    if kind == Kind.BF16:
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    if kind in (Kind.F32, Kind.F16, Kind.F64):
        return values.astype({Kind.F32: np.float32, Kind.F16: np.float16, Kind.F64: np.float64}[kind])
    return RNG.integers(-100, 100, shape).astype({Kind.I8: np.int8, Kind.I16: np.int16, Kind.I32: np.int32, Kind.I64: np.int64}[kind])


def llama(kind=Kind.F16, layers=2):
    """A small model of llama.cpp's names: {name: (type, elements)}."""
    model = {"token_embd.weight": (kind, (96, 64)), "output_norm.weight": (Kind.F32, (64,)), "output.weight": (kind, (96, 64)),
             "rope_freqs.weight": (Kind.F32, (16,))}  # fmt: skip
    for i in range(layers):
        block = f"blk.{i}."
        model[block + "attn_norm.weight"] = (Kind.F32, (64,))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            model[block + name + ".weight"] = (kind, (64, 64))
        model[block + "attn_q.bias"] = (Kind.F32, (64,))
        model[block + "ffn_gate_inp.weight"] = (Kind.F32, (4, 64))
        model[block + "ffn_gate_exps.weight"] = (kind, (4, 32, 64))
        model[block + "ffn_down_exps.weight"] = (kind, (4, 64, 32))
        model[block + "attn_k_b.weight"] = (kind, (2, 32, 64))
        model[block + "ssm_conv1d.weight"] = (Kind.F32, (64, 4))
    return {name: (kind, weights(shape, kind)) for name, (kind, shape) in model.items()}


QUANTIZED = ("attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight", "_exps.weight", "attn_k_b.weight")


def write_gguf(path, tensors, alignment=None, split=0, fields=lambda writer: None, kind=None):
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split)
    if kind:
        writer.add_type(kind)
    if alignment:
        writer.add_custom_alignment(alignment)
    fields(writer)
    for name, (dtype, array) in tensors.items():
        raw = {"raw_dtype": dtype, "raw_shape": array.shape} if dtype == Kind.BF16 else {}
        # Of BF16 the writer wants bytes and their shape.
        if dtype == Kind.BF16:
            array = array.view(np.uint8)
            raw["raw_shape"] = array.shape
        writer.add_tensor(name, array, **raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors(path, tensors):
    header, at, data = {}, 0, b""
    for name, (dtype, array) in tensors.items():
        payload = array.tobytes()
        header[name] = {"dtype": TYPES[dtype], "shape": list(array.shape), "data_offsets": [at, at + len(payload)]}
        at += len(payload)
        data += payload
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    base = 8 + length
    return {name: (e["dtype"], tuple(e["shape"]), data[base + e["data_offsets"][0] : base + e["data_offsets"][1]])
            for name, e in header.items()}  # fmt: skip


def described(tensors):
    return {name: (TYPES[dtype], array.shape, array.tobytes()) for name, (dtype, array) in tensors.items()}


class Check:
    def __init__(self, tools, work):
        self.q4, self.work = Tools(tools, work), work

    def convert(self, source, out, *options, code=0):
        return self.q4.run("q4convert", source, "-o", out, "-q", "--device", "cpu", "--threads", 2, *options, code=code)

    def exported(self, container):
        out = f"{container}.safetensors"
        self.q4.run("q4export", container, "-o", out, "--to", "safetensors", "--dtype", "same", "-q")
        return read_safetensors(self.work / out)

    def elements(self):
        """Types, dimensions, alignments and versions."""
        shapes = [(), (1,), (33,), (3, 5), (2, 3, 5), (2, 3, 4, 5), (1, 1, 7, 1), (64, 64)]
        tensors = {}
        for kind in TYPES:
            for shape in shapes[1:]:
                tensors[f"{TYPES[kind]}.{'x'.join(map(str, shape))}"] = (kind, weights(shape, kind))
        write_safetensors(self.work / "all.safetensors", tensors)
        for alignment in (None, 8, 64, 4096):
            path = self.work / f"a{alignment}.gguf"
            write_gguf(path, tensors, alignment)
            data = bytearray(path.read_bytes())
            for version in (3, 2):
                struct.pack_into("<I", data, 4, version)
                path.write_bytes(data)
                self.convert(path.name, "a.q4", "--exclude", ".", "--force")
                check(self.exported("a.q4") == described(tensors), "elements as written", alignment, version)
                (self.work / "a.q4.safetensors").unlink()
            self.q4.run("q4inspect", "--diff", "all.safetensors", path.name, code=6)  # one has metadata
            diff = json.loads(self.q4.run("q4inspect", "--diff", "all.safetensors", path.name, "--json", code=6).stdout)
            check(not diff["changed"] and not diff["removed"] and not diff["added"], "no tensor differs", diff)
            self.q4.run("q4verify", "a.q4", "--against", path.name, "-q")
        self.q4.run("q4inspect", "--lint", "a8.gguf")

    def same_as_safetensors(self):
        """Codes and scales."""
        for kind in (Kind.F32, Kind.F16, Kind.BF16):
            tensors = llama(kind)
            write_gguf(self.work / "m.gguf", tensors)
            write_safetensors(self.work / "m.safetensors", tensors)
            rules = {"rules": [{"match": ".", "keep": True}, {"match": "blk.*attn_(q|k|v)\\.weight|_exps", "keep": False}]}
            (self.work / "r.json").write_text(json.dumps(rules))
            for source in ("gguf", "safetensors"):
                self.convert(f"m.{source}", f"m_{source}.q4", "--recipe", "r.json", "--force")
            diff = json.loads(self.q4.run("q4inspect", "--diff", "m_gguf.q4", "m_safetensors.q4", "--json", code=6).stdout)
            check(not diff["changed"] and not diff["removed"] and not diff["added"], "the same codes and scales", diff)
            check(diff["equal_tensors"] == len(tensors), "all tensors", diff)
            for source in ("m.gguf", "m.safetensors"):
                found = self.q4.run("q4verify", "m_gguf.q4", "--against", source, "-q", code=0 if source == "m.gguf" else 6)
                if source != "m.gguf":
                    check("tensor '" not in found.stderr, "only source and embedded file differ", found.stderr)

    def split(self):
        tensors = llama()
        folder = self.work / "parts"
        folder.mkdir()
        write_gguf(self.work / "whole.gguf", tensors)
        write_gguf(folder / "m.gguf", tensors, split=5)
        parts = sorted(path.name for path in folder.iterdir())
        check(len(parts) == 6, "parts", parts)
        self.convert("whole.gguf", "whole.q4")
        roots = set()
        for given in ("parts", f"parts/{parts[0]}", f"parts/{parts[3]}"):
            self.convert(given, "p.q4", "--force")
            roots.add((self.work / "p.q4").read_bytes())
            self.q4.run("q4verify", "p.q4", "--against", given, "-q")
        check(len(roots) == 1, "whichever part is given, the same bytes")
        diff = json.loads(self.q4.run("q4inspect", "--diff", "whole.q4", "p.q4", "--json", code=6).stdout)
        check(not diff["changed"] and not diff["removed"] and not diff["added"], "the tensors of the whole file", diff)
        (folder / parts[2]).rename(folder / "away")
        check(parts[2] in self.convert("parts", "x.q4", code=3).stderr, "a part that is missing is named")
        (folder / "away").rename(folder / parts[2])
        # A projector and the same model in another form beside it.
        write_gguf(folder / "mmproj-m.gguf", {"mm.0.weight": (Kind.F16, weights((8, 8), Kind.F16))}, kind="mmproj")
        told = self.q4.run("q4convert", "parts", "-o", "p.q4", "--force", "--device", "cpu").stderr
        check("mmproj-m.gguf" in told, "the projector is told", told)
        write_gguf(folder / "other.gguf", tensors)
        check("3161" in self.convert("parts", "x.q4", code=3).stderr, "two models in a folder")
        write_safetensors(folder / "model.safetensors", {"a.weight": tensors["blk.0.attn_q.weight"]})
        told = self.q4.run("q4convert", "parts", "-o", "s.q4", "--device", "cpu").stderr
        check(parts[0] in told and "left out" in told, "safetensors first, GGUF is told", told)
        check(set(self.exported("s.q4")) == {"a.weight"}, "the safetensors file is converted")

    def metadata(self):
        numbers = {"uint8": 200, "int8": -100, "uint16": 60_000, "int16": -30_000, "uint32": 1 << 31, "int32": -(1 << 30),
                   "float32": 0.1, "uint64": 1 << 63, "int64": -(1 << 60), "float64": 0.1, "bool": True}  # fmt: skip
        texts = [f"token {i} \u2581\u00e9" for i in range(256_000)]

        def fields(writer):
            for name, value in numbers.items():
                getattr(writer, f"add_{name}")(f"t.{name}", value)
            writer.add_string("t.string", 'a "text"\n\u4e16')
            writer.add_float32("t.nan", float("nan"))
            writer.add_array("t.floats", [0.5, float("inf")])
            writer.add_array("t.bools", [True, False])
            writer.add_array("t.ints", list(range(1000)))
            writer.add_array("tokenizer.ggml.tokens", texts)

        write_gguf(self.work / "v.gguf", llama(), fields=fields)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of all before: small models
        self.convert("v.gguf", "v.q4", "--max-memory", "32MiB")
        peak = max(usage, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024
        check(peak <= 32 + 64, "memory within the bound", peak)
        self.q4.run("q4export", "v.q4", "-o", "v", "--to", "safetensors", "-q")
        source, kept = (gguf.GGUFReader(self.work / name) for name in ("v.gguf", f"v/{METADATA}"))
        check(not kept.tensors, "no tensors in it")
        names = [name for name in source.fields if not name.startswith("GGUF.")]
        check(names == [name for name in kept.fields if not name.startswith("GGUF.")], "the same keys in the same order")
        for name in names:
            a, b = source.fields[name], kept.fields[name]
            check(a.types == b.types and [p.tobytes() for p in a.parts] == [p.tobytes() for p in b.parts], "the same field", name)
        # An export is a checkpoint like others, and keeps the file.
        self.convert("v", "again.q4")
        self.q4.run("q4export", "again.q4", "-o", "again", "--to", "safetensors", "-q")
        check((self.work / "v" / METADATA).read_bytes() == (self.work / "again" / METADATA).read_bytes(), "carried on")
        return peak

    def policy_and_refusals(self):
        tensors = llama()
        write_gguf(self.work / "d.gguf", tensors)
        plan = self.q4.run("q4convert", "d.gguf", "-o", "d.q4", "--dry-run", "--json")
        for entry in json.loads(plan.stdout)["tensors"]:
            wanted = entry["name"].endswith(QUANTIZED)
            check(entry["treatment"].startswith("nf4") == wanted, "policy", entry)
        check("llama.cpp" in plan.stdout + plan.stderr, "the note on names", plan.stderr)
        self.convert("d.gguf", "d.q4")
        refused = self.q4.run("q4export", "d.q4", "-o", "d", "--to", "bnb", "-q", code=5)
        check("8730" in refused.stderr and not (self.work / "d").exists(), "no export for bitsandbytes", refused.stderr)
        check("llama.cpp" in self.q4.run("q4export", "d.q4", "-o", "d", "--to", "safetensors").stderr, "the export warns")
        self.q4.run("q4inspect", "d.q4", "--lint")
        self.q4.run("q4verify", "d.q4")
        one = {"w": tensors["blk.0.attn_q.weight"]}
        cases = (("adapter", {"blk.0.attn_q.weight.lora_a": one["w"], "blk.0.attn_q.weight.lora_b": one["w"]}, 5, "5511"),
                 ("adapter", one, 5, "5511"), ("imatrix", one, 5, "5101"))  # fmt: skip
        for kind, content, code, issue in cases:
            write_gguf(self.work / "r.gguf", content, kind=kind, fields=lambda writer: writer.add_string("adapter.type", "lora"))
            found = self.convert("r.gguf", "r.q4", code=code).stderr
            check(issue in found, kind, found)
        write_gguf(self.work / "r.gguf", one, kind="mmproj")
        found = self.q4.run("q4convert", "r.gguf", "-o", "r.q4", "--device", "cpu").stderr
        check("projector" in found, "a projector is told", found)
        for kind in (Kind.Q8_0, Kind.Q4_K, Kind.MXFP4, Kind.IQ4_NL, Kind.TQ1_0):
            block, size = gguf.GGML_QUANT_SIZES[kind]
            writer = gguf.GGUFWriter(self.work / "q.gguf", "llama")
            writer.add_tensor("blk.0.ffn_up.weight", np.zeros((4, 2 * size * 256 // block), np.uint8), raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            found = self.convert("q.gguf", "q.q4", code=5).stderr
            self.q4.run("q4inspect", "q.gguf", "--lint", code=5)
            check("5730" in found and f"{kind.name}: 1 tensor, blk.0.ffn_up.weight" in found, "quantized", found)

    def resume(self):
        """Stopped in the middle, whenever that is: a rerun gives the same bytes."""
        tensors = {f"blk.{i}.ffn_up.weight": (Kind.F16, weights((512, 1024), Kind.F16)) for i in range(24)}
        write_gguf(self.work / "k.gguf", tensors)
        self.convert("k.gguf", "k.q4", "--sync-every", "1MiB")
        wanted = (self.work / "k.q4").read_bytes()
        command = [self.q4.folder / "q4convert", "k.gguf", "-o", "j.q4", "-q", "--device", "cpu", "--threads", "1", "--sync-every", "1MiB"]
        for _ in range(3):
            child = subprocess.Popen(command, cwd=self.work, stderr=subprocess.DEVNULL)
            limit = time.monotonic() + 20
            while child.poll() is None and time.monotonic() < limit and not (self.work / "j.q4.journal").exists():
                time.sleep(0.005)
            time.sleep(0.05)
            child.kill()
            child.wait()
        self.convert("k.gguf", "j.q4", "--sync-every", "1MiB", "--force")
        check((self.work / "j.q4").read_bytes() == wanted, "resumed, the same bytes")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="q4-gguf-"))
    try:
        test = Check(arguments.bin.resolve(), work)
        peak = test.metadata()  # first, while its children's peak is that of few
        test.elements()
        test.same_as_safetensors()
        test.split()
        test.policy_and_refusals()
        test.resume()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"gguf {gguf.__name__}: {count()} checks hold; a vocabulary of 256,000 texts takes {peak:.0f} MiB with --max-memory 32MiB")


if __name__ == "__main__":
    main()
