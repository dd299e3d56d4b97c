#!/bin/sh
# tidy.sh [REGEX]: clang-tidy 14 with the repository's .clang-tidy over the product, or over the wings whose path REGEX matches. Fails when it
# finds anything. Installs it if it is missing; takes minutes.
set -eu
cd "$(dirname "$0")/.."
build=build/tidy

sh scripts/install_deps.sh tidy
# Joined, a wing's headers are parsed once.
cmake --preset release -B "$build" -DQ4_JOIN=ON -DQ4_ENABLE_CUDA=OFF -DQ4_BUILD_TESTS=OFF >/dev/null
generated=$(ninja -C "$build" -t targets all | sed -n 's/^\([^/].*\.cc\): CUSTOM_COMMAND$/\1/p')
# shellcheck disable=SC2086  # a list of files
ninja -C "$build" $generated >/dev/null

sed -n 's/^ *"file": "\(.*\)",*$/\1/p' "$build/compile_commands.json" | grep -e "${1:-}" |
  xargs -P "$(nproc)" -n 1 clang-tidy-14 --quiet -p "$build"
echo "tidy: nothing found"
