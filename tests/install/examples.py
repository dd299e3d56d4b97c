"""Builds and runs the examples of docs/loading.md against an installation, by find_package and by pkg-config."""

import os
import pathlib
import re
import shlex
import subprocess

# In a project of C++17, and in one without C++: what they have to be told is said by the targets.
CMAKE_CXX = """cmake_minimum_required(VERSION 3.25)
project(example LANGUAGES CXX)
set(CMAKE_CXX_STANDARD 17)
find_package(q4 {version} REQUIRED)
add_executable(example example.cc)
target_link_libraries(example PRIVATE q4::loader)
"""
CMAKE_C = """cmake_minimum_required(VERSION 3.25)
project(example LANGUAGES C)
find_package(q4 REQUIRED COMPONENTS loader_c)
add_executable(example example.c)
target_link_libraries(example PRIVATE q4::loader_c)
"""
# Around the example of the page, which is the middle of a function.
C = """#include <stdio.h>
#include "libconvert/load/q4_loader_c.h"
static void use(const void* codes, const void* scale_codes, const void* scales2, float offset, unsigned block_size) {
  printf("%d %d %d %g %u\\n", codes != NULL, scale_codes != NULL, scales2 != NULL, offset, block_size);
}
int main(void) {
"""


def block(page: str, language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", page, re.M | re.S)
    assert found, f"docs/loading.md has no example in {language}"
    return found.group(1)


def without_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "ADDRESS", text)


def run(command: list[object], **more: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return str(done.stdout)


def check(prefix: pathlib.Path, page: str, model: pathlib.Path, tensor: str, scratch: pathlib.Path, cmake: str, compiler: str) -> None:
    lib = next(path.parent.parent for path in prefix.glob("lib*/**/pkgconfig/q4.pc"))
    env = {**os.environ, "PKG_CONFIG_PATH": str(lib / "pkgconfig"), "LD_LIBRARY_PATH": str(lib)}
    version = run(["pkg-config", "--modversion", "q4"], env=env).strip()

    cxx = scratch / "cxx"
    cxx.mkdir()
    (cxx / "example.cc").write_text(block(page, "cpp"))
    (cxx / "CMakeLists.txt").write_text(CMAKE_CXX.format(version=version))
    configure = [cmake, "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", "-G", "Ninja"]
    run([*configure, f"-DCMAKE_CXX_COMPILER={compiler}", "-DCMAKE_CXX_FLAGS=-O0"], cwd=cxx)
    run([cmake, "--build", "build"], cwd=cxx)
    said = run([cxx / "build/example", model])
    assert tensor in said, said
    missing = subprocess.run([cxx / "build/example", "none.q4"], capture_output=True, text=True)
    assert missing.returncode == 2 and "Q4-" in missing.stderr, missing
    # What that compiled, linked as pkg-config says; its compiler flags on the text alone.
    words = shlex.split(run(["pkg-config", "--cflags", "--libs", "q4"], env=env))
    run([compiler, next((cxx / "build").glob("**/example.cc.o")), "-o", cxx / "linked", *words])
    assert without_addresses(run([cxx / "linked", model])) == without_addresses(said)
    run([compiler, "-std=c++20", "-fsyntax-only", *[word for word in words if word.startswith("-I")], cxx / "example.cc"])

    c = scratch / "c"
    c.mkdir()
    text = block(page, "c").replace('"model.q4"', f'"{model}"').replace("model.layers.0.mlp.up_proj.weight", tensor)
    (c / "example.c").write_text(C + text + "  return 0;\n}\n")
    (c / "CMakeLists.txt").write_text(CMAKE_C)
    run(configure, cwd=c)
    run([cmake, "--build", "build"], cwd=c)
    words = shlex.split(run(["pkg-config", "--cflags", "--libs", "q4_loader_c"], env=env))
    run(["cc", "-std=c99", "-Wall", "-Werror", "-pedantic", "example.c", "-o", "linked", *words], cwd=c)
    for program in (c / "build/example", c / "linked"):
        said = run([program], env=env)
        assert said.split()[0] == "1" and said.split()[-1] == "64", said


# In a root where this was installed (packages.sh): examples.py PREFIX PAGE MODEL TENSOR CMAKE CXX
if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        prefix, page, model = map(pathlib.Path, sys.argv[1:4])
        check(prefix, page.read_text(encoding="utf-8"), model, sys.argv[4], pathlib.Path(name), sys.argv[5], sys.argv[6])
    print("packages: the loader's examples, by find_package and pkg-config")
