#!/usr/bin/env python3
"""Writes a bill of materials (CycloneDX 1.5, JSON) for what lies in a folder of a release: sbom.py VERSION COMMIT FOLDER

One document, q4-VERSION.cdx.json: the files with their SHA-256, and for each the libraries that are compiled into it, by the versions of the
packages of the distribution that they are of. The same bytes for the same files and packages."""

import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse
import uuid

# The packages whose code goes into programs, and their licences. CUDA's runtime is added where it was found to be in.
COMPILED_IN = {
    "libabsl-dev": "Apache-2.0", "libcli11-dev": "BSD-3-Clause", "libfmt-dev": "MIT", "libhwy-dev": "Apache-2.0", "libre2-dev": "BSD-3-Clause",
    "libssl-dev": "Apache-2.0", "libxxhash-dev": "BSD-2-Clause", "libzstd-dev": "BSD-3-Clause", "nlohmann-json3-dev": "MIT",
}
RUNTIME = {"libstdc++-12-dev": "GPL-3.0-or-later WITH GCC-exception-3.1"}
LIBC = {"libc6-dev": "LGPL-2.1-or-later"}
HEADERS = ("libcli11-dev", "nlohmann-json3-dev")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def component(package: str, licence: str) -> dict[str, object]:
    source, version = run("dpkg-query", "-W", "-f", "${source:Package} ${source:Version}\n", package).splitlines()[0].split()
    distribution = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]+)', pathlib.Path("/etc/os-release").read_text(), re.M))
    return {
        "type": "library", "bom-ref": f"deb:{source}", "name": source, "version": version,
        "licenses": [{"expression": licence}],
        "purl": f"pkg:deb/{distribution['ID']}/{source}@{urllib.parse.quote(version, safe='')}?distro={distribution['ID']}-{distribution.get('VERSION_ID', '')}",
    }


def runtime_packages() -> dict[str, str]:
    """libstdc++'s package has the compiler's version in its name."""
    names = [line.split(":")[0] for line in run("dpkg-query", "-W", "-f", "${Package}\n", "libstdc++-*-dev").splitlines()]
    return {names[-1]: RUNTIME["libstdc++-12-dev"]}


def packages_of(name: str) -> dict[str, str]:
    """What is compiled into a file of the release, by its name."""
    if name.endswith("-static.tar.gz"):
        return {**COMPILED_IN, **runtime_packages(), **LIBC}
    if re.search(r"-(cuda|cpu)\.tar\.gz$", name):
        return {**COMPILED_IN, **runtime_packages()}
    if name.startswith("lib"):  # the loader is linked with the distribution's own libraries
        return {package: COMPILED_IN[package] for package in HEADERS if package != "libcli11-dev"}
    if name.endswith((".deb", ".whl")):  # a wheel has them beside the module
        return COMPILED_IN
    return {}


def main() -> None:
    version, commit, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    files = sorted(path for path in folder.iterdir() if path.suffix in (".deb", ".gz", ".whl"))
    libraries: dict[str, dict[str, object]] = {}
    components, dependencies = [], []
    for path in files:
        inside = []
        for package, licence in packages_of(path.name).items():
            found = component(package, licence)
            libraries[str(found["bom-ref"])] = found
            inside.append(found["bom-ref"])
        # Which CUDA it was, a package does not say: the compiler does.
        if not path.name.endswith(("-static.tar.gz", "-cpu.tar.gz")) and inside and os.environ.get("Q4_CUDA_ARCHITECTURES") != "OFF":
            try:
                cuda = re.search(r"V(\d+\.\d+\.\d+)", run("nvcc", "--version"))
            except (FileNotFoundError, subprocess.CalledProcessError):
                cuda = None
            if cuda:
                libraries["cudart"] = {"type": "library", "bom-ref": "cudart", "name": "cudart_static", "version": cuda.group(1),
                                       "licenses": [{"license": {"name": "CUDA Toolkit EULA"}}]}
                inside.append("cudart")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        components.append({"type": "file", "bom-ref": path.name, "name": path.name, "version": version,
                           "hashes": [{"alg": "SHA-256", "content": digest}]})
        dependencies.append({"ref": path.name, "dependsOn": sorted(map(str, inside))})
    now = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True))}",
        "metadata": {
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application", "bom-ref": "q4", "name": "q4", "version": version, "licenses": [{"expression": "Apache-2.0"}],
                          "properties": [{"name": "commit", "value": commit}]},
        },
        "components": components + [libraries[key] for key in sorted(libraries)],
        "dependencies": [{"ref": "q4", "dependsOn": [path.name for path in files]}, *dependencies],
    }
    (folder / f"q4-{version}.cdx.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
