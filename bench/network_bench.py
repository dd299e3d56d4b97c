#!/usr/bin/env python3
"""The reader of formats/net beside curl, from nginx on the loopback device: neither digest nor quantizing.

    network_bench.py NETWORK_READ [--gigabytes 2] [--runs 5] [--connections 1,4] [--threads 1,2] [--workers 2] [--json FILE]

Both read the same file, which nginx has in the page cache; curl throws it away, by so many connections, each a process. Runs alternate, and the
median of each counts. nginx (package nginx-light) runs for itself in a temporary folder, with so many workers.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CONF = """
{user}worker_processes {workers};
pid {work}/pid;
error_log {work}/error;
daemon on;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;
  client_body_temp_path {work}/t; proxy_temp_path {work}/t; fastcgi_temp_path {work}/t; uwsgi_temp_path {work}/t; scgi_temp_path {work}/t;
  server {{ listen 127.0.0.1:{port}; root {work}/root; }}
}}
"""


def curl(url, size, connections):
    """curl's own speed: each connection a range."""
    step = -(-size // connections)
    begin = time.perf_counter()
    running = [subprocess.Popen(["curl", "-s", "-o", "/dev/null", "-r", f"{i * step}-{min((i + 1) * step, size) - 1}", url]) for i in range(connections)]
    if any(process.wait() for process in running):
        sys.exit("curl failed")
    return time.perf_counter() - begin


def reader(program, url, threads):
    begin = time.perf_counter()
    subprocess.run([program.absolute(), url, str(threads)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--connections", default="1,4")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, default=18437)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with tempfile.TemporaryDirectory(prefix="q4-network-", dir="/dev/shm") as work:
        pathlib.Path(work).chmod(0o755)
        root = pathlib.Path(work, "root")
        root.mkdir()
        size = int(arguments.gigabytes * 1e9)
        with open(root / "model.safetensors", "wb") as file:
            for _ in range(size // (1 << 20)):
                file.write(bytes(1 << 20))
            file.truncate(size)
        pathlib.Path(work, "conf").write_text(CONF.format(
            work=work, port=arguments.port, workers=arguments.workers, user="user root;\n" if os.geteuid() == 0 else ""))
        subprocess.run([nginx, "-c", f"{work}/conf", "-e", f"{work}/error"], check=True)
        try:
            url = f"http://127.0.0.1:{arguments.port}/model.safetensors"
            numbers = lambda text: [int(word) for word in text.split(",")]
            ways = {f"curl, connections: {n}": lambda n=n: curl(url, size, n) for n in numbers(arguments.connections)}
            ways |= {f"reader, threads: {n}": lambda n=n: reader(arguments.program, url, n) for n in numbers(arguments.threads)}
            times = {name: [] for name in ways}
            for _ in range(arguments.runs):
                for name, way in ways.items():
                    times[name].append(way())
        finally:
            subprocess.run([nginx, "-c", f"{work}/conf", "-e", f"{work}/error", "-s", "stop"], check=True)
        rates = {name: size / 1e9 / statistics.median(seconds) for name, seconds in times.items()}
    first = next(iter(rates.values()))
    for name, rate in rates.items():
        print(f"{name:<22} {rate:6.2f} GB/s   {rate / first:6.1%} of the first row   {min(times[name]):.2f} to {max(times[name]):.2f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps({"bytes": size, "seconds": times}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
