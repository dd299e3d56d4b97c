#!/usr/bin/env python3
"""How the tools behave at a prompt and in a script: --help, readers that leave, Ctrl-C, outputs that nobody named, dry runs, reports.

    manners_test.py TOOLS CHECKPOINTS
"""

import fcntl
import json
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import checks  # noqa: E402  (the path above)
from checks import check  # noqa: E402
import safetensors_bytes as st  # noqa: E402
from tools import Tools  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOOLS = ("q4convert", "q4inspect", "q4verify", "q4export")
DIES_BY_SIGPIPE = -signal.SIGPIPE  # which a shell shows as 141
GROUPS_AT_LEAST = {"q4convert": 6, "q4inspect": 4, "q4verify": 4, "q4export": 4}


def documented(tool: str) -> set:
    """The options in the tables of the tool's manual."""
    rows = re.findall(r"^\| (`-.*?) \|", (ROOT / f"docs/{tool}.md").read_text(encoding="utf-8"), re.M)
    return {name for row in rows for name in re.findall(r"`(--[a-z][\w-]*)", row)}


def helps(tools: Tools) -> None:
    for tool in TOOLS:
        text = tools.run(tool, "--help").stdout
        wide = [line for line in text.splitlines() if len(line) > 80]
        check(not wide, f"{tool} --help fits 80 columns", wide)
        check("{" not in text and "TEXT" not in text and "UINT" not in text and "Excludes" not in text, f"{tool} --help has no noise", text)
        sections = re.split(r"\n\n", text.strip())
        usage = [section for section in sections if section.startswith(f"Usage: {tool} ")]
        check(len(usage) == 1, f"{tool} --help has a usage line", sections[:2])
        names, headings = [], []
        for section in sections:
            lines = section.splitlines()
            options = [name for line in lines if line.startswith("  -") for name in re.findall(r"--[a-z][\w-]+", re.split(r" {2,}", line.strip())[0])]
            if options:
                check(lines[0].endswith(":") and not lines[0].startswith(" "), f"{tool}: options stand under a heading", lines[0])
                headings.append(lines[0])
                names += options
        check(len(headings) >= GROUPS_AT_LEAST[tool] and len(set(headings)) == len(headings) and "Options:" not in headings, f"{tool}: groups", headings)
        check(len(names) == len(set(names)), f"{tool}: each option once", names)
        missing = documented(tool) ^ (set(names) - {"--quiet", "--verbose"})  # which the manuals call -q and -v
        check(not missing, f"{tool}: what its manual lists, and nothing else", missing)
        examples = next(section for section in sections if section.startswith("Examples:")).splitlines()[1:]
        check(len(examples) >= 3 and all(line.startswith(f"  {tool} ") for line in examples), f"{tool}: examples", examples)
        for line in examples:
            unknown = set(re.findall(r"--[a-z][\w-]+", line)) - set(names)
            check(not unknown, f"{tool}: examples use its options", unknown)
        check(sections[-1].startswith("Exit codes: 0 done") and f"man {tool}" in sections[-1], f"{tool}: the end", sections[-1])
        check("--help" in tools.run(tool, code=1).stderr, f"{tool} alone says what to try")


def before_left(tools: Tools, *words, code: int) -> None:
    """The output goes to a reader that has left already, so that nothing depends on who is faster."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([tools.folder / words[0], *words[1:]], cwd=tools.work, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    check(done.returncode == code, f"{words}: the end that shells know", done.returncode, done.stderr)
    if code == DIES_BY_SIGPIPE:
        check("Q4-" not in done.stderr and "pipe" not in done.stderr.lower(), f"{words}: no word about it", done.stderr)


def readers_that_leave(tools: Tools) -> None:
    for words in (("q4inspect", "m.q4"), ("q4inspect", "m.q4", "--json", "--tensors", "--stats"), ("q4inspect", "m.q4", "--stats"),
                  ("q4inspect", "model", "--tensors"), ("q4inspect", "m.q4", "--tensor", "lm_head.weight", "--dump", "0:60000"),
                  ("q4verify", "m.q4"), ("q4verify", "m.q4", "--json"), ("q4convert", "model", "--dry-run", "-v"),
                  ("q4convert", "model", "--dry-run", "--json"), ("q4convert", "model", "-o", "piped.q4", "--force"),
                  ("q4export", "m.q4", "--to", "bnb", "-o", "piped", "--force"), ("q4convert", "--help"), ("q4export", "--version")):
        before_left(tools, *words, code=DIES_BY_SIGPIPE)
    check((tools.work / "piped.q4").read_bytes() == (tools.work / "m.q4").read_bytes(), "the work was done nevertheless")
    # A verdict is worth more: what a gate said must not become another code because somebody cut the report off.
    before_left(tools, "q4verify", "m.q4", "--max-nmse", "1e-9", code=6)
    before_left(tools, "q4inspect", "m.q4", "--diff", "other.q4", code=6)
    # As it is used, with an output that is longer than a pipe.
    done = subprocess.run(f"'{tools.folder}/q4inspect' m.q4 --tensor lm_head.weight --dump 0:60000 | head -n 2", shell=True, cwd=tools.work,
                          capture_output=True, text=True)
    check(done.returncode == 0 and done.stderr == "" and done.stdout.count("\n") == 2, "into head", done)
    # A full disk is no reader that left.
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([tools.folder / "q4inspect", "m.q4"], cwd=tools.work, stdout=full, stderr=subprocess.PIPE, text=True)
        check(done.returncode == 2 and "Q4-2090" in done.stderr, "a full disk is told", done)


def interrupted(tools: Tools, *words, signals: int = 1, after: float = 1.0) -> None:
    """Ctrl-C while it works: an answer at once, the end within a second, and what is left is gone on with."""
    process = subprocess.Popen([tools.folder / words[0], *words[1:]], cwd=tools.work, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    time.sleep(after)
    check(process.poll() is None, f"{words} is at work when it is interrupted")
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    answer = b""
    while b"\n" not in answer.partition(b"stopping")[2]:
        answer += os.read(process.stderr.fileno(), 4096)
        check(answer != b"" and time.monotonic() - begin < 5, f"{words} answers", answer)
    answered = time.monotonic() - begin
    for _ in range(signals - 1):
        process.send_signal(signal.SIGINT)
    rest = process.stderr.read().decode()
    process.wait()
    took = time.monotonic() - begin
    tool = words[0].encode()
    check(tool + b": stopping... (once more ends at once)\n" in answer, f"{words} says that it stops", answer)
    # The machine may be busy with other tests: the promise is a second, a test that fails for no reason is worth nothing.
    check(answered < 3 and took < 8, f"{words} ends soon", answered, took)
    if signals == 1:
        check(process.returncode == 7 and "interrupted" in rest, f"{words} ends with 7", process.returncode, rest)
    else:
        check(process.returncode == -signal.SIGINT, "a second Ctrl-C ends it as any program", process.returncode, rest)


def interruptions(tools: Tools, sanitized: bool) -> None:
    if sanitized:
        return
    (tools.work / "large").mkdir()
    # Weights between 2^-15 and 1, which compress a little and slowly.
    data = random.Random(5).randbytes(2 * 2048 * 4096).translate(bytes(b & 7 | 0x38 for b in range(256)))
    tensors = {f"model.layers.{n}.mlp.up_proj.weight": ("BF16", (2048, 4096), data) for n in range(6)}
    (tools.work / "large/model.safetensors").write_bytes(st.tensor_file(tensors))
    slow = ("q4convert", "large", "-o", "slow.q4", "--progress", "none", "--threads", "1")
    for more in (("--compress", "zstd:19", "--keep-dtype", "fp32", "--exclude", "."), ("--encoder", "mse", "--effort", "3")):
        interrupted(tools, *slow, *more)
        for left in tools.work.glob("slow.q4*"):
            left.unlink()
    interrupted(tools, *slow, "--encoder", "mse", "--effort", "3", signals=2)
    for left in tools.work.glob("slow.q4*"):
        left.unlink()
    # Quiet is quiet, but for the error.
    process = subprocess.Popen([tools.folder / "q4convert", *slow[1:], "--encoder", "mse", "--effort", "3", "-q"], cwd=tools.work, stderr=subprocess.PIPE)
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1].decode()
    check(process.returncode == 7 and said.count("\n") == 1 and "stopping" not in said, "-q", process.returncode, said)
    # Who is started with a signal ignored, as by nohup, ignores it.
    process = subprocess.Popen(["sh", "-c", f"trap '' HUP; exec '{tools.folder}/q4convert' large -o hup.q4 -q --compress zstd:1"], cwd=tools.work)
    time.sleep(0.2)
    process.send_signal(signal.SIGHUP)
    check(process.wait() == 0 and (tools.work / "hup.q4").exists(), "nohup", process.returncode)


def names_of_outputs(tools: Tools) -> None:
    work = tools.work
    done = tools.run("q4convert", "model")
    check("wrote   model-nf4.q4\n" in done.stdout and (work / "model-nf4.q4").read_bytes() == (work / "m.q4").read_bytes(), "a folder's name", done.stdout)
    check("exists" in tools.run("q4convert", "model", code=1).stderr, "never over what is there")
    for words, name in ((("model/model.safetensors", "--type", "fp4"), "model-fp4.q4"), (("./model/../model/", "--force"), "model-nf4.q4"),
                        (("models--some--net/snapshots/0123",), "net-nf4.q4")):
        tools.run("q4convert", *words)
        check((work / name).is_file(), f"{words} -> {name}")
    here = Tools(tools.folder, work / "model")
    here.run("q4convert", ".", "-q")
    check((work / "model/model-nf4.q4").is_file(), "the working directory has a name, too")
    (work / "model/model-nf4.q4").unlink()
    for to in ("bnb", "safetensors"):
        tools.run("q4export", "m.q4", "--to", to)
        check((work / f"m-{to}").is_dir(), f"m-{to}")
    check("give one by -o" in tools.run("q4convert", "m.q4", code=1).stderr, "what is packed anew has no name of its own")
    check("as in the container" in tools.run("q4convert", "m.q4", "--dry-run").stdout, "a plan of it needs none")
    for left in (*work.glob("model-*.q4"), work / "net-nf4.q4"):
        left.unlink()


def dry_runs(tools: Tools) -> None:
    work = tools.work
    before = sorted(work.iterdir())
    text = tools.run("q4convert", "model", "--dry-run").stdout
    size = (work / "m.q4").stat().st_size
    check(f"output  {size:,} bytes" in text, "the exact size", text)
    check(len(text.splitlines()) < 25 and "treatment" in text and "kept because" in text and "-v lists all" in text, "a short form with headings", text)
    full = tools.run("q4convert", "model", "--dry-run", "-v").stdout
    check(full.endswith(text.replace(" (-v lists all)", "")) and full.count(".weight ") >= 21, "-v: every tensor first", full)
    done = tools.run("q4convert", "model", "-o", "m.q4", "--dry-run")
    check("\nwrites  model-nf4.q4\n" in text and done.stdout == text.replace("model-nf4.q4", "m.q4"), "a plan names what a run would write", text, done.stdout)
    fails = "a run would fail: m.q4: the output exists; use --force"
    check(f"warning: {fails}" in done.stderr, "an output that is there is a note", done.stderr)
    document = json.loads(tools.run("q4convert", "model", "-o", "m.q4", "--dry-run", "--json").stdout)
    check(document["output"] == "m.q4" and len(document["warnings"]) == 1 and fails in document["warnings"][0], "in the document too", document["warnings"])
    document = json.loads(tools.run("q4convert", "m.q4", "-o", "other.q4", "--dry-run", "--json").stdout)
    check(document["output"] == "other.q4" and "other.q4: the output exists" in document["warnings"][0], "and in that of packing anew", document["warnings"])
    for words in (("model",), ("m.q4",), ("model", "-o", "m.q4")):
        done = tools.run("q4convert", *words, "--dry-run", "-q")
        check(not done.stdout and not done.stderr, f"{words} -q: nothing but the exit code", done.stdout, done.stderr)
    check("warning" not in tools.run("q4convert", "model", "-o", "m.q4", "--dry-run", "--force").stderr, "which --force settles")
    check(sorted(work.iterdir()) == before, "nothing is written")
    tools.run("q4convert", "model", "--dry-run", "--report", "plan.json")
    plan = json.loads((work / "plan.json").read_text())
    check(plan == json.loads(tools.run("q4convert", "model", "--dry-run", "--json").stdout), "--report has what --json says")
    check(plan["document"] == "q4convert-plan" and plan["provenance"]["options"]["type"] == "nf4", "with the options", plan["provenance"])
    wide = {"model.layers.0.mlp.up_proj.weight": ("F32", (64, 64), bytes(4 * 64 * 64)), "model.embed_tokens.weight": ("F32", (100, 64), bytes(4 * 6400))}
    (work / "wide.safetensors").write_bytes(st.tensor_file(wide))
    hint = tools.run("q4convert", "wide.safetensors", "--dry-run").stdout
    check(re.search(r"^hint    what stays in fp32 is \d\d % of the output; --keep-dtype bf16 makes it about ", hint, re.M) is not None, "a hint", hint)
    check("hint" not in text and "hint" not in tools.run("q4convert", "wide.safetensors", "--dry-run", "--keep-dtype", "fp16").stdout, "where it helps")


def reports(tools: Tools) -> None:
    work = tools.work
    done = tools.run("q4convert", "model", "-o", "r.q4", "--gate", "default", "--report", "good.json")
    good = json.loads((work / "good.json").read_text())
    held = len(good["gates"])
    check(f"gates   {held} limits hold\n" in done.stdout and held > 10, "how many limits hold", done.stdout)
    check(good["passed"] and all(gate["passed"] for gate in good["gates"]) and good["findings"] == [] and len(good["outputs"]) == 1, "a report that passed")
    made = good["provenance"]
    check(made["tool"]["name"] == "q4convert" and made["options"]["block_size"] == 64 and len(made["source"]["files"][0]["sha256"]) == 64, "who made it of what", made)
    for words in (("--report", "bad.json"), ("--json",)):
        done = tools.run("q4convert", "model", "-o", "b.q4", "--max-nmse", "0.0084", *words, code=6)
        bad = json.loads((work / "bad.json").read_text() if "--report" in words else done.stdout)
        check(not bad["passed"] and bad["outputs"] == [] and bad["index"] is None and bad["finding_count"] == len(bad["findings"]) > 0, "a report that failed", words)
        check(any(not gate["passed"] for gate in bad["gates"]) and bad["provenance"] == made, "with gates, options and sources", bad["provenance"])
        check(bad["totals"] == good["totals"] and len(bad["tensors"]) == len(good["tensors"]), "and every tensor")
        check(not (work / "b.q4").exists(), "and no output")
    # Six digits for people, all of them for programs.
    line = done.stderr.splitlines()[0]
    check(re.search(r"\(got 0\.00\d{5,6}, expected at most 0\.0084\)", line) is not None, "six digits", line)
    check(any(len(repr(gate["value"])) > 12 for gate in bad["gates"]), "all digits in JSON")
    # The gate that matches nothing is known from the plan, and reported as well.
    (work / "none.gate").write_text('{"rules": [{"match": "nothing_like_it", "max_nmse": 1}]}')
    for words in ((), ("--dry-run",)):
        done = tools.run("q4convert", "model", "-o", "b.q4", "--gate", "none.gate", "--json", *words, code=6)
        bad = json.loads(done.stdout)
        check(not bad["passed"] and "none.gate" in bad["findings"][0]["message"] and not (work / "b.q4").exists(), f"from the plan {words}", bad["findings"])


def comparisons(tools: Tools) -> None:
    text = tools.run("q4inspect", "m.q4", "--diff", "other.q4", code=6).stdout
    lines = text.splitlines()
    check(lines[0] == "7 tensors equal, 0 renamed, 14 changed, 0 removed, 0 added: different", "the verdict first", lines[0])
    check(lines[1].startswith("  size         534 kB -> ") and "SQNR 20.714 -> " in lines[2] and lines[3].endswith("nf4 b64 dq of BF16 -> nf4 b128 dq of BF16: 14 tensors"),
          "then sizes, errors and kinds", lines[:4])
    check("the 5 of 14 changed tensors that are furthest apart (--all for every one):" in lines and text.count("~ tensor") == 5, "the worst five", text)
    apart = [float(value) for value in re.findall(r"NMSE between them ([\d.e-]+)", text)]
    everything = tools.run("q4inspect", "m.q4", "--diff", "other.q4", "--all", code=6).stdout
    all_apart = [float(value) for value in re.findall(r"NMSE between them ([\d.e-]+)", everything)]
    check(everything.count("~ tensor") == 14 and apart == sorted(all_apart, reverse=True)[:5], "of all", apart, all_apart)
    for words, rows in (("--tensors", 21), ("--stats", 14)):
        text = tools.run("q4inspect", "m.q4", words, "--sort", "nmse", "--top", "3").stdout
        names = re.findall(r"  (model\.\S+|lm_head\S+)$", text, re.M)
        check(names == re.findall(r"  (model\.\S+|lm_head\S+)$", tools.run("q4inspect", "m.q4", words, "--sort", "nmse").stdout, re.M)[:3], f"--top 3 of {rows}", text)
        check("NMSE" in text.splitlines()[0], f"{words}: what it is sorted by is seen", text)
    check("NMSE" in tools.run("q4inspect", "m.q4", "--sort", "sqnr").stdout, "--sort alone, too")
    text = tools.run("q4inspect", "m.q4", "--stats", "--filter", "q_proj").stdout
    check("(these 2 tensors)" in text and "(model: 14 tensors)" in text, "a total of what is listed, and of the model", text)


def printed(tools: Tools, columns: int, *words) -> str:
    """stdout of a tool on a terminal so wide, as lines end there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen([tools.folder / words[0], *words[1:]], cwd=tools.work, stdout=theirs, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                          env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}) as process:  # fmt: skip
        os.close(theirs)
        pieces = []
        try:
            while piece := os.read(ours, 1 << 16):
                pieces.append(piece)
        except OSError:  # a terminal without a writer ends so
            pass
    os.close(ours)
    return b"".join(pieces).decode().replace("\r\n", "\n")


def words_behind_patterns(tools: Tools) -> None:
    """An option that may be given several times takes one word each time: what follows is the input."""
    for words in (("--exclude", "q_proj", "model", "--dry-run"), ("--exclude", "q_proj", "--include", "lm_head", "model", "--dry-run"), ("--drop-file", "config.json", "m.q4", "--dry-run"),
                  ("--add-file", "note.json=model/config.json", "m.q4", "--dry-run")):  # fmt: skip
        check("output  " in tools.run("q4convert", *words).stdout, f"{words}")


def little_is_quantized(tools: Tools) -> None:
    """An output that is as large as the input says why."""
    done = tools.run("q4convert", "model", "-o", "kept.q4", "--exclude", ".")
    (tools.work / "kept.q4").unlink()
    check("warning: nothing is quantized: 21 tensors are kept (21 kept: --exclude '.')" in done.stderr, "with the reasons", done.stderr)
    check("warning: nothing is quantized" in tools.run("q4convert", "model", "--dry-run", "--exclude", ".").stderr, "in a plan too")
    tools.run("q4export", "m.q4", "--to", "bnb", "-o", "bnb", "-q")
    done = tools.run("q4convert", "bnb", "-o", "taken.q4")
    (tools.work / "taken.q4").unlink()
    check("weights are in 4 bits already, by bitsandbytes: their codes and scales are taken over as they are" in done.stderr, "nothing to save", done.stderr)


def on_a_terminal(tools: Tools) -> None:
    """Tables fit a terminal of 80 columns; the command below them is one line, to be copied."""
    for words in (("q4convert", "model", "--compare"), ("q4convert", "model", "--dry-run"), ("q4inspect", "m.q4"), ("q4inspect", "m.q4", "--stats"), ("q4inspect", "m.q4", "--tensors")):
        text = printed(tools, 80, *words)
        lines = [line for line in text.splitlines() if not line.startswith("q4convert ")]
        check(len(lines) > 5 and max(map(len, lines)) <= 80, f"{words} at 80 columns", [line for line in lines if len(line) > 80])
    check("(a wider terminal shows " in printed(tools, 80, "q4convert", "model", "--compare"), "what is left out is named")
    wide = printed(tools, 200, "q4convert", "model", "--compare")
    check("worst tensor" in wide and "core s" in wide and "a wider terminal" not in wide, "and shown where there is room", wide)


def resumed(tools: Tools) -> None:
    """Said before the work and not after it."""
    out = tools.work / "again.q4"
    process = subprocess.Popen([tools.folder / "q4convert", "model", "-o", out, "--sync-every", "1", "-q"], cwd=tools.work)
    while process.poll() is None and not (tools.work / "again.q4.journal").exists():
        time.sleep(0.0005)
    process.kill()
    process.wait()
    if not (tools.work / "again.q4.journal").exists():
        print("manners: SKIPPED a resumed run: it ended before it was killed")
        return
    done = tools.run("q4convert", "model", "-o", out, "--progress", "json")
    check(done.stderr.startswith("q4convert: resumed") or "resumed" not in done.stderr, "it comes first", done.stderr)
    check(done.stderr.count("resumed") <= 1, "and once", done.stderr)


def no_alarm(tools: Tools) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([tools.folder / "q4convert", "model", "-o", "cpu.q4", "--progress", "none"], cwd=tools.work, env=environment, capture_output=True, text=True)
    check(done.returncode == 0, "converts on the CPU", done.stderr)
    if not any(pathlib.Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg")):
        check(done.stderr == "q4convert: no GPU: using the CPU\n", "no alarm", done.stderr)
    done = subprocess.run([tools.folder / "q4convert", "model", "-o", "cpu.q4", "--force", "-q"], cwd=tools.work, env=environment, capture_output=True, text=True)
    check(done.returncode == 0 and done.stderr == "", "nothing with -q", done.stderr)


def main() -> None:
    folder, checkpoints = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        tools = Tools(folder, work)
        shutil.copytree(checkpoints / "tiny_plain_src", work / "model")
        shutil.copytree(checkpoints / "tiny_plain_src", work / "models--some--net/snapshots/0123")
        tools.run("q4convert", "model", "-o", "m.q4", "-q")
        tools.run("q4convert", "model", "-o", "other.q4", "--block-size", "128", "-q")
        helps(tools)
        readers_that_leave(tools)
        names_of_outputs(tools)
        dry_runs(tools)
        reports(tools)
        comparisons(tools)
        words_behind_patterns(tools)
        little_is_quantized(tools)
        on_a_terminal(tools)
        resumed(tools)
        no_alarm(tools)
        interruptions(tools, "--sanitized" in sys.argv)
    print(f"manners: {checks.count()} checks")


if __name__ == "__main__":
    main()
