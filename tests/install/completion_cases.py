"""What the completion scripts of the tools offer, asked of the shells themselves."""

import pathlib
import re
import shutil
import subprocess

TOOLS = ("q4convert", "q4inspect", "q4verify", "q4export")
# What is typed, and what must be offered and what must not.
CASES = (
    ("q4convert", ("--ty",), {"--type"}, {"--threads"}),
    ("q4convert", ("--type", ""), {"nf4", "fp4"}, {"--type"}),
    ("q4convert", ("--encoder", "f"), {"feedback"}, {"absmax"}),
    ("q4convert", ("--progress", "j"), {"json"}, {"bar"}),
    ("q4convert", ("--device", "c"), {"cpu", "cuda"}, {"auto"}),
    ("q4export", ("--to", ""), {"bnb", "safetensors"}, {"q4"}),
    ("q4inspect", ("--sort", "s"), {"size", "sqnr"}, {"name"}),
    ("q4verify", ("--gate", "d"), {"default"}, set()),
    ("q4verify", ("--html", "rep"), {"reports of mine"}, {"--html"}),
)

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_"$1"
# `complete -o default`: where nothing is offered, files.
if [ ${#COMPREPLY[@]} -eq 0 ]; then mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"); fi
printf '%s\\n' "${COMPREPLY[@]}"
"""

def ask(command: list[str], folder: pathlib.Path) -> set[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=None)
    assert done.returncode == 0 and not done.stderr, (command[-3:], done.stderr)
    return {line.split("\t")[0].strip() for line in done.stdout.splitlines()}


def check(prefix: pathlib.Path, scratch: pathlib.Path) -> list[str]:
    """Raises AssertionError; returns the shells that were asked."""
    folder = scratch / "completion"
    folder.mkdir()
    (folder / "reports of mine").write_text("")
    share = prefix / "share"
    scripts = {
        "bash": lambda tool: share / "bash-completion/completions" / tool,
        "zsh": lambda tool: share / "zsh/site-functions" / f"_{tool}",
        "fish": lambda tool: share / "fish/vendor_completions.d" / f"{tool}.fish",
    }
    shells = [shell for shell in scripts if shutil.which(shell)]
    for shell in shells:
        for tool in TOOLS:
            script = scripts[shell](tool)
            subprocess.run([shell, "-n", script], check=True)
            text = script.read_text()
            # Each option of --help is one of the script.
            helped = subprocess.run([prefix / "bin" / tool, "--help"], capture_output=True, text=True, check=True).stdout
            for option in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", helped):
                assert re.search(rf"(--|-l ){option}\b", text), (shell, tool, option)
        for tool, words, wanted, unwanted in CASES:
            script = scripts[shell](tool)
            if shell == "bash":
                got = ask(["bash", "--norc", "-c", BASH, "bash", str(script), tool, *words], folder)
            elif shell == "fish":
                line = " ".join((tool, *words))
                got = ask(["fish", "--no-config", "-c", f"source '{script}'; complete -C '{line}'"], folder)
            else:
                continue  # registered below: what zsh offers needs a terminal
            assert wanted <= got and not unwanted & got, (shell, tool, words, sorted(got))
    if "zsh" in shells:
        for tool in TOOLS:
            said = subprocess.run(
                ["zsh", "-f", "-c", f"autoload -Uz compinit; compinit -D -u; source '{scripts['zsh'](tool)}'; print $_comps[{tool}]"],
                capture_output=True, text=True, check=True,
            )
            assert said.stdout.strip() == f"_{tool}" and not said.stderr, said
    return shells
