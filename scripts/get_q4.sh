#!/bin/sh
# get_q4.sh TARBALL SHA256 FOLDER: q4's tools out of a released tarball, into FOLDER/bin. What is there already is kept, so that a cache
# of FOLDER spares the download. TARBALL is a URL or a file; SHA256 its digest in hex, as the release lists it. For CI (docs/ci.md).
set -eu
[ $# -eq 3 ] || { echo "usage: get_q4.sh TARBALL SHA256 FOLDER" >&2; exit 1; }
tarball=$1 digest=$2 folder=$3
case $digest in
  *[!0-9a-f]* | "") echo "get_q4.sh: '$digest' is no SHA-256 in lower-case hex; is a variable not set?" >&2; exit 1 ;;
esac
[ -n "$tarball" ] && [ -n "$folder" ] || { echo "get_q4.sh: an empty argument; is a variable not set?" >&2; exit 1; }

if [ -f "$folder/.sha256" ] && [ "$(cat "$folder/.sha256")" = "$digest" ] && "$folder/bin/q4convert" --version > /dev/null 2>&1; then
  echo "get_q4.sh: kept $("$folder/bin/q4convert" --version)"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $tarball in
  *://*) curl -fsSL --retry 3 -o "$work/q4.tar.gz" "$tarball" ;;
  *) cp "$tarball" "$work/q4.tar.gz" ;;
esac
got=$(sha256sum < "$work/q4.tar.gz" | cut -d ' ' -f 1)
[ "$got" = "$digest" ] || { echo "get_q4.sh: $tarball has sha256 $got, expected $digest" >&2; exit 1; }
mkdir "$work/all"
tar -xzf "$work/q4.tar.gz" -C "$work/all" --no-same-owner
# bin/ lies in the tarball itself or in its one folder.
for root in "$work/all" "$work/all"/*; do
  [ -x "$root/bin/q4convert" ] || continue
  "$root/bin/q4convert" --version > /dev/null
  rm -rf "$folder"
  mkdir -p "$(dirname "$folder")"
  cp -R "$root" "$folder"
  echo "$digest" > "$folder/.sha256"
  echo "get_q4.sh: $("$folder/bin/q4convert" --version)"
  exit 0
done
echo "get_q4.sh: $tarball has no bin/q4convert" >&2
exit 1
