#!/bin/sh
# versions.sh BUILD PYTHON [lowest | around | newest]...: tests beside other versions of transformers, bitsandbytes, diffusers, PEFT and safetensors than
# scripts/python_env.sh pins: the lowest that README.md names as supported, and the newest that there are. "around" is the lowest diffusers
# beside the pinned transformers: what they do with older ones is not supported (docs/compatibility.md). Each set lies in a folder of its
# own, build/versions/NAME, before the environment of PYTHON, which stays as it is and has all else. BUILD has the tools and the package.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
[ $# -ge 2 ] || { echo "usage: versions.sh BUILD PYTHON [lowest | around | newest]..." >&2; exit 1; }
build=$(cd "$1" && pwd)
python=$2
shift 2
[ $# -gt 0 ] || set -- lowest around newest

# What README.md says is supported. huggingface_hub, tokenizers and httpx are those that the lowest ask for.
lowest='transformers==5.6.0 bitsandbytes==0.50.0 safetensors==0.7.0
huggingface_hub==1.5.0 tokenizers==0.22.2 httpx==0.28.1 httpcore==1.0.9'
around='diffusers==0.36.0 httpx==0.28.1 httpcore==1.0.9'
newest='transformers bitsandbytes diffusers peft safetensors huggingface_hub tokenizers'

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1
failed=0
try() {  # NAME SCRIPT ARGUMENT...
  name=$1
  shift
  begin=$(date +%s) result=passed
  PYTHONPATH="$overlay:$build/python" "$python" "$@" >"$overlay.$name.log" 2>&1 || result="FAILED ($?)"
  [ "$result" = passed ] || { failed=1; tail -n 15 "$overlay.$name.log"; }
  echo "versions: $set: $name: $result, $(($(date +%s) - begin)) s: $(tail -n 1 "$overlay.$name.log")"
}
for set; do
  case $set in
    lowest) requirements=$lowest ;;
    around) requirements=$around ;;
    newest) requirements=$newest ;;
    *) echo "versions.sh: '$set' is neither lowest, around nor newest" >&2; exit 1 ;;
  esac
  overlay=$PWD/build/versions/$set
  # "newest" is another one tomorrow.
  if [ "$set" = newest ] || [ "$(cat "$overlay/.requirements" 2>/dev/null)" != "$requirements" ]; then
    rm -rf "$overlay"
    mkdir -p "$overlay"
    # shellcheck disable=SC2086  # a list of packages; torch and what is not named are those of the environment
    "$python" -m pip --disable-pip-version-check --quiet install --no-deps --target "$overlay" $requirements
    echo "$requirements" >"$overlay/.requirements"
  fi
  PYTHONPATH=$overlay "$python" - <<'PYTHON'
import importlib.metadata as metadata
names = "transformers", "bitsandbytes", "diffusers", "peft", "safetensors", "torch"
print("versions: " + ", ".join(f"{name} {metadata.version(name)}" for name in names))
PYTHON
  if [ "$set" != around ]; then
    try transformers_load tests/python/export_check.py --bin "$build/tools" --checkpoints testdata/checkpoints
    try python_torch tests/python_package/torch_test.py "$build/tools" "$PWD"
    try python_transformers tests/python_package/transformers_test.py "$build/tools" "$PWD"
  fi
  if [ "$set" != lowest ]; then
    try peft_adapters tests/python/adapter_check.py --bin "$build/tools"
    try python_diffusers tests/python_package/diffusers_test.py "$build/tools" "$PWD"
  fi
done
exit "$failed"
