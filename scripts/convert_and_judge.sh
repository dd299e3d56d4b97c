#!/bin/sh
# convert_and_judge.sh SOURCE OUTPUT.q4 REPORTS [q4verify options]: converts a checkpoint, judges the result against it, and
# publishes it only if the verdict is "passed". docs/ci.md shows it in a pipeline.
#
#   convert_and_judge.sh ./model out/model.q4 reports --max-nmse 0.012
#
# REPORTS receives convert.json, verify.json, junit.xml, comment.md and report.html, whatever the verdict. Until the verdict the
# container lies in a folder "unjudged" beside OUTPUT; after a failure it is removed, and an OUTPUT of an earlier run stays
# as it was. q4convert and q4verify are those of PATH. Exit status: that of the tool that failed, so 6 for a broken gate.
set -eu

if [ $# -lt 3 ]; then
  echo "usage: convert_and_judge.sh SOURCE OUTPUT.q4 REPORTS [q4verify options]" >&2
  exit 1
fi
source=$1 output=$2 reports=$3
shift 3

# Reports of an earlier run must not pass for this one's.
mkdir -p "$reports"
rm -f "$reports/convert.json" "$reports/verify.json" "$reports/junit.xml" "$reports/comment.md" "$reports/report.html"

unjudged=$(dirname "$output")/unjudged
candidate=$unjudged/$(basename "$output")
mkdir -p "$unjudged"
trap 'rm -f "$candidate"; rmdir "$unjudged" 2>/dev/null || true' EXIT

q4convert "$source" -o "$candidate" --force --progress plain --report "$reports/convert.json"
q4verify "$candidate" --against "$source" --progress plain "$@" --json --junit "$reports/junit.xml" \
  --markdown "$reports/comment.md" --html "$reports/report.html" > "$reports/verify.json"
mv "$candidate" "$output"
