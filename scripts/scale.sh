#!/bin/sh
# scale.sh BUILD: conversions in parts under the engines that need more than a few small packages (docs/scale_out.md), with the tools and the
# Python package of the build folder BUILD. Every check runs, whatever happened to those before; one that is skipped is a failure here.
set -eu
cd "$(dirname "$0")/.."
build=$(cd "$1" && pwd)

environment=$build/scale-env
python3 -m venv "$environment"
"$environment/bin/python" -m pip --disable-pip-version-check --quiet install ray==2.60.0 distributed==2026.8.0 kubernetes-validate==1.37.0 pyyaml nanobind-backend==1.0.0
export PYTHONPATH="$build/python"

failed=
check() {
  name=$1
  shift
  "$@" || { echo "scale: $name: FAILED (exit $?)"; failed="$failed $name"; }
}
check plan python3 scripts/parts_at_scale.py "$build/tools"
check simulation python3 bench/scale_sim.py --tools "$build/tools" --check
check manifests "$environment/bin/python" tests/cluster/manifests_test.py .
check slurm python3 tests/cluster/slurm_test.py "$build/tools" "$build/tests/cli/libkill_at.so" .
check mpi python3 tests/cluster/mpi_test.py "$build/tools"
check dask "$environment/bin/python" tests/cluster/dask_test.py .
check ray "$environment/bin/python" tests/cluster/ray_test.py
check moosefs python3 tests/cluster/moosefs_test.py "$build/tools"
[ -z "$failed" ] || { echo "scale: failed:$failed"; exit 1; }
