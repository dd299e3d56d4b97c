"""convert, plan, compare, verify and export beside the tools: the same bytes, reports and errors, and every option."""

import inspect
import json
import numbers
import pathlib
import pickle
import re
import struct
import subprocess
import tempfile

from package_setup import CHECKPOINTS, KEPT, QUANTIZED, SOURCE, TOOLS, Tools, check, count, raises

import q4

# Of each tool, what says how it prints, and what another function does.
NOT_ARGUMENTS = {"help", "version", "quiet", "json", "verbose", "progress", "dry-run", "compare", "part", "parts", "part-from-env", "merge", "status", "junit", "markdown", "html", "double-quant"}
NOT_OPTIONS = {"source", "path", "progress", "double_quant"}


def options_of(tool):
    """The long names in --help."""
    text = subprocess.run([TOOLS / tool, "--help"], capture_output=True, text=True, check=True).stdout
    heads = re.findall(r"^  (-.*?)(?: {2,}|$)", text, re.M)
    return {name for head in heads for name in re.findall(r"--([a-z][a-z-]+)", head)}


def test_every_option_is_an_argument():
    for tool, function in (("q4convert", q4.convert), ("q4verify", q4.verify), ("q4export", q4.export)):
        names = {"no_resume": "resume", "add_file": "add_files", "drop_file": "drop_files"}
        wanted = {names.get(o, o) for o in (option.replace("-", "_") for option in options_of(tool) - NOT_ARGUMENTS) if o not in ("no_double_quant", "no_card")}
        has = set(inspect.signature(function).parameters) - NOT_OPTIONS
        check(has == wanted, f"arguments of {function.__name__} are the options of {tool}", has ^ wanted)
    plan = set(inspect.signature(q4.plan).parameters)
    check(set(inspect.signature(q4.convert).parameters) - plan == {"progress", "report"}, "plan takes what convert takes")
    # What judges or chooses a conversion, or is of its output, of a pipeline, or of a container as it is.
    others = {"target_bpw", "target_nmse", "keep_most_sensitive", "fused_alike", "write_recipe", "force", "resume", "sync_every", "gate", "max_nmse",
              "report", "components", "tensor", "add_files", "drop_files", "allow_empty"}  # fmt: skip
    compared = set(inspect.signature(q4.compare).parameters)
    check(set(inspect.signature(q4.convert).parameters) - compared == others and compared <= plan | {"progress"}, "compare takes what goes with --compare")


def without_time(text):
    document = json.loads(text)
    document.pop("seconds", None)
    return document


# Arguments of convert(), and the same on the command line.
RUNS = [
    ({}, []),
    ({"type": "fp4", "block_size": 128, "double_quant": False}, ["--type", "fp4", "--block-size", "128", "--no-double-quant"]),
    ({"double_quant": True, "threads": 2, "max_memory": "256MiB"}, ["--double-quant", "--threads", "2", "--max-memory", "256MiB"]),
    ({"include": ["lm_head"], "exclude": ["q_proj", "k_proj"]}, ["--include", "lm_head", "--exclude", "q_proj", "--exclude", "k_proj"]),
    ({"compress": "zstd:3", "keep_dtype": "fp32"}, ["--compress", "zstd:3", "--keep-dtype", "fp32"]),
    ({"max_nmse": 0.5, "gate": "default", "source_digest": "xxh3"}, ["--max-nmse", "0.5", "--gate", "default", "--source-digest", "xxh3"]),
    ({"encoder": "mse", "effort": 1}, ["--encoder", "mse", "--effort", "1"]),
    ({"target_bpw": 5.5, "fused_alike": True, "type": "nf4"}, ["--target-bpw", "5.5", "--fused-alike", "--type", "nf4"]),
    ({"keep_most_sensitive": 30}, ["--keep-most-sensitive", "30"]),
    ({"encoder": "absmax", "device": "cpu", "on_nonfinite": "keep"}, ["--encoder", "absmax", "--device", "cpu", "--on-nonfinite", "keep"]),
    ({"exclude": ["-x"], "allow_unmatched": True, "sync_every": 1, "resume": False},
     ["--exclude=-x", "--allow-unmatched", "--sync-every", "1", "--no-resume"]),
]  # fmt: skip


def test_the_same_bytes(tools):
    for number, (arguments, line) in enumerate(RUNS):
        ours, theirs = tools.work / f"ours{number}.q4", tools.work / f"theirs{number}.q4"
        report = q4.convert(SOURCE, ours, **arguments)
        printed = tools.run("q4convert", SOURCE, "-o", theirs, "--json", *line).stdout
        check(ours.read_bytes() == theirs.read_bytes(), "the same container", arguments)
        said, expected = without_time(report.to_json()), without_time(printed)
        said["outputs"][0]["path"] = expected["outputs"][0]["path"] = ""
        check(said == expected, "the same report", arguments)
        plan = q4.plan(SOURCE, tools.work / "new.q4", **arguments)
        printed = tools.run("q4convert", SOURCE, "-o", tools.work / "new.q4", "--dry-run", "--json", *line).stdout
        check(plan.to_json() == printed, "the same plan", arguments)
        check(plan.output_bytes == report.output_bytes or arguments.get("compress"), "a plan knows the size")
        unnamed = q4.plan(SOURCE, **arguments)
        check({**unnamed.json, "output": ""} == {**plan.json, "output": ""}, "a plan without an output is the same")
        check(plan.output == tools.work / "new.q4" and unnamed.output.name.startswith(SOURCE.name + "-"), "it names what would be written", unnamed.output)
        check(not (tools.work / "new.q4").exists(), "a plan writes nothing")
    sharded = q4.convert(str(SOURCE), str(tools.work / "s.q4"), shard_size=200_000)
    tools.run("q4convert", SOURCE, "-o", "t.q4", "--shard-size", "200000")
    check(len(sharded.outputs) > 1 and sharded.path == tools.work / "s.q4.index.json", "shards", sharded.outputs)
    check(sharded.outputs[1].path.read_bytes() == (tools.work / sharded.outputs[1].path.name.replace("s-", "t-", 1)).read_bytes(), "same shards")


def test_reports(tools):
    report = q4.convert(SOURCE, tools.work / "r.q4", report=tools.work / "r.json", force=True)
    check((tools.work / "r.json").read_text() == report.to_json(), "report= writes what is returned")
    check(report.totals.count == sum(t.stats.count for t in report.tensors.values() if t.stats), "totals and tensors")
    check(report.tensors[KEPT].stats is None and report.tensors[QUANTIZED].treatment == "nf4 b64 dq", "tensors of a report")
    check(report.path == tools.work / "r.q4" and report.outputs[0].root == q4.open(report.path).root, "path and root")
    check(report.source_bytes > report.output_bytes > 0 and report.seconds > 0 and report.warnings == () and report.notes == (), "figures")
    check(pickle.loads(pickle.dumps(report)) == report and repr(report) != "", "reports pickle")
    plan = q4.plan(SOURCE)
    check(plan.tensors[KEPT].reason == "output head" and QUANTIZED in plan.quantized and KEPT not in plan.quantized, "reasons of a plan")
    check(plan.least_memory_bytes > 0 and plan.warnings == (), "a plan's memory")


def test_numbers():
    """Whatever counts as a number and as truth."""
    class Half:
        def __float__(self):
            return 0.5

    numbers.Real.register(Half)
    expected = q4.plan(SOURCE, block_size=128, max_nmse=0.5, double_quant=False)
    check(q4.plan(SOURCE, block_size=type("Index", (), {"__index__": lambda self: 128})(), max_nmse=Half(), double_quant=0) == expected, "numbers")
    check(q4.plan(SOURCE, double_quant=1) == q4.plan(SOURCE) != expected, "truth")


def test_compare(tools):
    """The table of q4convert --compare; a row is what convert() makes of it."""
    arguments = {"type": "nf4", "block_size": 64, "exclude": ["q_proj"]}
    compared = q4.compare(SOURCE, tools.work / "best.q4", **arguments)
    printed = json.loads(tools.run("q4convert", SOURCE, "-o", tools.work / "best.q4", "--compare", "--type", "nf4", "--block-size", "64", "--exclude", "q_proj",
                                   "--json").stdout)  # fmt: skip
    for document in (compared.json, printed):
        for row in document["rows"]:
            row.pop("core_seconds")
    check(compared.json == printed, "the same comparison", compared.json)
    compared = q4.compare(SOURCE, tools.work / "best.q4", **arguments)
    check({(row.encoder, row.double_quant) for row in compared.rows} == {(e, d) for e in ("absmax", "mse") for d in (True, False)}, "rows", compared.rows)
    best = compared.chosen
    check(best in compared.rows and any(row.best for row in compared.rows) and repr(compared) != "", "marks")
    report = q4.convert(SOURCE, tools.work / "best.q4", encoder=best.encoder, double_quant=best.double_quant, **arguments)
    check(report.output_bytes == best.output_bytes and report.totals.nmse == best.nmse and report.totals.sqnr_db == best.sqnr_db, "a row is a conversion")
    check(compared.command[:2] == ("q4convert", str(SOURCE)) and pickle.loads(pickle.dumps(compared)) == compared, "the command, and pickled")
    raises(q4.UsageError, lambda: q4.compare(SOURCE, exclude=["."]), "nothing to choose is an error")


def test_repack(tools):
    note = tools.work / "note.txt"
    note.write_text("hello")
    report = q4.convert(tools.work / "ours0.q4", tools.work / "packed.q4", compress="zstd", add_files={"note.txt": note})
    tools.run("q4convert", "theirs0.q4", "-o", "packed_t.q4", "--compress", "zstd", "--add-file", "note.txt=note.txt")
    check(report.path.read_bytes() == (tools.work / "packed_t.q4").read_bytes(), "packed anew: the same bytes")
    check(q4.open(report.path).files["note.txt"] == b"hello", "the added file")
    check(q4.plan(tools.work / "ours0.q4", drop_files=["config.json"]).output_bytes > 0, "a plan of packing anew")
    raises(q4.UsageError, lambda: q4.convert(tools.work / "ours0.q4", tools.work / "x.q4", type="nf4"), "a container is not quantized again")


def test_verify(tools):
    container = tools.work / "theirs0.q4"
    for arguments, line in (({}, []), ({"against": SOURCE}, ["--against", SOURCE]), ({"gate": "default"}, ["--gate", "default"])):
        report = q4.verify(container, **arguments)
        html, junit, markdown = (tools.work / name for name in ("v.html", "v.xml", "v.md"))
        printed = tools.run("q4verify", container, "--json", "--html", html, "--junit", junit, "--markdown", markdown, *line).stdout
        check(report.to_json() == printed, "the same verification", arguments)
        check(report.to_html() == html.read_text() and report.to_junit() == junit.read_text(), "HTML and JUnit")
        check(report.to_markdown() == markdown.read_text(), "Markdown")
        check(report.to_text() == tools.run("q4verify", container, *line).stdout, "text")
        check(report.ok and bool(report) and report.findings == () and QUANTIZED in report.tensors, "it is intact")
    check(report.root == q4.open(container).root and report.stats.count > 0 and "ok" in repr(report), "root and statistics")
    raises(TypeError, lambda: pickle.dumps(report), "a verification does not pickle")
    bad = q4.verify(container, max_nmse=1e-5)
    check(not bad and bad.findings[0].issue == "Q4-6301" and bad.findings[0].tensor == QUANTIZED, "findings", bad.findings[:1])
    other = q4.verify(container, against=CHECKPOINTS / "tiny_fp4_src")
    check(not other.ok and other.findings, "another source")
    sampled = q4.verify(container, against=SOURCE, sample=50, sample_seed=7, tensor="down_proj")
    check(sampled.ok and sampled.json["sample_percent"] == 50 and sampled.json["only"] == "down_proj", "a sample")


def files_of(folder):
    # The record names the input as it was given.
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "q4_export.json"}


def test_export(tools):
    container = tools.work / "theirs0.q4"
    for number, (arguments, line) in enumerate((
        ({}, ["--to", "bnb"]),
        ({"quant_storage": "bfloat16", "compute_dtype": "float32", "shard_size": "300KB"},
         ["--to", "bnb", "--quant-storage", "bfloat16", "--compute-dtype", "float32", "--shard-size", "300KB"]),
        ({"to": "safetensors", "dtype": "fp32"}, ["--to", "safetensors", "--dtype", "fp32"]),
    )):  # fmt: skip
        ours, theirs = tools.work / f"eo{number}", tools.work / f"et{number}"
        report = q4.export(container, ours, **arguments)
        tools.run("q4export", container, "-o", theirs, *line)
        check(files_of(ours) == files_of(theirs), "the same export", arguments)
        check(report.output == ours and pathlib.Path(report) == ours and "model" in " ".join(report.files), "what was written")
    raises(q4.UsageError, lambda: q4.export(container, tools.work / "no", to="thin"), "an exporter that is not there")


def write_pipeline(folder):
    """A pipeline of diffusers with a transformer and a scheduler."""
    names = [f"transformer_blocks.{i}.attn.to_q.weight" for i in range(4)]
    header = json.dumps({n: {"dtype": "F32", "shape": [64, 64], "data_offsets": [i * 16384, (i + 1) * 16384]} for i, n in enumerate(names)}).encode()
    values = struct.pack(f"<{4 * 4096}f", *((i * 7919 % 2003) / 2003 - 0.5 for i in range(4 * 4096)))
    for name, content in {
        "model_index.json": json.dumps({"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1",
                                        "transformer": ["diffusers", "FluxTransformer2DModel"],
                                        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}).encode(),
        "transformer/config.json": json.dumps({"_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.42.1"}).encode(),
        "transformer/diffusion_pytorch_model.safetensors": struct.pack("<Q", len(header)) + header + values,
        "scheduler/scheduler_config.json": b'{"_class_name": "FlowMatchEulerDiscreteScheduler"}',
    }.items():  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {f"transformer/{name}" for name in names}


def tree_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "q4_export.json"}


def test_pipeline(tools):
    source, ours = tools.work / "pipe", tools.work / "pipe_ours"
    names = write_pipeline(source)
    report = q4.convert(source, ours, components=["transformer"], device="cpu")
    printed = tools.run("q4convert", source, "-o", "pipe_theirs", "--components", "transformer", "--device", "cpu", "--json").stdout
    check(tree_of(ours) == tree_of(tools.work / "pipe_theirs"), "the same pipeline")
    said, expected = without_time(report.to_json()), without_time(printed)
    check(said.keys() == expected.keys() and said["root_sha256"] == expected["root_sha256"], "its report")
    check(report.path == ours and set(report.tensors) == names and report.totals is None, "what was written", report.tensors)
    check(report.components["transformer"].totals.count == 4 * 4096 and report.outputs[0].path.name == "model.q4", "components")
    plan = q4.plan(source, components="transformer")
    check(set(plan.quantized) == names == set(plan.tensors) and plan.least_memory_bytes > 0 and plan.output_bytes > 0, "its plan")
    found = q4.verify(ours, against=source)
    check(found.to_json() == tools.run("q4verify", ours, "--against", source, "--json").stdout, "its verification")
    check(found.ok and set(found.tensors) == names and found.stats is None and found.findings == (), "what was found")
    check(raises(q4.UsageError, found.to_html, "a pipeline has no page").exit_code == 1, "says so")
    bad = q4.verify(ours, max_nmse=1e-9)
    check(not bad.ok and bad.findings[0].issue == "Q4-6301", "findings of a component", bad.findings[:1])
    exported = q4.export(ours, tools.work / "pipe_eo")
    tools.run("q4export", ours, "-o", "pipe_et", "--to", "bnb")
    check(tree_of(exported.output) == tree_of(tools.work / "pipe_et"), "the same export of it")
    check("transformer/config.json" in exported.files and "model_index.json" in exported.files, "its files", exported.files)
    raises(q4.GateError, lambda: q4.convert(source, tools.work / "pipe_no", max_nmse=1e-9), "a gate of a pipeline")
    raises(q4.UsageError, lambda: q4.convert(SOURCE, tools.work / "x.q4", components=["unet"]), "components are of pipelines")


def test_errors(tools):
    """The same error lines and exit codes as the tools."""
    work, good = tools.work, tools.work / "theirs0.q4"
    text = work / "text.q4"
    text.write_text("no container")
    damaged = work / "damaged.q4"
    octets = bytearray(good.read_bytes())
    octets[len(octets) // 2] ^= 1
    damaged.write_bytes(octets)
    cases = [
        (q4.UsageError, lambda: q4.convert(SOURCE, good), ["q4convert", SOURCE, "-o", good]),
        (q4.UsageError, lambda: q4.convert(SOURCE, work / "x.q4", block_size=48), ["q4convert", SOURCE, "-o", work / "x.q4", "--block-size=48"]),
        (q4.UsageError, lambda: q4.convert(SOURCE, work / "x.q4", max_memory="2 apples"),
         ["q4convert", SOURCE, "-o", work / "x.q4", "--max-memory=2 apples"]),
        (q4.UsageError, lambda: q4.convert(SOURCE, work / "x.q4", device="tpu"), ["q4convert", SOURCE, "-o", work / "x.q4", "--device=tpu"]),
        (q4.UsageError, lambda: q4.convert(SOURCE, work / "x.q4", include=["("]), ["q4convert", SOURCE, "-o", work / "x.q4", "--include=("]),
        (q4.UsageError, lambda: q4.convert(SOURCE, work / "x.q4", encoder="mse", effort=4), ["q4convert", SOURCE, "-o", work / "x.q4", "--encoder=mse", "--effort=4"]),
        (q4.UsageError, lambda: q4.convert(SOURCE, work / "x.q4", max_nmse=float("nan")), ["q4convert", SOURCE, "-o", work / "x.q4", "--max-nmse=nan"]),
        (q4.UsageError, lambda: q4.convert("", work / "x.q4"), ["q4convert", "", f"--output={work / 'x.q4'}"]),
        (q4.InputError, lambda: q4.convert(work / "none", work / "x.q4"), ["q4convert", work / "none", "-o", work / "x.q4"]),
        (q4.InputError, lambda: q4.convert(SOURCE, work / "no" / "x.q4"), ["q4convert", SOURCE, "-o", work / "no" / "x.q4"]),
        (q4.FormatError, lambda: q4.verify(text), ["q4verify", text]),
        (q4.FormatError, lambda: q4.export(text, work / "e"), ["q4export", text, "-o", work / "e", "--to", "bnb"]),
        (q4.UsageError, lambda: q4.convert(SOURCE, work / "x.q4", effort=3), ["q4convert", SOURCE, "-o", work / "x.q4", "--effort=3"]),
        (q4.GateError, lambda: q4.convert(SOURCE, work / "x.q4", max_nmse=1e-9), ["q4convert", SOURCE, "-o", work / "x.q4", "--max-nmse=1e-9"]),
        (q4.DamagedError, lambda: q4.export(damaged, work / "e"), ["q4export", damaged, "-o", work / "e", "--to", "bnb"]),
        (q4.DamagedError, lambda: q4.verify(good, root="sha256:" + "0" * 64), ["q4verify", good, "--root", "sha256:" + "0" * 64]),
    ]  # fmt: skip
    for kind, call, line in cases:
        error = raises(kind, call, str(line[2:]))
        done = tools.run(*line, code=error.exit_code)
        said = "\n".join(text.removeprefix(line[0] + ": ") for text in done.stderr.splitlines() if "no GPU" not in text)
        check(str(error) == said, "the error line of the tool", str(error), said)
        check(error.issue is not None and f"[{error.issue}]" in said, "the number", error.issue)
        copy = pickle.loads(pickle.dumps(error))
        check((type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error)), "errors pickle")
    check(not (work / "x.q4").exists() and not (work / "e").exists(), "nothing is left")
    error = raises(q4.DamagedError, cases[-2][1], "damage")
    check(error.path == str(damaged) and error.tensor in q4.open(good), "path and tensor of an error", error.path, error.tensor)
    broken = raises(q4.GateError, cases[-3][1], "a gate")
    check(broken.findings[0].tensor == QUANTIZED and broken.exit_code == 6, "findings of a gate")
    check(issubclass(q4.UsageError, ValueError) and issubclass(q4.InputError, OSError) and issubclass(q4.Error, RuntimeError), "bases")
    raises(q4.UsageError, lambda: q4.convert(str(SOURCE) + "\0", work / "x.q4"), "a NUL")
    raises(q4.UsageError, lambda: q4.convert("--help", work / "x.q4", include=[""]), "no option comes in as a path")
    raises(q4.InputError, lambda: q4.convert("--help", work / "x.q4"), "a path that looks like an option")
    raises(TypeError, lambda: q4.convert(3.5, work / "x.q4"), "no path")
    raises(TypeError, lambda: q4.verify(good, progress="bar"), "no function")
    check("--follow-symlinks" in str(raises(q4.UsageError, lambda: q4.plan(SOURCE, follow_symlinks=7), "no bool")), "a flag has no value")


def test_strange_paths(tools):
    for name in ("-dash.q4", "a=b.q4", "sp ace.q4", "\N{LATIN SMALL LETTER E WITH ACUTE}.q4", "latin\udce9.q4"):
        path = tools.work / name
        report = q4.convert(SOURCE, path)
        check(q4.verify(path).ok and q4.open(path).root == report.outputs[0].root, "a strange path", ascii(name))


def test_parts(tools):
    import q4.parts

    whole, output = tools.work / "whole" / "m.q4", tools.work / "parts" / "m.q4"
    for path in (whole, output):
        path.parent.mkdir()
    q4.convert(SOURCE, whole, shard_by="source", type="fp4")
    check(not q4.parts.status(output, parts=3).ready and q4.parts.status(output, parts=3).missing == (0, 1, 2), "nothing is done")
    raises(q4.DamagedError, lambda: q4.parts.merge(output), "nothing to merge")
    done = q4.parts.convert(SOURCE, output, (0, 2), type="fp4")
    check(done.shards == done.written and len(done.shards) > 0 and not q4.parts.status(output).complete, "a part")
    q4.parts.convert(SOURCE, output, "1/2", type="fp4")
    check(q4.parts.convert(SOURCE, output, "0/2", type="fp4").written == () and q4.parts.status(output).ready, "it is there")
    raises(q4.GateError, lambda: q4.parts.merge(output, max_nmse=1e-9), "a gate over the whole")
    report = q4.parts.merge(output, gate="default")
    names = {path.name: path.read_bytes() for path in output.parent.iterdir()}
    check(names == {path.name: path.read_bytes() for path in whole.parent.iterdir()} and report.path.name in names, "the same bytes", list(names))
    check(q4.parts.status(output).complete, "complete")
    raises(q4.UsageError, lambda: q4.parts.convert(SOURCE, output, (0, 2), type="fp4"), "a complete model")
    raises(q4.UsageError, lambda: q4.parts.convert(SOURCE, output, (0, 2), gate="default"), "gates are the merge's")
    for part in ((1, 2, 3), (1,), 5, (1.0, 2), ("0", "2"), None):
        check("part" in str(raises(ValueError, lambda part=part: q4.parts.convert(SOURCE, output, part), "no part")), "what a part is", part)
    # Verified in parts.
    index, reports = report.path, tools.work / "reports"
    reports.mkdir()
    for part in ((0, 2), "1/2"):
        found = q4.parts.verify(index, part, against=SOURCE)
        check(found and found.ok and not found.findings, "a part of a verification", found)
        found.save(reports / f"{found.json['part']}.json")
    merged = q4.parts.merge_verified(index, reports, gate="default")
    whole = q4.verify(index, against=SOURCE)
    check(merged and merged.compared and merged.root == whole.root, "the verdict on the whole", merged)
    check("<html" in merged.to_html() and "testsuite" in merged.to_junit() and merged.root in merged.to_text() + merged.to_markdown(), "renderings")
    failed = q4.parts.merge_verified(index, reports, max_nmse=1e-9)
    check(not failed.ok and failed.findings and "<failure" in failed.to_junit(), "a limit on the whole", failed)
    for path in reports.iterdir():
        path.unlink()
    raises(q4.DamagedError, lambda: q4.parts.merge_verified(index, reports), "parts are missing")
    # A URL that went through a path.
    error = raises(q4.UsageError, lambda: q4.convert(pathlib.Path("hf://ORG/NAME"), tools.work / "x.q4"), "a collapsed URL")
    check("hf://" in str(error) and "joins slashes" in str(error), "says what to give", error)


def test_logging(tools):
    import logging

    class Keeper(logging.Handler):
        def emit(self, record):
            kept.append((record.levelname, record.getMessage()))

    kept = []
    logger = logging.getLogger("q4")
    keeper = Keeper()
    logger.addHandler(keeper)
    logger.setLevel(logging.INFO)
    q4.convert(SOURCE, tools.work / "log.q4", include=["nothing_such"], allow_unmatched=True, device="cpu")
    logger.removeHandler(keeper)
    logger.setLevel(logging.NOTSET)
    check(any("nothing_such" in text for _, text in kept), "notes are logged", kept)


def main():
    import logging

    logging.getLogger("q4").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory(prefix="q4-python-jobs-") as work:
        tools = Tools(TOOLS, pathlib.Path(work))
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                test(*[tools] * len(inspect.signature(test).parameters))
    print(f"python_jobs: {count()} checks")


main()
