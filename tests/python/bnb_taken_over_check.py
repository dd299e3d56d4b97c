"""bitsandbytes checkpoints that transformers itself saves, taken over by q4convert and written again by q4export.

    python bnb_taken_over_check.py --bin DIR [--case NAME ...]

A tiny model of each architecture is made here, saved at 16 or 32 bits, loaded in 4 bits and saved before its first forward pass, which
packs weights anew on some CPUs. For each case:
  - convert; q4verify finds it equal to the checkpoint, and bounded, not proven, against the original;
  - q4export --to bnb gives the same files byte for byte, shards and their index included;
  - the independent reader, tests/reference/q4ref.py, takes the container;
  - q4export --to safetensors gives what bitsandbytes' tables decode, in PyTorch (bitsandbytes_cpu.py), and what dequantize_4bit() decodes
    where it is right on every CPU: bit for bit.
Other block sizes than transformers' 64 and 3-D experts are quantized with bitsandbytes itself.
"""

import json
import pathlib
import shutil
import sys
from dataclasses import dataclass, field

import bitsandbytes as bnb
import bitsandbytes_cpu
import safetensors.torch
import torch
import transformers as tf

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "reference")]
import q4ref  # noqa: E402  (the path above)
from cases import must, parse_arguments, run_cases  # noqa: E402

NESTED_MAP = q4ref.nested_map((TESTS.parent / "docs" / "numerics.md").read_text())

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 256}
GROUPED = {**SIZES, "num_key_value_heads": 2}


@dataclass
class Case:
    name: str
    config: object
    dtype: torch.dtype = torch.bfloat16
    load_dtype: torch.dtype = None  # None: that of the file
    kind: str = "nf4"
    nested: bool = False
    storage: str = "uint8"
    skip: list = None
    shards: str = None
    auto: object = tf.AutoModelForCausalLM
    same_names: bool = True  # the original has every tensor in the same shape
    convert: list = field(default_factory=list)


def cases():
    yield Case("blocks", None)
    yield Case("llama", tf.LlamaConfig(**GROUPED, tie_word_embeddings=False))
    yield Case("llama_fp4_nested", tf.LlamaConfig(**GROUPED), kind="fp4", nested=True, dtype=torch.float16)
    yield Case("llama_fp32", tf.LlamaConfig(**GROUPED), dtype=torch.float32, load_dtype=torch.float32, nested=True)
    yield Case("llama_fp32_as_bf16", tf.LlamaConfig(**GROUPED), dtype=torch.float32, load_dtype=torch.bfloat16)
    yield Case("llama_shards", tf.LlamaConfig(**{**GROUPED, "num_hidden_layers": 3}), nested=True, shards="60KB")
    # Cuts come within a weight, and a tensor larger than a file has one of its own, before those that are open.
    yield Case("llama_shards_small", tf.LlamaConfig(**{**GROUPED, "num_hidden_layers": 3}), kind="fp4", shards="5KB", convert=["--shard-size", "20KB"])
    yield Case("llama_shards_storage", tf.LlamaConfig(**{**GROUPED, "num_hidden_layers": 11}), storage="bfloat16", shards="30KB")
    yield Case("mixtral_shards", tf.MixtralConfig(**GROUPED, num_local_experts=2), shards="20KB")
    yield Case("t5_shards", tf.T5Config(d_model=64, d_ff=128, num_layers=1, num_heads=4, d_kv=16, vocab_size=256), auto=tf.AutoModelForSeq2SeqLM,
               nested=True, shards="20KB")
    yield Case("qwen3", tf.Qwen3Config(**GROUPED, head_dim=16), nested=True)
    yield Case("mistral_bf16_storage", tf.MistralConfig(**GROUPED), storage="bfloat16")
    yield Case("mistral_fp16_storage", tf.MistralConfig(**GROUPED), storage="float16", nested=True, dtype=torch.float16)
    yield Case("gemma2_fp32_storage", tf.Gemma2Config(**GROUPED, head_dim=16), storage="float32", kind="fp4")
    yield Case("phi3", tf.Phi3Config(**GROUPED, pad_token_id=0), skip=["lm_head", "model.layers.0.mlp.down_proj"])
    # Its Conv1D is transposed before it is quantized, so that the original has other shapes.
    yield Case("gpt2", tf.GPT2Config(n_embd=64, n_layer=1, n_head=4, vocab_size=256), nested=True, same_names=False)
    yield Case("opt", tf.OPTConfig(**{**SIZES, "ffn_dim": 128, "word_embed_proj_dim": 64}), kind="fp4")
    yield Case("bloom", tf.BloomConfig(hidden_size=64, n_layer=1, n_head=4, vocab_size=256), nested=True)
    yield Case("gpt_neox", tf.GPTNeoXConfig(**SIZES), convert=["--compress", "zstd", "--shard-size", "20KB"])
    yield Case("mixtral", tf.MixtralConfig(**GROUPED, num_local_experts=2), nested=True)
    yield Case("t5", tf.T5Config(d_model=64, d_ff=128, num_layers=1, num_heads=4, d_kv=16, vocab_size=256), auto=tf.AutoModelForSeq2SeqLM)
    yield Case("bert", tf.BertConfig(**SIZES), auto=tf.AutoModel, nested=True)


class Differs(Exception):
    pass


def require(holds, what):
    if not holds:
        raise Differs(what)


def tensors_of(directory):
    """{name: (dtype, shape, bytes)} of all files."""
    found = {}
    for path in sorted(directory.glob("*.safetensors")):
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            payload = file.read()
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            found[name] = (entry["dtype"], entry["shape"], payload[begin:end])
    return found


def states_of(directory):
    """{name: (packed codes, bitsandbytes' QuantState)} of all weights in 4 bits."""
    parts = {}
    for path in sorted(directory.glob("*.safetensors")):
        parts |= safetensors.torch.load_file(path)
    found = {}
    for name in [name.split(".quant_state.")[0] for name in parts if ".quant_state." in name]:
        own = {key[len(name) + 1 :]: tensor for key, tensor in parts.items() if key.startswith(name + ".")}
        found[name] = parts[name], bnb.functional.QuantState.from_dict(own, device=torch.device("cpu"))
    return found


def require_same_files(again, saved):
    """An export holds the files that were saved, byte for byte, and the record of the export."""
    names = {path.name for path in saved.iterdir()}
    got = {path.name for path in again.iterdir()} - {"q4_export.json"}
    require(got == names, f"other files: {sorted(got ^ names)}")
    for name in sorted(names):
        require((again / name).read_bytes() == (saved / name).read_bytes(), f"{name} differs")


def check_container(bin_dir, saved, work, options=()):
    """Converts the checkpoint `saved`, verifies against it, exports it both ways and compares. Returns a line of figures."""
    container, again, plain = work / "m.q4", work / "again", work / "plain"
    must(bin_dir / "q4convert", saved, "-o", container, "--device", "cpu", "-q", *options)
    container = next(path for path in (work / "m.q4.index.json", container) if path.exists())
    report = json.loads(must(bin_dir / "q4verify", container, "--against", saved, "--json").stdout)
    proofs = {tensor["proof"] for tensor in report["tensors"]}
    require(proofs == {"equal"}, f"against its checkpoint: {proofs}")
    must(bin_dir / "q4export", container, "-o", again, "--to", "bnb", "-q")
    got, expected = tensors_of(again), tensors_of(saved)
    require(got.keys() == expected.keys(), f"other tensors: {sorted(got.keys() ^ expected.keys())[:4]}")
    for name, tensor in expected.items():
        require(got[name] == tensor, f"{name} differs: {got[name][:2]}, {tensor[:2]}")
    require_same_files(again, saved)
    for part in sorted(work.glob("m*.q4")):
        q4ref.Container(part.read_bytes(), NESTED_MAP).report()
    must(bin_dir / "q4export", container, "-o", plain, "--to", "safetensors", "-q")
    decoded = {}
    for path in plain.glob("*.safetensors"):
        decoded |= safetensors.torch.load_file(path)
    states, by_library = states_of(saved), 0
    require(states, "nothing is in 4 bits")
    for name, (packed, state) in states.items():
        right = bitsandbytes_cpu.decode(packed, state).to(state.dtype)
        require(torch.equal(decoded[name], right), f"{name} decodes to other values")
        if packed.dtype == torch.uint8 and bitsandbytes_cpu.decodes_right(state.shape, state.blocksize):
            by_library += 1
            library = bnb.functional.dequantize_4bit(packed, state)
            require(torch.equal(decoded[name], library.reshape(state.shape)), f"{name}: dequantize_4bit gives other values")
    config = plain / "config.json"
    require(not config.exists() or "quantization_config" not in json.loads(config.read_text()), "config.json still says 4 bits")
    return f"{len(states)} weights in 4 bits, {by_library} also decoded by bitsandbytes, {len(expected)} tensors equal"


def check_case(bin_dir, case, work):
    source, saved = work / "source", work / "saved"
    torch.manual_seed(0)
    case.auto.from_config(case.config).to(case.dtype).save_pretrained(source)
    settings = tf.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=case.kind, bnb_4bit_use_double_quant=case.nested,
        bnb_4bit_quant_storage=case.storage, llm_int8_skip_modules=case.skip,
    )  # fmt: skip
    model = case.auto.from_pretrained(source, quantization_config=settings, dtype=case.load_dtype or case.dtype, device_map="cpu")
    model.save_pretrained(saved, **({"max_shard_size": case.shards} if case.shards else {}))
    require(case.shards is None or len(list(saved.glob("*.safetensors"))) > 2, "it has no shards")
    line = check_container(bin_dir, saved, work, case.convert)
    container = next(path for path in (work / "m.q4.index.json", work / "m.q4") if path.exists())
    if case.shards:
        check_shards(bin_dir, saved, work)
    if case.same_names:
        report = json.loads(must(bin_dir / "q4verify", container, "--against", source, "--json").stdout)
        quantized = [tensor for tensor in report["tensors"] if tensor["proof"] == "bounded"]
        require(quantized and all(tensor["stats"]["nmse"] < 0.02 for tensor in quantized), "no statistics against the original")
    return line


def check_shards(bin_dir, saved, work):
    """What else comes of a checkpoint in shards: cut by a size, a part of it, an index as older versions write it."""
    container = next(path for path in (work / "m.q4.index.json", work / "m.q4") if path.exists())
    must(bin_dir / "q4export", container, "-o", work / "cut", "--to", "bnb", "-q", "--shard-size", "1GB")
    require([path.name for path in (work / "cut").glob("*.safetensors*")] == ["model.safetensors"], "a size is not heard")
    require(tensors_of(work / "cut") == tensors_of(saved), "cut anew it has other tensors")
    for name, options in (("packed", ("--compress", "none", "--shard-size", "0")), ("part", ("--tensor", "layers|block", "--shard-size", "0"))):
        must(bin_dir / "q4convert", container, "-o", work / f"{name}.q4", *options, "-q")
        must(bin_dir / "q4export", work / f"{name}.q4", "-o", work / name, "--to", "bnb", "-q")
        must(bin_dir / "q4verify", work / f"{name}.q4", "-q")
    require_same_files(work / "packed", saved)
    require((work / "part" / "model.safetensors").exists(), "a part is in files of the whole")
    index = saved / "model.safetensors.index.json"
    written = json.loads(index.read_text())
    for totals in ({"total_size": written["metadata"]["total_size"]}, {"total_parameters": 5, "total_size": 7}, {"total_size": 0}):
        index.write_text(json.dumps({**written, "metadata": totals}, indent=2, sort_keys=True) + "\n")
        must(bin_dir / "q4convert", saved, "-o", work / "i.q4", "--device", "cpu", "--force", "-q")
        must(bin_dir / "q4verify", work / "i.q4", "--against", saved, "-q")
        must(bin_dir / "q4export", work / "i.q4", "-o", work / "i", "--to", "bnb", "-q")
        require_same_files(work / "i", saved)
        shutil.rmtree(work / "i")


def check_blocks(bin_dir, work):
    """Every block size and shape that bitsandbytes takes, in one file without a configuration, 3-D experts among them."""
    torch.manual_seed(0)
    saved = work / "saved"
    saved.mkdir()
    named = {"norm.weight": torch.ones(8, dtype=torch.bfloat16)}
    for nested in (False, True):
        for kind in ("nf4", "fp4"):
            for block in (32, 64, 128, 256, 512, 1024, 2048, 4096):
                for shape in ((4, 96), (3, 37), (2, 16, 64), (1, 1)):
                    weight = torch.randn(shape, dtype=(torch.bfloat16, torch.float16, torch.float32)[block % 3])
                    packed, state = bnb.functional.quantize_4bit(
                        weight, blocksize=block, quant_type=kind, compress_statistics=nested
                    )
                    name = f"{kind}.{nested}.{block}.{len(named)}.weight"
                    named[name] = packed
                    named |= {f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()}
    safetensors.torch.save_file(named, saved / "model.safetensors", metadata={"format": "pt"})
    container, again = work / "m.q4", work / "again"
    must(bin_dir / "q4convert", saved, "-o", container, "--device", "cpu", "-q")
    must(bin_dir / "q4verify", container, "--against", saved, "-q")
    must(bin_dir / "q4export", container, "-o", again, "--to", "bnb", "-q")
    require((again / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes(), "model.safetensors differs")
    return f"{len(named)} tensors equal"


def check(case, bin_dir, work, failures):
    folder = work / case.name
    folder.mkdir()
    line = check_blocks(bin_dir, folder) if case.config is None else check_case(bin_dir, case, folder)
    print(f"{case.name:24} {line}")


def main():
    arguments = parse_arguments(__doc__)
    tf.logging.set_verbosity_error()
    tf.logging.disable_progress_bar()
    torch.set_num_threads(1)
    versions = f"transformers {tf.__version__}, bitsandbytes {bnb.__version__}, torch {torch.__version__}"
    return run_cases(arguments, lambda _: cases(), check, versions)


if __name__ == "__main__":
    sys.exit(main())
