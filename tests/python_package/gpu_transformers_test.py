"""q4.transformers on GPUs: models equal to from_pretrained of the exported directory there, experts in 4 bits, several GPUs, processes of
torchrun, damage. What needs a second GPU says so where there is one only; everything is skipped where there is none."""

import gc
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import warnings

from package_setup import check, count, raises

for package in ("torch", "transformers", "accelerate", "bitsandbytes"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_gpu_transformers (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

warnings.simplefilter("ignore")  # theirs
import torch  # noqa: E402
import transformers  # noqa: E402

import q4  # noqa: E402
import q4.transformers  # noqa: E402

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
LLAMA = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4, vocab_size=512, eos_token_id=None)
MIXTRAL = LLAMA | dict(num_hidden_layers=2, num_local_experts=8, num_experts_per_tok=2)
# Each process of torchrun loads without a word of where, and the outputs of all are compared over NCCL.
RANK = """
import sys, torch, torch.distributed as dist
import q4.transformers
dist.init_process_group("nccl")
model = q4.transformers.load(sys.argv[1])
place = torch.device("cuda", dist.get_rank())
assert {parameter.device for parameter in model.parameters()} == {place}, model.device
with torch.no_grad():
    logits = model(torch.arange(5, 13, device=place)[None]).logits
seen = [torch.empty_like(logits) for _ in range(dist.get_world_size())]
dist.all_gather(seen, logits)
assert all(torch.equal(one, logits) for one in seen)
dist.destroy_process_group()
print("equal", flush=True)
"""


def made(model_class, config, folder):
    torch.manual_seed(0)
    model_class(model_class.config_class(**config)).bfloat16().save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(IDS.to(model.get_input_embeddings().weight.device), use_cache=False).logits.cpu()


def test_equal(work):
    source = made(transformers.LlamaForCausalLM, LLAMA, work / "llama")
    for kind in ("nf4", "fp4"):
        for nested in (True, False):
            name = f"{kind}-{nested}"
            path = q4.convert(source, work / f"{name}.q4", type=kind, double_quant=nested).path
            q4.export(path, work / name, to="bnb")
            ours = q4.transformers.load(path)
            theirs = transformers.AutoModelForCausalLM.from_pretrained(work / name, device_map="cuda:0")
            check(ours.device == theirs.device == torch.device("cuda", 0), "where it goes without a word", ours.device)
            mine, other = ours.state_dict(), theirs.state_dict()
            check(mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine), f"{name}: every tensor")
            check(torch.equal(logits(ours), logits(theirs)), f"{name}: logits")
            tokens = [model.generate(IDS.cuda(), max_new_tokens=16, do_sample=False) for model in (ours, theirs)]
            check(torch.equal(*tokens), f"{name}: generated tokens")
            ours.save_pretrained(work / f"{name}-saved")
            check((work / f"{name}-saved/model.safetensors").read_bytes() == (work / name / "model.safetensors").read_bytes(), f"{name}: saved from a GPU")
    return work / "nf4-True.q4"


def test_experts(work):
    source = made(transformers.MixtralForCausalLM, MIXTRAL, work / "mixtral")
    path = q4.convert(source, work / "mixtral.q4").path
    torch.cuda.empty_cache()
    begin = torch.cuda.memory_allocated()
    ours = q4.transformers.load(path)
    in_4bit = torch.cuda.memory_allocated() - begin
    reference = q4.transformers.load(path, experts="dequantize")
    reference.set_experts_implementation("eager")
    in_16bit = torch.cuda.memory_allocated() - begin - in_4bit
    check(torch.equal(logits(ours), logits(reference)), "experts: logits")
    check(in_4bit < 0.45 * in_16bit, "experts: memory of the whole model", in_4bit, in_16bit)


def test_damage(path, work):
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    (work / "damaged.q4").write_bytes(octets)
    (work / "truncated.q4").write_bytes(path.read_bytes()[:-7])
    gc.collect()
    begin = torch.cuda.memory_allocated()
    raises(q4.DamagedError, lambda: q4.transformers.load(work / "damaged.q4"), "a flipped bit")
    raises(q4.DamagedError, lambda: q4.transformers.load(path, root="sha256:" + "0" * 64), "another root")
    raises(q4.DamagedError, lambda: q4.transformers.load(work / "truncated.q4"), "a file cut short")
    gc.collect()  # a traceback holds the frames, and they the tensors
    check(torch.cuda.memory_allocated() == begin, "memory of the GPU after errors", torch.cuda.memory_allocated() - begin)


def test_calibrate(work):
    """A GPU's sums are the cores' within rounding, in one pass or in several."""
    from calibrations import EXPERTS, llama, model_of
    from safetensors.torch import load_file

    model, ids = llama().eval(), [torch.arange(begin, begin + 16) for begin in range(0, 112, 16)]
    cores = q4.calibrate(model, ids, output=work / "cores.safetensors")
    gpu = q4.calibrate(model.cuda(), ids, output=work / "gpu.safetensors")
    passes = q4.calibrate(model, ids, output=work / "passes.safetensors", memory_limit=20 * 128 * 128)
    check((work / "passes.safetensors").read_bytes() == (work / "gpu.safetensors").read_bytes() and passes.passes > gpu.passes, "calibrate: passes")
    one, other = load_file(work / "cores.safetensors"), load_file(work / "gpu.safetensors")
    check(one.keys() == other.keys() and all(torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-5) for name in one), "calibrate: sums")
    experts = model_of("MixtralForCausalLM", transformers.MixtralConfig(**EXPERTS)).cuda().eval()
    found = q4.calibrate(experts, ids, output=work / "experts.safetensors")
    reached = [each.counts[0] for name, each in found.inputs.items() if ".layers.0." in name and name.endswith("w1.weight")]
    check(sum(reached) == 2 * 112, "calibrate: each token reaches two experts", reached)


def test_several(path):
    one = logits(q4.transformers.load(path, device_map="cuda:0"))
    for device_map in ("auto", "balanced"):
        spread = q4.transformers.load(path, device_map=device_map)
        check(torch.equal(logits(spread), one), f"device_map={device_map}: logits")
    layers = {f"model.layers.{index}": index % torch.cuda.device_count() for index in range(LLAMA["num_hidden_layers"])}
    by_hand = {"model.embed_tokens": 0, "model.norm": 1, "model.rotary_emb": 0, "lm_head": 1} | layers
    spread = q4.transformers.load(path, device_map=by_hand)
    check({parameter.device.index for parameter in spread.parameters()} == set(by_hand.values()), "each GPU has its part")
    check(torch.equal(logits(spread), one), "a map by hand: logits")


def test_torchrun(path, work):
    (work / "rank.py").write_text(RANK)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(torch.cuda.device_count()), work / "rank.py", path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    check(done.returncode == 0 and done.stdout.count("equal") == torch.cuda.device_count(), "torchrun", done.stdout, done.stderr[-2000:])


def main():
    if not torch.cuda.is_available() or q4.build_info().no_gpu_reason:
        print(f"SKIP python_gpu_transformers: {q4.build_info().no_gpu_reason or 'torch sees no GPU'}")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="q4-python-gpu-") as work:
        work = pathlib.Path(work)
        path = test_equal(work)
        test_experts(work)
        test_calibrate(work)
        test_damage(path, work)
        test_torchrun(path, work)
        several = torch.cuda.device_count() > 1
        if several:
            test_several(path)
    print(f"python_gpu_transformers: {count()} checks on {torch.cuda.get_device_name(0)}, {torch.cuda.device_count()} GPUs{'' if several else ': what needs two was not tried'}")


main()
