"""What same_bytes feeds to the tools beside testdata: made here, from integers alone, so that every machine makes the same bytes."""

import hashlib
import importlib
import json
import pathlib
import random
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from safetensors_bytes import ITEM_SIZE, floats, frame, read, tensor_file  # noqa: E402


def save(path: pathlib.Path, tensors: dict, metadata: dict | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tensor_file(tensors, metadata))


def save_json(path: pathlib.Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def weights(seed: int, dtype: str, shape: list[int], scale: float = 2.0**-18) -> tuple:
    """Bell-shaped: the sum of four uniform integers, which every arithmetic holds exactly."""
    source = random.Random(seed)
    count = 1
    for dimension in shape:
        count *= dimension
    values = []
    for _ in range(count):
        bits = source.getrandbits(56)
        values.append(((bits & 0x3FFF) + (bits >> 14 & 0x3FFF) + (bits >> 28 & 0x3FFF) + (bits >> 42) - 0x8000) * scale)
    return dtype, shape, floats(*values, dtype=dtype)


# --- checkpoints ---


def make_mixed(folder: pathlib.Path) -> None:
    """Every dtype, rank and count that a reader may meet, in one file, with names that terminals must not see raw."""
    tensors = {}
    for number, (dtype, shape) in enumerate(
        [
            ("F32", [33, 65]),
            ("F16", [64, 64]),
            ("BF16", [17, 129]),
            ("F32", [1, 4097]),
            ("BF16", [4, 24, 40]),
            ("F16", [96]),
            ("F32", [3, 5, 2, 2]),
            ("BF16", [300, 500]),
        ]
    ):
        tensors[f"model.layers.{number}.mlp.up_proj.weight"] = weights(number, dtype, shape)
    zeros = floats(*[0.0] * 640, *[-0.0] * 64, *[2.0**-149, -(2.0**-149)] * 160, *[1.0] * 256)
    tensors["model.layers.8.mlp.down_proj.weight"] = ("F32", [8, 160], zeros)
    tensors["model.layers.9.mlp.experts.down_proj"] = weights(9, "BF16", [4, 32, 72])
    tensors["model.embed_tokens.weight"] = weights(10, "BF16", [101, 64])
    tensors["model.norm.weight"] = weights(11, "F32", [64])
    tensors["lm_head.weight"] = weights(12, "F32", [101, 64])
    tensors["odd.proj.weight"] = weights(13, "F16", [7, 9])
    tensors["empty.proj.weight"] = ("F32", [0, 64], b"")
    tensors["scalar"] = ("F32", [], floats(1.5))
    for dtype in ("F64", "I64", "I32", "I8", "BOOL", "F8_E4M3", "U8"):
        tensors[f"buffers.{dtype}"] = (dtype, [2, 3], bytes(k % 2 for k in range(6 * ITEM_SIZE[dtype])))
    tensors["name with \u00fcml\u00e4ut \u001b[31m and \n line"] = weights(14, "F32", [2, 2])
    save(folder / "mixed.safetensors", tensors, {"format": "pt", "note": "\u001b[1m"})


def make_special_values(folder: pathlib.Path) -> None:
    def model(name: str, dtype: str, values: list[float], scale: float = 2.0**-18) -> None:
        plain = weights(20, dtype, [64, 64], scale)
        special = plain[2][: -len(values) * ITEM_SIZE[dtype]] + floats(*values, dtype=dtype)
        save(
            folder / f"{name}.safetensors",
            {"a.proj.weight": plain, "b.proj.weight": (dtype, [64, 64], special), "norm.weight": weights(21, dtype, [64])},
        )

    model("nan", "F32", [float("nan"), 1.0])
    model("infinite", "BF16", [float("-inf"), 1.0, 2.0])
    model("near_top_f16", "F16", [65504.0, -65504.0])
    model("near_top_f32", "F32", [3.4028234663852886e38, -3.4028234663852886e38])
    model("tiny_values", "F32", [2.0**-149, 2.0**-140], 2.0**-149)
    # Blocks at the top of fp16 among small ones: some nested scales would decode past it, so that the tensor keeps fp32 scales (numerics Q5.12).
    halves = struct.pack("<32768H", *(0x2000 + n % 64 if n // 64 % 16 == 0 else 0x7BFF - n * 7 // 64 % 10 for n in range(32768)))
    save(folder / "scales_overflow.safetensors", {"a.q_proj.weight": ("F16", [64, 512], halves)})
    save(
        folder / "wide_norm.safetensors",
        {"a.proj.weight": weights(22, "F32", [64, 64]), "norm.weight": ("F32", [2], floats(1e30, 1.0))},
    )


def make_models(folder: pathlib.Path, testdata: pathlib.Path) -> None:
    """Directories: shards, tied weights, transposed layers, a source that differs in one element."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16"}
    layers = {
        f"model.layers.{k}.self_attn.{role}_proj.weight": weights(30 + 4 * k + n, "BF16", [96, 128])
        for k in range(3)
        for n, role in enumerate("qkvo")
    }
    embedding = weights(50, "BF16", [200, 128])
    everything = {
        "model.embed_tokens.weight": embedding,
        **layers,
        "model.norm.weight": weights(51, "BF16", [128]),
        "lm_head.weight": embedding,
    }
    names = list(everything)
    shard_of = {name: f"model-{1 + n * 3 // len(names):05}-of-00003.safetensors" for n, name in enumerate(names)}
    sharded = folder / "sharded"
    for shard in sorted(set(shard_of.values())):
        save(sharded / shard, {name: everything[name] for name in names if shard_of[name] == shard})
    index = {"metadata": {"total_size": sum(len(tensor[2]) for tensor in everything.values())}, "weight_map": shard_of}
    save_json(sharded / "model.safetensors.index.json", index)
    save_json(sharded / "config.json", config)
    save_json(sharded / "tokenizer_config.json", {"chat_template": "{{ x }}"})
    (sharded / "vocab.txt").write_text("a\nb\n")

    save(folder / "tied" / "model.safetensors", everything)
    save_json(folder / "tied" / "config.json", config | {"tie_word_embeddings": True})
    save(
        folder / "conv1d" / "model.safetensors",
        {
            "wte.weight": embedding,
            "h.0.attn.c_attn.weight": weights(52, "F32", [64, 192]),
            "h.0.mlp.c_fc.weight": weights(53, "F32", [64, 256]),
        },
    )
    save_json(folder / "conv1d" / "config.json", {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})

    source = testdata / "checkpoints" / "tiny_plain_src"
    tensors = read(source / "model.safetensors")
    name = next(name for name in tensors if "down_proj" in name)
    dtype, shape, content = tensors[name]
    changed = bytearray(content)
    changed[1000] ^= 0x40
    tensors[name] = (dtype, shape, bytes(changed))
    save(folder / "one_bit_off" / "model.safetensors", tensors, {"format": "pt"})
    for companion in ("config.json", "generation_config.json"):
        (folder / "one_bit_off" / companion).write_bytes((source / companion).read_bytes())


def make_architectures(folder: pathlib.Path, testdata: pathlib.Path) -> list[str]:
    """Of every thirtieth class in testdata/policy a checkpoint with its names and the smallest shapes."""
    made = []
    for entry in json.loads((testdata / "policy" / "architectures.json").read_text())["entries"][::30]:
        name = entry["config"]["architectures"][0]
        tensors = {
            tensor: ("BF16", [2] * int(kind.split()[1]), bytes(2 << int(kind.split()[1])))
            for kind, names in entry["tensors"].items()
            for tensor in names
        }
        save(folder / "arch" / name / "model.safetensors", tensors)
        save_json(folder / "arch" / name / "config.json", entry["config"])
        made.append(name)
    return made


# --- faults of published checkpoints, for --lint, readers and --diff ---


def make_faulty_bnb(folder: pathlib.Path, testdata: pathlib.Path) -> list[str]:
    """tiny_bnb (nested scales) and tiny_plain, each time with one fault in one weight, or in config.json."""
    made = []

    def fault(name: str, change, base: str = "tiny_bnb") -> None:
        source = testdata / "checkpoints" / base
        tensors, config = read(source / "model.safetensors"), json.loads((source / "config.json").read_text())
        weight = sorted(tensor[: -len(".absmax")] for tensor in tensors if tensor.endswith(".absmax"))[0]
        change(tensors, config, weight)
        save(folder / "faulty" / name / "model.safetensors", tensors, {"format": "pt"})
        save_json(folder / "faulty" / name / "config.json", config)
        made.append(name)

    def part(suffix: str, edit, base: str = "tiny_bnb") -> None:
        def change(tensors, _, weight):
            dtype, shape, content = tensors[weight + suffix]
            tensors[weight + suffix] = edit(dtype, shape, bytearray(content))

        fault(f"{'codes' if not suffix else suffix[1:]}_{edit.__name__}_{base}", change, base)

    def cut(dtype, shape, content):
        return dtype, [shape[0] - 1, *shape[1:]], bytes(content[: -len(content) // shape[0]])

    def zeros(dtype, shape, content):
        return dtype, shape, bytes(len(content))

    def negative(dtype, shape, content):
        content[3] ^= 0x80
        return dtype, shape, bytes(content)

    def not_finite(dtype, shape, content):
        content[2:4] = b"\xc0\x7f"
        return dtype, shape, bytes(content)

    def first_changed(dtype, shape, content):
        content[2] ^= 0x10
        return dtype, shape, bytes(content)

    def swapped(dtype, shape, content):
        return dtype, shape, bytes(byte >> 4 | (byte & 15) << 4 for byte in content)

    for edit in (cut, zeros, swapped, first_changed):
        part("", edit)
        part("", edit, "tiny_plain")
    for edit in (cut, zeros, negative, not_finite):
        part(".absmax", edit, "tiny_plain")
        part(".nested_absmax", edit)
    for edit in (cut, first_changed, not_finite):
        part(".quant_map", edit)
        part(".nested_quant_map", edit)
    for suffix in (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".quant_state.bitsandbytes__nf4", ""):
        fault(f"without{suffix or '.codes'}", lambda tensors, _, weight, suffix=suffix: tensors.pop(weight + suffix))

    state = ".quant_state.bitsandbytes__nf4"

    def restate(**changes):
        def change(tensors, _, weight):
            text = json.dumps(json.loads(tensors[weight + state][2]) | changes).encode()
            tensors[weight + state] = ("U8", [len(text)], text)

        return change

    for name, changes in {
        "blocksize": {"blocksize": 128},
        "odd_blocksize": {"blocksize": 63},
        "shape": {"shape": [3, 5]},
        "type": {"quant_type": "fp4"},
        "dtype": {"dtype": "int8"},
        "nested_dtype": {"nested_dtype": "float16"},
        "offset": {"nested_offset": 1e30},
    }.items():
        fault(f"quant_state_{name}", restate(**changes))
    fault("quant_state_malformed", lambda tensors, _, weight: tensors.update({weight + state: ("U8", [4], b'{"a"')}))
    fault("quant_state_twice", lambda tensors, _, weight: tensors.update({weight + state[:-3] + "fp4": tensors[weight + state]}))
    fault("config_without", lambda _, config, weight: config.pop("quantization_config"))
    for key, value in {
        "bnb_4bit_quant_type": "fp4",
        "bnb_4bit_use_double_quant": False,
        "load_in_4bit": False,
        "quant_method": "gptq",
        "llm_int8_skip_modules": ["layers.1"],
    }.items():
        fault(f"config_{key}", lambda _, config, weight, key=key, value=value: config["quantization_config"].update({key: value}))
    return made


def make_faulty_folders(folder: pathlib.Path) -> list[str]:
    """Shards and index that do not agree, partners of other methods' tensors that are missing."""
    good = folder / "sharded"
    index = json.loads((good / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    made = []

    def variant(name: str, without=(), changed_index=None, extra: dict | None = None) -> None:
        target = folder / "faulty" / name
        for file in sorted(good.iterdir()):
            if file.name not in without and file.name != "model.safetensors.index.json":
                target.mkdir(parents=True, exist_ok=True)
                (target / file.name).write_bytes(file.read_bytes())
        if changed_index is not None:
            save_json(target / "model.safetensors.index.json", changed_index)
        for file, tensors in (extra or {}).items():
            save(target / file, tensors)
        made.append(name)

    listed = index["weight_map"]
    last = sorted(listed)[-1]
    variant("shard_missing", without={shards[1]}, changed_index=index)
    variant("index_missing")
    variant("total_size", changed_index={"metadata": {"total_size": 1}, "weight_map": listed})
    variant("unlisted", changed_index={"weight_map": {name: shard for name, shard in listed.items() if name != last}})
    variant("not_in_shard", changed_index={"weight_map": listed | {"x.weight": shards[0]}})
    variant("outside", changed_index={"weight_map": listed | {last: "../sharded/" + shards[0]}})
    variant("twice", changed_index=index, extra={shards[2]: read(good / shards[2]) | {sorted(listed)[0]: weights(60, "BF16", [2, 2])}})
    variant("unused_file", changed_index=index, extra={"other.safetensors": {"y": weights(61, "F32", [2])}})
    save(
        folder / "faulty" / "partners" / "model.safetensors",
        {
            "a.proj.qweight": ("I32", [2, 2], bytes(16)),
            "b.proj.scales": ("F16", [2, 2], bytes(8)),
            "c.proj.weight_packed": ("I32", [2, 2], bytes(16)),
            "d.proj.weight_scale": ("F32", [2], bytes(8)),
            "norm.weight": ("F32", [2], floats(float("nan"), 1.0)),
        },
    )
    return made + ["partners"]


# --- hostile files ---


def make_hostile(folder: pathlib.Path, testdata: pathlib.Path) -> list[str]:
    """Damaged containers and checkpoints: cut, longer by a byte, and with one bit flipped at places all over the file."""
    samples = {path.stem: path.read_bytes() for path in sorted((testdata / "q4").glob("*.q4"))}
    samples["mixed"] = (folder / "mixed.safetensors").read_bytes()
    samples["quantized"] = (testdata / "checkpoints" / "tiny_bnb" / "model.safetensors").read_bytes()
    made = []
    target = folder / "hostile"
    target.mkdir(parents=True)
    for name, content in samples.items():
        ending = "q4" if content.startswith(b"\x89") or name.startswith("v1") else "safetensors"
        # The head is where most fields stand: densely there, sparsely behind it.
        places = sorted(
            set(range(0, min(len(content), 400), 9))
            | {len(content) * k // 37 for k in range(37)}
            | {len(content) - k for k in range(1, 90, 8)}
        )
        variants = {f"flip_{at:07}": content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in places}
        variants |= {f"cut_{len(content) * k // 12:07}": content[: len(content) * k // 12] for k in range(12)}
        variants |= {"longer": content + b"\0"}
        for variant, bytes_ in variants.items():
            (target / f"{name}.{variant}.{ending}").write_bytes(bytes_)
            made.append(f"{name}.{variant}.{ending}")
    return made


MOST_OF_A_ROW = 32


def hostile_rows(root: pathlib.Path) -> dict[str, tuple[dict, tuple]]:
    """Cases of the hostile table (tests/hostile) that consist of small files and one command: {name: (files, command)}. Of the containers among
    them all digests hold, so that they reach the rules behind."""
    sys.path[:0] = [str(root / "tests/hostile"), str(root / "tests/support")]
    harness = importlib.import_module("harness")

    def is_simple(case) -> bool:
        return (
            isinstance(case, harness.Case)
            and not (case.limits or case.env or case.stdout)
            and all(
                isinstance(content, harness.Link)
                or content is harness.Directory
                or isinstance(content, bytes)
                and len(content) <= harness.MIB
                for content in case.files.values()
            )
        )

    made = {}
    for path in sorted((root / "tests/hostile").glob("rows_*.py")):
        for row in importlib.import_module(path.stem).ROWS:
            simple = [(number, case) for number, case in enumerate(row.cases()) if is_simple(case)]
            for number, case in simple[:: 1 + len(simple) // MOST_OF_A_ROW]:
                made[f"{row.id}.{number:03}"] = (case.files, case.command)
    return made


def put_all(folder: pathlib.Path, files: dict) -> None:
    for name, content in files.items():
        importlib.import_module("harness").put(folder / name, content)


def fuzz_inputs(testdata: pathlib.Path, target: str, every: int = 1) -> dict[str, bytes]:
    """Seeds and found inputs of a fuzz target, by a name that stays when others are added."""
    contents = [path.read_bytes() for path in sorted((testdata / "fuzz" / target).iterdir())]
    packed, at = (testdata / "fuzz" / f"{target}.found"), 0
    data = packed.read_bytes() if packed.exists() else b""
    found = []
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    named = {hashlib.sha1(content).hexdigest()[:12]: content for content in contents}
    rest = {hashlib.sha1(content).hexdigest()[:12]: content for content in found}
    return named | {name: content for name, content in rest.items() if int(name, 16) % every == 0}


def make_fuzz_files(folder: pathlib.Path, testdata: pathlib.Path) -> dict[str, list[str]]:
    """Inputs of the fuzz targets whose input is a file of its own, under names that the tools take for that kind of file."""
    made = {}
    for target, ending, every in (
        ("safetensors", ".safetensors", 1),
        ("shard_index", ".safetensors.index.json", 2),
        ("q4_shard_list", ".q4.index.json", 2),
        ("recipe", ".json", 2),
        ("gate", ".json", 1),
        ("baseline", ".json", 1),
    ):
        (folder / "fuzz" / target).mkdir(parents=True)
        made[target] = []
        for name, content in fuzz_inputs(testdata, target, every).items():
            if target == "safetensors" and content.startswith(b"{"):  # a header alone, as tests/fuzz/safetensors_fuzz.cc takes it
                content = frame(content, bytes(64))
            (folder / "fuzz" / target / (name + ending)).write_bytes(content)
            made[target].append(name + ending)
    return made


def make_documents(folder: pathlib.Path) -> None:
    """Recipes, gates, and a file that is none."""
    recipes = {
        "mixed_rules": [
            {"match": "\\.mlp\\.", "block_size": 128},
            {"match": "q_proj", "type": "fp4", "double_quant": False},
            {"match": "layers\\.1\\.", "keep": True},
        ],
        "everything": [{"match": ".", "keep": False}],
        "nothing": [{"match": ".", "keep": True}],
        "no_change": [{"match": "x"}],
        "bad_pattern": [{"match": "(", "keep": True}],
        "bad_block": [{"match": ".", "block_size": 63}],
        "other_encoder": [{"match": ".", "encoder": "mse"}],
    }
    for name, rules in recipes.items():
        save_json(folder / "recipes" / f"{name}.json", {"rules": rules})
    gates = {
        "holds": [{"name": "wide", "max_nmse": 0.9, "max_overflow": 0}, {"scope": "role", "match": "proj$", "min_sqnr_db": 1}],
        "breaks": [
            {"name": "narrow", "max_nmse": 1e-6},
            {"scope": "layer", "max_mae": 1e-9, "match": "0"},
            {"scope": "model", "min_sqnr_db": 99},
            {"scope": "role", "max_code_entropy_bits": 0.5, "match": "."},
            {"match": "no such tensor", "max_bias": 1},
        ],
        "every_statistic": [
            {"name": key, f"{side}_{key}": 0.25}
            for key in (
                "nmse",
                "sqnr_db",
                "mse",
                "rmse",
                "mae",
                "bias",
                "cosine",
                "max_abs_err",
                "max_gap_ratio",
                "worst_block_e2",
                "clipped",
                "clipped_share",
                "overflow",
                "zero_blocks",
                "code_entropy_bits",
            )
            for side in ("max", "min")
        ],
        "unknown": [{"max_nothing": 1}],
    }
    for name, rules in gates.items():
        save_json(folder / "gates" / f"{name}.json", {"rules": rules})
    (folder / "not_json.json").write_text('{"a": 1, "a": 2}')
    (folder / "text.q4").write_text("no container at all\n" * 99)
    (folder / "empty.safetensors").write_bytes(b"")
    save(folder / "no_tensors.safetensors", {})
    (folder / "empty_folder").mkdir()


def make_all(folder: pathlib.Path, testdata: pathlib.Path) -> dict:
    """Fills `folder`; returns the names that the cases iterate over."""
    folder.mkdir(parents=True)
    for name in ("checkpoints", "q4", "golden"):
        (folder / name).symlink_to(testdata.resolve() / name)
    make_documents(folder)
    make_mixed(folder)
    make_special_values(folder)
    make_models(folder, testdata)
    return {
        "architectures": make_architectures(folder, testdata),
        "faulty": make_faulty_bnb(folder, testdata) + make_faulty_folders(folder),
        "hostile": make_hostile(folder, testdata),
        "fuzz": make_fuzz_files(folder, testdata),
        "patterns": fuzz_inputs(testdata, "name_pattern"),
        "rows": hostile_rows(testdata.parent),
    }
