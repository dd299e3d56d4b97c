#!/usr/bin/env python3
"""install_test.py BUILD SOURCE CMAKE CXX: installs a build into a folder and uses it from there: the tools' main job, manual pages,
completion in every shell that is here, the loader's examples as docs/loading.md prints them; then uninstalls it."""

import gzip
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import completion_cases  # noqa: E402
import examples  # noqa: E402

TOOLS = completion_cases.TOOLS


def main_job(prefix: pathlib.Path, source: pathlib.Path, scratch: pathlib.Path) -> pathlib.Path:
    """Converts, judges, inspects and exports by what is installed; returns the container."""
    env = {**os.environ, "PATH": f"{prefix / 'bin'}:/usr/bin:/bin"}
    model = source / "testdata/checkpoints/tiny_plain_src"
    out = scratch / "out/model.q4"
    examples.run(["sh", prefix / "share/q4/convert_and_judge.sh", model, out, scratch / "reports", "--max-nmse", "0.02"], env=env)
    assert (scratch / "reports/verify.json").is_file()
    assert "nf4" in examples.run(["q4inspect", out], env=env)
    examples.run(["q4export", out, "--to", "bnb", "-o", scratch / "bnb", "-q"], env=env)
    version = (source / "libconvert/base/version.h").read_text().split('kQ4Version = "')[1].split('"')[0]
    # git tells nothing of a folder without history, or of one that is somebody else's.
    git = ["git", "-C", source, "describe", "--always"]
    told = (source / ".git").exists() and shutil.which("git") and subprocess.run(git, capture_output=True).returncode == 0
    for tool in TOOLS:
        said = examples.run([tool, "--version"], env=env)
        assert said.startswith(f"{tool} {version}\n"), said
        for row in ("arithmetic  q4n-", "SIMD  ", "CUDA  "):
            assert f"\n{row}" in said, said
        if told:
            assert re.search(r"^commit +\S+$", said, re.M), said
    return out


def manual(prefix: pathlib.Path) -> str:
    for tool in TOOLS:
        page = prefix / f"share/man/man1/{tool}.1.gz"
        text = gzip.decompress(page.read_bytes()).decode("ascii")
        helped = examples.run([prefix / "bin" / tool, "--help"])
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", helped)):
            assert option.replace("-", "\\-") in text, f"{page.name} does not have {option}"
        if not shutil.which("man"):
            continue
        shown = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, check=True,
                               env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANPAGER": "cat"})
        assert not shown.stderr, shown.stderr
        lines = shown.stdout.splitlines()
        assert any(line.strip().startswith(f"{tool} - ") for line in lines) and "SYNOPSIS" in lines, lines[:9]
    return "man" if shutil.which("man") else "no man here"


def links(prefix: pathlib.Path) -> int:
    """Every link of every installed page leads to something that is installed, and every anchor to a heading."""
    pages = sorted((prefix / "share/doc/q4").rglob("*.md"))
    assert {"README.md", "docs/jobs.md", "docs/choosing.md", "docs/decisions/README.md"} <= {
        page.relative_to(prefix / "share/doc/q4").as_posix() for page in pages}, pages
    met = 0
    for page in pages:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            path, _, anchor = target.partition("#")
            to = (page.parent / path).resolve() if path else page
            assert to.exists(), f"{page}: {target} leads nowhere"
            headings = re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE) if anchor and to.suffix == ".md" else []
            names = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not anchor or anchor in names, f"{page}: {target} has no such heading"
            met += 1
    assert met > 300, met
    return met


def as_a_part(source: pathlib.Path, scratch: pathlib.Path, cmake: str, compiler: str) -> None:
    """A project of C++17 that takes the loader in by add_subdirectory() compiles against it; neither tools nor tests are built."""
    folder = scratch / "part"
    folder.mkdir()
    (folder / "example.cc").write_text(examples.block((source / "docs/loading.md").read_text(), "cpp"))
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(example LANGUAGES CXX)\nset(CMAKE_CXX_STANDARD 17)\n"
        f'add_subdirectory("{source}" q4)\nadd_executable(example example.cc)\ntarget_link_libraries(example PRIVATE q4_loader)\n'
    )
    words = ["-G", "Ninja", f"-DCMAKE_CXX_COMPILER={compiler}", "-DQ4_ENABLE_CUDA=OFF", "-DCMAKE_CXX_FLAGS=-O0"]
    examples.run([cmake, "-S", ".", "-B", "build", *words], cwd=folder)
    # The object alone: the rest of the loader is what the build under test has compiled.
    examples.run([cmake, "--build", "build", "--target", "CMakeFiles/example.dir/example.cc.o"], cwd=folder)
    targets = examples.run([cmake, "--build", "build", "--target", "help"], cwd=folder)
    assert "q4_loader" in targets and "q4convert" not in targets and "options_test" not in targets


def files_below(folder: pathlib.Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def main() -> None:
    build, source = (pathlib.Path(word).resolve() for word in sys.argv[1:3])
    cmake, compiler = sys.argv[3:]
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        prefix = scratch / "a prefix"
        # The manifest of an installation that somebody made of this build stays theirs.
        kept = {path: path.read_bytes() for path in build.glob("install_manifest*.txt")}
        for path in kept:
            path.unlink()
        try:
            examples.run([cmake, "--install", build, "--prefix", prefix])
            installed = files_below(prefix)
            assert not any("_core" in path or path.endswith(".py") for path in installed), "the Python package is of wheels alone"
            out = main_job(prefix, source, scratch)
            said = manual(prefix)
            met = links(prefix)
            shells = completion_cases.check(prefix, scratch)
            tensor = "model.layers.0.self_attn.q_proj.weight"
            examples.check(prefix, (source / "docs/loading.md").read_text(), out, tensor, scratch, cmake, compiler)
            as_a_part(source, scratch, cmake, compiler)
            (prefix / "share/doc/q4/a note of mine").write_text("")
            examples.run([cmake, f"-DQ4_BUILD={build}", "-P", source / "cmake/q4_uninstall.cmake"])
            assert files_below(prefix) == {"share/doc/q4/a note of mine"}, files_below(prefix)
            assert not (prefix / "include/q4").exists()
        finally:
            for path in build.glob("install_manifest*.txt"):
                path.unlink()
            for path, content in kept.items():
                path.write_bytes(content)
        print(f"install: {len(installed)} files; {met} links; {said}; completion in {', '.join(shells)}; examples by find_package and pkg-config")


if __name__ == "__main__":
    main()
