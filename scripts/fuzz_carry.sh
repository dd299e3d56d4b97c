#!/bin/sh
# fuzz_carry.sh: fuzz targets for a machine that has many cores and Python, and neither Clang nor the libraries.
#   fuzz_carry.sh [TARGET...]     the targets by name, such as gguf (all)
# Builds them as scripts/fuzz.sh does and puts them into build/fuzz-carry, without symbols and packed, with the libraries that
# they need beside glibc, their seeds and dictionaries. There, with a glibc as new as here, `sh run.sh SECONDS [OUT]` runs all of
# them on all cores, prints the table of scripts/fuzz_campaign.py and leaves table, findings and corpora in OUT (./out). What is found has
# to be run again here, where a stack has names.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

sh scripts/install_deps.sh clang
use_compiler_cache
cmake --preset fuzz
[ $# -gt 0 ] || set -- $(cd tests/fuzz && ls -- *_fuzz.cc | sed 's/_fuzz\.cc$//')
# shellcheck disable=SC2046  # a list of targets
cmake --build --preset fuzz --target $(printf '%s_fuzz ' "$@")

carry=build/fuzz-carry
rm -rf "$carry"
mkdir -p "$carry/tests/fuzz" "$carry/testdata/fuzz"
for target in "$@"; do
  cp -r "testdata/fuzz/$target" "$carry/testdata/fuzz/"
  for file in "testdata/fuzz/$target.found" "tests/fuzz/$target.dict"; do
    [ ! -f "$file" ] || cp "$file" "$carry/$file"
  done
done
# shellcheck disable=SC2046  # a list of programs
pack_programs "$carry/programs.tar.xz" $(printf 'build/fuzz/tests/fuzz/%s_fuzz ' "$@")
cp tests/fuzz/found_inputs.py "$carry/tests/fuzz/"
cp scripts/fuzz_campaign.py "$carry/"
cat >"$carry/run.sh" <<'END'
#!/bin/sh
# run.sh SECONDS [OUT]: scripts/fuzz_carry.sh made this folder and says what it does.
set -eu
seconds=${1:?usage: run.sh SECONDS [OUT]}
out=${2:-out}
mkdir -p "$out"
out=$(cd "$out" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$here/programs.tar.xz" "$unpacked"
LD_LIBRARY_PATH=$unpacked/libraries python3 "$here/fuzz_campaign.py" "$unpacked/programs" "$here" "$out" --seconds "$seconds" --cores "$(nproc)"
END
du -sh "$carry"
