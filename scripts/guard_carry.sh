#!/bin/sh
# guard_carry.sh: scripts/guard_mutations.py for a machine that has many cores and Python, and neither a compiler nor the libraries.
# Builds the programs here and puts them into build/guard-carry. There, in the root of the same tree, with a glibc as new as here,
# `sh build/guard-carry/run.sh [OPTION...]` tries every guard on all cores; options are those of guard_mutations.py.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

python3 scripts/guard_mutations.py --build-only
carry=build/guard-carry
rm -rf "$carry"
mkdir -p "$carry"
built=build/guard_mutations/build
# shellcheck disable=SC2086  # a list of programs
pack_programs "$carry/programs.tar.xz" $built/tests/formats/formats_test $built/tests/libconvert/libconvert_export_test \
  $built/tests/cli/libfault_shim.so $built/tools/q4convert $built/tools/q4inspect $built/tools/q4verify $built/tools/q4export
cat >"$carry/run.sh" <<'END'
#!/bin/sh
# run.sh [OPTION...]: scripts/guard_carry.sh made this folder and says what it does.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$here/programs.tar.xz" "$out"
cd "$out"
mkdir -p build/tools build/tests/formats build/tests/libconvert build/tests/cli
mv programs/formats_test build/tests/formats/
mv programs/libconvert_export_test build/tests/libconvert/
mv programs/libfault_shim.so build/tests/cli/
mv programs/q4* build/tools/
LD_LIBRARY_PATH=$out/libraries python3 "$here/../../scripts/guard_mutations.py" --built --out "$out" --jobs "$(nproc)" "$@"
END
du -sh "$carry"
