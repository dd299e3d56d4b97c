#!/bin/sh
# convert_and_judge.sh SOURCE OUTPUT.q4 REPORTS LIMITS... [q4verify options]: converts a checkpoint, judges the result against it,
# and publishes it only if the verdict is "passed". docs/ci.md shows it in a pipeline.
#
#   convert_and_judge.sh ./model out/model.q4 reports --max-nmse 0.012
#
# LIMITS are those of q4verify: --gate, --max-nmse, --min-sqnr, --max-abs-error, --baseline. A variable of a pipeline that is not
# set must not switch the judge off: an empty argument, or no limit at all, ends the script with 1 before anything is done.
# Who wants no limit, but the comparison with SOURCE alone, says --no-limits.
#
# REPORTS receives convert.json, verify.json, junit.xml, comment.md and report.html, whatever the verdict. Until the verdict the
# container lies in a folder "unjudged" beside OUTPUT; after a failure it is removed, and an OUTPUT of an earlier run stays
# as it was. q4convert and q4verify are those of PATH. Exit status: that of the tool that failed, so 6 for a broken gate.
set -eu

wrong() {
  echo "convert_and_judge.sh: $1" >&2
  echo "usage: convert_and_judge.sh SOURCE OUTPUT.q4 REPORTS LIMITS... [q4verify options]" >&2
  exit 1
}

limited= awaits=
for argument; do
  case $argument in
    "") wrong "an empty argument; is a variable not set?" ;;
    --*=) wrong "${argument} has no value; is a variable not set?" ;;
    --*) [ -z "$awaits" ] || wrong "${awaits}has no value; is a variable not set?" ;;
  esac
  awaits=
  case $argument in
    --gate | --max-nmse | --min-sqnr | --max-abs-error | --baseline) limited=yes awaits="$argument " ;;
    --gate=* | --max-nmse=* | --min-sqnr=* | --max-abs-error=* | --baseline=* | --no-limits) limited=yes ;;
  esac
done
[ -z "$awaits" ] || wrong "${awaits}has no value; is a variable not set?"
[ $# -ge 3 ] || wrong "$# arguments, expected at least 4; is a variable not set?"
# Without quotes around a variable that is not set, the next argument takes its place.
case $1 in -*) wrong "'$1' is an option, expected SOURCE; is a variable not set?" ;; esac
case $2 in [!-]*.q4) ;; *) wrong "'$2', expected OUTPUT.q4; is a variable not set?" ;; esac
case $3 in -*) wrong "'$3' is an option, expected the folder REPORTS; is a variable not set?" ;; esac
[ -n "$limited" ] || wrong "no limit; is a variable not set? Name one, such as --gate default, or say --no-limits"
source=$1 output=$2 reports=$3
shift 3
# What is ours is no option of q4verify. Each argument goes to the end, so that after one round their order is as it was.
for argument; do
  shift
  [ "$argument" = --no-limits ] || set -- "$@" "$argument"
done

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
