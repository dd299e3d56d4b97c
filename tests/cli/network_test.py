#!/usr/bin/env python3
"""Models that are read from servers: the bytes of the local conversion, whatever a server does on the way, or an error and no output.

    network_test.py TOOLS [--sanitized] [-v] [PART...]

Everything is on 127.0.0.1. See docs/network.md for what is promised.
"""

import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402
from checks import check  # noqa: E402
from interrupted import check_resumes  # noqa: E402
from model_server import ACCESS_DENIED, LOGIN, Bucket, Fault, Hub, Server  # noqa: E402
from safetensors_bytes import tensor_file  # noqa: E402

SECRET = "hf_tokenTokenToken0123456789"
MEMORY = "--max-memory=64MiB"  # 16 MiB for what is fetched: files beyond 1 MiB are read by ranges
NAME = "model-0000{}-of-00003.safetensors"


def weights(seed: int, count: int, rows: int, columns: int = 512) -> bytes:
    values = random.Random(seed)
    named = {}
    for i in range(count):
        data = bytearray(values.randbytes(2 * rows * columns))
        data[1::2] = bytes([0x3C]) * (rows * columns)
        named[f"model.layers.{seed}.mlp.{i}.weight"] = ("BF16", (rows, columns), bytes(data))
    return tensor_file(named)


def make_model(folder: pathlib.Path) -> None:
    """Three shards of about 3 MB, one tensor larger than a piece that is read ahead, and the companions of a model."""
    folder.mkdir()
    shapes = [(3, 1024), (1, 3072), (24, 128)]
    weight_map = {}
    for number, (count, rows) in enumerate(shapes, 1):
        (folder / NAME.format(number)).write_bytes(weights(number, count, rows))
        weight_map |= {f"model.layers.{number}.mlp.{i}.weight": NAME.format(number) for i in range(count)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.json").write_bytes(b'{"vocab": "' + random.Random(7).randbytes(300_000).hex().encode() + b'"}')
    (folder / "README.md").write_text("a model\n")


class Bench:
    def __init__(self, tools: pathlib.Path, work: pathlib.Path):
        self.tools, self.work = tools, work
        self.model = work / "model"
        make_model(self.model)
        self.run("q4convert", self.model, "-o", "local.q4", MEMORY)
        self.expected = (work / "local.q4").read_bytes()

    def run(self, tool, *arguments, code=0, **environment):
        # Q4_GUARD...: scripts/guard_mutations.py runs these tests.
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_", "GCS_", "GOOGLE_", "Q4_", "SSL_", "CURL_"))
                 and not name.lower().endswith("_proxy") or name.startswith("Q4_GUARD")}
        clean |= {"HOME": str(self.work), "Q4_NET_TIMEOUT": "1", "Q4_NET_ATTEMPTS": "4", **environment}
        command = [self.tools / tool, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, env=clean)
        check(code is None or done.returncode == code, f"{tool} {arguments} ends with {code}", done.returncode, done.stderr)
        for secret in (SECRET, "swordfish", "signature="):
            check(secret not in done.stdout + done.stderr, f"{secret} is in no message", done.stdout, done.stderr)
        return done

    def convert(self, source, *more, code=0, says="", **environment):
        output = self.work / "out.q4"
        output.unlink(missing_ok=True)
        done = self.run("q4convert", source, "-o", output, MEMORY, *more, code=code, **environment)
        check(says in done.stderr, f"the message has '{says}'", done.stderr)
        if code == 0:
            check(output.read_bytes() == self.expected, f"{source}: the bytes of the local conversion")
            for secret in (SECRET, "swordfish", "signature="):
                check(secret.encode() not in self.expected, "no secret is in the output")
        else:
            check(not output.exists(), f"{source}: no output after an error")
        return done


def same_bytes(bench: Bench) -> None:
    """A folder, an index, and a folder behind what some servers do; what is read and how often."""
    with Server().add_folder(bench.model, "/models/a b") as server:
        url = f"{server.origin}/models/a%20b"
        bench.convert(url, says="cannot be listed")
        sizes = sum(path.stat().st_size for path in bench.model.iterdir())
        check(server.bytes_sent() < 1.02 * sizes, "what is read is what there is", server.bytes_sent(), sizes)
        for small in ("config.json", "tokenizer_config.json"):
            asked = [r for r in server.requests("/" + small) if r["headers"]["range"] != "bytes=0-0"]  # which asks for its version
            check(len(asked) == 1, f"{small} is fetched once", asked)
        check(all(r["headers"].get("if-match") for r in server.requests("safetensors") if r["headers"]["range"] not in ("bytes=0-65535", "bytes=0-0")),
              "each range names the ETag")
        bench.convert(url + "/model.safetensors.index.json")
        bench.convert(url + "/")
        bench.run("q4verify", "local.q4", "--against", url, MEMORY)
        check("BF16" in bench.run("q4inspect", url, "--tensors").stdout, "q4inspect reads it")
        bench.run("q4convert", url, "-o", "x.q4", "--dry-run")
        check("no ETag" not in bench.convert(url).stderr, "a server with ETags tells of changes")
        server.etags = False
        bench.convert(url, says="a change while it is read goes unnoticed")
        server.modified = {path: "Wed, 01 Jan 2025 00:00:00 GMT" for path in server.files}
        check("no ETag" not in bench.convert(url).stderr, "a time of modification tells of changes")
        # A query is access to a folder: each file is asked for with it, and nobody is told.
        bench.convert(url + "?sv=1&sig=swordfish")
        check(server.log[-1]["query"] == "sv=1&sig=swordfish", "the query is sent", server.log[-1])
        server.authorization = "Basic bWU6c3dvcmRmaXNo"
        bench.convert(url.replace("//", "//me:swordfish@"))
        bench.convert(url, code=2, says="give access in the URL")
    with Server().add_folder(bench.model) as empty_host:
        # At the root of a server, and without ranges: small files are sent whole, large ones cannot be read.
        bench.convert(empty_host.origin)
        empty_host.ranges = False
        bench.convert(empty_host.origin, code=5, says="Q4-5321")


def one_file(bench: Bench) -> None:
    data = weights(9, 2, 1024)
    (bench.work / "one").mkdir()
    (bench.work / "one" / "one.safetensors").write_bytes(data)
    bench.run("q4convert", "one/one.safetensors", "-o", "one.q4", MEMORY)
    with Server({"/deep/one.safetensors": data}) as server:
        bench.run("q4convert", f"{server.origin}/deep/one.safetensors", "-o", "two.q4", MEMORY)
        check((bench.work / "one.q4").read_bytes() == (bench.work / "two.q4").read_bytes(), "one file: the same bytes")
        # A container too.
        server.files["/one.q4"] = (bench.work / "one.q4").read_bytes()
        check("nf4" in bench.run("q4inspect", f"{server.origin}/one.q4").stdout, "a container is read")
        bench.run("q4verify", f"{server.origin}/one.q4", "--against", "one/one.safetensors")


def faults(bench: Bench) -> None:
    """What passes, passes; what does not is an error that names the file, and leaves nothing."""
    shard = NAME.format(2)
    passing = [
        Fault("status", shard, times=2, status=503),
        Fault("status", shard, times=1, status=429, headers={"Retry-After": "1"}),
        Fault("status", shard, times=2, status=500, ranged=True, after=1),
        Fault("cut", shard, times=3, after=1),
        Fault("stall", shard, times=1, after=2, seconds=2.5),
        Fault("status", "config.json", times=1, status=502),
    ]
    lasting = [
        (Fault("short", shard, after=1), 3, "Q4-3320"),
        (Fault("whole", shard, after=1), 5, "Q4-5321"),
        (Fault("wrong-range", shard, after=1), 3, "Q4-3320"),
        (Fault("status", shard, after=1, status=412), 3, "Q4-2006"),
        (Fault("status", shard, after=1, status=416), 3, "Q4-2006"),
        (Fault("status", shard, after=1, status=404), 3, "no longer there"),
        (Fault("status", shard, after=1, status=403), 2, "Q4-2321"),
        (Fault("status", shard, status=418), 2, "Q4-2320"),
        (Fault("status", shard, status=429, headers={"Retry-After": "86400"}), 2, "come back in 86400 s"),
        (Fault("encoded", shard), 3, "content-encoding"),
        (Fault("headers", shard), 2, "headers"),
        (Fault("page", shard), 3, "Q4-3322"),
        (Fault("page", shard, type="application/octet-stream"), 3, "Log in to the portal"),
        (Fault("page", shard, after=1), 3, "Q4-3322"),
        (Fault("page", "index.json"), 3, "Q4-3322"),
        (Fault("redirect", shard, location="file:///etc/passwd"), 2, "Q4-2322"),
        (Fault("redirect", shard, location="ftp://127.0.0.1/x"), 2, "Q4-2322"),
        (Fault("redirect", shard, location="http://169.254.169.254/latest"), 2, "Q4-2322"),
    ]
    with Server().add_folder(bench.model) as server:
        for fault in passing:
            server.faults = [fault]
            bench.convert(server.origin)
            check(fault.hits > 0, "the fault was met", fault.kind)
        for fault, code, says in lasting:
            server.faults = [fault]
            bench.convert(server.origin, code=code, says=says)
            check(fault.hits > 0, "the fault was met", fault.kind)
        server.faults = [Fault("redirect", shard, location=f"{server.origin}/{shard}")]
        bench.convert(server.origin, code=2, says="more than 8 times")
        # All attempts fail.
        server.faults = [Fault("status", shard, status=503)]
        done = bench.convert(server.origin, code=2, says="tried 4 times")
        check(shard in done.stderr and "HTTP 503" in done.stderr, "the message names the file and the answer", done.stderr)
        # Nobody is there.
        server.faults = []
    bench.convert(server.origin, code=2, says="Q4-2320")


def memory(bench: Bench) -> None:
    """A bound that is too small is refused in the terms of the one who gave it, and what is called enough is."""
    with Server({"/one.q4": bench.expected}).add_folder(bench.model) as server:
        for source in (server.origin, f"{server.origin}/one.q4"):
            given = (10 << 20) + 3
            command = ("q4convert", source, "-o", "small.q4", "--threads=1", "--force")
            done = bench.run(*command, f"--max-memory={given}", code=1)
            numbers = re.search(r"got (\d+) bytes, expected at least (\d+) bytes", done.stderr)
            check(numbers and int(numbers[1]) == given, "the bound is named as it was given", done.stderr)
            bench.run(*command, f"--max-memory={int(numbers[2]) - 1}", code=1)
            bench.run(*command, f"--max-memory={numbers[2]}")
            plan = json.loads(bench.run(*command, "--dry-run", "--json").stdout)
            check(plan["least_memory_bytes"] == int(numbers[2]), "a plan says the same bound", plan["least_memory_bytes"], numbers[2])
    # What comparisons and budgets hold of the tensors alone: 7,000 of them do not fit the least bound.
    names = {f"model.layers.{i}.mlp.up_proj.weight": ("BF16", (1, 64), bytes(128)) for i in range(7_000)}
    files = {"/model.safetensors": tensor_file(names), "/config.json": (bench.model / "config.json").read_bytes()}
    with Server(files) as server:
        for words in (("--compare", "--encoder=absmax"), ("--target-bpw=4.5", "--dry-run")):
            given = (12 << 20) + 5
            done = bench.run("q4convert", server.origin, "-o", "x.q4", *words, f"--max-memory={given}", code=1)
            check(f"got {given} bytes, expected at least" in done.stderr, f"{words}: the bound as it was given", done.stderr)


def denied(bench: Bench) -> None:
    """What is not shown may be there: only 404 and 410 say that a file is not, and a bucket's denial among files that are found."""
    shard = NAME.format(2)
    with Server().add_folder(bench.model) as server:
        for name in ("config.json", "tokenizer.json", "LICENSE", "model.safetensors.index.json", shard):
            for status in (401, 403):
                server.faults = [Fault("status", name, status=status)]
                done = bench.convert(server.origin, code=2, says="Q4-2321")
                check(name in done.stderr and f"HTTP {status}" in done.stderr and "give access in the URL" in done.stderr, "and says what to do", done.stderr)
        for name in ("config.json", "tokenizer.json", "model.safetensors.index.json"):
            for kind in ("text/html", "Text/HTML; charset=utf-8", "application/json"):
                server.faults = [Fault("page", name, type=kind)]
                done = bench.convert(server.origin, code=3, says="Q4-3322")
                check(name in done.stderr and "Log in to the portal" in done.stderr, "the page is named", done.stderr)
        with Server() as login:
            login.faults = [Fault("page")]
            server.faults = [Fault("redirect", "config.json", location=f"{login.origin}/login?state=swordfish")]
            bench.convert(server.origin, code=3, says=f"{login.origin}/login")
        server.faults = [Fault("status", "LICENSE", status=410)]
        bench.convert(server.origin)
        server.faults = []
        # A site that has a page for each name.
        server.special = lambda handler, path, query, headers: path not in server.files and (server.send(handler, 200, {"Content-Type": "text/html"}, LOGIN) or True)
        bench.convert(server.origin, code=3, says="for each name that it does not have")
        server.special = lambda *_: False
        # A bucket for everybody, of which not everybody may know what is in it.
        server.absent, server.absent_body, server.absent_type = 403, ACCESS_DENIED, "application/xml"
        bench.convert(server.origin, says="the bucket denies")
        server.faults = [Fault("call", shard, call=lambda s: s.files.pop("/" + shard, None))]
        bench.convert(server.origin, code=2, says="Q4-2324")
        server.files, server.faults = {}, []
        bench.convert(server.origin, code=2, says="Q4-2324")
    with Hub({"org/model": {path.name: path.read_bytes() for path in bench.model.iterdir()}}) as server:
        for part in (server, server.storage):
            part.faults = [Fault("page", "tokenizer")]
            bench.convert("hf://org/model", code=3, says="Q4-3322", HF_ENDPOINT=server.origin)
            part.faults = []
        server.faults = [Fault("page", "/tree/")]
        bench.convert("hf://org/model", code=3, says="Q4-3322", HF_ENDPOINT=server.origin)


def secrets(bench: Bench) -> None:
    """Whatever a URL is given as, and whatever comes of it: run() looks for the secret in what is said."""
    places = [("q4convert", "model", "-o", "{}"), ("q4convert", "model", "-o", "x.q4", "--calibration", "{}"),
              ("q4convert", "model", "-o", "x.q4", "--recipe", "{}"), ("q4convert", "model", "-o", "x.q4", "--adapter", "{}"),
              ("q4convert", "model", "-o", "x.q4", "--report", "{}"), ("q4convert", "model", "{}"), ("q4convert", "{}", "-o", "x.q4"),
              ("q4convert", "--status", "{}"), ("q4convert", "--merge", "-o", "{}"), ("q4export", "{}", "--to", "gguf", "-o", "x.gguf"),
              ("q4export", "local.q4", "--to", "safetensors", "-o", "{}"), ("q4verify", "{}"), ("q4verify", "local.q4", "--against", "{}"),
              ("q4inspect", "{}"), ("q4inspect", "local.q4", "--diff", "{}")]
    # Of servers that are not asked: what is wrong is seen before, or nobody is there.
    urls = ("http://me:swordfish@models.example/A?sig=swordfish", "hf://me:swordfish@org/x", "s3://me:swordfish@org/x", "ftp://me:sword/swordfish@h/x",
            "http://me:swordfish@127.0.0.1:1/x?sig=swordfish", "FILE://h/x?swordfish")
    for url in urls:
        for place in places:
            done = bench.run(*[part.format(url) for part in place], code=None)
            check(done.returncode != 0, f"{url} is refused in {place}", done.stderr)
    # A token in the place of the name: neither shown nor sent to anybody.
    for url in (f"hf://{SECRET}@org/model", f"hf://{SECRET}/org/model", f"hf://{SECRET}@org"):
        bench.convert(url, code=1, says="set HF_TOKEN", HF_ENDPOINT="http://127.0.0.1:1")


def changes(bench: Bench) -> None:
    """A source that becomes another one while it is read, also in its middle and also without ETags."""
    shard = NAME.format(2)
    data = (bench.model / shard).read_bytes()
    other = data[:-1000] + bytes(1000)

    def change(server):
        server.files["/" + shard] = other
        server.modified = dict.fromkeys(server.modified, "Wed, 01 Jan 2025 01:00:00 GMT")

    for etags in (True, False):
        with Server(etags=etags).add_folder(bench.model) as server:
            if not etags:
                server.modified = {path: "Wed, 01 Jan 2025 00:00:00 GMT" for path in server.files}
            server.faults = [Fault("call", shard, after=2, times=1, call=change)]
            bench.convert(server.origin, code=3, says="Q4-2006")


def hub(bench: Bench) -> None:
    files = {path.name: path.read_bytes() for path in bench.model.iterdir()}
    with Hub({"org/model": files}, token=SECRET) as server:
        environment = {"HF_ENDPOINT": server.origin, "HF_TOKEN": SECRET}
        done = bench.convert("hf://org/model", **environment)
        check(f"commit {Hub.COMMIT}" in done.stderr, "the commit is told", done.stderr)
        check(all("authorization" not in r["headers"] for r in server.storage.log), "the storage never sees the token")
        check(all(r["headers"].get("authorization") for r in server.log), "the hub always does")
        check(len(server.requests("/resolve/")) <= 2 * len(files), "each file is resolved once, and once at the end", len(server.requests("/resolve/")))
        bench.convert(f"hf://org/model@{Hub.COMMIT}", **environment)
        bench.convert("hf://org/model@refs/pr/1", **environment)
        bench.convert("hf://org/model@main/model.safetensors.index.json", **environment)
        bench.convert(f"{server.origin}/org/model/tree/main", **environment)
        bench.run("q4verify", "local.q4", "--against", "hf://org/model", MEMORY, **environment)
        # A link that ends is renewed.
        server.storage.uses = 6
        bench.convert("hf://org/model", **environment)
        server.storage.uses = 1 << 30
        # The token of `hf auth login`.
        (bench.work / "token").write_text(SECRET + "\n")
        bench.convert("hf://org/model", HF_ENDPOINT=server.origin, HF_HOME=str(bench.work))
        # What is not there, or may not be read.
        bench.convert("hf://org/model", code=2, says="set HF_TOKEN", HF_ENDPOINT=server.origin)
        bench.convert("hf://org/model", code=2, says="accept the terms", HF_ENDPOINT=server.origin, HF_TOKEN=SECRET + "x")
        bench.convert("hf://org/none", code=2, says="RepoNotFound", **environment)
        bench.convert("hf://org/model@none", code=2, says="RevisionNotFound", **environment)
        # Bytes that are others than the hub says: on the way, or of the list.
        server.storage.faults = [Fault("flip", NAME.format(3), at=2_000_000)]
        bench.convert("hf://org/model", code=6, says="Q4-6320", **environment)
        server.storage.faults = [Fault("flip", "tokenizer.json", at=1000)]
        bench.convert("hf://org/model", code=6, says="Q4-6320", **environment)
        server.storage.faults = []
        server.wrong_digest = (NAME.format(1),)
        bench.convert("hf://org/model", code=6, says="Q4-6320", **environment)
        server.wrong_digest = ()
        for entry in ({"type": "file", "path": "../x", "size": 1, "oid": "0"}, {"type": "file", "path": "x", "size": -1, "oid": "0"}, 7,
                      {"type": "file", "path": "x", "size": 1, "oid": "0", "lfs": {"oid": "no", "size": 1}}):
            server.more_entries = [entry]
            bench.convert("hf://org/model", code=3, says="Q4-3320", **environment)


def bucket(bench: Bench) -> None:
    files = {path.name: path.read_bytes() for path in bench.model.iterdir()}
    objects = {f"some models/a+b/{name}": data for name, data in files.items()} | {f"other/{i}": b"x" for i in range(9)} | {"some models/a+b/": b""}
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "swordfish", "AWS_REGION": "eu-central-1"}
    with Bucket("models", objects) as server:
        environment = {**keys, "AWS_ENDPOINT_URL": server.origin}
        bench.convert("s3://models/some models/a+b", **environment)
        bench.convert("s3://models/some models/a+b/", **environment)
        bench.convert("s3://models/some models/a+b/model.safetensors.index.json", **environment)
        check(not server.requests("other/"), "what lies elsewhere is not asked for")
        bench.run("q4verify", "local.q4", "--against", "s3://models/some models/a+b", MEMORY, **environment)
        bench.convert("s3://models/some models/none", code=2, says="Q4-2001", **environment)
        bench.convert("s3://elsewhere/x", code=2, says="NoSuchBucket", **environment)
        bench.convert("s3://models/x", code=2, says="set AWS_ACCESS_KEY_ID", AWS_ENDPOINT_URL=server.origin)
        bench.convert("s3://models/x", code=2, says="SignatureDoesNotMatch", **environment | {"AWS_SECRET_ACCESS_KEY": "wrong"})
        bench.convert("s3://models/x", code=1, says="AWS_SECRET_ACCESS_KEY", AWS_ACCESS_KEY_ID="AKIDEXAMPLE")
        bench.convert("s3://A/x", code=1, says="no name of a bucket", **environment)
        # Another version than the one that was listed.
        name = "/models/some models/a+b/" + NAME.format(2)
        server.faults = [Fault("call", NAME.format(2), times=1, call=lambda s: s.files.update({name: s.files[name][:-1] + b"?"}))]
        bench.convert("s3://models/some models/a+b", code=3, says="Q4-2006", **environment)
        server.faults, server.files[name] = [], files[NAME.format(2)]
        # Temporary keys; and a bucket for everybody.
        server.session = "temporary"
        bench.convert("s3://models/some models/a+b", **environment, AWS_SESSION_TOKEN="temporary")
        server.key = None
        bench.convert("s3://models/some models/a+b", AWS_ENDPOINT_URL=server.origin)
    with Bucket("models", objects, region="auto") as server:
        # Google's storage: a key for signatures, or a token.
        hmac_key = {"GCS_HMAC_ACCESS_ID": "AKIDEXAMPLE", "GCS_HMAC_SECRET": "swordfish", "GCS_ENDPOINT_URL": server.origin}
        bench.convert("gs://models/some models/a+b", **hmac_key)
        server.key, server.authorization = None, f"Bearer {SECRET}"
        bench.convert("gs://models/some models/a+b", GCS_ENDPOINT_URL=server.origin, GOOGLE_OAUTH_ACCESS_TOKEN=SECRET)
        bench.convert("gs://models/x", code=2, says="gcloud auth", GCS_ENDPOINT_URL=server.origin)


def pipeline(bench: Bench) -> None:
    """Of the hub a pipeline is read as from its folder; a plain server cannot list its components."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    index = {"_class_name": "FluxPipeline", "_diffusers_version": "0.30.0", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    folder = bench.work / "pipeline"
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "transformer" / "config.json").write_text(json.dumps({"_class_name": "FluxTransformer2DModel"}))
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(weights(5, 3, 1024))
    bench.run("q4convert", folder, "-o", "pipe-local", MEMORY)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with Hub({"org/pipe": files}) as server:
        bench.run("q4convert", "hf://org/pipe", "-o", "pipe-hub", MEMORY, HF_ENDPOINT=server.origin)
    trees = [{p.relative_to(t).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in t.rglob("*") if p.is_file()}
             for t in (bench.work / "pipe-local", bench.work / "pipe-hub")]
    check(trees[0] == trees[1] and trees[0], "a pipeline of the hub: the same files", trees)
    with Server().add_folder(folder) as server:
        done = bench.run("q4convert", server.origin, "-o", "pipe-web", code=5)
        check("Q4-5322" in done.stderr, "a pipeline at a plain URL is refused", done.stderr)


def tls(bench: Bench) -> None:
    """Certificates are looked at; http is for this machine."""
    bench.run("q4convert", "http://example.invalid/model", "-o", "x.q4", code=1)
    if shutil.which("openssl") is None:
        print("network_test: no openssl, so that nothing was read by TLS")
        return
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=q4",
                    "-addext", "subjectAltName=IP:127.0.0.1"], cwd=bench.work, check=True, capture_output=True)
    with Server(tls=(bench.work / "cert.pem", bench.work / "key.pem")).add_folder(bench.model) as server:
        bench.convert(server.origin, code=2, says="certificate")
        bench.convert(server.origin, CURL_CA_BUNDLE=str(bench.work / "cert.pem"))
        # From https nothing leads back to http, not even of this machine.
        with Server().add_folder(bench.model) as plain:
            server.faults = [Fault("redirect", NAME.format(2), location=f"{plain.origin}/{NAME.format(2)}")]
            bench.convert(server.origin, code=2, says="Q4-2322", CURL_CA_BUNDLE=str(bench.work / "cert.pem"))
            check(not plain.log, "nobody was asked there", plain.log)


def mistakes(bench: Bench) -> None:
    for given, code, says in [
        ("hf://", 1, "Q4-1320"),
        ("hf://datasets/org/name", 1, "a model"),
        ("hf://org/na me", 1, "Q4-1320"),
        ("hf://org/name@", 1, "Q4-1320"),
        ("hf://org/name/../x", 1, "Q4-1320"),
        ("https://", 1, "no name of a server"),
        ("https://ho st/", 1, "%20"),
        ("https://host/a%2fb", 1, "slash"),
        ("http://models.example/x", 1, "Q4-1321"),
        ("https://host:65536/x", 1, "1 to 65535"),
        ("https://host:0/x", 1, "1 to 65535"),
        *[(f"{scheme}://host/x", 1, "https://, hf://, s3:// or gs://") for scheme in ("ftp", "file", "az", "abfss", "FTP")],
    ]:
        bench.convert(given, code=code, says=says)
    for output in ("https://host/x.q4", "s3://bucket/x.q4", "s3:/bucket/x.q4"):
        check("Q4-1322" in bench.run("q4convert", "model", "-o", output, code=1).stderr, "an output is a file")
        for word in ("--status", "--merge"):
            check("Q4-1322" in bench.run("q4convert", word, output, code=1).stderr, f"{word} is about files", word)
    # A URL that went through a path of Python.
    for given in ("hf:/org/model", "https:/host/x", "s3:/bucket/x"):
        bench.convert(given, code=1, says="joins slashes")
        check("joins slashes" in bench.run("q4verify", "local.q4", "--against", given, code=1).stderr, given)
    bench.convert("hf://org/model", code=1, says="HF_ENDPOINT", HF_ENDPOINT="http://mirror.example")
    bench.convert("hf://org/model", code=1, says="Q4_NET_TIMEOUT", Q4_NET_TIMEOUT="soon")
    bench.convert("hf://org/model", code=1, says="Q4_NET_ATTEMPTS", Q4_NET_ATTEMPTS="0")
    bench.convert("hf://org/model", code=1, says="Q4-1323", HF_TOKEN="a\tb")
    # The variable that was meant is the one that was set.
    (bench.work / "bad_token").write_text("a\tb")
    bench.convert("hf://org/model", code=1, says="HF_TOKEN_PATH", HF_TOKEN_PATH=str(bench.work / "bad_token"))
    bench.convert("hf://org/model", code=1, says="HUGGING_FACE_HUB_TOKEN", HUGGING_FACE_HUB_TOKEN="a\tb")
    bench.convert("s3://models/x", code=1, says="AWS_ENDPOINT_URL:", AWS_ENDPOINT_URL="nowhere")
    for region in ("eu.evil.example/", "EU", "a b", "x@y"):
        bench.convert("s3://models/x", code=1, says="AWS_DEFAULT_REGION:", AWS_DEFAULT_REGION=region)
    # A folder that is named as a URL is.
    shutil.copytree(bench.model, bench.work / "ftp:" / "host")
    bench.convert("ftp://host")


def refusals(bench: Bench) -> None:
    """What needs a server or machine of a special kind: an endless list, a signal while nothing comes, a machine without libcurl."""
    with Hub({"org/model": {"config.json": b"{}"}}) as server:
        server.endless = True
        bench.convert("hf://org/model", code=3, says="Q4-3321", HF_ENDPOINT=server.origin)
    with Server().add_folder(bench.model) as server:
        server.faults = [Fault("status", "safetensors", after=3, status=429, headers={"Retry-After": "60"})]
        process = subprocess.Popen([bench.tools / "q4convert", server.origin, "-o", "out.q4", MEMORY], cwd=bench.work, stderr=subprocess.PIPE, text=True)
        while server.faults[0].hits == 0:
            time.sleep(0.02)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        message = process.communicate()[1]
        check(process.returncode == 7 and time.monotonic() - begin < 5, "a signal ends a wait with 7", process.returncode, message)
        server.faults = []
        bench.convert(server.origin)
    absent = bench.work / "absent"
    absent.mkdir()
    for name in ("libcurl.so.4", "libcurl-gnutls.so.4"):
        (absent / name).write_bytes(b"")
    others = os.environ.get("LD_LIBRARY_PATH", "")  # what the tools themselves need may lie there
    bench.convert("hf://org/model", code=5, says="Q4-5320", LD_LIBRARY_PATH=f"{absent}:{others}".rstrip(":"))


def resumes(bench: Bench) -> None:
    """Killed in the middle and run again."""
    with Server().add_folder(bench.model) as server:
        environment = {"HOME": str(bench.work), "PATH": os.environ.get("PATH", "")}
        command = ["env", *[f"{k}={v}" for k, v in environment.items()], str(bench.tools / "q4convert"), server.origin, "-o", "out.q4", MEMORY,
                   "--sync-every=256KiB", "--threads=1", "-q"]
        (bench.work / "out.q4").unlink(missing_ok=True)
        server.faults = [Fault("stall", NAME.format(2), after=2, seconds=0.3)]
        check_resumes(command, bench.work, bench.expected, tries=3, journal_bytes=200)


def main() -> int:
    tools = pathlib.Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory(prefix="q4-network-") as work:
        bench = Bench(tools, pathlib.Path(work))
        parts = [same_bytes, one_file, faults, denied, memory, secrets, changes, hub, bucket, pipeline, tls, mistakes, refusals, resumes]
        if "--sanitized" in sys.argv:
            parts = [same_bytes, one_file, changes, hub, bucket, mistakes]
        wanted = [argument for argument in sys.argv[2:] if not argument.startswith("-")]
        for part in parts:
            begin = time.monotonic()
            if not wanted or part.__name__ in wanted:
                part(bench)
            if "-v" in sys.argv:
                print(f"{part.__name__}: {time.monotonic() - begin:.1f} s")
    print(f"network_test: {checks.count()} checks held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
