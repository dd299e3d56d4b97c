"""Models of sentence-transformers, whose modules lie in folders of their own, through q4 and back.

    python modules_check.py --bin DIR [--case NAME ...]

--bin holds the four tools. The models are tiny, random and made here. For each:
  - q4convert takes the weights of all folders, and q4verify finds the same tensors by itself;
  - q4export --to safetensors and --to bnb write each folder's own files; nothing is lost but what q4convert named;
  - sentence-transformers loads both exports; modules outside the transformers models are bit for bit those of the
    original; every 4-bit weight decodes to that of the dequantized export, all other parameters are equal, and with the
    decoded weights in their places both give the same embeddings, bit for bit;
  - q4inspect --lint finds nothing in the bnb export.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import tempfile
import warnings

import bitsandbytes as bnb
import bitsandbytes_cpu
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

warnings.simplefilter("ignore")
from sentence_transformers import SentenceTransformer, SparseEncoder, models  # noqa: E402
from sentence_transformers.sparse_encoder import modules as sparse_modules  # noqa: E402

SENTENCES = ["a b c", "c d e f g", "h"]
WORDS = ["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz"]


def require(holds, message):
    if not holds:
        raise SystemExit(f"modules_check: FAILED: {message}")


def tokenizer():
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    return words


def bert(work, name, hidden=64, model=BertModel):
    folder = work / "parts" / name
    config = BertConfig(vocab_size=len(WORDS), hidden_size=hidden, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=128, max_position_embeddings=32)
    model(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


def transformer(work, name, hidden=64):
    return models.Transformer(bert(work, name, hidden))


def dense(work):
    return [transformer(work, "dense"), models.Pooling(64), models.Dense(64, 32), models.Normalize()]


def many(work):
    encoder = transformer(work, "many")
    encoder.auto_model.config.output_hidden_states = True
    return [encoder, models.WeightedLayerPooling(64, num_hidden_layers=2, layer_start=1), models.Pooling(64),
            models.LayerNorm(64), models.Dense(64, 24, use_residual=True), models.Dense(24, 16, bias=False)]


def words(work):
    """Nothing of transformers in it, and modules whose configuration has a name of its own."""
    vocabulary = models.tokenizer.WhitespaceTokenizer(WORDS, stop_words=[], do_lower_case=False)
    return [models.WordEmbeddings(vocabulary, torch.randn(len(WORDS), 64).numpy()), models.LSTM(64, 32),
            models.CNN(64, 16), models.Pooling(48), models.Dense(48, 16)]


def router(work):
    """Both transformers models lie in folders that the Router lists, none in the top folder."""
    inner = models.Router({"query": [models.Dense(64, 64)]})
    return [models.Router.for_query_document(
        query_modules=[transformer(work, "query"), models.Pooling(64), inner, models.Dense(64, 32)],
        document_modules=[transformer(work, "document", 32), models.Pooling(32)])]


def static(work):
    """Nothing of transformers in it."""
    return [models.StaticEmbedding(tokenizer(), embedding_dim=64), models.Dense(64, 32)]


def splade(work):
    """Sparse embeddings of a model with a language head."""
    return [models.Transformer(bert(work, "splade", model=BertForMaskedLM), transformer_task="fill-mask"), sparse_modules.SpladePooling("max")]


def sparse(work):
    """Queries by a table of weights, documents by a transformer."""
    table = sparse_modules.SparseStaticEmbedding(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(bert(work, "table", model=BertForMaskedLM)), frozen=False)
    return [models.Router.for_query_document(query_modules=[table], document_modules=splade(work))]


def into_folder(source):
    """The layout of older versions: the first module in a folder, and its weights in two shards."""
    folder = source / "0_Transformer"
    folder.mkdir()
    for path in list(source.iterdir()):
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(folder / path.name)
    BertModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").unlink()
    modules = json.loads((source / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (source / "modules.json").write_text(json.dumps(modules))


CASES = {"dense": (dense, None, ["2_Dense/linear.weight"]), "many": (many, None, ["4_Dense/residual.weight"]),
         "words": (words, None, ["emb_layer.weight", "1_LSTM/encoder.weight_hh_l0", "2_CNN/convs.0.weight"]),
         "router": (router, None, ["query_0_Transformer/encoder.layer.0.output.dense.weight",
                                   "query_2_Router/query_0_Dense/linear.bias"]),
         "static": (static, None, ["embedding.weight", "1_Dense/linear.weight"]),
         "splade": (splade, None, ["cls.predictions.transform.dense.weight"]),
         "sparse": (sparse, None, ["query_0_SparseStaticEmbedding/weight"]),
         "folder": (dense, into_folder, ["0_Transformer/encoder.layer.1.output.dense.weight"])}


class Tools:
    def __init__(self, folder):
        self.folder = folder

    def run(self, name, *arguments):
        return subprocess.run([str(self.folder / name), *map(str, arguments)], capture_output=True, text=True)

    def must(self, name, *arguments):
        done = self.run(name, *arguments)
        require(done.returncode == 0, f"{name} {arguments}: exit code {done.returncode}: {done.stderr}")
        return done


def kind_of(name):
    return SparseEncoder if name in ("splade", "sparse") else SentenceTransformer


def make(work, name):
    build, change, _ = CASES[name]
    torch.manual_seed(0)
    source = work / name
    kind_of(name)(modules=build(work), device="cpu").save_pretrained(str(source), create_model_card=False)
    if change is not None:
        change(source)
    return source


def load(folder, kind=SentenceTransformer):
    return kind(str(folder), device="cpu").eval()


def embeddings(model):
    found = [model.encode(SENTENCES, task=task, convert_to_tensor=True) for task in ("query", "document")]
    return [value.to_dense() if value.is_sparse else value for value in found]


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def tensors_of(folder):
    return {f"{path.parent.relative_to(folder)}/{name}": tensor for path in folder.rglob("*.safetensors")
            for name, tensor in load_file(path).items()}


def decode_in_place(model):
    """Puts what its 4-bit weights decode to in the place of 4-bit layers; their names."""
    names = [name for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)]
    for name in names:
        layer = model.get_submodule(name)
        weight = bitsandbytes_cpu.decode(layer.weight.data, layer.weight.quant_state)
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        plain.weight.data = weight.to(layer.weight.quant_state.dtype)
        if layer.bias is not None:
            plain.bias.data = layer.bias.data
        model.set_submodule(name, plain)
    return names


def check_case(tools, work, name):
    source = make(work, name)
    container, plain, packed = work / f"{name}.q4", work / f"{name}.plain", work / f"{name}.bnb"
    tools.must("q4convert", source, "-o", container)
    tools.must("q4verify", container, "--against", source)
    listed = {tensor["name"] for tensor in json.loads(tools.must("q4inspect", container, "--tensors", "--json").stdout)["tensors"]}
    require(set(CASES[name][2]) <= listed, f"{name}: tensors of folders are missing among {sorted(listed)}")
    tools.must("q4export", container, "--to", "safetensors", "-o", plain)
    tools.must("q4export", container, "--to", "bnb", "-o", packed)
    for folder in (plain, packed):
        lost = {file for file in files_of(source) - files_of(folder) if not file.startswith("0_Transformer/model")}
        require(not lost, f"{name}: {folder.name} lacks {sorted(lost)}")

    # What was kept is what it was, in the file that it came from.
    original, written = tensors_of(source), tensors_of(plain)
    require(original.keys() == written.keys(), f"{name}: {sorted(original.keys() ^ written.keys())}")
    outside = [key for key in original if "Transformer/" not in key and not key.startswith("./")]
    require(all(torch.equal(original[key], written[key]) for key in outside), f"{name}: a module of a folder differs")

    model, expected = load(packed, kind_of(name)), load(plain, kind_of(name))
    replaced = decode_in_place(model)
    require(bool(replaced) == (name not in ("static", "words")), f"{name}: 4-bit layers {replaced}")
    parameters = dict(expected.named_parameters())
    for key, value in model.named_parameters():
        require(torch.equal(value, parameters[key]), f"{name}: {key} differs between the exports")
    for got, wanted in zip(embeddings(model), embeddings(expected)):
        require(torch.equal(got, wanted), f"{name}: embeddings differ")
    tools.must("q4inspect", packed, "--lint")
    print(f"{name}: {len(listed)} tensors, {len(replaced)} 4-bit layers, embeddings equal")


def check_quantized_module(tools, work):
    """A Dense that the user quantizes is in 4 bits in the container; a bnb export says that it cannot be there."""
    container, packed = work / "include.q4", work / "include.bnb"
    tools.must("q4convert", work / "dense", "-o", container, "--include", "^2_Dense/linear.weight")
    done = tools.must("q4export", container, "--to", "bnb", "-o", packed)
    require("dequantized" in done.stderr and "2_Dense/linear.weight" in done.stderr, done.stderr)
    embeddings(load(packed))


def check_old_module(tools, work):
    """A module whose weights PyTorch saved is read as one of safetensors; one that is none of both is refused."""
    source, plain = work / "old", work / "old.plain"
    shutil.copytree(work / "dense", source)
    weights = source / "2_Dense" / "model.safetensors"
    torch.save(load_file(weights), source / "2_Dense" / "pytorch_model.bin")
    weights.unlink()
    tools.must("q4convert", source, "-o", work / "old.q4")
    tools.must("q4convert", work / "dense", "-o", work / "new.q4")
    for container in ("old.q4", "new.q4"):
        tools.must("q4export", work / container, "--to", "safetensors", "-o", plain, "--force")
        if container == "old.q4":
            old = embeddings(load(plain))
    for got, wanted in zip(old, embeddings(load(plain))):
        require(torch.equal(got, wanted), "embeddings differ")
    (source / "2_Dense" / "pytorch_model.bin").rename(source / "2_Dense" / "dense.pt")
    (source / "2_Dense" / "dense.pt").write_bytes(b"x")
    done = tools.run("q4convert", source, "-o", work / "other.q4")
    require(done.returncode == 5 and "2_Dense" in done.stderr and "save_pretrained" in done.stderr, done.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--case", action="append", choices=sorted(CASES))
    arguments = parser.parse_args()
    tools = Tools(arguments.bin.resolve())
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for name in arguments.case or CASES:
            check_case(tools, work, name)
        if arguments.case is None or "dense" in arguments.case:
            check_quantized_module(tools, work)
            check_old_module(tools, work)
    print("modules_check: all hold")


if __name__ == "__main__":
    main()
