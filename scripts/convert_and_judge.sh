#!/bin/sh
# convert_and_judge.sh SOURCE OUTPUT.q4 REPORTS LIMITS... [options]: converts a checkpoint, judges the result against it, and
# publishes it only if the verdict is "passed". The last line says which it was. docs/ci.md shows it in a pipeline.
#
#   convert_and_judge.sh ./model out/model.q4 reports --max-nmse 0.012 --block-size 128 --exclude lm_head
#
# LIMITS are those of q4verify: --gate, --max-nmse, --min-sqnr, --max-abs-error, --baseline, --evaluation. A variable of a pipeline
# that is not set must not switch the judge off: an empty argument, or no limit at all, ends the script with 1 before anything is done.
# Who wants no limit, but the comparison with SOURCE alone, says --no-limits.
#
# Options are those of q4convert and of q4verify; each goes to the tool that has it, what says how the work is done or which files
# belong to the source (--threads, --max-memory, --follow-symlinks, --adapter, --calibration) to both, and what only the judge decides
# (--gate, --max-nmse, --tensor) to q4verify. All are checked before anything is converted.
#
# REPORTS receives convert.json, verify.json, junit.xml, comment.md and report.html, whatever the verdict. Until the verdict the
# container lies in a folder "unjudged" beside OUTPUT; after a failure it is removed, and an OUTPUT of an earlier run stays
# as it was. q4convert and q4verify are those of PATH. Exit status: that of the tool that failed, so 6 for a broken gate.
set -eu

wrong() {
  echo "convert_and_judge.sh: $1" >&2
  echo "usage: convert_and_judge.sh SOURCE OUTPUT.q4 REPORTS LIMITS... [options of q4convert and q4verify]" >&2
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
    --gate | --max-nmse | --min-sqnr | --max-abs-error | --baseline | --evaluation) limited=yes awaits="$argument " ;;
    --gate=* | --max-nmse=* | --min-sqnr=* | --max-abs-error=* | --baseline=* | --evaluation=* | --no-limits) limited=yes ;;
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

# The names of a tool's options, each between blanks.
names_of() { echo " $("$1" --help | sed -n 's/^  \(-.*\)/\1/p' | sed 's/   *.*//' | tr -c 'a-z0-9-' '\n' | grep '^--' | tr '\n' ' ') "; }
of_convert=$(names_of q4convert) of_verify=$(names_of q4verify)
has() { case $1 in *" $2 "*) ;; *) return 1 ;; esac; }
quoted() { printf "'%s' " "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

# Two command lines, as text that eval reads back. A word that is no option belongs to the option before it.
to_convert= to_verify= goes=
for argument; do
  case $argument in
    --no-limits) continue ;;
    -*)
      name=${argument%%=*} goes=
      case $name in
        -o | --output | --force | --dry-run | --report | --json | --junit | --markdown | --html | --progress | --against)
          wrong "$name is given by this script" ;;
        --threads | --max-memory | --follow-symlinks | --adapter | --calibration) goes=both ;;
        --gate | --max-nmse | --tensor | --root) goes=verify ;;
        -q | -v | --quiet | --verbose) goes=both ;;
        *)
          if has "$of_verify" "$name"; then goes=verify; elif has "$of_convert" "$name"; then goes=convert; fi
          [ -n "$goes" ] || wrong "neither q4convert nor q4verify has an option '$name'"
          ;;
      esac
      ;;
    *) [ -n "$goes" ] || wrong "'$argument' belongs to no option" ;;
  esac
  case $goes in convert | both) to_convert="$to_convert$(quoted "$argument")" ;; esac
  case $goes in verify | both) to_verify="$to_verify$(quoted "$argument")" ;; esac
done

# Reports of an earlier run must not pass for this one's.
mkdir -p "$reports"
rm -f "$reports/convert.json" "$reports/verify.json" "$reports/junit.xml" "$reports/comment.md" "$reports/report.html"

unjudged=$(dirname "$output")/unjudged
candidate=$unjudged/$(basename "$output")
mkdir -p "$unjudged"
ended() {
  status=$?
  rm -f "$candidate"
  rmdir "$unjudged" 2>/dev/null || true
  [ "$status" -eq 0 ] || echo "convert_and_judge.sh: FAILED ($status): $output is as it was before" >&2
}
trap ended EXIT

# Options are looked at before files: q4verify of an empty file, and a plan, do nothing but that.
: > "$candidate"
eval "set -- $to_verify"
said=$(q4verify "$candidate" --against "$source" --progress none "$@" 2>&1 > /dev/null) && wrong "q4verify took an empty file" || status=$?
case $said in
  "q4verify: $candidate: "*) ;;
  *) echo "$said" >&2; exit "$status" ;;
esac
rm -f "$candidate"
eval "set -- $to_convert"
# A choice by a budget measures in a plan already, which would take the time twice.
case $to_convert in
  *"'--target-"* | *"'--keep-most-"*) ;;
  *) said=$(q4convert "$source" --dry-run "$@" -o "$candidate" 2>&1 > /dev/null) || { status=$?; echo "$said" >&2; exit "$status"; } ;;
esac

q4convert "$source" -o "$candidate" --force --progress plain --report "$reports/convert.json" "$@"
eval "set -- $to_verify"
q4verify "$candidate" --against "$source" --progress plain "$@" --json --junit "$reports/junit.xml" \
  --markdown "$reports/comment.md" --html "$reports/report.html" > "$reports/verify.json"
mv "$candidate" "$output"
limits=$(grep -c '"limit_is"' "$reports/verify.json" || true)
echo "convert_and_judge.sh: passed: $output, $(wc -c < "$output" | tr -d ' ') bytes, published; limits that hold: $limits; reports in $reports"
