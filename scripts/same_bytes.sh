#!/bin/sh
# same_bytes.sh TOOLS [OUT | TOOLS_B]: SHA-256 of everything that the tools write and say; of two builds, what differs. See --help.
set -eu
exec env PYTHONDONTWRITEBYTECODE=1 python3 "$(dirname "$0")/same_bytes" "$@"
