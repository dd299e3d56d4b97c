"""Runs the tools with --json and validates what they print against docs/schema."""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--checkpoints", type=pathlib.Path, required=True)
    parser.add_argument("--schemas", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    checked = 0

    def check(tool, schema, *words, code=0):
        nonlocal checked
        done = subprocess.run([str(arguments.bin / tool), *map(str, words), "--json"], capture_output=True, text=True)
        if done.returncode != code:
            sys.exit(f"{tool} {words}: exit code {done.returncode}, expected {code}: {done.stderr}")
        document = json.loads(done.stdout)  # exactly one document
        validator = jsonschema.Draft202012Validator(json.loads((arguments.schemas / schema).read_text()))
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
        if errors:
            sys.exit(f"{tool} {words} does not match {schema}:\n" + "\n".join(errors[:10]))
        checked += 1

    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        source = arguments.checkpoints / "tiny_plain_src"
        model, parts = work / "m.q4", work / "p.q4"
        for schema in arguments.schemas.glob("*.schema.json"):
            jsonschema.Draft202012Validator.check_schema(json.loads(schema.read_text()))
        quiet = ("--progress", "none")
        gates = jsonschema.Draft202012Validator(json.loads((arguments.schemas / "gate.schema.json").read_text()))
        gates.validate(json.loads((ROOT / "libconvert" / "judge" / "default_gate.json").read_text()))
        checked += 1
        # What the tools refuse (tests/libconvert/judge/gate_test.cc), the schema refuses as well.
        for rule in ({}, {"match": "a"}, {"max_nmes": 1}, {"max_nmse": "1"}, {"max_nmse": 1, "scope": "model", "match": "a"},
                     {"max_nmse": 1, "scope": "role", "type": "nf4"}, {"max_nmse": 1, "block_size": 63}):
            if gates.is_valid({"rules": [rule]}):
                sys.exit(f"gate.schema.json accepts {rule}")
            checked += 1
        check("q4convert", "convert.schema.json", source, "-o", model, "--dry-run")
        check("q4convert", "comparison.schema.json", source, "--compare", "--type", "nf4", "--encoder", "absmax")
        check("q4convert", "convert.schema.json", source, "-o", model, "--dry-run", "--target-bpw", "7", "--keep-most-sensitive", "10")
        check("q4convert", "convert.schema.json", source, "-o", model, *quiet, "--target-nmse", "0.005")
        model.unlink()
        check("q4convert", "convert.schema.json", source, "-o", model, *quiet)
        check("q4convert", "convert.schema.json", source, "-o", parts, "--shard-size", "200KB", "--no-double-quant", *quiet)
        shared = work / "shared.q4"
        check("q4convert", "part.schema.json", source, "-o", shared, "--part", "1/2", *quiet)
        check("q4convert", "parts.schema.json", "--status", shared)
        check("q4convert", "part.schema.json", source, "-o", shared, "--part", "0/2", *quiet)
        check("q4convert", "part.schema.json", source, "-o", shared, "--part", "0/2", *quiet)
        check("q4convert", "parts.schema.json", "--status", shared, "--parts", "3")
        check("q4convert", "convert.schema.json", "--merge", shared)
        check("q4convert", "convert.schema.json", "--merge", shared)
        check("q4verify", "verify_part.schema.json", shared, "--part", "0/1", *quiet)
        check("q4convert", "parts.schema.json", "--status", shared)
        check("q4convert", "convert.schema.json", source, "-o", work / "b.q4", "--gate", "default", "--max-nmse", "1e-9", *quiet, code=6)
        (work / "nothing.gate").write_text('{"rules": [{"match": "no such tensor", "max_nmse": 1}]}')
        for words in ((), ("--dry-run",)):
            check("q4convert", "convert.schema.json", source, "-o", work / "b.q4", "--gate", work / "nothing.gate", *words, *quiet, code=6)
        check("q4convert", "convert.schema.json", model, "-o", work / "packed.q4", "--compress", "zstd", *quiet)
        for words in ((), ("--tensors",), ("--stats",), ("--hist",), ("--files",), ("--diff", model), ("--lint",),
                      ("--tensor", "model.layers.0.mlp.up_proj.weight", "--dump", "0:4")):
            check("q4inspect", "inspect.schema.json", model, *words)
        check("q4inspect", "inspect.schema.json", source)
        bad = work / "bad"
        bad.mkdir()
        (bad / "model.safetensors").write_bytes(b"not weights")
        check("q4inspect", "inspect.schema.json", bad, "--lint", code=6)
        check("q4verify", "verify.schema.json", model, *quiet)
        check("q4verify", "verify.schema.json", model, "--against", source, *quiet)
        check("q4verify", "verify.schema.json", model, "--max-nmse", "1e-9", *quiet, code=6)
        check("q4verify", "verify.schema.json", model, "--against", source, "--sample", "50", "--gate", "default", *quiet)
        check("q4export", "export.schema.json", model, "--to", "bnb", "-o", work / "bnb", *quiet)
        check("q4export", "export.schema.json", model, "--to", "safetensors", "-o", work / "plain", *quiet)
        record = jsonschema.Draft202012Validator(json.loads((arguments.schemas / "export_record.schema.json").read_text()))
        for name in ("bnb", "plain"):
            record.validate(json.loads((work / name / "q4_export.json").read_text()))
            checked += 1
        # A pipeline: each component's document follows the schema of its tool too.
        pipe, whole, schema = work / "pipe", work / "pipe_q4", "pipeline_reports.schema.json"
        shutil.copytree(source, pipe / "text_encoder")
        (pipe / "model_index.json").write_text('{"_class_name": "P", "text_encoder": ["transformers", "LlamaModel"]}')
        check("q4convert", schema, pipe, "-o", whole, "--dry-run")
        check("q4convert", schema, pipe, "-o", whole, *quiet)
        check("q4convert", schema, pipe, "-o", work / "broken", "--max-nmse", "1e-9", *quiet, code=6)
        check("q4verify", schema, whole, "--against", pipe, *quiet)
        check("q4inspect", schema, pipe)
        check("q4inspect", schema, whole, "--tensors")
        check("q4export", schema, whole, "--to", "bnb", "-o", work / "pipe_bnb", *quiet)
        seal = jsonschema.Draft202012Validator(json.loads((arguments.schemas / "pipeline.schema.json").read_text()))
        seal.validate(json.loads((whole / "q4-pipeline.json").read_text()))
        record.validate(json.loads((work / "pipe_bnb" / "q4_export.json").read_text()))
        checked += 2
    print(f"schema_check: {checked} documents, 0 violations")


if __name__ == "__main__":
    main()
