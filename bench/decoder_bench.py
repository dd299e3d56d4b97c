#!/usr/bin/env python3
"""What 4 bits cost a real decoder, and what encoders save of it: perplexity and KL divergence on held-out pages. No package carries a small
decoder in 16 bits, so one is trained: 27.8 M parameters, shaped like Llama, on pages of manuals (bench/decoder_text.py), in minutes on a GPU.

  python3 bench/decoder_bench.py prepare  --work DIR --text text.xz        a BPE tokenizer, and the pages as tokens
  python3 bench/decoder_bench.py train    --work DIR [--seconds 160]       DIR/model, a folder as transformers writes it, in bf16
  python3 bench/decoder_bench.py evaluate --work DIR --tools DIR           converts, proves, decodes, compares; DIR/results.json
  python3 bench/decoder_bench.py report   --work DIR                       the tables again

Held out is one page in twenty, by the digest of its name; one in forty more picks the best state while training. evaluate takes every
encoder that q4convert offers, for NF4 and FP4 with fp32 and double-quantized scales; each container is proven by q4verify --against and
decoded by q4export --to safetensors, and where bitsandbytes can be imported its decoder must give the same bits. All models run in fp32 over the
same windows. The tables have perplexity and mean KL to the 16-bit model, as excess over 16 bits in units of that of absmax with scales of
the same form, with a 95 % interval: whole pages are drawn with replacement, the same ones for both.
Needs torch, transformers, tokenizers, safetensors.
"""
import argparse
import hashlib
import json
import lzma
import math
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import decoder_report  # noqa: E402
import input_moments  # noqa: E402

SHAPES = {
    name: dict(zip(("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size"), sizes))
    for name, sizes in {"small": (512, 1408, 8, 8, 4, 8192), "tiny": (64, 192, 2, 4, 2, 400)}.items()
}
BOOKS, FORMS = ("nf4", "fp4"), {"fp32": "--no-double-quant", "double-quantized": "--double-quant"}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


# ---- prepare

def part_of(name):
    """Which part a page is in: 'heldout', 'choose' (the state to keep) or 'train'."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 40
    return "heldout" if number < 2 else "choose" if number == 2 else "train"


def prepare(arguments):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    with lzma.open(arguments.text, "rt", encoding="utf-8") as lines:
        pages = [json.loads(line) for line in lines]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = SHAPES[arguments.shape]["vocab_size"]
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((page["text"] for page in pages if part_of(page["name"]) == "train"), trainer)
    folder = arguments.work / "data"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for part in ("train", "choose", "heldout"):
        chosen = [page for page in pages if part_of(page["name"]) == part]
        # Each page begins with <s>, token 0.
        tokens = [[0, *encoding.ids] for encoding in tokenizer.encode_batch([page["text"] for page in chosen])]
        np.savez_compressed(folder / f"{part}.npz", tokens=np.concatenate(tokens).astype(np.uint16), lengths=np.array([len(page) for page in tokens]))
        characters = sum(len(page["text"]) for page in chosen)
        print(f"{part}: {len(chosen)} pages, {characters / 1e6:.2f} M characters, {sum(map(len, tokens)) / 1e6:.2f} M tokens", flush=True)


def tokens_of(work, part):
    data = np.load(work / "data" / f"{part}.npz")
    return data["tokens"].astype(np.int64), data["lengths"]


def windows_of(work, part, context):
    """Windows of at most `context` tokens that do not overlap, padded by -1, and the page of each. Windows with nothing to predict are left out."""
    tokens, lengths = tokens_of(work, part)
    rows, pages, begin = [], [], 0
    for page, length in enumerate(lengths):
        for first in range(begin, begin + length, context):
            piece = tokens[first : min(first + context, begin + length)]
            if len(piece) >= 2:
                rows.append(np.pad(piece, (0, context - len(piece)), constant_values=-1))
                pages.append(page)
        begin += length
    return torch.from_numpy(np.stack(rows)), np.array(pages)


# ---- train

def new_model(shape, context):
    from transformers import LlamaConfig, LlamaForCausalLM

    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = LlamaConfig(**SHAPES[shape], **ids, max_position_embeddings=context, tie_word_embeddings=True, rms_norm_eps=1e-5)
    config.use_cache = False
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def loss_of(model, ids):
    logits = model(input_ids=ids[:, :-1]).logits.float()
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def train(arguments):
    tokens = torch.from_numpy(tokens_of(arguments.work, "train")[0]).to(torch.int32).to(DEVICE)
    choose = windows_of(arguments.work, "choose", arguments.context)[0]
    choose = choose[(choose >= 0).all(1)][:256].to(DEVICE)
    model = new_model(arguments.shape, arguments.context).to(DEVICE)
    for layer in model.model.layers:  # Pages are seen ten times: part of what a layer adds is dropped
        for module in (layer.self_attn.o_proj, layer.mlp.down_proj):
            module.register_forward_hook(lambda module, given, out: torch.nn.functional.dropout(out, arguments.dropout, module.training))
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=arguments.rate, betas=(0.9, 0.95), fused=DEVICE == "cuda")
    generator = torch.Generator(device=DEVICE).manual_seed(1)
    offsets = torch.arange(arguments.context + 1, device=DEVICE)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(tokens) / 1e6:.2f} M tokens", flush=True)

    def chosen_loss():
        model.eval()
        with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16):
            total = sum(float(loss_of(model, choose[i : i + 32])) * len(choose[i : i + 32]) for i in range(0, len(choose), 32)) / len(choose)
        model.train()
        return total

    best, step, start, look = (math.inf, None), 0, time.monotonic(), 0.0
    model.train()
    while True:
        done = (time.monotonic() - start) / arguments.seconds if arguments.steps is None else step / arguments.steps
        if done >= look or done >= 1:
            loss = chosen_loss()
            seen = step * arguments.batch * arguments.context / 1e6
            print(f"{time.monotonic() - start:6.1f} s  step {step}  {seen:.1f} M tokens  loss {loss:.4f}", flush=True)
            if loss < best[0]:
                best = (loss, {name: value.detach().to(torch.bfloat16).clone() for name, value in model.state_dict().items()})
            look += 0.1 if look < 0.8 else 0.05
        if done >= 1:
            break
        rate = arguments.rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(tokens) - arguments.context - 1, (arguments.batch, 1), device=DEVICE, generator=generator)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = loss_of(model, tokens[starts + offsets].long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if DEVICE == "cuda":
            torch.cuda.synchronize()  # The clock decides the rate
    model = new_model(arguments.shape, arguments.context).to(torch.bfloat16)
    model.load_state_dict(best[1])
    folder = arguments.work / "model"
    model.save_pretrained(folder)
    shutil.copyfile(arguments.work / "data/tokenizer.json", folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}))
    print(f"saved the state with loss {best[0]:.4f}", flush=True)


# ---- evaluate

class NotBuilt(Exception):
    """The tools know an encoder's name, but it is not part of their version (Q4-5901)."""


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        if "[Q4-5901]" in done.stderr:
            raise NotBuilt(done.stderr.strip())
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def encoders_of(tools):
    """What this q4convert offers, as words of its command line; absmax first."""
    offered = re.search(r"--encoder ([a-z|]+)", run(tools / "q4convert", "--help")).group(1).split("|")
    return {
        name: words
        for name, words in {
            "absmax": ("--encoder", "absmax"),
            "mse effort 1": ("--encoder", "mse", "--effort", "1"),
            "mse": ("--encoder", "mse"),
            "mse effort 3": ("--encoder", "mse", "--effort", "3"),
            "weighted": ("--encoder", "weighted"),
            "feedback": ("--encoder", "feedback"),
        }.items()
        if words[1] in offered
    }


def calibrate(arguments, model):
    """DIR/calibration.safetensors (docs/calibration.md), of windows that were trained on."""
    path = arguments.work / "calibration.safetensors"
    windows = windows_of(arguments.work, "train", arguments.context)[0]
    windows = windows[(windows >= 0).all(1)]
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(2))[: arguments.calibration_windows]
    batches = [{"input_ids": windows[order[i : i + 16]].to(DEVICE)} for i in range(0, len(order), 16)]
    inputs = input_moments.measured(model, batches, chosen=lambda name: name != "lm_head")
    inputs.save(path, {"tool": "bench/decoder_bench.py", "samples": len(order), "tokens": len(order) * arguments.context})
    return path


def decoded(arguments, name, words, calibration):
    """Weights of one setting, proven and decoded; bitsandbytes, where it is there, must decode the same."""
    work, source = arguments.work, arguments.work / "model"
    container, plain = work / "m.q4", work / "decoded"
    extra = ("--calibration", calibration) if words[1] in ("weighted", "feedback") else ()
    start = time.monotonic()
    run(arguments.tools / "q4convert", source, "-o", container, "--force", "--progress", "none", *words, *extra)
    seconds = time.monotonic() - start
    run(arguments.tools / "q4verify", container, "--against", source, "--require-proof", "--progress", "none", *extra)
    shutil.rmtree(plain, ignore_errors=True)
    run(arguments.tools / "q4export", container, "-o", plain, "--to", "safetensors", "--progress", "none")
    state = load_file(plain / "model.safetensors")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        pass
    else:
        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/python"))
        import bnb_export

        shutil.rmtree(work / "bnb", ignore_errors=True)
        run(arguments.tools / "q4export", container, "-o", work / "bnb", "--to", "bnb", "--progress", "none")
        theirs = bnb_export.decoded(work / "bnb")
        if not theirs or not all(torch.equal(value, state[key]) for key, value in theirs.items()):
            raise SystemExit(f"{name}: bitsandbytes decodes other weights")
    print(f"{name}: converted in {seconds:.2f} s", flush=True)
    return state


def model_with(arguments, state):
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device(DEVICE):
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(arguments.work / "model")).float()
    missing, unexpected = model.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"not the model's weights: {missing} {unexpected}")
    model.tie_weights()
    return model.eval()


def compare(arguments, models):
    """Of each window: its page, predictions, and for each model the sums of -ln P(next) and of KL to the first model."""
    windows, pages = windows_of(arguments.work, "heldout", arguments.context)
    if arguments.windows is not None:  # Spread over all pages
        chosen = np.linspace(0, len(windows) - 1, min(arguments.windows, len(windows))).astype(int)
        windows, pages = windows[chosen], pages[chosen]
    counts, losses, divergences = [], {name: [] for name in models}, {name: [] for name in models}
    with torch.no_grad():
        for first in range(0, len(windows), arguments.eval_batch):
            ids = windows[first : first + arguments.eval_batch].to(DEVICE)
            real = ids[:, 1:] >= 0
            targets = ids[:, 1:].clamp(min=0)[..., None]
            counts += real.sum(1).tolist()
            reference = None
            for name, model in models.items():
                logs = torch.log_softmax(model(input_ids=ids.clamp(min=0)).logits[:, :-1].float(), -1)
                reference = logs if reference is None else reference
                loss = -logs.gather(-1, targets)[..., 0]
                divergence = (reference.exp() * (reference - logs)).sum(-1)
                losses[name] += (loss.double() * real).sum(1).tolist()
                divergences[name] += (divergence.double() * real).sum(1).tolist()
    return {"pages": pages.tolist(), "counts": counts, "losses": losses, "divergences": divergences}


def evaluate(arguments):
    torch.backends.cuda.matmul.allow_tf32 = False
    encoders = encoders_of(arguments.tools)
    if arguments.encoders is not None:
        encoders = {name: words for name, words in encoders.items() if name in ("absmax", *arguments.encoders)}
    models = {"16 bits": model_with(arguments, load_file(arguments.work / "model/model.safetensors"))}
    calibration = None
    if {"weighted", "feedback"} & set(encoders):
        calibration = calibrate(arguments, models["16 bits"])
    for book in arguments.types:
        for form, option in FORMS.items():
            for encoder, words in encoders.items():
                name = f"{book} | {form} | {encoder}"
                try:
                    state = decoded(arguments, name, (*words, "--type", book, option, "--block-size", str(arguments.block_size)), calibration)
                except NotBuilt as refused:
                    print(f"{name}: left out: {refused}", flush=True)
                    continue
                models[name] = model_with(arguments, state)
    start = time.monotonic()
    results = compare(arguments, models)
    print(f"compared {len(models)} models in {time.monotonic() - start:.1f} s", flush=True)
    (arguments.work / "results.json").write_text(json.dumps(results))
    print(decoder_report.tables(results))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["prepare", "train", "evaluate", "report"])
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--tools", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=160)
    parser.add_argument("--steps", type=int, help="train so many steps, whatever the clock says")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--types", nargs="*", choices=BOOKS, default=BOOKS)
    parser.add_argument("--encoders", nargs="*", help="of those that q4convert offers (default: all; absmax is always among them)")
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--calibration-windows", type=int, default=512)
    parser.add_argument("--eval-batch", type=int, default=16)
    parser.add_argument("--windows", type=int, help="evaluate on so many windows of the held-out pages (default: all)")
    arguments = parser.parse_args()
    if arguments.stage == "report":
        print(decoder_report.tables(json.loads((arguments.work / "results.json").read_text())))
    else:
        {"prepare": prepare, "train": train, "evaluate": evaluate}[arguments.stage](arguments)


if __name__ == "__main__":
    main()
