#!/bin/sh
# wheel.sh [DIR]: builds the Python package into DIR (dist): an sdist, and of it a wheel, one for every Python from 3.10 on, with the
# libraries that it needs beside it (auditwheel) and the tools as scripts. CPU, and CUDA where nvcc is found (its runtime is linked
# statically: one wheel for machines with and without a GPU). Then installs the wheel into bare environments, of each Python from 3.10 on
# that is there, and tries it without NumPy, compiler or GPU. Q4_CUDA_ARCHITECTURES chooses the GPUs, all generations by default; OFF
# leaves CUDA out. Q4_COMMIT says what commit it is where there is no git to ask, Q4_WHEEL_ENV where the environment lies that it is made with,
# Q4_RELEASE_FLAGS what to compile with instead of -O3 -DNDEBUG, for a trial.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

dist=${1:-dist}
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
root=$PWD
work=$root/build/wheel
env=${Q4_WHEEL_ENV:-$work/env}
rm -rf "$work/sdist" "$work/raw" "$work/try"
mkdir -p "$work"

sh scripts/install_deps.sh
sh scripts/python_env.sh "$env" wheel
python() { "$env/bin/python" -I "$@"; }

rm -f "$dist"/q4-*.whl
python -m build --no-isolation --sdist --outdir "$dist" . >"$work/sdist.log" 2>&1 || { tail -n 40 "$work/sdist.log"; exit 1; }
version=$(sed -n 's/.*kQ4Version = "\(.*\)".*/\1/p' libconvert/base/version.h)
sdist=$dist/q4-$version.tar.gz

# The wheel is made of what the sdist holds. Its build folder lies as deep as that of a clone, so that ccache finds what one compiled.
mkdir -p "$work/sdist"
tar -xzf "$sdist" -C "$work/sdist" --strip-components=1
use_compiler_cache
CCACHE_BASEDIR="$work/sdist"
case "${Q4_CUDA_ARCHITECTURES:-}" in
  '') cuda= ;;
  OFF) cuda=-Ccmake.define.Q4_ENABLE_CUDA=OFF ;;
  *) cuda=-Ccmake.define.Q4_CUDA_ARCHITECTURES=$Q4_CUDA_ARCHITECTURES ;;
esac
# An sdist has no git to ask.
commit=${Q4_COMMIT:-$(git describe --always --dirty --abbrev=12 --match 'v[0-9]*' 2>/dev/null || true)}
# Of a compiler by another name ccache knows nothing, and the build backend takes Python's, g++, where CMake takes c++.
(cd "$work/sdist" && PATH="$env/bin:$PATH" CXX="${CXX:-c++}" CC="${CC:-cc}" "$env/bin/python" -m build --no-isolation --wheel --outdir "$work/raw" \
  -Cbuild-dir=build/release -Ccmake.define.Q4_WERROR=ON -Ccmake.define.Q4_COMMIT="$commit" ${cuda:+"$cuda"} \
  ${Q4_RELEASE_FLAGS:+"-Ccmake.define.CMAKE_CXX_FLAGS_RELEASE=$Q4_RELEASE_FLAGS"} . >"$work/wheel.log" 2>&1) || { tail -n 60 "$work/wheel.log"; exit 1; }

rm -rf "$work/repaired" "$work/unpacked"
PATH="$env/bin:$PATH" "$env/bin/auditwheel" repair --wheel-dir "$work/repaired" "$work"/raw/q4-*.whl >"$work/auditwheel.log" 2>&1 ||
  { tail -n 40 "$work/auditwheel.log"; exit 1; }

# Whoever hands on others' libraries hands on their licences: of the packages that the libraries beside the module are of, and of those
# that are compiled into it.
python -m wheel unpack --dest "$work/unpacked" "$work"/repaired/q4-*.whl >/dev/null
licenses=$(echo "$work"/unpacked/q4-*/q4-*.dist-info/licenses)
packages='libcli11-dev nlohmann-json3-dev'
for library in "$work"/unpacked/q4-*/q4.libs/*; do
  name=$(basename "$library" | sed 's/-[0-9a-f]\{8\}\././')  # without the digest that auditwheel puts in
  packages="$packages $(dpkg-query --search "*/$name" | head -n 1 | cut -d: -f1)"
done
for package in $packages; do
  cp "/usr/share/doc/$package/copyright" "$licenses/$package.txt"
done
cp "$env"/lib/python3*/site-packages/nanobind-3*.dist-info/licenses/LICENSE "$licenses/nanobind.txt"
python -m wheel pack --dest-dir "$dist" "$work"/unpacked/q4-* >/dev/null
wheel=$(ls "$dist"/q4-*.whl)

cat >"$work/try.py" <<'PYTHON'
import pathlib, subprocess, sys, tempfile
import q4
assert "numpy" not in sys.modules
source = sys.argv[1]
with tempfile.TemporaryDirectory() as work:
    path = pathlib.Path(work) / "m.q4"
    q4.convert(source, path)
    assert q4.verify(path, against=source).ok
    assert len(q4.open(path).load()) == len(q4.open(path))
    tool = pathlib.Path(work) / "tool.q4"
    subprocess.run(["q4convert", source, "-o", tool, "-q"], check=True)
    assert tool.read_bytes() == path.read_bytes()
    subprocess.run(["q4verify", tool, "--against", source, "-q"], check=True)
    assert subprocess.run(["q4inspect", work + "/none"], capture_output=True).returncode == 2
    # Running a model needs torch, which is not here.
    done = subprocess.run(["q4calibrate", source, "--texts", sys.argv[0], "-o", work + "/c"], capture_output=True, text=True)
    assert done.returncode == 5 and "needs the package torch" in done.stderr, done
cuda = " ".join(q4.build_info(gpu=False).cuda_architectures)
print(f"wheel: q4 {q4.__version__} works on Python {sys.version.split()[0]}, " + (f"CUDA for {cuda}" if cuda else "without CUDA"))
PYTHON
# A bare environment of each Python that is there: no NumPy, and a PATH without compilers.
tried=
for python in python3 python3.10 python3.11 python3.12 python3.13 python3.14; do
  version=$("$python" -c 'import ensurepip, sys, venv; print(sys.version)' 2>/dev/null | head -n 1) || continue
  case $version in '' | "$tried") continue ;; esac
  tried=${tried:-$version}  # python3 is one of the others
  rm -rf "$work/try"
  "$python" -m venv "$work/try"
  "$work/try/bin/python" -m pip --disable-pip-version-check --quiet install "$wheel"
  (cd / && env -i PATH="$work/try/bin" "$work/try/bin/python" -I -W error "$work/try.py" "$root/testdata/checkpoints/tiny_plain_src")
done
ls -l "$sdist" "$wheel"
