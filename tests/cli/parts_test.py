#!/usr/bin/env python3
"""One conversion as many processes: --shard-by source, --part, --part-from-env, --merge, --status (docs/scale_out.md).

    parts_test.py TOOLS [FAULT_SHIM_SO KILL_AT_SO] [--sanitized]

The heart is equality: any subset of parts, in any order, repeated, of several N, killed at any call that changes the disk, and twice at a
time, gives the bytes of one run and leaves nothing else. Inputs of all kinds whose tensors may lie in several files; every encoder.
q4verify in parts, too. Then what is refused: missing parts, another conversion, a fine-tune of equal shape, a gate, a model that is complete.
"""

import argparse
import errno
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent / "support")]
import adapter_test  # noqa: E402
import checks  # noqa: E402
import safetensors_bytes as st  # noqa: E402
import sanitizers  # noqa: E402
from calibration_bytes import calibration_file  # noqa: E402
from checks import check  # noqa: E402
from forger import Forged  # noqa: E402

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
FP8 = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
       "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}}


def noise(rng, size, dtype="BF16"):
    """Finite elements of no pattern."""
    if dtype == "F8_E4M3":
        return bytes(rng.choice((0x20, 0x31, 0x38, 0xB5, 0x0C)) for _ in range(size))
    return st.floats(*[rng.gauss(0, 0.05) for _ in range(size)], dtype=dtype)


def write_model(folder, files, config=LLAMA):
    """`files`: a list of {name: (dtype, shape, payload)}."""
    folder.mkdir()
    names, width = {}, len(files)
    for number, named in enumerate(files, 1):
        file = "model.safetensors" if width == 1 else f"model-{number:05}-of-{width:05}.safetensors"
        (folder / file).write_bytes(st.tensor_file(named, {"format": "pt"}))
        names |= {name: file for name in named}
    if width > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"model": "made up"}')
    return folder


def plain_files(seed, sizes=(3, 1, 2, 5, 1, 2)):
    """Layers of equal names and shapes whatever the seed; files of several sizes."""
    rng, layer, files = random.Random(seed), 0, []
    for size in sizes:
        named = {}
        for _ in range(size):
            named[f"model.layers.{layer}.mlp.up_proj.weight"] = ("BF16", (48, 64), noise(rng, 48 * 64))
            named[f"model.layers.{layer}.input_layernorm.weight"] = ("BF16", (64,), noise(rng, 64))
            layer += 1
        files.append(named)
    return files


def borrowed_files(seed):
    """FP8 weights whose scales lie in the file behind, or before."""
    rng, files = random.Random(seed), [{}, {}, {}, {}]
    for layer in range(4):
        name = f"model.layers.{layer}.self_attn.o_proj.weight"
        files[layer][name] = ("F8_E4M3", (128, 256), noise(rng, 128 * 256, "F8_E4M3"))
        files[(layer + 1) % 4][f"{name}_scale_inv"] = ("F32", (1, 2), st.floats(0.01, 0.02))
        files[layer][f"model.layers.{layer}.input_layernorm.weight"] = ("BF16", (64,), noise(rng, 64))
    return files


def expert_files(seed):
    """Stacks of experts, and fused halves in two files."""
    rng, files = random.Random(seed), [{}, {}, {}]
    for layer in range(3):
        at = f"model.layers.{layer}.mlp"
        files[layer][f"{at}.experts.gate_up_proj"] = ("BF16", (4, 32, 64), noise(rng, 4 * 32 * 64))
        files[layer][f"{at}.gate_proj.weight"] = ("BF16", (32, 64), noise(rng, 32 * 64))
        files[(layer + 1) % 3][f"{at}.up_proj.weight"] = ("BF16", (32, 64), noise(rng, 32 * 64))
    return files


class Bench:
    def __init__(self, arguments, work):
        self.tools, self.work, self.sanitized = arguments.tools.resolve(), work, arguments.sanitized
        self.preload = ":".join(str(path) for path in arguments.libraries)
        self.rng = random.Random(18)

    def command(self, *words):
        return [str(self.tools / "q4convert"), *map(str, words), "--progress", "none"]

    def run(self, *words, code=0, environment=None):
        done = subprocess.run(self.command(*words), cwd=self.work, capture_output=True, text=True,
                              env={**os.environ, **(environment or {})}, check=False)
        check(done.returncode == code, f"{words} ends with {code}", done.returncode, done.stdout[-500:], done.stderr[-1500:])
        return done

    def join(self, *words, code=0):
        done = subprocess.run([self.tools / "q4convert", *map(str, words)], cwd=self.work, capture_output=True, text=True, check=False)
        check(done.returncode == code, f"{words} ends with {code}", done.returncode, done.stdout[-500:], done.stderr[-1500:])
        return done

    def place(self, name):
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder / "m.q4"

    def one_run(self, model, *options):
        output = self.place("whole")
        self.run(model, "-o", output, "--shard-by", "source", *options)
        return tree(output.parent)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def shards(files):
    return sorted(name for name in files if name.endswith(".q4"))


# ---- the same bytes

def check_equal(bench, model, options, plans, what):
    """`plans`: lists of parts (I, N), in the order in which they are run."""
    expected = bench.one_run(model, *options)
    for number, plan in enumerate(plans):
        output = bench.place("parts")
        for index, count in plan:
            bench.run(model, "-o", output, "--part", f"{index}/{count}", *options, "-q")
        bench.join("--merge", output, "-q")
        got = tree(output.parent)
        check(got == expected, f"{what}, plan {number}: the bytes of one run and nothing else", sorted(got), sorted(expected),
              [name for name in expected if got.get(name) != expected[name]])
    return expected


def inputs(bench):
    plain = write_model(bench.work / "plain", plain_files(1))
    shuffled = [(i, 4) for i in range(4)]
    bench.rng.shuffle(shuffled)
    plans = [shuffled, [(2, 3), (0, 1)], [(0, 2), (0, 2), (4, 5), (3, 5), (2, 5), (1, 2), (1, 2)], [(i, 9) for i in range(9)]]
    expected = check_equal(bench, plain, (), plans, "each file a shard")
    check(len(shards(expected)) == 6 and "m.q4.index.json" in expected, "six files, six shards", sorted(expected))
    expected = check_equal(bench, plain, ("--shard-size", "20KB"), plans[:3], "runs of files")
    check(2 <= len(shards(expected)) < 6, "files share shards", sorted(expected))
    listed = sorted(file["name"] for name in shards(expected) for file in provenance(expected[name])["source"]["files"])
    check(len(listed) == len(set(listed)) == 6, "a shard lists its own files", listed)
    plans_of = {provenance(expected[name])["plan"] for name in shards(expected)}
    check(len(plans_of) == 1 and len(plans_of.pop()) == 64, "one plan")
    options = {provenance(expected[name])["options"]["shard_by"] for name in shards(expected)}
    check(options == {"source"}, "how shards were cut is on record", options)
    bench.run(plain, "-o", bench.place("sized"), "--shard-size", "20KB")
    check("shard_by" not in provenance(next(iter(tree(bench.work / "sized").values())))["options"], "only where it was asked for")
    for model, name in ((write_model(bench.work / "borrowed", borrowed_files(2), FP8), "borrowed scales"),
                        (write_model(bench.work / "experts", expert_files(3)), "experts"),
                        (write_model(bench.work / "lone", plain_files(4, (2,))), "a lone file")):
        check_equal(bench, model, (), [[(1, 2), (0, 2)], [(0, 1)], [(2, 3), (0, 3), (1, 3), (1, 2)]], name)
        verify = [bench.tools / "q4verify", bench.work / "parts" / ("m.q4" if name == "a lone file" else "m.q4.index.json"),
                  "--against", model, "-q"]
        check(subprocess.run(verify, check=False).returncode == 0, f"{name}: proved against the source")
    calibration = bench.work / "calibration.safetensors"
    calibration.write_bytes(calibration_file({"model.layers.0.mlp.up_proj.weight": [0.5 + 0.01 * i for i in range(64)]}))
    two = [[(1, 2), (0, 2)]]
    for options in (("--encoder", "mse", "--effort", "1"), ("--encoder", "weighted", "--calibration", calibration), ("--compress", "zstd"),
                    ("--source-digest", "xxh3"), ("--keep-dtype", "fp32", "--no-double-quant"),
                    ("--include", "layers", "--exclude", "layers.3", "--type", "fp4", "--threads", "1")):
        check_equal(bench, plain, options, two, " ".join(map(str, options[:2])))
    feedback = bench.work / "hessian.safetensors"
    feedback.write_bytes(hessian_of("model.layers.0.mlp.up_proj.weight", 64))
    check_equal(bench, plain, ("--encoder", "feedback", "--calibration", feedback), two, "feedback")


def hessian_of(name, size):
    """A calibration with a Hessian of one weight: its diagonal, and a little beside it."""
    second = [1.0 + 0.01 * i for i in range(size)]
    rows = [[second[i] if i == j else 0.01 if abs(i - j) == 1 else 0.0 for j in range(size)] for i in range(size)]
    named = {f"{name}.second_moments": ("F32", (size,), st.floats(*second)), f"{name}.count": ("I64", (1,), (1000).to_bytes(8, "little")),
             f"{name}.hessian": ("F32", (size, size), b"".join(st.floats(*row) for row in rows))}
    return st.tensor_file(named, {"q4_calibration": "1", "weights": json.dumps({name: name})})


def provenance(container):
    """The document of a container, which is the one JSON text with a "tool" in it."""
    end = container.rindex(b'"tool":{"name":"q4convert"')
    text = container[:container.index(b"}}", end) + 2]
    for start in reversed([at for at in range(len(text)) if text.startswith(b'{"', at)]):
        try:
            document = json.loads(text[start:])
        except ValueError:
            continue
        if "numerics" in document:
            return document
    raise AssertionError("no provenance")


# ---- killed, and twice at a time

def killed(bench, model):
    """Killed at one call that changes the disk after the other; the next attempt, or the one after it, completes it."""
    expected = bench.one_run(model)
    count_file = bench.work / "calls"
    output = bench.place("parts")
    environment = {**sanitizers.ENVIRONMENT, "LD_PRELOAD": bench.preload}
    bench.run(model, "-o", output, "--part", "0/2", environment={**environment, "Q4_KILL_COUNT": str(count_file)})
    calls = int(count_file.read_text())
    check(calls > 12, "calls are counted", calls)
    for at in range(1, calls + 1, 7 if bench.sanitized else 2):
        output = bench.place("parts")
        bench.run(model, "-o", output, "--part", "0/2", environment={**environment, "Q4_KILL_AT": str(at)}, code=-signal.SIGKILL)
        bench.run(model, "-o", output, "--part", "1/2")
        check(not (output.parent / "m.q4.index.json").exists(), "no model before the merge")
        for name in shards(tree(output.parent)):
            check(name.startswith(".") or tree(output.parent)[name] == expected[name], "a shard is there whole or not at all", name)
        done = bench.run(model, "-o", output, "--part", "0/2")
        check("wrote" in done.stdout or "there" in done.stdout, "the part is completed", done.stdout)
        bench.join("--merge", output)
        got = tree(output.parent)
        check(got == expected, f"killed at call {at}: the bytes of one run, and nothing left", sorted(set(got) ^ set(expected)))
    # The merge itself.
    for at in range(1, 40, 5 if bench.sanitized else 1):
        output = bench.place("parts")
        for part in ("0/2", "1/2"):
            bench.run(model, "-o", output, "--part", part)
        done = subprocess.run([bench.tools / "q4convert", "--merge", output], env={**os.environ, **environment, "Q4_KILL_AT": str(at)},
                              capture_output=True, check=False)
        bench.join("--merge", output)
        got = {name: data for name, data in tree(output.parent).items()}
        check({name: got.get(name) for name in expected} == expected, f"a merge killed at call {at}: the model", sorted(got))
        left = [name for name in got if name not in expected]
        check(all(name.startswith("m.q4.parts/") or name.startswith(".m.q4.index.json.") for name in left), "nothing foreign", left)
        if done.returncode == 0:
            check(at > 4 and not left, "an undisturbed merge", at, left)
            break
    else:
        check(False, "a merge comes to its end")


def at_once(bench, model):
    """Two attempts of every part at a time, some killed; what survives is right, and nothing else is there."""
    expected = bench.one_run(model, "--encoder", "mse")
    for round_number in range(2 if bench.sanitized else 5):
        output = bench.place("parts")
        running = [subprocess.Popen(bench.command(model, "-o", output, "--part", f"{index}/3", "--encoder", "mse", "-q", "--threads", "1"))
                   for index in (0, 1, 2, 1, 0)]
        time.sleep(bench.rng.random() * 0.15)
        for victim in bench.rng.sample(running, 2):
            victim.send_signal(bench.rng.choice((signal.SIGKILL, signal.SIGTERM)))
        codes = [process.wait() for process in running]
        check(set(codes) <= {0, 7, -signal.SIGKILL, -signal.SIGTERM}, "none fails for another", codes)
        again = [subprocess.Popen(bench.command(model, "-o", output, "--part", f"{index}/2", "--encoder", "mse", "-q", "--threads", "1"))
                 for index in (0, 1, 1)]
        check([process.wait() for process in again] == [0, 0, 0], "the next attempts complete it")
        merges = [subprocess.Popen([bench.tools / "q4convert", "--merge", output, "-q"]) for _ in range(2)]
        check([process.wait() for process in merges] == [0, 0], f"two merges at a time, round {round_number}")
        got = tree(output.parent)
        check(got == expected, "two attempts at a time: the bytes of one run", sorted(set(got) ^ set(expected)))


def poor_file_systems(bench, model):
    """No locks; no RENAME_NOREPLACE; no hard links: as network file systems and buckets are."""
    expected = bench.one_run(model)
    for faults in (f"flock:1:{errno.ENOSYS}", f"flock:1:{errno.ENOLCK}", f"renameat2:1:{errno.EINVAL},link:1:{errno.EPERM}"):
        output = bench.place("parts")
        for part in ("1/2", "0/2", "0/2"):
            bench.run(model, "-o", output, "--part", part, environment={**sanitizers.ENVIRONMENT, "LD_PRELOAD": bench.preload, "Q4_FAULT": faults})
        bench.join("--merge", output)
        check(tree(output.parent) == expected, f"the same with {faults}")
    # A record that another machine replaces while the merge reads it (ESTALE): opened once more. A server that goes on saying so ends it
    # with 2, and the same command goes on.
    for faults, code in ((f"pread:lost1:{errno.ESTALE}", 0), (f"pread:1:{errno.ESTALE}", 2)):
        output = bench.place("parts")
        bench.run(model, "-o", output, "--part", "0/1", "-q")
        done = subprocess.run([bench.tools / "q4convert", "--merge", output], capture_output=True, text=True, check=False,
                              env={**os.environ, **sanitizers.ENVIRONMENT, "LD_PRELOAD": bench.preload, "Q4_FAULT": faults})
        check(done.returncode == code and ("Q4-2002" in done.stderr) == (code == 2), f"a merge with {faults}", done.returncode, done.stderr)
        bench.join("--merge", output)
        check(tree(output.parent) == expected, f"the model after {faults}")
    # Replies of a server that got lost: what was done counts as done.
    for faults in (f"link:lost1:{errno.EEXIST}", f"renameat2:lost1:{errno.ENOENT}", f"renameplain:lost1:{errno.EIO}"):
        output = bench.place("parts")
        for part in ("0/2", "1/2"):
            bench.run(model, "-o", output, "--part", part, environment={**sanitizers.ENVIRONMENT, "LD_PRELOAD": bench.preload, "Q4_FAULT": faults})
        bench.join("--merge", output)
        check(tree(output.parent) == expected, f"the bytes of one run with {faults}")
    # A sync that fails: nothing gets a name.
    output = bench.place("parts")
    bench.run(model, "-o", output, "--part", "0/2", code=2,
              environment={**sanitizers.ENVIRONMENT, "LD_PRELOAD": bench.preload, "Q4_FAULT": f"fsync:1:{errno.EIO}"})
    check(not tree(output.parent), "a failed sync leaves nothing", sorted(tree(output.parent)))


# ---- what is said and refused

def status(bench, model):
    output = bench.place("parts")
    check("--array=0-3\n" in bench.join("--status", output, "--parts", "4").stdout, "nothing is done: all parts")
    check("give --parts" in bench.join("--status", output).stdout, "N is not known yet")
    done = bench.join("--merge", output, code=6)
    check("Q4-6310" in done.stderr and "no part is done" in done.stderr, "nothing to merge", done.stderr)
    bench.run(model, "-o", output, "--part", "1/4")
    text = bench.join("--status", output).stdout
    check("--array=0,2,3\n" in text and "of 6 done" in text, "what is missing, N from the parts that are done", text)
    document = json.loads(bench.join("--status", output, "--json", "--parts", "6").stdout)
    check(document["done"] == len([n for n in range(1, 7) if n not in document["missing"]]), "counted", document)
    check(document["array"] == ",".join(map(str, document["missing_parts"])) or "-" in document["array"], "as numbers and as text", document)
    done = bench.join("--merge", output, code=6)
    check("Q4-6310" in done.stderr and "--array=0,2,3" in done.stderr, "a merge lists what is missing", done.stderr)
    check(not (output.parent / "m.q4.index.json").exists(), "and makes no list")
    # Exactly the parts that status names complete it.
    for index in document["missing_parts"]:
        bench.run(model, "-o", output, "--part", f"{index}/6")
    check("--merge" in bench.join("--status", output).stdout, "all is there")
    check(json.loads(bench.join("--status", output, "--json").stdout)["missing"] == [], "nothing is missing")
    # A record that is damaged is a shard that is missing; converting it again is cheap to say and right.
    record = output.parent / "m.q4.parts" / "00002"
    record.write_bytes(record.read_bytes()[:-40] + bytes(40))
    done = bench.join("--merge", output, code=6)
    check("Q4-6313" in done.stderr and "Q4-6310" in done.stderr, "a damaged record is named", done.stderr)
    bench.run(model, "-o", output, "--part", "0/1")
    document = json.loads(bench.join("--merge", output, "--json").stdout)
    check(len(document["outputs"]) == 6 and document["index"].endswith("m.q4.index.json"), "the report of the whole", document["outputs"])
    check("complete" in bench.join("--status", output).stdout, "complete")
    check("merged already" in bench.join("--merge", output).stderr, "merging again is no error")


def refusals(bench, model):
    output = bench.place("parts")
    for words, number in ((("--part", "4/4"), 1310), (("--part", "4"), 1310), (("--part", "0/2", "--shard-by", "size"), 1313),
                          (("--part", "0/2", "--gate", "default"), 1313), (("--part", "0/2", "--compare"), 1001), (("--part", "0/2", "--target-bpw", "5"), 1313),
                          (("--parts", "4"), 1315), (("--parts", "4", "--part-from-env"), 1311), (("--part", "0/2", "--merge"), 1001)):
        done = bench.run(model, "-o", output, *words, code=1)
        check(f"Q4-{number}" in done.stderr, f"{words} are refused", done.stderr)
    check("Q4-1314" in bench.join("--merge", output, "-o", "x.q4", code=1).stderr, "--merge has no output")
    check("Q4-1314" in bench.join("--status", output, "--gate", "default", code=1).stderr, "--status judges nothing")
    check(not tree(output.parent), "nothing was written")
    done = bench.run(model, "-o", output, "--parts", "4", "--part-from-env", environment={"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "1"})
    check("part 2 of 4 by SLURM_ARRAY_TASK_ID" in done.stderr and "implies --shard-by source" in done.stderr, "it is said", done.stderr)
    done = bench.run(model, "-o", output, "--part", "7/9")
    check("nothing to do" in done.stdout and "fewer than 9 parts" in done.stderr, "more parts than shards", done.stdout, done.stderr)
    done = bench.run(model, "-o", output, "--part", "1/2", "--dry-run")
    check("part 1 of 2: shards" in done.stderr, "a dry run says which shards", done.stderr)
    # Another plan in the folder.
    bench.run(model, "-o", output, "--part", "0/1")
    done = bench.run(model, "-o", output, "--part", "0/1", "--type", "fp4", code=1)
    check("Q4-1102" in done.stderr, "shards of other options are not replaced", done.stderr)
    bench.run(model, "-o", output, "--part", "0/2", "--type", "fp4", "--force")
    check("Q4-6311" in bench.join("--merge", output, code=6).stderr, "a mixture is no model")
    bench.run(model, "-o", output, "--part", "0/1", "--force")
    # A shard that is not what its record says.
    first = output.parent / "m-00001-of-00006.q4"
    kept = first.read_bytes()
    first.write_bytes((output.parent / "m-00002-of-00006.q4").read_bytes())
    check("Q4-6312" in bench.join("--merge", output, code=6).stderr, "a shard that was exchanged")
    # Not ours: neither replaced nor taken for a shard.
    first.write_bytes(b"somebody's")
    check("Q4-1560" in bench.run(model, "-o", output, "--part", "0/1", code=1).stderr, "a foreign file stays")
    check("Q4-1560" in bench.run(model, "-o", output, "--part", "0/1", "--force", code=1).stderr, "with --force too")
    check(first.read_bytes() == b"somebody's", "it is there still")
    first.write_bytes(kept)
    # A gate that is broken: no list, the parts stay, and another gate may be asked.
    done = bench.join("--merge", output, "--max-nmse", "1e-9", code=6)
    check("nmse" in done.stderr.lower() and not (output.parent / "m.q4.index.json").exists(), "a gate over the whole", done.stderr)
    # Shards that are elsewhere already.
    (bench.work / "bucket").mkdir()
    for name in shards(tree(output.parent)):
        shutil.move(output.parent / name, bench.work / "bucket" / name)
    done = bench.join("--merge", output, "--gate", "default")
    check("not in the folder" in done.stderr, "the merge goes by records alone", done.stderr)
    shutil.move(output.parent / "m.q4.index.json", bench.work / "bucket" / "m.q4.index.json")
    check(tree(bench.work / "bucket") == bench.one_run(model), "together they are the model")
    # A model that is complete.
    output = bench.place("parts")
    bench.run(model, "-o", output, "--part", "0/1")
    bench.join("--merge", output)
    before = tree(output.parent)
    for words in ((), ("--force",)):
        check("Q4-1312" in bench.run(model, "-o", output, "--part", "0/1", *words, code=1).stderr, "a complete model is left alone")
    check(tree(output.parent) == before, "it is as it was")
    bench.run(bench.work / "parts" / "m.q4.index.json", "-o", "x.q4", "--part", "0/2", code=1)


def fine_tune(bench, model):
    """Another model of equal names, shapes and plan, in the place of the first."""
    other = write_model(bench.work / "tuned", plain_files(99))
    expected = bench.one_run(other)
    check(shards(expected) == shards(bench.one_run(model)), "equal names")
    place = bench.work / "moving"
    shutil.copytree(model, place)
    output = bench.place("parts")
    bench.run(place, "-o", output, "--part", "0/1")
    done = bench.run(place, "-o", output, "--part", "0/2")
    check("wrote" not in done.stdout and "there" in done.stdout, "finished shards are not converted again", done.stdout)
    os.utime(place / "model-00001-of-00006.safetensors", (1, 1))
    done = json.loads(bench.run(place, "-o", output, "--part", "0/1", "--json").stdout)
    check([shard["outcome"] for shard in done["shards"]] == ["equal"] + ["finished"] * 5, "another time: converted, and equal", done["shards"])
    for file in other.iterdir():
        shutil.copy(file, place / file.name)
    bench.run(place, "-o", output, "--part", "1/2")
    check("Q4-6311" in bench.join("--merge", output, code=6).stderr, "half of it is no model")
    done = json.loads(bench.run(place, "-o", output, "--part", "0/1", "--json").stdout)
    check({shard["outcome"] for shard in done["shards"]} == {"replaced", "finished"}, "the rest is converted again", done["shards"])
    bench.join("--merge", output)
    check(tree(output.parent) == expected, "the fine-tune, and nothing of its base")


def verified(bench, model):
    """q4verify in parts: each shard once, the reports put together, what is wrong found by its part and by the merge."""
    output = bench.place("verified")
    bench.run(model, "-o", output, "--shard-by", "source")
    index, reports = output.parent / "m.q4.index.json", bench.work / "reports"

    def verify(*words, code=0):
        done = subprocess.run([bench.tools / "q4verify", index, *map(str, words)], capture_output=True, text=True, check=False)
        check(done.returncode == code, f"q4verify {words} ends with {code}", done.returncode, done.stdout[-500:], done.stderr[-1500:])
        return done

    def part(number, *words, code=0):
        done = verify("--part", f"{number}/4", "--json", "--progress", "none", *words, code=code)
        (reports / f"{number}.json").write_text(done.stdout)
        return json.loads(done.stdout)

    reports.mkdir()
    check("Q4-6314" in verify("--merge", reports, code=6).stderr, "nothing is verified")
    seen = [shard["number"] for number in (2, 0, 1) for shard in part(number, "--against", model)["shards"]]
    done = verify("--merge", reports, code=6)
    check("Q4-6314" in done.stderr and str(min(set(range(1, 7)) - set(seen))) in done.stderr, "what is missing is named", done.stderr)
    part(3)
    check("Q4-6315" in verify("--merge", reports, code=6).stderr, "some against the source and some not")
    part(3, "--against", model)
    merged = json.loads(verify("--merge", reports, "--gate", "default", "--json").stdout)
    check(merged["passed"] and merged["compared"] == merged["shard_count"] == 6, "all of it", merged)
    done = verify("--merge", reports, "--max-nmse", "1e-9", code=6)
    check("nmse" in done.stderr.lower(), "gates over the whole", done.stderr)
    verify("--merge", reports, "--root", "sha256:" + "0" * 64, code=6)
    reported(bench, verify, part, reports, model)
    for words in (("--part", "0/2", "--gate", "default"), ("--part", "0/2", "--html", "x.html"), ("--merge", reports, "--against", model)):
        check("Q4-1001" in verify(*words, code=1).stderr, f"{words} do not go together")
    # Damage in one shard: its part finds it, others do not, the merge says so.
    shard = output.parent / "m-00004-of-00006.q4"
    data = bytearray(shard.read_bytes())
    data[4096 + 100] ^= 1
    shard.write_bytes(data)
    codes = []
    for number in range(4):
        done = subprocess.run([bench.tools / "q4verify", index, "--part", f"{number}/4", "--json", "--progress", "none"],
                              capture_output=True, text=True, check=False)
        (reports / f"{number}.json").write_text(done.stdout)
        codes.append(done.returncode)
    check(sorted(codes) == [0, 0, 0, 6], "one part finds it", codes)
    done = verify("--merge", reports, code=6)
    check("m-00004-of-00006.q4" in done.stderr, "the merge names the shard", done.stderr)
    (reports / "4.json").write_text('{"document": "other"}')
    check("Q4-6315" in verify("--merge", reports, code=6).stderr, "another document")


def reported(bench, verify, part, reports, model):
    """What a merge makes of reports that somebody edited, mixed up or took from elsewhere; its HTML, Markdown and JUnit."""
    kept = {path: path.read_text() for path in reports.iterdir()}

    def edited(what, number, edit, says):
        for path, text in kept.items():
            document = json.loads(text)
            edit(document)
            path.write_text(json.dumps(document))
        done = verify("--merge", reports, code=6)
        check(f"Q4-{number}" in done.stderr and says in done.stderr, what, done.stderr)
        for path, text in kept.items():
            path.write_text(text)

    def each(document, **values):
        for shard in document["shards"]:
            shard.update(values)

    edited("passed is false everywhere", 6315, lambda d: (d.update(passed=False), each(d, passed=False)), '"passed" is false')
    edited("passed is false of the parts", 6315, lambda d: d.update(passed=False), "of its shards all did")
    edited("passed is false of shards", 6315, lambda d: each(d, passed=False), '"finding_count" 0')
    edited("findings that are not counted", 6315, lambda d: each(d, findings=[{"issue": 6001, "tensor": None, "message": "x"}]), "findings are listed")
    edited("counted findings that are not there", 6315, lambda d: (d.update(passed=False), each(d, passed=False, finding_count=3)), "0 findings are listed")
    edited("compared with nothing", 6315, lambda d: d.update(source=None), "with no source")
    edited("another version", 6315, lambda d: d.update(tool_version="0.1.0"), "got 0.1.0")
    edited("another schema", 6315, lambda d: d.update(version=2), "got 2")
    edited("no verdict", 6315, lambda d: d.pop("passed"), "no report of q4verify")
    edited("no proofs", 6315, lambda d: [shard.pop("proofs") for shard in d["shards"]], "no report of q4verify")
    edited("of other shards", 6314, lambda d: each(d, root_sha256="0" * 64), "tells of others")
    one = {"finding_count": 1, "passed": False, "findings": [{"issue": 6001, "tensor": "x", "message": "Q4-6001 made up"}]}
    edited("with findings", 6001, lambda d: (d.update(passed=False), each(d, **one)), "made up")
    # One of another model beside them is told, and changes nothing.
    document = json.loads(kept[reports / "0.json"])
    each(document, root_sha256="0" * 64)
    (reports / "other.json").write_text(json.dumps(document))
    done = verify("--merge", reports)
    check("other.json tells of no shard" in done.stderr, "a foreign report is named", done.stderr)
    (reports / "other.json").unlink()
    names = [bench.work / f"merged.{kind}" for kind in ("html", "xml", "md")]
    words = ("--html", names[0], "--junit", names[1], "--markdown", names[2])
    verify("--merge", reports, "--gate", "default", *words)
    texts = [name.read_text() for name in names]
    check("model.layers.3.mlp.up_proj.weight" in texts[0] and texts[1].count("<testcase") > 20 and "recomputed bit for bit" in texts[2],
          "all tensors, as of one run", [text[:300] for text in texts])
    check("<failure" not in texts[1] and "<skipped" not in texts[1], "all were compared")
    verify("--merge", reports, "--max-nmse", "1e-9", *words, code=6)
    check("<failure" in names[1].read_text() and "1e-09" in names[0].read_text(), "with what is broken")
    verify("--merge", reports, "--html", reports / "0.json", code=1)
    check((reports / "0.json").read_text() == kept[reports / "0.json"], "a report of a part is no output")


def lie(bench, model):
    """Shards that were cut anywhere and say that they end where source files do."""
    output = bench.place("lie")
    bench.run(model, "-o", output, "--shard-size", "5KB")
    index = json.loads((output.parent / "m.q4.index.json").read_text())
    roots = []
    for part in index["parts"]:
        shard = output.parent / part["name"]
        forged = Forged(shard.read_bytes())
        document = forged.document
        document["options"]["shard_by"], document["plan"] = "source", "ab" * 32
        forged.document = document
        shard.write_bytes(forged.write())
        roots.append(shard.read_bytes()[-88:-56])
        part["bytes"], part["root"] = shard.stat().st_size, roots[-1].hex()
    index["root"] = hashlib.sha256(b"".join(roots)).hexdigest()
    (output.parent / "m.q4.index.json").write_text(json.dumps(index))
    verify = [bench.tools / "q4verify", output.parent / "m.q4.index.json", "--against", model]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    check(done.returncode == 6 and "shard_by: " in done.stdout + done.stderr and "lie in shards" in done.stdout + done.stderr,
          "told against the source", done.stdout[-500:], done.stderr[-500:])


def disagreement(bench, model):
    """Two machines that compute different bytes of the same input: the second says so and replaces nothing."""
    output = bench.place("parts")
    bench.run(model, "-o", output, "--part", "0/1", "-q")
    shard = output.parent / "m-00003-of-00006.q4"
    forged = Forged(shard.read_bytes())
    tensor = next(tensor for tensor in forged.tensors if tensor.fields["Scheme"])
    tensor.parts[0] = bytes((tensor.parts[0][0] ^ 1,)) + tensor.parts[0][1:]  # one code
    forged = forged.write()
    shard.write_bytes(forged)
    done = bench.run(model, "-o", output, "--part", "0/1", "--no-resume", code=4)
    check("Q4-9310" in done.stderr and shard.read_bytes() == forged, "other bytes of the same sources", done.stderr)


def adapters(bench):
    """Parts of one adapter are none of another of the same shape."""
    base = bench.work / "base"
    adapter_test.lay_base(base, size=256, layers=3)
    first, second = bench.work / "lora1", bench.work / "lora2"
    for folder, seed in ((first, 1), (second, 2)):
        adapter_test.lay_adapter(folder, seed, size=256, layers=3)
    times = [path.stat() for path in first.iterdir()]
    for path in second.iterdir():
        os.utime(path, ns=(times[0].st_atime_ns, times[0].st_mtime_ns))
    output = bench.place("parts")
    for adapter in (first, second):
        for part in range(2):
            bench.run(base, "-o", output, "--part", f"{part}/2", "--adapter", adapter, "-q")
    bench.join("--merge", output, "-q")
    check(tree(output.parent) == bench.one_run(base, "--adapter", second), "all of the second adapter")


def changes(bench, model):
    """What may lie in the way of parts, and what may have changed between them: the same commands bring it to its end."""
    expected = bench.one_run(model)
    # Records beside the source are no part of it.
    source = bench.work / "source"
    shutil.copytree(model, source)
    for part in (0, 1, 0):
        bench.run(source, "-o", source / "m.q4", "--part", f"{part}/2", "-q")
    bench.join("--merge", source / "m.q4", "-q")
    check({name: content for name, content in tree(source).items() if name in expected} == expected, "an output in the folder of the source")
    # A folder of records that leads elsewhere is not written to, and nothing is removed from there.
    output, victim = bench.place("parts"), bench.work / "victim"
    victim.mkdir()
    (victim / "00001").write_text("mine")
    (output.parent / "m.q4.parts").symlink_to(victim)
    for words in ((model, "-o", output, "--part", "0/1"), ("--merge", output), ("--status", output)):
        done = subprocess.run(bench.command(*words), cwd=bench.work, capture_output=True, text=True, check=False)
        check(done.returncode == 2 and "Q4-2032" in done.stderr, f"{words}: a link in the place of the records", done.returncode, done.stderr)
    check(tree(victim) == {"00001": b"mine"}, "what it leads to is as it was")
    # A shard that was cut off, or lost its end: known before the merge, and mended by its part.
    output = bench.place("parts")
    bench.run(model, "-o", output, "--part", "0/1", "-q")
    third = output.parent / "m-00003-of-00006.q4"
    for spoil in (lambda whole: whole[:5000], lambda whole: whole[:-20] + bytes(20)):
        third.write_bytes(spoil(third.read_bytes()))
        done = bench.join("--status", output, "--parts", "6")
        check("missing 3" in done.stdout and "--array=2" in done.stdout and "Q4-" in done.stderr, "the status knows", done.stdout, done.stderr)
        bench.run(model, "-o", output, "--part", "2/6", "-q")
    # A source file of another shard has become another one: every part brings its record up to date.
    shutil.copytree(model, bench.work / "changing")
    other = bench.work / "changing" / "model-00001-of-00006.safetensors"
    whole = bytearray(other.read_bytes())
    whole[-10] ^= 1
    other.write_bytes(whole)
    for part in range(2):
        bench.run(bench.work / "changing", "-o", output, "--part", f"{part}/2", "-q")
    check("one shard" not in bench.join("--merge", output, "-q").stderr, "the merge takes them")
    check(tree(output.parent) == bench.one_run(bench.work / "changing"), "of the source as it is now")
    # A shard's own name is no output of parts; a record may not ask for more parts than the command line.
    output = bench.place("parts")
    bench.run(model, "-o", output, "--part", "0/2", "-q")
    for words in ("--status", "--merge"):
        done = bench.join(words, output.parent / "m-00001-of-00006.q4", code=6)
        check("Q4-6310" in done.stderr and "shard 1 of 6" in done.stderr, "a shard is no model", done.stderr)
    record = output.parent / "m.q4.parts" / "00001"
    text = record.read_bytes()[:-32].replace(b'"parts":2', b'"parts":4000000000')
    record.write_bytes(text + hashlib.sha256(text).digest())
    done = bench.join("--status", output)
    check("Q4-6313" in done.stderr and "missing 1" in done.stdout, "a record that lies is none", done.stdout, done.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("libraries", type=pathlib.Path, nargs="*")
    parser.add_argument("--sanitized", action="store_true")
    arguments = parser.parse_args()
    for name in list(os.environ):  # a test in an array job is none of its tasks
        if name.startswith(("SLURM_", "Q4_PART", "OMPI_", "PMI_", "SGE_", "LSB_")) or name in ("RANK", "WORLD_SIZE", "JOB_COMPLETION_INDEX"):
            del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, pathlib.Path(folder))
        for step in (inputs,):
            step(bench)
        model = bench.work / "plain"
        status(bench, model)
        refusals(bench, model)
        adapters(bench)
        changes(bench, model)
        fine_tune(bench, model)
        disagreement(bench, model)
        lie(bench, model)
        verified(bench, model)
        at_once(bench, model)
        if arguments.libraries:
            killed(bench, model)
            poor_file_systems(bench, model)
    print(f"parts: {checks.count()} checks")


if __name__ == "__main__":
    main()
