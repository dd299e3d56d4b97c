#!/bin/sh
# install_deps.sh: installs what q4 builds and tests with, from the distribution's packages (Debian 12, Ubuntu 22.04 and later).
# The browser that the HTML report is tested in is a package of Debian only; the test takes any Chromium or Chrome it finds.
# As root or with sudo; returns at once when everything is there.
#   install_deps.sh clang   also what scripts/fuzz.sh builds with (Debian 12, Ubuntu 24.04 and later)
set -eu

packages='g++ cmake ninja-build pkg-config python3 python3-venv
libabsl-dev nlohmann-json3-dev libzstd-dev libhwy-dev libxxhash-dev libssl-dev libcli11-dev libfmt-dev libre2-dev
catch2 libbenchmark-dev'
if grep -q '^ID=debian' /etc/os-release 2>/dev/null; then packages="$packages chromium-headless-shell"; fi
[ "${1:-}" != clang ] || packages="$packages clang libclang-rt-dev"

missing=
for package in $packages; do
  if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
    missing="$missing $package"
  fi
done
[ -n "$missing" ] || exit 0

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}
echo "installing:$missing"
as_root apt-get update -q
# shellcheck disable=SC2086  # a list of package names
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
