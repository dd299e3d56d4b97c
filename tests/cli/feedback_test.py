#!/usr/bin/env python3
"""`q4convert --encoder feedback --calibration FILE` as it is used: what it gains in the output of layers of every kind, as an exported directory decodes,
proof with and without the file, the same bytes however it runs, memory, what is left to other encoders, Hessians that are none, a run that is gone on with.

Usage: feedback_test.py DIR [--sanitized]     the folder of the tools
"""

import json
import pathlib
import random
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import safetensors_bytes as st  # noqa: E402
import checks  # noqa: E402
from calibrated_runs import lay_weights, normal, proof, tensors_in  # noqa: E402
from calibration_bytes import metadata_of, tensors_of  # noqa: E402
from checks import check  # noqa: E402
from devices import same_on_every_device  # noqa: E402
from interrupted import interrupt  # noqa: E402
from tools import Tools  # noqa: E402

SANITIZED = "--sanitized" in sys.argv
# Two slabs, the second of which begins in a row.
ROWS, COLUMNS = (70, 1021) if SANITIZED else (4120, 1021)
UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
TURNED, EXPERTS = "model.h.0.attn.c_attn.weight", "model.layers.1.mlp.experts.gate_up_proj"
BARE, UNNAMED = "model.layers.2.mlp.down_proj.weight", "model.layers.2.mlp.up_proj.weight"
# Rows that are no whole blocks; one weight stored as (in, out), with an odd number of outputs; a stack of matrices of odd size, an expert of which no
# token came to; one without a Hessian, one without anything.
SHAPES = {UP: (ROWS, COLUMNS), DOWN: (77, 129), TURNED: (70, 67), EXPERTS: (3, 21, 33), BARE: (40, 64), UNNAMED: (32, 96)}
COMMON = ("in.safetensors", "--include", "c_attn|experts", "--force")
ENCODERS = {UP: "feedback", DOWN: "feedback", TURNED: "feedback", EXPERTS: "feedback", BARE: "weighted", UNNAMED: "mse"}


def hessian_of(features, seed):
    """Rows of the mean of x x^T for inputs that go together: a little of each feature's own and two common parts. One feature in eleven is nothing."""
    rng = random.Random(seed)
    size = [0.0 if j % 11 == 5 else 2 ** rng.gauss(0, 1) for j in range(features)]
    common = [[s * rng.gauss(0, 1) for s in size] for _ in range(2)]
    own = [0.3 * s * s for s in size]
    rows = []
    for a in range(features):
        row = [common[0][a] * p + common[1][a] * q for p, q in zip(*common)]
        row[a] += own[a]
        rows.append(row)
    return rows


def hessians(seed):
    return {UP: hessian_of(COLUMNS, seed), DOWN: hessian_of(129, seed + 1), TURNED: hessian_of(70, seed + 2),
            EXPERTS: [hessian_of(33, seed + 3), [[0.0] * 33] * 33, hessian_of(33, seed + 4)]}  # fmt: skip


def diagonal(rows):
    return [row[j] for j, row in enumerate(rows)]


def calibration(matrices, bare=True, tokens=1000):
    stacked = lambda rows: isinstance(rows[0][0], list)  # noqa: E731
    inputs = {name: [diagonal(m) for m in rows] if stacked(rows) else diagonal(rows) for name, rows in matrices.items()}
    if bare:
        inputs[BARE] = [1.0 + j for j in range(64)]
    tensors = tensors_of(inputs, tokens)
    for name, rows in matrices.items():
        flat = [value for matrix in (rows if stacked(rows) else [rows]) for row in matrix for value in row]
        n = len(diagonal(rows[0] if stacked(rows) else rows))
        tensors[f"{name}.hessian"] = ("F32", ((len(rows),) if stacked(rows) else ()) + (n, n), st.floats(*flat))
    own = {name: name for name in inputs if name != TURNED}
    return st.tensor_file(tensors, metadata_of(own, {TURNED: TURNED} if TURNED in inputs else None))


def lay(work):
    lay_weights(work, SHAPES)
    (work / "c.safetensors").write_bytes(calibration(hessians(5)))
    (work / "other.safetensors").write_bytes(calibration(hessians(6)))


def convert(tools, *options, out="out.q4", encoder="feedback", file="c.safetensors", **rest):
    given = ("--encoder", encoder) + (("--calibration", file) if encoder in ("weighted", "feedback") else ())
    return tools.run("q4convert", *COMMON, "-o", out, *given, *options, **rest)


def matrices_of(name):
    """(Hessian, elements of its rows) of each matrix of a small tensor, an output's errors being a row."""
    shape, of = SHAPES[name], hessians(5)[name]
    if name == TURNED:
        return [(of, [[i * shape[1] + o for i in range(shape[0])] for o in range(shape[1])])]
    if name == EXPERTS:
        n = shape[1] * shape[2]
        return [(h, [range(e * n + r * shape[2], e * n + (r + 1) * shape[2]) for r in range(shape[1])]) for e, h in enumerate(of) if any(map(any, h))]
    return [(of, [range(r * shape[1], (r + 1) * shape[1]) for r in range(shape[0])])]


def output_errors(tools, container, names):
    """tr(E H E^T) of tensors as the plain export has them."""
    tools.run("q4export", container, "-o", "plain", "--to", "safetensors", "--force")
    decoded, stored = st.read(tools.work / "plain/model.safetensors"), st.read(tools.work / "in.safetensors")
    errors = {}
    for name in names:
        e = [x - y for (x,), (y,) in zip(struct.iter_unpack("<f", stored[name][2]), struct.iter_unpack("<f", decoded[name][2]))]
        errors[name] = sum(
            a * sum(h * b for h, b in zip(line, row)) for hessian, rows in matrices_of(name) for row in [[e[i] for i in r] for r in rows] for a, line in zip(row, hessian)
        )  # fmt: skip
    return errors


def test_error(tools):
    """Far better in the output than what only weighs errors, whatever the kind of tensor; and proven."""
    names = (DOWN, TURNED, EXPERTS)
    for book in ("nf4", "fp4"):
        for form in ("--double-quant", "--no-double-quant"):
            errors = {}
            for encoder in ("absmax", "weighted", "feedback"):
                convert(tools, "--type", book, form, encoder=encoder)
                errors[encoder] = output_errors(tools, "out.q4", names)
            for name in names:
                of = {encoder: errors[encoder][name] / errors["absmax"][name] for encoder in errors}
                check(of["feedback"] < 0.75 * of["weighted"] < 0.75, f"{name}, {book} {form}: of absmax' output error", of)
            proof(tools)
    encoders = {name: tensor["encoder"] for name, tensor in tensors_in(tools, "out.q4").items()}
    check(encoders == ENCODERS, "by tensor", encoders)


def test_proof(tools):
    text = proof(tools).stdout
    check("6 recomputed bit for bit" in text, "all are computed again", text)
    text = tools.run("q4verify", "out.q4", "--against", "in.safetensors").stdout
    check("5 bounded, not proven" in text, "without the file there are bounds", text)
    text = tools.run("q4verify", "out.q4", "--against", "in.safetensors", "--require-proof", code=6).stderr
    check("Q4-6635" in text and "--calibration FILE computes it again" in text, "no proof without the file", text)
    text = tools.run("q4verify", "out.q4", "--against", "in.safetensors", "--calibration", "other.safetensors", code=6).stderr
    check("Q4-6620" in text, "another file", text)
    tools.run("q4export", "out.q4", "-o", "bnb", "--to", "bnb", "--experts", "dequantize", "--force")
    check((tools.work / "bnb").is_dir(), "it is exported for bitsandbytes")


def test_one_result(tools):
    """Threads, memory and shards change no byte of a tensor."""
    for form in ("--double-quant", "--no-double-quant"):
        convert(tools, form)
        expected = (tools.work / "out.q4").read_bytes()
        for other in (("--threads", "1"), ("--threads", "5", "--max-memory", "128MiB")):
            convert(tools, form, *other)
            check((tools.work / "out.q4").read_bytes() == expected, f"the same bytes with {form} {other}")
    stats = {name: tensor["stats"] for name, tensor in tensors_in(tools, "out.q4").items()}
    convert(tools, "--no-double-quant", "--shard-size", "16KiB" if SANITIZED else "2MiB", out="s.q4")
    index = tools.work / "s.q4.index.json"
    sharded = {name: tensor["stats"] for name, tensor in tensors_in(tools, index.name).items()}
    check(stats == sharded, "the same tensors in shards")
    proof(tools, index.name)


def test_memory(tools):
    """A bound that is too small is refused before anything is read, and names what is enough; that is enough."""
    text = convert(tools, "--threads", "2", "--max-memory", "12MiB", code=1, out="x.q4").stderr
    check("--max-memory" in text and not (tools.work / "x.q4").exists(), "too small", text)
    least = next(int(word) for word in text.replace(",", " ").split() if word.isdigit() and int(word) > 12 << 20)
    convert(tools, "--no-double-quant", "--threads", "2", "--max-memory", str(least), out="least.q4")
    convert(tools, "--no-double-quant")
    check((tools.work / "least.q4").read_bytes() == (tools.work / "out.q4").read_bytes(), "it is enough")
    text = proof(tools, "out.q4", "--max-memory", "12MiB", code=1).stderr
    check("to compute feedback again" in text and "leave --calibration away" in text, "q4verify too", text)


def test_notes(tools):
    done = convert(tools, "--dry-run")
    text = done.stdout + done.stderr
    check(f"1 tensor has no input in the calibration and is left to the encoder mse: '{UNNAMED}'" in text, "what is left to mse", text)
    check(f"1 tensor has no Hessian in the calibration and is left to the encoder weighted: '{BARE}'" in text, "what is left to weighted", text)
    moments = tensors_of({DOWN: [1.0] * 129, UNNAMED: [1.0] * 96})
    (tools.work / "moments.safetensors").write_bytes(st.tensor_file(moments, metadata_of({DOWN: DOWN, UNNAMED: UNNAMED})))
    text = convert(tools, file="moments.safetensors", out="x.q4", code=3).stderr
    check("Q4-3631" in text and not (tools.work / "x.q4").exists(), "no Hessian at all", text)


def test_device(tools):
    same_on_every_device(tools, *COMMON, "--encoder", "feedback", "--calibration", "c.safetensors")


def test_budget(tools):
    """Types and block sizes by a budget are chosen by the errors of weighted, and a note says so; feedback's codes are made under them."""
    if SANITIZED:
        return
    words = (*COMMON, "-o", "out.q4", "--calibration", "c.safetensors", "--target-bpw", "4.3", "--threads", "2")
    done = tools.run("q4convert", *words, "--encoder", "feedback", "--write-recipe", "r.json")
    check("chosen by the errors that weighted makes" in done.stderr, "it says by what it chose", done.stderr)
    first = (tools.work / "out.q4").read_bytes()
    tools.run("q4verify", "out.q4", "--against", "in.safetensors", "--calibration", "c.safetensors", "--require-proof")
    done = tools.run("q4convert", *words, "--encoder", "weighted")
    check("chosen by the errors" not in done.stderr, "nothing to say of weighted", done.stderr)
    words = (*COMMON, "-o", "out.q4", "--calibration", "c.safetensors", "--recipe", "r.json")
    tools.run("q4convert", *words, "--encoder", "feedback")
    check((tools.work / "out.q4").read_bytes() == first, "the recipe makes the same bytes")


def test_damping(tools):
    """What is not quite a Hessian gets more damping and a note; what is none is refused, by name."""
    matrix = [[float(a == b) for b in range(129)] for a in range(129)]
    for off, raises in ((1.05, True), (200.0, False)):
        matrix[3][4] = matrix[4][3] = off
        (tools.work / "odd.safetensors").write_bytes(calibration({DOWN: matrix}, bare=False))
        done = convert(tools, file="odd.safetensors", out="odd.q4", code=0 if raises else 3)
        text = done.stdout + done.stderr
        if raises:
            check(f"'{DOWN}': its Hessian is not positive definite" in text and "raised to 0.1" in text, "raised", text)
            tools.run("q4verify", "odd.q4", "--against", "in.safetensors", "--calibration", "odd.safetensors", "--require-proof")
            (tools.work / "odd.q4").unlink()
        else:
            check("Q4-3630" in text and DOWN in text and not (tools.work / "odd.q4").exists(), "refused", text)


def test_odd_elements(tools):
    """A NaN keeps the tensor where that is asked for, and is an error otherwise; the largest elements make no NaN; a forged code is found."""
    values = [3.4e38 if i % 3 else -3.4e38 for i in range(77 * 129)]
    (tools.work / "in2.safetensors").write_bytes(st.tensor_file({DOWN: ("F32", (77, 129), st.floats(*values))}))
    command = ("q4convert", "in2.safetensors", "-o", "odd.q4", "--force", "--encoder", "feedback", "--calibration", "c.safetensors")
    tools.run(*command)
    verify = ("q4verify", "odd.q4", "--against", "in2.safetensors", "--calibration", "c.safetensors")
    tools.run(*verify, "--require-proof")
    values[5000] = float("nan")
    (tools.work / "in2.safetensors").write_bytes(st.tensor_file({DOWN: ("F32", (77, 129), st.floats(*values))}))
    text = tools.run(*command, code=3).stderr
    check("element 5000" in text, "a NaN", text)
    done = tools.run(*command, "--on-nonfinite", "keep")
    check("kept unquantized" in done.stdout + done.stderr, "kept", done.stderr)
    tools.run(*verify)


def test_few_tokens(tools):
    """Features of very different sizes and fewer tokens than features, where codes go farthest from the weights: what was made so is not called damaged."""
    for seed in range(3):
        rng = random.Random(seed)
        size = [2 ** rng.gauss(0, 1.5) for _ in range(64)]
        tokens = [[each * rng.gauss(0, 1) for each in size] for _ in range(32)]
        columns = list(zip(*tokens))
        rows = [[sum(x * y for x, y in zip(a, b)) / len(tokens) for b in columns] for a in columns]
        (tools.work / "few.safetensors").write_bytes(calibration({DOWN: rows}, bare=False, tokens=32))
        (tools.work / "in3.safetensors").write_bytes(st.tensor_file({DOWN: ("F32", (32, 64), normal(32 * 64, seed))}))
        for book in ("nf4", "fp4"):
            done = tools.run("q4convert", "in3.safetensors", "-o", "few.q4", "--type", book, "--encoder", "feedback", "--calibration", "few.safetensors", "--force")
            check("has a Hessian of fewer tokens than features" in done.stderr, "few tokens are told", done.stderr)
            tools.run("q4verify", "few.q4", "--against", "in3.safetensors", "--calibration", "few.safetensors", "--require-proof")
            tools.run("q4verify", "few.q4", "--against", "in3.safetensors")


def layers_with_shared_inputs(tools):
    """Two layers in the order of a file, in which o_proj lies between those that have one input: weights, and calibrations with a Hessian for each input
    and for each weight."""
    side, wide = 96, 160
    inputs = {"self_attn.q_proj": ("k_proj", "q_proj", "v_proj"), "self_attn.o_proj": ("o_proj",), "mlp.gate_proj": ("gate_proj", "up_proj"), "mlp.down_proj": ("down_proj",)}
    shapes, matrices, input_of = {}, {}, {}
    for layer in range(2):
        for number, (first, leaves) in enumerate(inputs.items()):
            source = f"model.layers.{layer}.{first}.weight"
            matrices[source] = hessian_of(wide if "down" in first else side, 70 + 10 * layer + number)
            for leaf in leaves:
                name = f"model.layers.{layer}.{first.split('.')[0]}.{leaf}.weight"
                shapes[name] = (wide if leaf in ("gate_proj", "up_proj") else side, len(matrices[source]))
                input_of[name] = source
    of_each = {name: matrices[source] for name, source in input_of.items()}
    for path, hessians_of, names in (("shared.safetensors", matrices, input_of), ("own.safetensors", of_each, {name: name for name in of_each})):
        tensors = tensors_of({name: diagonal(rows) for name, rows in hessians_of.items()})
        for name, rows in hessians_of.items():
            tensors[f"{name}.hessian"] = ("F32", (len(rows), len(rows)), st.floats(*[value for row in rows for value in row]))
        (tools.work / path).write_bytes(st.tensor_file(tensors, metadata_of(names)))
    weights = {name: ("F32", shape, normal(shape[0] * shape[1], i)) for i, (name, shape) in enumerate(shapes.items())}
    (tools.work / "layers.safetensors").write_bytes(st.tensor_file(weights))
    # The same in files that end within what has one input.
    names, cuts = list(weights), (0, 2, 6, 9, len(weights))
    (tools.work / "layers").mkdir()
    weight_map = {}
    for i, (begin, end) in enumerate(zip(cuts, cuts[1:]), 1):
        file = f"model-{i:05}-of-{len(cuts) - 1:05}.safetensors"
        (tools.work / "layers" / file).write_bytes(st.tensor_file({name: weights[name] for name in names[begin:end]}))
        weight_map |= {name: file for name in names[begin:end]}
    (tools.work / "layers/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shared_inputs(tools):
    """Layers with one input have one Hessian, whose factor is made once: the same codes as with a Hessian each, however little memory there is and in
    shards and parts, and proven."""
    layers_with_shared_inputs(tools)

    def run(*options, source="layers.safetensors", file="shared.safetensors", out="shared.q4", **rest):
        command = (source, "-o", out, "--force", "--encoder", "feedback", "--calibration", file)
        return tools.run("q4convert", *command, *options, **rest)

    def decoded(container):
        tools.run("q4export", container, "-o", "plain", "--to", "safetensors", "--force")
        return st.read(tools.work / "plain/model.safetensors")

    run()
    expected, plain = (tools.work / "shared.q4").read_bytes(), decoded("shared.q4")
    run(file="own.safetensors", out="own.q4")
    check(plain == decoded("own.q4"), "the same as with a Hessian each")
    text = run("--max-memory", "8MiB", "--threads", "2", code=1).stderr
    least = next(int(word) for word in text.replace(",", " ").split() if word.isdigit() and int(word) > 8 << 20)
    # No room for a factor beside the work, and room for one of the smaller ones.
    for options in (("--threads", "1"), ("--threads", "5"), ("--threads", "2", "--max-memory", str(least)), ("--threads", "2", "--max-memory", str(least + (160 << 10)))):
        run(*options)
        check((tools.work / "shared.q4").read_bytes() == expected, f"the same bytes {options}")
    verify = ("--against", "layers.safetensors", "--calibration", "shared.safetensors")
    tools.run("q4verify", "shared.q4", *verify, "--require-proof")
    tools.run("q4verify", "shared.q4", *verify, "--sample", "50")
    run("--shard-by", "source", source="layers", out="whole.q4")
    shards = {path.name.replace("whole", "parts"): path.read_bytes() for path in tools.work.glob("whole-0*.q4")}
    check(len(shards) == 4, "a shard for each file", list(shards))
    for part in (1, 0):
        run("--shard-by", "source", "--part", f"{part}/2", source="layers", out="parts.q4")
    tools.run("q4convert", "--merge", "parts.q4")
    check({path.name: path.read_bytes() for path in tools.work.glob("parts-0*.q4")} == shards, "the same bytes in parts")


def test_resume(tools):
    """A run that was killed is gone on with."""
    if SANITIZED:
        return
    command = [tools.folder / "q4convert", *COMMON, "-o", "out.q4", "--encoder", "feedback", "--calibration", "c.safetensors", "--sync-every", "1", "--threads", "1", "--quiet"]
    tools.run("q4convert", *[str(word) for word in command[1:]])
    expected = (tools.work / "out.q4").read_bytes()
    (tools.work / "out.q4").unlink()
    interrupt(command, tools.work, 0)
    tools.run("q4convert", *[str(word) for word in command[1:]])
    check((tools.work / "out.q4").read_bytes() == expected, "the same bytes")


def main():
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(folder))
        lay(tools.work)
        for test in (test_error, test_proof, test_one_result, test_memory, test_notes, test_device, test_budget, test_damping, test_odd_elements, test_few_tokens, test_shared_inputs, test_resume):
            test(tools)
    print(f"feedback_test: {checks.count()} checks")


if __name__ == "__main__":
    main()
