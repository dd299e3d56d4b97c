"""A model in several files, small, and what its conversion in one piece gives: what conversions in parts are held against."""
import hashlib
import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from safetensors_bytes import tensor_file  # noqa: E402

SETTINGS = ["--threads", "1", "--device", "cpu", "-q"]


def write_model(folder: pathlib.Path, files: int, rows: int = 256) -> None:
    """`files` files of two matrices each, each of them a shard when these are cut by source."""
    folder.mkdir()
    weight_map = {}
    for i in range(files):
        name = f"model-{i + 1:05}-of-{files:05}.safetensors"
        data, elements = random.Random(i), rows * 512
        tensors = {}
        for part in ("up", "gate"):
            payload = bytearray(data.randbytes(4 * elements))
            payload[3::4] = b"\x3c" * elements  # finite, about 0.01
            tensors[f"model.layers.{i}.mlp.{part}_proj.weight"] = ("F32", (rows, 512), payload)
        (folder / name).write_bytes(tensor_file(tensors))
        weight_map.update({tensor: name for tensor in tensors})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')


def digests(folder: pathlib.Path) -> "dict[str, str]":
    """Of what lies there, whatever it is called; folders by their name alone."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder" for path in sorted(folder.iterdir())}
