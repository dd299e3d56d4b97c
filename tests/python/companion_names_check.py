"""Every file name that transformers' tokenizers, processors and feature extractors save or read is carried by a container.

Names are taken from the source of transformers: all texts in its modules for tokenizers, processors, feature extractors and in what
they are derived from that look like a name of a data file, and the names of the classes' vocab_files_names. So no module needs to be
imported, and a new version brings its new names.

    companion_names_check.py --bin TOOLS
"""

import argparse
import ast
import importlib.util
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

# What lies in a model's folder; not the code that reads it, nor weights, which are converted or left out.
DATA_FILE = re.compile(r"[\w-]+(\.[\w-]+)*\.(json|jsonl|txt|model|spm|codes|bpe|dict|vocab|merges|tiktoken|tokenizer|jinja|ya?ml|tsv|csv)")
MODULES = ("tokenization_", "processing_", "feature_extraction_", "image_processing_", "video_processing_", "audio_processing_")
CORE = ("tokenization_utils", "tokenization_python", "tokenization_mistral", "processing_utils", "feature_extraction_utils",
        "feature_extraction_sequence_utils", "image_processing", "video_processing", "configuration_utils", "utils/__init__", "utils/hub",
        "generation/configuration_utils", "integrations/mistral")
# Named in those modules, but not of a model's folder: data sets and indices that are fetched, and folders of examples.
NOT_OF_A_MODEL = {"my_configuration.json", "my_vocab.txt", "pytorch_model.bin.index.json", "model.safetensors.index.json",
                  "adapter_config.json"}


def sources(root: pathlib.Path):
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root).as_posix()
        if path.name.startswith(MODULES) or relative.startswith(CORE):
            yield path


def is_docstring(node) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def names_in(tree) -> set:
    skipped = {id(node.value) for node in ast.walk(tree) if is_docstring(node)}
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in skipped)
    return {text for text in texts if isinstance(text, str) and DATA_FILE.fullmatch(text)}


def vocab_names_in(tree) -> set:
    """All values of a VOCAB_FILES_NAMES, whatever they look like."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if any(target.lower().endswith("vocab_files_names") for target in targets):
                names |= {value.value for value in node.value.values if isinstance(value, ast.Constant)}
    return names


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    tools = parser.parse_args().bin
    root = pathlib.Path(importlib.util.find_spec("transformers").origin).parent
    names, modules, vocabularies = set(), 0, 0
    for path in sources(root):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        vocabulary = vocab_names_in(tree)
        names |= names_in(tree) | vocabulary
        modules += 1
        vocabularies += bool(vocabulary)
    names -= NOT_OF_A_MODEL
    assert modules > 300 and vocabularies > 60 and len(names) > 25, (modules, vocabularies, sorted(names))
    assert {"source.spm", "bpe.codes", "prophetnet.tokenizer", "tokenizer.model", "tekken.json", "chat_template.jinja",
            "video_preprocessor_config.json"} <= names, sorted(names)

    with tempfile.TemporaryDirectory() as directory:
        model = pathlib.Path(directory) / "model"
        model.mkdir()
        for name in names:
            # Those that q4 reads itself must be what they are called.
            (model / name).write_text("[]" if name == "modules.json" else "{}")
        header = b'{"a.weight":{"dtype":"F32","shape":[1,64],"data_offsets":[0,256]}}'
        (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(256))
        output = pathlib.Path(directory) / "m.q4"
        subprocess.run([tools / "q4convert", model, "-o", output, "-q"], check=True)
        shown = subprocess.run([tools / "q4inspect", output, "--files", "--json"], check=True, capture_output=True, text=True)
        document = json.loads(shown.stdout)
    missing = names - {file["name"] for file in document["files"]}
    assert not missing, f"not carried: {sorted(missing)}"
    print(f"companion names: {len(names)} names of {modules} modules, {vocabularies} with vocabularies, all are carried")
    return 0


if __name__ == "__main__":
    sys.exit(main())
