"""What others do with a model of q4.transformers: Trainer, pipelines, processes side by side, loads that are killed or find half a file."""

import importlib.util
import logging
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings

from package_setup import check, count, raises

for package in ("torch", "transformers", "accelerate", "bitsandbytes", "peft"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_training (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

warnings.simplefilter("ignore")  # theirs
import torch  # noqa: E402
import transformers  # noqa: E402

import q4  # noqa: E402
import q4.transformers  # noqa: E402

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


def source(folder, vocabulary=128):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, eos_token_id=None
    )
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


def with_adapter(model):
    import peft

    torch.manual_seed(3)
    model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM", lora_dropout=0.0))


def test_trainer(path, exported, work):
    losses = []
    for number, model in enumerate((q4.transformers.load(path), transformers.AutoModelForCausalLM.from_pretrained(exported))):
        settings = transformers.TrainingArguments(
            output_dir=str(work / f"trainer-{number}"), max_steps=5, per_device_train_batch_size=2, learning_rate=1e-2, report_to=[], logging_steps=1,
            save_strategy="no", use_cpu=True, disable_tqdm=True, seed=1,
        )  # fmt: skip
        data = [{"input_ids": IDS[0], "labels": IDS[0]} for _ in range(10)]
        trainer = transformers.Trainer(model=with_adapter(model), args=settings, train_dataset=data)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    check(losses[0] == losses[1] and len(losses[0]) == 5 and losses[0][-1] < losses[0][0], "five steps of Trainer, equal to stock", losses)


def tokenizer_files(folder, words):
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<pad>").save_pretrained(folder)


def test_pipeline(work):
    folder = source(work / "words")
    words = ["<unk>", "<pad>", *(f"w{number}" for number in range(126))]
    tokenizer_files(folder, words)
    transformers.GenerationConfig(max_new_tokens=6, pad_token_id=1).save_pretrained(folder)
    path = q4.convert(folder, work / "words.q4").path
    q4.export(path, work / "words-exported", to="bnb")
    texts = []
    for model, tokenizer in (
        (q4.transformers.load(path), q4.transformers.tokenizer(path)),
        (transformers.AutoModelForCausalLM.from_pretrained(work / "words-exported"), transformers.AutoTokenizer.from_pretrained(work / "words-exported")),
    ):
        generate = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
        texts.append(generate("w7 w8 w9", do_sample=False)[0]["generated_text"])
    check(texts[0] == texts[1] and texts[0].count("w") == 9, "pipeline() with the embedded tokenizer", texts)
    tokenizer = q4.transformers.tokenizer(path)
    check(tokenizer.name_or_path == str(path) and tokenizer("w3 w4")["input_ids"] == [5, 6] and tokenizer.pad_token == "<pad>", "the tokenizer")
    tokenizer.save_pretrained(work / "tokenizer")
    check((work / "tokenizer" / "tokenizer.json").is_file(), "it is saved after its files went")
    check(q4.transformers.generation_config(path).pad_token_id == 1, "the generation configuration")


# One of two processes, as torchrun starts them.
RANK = """
import logging, os, sys
import torch, torch.distributed as distributed
import transformers
logging.disable(logging.WARNING); transformers.logging.set_verbosity_error()
sys.path[:0] = sys.argv[2:3]
import q4.transformers, training_parts
distributed.init_process_group("gloo")
rank = distributed.get_rank()
model = training_parts.with_adapter(q4.transformers.load(sys.argv[1], device_map={"": "cpu"} if rank else None))
model = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
ids = torch.arange(5, 13)[None] + rank
for _ in range(3):
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward(); optimizer.step(); optimizer.zero_grad()
own = torch.cat([p.detach().flatten().float() for p in model.parameters() if p.requires_grad])
both = [torch.empty_like(own) for _ in range(2)]
distributed.all_gather(both, own)
assert torch.equal(*both) and own.abs().sum() > 0, "adapters differ"
print("rank", rank, "loss", loss.item())
distributed.destroy_process_group()
"""


def test_two_processes(path, work):
    (work / "training_parts.py").write_text(
        "import peft, torch\n\n\ndef with_adapter(model):\n    torch.manual_seed(3)\n"
        "    model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)\n"
        "    return peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=['q_proj', 'up_proj'], task_type='CAUSAL_LM', lora_dropout=0.0))\n",
        encoding="utf-8",
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(2):
        environment = dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        started.append(
            subprocess.Popen([sys.executable, "-c", RANK, str(path), str(work)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    results = [each.communicate(timeout=300) for each in started]
    for rank, (each, (out, error)) in enumerate(zip(started, results)):
        check(each.returncode == 0 and f"rank {rank} loss" in out, f"DDP: process {rank} trains, and both have the same adapter", error[-1500:])


# Killed at the first chunk that is ready.
KILLED = """
import os, signal, sys
import q4.transformers
q4.transformers.load(sys.argv[1], device_map="cpu", progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_killed(path, work):
    folder, shared = work / "tmp", pathlib.Path("/dev/shm")
    folder.mkdir()
    before = set(shared.iterdir()) if shared.is_dir() else set()
    beside = set(path.parent.iterdir())
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=dict(os.environ, TMPDIR=str(folder)), capture_output=True, text=True, check=False)
    check(done.returncode == -signal.SIGKILL, "killed in the middle of a load", done.returncode, done.stderr[-1500:])
    check(list(folder.iterdir()) == [], "no temporary files are left", list(folder.iterdir()))
    check(set(path.parent.iterdir()) == beside, "nothing is left beside the container")
    # Folders there are those of other tests, whose temporary files lie in memory.
    ours = [entry for entry in (set(shared.iterdir()) if shared.is_dir() else set()) - before if "q4" in entry.name and entry.is_file()]
    check(ours == [], "no shared memory is left", ours)


def test_half_files(path, work):
    octets = path.read_bytes()
    half = work / "half.q4"
    half.write_bytes(octets[: len(octets) // 2])
    error = raises(q4.DamagedError, lambda: q4.transformers.load(half, device_map="cpu"), "a truncated file")
    check("half.q4" in str(error), "which file", error)
    # It is open, and becomes shorter before it is loaded.
    shutil.copy(path, half)
    model = q4.open(half)
    os.truncate(half, len(octets) // 2)
    error = raises(q4.DamagedError, lambda: q4.transformers.load(model, device_map="cpu"), "a file that became shorter")
    check("half.q4" in str(error), "which file became shorter", error)


# The configuration of a model with code of its own, and that code.
CODE = """
import transformers
class OwnConfig(transformers.LlamaConfig):
    model_type = "q4_own"
class OwnForCausalLM(transformers.LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_own_code(path, work):
    import json

    folder = work / "own"
    shutil.copytree(work / "llama", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "model_type": "q4_own", "architectures": ["OwnForCausalLM"],
        "auto_map": {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    own_tokenizer = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(own_tokenizer), encoding="utf-8")
    own = q4.convert(folder, work / "own.q4", include=["_proj"]).path
    error = raises(q4.UnsupportedError, lambda: q4.transformers.load(own, device_map="cpu"), "code of its own without code=")
    check("q4_own" in str(error) and "code=DIRECTORY" in str(error), "says the way", error)
    error = raises(ValueError, lambda: q4.transformers.tokenizer(own), "its tokenizer, without a question on the terminal")
    check("trust_remote_code" in str(error), "why", error)
    code = work / "code"
    code.mkdir()
    raises(q4.UsageError, lambda: q4.transformers.load(own, device_map="cpu", code=code), "a directory without a configuration")
    shutil.copy(folder / "config.json", code)
    (code / "modeling_own.py").write_text(CODE, encoding="utf-8")
    model = q4.transformers.load(own, device_map="cpu", code=code)
    check(type(model).__name__ == "OwnForCausalLM" and model.config.model_type == "q4_own", "the class of the caller's code", type(model))
    with torch.no_grad():
        got, expected = model.train()(IDS).logits, q4.transformers.load(path, device_map="cpu").train()(IDS).logits
    check(torch.isfinite(got).all().item() and got.shape == expected.shape, "it runs")


def main():
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="q4-python-training-") as name:
        work = pathlib.Path(name)
        os.environ["HF_MODULES_CACHE"] = str(work / "modules")
        path = pathlib.Path(q4.convert(source(work / "llama"), work / "llama.q4").path)
        q4.export(path, work / "exported", to="bnb")
        test_trainer(path, work / "exported", work)
        test_pipeline(work)
        test_two_processes(path, work)
        test_killed(path, work)
        test_half_files(path, work)
        test_own_code(path, work)
    print(f"python_training: {count()} checks")


if __name__ == "__main__":
    main()
