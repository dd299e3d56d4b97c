"""q4.evaluate against plain NumPy in float64: numbers, kinds of models and inputs, order of passes, memory, errors; and what
q4verify --evaluation makes of it."""

import contextlib
import importlib.util
import io
import json
import math
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import weakref

from package_setup import ROOT, TOOLS, check, count, raises

for package in ("torch", "transformers", "accelerate", "bitsandbytes"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_evaluate (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

import warnings

warnings.simplefilter("ignore")  # theirs
import numpy as np  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import q4  # noqa: E402
from q4 import _evaluate_numbers, _evaluation  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
SIZES = dict(vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
WORDS = [f"w{i}" for i in range(120)]


def tokenizer(folder):
    """A word is a token, from 8 on; 1 begins a text, 0 pads."""
    vocabulary = {f"<{i}>": i for i in range(8)} | {word: i for i, word in enumerate(WORDS, 8)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<3>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    model.post_processor = tokenizers.processors.TemplateProcessing(single="<1> $A", special_tokens=[("<1>", 1)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<0>", unk_token="<3>", model_max_length=24).save_pretrained(folder)


def saved(folder, model):
    model.bfloat16().save_pretrained(folder)
    tokenizer(folder)
    return folder


def converted(source, name, **options):
    return q4.convert(source, source.parent / f"{source.name}-{name}.q4", **options).path


def llama(folder):
    torch.manual_seed(0)
    return saved(folder, transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2, eos_token_id=None, initializer_range=0.2)))


def texts(count, seed, least=2, most=20):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(least, most + 1))) for _ in range(count)]


def near(a, b, what, tolerance=1e-11):
    check(a is not None and math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-15), what, a, b)


def log_softmax(logits):
    wide = logits.astype(np.float64)
    wide = wide - wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


def reference(original, quantized, sequences):
    """KL, agreement and losses, a sequence at a time, without padding."""
    kl, same, losses = [], [], []
    for ids in sequences:
        with torch.no_grad():
            a, b = (model(input_ids=torch.tensor([ids])).logits[0].float().numpy() for model in (original, quantized))
        p, q = log_softmax(a)[:-1], log_softmax(b)[:-1]
        kl.append((np.exp(p) * (p - q)).sum(-1))
        same.append(a.argmax(-1)[:-1] == b.argmax(-1)[:-1])
        place = (np.arange(len(ids) - 1), np.array(ids[1:]))
        losses.append((-p[place], -q[place]))
    return np.concatenate(kl), np.concatenate(same), losses


def test_numbers(work, source, container):
    """Sequences of one length, so that the batches are theirs: equal to the last bits of float64."""
    draw = torch.Generator().manual_seed(1)
    batches = [{"input_ids": torch.randint(8, 128, (1, 12), generator=draw)} for _ in range(12)]
    exported = work / "exported"
    q4.export(container, exported, to="bnb")
    theirs = [transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto") for folder in (source, exported)]
    kl, same, losses = reference(*theirs, [batch["input_ids"][0].tolist() for batch in batches])
    report = q4.evaluate(source, container, batches)
    numbers = report["quantized"]
    near(numbers["kl_mean"], kl.mean(), "mean KL")
    near(numbers["kl_median"], np.median(kl), "median KL")
    near(numbers["kl_p99"], np.percentile(kl, 99), "99th percentile of KL")
    near(numbers["kl_max"], kl.max(), "largest KL")
    near(numbers["top1_agreement"], same.mean(), "agreement")
    sums = np.array([[a.sum(), b.sum(), len(a)] for a, b in losses])
    first, second = np.exp(sums[:, 0].sum() / sums[:, 2].sum()), np.exp(sums[:, 1].sum() / sums[:, 2].sum())
    near(numbers["perplexity_original"], first, "perplexity of the original")
    near(numbers["perplexity_quantized"], second, "perplexity")
    near(numbers["perplexity_ratio"], second / first, "their ratio")
    check(numbers["perplexity_ratio_low"] < numbers["perplexity_ratio"] < numbers["perplexity_ratio_high"], "the ratio lies in its interval", numbers)
    # The normal approximation of the same interval: the bootstrap is near it.
    difference = sums[:, 1] - sums[:, 0]
    half = 1.96 * difference.std() / np.sqrt(len(difference)) / sums[0, 2]
    width = math.log(numbers["perplexity_ratio_high"]) - math.log(numbers["perplexity_ratio_low"])
    check(0.7 < width / (2 * half) < 1.4, "the width of the interval", width, 2 * half)
    check(report.json["inputs"]["compared"] == len(kl) == 12 * 11 and report.json["inputs"]["tokens"] == 144, "what was compared", report.json["inputs"])
    layers(report, theirs, batches)
    # Each kind of model, the same numbers: the export, models in memory, an open container.
    for original in (source, theirs[0]):
        other = q4.evaluate(original, {"container": q4.open(container), "directory": exported, "module": theirs[1]}, batches)
        for name in other.names:
            check(dict(other[name]) == dict(numbers) and other.layers(name) == report.layers(), f"{name}: the same numbers", other[name])
    check(other.json["models"][0]["root_sha256"] == q4.open(container).root.removeprefix("sha256:"), "the container's root")
    again = q4.evaluate(container, container, batches[:2])["quantized"]
    check((again["kl_max"], again["top1_agreement"], again["perplexity_ratio"], again["layer_error_max"]) == (0, 1, 1, 0), "a model equals itself", again)
    itself = q4.evaluate(theirs[0], theirs[0], batches[:2])["quantized"]
    check((itself["kl_max"], itself["layer_error_max"]) == (0, 0), "the same object on both sides", itself)
    check(not any(module._forward_hooks for module in theirs[0].modules()), "no hook remains")
    theirs[0].train()
    q4.evaluate(theirs[0], container, batches[:1])
    check(all(module.training for module in theirs[0].modules()), "training goes on as it was")


def layers(report, theirs, batches):
    seen = {}
    hooks = []
    for name, module in theirs[0].named_modules():
        if isinstance(module, torch.nn.Linear):
            hooks.append(module.register_forward_hook(lambda _, given, gave, name=name: seen.setdefault(name, []).append((given[0][0], gave[0]))))
    with torch.no_grad():
        for batch in batches:
            theirs[0](**batch)
        for hook in hooks:
            hook.remove()
        others = dict(theirs[1].named_modules())
        found = {layer.name: layer for layer in report.layers()}
        check(list(found) == list(seen) and len(found) == 15, "every linear layer", list(found))
        for name, pairs in seen.items():
            right = np.concatenate([gave.double().numpy() for _, gave in pairs])
            wrong = np.concatenate([others[name](given).double().numpy() for given, _ in pairs])
            near(found[name].relative_error, ((wrong - right) ** 2).sum() / (right**2).sum(), f"error of {name}")
            check(found[name].rows == 144, f"rows of {name}", found[name].rows)
    errors = [layer.relative_error for layer in report.layers()]
    near(report["quantized"]["layer_error_mean"], np.mean(errors), "mean over layers")
    near(report["quantized"]["layer_error_median"], np.median(errors), "median over layers")
    check(report["quantized"]["layer_error_max"] == max(errors) == report.worst_layers()[0].relative_error > 0.001, "the worst layer")
    check(found["lm_head"].relative_error == 0, "what is kept has no error")


def test_texts(work, source, container):
    given = texts(13, 2) + ["w1", " ".join(WORDS[:50])]
    theirs = [transformers.AutoModelForCausalLM.from_pretrained(source, dtype="auto"), q4.transformers.load(container, device_map="cpu")]
    sequences = []
    for text in given:
        ids = [1] + [WORDS.index(word) + 8 for word in text.split()]
        sequences += [ids[begin : begin + 24] for begin in range(0, len(ids), 24)]
    check([len(s) for s in sequences[-4:]] == [2, 24, 24, 3], "windows", sequences[-4:])
    # Padding changes the rounding of bfloat16 in attention, so that equality is looser.
    kl, _, losses = reference(*theirs, sequences)
    report = q4.evaluate(source, {"a": container, "b": theirs[1]}, given, batch_size=4)
    near(report["a"]["kl_mean"], kl.mean(), "KL over padded texts", 0.02)
    near(report["a"]["perplexity_original"], np.exp(np.concatenate([a for a, _ in losses]).mean()), "perplexity over padded texts", 0.01)
    check(dict(report["a"]) == dict(report["b"]), "a container and the model that is loaded of it")
    check(report.json["inputs"]["compared"] == len(kl) and report.json["inputs"]["sequences"] == len(sequences), "predictions of texts", report.json["inputs"])
    file = work / "text.txt"
    file.write_text("\n".join(given), encoding="utf-8")
    whole = q4.evaluate(source, container, file, max_length=20)
    tokens = sum(len(text.split()) for text in given) + 1
    check(whole.json["inputs"]["tokens"] in (tokens, tokens - 1) and whole.json["inputs"]["sequences"] == math.ceil((tokens - 1) / 20), "a file is one text", whole.json["inputs"])
    some = q4.evaluate(source, container, file, max_tokens=50, tokenizer=transformers.AutoTokenizer.from_pretrained(source), layer_rows=0)
    check(some.json["inputs"]["tokens"] == 50 and not some.layers() and "layer_error_max" not in some["quantized"], "as many tokens as asked for", some.json["inputs"])
    q4.evaluate(q4.open(container), container, given[:2])  # the tokenizer of the container


def test_order(work, source, container):
    """The same document again, and one model after the other, with nothing left."""
    other = converted(source, "fp4", type="fp4", double_quant=False)
    scratch = work / "scratch"
    scratch.mkdir()
    given = texts(11, 3)
    both = q4.evaluate(source, {"nf4": container, "fp4": other}, given)
    check(q4.evaluate(source, {"nf4": container, "fp4": other}, given).to_json() == both.to_json(), "the same inputs, the same document")
    apart = q4.evaluate(source, {"nf4": container, "fp4": other}, given, sequential=True, scratch=scratch)
    check(apart.to_json() == both.to_json(), "one after the other", apart["nf4"], both["nf4"])
    check(not list(scratch.iterdir()), "no file remains", list(scratch.iterdir()))
    alone = q4.evaluate(source, other, given)
    check(dict(alone["quantized"]) == dict(both["fp4"]), "beside another as alone")
    check(both["nf4"]["kl_mean"] < both["fp4"]["kl_mean"] and both.names == ("nf4", "fp4"), "the settings differ")
    table = str(both)
    check(all(word in table for word in ("nf4", "fp4", "KL divergence, mean", "perplexity, ratio", "worst layers of fp4", "_proj")), "the table", table)
    check(len({len(line) for line in table.split("\n\n")[1].splitlines()}) == 1, "its columns", table)
    # Only sequences=10 and more have an interval; a seed draws another.
    few = q4.evaluate(source, container, given[:9])
    check("perplexity_ratio_low" not in few["quantized"], "no interval of few sequences")
    check(q4.evaluate(source, container, given, seed=1)["quantized"]["perplexity_ratio_low"] != both["nf4"]["perplexity_ratio_low"], "the seed")
    saving(work, both)
    return both


def saving(work, report):
    path = report.save(work / "e.json")
    check(path.read_text(encoding="utf-8") == report.to_json() and report.save(path) == path, "saved, and again")
    (work / "notes.json").write_text("{}")
    error = raises(q4.UsageError, lambda: report.save(work / "notes.json"), "what is no evaluation is not replaced")
    check("choose another name" in str(error) and (work / "notes.json").read_text() == "{}", "the way out", error)
    check(not list(work.glob("*.partial")), "nothing partial remains")
    error = raises(q4.UsageError, report.layers, "layers of which")
    check("'nf4', 'fp4'" in str(error), "the names are told", error)


def test_embeddings(work):
    """As MiniLM: a BERT with modules of sentence-transformers."""
    torch.manual_seed(3)
    folder = saved(work / "mini", transformers.BertModel(transformers.BertConfig(**SIZES, pad_token_id=0, max_position_embeddings=64, initializer_range=0.2)))
    (folder / "modules.json").write_text(json.dumps([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]))  # fmt: skip
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": False}))
    (folder / "1_Pooling").mkdir()
    given = texts(9, 4, 3, 12) + [" ".join(WORDS[:40])]
    for mode in ("mean", "cls", "max"):
        modes = {f"pooling_mode_{key}": name == mode for key, name in (("cls_token", "cls"), ("mean_tokens", "mean"), ("max_tokens", "max"))}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 64, **modes}))
        container = converted(folder, mode)
        report = q4.evaluate(folder, container, given, batch_size=3)
        theirs = [transformers.BertModel.from_pretrained(folder, dtype="auto"), q4.transformers.load(container, device_map="cpu")]
        cosines = []
        for text in given:
            ids = ([1] + [WORDS.index(word) + 8 for word in text.split()])[:16]
            with torch.no_grad():
                a, b = (model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy() for model in theirs)
            a, b = ({"mean": x.mean(0), "cls": x[0], "max": x.max(0)}[mode] for x in (a, b))
            cosines.append((a @ b) / np.sqrt((a @ a) * (b @ b)))
        numbers = report["quantized"]
        near(1 - numbers["cosine_mean"], 1 - np.mean(cosines), f"cosine, {mode}", 0.03)
        near(1 - numbers["cosine_min"], 1 - np.min(cosines), f"least cosine, {mode}", 0.03)
        check(report.json["task"] == "embedding" and report.json["inputs"]["truncated"] == 1 and "kl_mean" not in numbers, "of embeddings", report.json["inputs"])
        check(len(report.layers()) >= 12 and numbers["layer_error_max"] > 0.001 and "cosine" in str(report), "layers of an encoder")
        if mode == "mean" and importlib.util.find_spec("sentence_transformers"):
            from sentence_transformers import SentenceTransformer

            q4.export(container, work / "mini-bnb", to="bnb")
            objects = [SentenceTransformer(str(place), device="cpu", model_kwargs={"dtype": "auto"}) for place in (folder, work / "mini-bnb")]
            other = q4.evaluate(objects[0], objects[1], given, batch_size=3)
            near(1 - other["quantized"]["cosine_mean"], 1 - numbers["cosine_mean"], "SentenceTransformer objects", 0.1)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]))
    error = raises(q4.UnsupportedError, lambda: q4.evaluate(folder, container, given), "a step that is not carried out")
    check("SentenceTransformer objects" in str(error), "the way out", error)
    lines = work / "lines.txt"
    lines.write_text("w1 w2\n\nw3 w4\n")
    check(q4.evaluate(container, container, lines).json["inputs"]["sequences"] == 2, "an encoder takes a file by lines")


def test_kinds(work):
    """Whatever gives logits: classes of texts and images, masked words, an encoder-decoder, transposed layers."""
    torch.manual_seed(4)
    t = transformers
    ids = torch.randint(8, 128, (3, 10), generator=torch.Generator().manual_seed(5))
    mask = torch.ones(3, 10, dtype=torch.int64)
    mask[1, 6:] = 0
    text = {"input_ids": ids, "attention_mask": mask}
    bert = t.BertConfig(**SIZES, pad_token_id=0, num_labels=32)
    vit = t.ViTConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14, num_labels=32)
    t5 = t.T5Config(vocab_size=128, d_model=64, d_ff=128, d_kv=16, num_layers=2, num_heads=4, pad_token_id=0, decoder_start_token_id=0)
    gpt2 = t.GPT2Config(vocab_size=128, n_embd=64, n_layer=2, n_head=4, n_positions=64)
    labels = ids.clone()
    labels[0, 3:] = -100
    pixels = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(6)).bfloat16()
    for name, model, batch, task, compared in (
        ("classes", t.BertForSequenceClassification(bert), text, "logits", 3),
        ("words", t.BertForMaskedLM(bert), text, "logits", 26),
        ("words with labels", t.BertForMaskedLM(bert), {**text, "labels": labels}, "logits", 23),
        ("images", t.ViTForImageClassification(vit), {"pixel_values": pixels}, "logits", 3),
        ("encoder-decoder", t.T5ForConditionalGeneration(t5), {"input_ids": ids, "labels": labels}, "logits", 23),
        ("transposed", t.GPT2LMHeadModel(gpt2), text, "causal_lm", 23),
        ("answers only", t.GPT2LMHeadModel(gpt2), {"input_ids": ids, "labels": labels}, "causal_lm", 20),
    ):
        folder = work / f"kind-{name.replace(' ', '-')}"
        model.bfloat16().save_pretrained(folder)
        container = converted(folder, "q")
        report = q4.evaluate(folder, container, [batch])
        numbers = report["quantized"]
        check(report.json["task"] == task and report.json["inputs"]["compared"] == compared, f"{name}: what is compared", report.json["task"], report.json["inputs"])
        # GPT-2's transposed weights are kept, so that nothing differs.
        kept = model.config.model_type == "gpt2"
        check(kept or (numbers["kl_mean"] > 0 and numbers["layer_error_max"] > 0.001), f"{name}: numbers", numbers)
        check(not kept or (numbers["kl_max"], numbers["top1_agreement"], numbers["layer_error_max"]) == (0, 1, 0), f"{name}: nothing differs", numbers)
        check(not kept or len(report.layers()) == 9, f"{name}: transposed layers are layers", report.layers())
        check(("perplexity_ratio" in numbers) == (name in ("encoder-decoder", "transposed", "answers only")), f"{name}: perplexity where something is right", numbers)
    again = q4.evaluate(folder, container, [{"input_ids": ids, "labels": ids}])
    check(again.json["inputs"]["compared"] == 27, "labels that are the tokens", again.json["inputs"])


class Counting:
    """Batches that are counted while somebody holds them."""

    def __init__(self, number):
        self.number, self.most, self.alive = number, 0, weakref.WeakSet()

    def __iter__(self):
        for seed in range(self.number):
            tensor = torch.randint(8, 128, (2, 8), generator=torch.Generator().manual_seed(seed))
            self.alive.add(tensor)
            self.most = max(self.most, len(self.alive))
            yield {"input_ids": tensor}
            del tensor


def test_memory(source, container):
    for sequential in (False, True):
        batches = Counting(12)
        report = q4.evaluate(source, container, batches, sequential=sequential)
        check(batches.most <= 3 and report.json["inputs"]["sequences"] == 24, "batches are streamed", batches.most)
    numbers = _evaluate_numbers.PredictionNumbers()
    draw = torch.Generator().manual_seed(7)
    logits = torch.randn(64, 65536, generator=draw)
    places = torch.zeros(64, dtype=torch.int64)
    numbers.add(logits[:1], logits[:1], places[:1], places[:1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    numbers.add(logits, logits, places, places)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    check(grown < 80, "a vocabulary of 65,536 and 64 predictions: MiB in float64 at a time, not 32 for each of six copies", grown)
    check(numbers.numbers(0, 0)["kl_max"] == 0, "equal logits")


def test_limits_of_numbers():
    """What does not exist is null, and what is masked out counts as nothing."""
    def one(a, b):
        numbers = _evaluate_numbers.PredictionNumbers()
        numbers.add(torch.tensor([a]), torch.tensor([b]), torch.tensor([0]), torch.tensor([0]))
        return numbers.numbers(0, 0)

    inf = math.inf
    near(one([1.0, 2.0, -inf], [1.0, 2.5, -inf])["kl_mean"], one([1.0, 2.0], [1.0, 2.5])["kl_mean"], "masked out on both sides")
    check(one([1.0, 2.0], [1.0, -inf])["kl_mean"] is None, "no probability where the original has some")
    check(one([1.0, math.nan], [1.0, 2.0])["kl_max"] is None and one([1.0, 2.0], [inf, 2.0])["perplexity_quantized"] is None, "NaN and infinity")
    large = one([1e4, 0.0], [0.0, 1e4])
    near(large["kl_mean"], 1e4, "logits of 10,000")
    check(large["perplexity_quantized"] is None and large["perplexity_original"] == 1, "a perplexity beyond all numbers", large)
    zero = _evaluate_numbers.EmbeddingNumbers()
    zero.add(torch.zeros(1, 4), torch.ones(1, 4))
    check(zero.numbers() == {"cosine_mean": None, "cosine_min": None}, "zeros have no direction")


def test_errors(work, source, container):
    ids = torch.tensor([[5, 6, 7]])
    bad = work / "bad.txt"
    bad.write_bytes(b"abc\xff")
    empty = work / "nothing"
    empty.mkdir()
    other = saved(work / "other", transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES | {"vocab_size": 96}, num_key_value_heads=2)))
    headless = saved(work / "headless", transformers.LlamaModel(transformers.LlamaConfig(**SIZES, num_key_value_heads=2)))
    config = json.loads((headless / "config.json").read_text())
    (headless / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForCausalLM"]}))
    once = ({"input_ids": ids} for _ in range(2))
    for given, kind, word in (
        ((source, container, "no such text"), q4.UsageError, "make a list"),
        ((source, container, bad), q4.FormatError, "UTF-8"),
        ((source, container, []), q4.UsageError, "empty"),
        ((source, container, ["", " "]), q4.UsageError, "no text"),
        ((source, container, 7), q4.UsageError, "not int"),
        ((source, container, {"input_ids": ids}), q4.UsageError, "not dict"),
        ((source, container, ["text", {"input_ids": ids}]), q4.UsageError, "number 1 is str"),
        ((source, container, [{}]), q4.UsageError, "number 1 is dict"),
        ((source, container, [{"input_ids": "abc"}]), q4.UsageError, "'input_ids' of batch 1"),
        ((source, container, [{"input_ids": ids[0]}]), q4.UsageError, "(sequences, tokens)"),
        ((source, container, [{"input_ids": ids, "attention_mask": ids[:, :2]}]), q4.UsageError, "attention_mask"),
        ((source, container, [{"input_ids": ids, "labels": ids[:, :2]}]), q4.UsageError, "labels"),
        ((source, container, [{"input_ids": ids, "labels": ids * 0 - 100}]), q4.UsageError, "nothing that is predicted"),
        ((source, container, [{"input_ids": ids[:, :0]}]), q4.UsageError, "one at least"),
        ((source, container, [{"input_ids": ids[:, :1]}]), q4.UsageError, "nothing that is predicted"),
        ((source, {}, [{"input_ids": ids}]), q4.UsageError, "one at least"),
        ((source, 7, [{"input_ids": ids}]), q4.UsageError, "not int"),
        ((source, work / "missing.q4", [{"input_ids": ids}]), q4.InputError, "missing.q4"),
        ((empty, container, [{"input_ids": ids}]), q4.UsageError, "config.json"),
        ((source, other, [{"input_ids": ids}]), q4.FormatError, "no models of the same kind"),
        ((headless, container, [{"input_ids": ids}]), q4.FormatError, "at random"),
    ):  # fmt: skip
        error = raises(kind, lambda given=given: q4.evaluate(*given), f"{given[2]!r:.40}")
        check(word in str(error), f"{given[2]!r:.40}: the message", error)
    for options, word in (({"batch_size": 0}, "batch_size=0"), ({"max_length": 1}, "max_length=1"), ({"max_length": 99}, "take 24"), ({"layer_rows": True}, "layer_rows"),
                          ({"sequential": True, "scratch": work / "none"}, "scratch")):  # fmt: skip
        kind = q4.InputError if "scratch" in options else q4.UsageError
        check(word in str(raises(kind, lambda options=options: q4.evaluate(source, container, ["w1 w2"], **options), str(options))), f"{options}: the message")
    error = raises(q4.UsageError, lambda: q4.evaluate(source, container, once, sequential=True), "a generator twice")
    check("list(inputs)" in str(error), "the way out", error)
    check(q4.evaluate(source, container, once).json["inputs"]["sequences"] == 2, "a generator once")
    plain = torch.nn.Linear(4, 4)
    error = raises(q4.UsageError, lambda: q4.evaluate(plain, plain, ["w1 w2"]), "texts for a model without a tokenizer")
    check("tokenizer=" in str(error), "the way out", error)


def test_verifier(work, source, container, report):
    """The document against its schema, and through q4verify."""
    path = work / "e.json"
    if importlib.util.find_spec("jsonschema"):
        import jsonschema

        schema = json.loads((ROOT / "docs" / "schema" / "evaluation.schema.json").read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator(schema).validate(report.json)
        jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "schema" / "verify.schema.json").read_text(encoding="utf-8"))).validate(
            dict(q4.verify(container, evaluation=path).json))  # fmt: skip
    checked = q4.verify(container, evaluation=path, limit=["kl_mean <= 10", "top1_agreement >= 0"])
    found = checked.json["evaluation"]
    check(checked.ok and found["name"] == "nf4" and found["original_is_source"] is True, "joined", checked.findings)
    check(found["numbers"] == dict(report["nf4"]) and len(found["layers"]) == len(report.layers("nf4")), "all numbers, to the last bit", found["numbers"])
    broken = q4.verify(container, evaluation=path, limit="kl_mean <= 1e-9")
    check(not broken.ok and broken.findings[0].issue == "Q4-6305" and "kl_mean" in broken.findings[0].message, "a limit that is broken", broken.findings)
    for rendered in (broken.to_text(), broken.to_html(), broken.to_markdown(), broken.to_junit()):
        check("evaluation" in rendered.lower() and "original" in rendered, "in each report", rendered[:200])
    packed = q4.convert(container, work / "packed.q4", compress="zstd").path
    check(q4.verify(packed, evaluation=path).ok, "the same content, packed anew")
    unpacked = work / "z.json"
    q4.evaluate(source, packed, ["w1 w2 w3"]).save(unpacked)
    check(q4.verify(container, evaluation=unpacked).ok, "evaluated packed, verified unpacked")
    elsewhere = converted(source, "b128", block_size=128)
    error = raises(q4.FormatError, lambda: q4.verify(elsewhere, evaluation=path), "another container's evaluation")
    check(error.issue == "Q4-4941" and "q4.evaluate() of this file" in str(error), "the way out", error)
    done = subprocess.run([TOOLS / "q4verify", container, "--evaluation", path, "--limit", "kl_mean<=1e-9", "--progress", "none"], capture_output=True, text=True)
    check(done.returncode == 6 and "KL divergence, mean" in done.stdout and "[Q4-6305]" in done.stderr, "the tool", done)


def test_docs(work, source):
    """The example of docs/evaluate.md, as a reader would run it."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8"), re.S)
    check(len(found) == 1, "one example", len(found))
    folder = work / "docs"
    folder.mkdir()
    (folder / "Llama-3.2-1B").symlink_to(source, target_is_directory=True)
    for kind in ("nf4", "fp4"):
        q4.convert(source, folder / f"{kind}.q4", type=kind)
    (folder / "prompts.txt").write_text("\n\n".join(texts(5, 8)), encoding="utf-8")
    before, printed = os.getcwd(), io.StringIO()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(found[0], "docs/evaluate.md", "exec"), {"__name__": "example"})
    finally:
        os.chdir(before)
    check("KL divergence, mean" in printed.getvalue() and (folder / "evaluation.json").is_file(), "the example", printed.getvalue())
    page = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    schema = json.loads((ROOT / "docs" / "schema" / "evaluation.schema.json").read_text(encoding="utf-8"))
    for name in schema["properties"]["models"]["items"]["properties"]["numbers"]["properties"]:
        check(f"`{name}`" in page and name in str(_evaluation._ROWS), f"{name} is defined, and in the table")


def main():
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory(prefix="q4-evaluate-test-") as folder:
        work = pathlib.Path(folder)
        source = llama(work / "llama")
        container = converted(source, "nf4")
        test_limits_of_numbers()
        test_numbers(work, source, container)
        test_texts(work, source, container)
        report = test_order(work, source, container)
        test_embeddings(work)
        test_kinds(work)
        test_memory(source, container)
        test_errors(work, source, container)
        test_verifier(work, source, container, report)
        test_docs(work, source)
    print(f"python_evaluate: {count()} checks")


main()
