#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets, testdata/fuzz/<target>/*: one small input per feature.

Inputs named regression_* are not made here: each once made a target fail.
"""
import hashlib
import json
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from calibration_bytes import metadata_of, tensors_of  # noqa: E402
from safetensors_bytes import floats, frame, header_text  # noqa: E402
import torch_bytes as pt  # noqa: E402

OUT = ROOT / "testdata" / "fuzz"


def write(target: str, name: str, content: "bytes | str") -> None:
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


class Container:
    """The regions of a .q4 file, as far as the seeds need them."""

    def __init__(self, path: pathlib.Path):
        data = path.read_bytes()
        self.header = data[:4096]
        offset, size = struct.unpack_from("<QQ", data, len(data) - 120)
        self.index = data[offset:offset + size]
        chunks, chunk_bytes = struct.unpack_from("<QQ", self.index, 8 + 4 * 24 + 8)
        self.chunks = []  # (codec, planes, raw bytes, stored)
        for at in range(chunks, chunks + chunk_bytes, 64):
            begin, stored, raw, codec, planes = struct.unpack_from("<QIIBB", self.index, at)
            self.chunks.append((codec, planes, raw, data[begin:begin + stored]))

    def fuzz_input(self) -> bytes:
        """As tests/fuzz/q4_container_fuzz.cc reads it."""
        stored = b"".join(chunk[3] for chunk in self.chunks)
        return struct.pack("<H", len(self.index)) + self.header[8:72] + self.index + stored


def json_seeds() -> None:
    write("json", "scalars", '[null, true, false, 0, -1, 18446744073709551615, 1.5e-7, "\\u00e9\\ud83d\\ude00\\n"]')
    write("json", "nested", '{"a": {"b": [{}, [], {"c": [1, [2, [3]]]}]}, "": ""}')
    write("json", "duplicate_key", '{"a": 1, "\\u0061": 2}')
    write("json", "negative_zero", "[-0, -0.0, 1e16, 1E-5]")
    write("provenance", "full", json.dumps(
        {"numerics": "q4n-1", "options": {
            "block_size": 64, "compress": "zstd:3", "double_quant": True, "encoder": "absmax", "keep_dtype": "BF16",
            "on_nonfinite": "keep", "patterns": [{"exclude": "head"}, {"include": "x"}], "recipe": '{"rules":[]}',
            "shard_size": 0, "type": "nf4"},
         "source": {"files": [{"name": "model.safetensors", "sha256": "00" * 32, "size": 12},
                              {"name": "b", "size": 1, "xxh3": "0" * 16}], "format": "safetensors"},
         "tool": {"name": "q4convert", "version": "0.1.0"}}, separators=(",", ":")))
    write("provenance", "other_types", '{"tool":[],"options":{"keep_dtype":3},"source":{"files":[{"size":-1},4]}}')
    write("recipe", "every_key", json.dumps({"rules": [
        {"match": "experts", "type": "fp4", "block_size": 128, "double_quant": False, "encoder": "absmax"},
        {"match": "layers\\.0\\.", "keep": True}]}))
    write("recipe", "unknown_key", '{"rules":[{"match":"a","blocksize":64}]}')
    write("gate", "every_key", json.dumps({"rules": [
        {"name": "all", "max_nmse": 0.012, "min_cosine": 0.99},
        {"match": "\\.up_proj\\.", "type": "nf4", "block_size": 64, "optional": True, "max_nmse": None, "max_bias": 1e-3},
        {"scope": "role", "match": "^up_proj$", "max_rmse": 1}, {"scope": "layer", "max_mse": 1},
        {"scope": "model", "min_sqnr_db": 20}]}))
    write("gate", "default", (ROOT / "libconvert" / "judge" / "default_gate.json").read_text())
    write("gate", "unknown_key", '{"rules":[{"match":"a","max_nsme":1}]}')
    stats = {"nmse": 0.009, "sqnr_db": 20.4}
    write("baseline", "report", json.dumps(
        {"document": "q4verify-report", "version": 1, "model": stats,
         "groups": [{"kind": "layer", "name": "model.layers.0", "stats": stats},
                    {"kind": "role", "name": "up_proj", "stats": stats}],
         "tensors": [{"name": "model.layers.0.mlp.up_proj.weight", "scheme": "nf4", "stats": stats},
                     {"name": "gone", "scheme": "raw", "stats": None}]}))
    write("baseline", "other_document", '{"document":"q4inspect-diff"}')
    model = {"name": "nf4", "kind": "container", "path": "a.q4", "root_sha256": "12" * 32, "content_sha256": "34" * 32, "sha256": None, "files": [],
             "numbers": {"kl_mean": 0.01, "kl_max": None, "top1_agreement": 0.97, "perplexity_ratio": 1.02, "layer_error_max": 0.02},
             "layers": [{"name": "h.0", "rows": 512, "relative_error": 0.02}, {"name": "h.1", "rows": 3, "relative_error": None}]}
    evaluation = {
        "document": "q4-evaluation", "version": 1, "tool_version": "0.1.0", "task": "causal_lm",
        "settings": {"max_length": 512, "max_tokens": None, "batch_size": 8, "layer_rows": 512, "bootstrap": 1000, "seed": 0, "dtype": "auto"},
        "inputs": {"kind": "texts", "sha256": "ab" * 32, "sequences": 16, "tokens": 512, "truncated": 1, "compared": 496},
        "original": {"name": "original", "kind": "directory", "path": "llama", "root_sha256": None, "content_sha256": None, "sha256": "cd" * 32,
                     "files": [{"name": "model.safetensors", "sha256": "ef" * 32}]},
        "models": [model]}
    write("evaluation", "language_model", json.dumps(evaluation))
    encoder = {**model, "numbers": {"cosine_mean": 0.999, "cosine_min": -0.5}, "layers": []}
    write("evaluation", "two_encoders", json.dumps({**evaluation, "task": "embedding", "models": [encoder, {**encoder, "root_sha256": None}]}))
    write("evaluation", "another_version", '{"document":"q4-evaluation","version":2}')
    write("shard_index", "two_shards", json.dumps(
        {"metadata": {"total_size": 3, "note": [1]},
         "weight_map": {"a.weight": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
                        "c": "model-00001-of-00002.safetensors"}}))
    write("shard_index", "path", '{"weight_map":{"a":"../x"}}')
    root = hashlib.sha256(b"\0" * 64).hexdigest()
    for count, name in ((1, "one"), (2, "two")):
        parts = [{"bytes": 9000 + i, "name": f"m-0000{i + 1}-of-0000{count}.q4", "root": "00" * 32}
                 for i in range(count)]
        write("q4_shard_list", name, json.dumps(
            {"format": "q4-shards-1", "parts": parts, "root": root if count > 1 else "00" * 32,
             "tensors": {"a": 0, "b": count - 1}}, indent=2) + "\n")


def safetensors_seeds() -> None:
    tensors = {"a": ("F32", [2, 3], 24), "b.weight": ("BF16", [4], 8), "empty": ("I64", [0, 5], 0), "s": ("U8", [], 1)}
    header = header_text(tensors, {"format": "pt"})
    write("safetensors", "header", header)
    write("safetensors", "header_large", header_text({"x": ("F16", [1 << 20, 1 << 19], 1 << 40)}))
    write("safetensors", "header_overlap", '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
                                           '"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}')
    write("safetensors", "file", frame(header, bytes(33)))
    write("safetensors", "lfs_pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    # A header length whose first byte looks like the start of a JSON document.
    write("safetensors", "header_of_0x7b_bytes", header_text({"a": ("U8", [1], 1)}).ljust(0x7B))


def gguf_seeds() -> None:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def key(name: bytes, kind: int, value: bytes) -> bytes:
        return text(name) + struct.pack("<I", kind) + value

    def tensor(name: bytes, dims: tuple, kind: int, offset: int) -> bytes:
        return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)

    def file(keys: list, tensors: list, data: int, version: int = 3, alignment: int = 32) -> bytes:
        out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys + tensors)
        return out + bytes(-len(out) % alignment) + bytes(data)

    named = [key(b"general.architecture", 8, text(b"llama")), key(b"general.type", 8, text(b"model"))]
    write("gguf", "two_tensors", file(named, [tensor(b"a", (2, 3), 0, 0), tensor(b"b", (4,), 30, 32)], 40))
    write("gguf", "version_2", file(named, [tensor(b"a", (1, 1, 1, 2), 1, 0)], 32, version=2))
    write("gguf", "aligned", file([key(b"general.alignment", 4, struct.pack("<I", 64))], [tensor(b"a", (3,), 24, 0)], 64, alignment=64))
    write("gguf", "split", file([key(b"split.no", 2, b"\1\0"), key(b"split.count", 2, b"\3\0"),
                                 key(b"split.tensors.count", 5, b"\5\0\0\0")], [], 0))
    values = [key(bytes([97 + kind]), kind, bytes(size)) for kind, size in
              enumerate((1, 1, 2, 2, 4, 4, 4, 1, 8, 13, 8, 8, 8))]
    values += [key(b"t", 9, struct.pack("<IQ", 8, 2) + text(b"x") + text(b"yy")), key(b"u", 9, struct.pack("<IQ", 7, 3) + b"\0\1\0")]
    write("gguf", "every_value", file(values, [], 0))
    write("gguf", "quantized", file([], [tensor(b"q", (256,), 12, 0), tensor(b"r", (32,), 2, 160)], 192))
    write("gguf", "big_endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0))


def container_seeds() -> None:
    for name in ("v1_two_tensors", "v1_full_zstd"):
        container = Container(ROOT / "testdata" / "q4" / f"{name}.q4")
        write("q4_index", name, container.index)
        write("q4_container", name, container.fuzz_input())
        for number, (codec, planes, raw, stored) in enumerate(container.chunks):
            if codec == 1 and len(stored) < 2000:
                write("q4_chunk", f"frame_{number}", bytes([1, {1: 0, 2: 1, 4: 2}[planes]]) +
                      raw.to_bytes(2, "little") + stored)
    write("q4_chunk", "round_trip_stored", bytes([0, 0, 0, 0]) + bytes(range(64)))
    write("q4_chunk", "round_trip_planes", bytes([0, 2, 1, 2]) + bytes([0, 0, 128, 63]) * 32)
    # zstd, the flipped bit, two tensors, one file; a raw I16 [3]; a nested FP4 BF16 [5, 13]; the file.
    raw = bytes([1, 3, 0, 8 - 1]) + bytes(range(6))
    nested = bytes([2, 5, 13, 1, 2, 0, 0, 1]) + struct.pack("<65H", *(0x3C00 + 37 * i for i in range(65)))
    write("q4_roundtrip", "raw_nested_file", bytes([1, 9, 9, 9, 2, 1]) + raw + nested + bytes([4]) + b"text")
    plain = bytes([1, 19, 1, 0, 1, 7, 0]) + struct.pack("<19f", *(0.25 * i - 2 for i in range(19)))
    write("q4_roundtrip", "plain", bytes([0, 0, 128, 0, 1, 0]) + plain)
    write("q4_roundtrip", "nothing", bytes(6))


def alloc_fail_seeds() -> None:
    """Each reader with memory for some allocations, and for all."""
    index = json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}).encode()
    header = header_text({"a": ("F32", [2, 3], 24), "b": ("U8", [1], 1)})
    container = (ROOT / "testdata" / "q4" / "v1_two_tensors.q4").read_bytes()
    values = b'{"a":[[],{"b":"a text that is no short one"},[[1,2.5],{"c":{"d":null}}]],"e":{"f":[true]}}'
    inputs = (frame(header, bytes(25)), index, container, values, values)
    for reader, content in enumerate(inputs):
        # The last two make few allocations.
        for allocations in (0, 1, 2, 3, 5, 8, 13, 21, 0xFFFE) if reader >= 3 else (5, 40, 0xFFFE):
            write("alloc_fail", f"reader_{reader}_{allocations}", struct.pack("<BBH", reader, allocations % 2, allocations) + content)


def cli_options_seeds() -> None:
    lines = {0: ["in", "-o", "out.q4", "--block-size", "128", "--no-double-quant", "--include", "a", "--exclude=b",
                 "--max-memory=1.5GiB", "--max-nmse", "0.01", "-vv"],
             1: ["f.q4", "--tensor", "a", "--dump", "0:4", "--sort", "nmse", "--json"],
             2: ["f.q4", "--against", "in", "--min-sqnr", "20", "--junit", "r.xml", "--threads=3"],
             3: ["f.q4", "-o", "out", "--to", "bnb", "--quant-storage=bfloat16", "--shard-size", "5GB"]}
    for tool, arguments in lines.items():
        write("cli_options", f"tool_{tool}", bytes([tool]) + "\n".join(arguments).encode())
        write("cli_options", f"help_{tool}", bytes([tool]) + b"--help")


def journal_seeds() -> None:
    """Records of tensors with and without statistics, of digests and of the end, as tests/fuzz/journal_fuzz.cc reads them."""
    def record(kind: int, payload: bytes) -> bytes:
        return struct.pack("<BH", kind, len(payload)) + payload

    def owner(number: int, stats: bytes, note: bytes, chunks: int) -> bytes:
        chunk = struct.pack("<QIIBB6xQ32s", 4096, 20, 20, 0, 1, 7, bytes(32))
        return record(1, struct.pack("<IQBfB", 0, number, 0, 0.5, bool(stats)) + stats + struct.pack("<I", len(note)) + note +
                      struct.pack("<Q", chunks) + chunk * chunks)

    digests = record(2, struct.pack("<IQ", 0, 64) + bytes(range(96)))
    tensors = owner(0, b"", b"", 1) + owner(1, bytes(248), b"kept", 2)
    sources = record(4, struct.pack("<QI", 64, 3) + b"tag")
    write("journal", "sources", bytes(4) + sources + tensors + digests + sources)
    write("journal", "tensors_digests_seal", struct.pack("<I", 700) + tensors + digests + owner(2, b"", b"", 0) + record(3, bytes(64)))
    write("journal", "unknown_record", bytes(4) + tensors + record(9, b"x") + digests)
    write("journal", "nothing", bytes(4))


def url_seeds() -> None:
    write("url", "web", "https://me:secret@Models.example:8443/a%20b/model.safetensors?sig=1#part")
    write("url", "address", "http://[::1]:80/x")
    write("url", "hub", "org/name@refs/pr/1/onnx/model.safetensors")
    write("url", "revision", "name@a+b%2Fc")
    write("url", "page", "https://huggingface.co/org/name/resolve/main/a%2Bb.json")
    write("url", "slash_as_code", "https://host/a%2fb")
    write("url", "upwards", "org/name/../x")
    write("card_head", "list", "---\nlicense:\n- mit\n- apache-2.0 # or\npipeline_tag: 'text-generation'\n---\n# A model\n")
    write("card_head", "flow", "\ufeff---\r\nlicense: [mit, \"other\"]\r\nlicense_name: x\r\nlicense_link: https://a.b/c?d=e#f\r\n---\r\n")
    write("card_head", "endless", "---\nlicense: mit\n...\n")
    container = (ROOT / "testdata" / "q4" / "v1_two_tensors.q4").read_bytes()
    offset = struct.unpack_from("<Q", container, len(container) - 120)[0]
    ends = container[:4096] + container[offset:]
    line = {"file_bytes": len(container), "files": [[12, "2026", "00ff"], [1, "", ""]], "index_offset": offset, "parts": 2, "sources": [1, 0],
            "weights": [7]}
    write("part_record", "plain", json.dumps(line).encode() + b"\0" + ends)
    write("part_record", "another_source", json.dumps({**line, "sources": [2]}).encode() + b"\0" + ends)
    write("part_record", "no_ends", json.dumps(line))


def other_seeds() -> None:
    write("policy", "llama", "M2model.embed_tokens.weight\nM2model.layers.0.self_attn.q_proj.weight\n"
                             "M2model.layers.0.mlp.gate.weight\nM3model.layers.0.mlp.experts.gate_up_proj\n"
                             "M1model.norm.weight\nL2lm_head.weight\n\n"
                             '{"model_type":"llama","architectures":["LlamaForCausalLM"],"text_config":{"model_type":"x"}}')
    write("policy", "attention", "M2a.out_proj.weight\nM2a.in_proj_weight\nM2score.weight\nB2cls.predictions.transform."
                                 "dense.weight\n\n")
    write("name_pattern", "literal", "mlp\na.mlp.b")
    write("name_pattern", "alternatives", "^(a|b[0-9]+)?\\.(?i:C)?.{1,3}$\nb12.xyz")
    write("name_pattern", "back_reference", "(a*)*\\1[[:alpha:]\\d]\naaaab")
    write("name_pattern", "look_ahead", "a(?!b)\nac")
    write("name_pattern", "stacked_quantifiers", "^((a*)*)*b?$\n" + 60 * "a" + "c")
    write("name_pattern", "unclosed", "([a-\nx")
    elements = struct.pack("<96f", *(0.02 * (i % 37 - 18) for i in range(96)))
    write("kernels", "f32", bytes([0, 0, 0, 3]) + elements + struct.pack("<24f", *(0.1 * i for i in range(24))))
    bf16 = struct.pack("<150H", *(0x3C00 + 101 * i & 0xBFFF for i in range(150)))
    write("kernels", "bf16_fp4", bytes([2, 1, 1, 0]) + bf16 + bytes(range(100)))
    write("kernels", "f16_not_finite", bytes([1, 0, 0, 1]) + struct.pack("<40H", *range(0x7BE8, 0x7C10)) + bytes(30))


def torch_seeds() -> None:
    floats = bytes(range(32))
    one = dict(elements=8)
    plain = pt.state(("a", pt.tensor((4,), **one)), ("b", pt.tensor((2, 4), (1, 2), **one)))
    write("zip", "torch_save", pt.checkpoint(plain, [floats]))
    write("zip", "zipfile", pt.checkpoint(plain, [floats], described=False))
    write("zip", "script", pt.checkpoint(plain, [floats], more=[("m/constants.pkl", b".")]))
    archive = pt.checkpoint(plain, [floats])
    end = archive.rindex(pt.END)
    count, length, begin = struct.unpack("<10xHII", archive[end:end + 20])
    write("zip", "zip64", archive[:end] + struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, begin) +
          struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1) + archive[end:])
    # tests/fuzz/pickle_fuzz.cc has two storages, of 32 and 16 bytes.
    write("pickle", "views", plain)
    write("pickle", "parameter", pt.state(("a", pt.parameter(pt.tensor((4,), key="1")))))
    write("pickle", "typed", pt.state(("a", pt.tensor((5,), dtype="float8_e4m3fn", kind="UntypedStorage", module="torch.storage", elements=32))))
    optimizer = pt.mapping([("state", pt.mapping([(pt.number(0), pt.tensor((4,), key="1"))])), ("param_groups", b"]")])
    write("pickle", "training", pt.state(("model", pt.mapping([("w", pt.tensor((8,), **one))])), ("optimizer", optimizer), ("epoch", b"K\x03")))
    write("pickle", "module", pt.program(pt.ORDERED + b"q\0(" + pt.text("w") + pt.tensor((8,), **one) + b"u" +
                                         pt.mapping([("_metadata", pt.ORDERED)]) + b"b"))
    write("pickle", "quantized", pt.state(("a", b"ctorch._utils\n_rebuild_qtensor\n)R")))
    write("pickle", "inert", pt.state(("a", pt.tensor((4,), **one)), ("b", b"cargparse\nNamespace\n)\x81}b"), ("c", b"](\x88\x89Ne")))


def bnb_seeds() -> None:
    """A description, and changes to the tensors of its weight as tests/fuzz/bnb_fuzz.cc makes them."""
    plain = '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [3, 43]}'
    nested = ('{"quant_type": "fp4", "blocksize": 64, "dtype": "float16", "shape": [40, 64], "nested_blocksize": 256, '
              '"nested_dtype": "float32", "nested_offset": 0.034207984805107117}')
    write("bnb", "plain", plain + "\0\0")
    write("bnb", "nested_as_bf16", nested + "\0\1")
    write("bnb", "other_order", '{"shape": [], "dtype":"float32", "blocksize":4096,"quant_type":"nf4"}\0\0')
    write("bnb", "not_finite", nested.replace("0.034207984805107117", "1e39") + "\0\0")
    write("bnb", "unknown_member", plain.replace('"dtype"', '"device"'))
    write("bnb", "lying_shape", plain.replace("43", "281474976710655"))
    # kind, tensor, what it becomes.
    for name, changes in (("part_missing", (0, 1)), ("other_name", (1, 2, 0, 3)), ("other_type", (2, 1, 12)),
                          ("other_shape", (3, 0, 2, 65, 0, 1, 0)), ("a_view", (4, 1)), ("weight_in_a_weight", (5, 1, 5)),
                          ("bias", (5, 0, 8, 7)), ("value_in_a_table", (6, 2, 9, 0, 1))):
        write("bnb", name, nested.encode() + b"\0\0" + bytes(changes))


def fp8_seeds() -> None:
    """A section, and tensors as tests/fuzz/fp8_fuzz.cc reads them: stem, leaf, dtype, rank, dimensions."""
    section = b'{"quant_method":"fp8","weight_block_size":[2,2],"config_groups":{"a":{"weights":{"block_structure":"128x128"}}}}\0'
    weight = bytes([1, 0, 0, 2, 4, 5])
    write("fp8", "blocks", section + bytes([1, 0]) + weight + bytes([1, 1, 3, 2, 2, 3]))
    write("fp8", "channel", b"{}\0" + bytes([0, 1]) + weight + bytes([129, 2, 5, 2, 4, 1]))
    write("fp8", "usual_blocks", b"\0" + bytes([0, 1, 0, 0, 2, 202, 203, 1, 1, 3, 2, 2, 3]))
    write("fp8", "experts", b"\0" + bytes([0, 3, 6, 0, 3, 2, 4, 6, 3, 8, 3, 3, 2, 1, 6, 3, 9, 3, 1, 1]))
    write("fp8", "left_out", b"\0" + bytes([1]) + weight + bytes([1, 5, 3, 0, 1, 10, 3, 0, 1, 12, 3, 1, 1, 0, 14, 0, 1, 0]))
    write("fp8", "bare", b"\0" + bytes([0]) + weight)
    write("fp8", "two_scales", b"\0" + bytes([0]) + weight + bytes([1, 1, 3, 0, 1, 2, 3, 0]))
    write("fp8", "rotated", b'{"transform_config":{"config_groups":{"a":{}}}}\0')
    write("fp8", "zero_point", b"\0" + bytes([0]) + weight + bytes([1, 2, 3, 0, 1, 16, 3, 0]))


def fp4_seeds() -> None:
    """Tensors as tests/fuzz/fp4_fuzz.cc reads them, behind the model's type."""
    stems = ("", "a.", "a.b.", "e.gate_up_proj", "e.down_proj", "mlp1_weight")
    leaves = ("weight weight_packed weight_scale weight_global_scale weight_scale_2 scale weight_scale_inv weight_blocks gate_up_proj_blocks "
              "gate_up_proj_scales weight_scales _blocks _scales .blocks .scales _scale _scale_2 _weight_scale _weight_scale_2 _global_scale "
              "_packed  _scale_inv weight_shape weight_zero_point weight_g_idx input_scale input_global_scale _input_scale k_scale "
              "comfy_quant bias").split(" ")
    types = ("U8", "I8", "F8_E4M3", "F8_E8M0", "F32", "F16", "BF16")
    sizes = {8: 132, 16: 133, 24: 134, 32: 135, 48: 136, 64: 137, 128: 138, 15: 139, 17: 140, 1 << 24: 129, 1 << 43: 130}

    def tensor(stem: str, leaf: str, dtype: str, *shape: int) -> bytes:
        return bytes([stems.index(stem), leaves.index(leaf), types.index(dtype), len(shape), *(sizes.get(size, size) for size in shape)])

    def seed(name: str, *tensors: bytes) -> None:
        write("fp4", name, b"\0" + b"".join(tensors))

    one = tensor("a.", "weight_scale_2", "F32")
    modelopt = tensor("a.", "weight", "U8", 4, 16) + tensor("a.", "weight_scale", "F8_E4M3", 4, 2)
    packed = tensor("a.", "weight_packed", "U8", 4, 16)
    seed("modelopt", modelopt, one, tensor("a.", "input_scale", "F32"))
    seed("compressed_tensors", packed, tensor("a.", "weight_scale", "F8_E4M3", 4, 2), tensor("a.", "weight_global_scale", "F32", 1),
         tensor("a.", "input_global_scale", "F32", 1), tensor("a.", "weight_shape", "U8", 2))
    seed("mx_packed", packed, tensor("a.", "weight_scale", "U8", 4, 1))
    seed("deepseek", tensor("a.", "weight", "I8", 4, 16), tensor("a.", "scale", "F8_E8M0", 4, 1))
    seed("gpt_oss", tensor("e.gate_up_proj", "_blocks", "U8", 2, 3, 2, 16), tensor("e.gate_up_proj", "_scales", "U8", 2, 3, 2),
         tensor("e.down_proj", "_blocks", "U8", 2, 3, 1, 16), tensor("e.down_proj", "_scales", "U8", 2, 3, 1))
    seed("openai", tensor("mlp1_weight", ".blocks", "U8", 3, 2, 16), tensor("mlp1_weight", ".scales", "U8", 3, 2))
    seed("experts", tensor("e.gate_up_proj", "", "U8", 2, 4, 8), tensor("e.gate_up_proj", "_weight_scale", "F8_E4M3", 2, 4, 1),
         tensor("e.gate_up_proj", "_weight_scale_2", "F32", 2), tensor("e.gate_up_proj", "_input_scale", "F32"))
    seed("experts_down", tensor("e.down_proj", "", "U8", 2, 8, 3), tensor("e.down_proj", "_scale", "F8_E4M3", 2, 1, 3),
         tensor("e.down_proj", "_scale_2", "F32"))
    seed("no_global", modelopt)
    seed("no_scale", packed)
    seed("bare_beside", modelopt, one, tensor("a.b.", "weight", "U8", 4, 16))
    seed("two_scales", modelopt, one, tensor("a.", "scale", "F8_E8M0", 4, 1))
    seed("name_taken", packed, tensor("a.", "weight", "F32", 4, 32), tensor("a.", "weight_scale", "U8", 4, 1))
    seed("orphan", modelopt, one, tensor("a.b.", "weight_scale", "F8_E4M3", 4, 2))
    seed("other_shape", tensor("a.", "weight", "U8", 4, 16), tensor("a.", "weight_scale", "F8_E4M3", 4, 3), one)
    seed("zero_point", modelopt, one, tensor("a.", "weight_zero_point", "U8", 1))
    seed("too_large", tensor("e.gate_up_proj", "_blocks", "U8", 0, 0, 1 << 43, 16), tensor("e.gate_up_proj", "_scales", "U8", 0, 0, 1 << 43))
    seed("integers", tensor("a.", "weight", "I8", 4, 16), tensor("a.", "weight_scale", "F32", 4, 1))


def adapter_seeds() -> None:
    """A configuration, and tensors as tests/fuzz/adapter_fuzz.cc reads them."""
    words = ("base_model.model lora_A lora_B weight lora_embedding_A lora_embedding_B lora_magnitude_vector bias default base_layer "
             "modules_to_save original_module q k head  lora_E ia3_l trainable_tokens_delta prompt_embeddings base_model model lora_ "
             "weights").split(" ")

    def tensor(name: str, *shape: int, dtype: int = 0) -> bytes:
        parts = name.split(".")
        form = next(form for form in range(128, 256) if form % 6 == len(parts) - 1)
        kind = {2: dtype, 1: 31}[len(shape)]  # it tells the number of dimensions too
        return bytes([form, *map(words.index, parts), kind, *shape])

    def seed(name: str, config: str, *tensors: bytes) -> None:
        write("adapter", name, f'{{"peft_type": "LORA"{config}}}'.encode() + b"\0" + b"".join(tensors))

    pair = tensor("q.lora_A.weight", 2, 6) + tensor("q.lora_B.weight", 4, 2, dtype=1)
    seed("plain", ', "r": 2, "lora_alpha": 4.5, "use_rslora": true, "target_modules": ["q"]', pair)
    seed("training_names", "", tensor("q.lora_A.default.weight", 2, 6) + tensor("q.lora_B.default.weight", 4, 2))
    seed("dora_bias", ', "use_dora": true, "lora_bias": true', pair, tensor("q.lora_magnitude_vector", 4), tensor("q.lora_B.bias", 4))
    seed("embedding", "", tensor("k.lora_embedding_A", 2, 7), tensor("k.lora_embedding_B", 6, 2))
    seed("saved", ', "modules_to_save": ["ead"], "ensure_weight_tying": true', pair, tensor("head.weight", 7, 6),
         tensor("k.modules_to_save.default.weight", 1, 6), tensor("k.original_module.weight", 1, 6), tensor("q.base_layer.bias", 4))
    seed("patterns", ', "rank_pattern": {"q": 2, "^k$": 65536}, "alpha_pattern": {"q": -1e30}, "base_model_name_or_path": "x/y"', pair)
    seed("half", "", tensor("q.lora_A.weight", 2, 6))
    seed("two_places", "", pair, tensor("q.lora_A.default.weight", 2, 6))
    seed("other_ranks", "", tensor("q.lora_A.weight", 2, 6), tensor("q.lora_B.weight", 4, 3))
    seed("other_method", "", pair, tensor("q.lora_E", 2, 1))
    seed("unknown_member", ', "invented": 1, "r": 0')
    write("adapter", "ia3", '{"peft_type": "IA3"}')
    write("adapter", "layers", '{"peft_type": "LORA", "layer_replication": [[0, 2]]}')
    write("adapter", "pissa", '{"peft_type": "LORA", "init_lora_weights": "pissa"}')


def calibration_seeds() -> None:
    """A header, NUL, the payload: as tests/fuzz/calibration_fuzz.cc reads it."""
    def seed(name: str, tensors: dict, *weights: dict, **metadata: "str | None") -> None:
        header = header_text({key: (dtype, shape, len(data)) for key, (dtype, shape, data) in tensors.items()}, metadata_of(*weights, **metadata))
        write("calibration", name, header.encode() + b"\0" + b"".join(data for _, _, data in tensors.values()))

    pair, own = {"a.weight": [1.0, 2.0], "m.b": [0.5]}, {"a.weight": "a.weight", "m.b": "m.b"}
    seed("plain", tensors_of(pair), own, provenance='{"tool": "x"}')
    seed("shared", tensors_of({"s": [1.0, 0.0, 3.0]}), {"a.weight": "s", "m.a.weight": "s", "b": "s"})
    seed("turned", tensors_of(pair), {"m.b": "m.b"}, {"a.weight": "a.weight"})
    seed("stack", tensors_of({"b": [[1.0, 2.0], [0.0, 0.0]]}), {"b": "b"})
    hessian = {"a.weight.hessian": ("F32", (2, 2), floats(1.0, 0.5, 0.5, 2.0))}
    seed("hessian", tensors_of({"a.weight": [1.0, 2.0]}) | hessian, {"a.weight": "a.weight"})
    seed("asymmetric", tensors_of({"a.weight": [1.0, 2.0]}) | {"a.weight.hessian": ("F32", (2, 2), floats(1.0, 0.5, -0.5, 2.0))},
         {"a.weight": "a.weight"})
    seed("negative", tensors_of({"b": [-1.0]}), {"b": "b"})
    seed("nobodys", tensors_of(pair), {"a.weight": "a.weight"})
    seed("newer", tensors_of(pair), own, q4_calibration="2")
    seed("both", tensors_of(pair), own, own)
    seed("no_names", tensors_of(pair), own, weights=None)


def pipeline_seeds() -> None:
    write("pipeline", "index", json.dumps(
        {"_class_name": "FluxPipeline", "_diffusers_version": "0.35.0", "transformer": ["diffusers", "FluxTransformer2DModel"],
         "text_encoder": ["transformers", "CLIPTextModel"], "safety_checker": [None, None], "requires_safety_checker": False,
         "sizes": [1, 2]}))
    write("pipeline", "own_code", '{"_class_name": ["pipeline", "Mine"], "unet": ["my_unet", "Mine"]}')
    write("pipeline", "reserved_name", '{"aux": ["diffusers", "X"]}')
    write("pipeline", "path", '{"../x": ["diffusers", "X"]}')
    digest = "0123456789abcdef" * 4
    seal = {"document": "q4-pipeline", "version": 1, "tool_version": "0.2.0", "class": "FluxPipeline",
            "components": [{"name": "transformer", "library": "diffusers", "class": "X", "container": "transformer/model.q4",
                            "root_sha256": digest},
                           {"name": "vae", "library": "diffusers", "class": "Y", "container": None, "root_sha256": None}],
            "files": [{"path": "model_index.json", "bytes": 12, "sha256": digest},
                      {"path": "transformer/model.q4", "bytes": 8192, "sha256": digest}],
            "left_out": [{"name": "x.py", "reason": "code"}]}
    write("pipeline", "seal", json.dumps(seal, indent=2) + "\n")
    write("pipeline", "seal_other_bytes", json.dumps(seal))
    write("pipeline", "seal_newer", json.dumps({**seal, "version": 2}, indent=2) + "\n")


if __name__ == "__main__":
    json_seeds()
    safetensors_seeds()
    gguf_seeds()
    container_seeds()
    alloc_fail_seeds()
    cli_options_seeds()
    journal_seeds()
    torch_seeds()
    bnb_seeds()
    fp8_seeds()
    fp4_seeds()
    adapter_seeds()
    calibration_seeds()
    pipeline_seeds()
    url_seeds()
    other_seeds()
