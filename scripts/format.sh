#!/bin/sh
# format.sh: formats every C++, C and CUDA file with clang-format 14 and the repository's .clang-format.
#   format.sh --check   changes nothing; prints what is not formatted and exits 1
# Other versions break lines elsewhere, so that no other will do. Where it is missing (scripts/install_deps.sh installs it), exits 77, which
# is "skipped" for CTest.
set -eu
cd "$(dirname "$0")/.."

for program in clang-format-14 clang-format; do
  if "$program" --version 2>/dev/null | grep -q ' version 14\.'; then
    mode=-i
    [ "${1:-}" != --check ] || mode='--dry-run --Werror'
    # shellcheck disable=SC2086  # options
    find formats kernels libconvert python tools tests bench \( -name '*.cc' -o -name '*.h' -o -name '*.c' -o -name '*.cu' -o -name '*.cuh' \) \
      -exec "$program" $mode {} +
    exit 0
  fi
done
echo "SKIP: clang-format 14 is not installed"
exit 77
