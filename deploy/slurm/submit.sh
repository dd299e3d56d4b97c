#!/usr/bin/env bash
# Converts a model as a Slurm array of parts, and merges them when all are done.
#   submit.sh MODEL OUT.q4 PARTS [OPTIONS of q4convert] [-- OPTIONS of the merge, such as --gate default]
# Called again after failures, it submits only what is missing. Prints the jobs: "array N" and "merge M".
# Q4CONVERT names the program (default: q4convert of the PATH), Q4_RETRIES how often a task may be queued again (4). All three paths must
# mean the same on every node.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 3 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 1; }
model=$1 output=$2 parts=$3
shift 3
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  options+=("$1")
  shift
done
[ $# -eq 0 ] || shift

tasks=0-$((parts - 1))
if [ -d "$output.parts" ]; then
  # "--array=3,7-9", or nothing when all parts are there.
  status=$("${Q4CONVERT:-q4convert}" --status "$output" --parts "$parts") || [ $? -eq 6 ]
  tasks=$(sed -n 's/.*--array=\([0-9,-]*\).*/\1/p' <<<"$status" | tail -n 1)
fi
after=()
if [ -n "$tasks" ]; then
  array=$(sbatch --parsable --array="$tasks" "$here/part.sbatch" "$model" "$output" "$parts" ${options[@]+"${options[@]}"})
  array=${array%%;*}
  echo "array $array (tasks $tasks)"
  after=(--dependency="afterok:$array" --kill-on-invalid-dep=yes)
fi
merge=$(sbatch --parsable ${after[@]+"${after[@]}"} "$here/merge.sbatch" "$output" "$@")
echo "merge ${merge%%;*}"
