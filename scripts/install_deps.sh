#!/bin/sh
# install_deps.sh: installs what q4 builds and tests with, from the distribution's packages (Debian 12, Ubuntu 24.04, and later).
# The browser that the HTML report is tested in is a package of Debian only; the test takes any Chromium or Chrome it finds.
# As root or with sudo; returns at once when everything is there.
#   install_deps.sh clang   also what scripts/fuzz.sh builds with
#   install_deps.sh tidy    also what scripts/tidy.sh runs
set -eu
. "$(dirname "$0")/lib.sh"

packages='g++ cmake ninja-build pkg-config python3 python3-venv python3-dev ccache
libabsl-dev nlohmann-json3-dev libzstd-dev libhwy-dev libxxhash-dev libssl-dev libcli11-dev libfmt-dev libre2-dev libcurl4-openssl-dev
catch2 libbenchmark-dev bindfs openssh-client minisign'
if grep -q '^ID=debian' /etc/os-release 2>/dev/null; then packages="$packages chromium-headless-shell"; fi
case "${1:-}" in
  clang) packages="$packages clang libclang-rt-dev" ;;
  tidy) packages="$packages clang-tidy-14" ;;
esac

# shellcheck disable=SC2086  # a list of package names
install_packages $packages

# Later distributions have other versions only; without this one the test `format` is skipped, and says so.
if apt-cache show clang-format-14 >/dev/null 2>&1; then install_packages clang-format-14; fi
