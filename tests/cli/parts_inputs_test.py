#!/usr/bin/env python3
"""Parts of every kind of input give the bytes of one run: PyTorch, GGUF, FP8 with borrowed scales, weights in 4 bits that are taken over or
quantized again, containers, a component of a pipeline; over http, from the hub and from buckets, also killed and changed. What does not go
in parts is refused by a message that says what does.

    parts_inputs_test.py TOOLS
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent / "support")]
import checks  # noqa: E402
import safetensors_bytes as st  # noqa: E402
import torch_bytes  # noqa: E402
from checks import check  # noqa: E402
from gguf_bytes import gguf  # noqa: E402
from model_server import Bucket, Fault, Hub, Server  # noqa: E402
from parts_test import FP8, LLAMA, Bench, borrowed_files, check_equal, noise, plain_files, shards, tree, write_model  # noqa: E402

PLANS = [[(1, 2), (0, 2)], [(2, 3), (0, 3), (1, 3), (0, 2)]]
ROWS, COLUMNS = 48, 64
LAYER = "model.layers.{}.mlp.up_proj.weight"


def numbers(seed):
    return [random.Random(seed + i).gauss(0, 0.05) for i in range(ROWS * COLUMNS)]


def proved(bench, model, what, *options):
    """What the last parts made is verified against the source, whole and in parts."""
    output = bench.work / "parts" / "m.q4.index.json"
    for part in ((), ("--part", "0/2"), ("--part", "1/2")):
        done = subprocess.run([bench.tools / "q4verify", output, "--against", model, *options, *part, "-q"], capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"{what}: proved against the source {part}", done.returncode, done.stderr[-1500:])


def torch_model(folder):
    """Three files of torch.save; one stores its matrix transposed, one shares a storage between two tensors."""
    folder.mkdir()
    places = {}
    for i in range(3):
        data = struct.pack(f"<{ROWS * COLUMNS}f", *numbers(i))
        strides = (1, ROWS) if i == 1 else None
        items = [(LAYER.format(i), torch_bytes.tensor((ROWS, COLUMNS), strides=strides, elements=ROWS * COLUMNS))]
        if i == 2:
            items.append(("model.norm.weight", torch_bytes.tensor((COLUMNS,), offset=COLUMNS, elements=ROWS * COLUMNS)))
        file = f"pytorch_model-{i + 1:05}-of-00003.bin"
        (folder / file).write_bytes(torch_bytes.checkpoint(torch_bytes.state(*items), [data]))
        places |= {name: file for name, _ in items}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return folder


def gguf_model(folder):
    folder.mkdir()
    names = [f"blk.{i}.ffn_up.weight" for i in range(4)]
    for i in range(3):
        named = {name: (ROWS, COLUMNS, numbers(n)) for n, name in enumerate(names) if n % 3 == i}
        (folder / f"llama-{i + 1:05}-of-00003.gguf").write_bytes(gguf(named, split=(i, 3, len(names))))
    return folder


def nvfp4_model(folder):
    """Codes and scales of NVIDIA's four bits, each tensor's scales in the next file."""
    rng, files = random.Random(5), [{}, {}, {}]
    for layer in range(3):
        name = f"model.layers.{layer}.mlp.up_proj"
        files[layer][f"{name}.weight"] = ("U8", (ROWS, COLUMNS // 2), rng.randbytes(ROWS * COLUMNS // 2))
        files[(layer + 1) % 3][f"{name}.weight_scale"] = ("F8_E4M3", (ROWS, COLUMNS // 16), noise(rng, ROWS * COLUMNS // 16, "F8_E4M3"))
        files[(layer + 1) % 3][f"{name}.weight_scale_2"] = ("F32", (), st.floats(0.01))
        files[layer][f"{name}.input_scale"] = ("F32", (), st.floats(0.5))
    config = LLAMA | {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4", "producer": {"name": "modelopt"}}}
    return write_model(folder, files, config)


def local_inputs(bench):
    for name, lay in (("torch", torch_model), ("gguf", gguf_model)):
        model = lay(bench.work / name)
        source = model / "llama-00001-of-00003.gguf" if name == "gguf" else model
        expected = check_equal(bench, source, (), PLANS, name)
        check(len(shards(expected)) == 3, f"{name}: a shard of each file", sorted(expected))
        proved(bench, source, name)
    fp8 = write_model(bench.work / "fp8", borrowed_files(2), FP8)
    check_equal(bench, fp8, ("--shard-size", "40KB"), PLANS, "FP8, shards of several files")
    proved(bench, fp8, "FP8")
    nvfp4 = nvfp4_model(bench.work / "nvfp4")
    check("--from-quantized" in bench.run(nvfp4, "-o", bench.place("parts"), "--part", "0/2", code=5).stderr, "4 bits need leave, in parts too")
    check_equal(bench, nvfp4, ("--from-quantized",), PLANS, "NVFP4 quantized again")
    proved(bench, nvfp4, "NVFP4")


def made_by_q4(bench):
    """What bitsandbytes saves, taken over with its codes; containers as sources."""
    plain = write_model(bench.work / "plain", plain_files(1))
    bench.run(plain, "-o", bench.work / "one.q4")
    subprocess.run([bench.tools / "q4export", bench.work / "one.q4", "--to", "bnb", "-o", bench.work / "bnb", "--shard-size", "5KB", "-q"], check=True)
    files = len(list((bench.work / "bnb").glob("*.safetensors")))
    check(files >= 3, "an export in several files", files)
    expected = check_equal(bench, bench.work / "bnb", (), PLANS, "taken over")
    check(len(shards(expected)) == files, "a shard of each file", sorted(expected))
    proved(bench, bench.work / "bnb", "taken over")
    # A container in shards is a source in several files; alone it is one.
    (bench.work / "container").mkdir()
    bench.run(plain, "-o", bench.work / "container" / "c.q4", "--shard-by", "source")
    index = bench.work / "container" / "c.q4.index.json"
    options = ("--from-quantized", "--type", "fp4")
    expected = check_equal(bench, index, options, PLANS, "a container in shards, quantized again")
    check(len(shards(expected)) == 6, "a shard of each of its shards", sorted(expected))
    proved(bench, index, "quantized again")
    check_equal(bench, bench.work / "one.q4", options, [[(1, 2), (0, 2)]], "a container of one file")
    done = bench.run(index, "-o", bench.place("parts"), "--part", "0/2", code=1)
    check("Q4-1756" in done.stderr and "it is one run" in done.stderr, "packing anew is no conversion in parts", done.stderr)


def pipelines(bench):
    """A pipeline as a whole is not converted in parts, and its components are."""
    pipe = bench.work / "pipe"
    pipe.mkdir()
    config = {"_class_name": "FluxTransformer2DModel"}
    write_model(pipe / "transformer", plain_files(3), config)
    for path in (pipe / "transformer").iterdir():
        if path.name.startswith("model"):
            path.rename(path.with_name(path.name.replace("model", "diffusion_pytorch_model", 1)))
    index = pipe / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(index.read_text().replace('"model-', '"diffusion_pytorch_model-'))
    (pipe / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1",
                                                       "transformer": ["diffusers", "FluxTransformer2DModel"]}))
    done = bench.run(pipe, "-o", bench.place("parts"), "--part", "0/2", code=1)
    check("Q4-1826" in done.stderr and "FOLDER_OF_THE_COMPONENT --part" in done.stderr, "refused, with the way to do it", done.stderr)
    check(not tree(bench.work / "parts"), "nothing was written")
    check_equal(bench, pipe / "transformer", (), PLANS, "a component")
    bench.run(pipe, "-o", bench.work / "pipe_q4")
    done = subprocess.run([bench.tools / "q4verify", bench.work / "pipe_q4", "--part", "0/2"], capture_output=True, text=True, check=False)
    check(done.returncode == 1 and "verify its containers in parts" in done.stderr, "nor verified in parts", done.stderr)


def over_the_network(bench):
    """Parts that read from servers give the bytes of one local run; one that is killed, and a file that changes between parts."""
    model = bench.work / "plain"
    expected = bench.one_run(model)
    files = {path.name: path.read_bytes() for path in model.iterdir()}

    def in_parts(url, what, **environment):
        output = bench.place("parts")
        for part in ("1/3", "0/2", "1/2"):
            bench.run(url, "-o", output, "--part", part, "-q", environment=environment)
        bench.join("--merge", output, "-q")
        got = tree(output.parent)
        check(got == expected, f"{what}: the bytes of one local run", sorted(set(got) ^ set(expected)))

    with Server().add_folder(model, "/m") as server:
        in_parts(server.origin + "/m", "http")
        proved(bench, server.origin + "/m", "http")
    with Hub({"org/model": files}) as server:
        in_parts("hf://org/model", "the hub", HF_ENDPOINT=server.origin)
        in_parts(f"hf://org/model@{Hub.COMMIT}", "a commit of the hub", HF_ENDPOINT=server.origin)
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "swordfish", "AWS_REGION": "eu-central-1"}
    with Bucket("models", {f"m/{name}": data for name, data in files.items()}) as server:
        in_parts("s3://models/m", "a bucket", **keys, AWS_ENDPOINT_URL=server.origin)
    with Server().add_folder(model) as server:
        # Killed while it waits for a file: what is finished stays, and the next attempt asks for the rest only.
        output = bench.place("parts")
        name = "model-00003-of-00006.safetensors"
        server.faults = [Fault("stall", name, seconds=4, after=1)]
        process = subprocess.Popen(bench.command(server.origin, "-o", output, "--part", "0/1", "-q", "--threads", "1"), cwd=bench.work)
        shard = output.parent / "m-00001-of-00006.q4"
        while process.poll() is None and not (shard.exists() and server.faults[0].hits):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        check(process.wait() == -signal.SIGKILL, "killed at work", process.returncode)
        server.faults = []
        before = len(server.requests("model-00001-of-00006.safetensors"))
        done = json.loads(bench.run(server.origin, "-o", output, "--part", "0/1", "--json").stdout)
        outcomes = [shard["outcome"] for shard in done["shards"]]
        check(outcomes[0] == "finished" and "written" in outcomes, "gone on with", outcomes)
        check(len(server.requests("model-00001-of-00006.safetensors")) - before < 6, "what is finished is looked at, and not read")
        bench.join("--merge", output, "-q")
        check(tree(output.parent) == expected, "killed on the way: the bytes of one local run")
        # A file that becomes another one of the same size while parts run.
        output = bench.place("parts")
        bench.run(server.origin, "-o", output, "--part", "0/2", "-q")
        changed = bytearray(files["model-00001-of-00006.safetensors"])
        changed[-10] ^= 1
        server.files["/model-00001-of-00006.safetensors"] = bytes(changed)
        bench.run(server.origin, "-o", output, "--part", "1/2", "-q")
        check("Q4-6311" in bench.join("--merge", output, code=6).stderr, "parts of two sources are no model")
        done = json.loads(bench.run(server.origin, "-o", output, "--part", "0/2", "--json").stdout)
        check(done["shards"][0]["outcome"] == "replaced", "converted again", done["shards"])
        bench.join("--merge", output, "-q")
        shutil.copytree(model, bench.work / "changed")
        (bench.work / "changed" / "model-00001-of-00006.safetensors").write_bytes(changed)
        check(tree(output.parent) == bench.one_run(bench.work / "changed"), "of the source as it is now")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.libraries, arguments.sanitized = [], False
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, pathlib.Path(folder))
        for step in (local_inputs, made_by_q4, pipelines, over_the_network):
            step(bench)
    print(f"parts_inputs: {checks.count()} checks")


if __name__ == "__main__":
    main()
