"""q4.calibration_from_imatrix on files that the package gguf writes: names, experts, weights as (in, out), and what is refused."""

import importlib.util
import pathlib
import struct
import sys
import tempfile

from package_setup import check, count, raises

for package in ("torch", "transformers", "safetensors", "gguf"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_imatrix (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

import warnings

warnings.simplefilter("ignore")  # theirs
import torch  # noqa: E402
import transformers  # noqa: E402
from calibrations import EXPERTS, File, imatrix, is_used, llama, model_of  # noqa: E402

import q4  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
random = torch.Generator().manual_seed(1)


def values(*shape):
    return torch.rand(shape, generator=random).numpy() * 100


def test_names(work):
    llama().save_pretrained(work / "llama")
    attention, ffn, down = values(1, 64), values(1, 64), values(1, 128)
    sums = {f"blk.0.attn_{kind}.weight": (attention, [36]) for kind in "qkv"} | {"blk.0.ffn_gate.weight": (ffn, [36]), "blk.0.ffn_down.weight": (down, [36])}
    sums["blk.1.ffn_down.weight"] = (values(1, 128), [0])
    path = imatrix(work / "i.gguf", sums)
    result = q4.calibration_from_imatrix(path, work / "llama", output=work / "out")
    file = File(work / "out")
    layer = "model.layers.0."
    names = [f"{layer}self_attn.{kind}_proj.weight" for kind in "qkv"] + [f"{layer}mlp.{kind}_proj.weight" for kind in ("gate", "up", "down")]
    check(sorted(file.weights) == sorted(names), "names are those of the checkpoint; up shares gate's input", file.weights)
    for name, squares in ((names[1], attention), (names[4], ffn), (names[5], down)):
        tokens, moments, hessian = file[name]
        check(hessian is None and tokens.tolist() == [36] and torch.allclose(moments, torch.tensor(squares[0] / 36), rtol=1e-6), f"values: {name}")
    check(len(result.inputs) == 3 and result.tokens == 36 and result.covered == 6 and result.to_quantize == 14, "the result", result)
    is_used(work, work / "llama", work / "out")
    reasons = {each.weight: each.reason for each in result.skipped}
    check(len(reasons) == 8 and "no token" in reasons["model.layers.1.mlp.down_proj.weight"] and "no sums" in reasons[f"{layer}self_attn.o_proj.weight"], "the rest is told", reasons)


def test_experts_and_conv1d(work):
    model_of("MixtralForCausalLM", transformers.MixtralConfig(**EXPERTS)).save_pretrained(work / "mixtral")
    model_of("GptOssForCausalLM", transformers.GptOssConfig(**EXPERTS, head_dim=16)).save_pretrained(work / "gpt-oss")
    model_of("GPT2LMHeadModel", transformers.GPT2Config(vocab_size=128, n_embd=64, n_layer=1, n_head=4, n_positions=32)).save_pretrained(work / "gpt2")
    experts, inner, counts = values(8, 64), values(8, 128), [9, 0, 1, 2, 3, 4, 5, 6]
    path = imatrix(work / "e.gguf", {"blk.0.ffn_gate_exps.weight": (experts, counts), "blk.0.ffn_down_exps.weight": (inner, counts)})
    result = q4.calibration_from_imatrix(path, work / "mixtral", output=work / "mixtral.out")
    file, name = File(work / "mixtral.out"), "model.layers.0.block_sparse_moe.experts.{}.{}.weight".format
    check(len(result.weights) == 21 and name(1, "w1") not in file.weights and file.weights[name(3, "w3")] == name(3, "w1"), "an expert each", file.weights)
    check(torch.allclose(file[name(4, "w2")][1], torch.tensor(inner[4] / 3), rtol=1e-6), "sums of an expert")
    q4.calibration_from_imatrix(path, work / "gpt-oss", output=work / "gpt-oss.out")
    file = File(work / "gpt-oss.out")
    counted, moments, _ = file["model.layers.0.mlp.experts.gate_up_proj"]
    check(set(file.transposed) == {f"model.layers.0.mlp.experts.{each}" for each in ("gate_up_proj", "down_proj")}, "a stack as (in, out)", file.transposed)
    check(counted.tolist() == counts and not moments[1].any() and torch.allclose(moments[7], torch.tensor(experts[7] / 6), rtol=1e-6), "a stack's sums")
    model_of("GraniteMoeForCausalLM", transformers.GraniteMoeConfig(**EXPERTS)).save_pretrained(work / "granite")
    q4.calibration_from_imatrix(path, work / "granite", output=work / "granite.out")
    names = {f"model.layers.0.block_sparse_moe.{each}_linear.weight" for each in ("input", "output")}
    check(set(File(work / "granite.out").weights) == names, "stacks under other names", File(work / "granite.out").weights)
    path = imatrix(work / "g.gguf", {"blk.0.attn_qkv.weight": (values(1, 64), [36]), "blk.0.attn_output.weight": (values(1, 64), [36])})
    q4.calibration_from_imatrix(path, work / "gpt2", output=work / "gpt2.out")
    check(set(File(work / "gpt2.out").transposed) == {"transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_proj.weight"}, "a square Conv1D too")


def test_hostile(work):
    llama().save_pretrained(work / "llama")
    attention, down = values(1, 64), values(1, 128)
    path = imatrix(work / "i.gguf", {"blk.0.ffn_down.weight": (down, [36])})
    good = {"blk.0.ffn_down.weight": (down, [36])}
    nan = down.copy()
    nan[0, 3] = float("nan")
    hostile = {
        "NaN": lambda at: imatrix(at, {"blk.0.ffn_down.weight": (nan, [36])}),
        "a negative sum": lambda at: imatrix(at, {"blk.0.ffn_down.weight": (-down, [36])}),
        "a negative count": lambda at: imatrix(at, {"blk.0.ffn_down.weight": (down, [-1])}),
        "no counts": lambda at: imatrix(at, {"blk.0.ffn_down.weight": (down, None)}),
        "counts of other sizes": lambda at: imatrix(at, {"blk.0.ffn_down.weight": (down, [1, 2, 3])}),
        "float64": lambda at: imatrix(at, good, dtype="float64"),
        "no sums": lambda at: imatrix(at, {}),
        "another model's": lambda at: imatrix(at, {"blk.7.ffn_down.weight": (down, [36])}),
        "other sizes": lambda at: imatrix(at, {"blk.0.ffn_down.weight": (attention, [36])}),
        "a model": lambda at: imatrix(at, good, kind="model"),
        "cut off": lambda at: at.write_bytes(path.read_bytes()[:200]),
    }
    octets = path.read_bytes()
    members = octets.index(b"imatrix.chunk_count") - 8
    array = struct.pack("<Q3sIIQ", 3, b"any", 9, 0, 1 << 60)  # an array of 2^60 bytes
    for what, content in (
        ("an endless array", octets[:16] + struct.pack("<Q", 4) + octets[24:members] + array + octets[members:]),
        ("an endless text", octets[:members] + struct.pack("<Q", 1 << 62) + octets[members + 8 :]),
        ("endless tensors", octets[:8] + struct.pack("<Q", 1 << 60) + octets[16:]),
        ("a tensor beyond the end", octets[:-64]),
    ):
        hostile[what] = lambda at, content=content: at.write_bytes(content)
    for what, make in hostile.items():
        make(work / "bad.gguf")
        error = raises(q4.FormatError, lambda: q4.calibration_from_imatrix(work / "bad.gguf", work / "llama", output=work / "bad"), what)
        check("bad.gguf" in str(error) and not (work / "bad").exists() and not (work / "bad.partial").exists(), f"{what}: nothing is left", error)
    (work / "old.dat").write_bytes(b"\x05\0\0\0")
    (work / "new.gguf").write_bytes(octets[:4] + struct.pack(">I", 3) + octets[8:])
    raises(q4.UnsupportedError, lambda: q4.calibration_from_imatrix(work / "new.gguf", work / "llama", output=work / "bad"), "big-endian")
    error = raises(q4.UnsupportedError, lambda: q4.calibration_from_imatrix(work / "old.dat", work / "llama", output=work / "bad"), "the older format")
    check("--in-file" in str(error), "the way out", error)
    raises(q4.InputError, lambda: q4.calibration_from_imatrix(work / "none.gguf", work / "llama", output=work / "bad"), "no such file")


def main():
    torch.set_num_threads(1)
    for test in (test_names, test_experts_and_conv1d, test_hostile):
        with tempfile.TemporaryDirectory(prefix="q4-imatrix-") as work:
            test(pathlib.Path(work))
    print(f"python_imatrix: {count()} checks")


main()
