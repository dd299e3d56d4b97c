"""Servers of models on 127.0.0.1, as nginx, a bucket and the Hugging Face Hub are, and what goes wrong with them.

A Server answers from a dictionary of paths, with ranges, ETags and conditions, notes every request, and does what its faults say. A Hub
is two of them: the interface with its listing, and the storage that it redirects to with links that are signed and end.
"""

import datetime
import hashlib
import hmac
import http.server
import json
import pathlib
import re
import socket
import ssl
import threading
import time
import urllib.parse

LOGIN = b"\n<!DOCTYPE html>\n<html><head><title>Log in to the portal</title></head></html>"
ACCESS_DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class Fault:
    """What happens to requests whose path contains `path`: from the `after`-th on, `times` times.

    kinds: "status" (with `status`, `headers`), "cut" (the connection ends in the middle of the body), "short" (fewer bytes than the range, as
    if that were all), "whole" (200 for a range), "wrong-range" (another range than asked for), "stall" (nothing comes for `seconds`), "headers"
    (too many of them), "flip" (one byte is another one), "redirect" (to `location`), "page" (HTML for a file, of `type`), "encoded", "call"
    (of `call`).
    """

    def __init__(self, kind, path="", times=1 << 30, after=0, ranged=None, **more):
        self.kind, self.path, self.times, self.after, self.ranged, self.more = kind, path, times, after, ranged, more
        self.hits = 0

    def applies(self, path, is_ranged):
        if self.path not in path or (self.ranged is not None and self.ranged != is_ranged) or self.times <= 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        self.hits += 1
        return True


class Server:
    """`files`: {"/path": bytes}. `origin`: "http://127.0.0.1:PORT"."""

    def __init__(self, files=None, ranges=True, etags=True, tls=None):
        self.files, self.ranges, self.etags = dict(files or {}), ranges, etags
        self.faults, self.log, self.lock = [], [], threading.Lock()
        self.absent, self.absent_body, self.absent_type = 404, b"not here", "text/plain"  # what is said of what is not there
        self.authorization = None  # a header that every request must have
        self.modified = {}
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802
                server.answer(self)

            def log_message(self, *_):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_):
                pass  # a client that went away

        self.httpd = Listener(("127.0.0.1", 0), Handler)
        scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.httpd.socket = context.wrap_socket(self.httpd.socket, server_side=True)
            scheme = "https"
        self.port = self.httpd.server_address[1]
        self.origin = f"{scheme}://127.0.0.1:{self.port}"
        threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.httpd.shutdown()
        self.httpd.server_close()

    def add_folder(self, folder: pathlib.Path, prefix="") -> "Server":
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.files[f"{prefix}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
        return self

    def etag(self, path):
        return '"' + hashlib.md5(self.files[path]).hexdigest() + '"'

    def requests(self, path=""):
        with self.lock:
            return [entry for entry in self.log if path in entry["path"]]

    def bytes_sent(self, path=""):
        return sum(entry.get("sent", 0) for entry in self.requests(path))

    def find(self, path, query, headers):
        """The path in `files`, or None; a Hub's parts have their own."""
        return path if path in self.files else None

    def special(self, handler, path, query, headers):
        """Answers by itself and returns True, or does nothing."""
        return False

    def answer(self, handler):
        target = urllib.parse.urlsplit(handler.path)
        path = urllib.parse.unquote(target.path)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = headers.get("range")
        entry = {"path": path, "query": target.query, "headers": headers, "raw": handler.path}
        with self.lock:
            self.log.append(entry)
            fault = next((f for f in self.faults if f.applies(path, asked is not None)), None)
        kind = fault.kind if fault else ""
        if kind == "call":
            fault.more["call"](self)
        if kind == "stall":
            time.sleep(fault.more["seconds"])
        if kind == "status":
            return self.send(handler, fault.more["status"], fault.more.get("headers", {}), b"no")
        if kind == "redirect":
            return self.send(handler, 302, {"Location": fault.more["location"]}, b"")
        if kind == "headers":
            return self.send(handler, 200, {f"X-{i}": "x" * 1000 for i in range(400)}, b"no")
        if kind == "page":
            return self.send(handler, 200, {"Content-Type": fault.more.get("type", "text/html; charset=utf-8")}, LOGIN)
        if self.authorization and headers.get("authorization") != self.authorization:
            return self.send(handler, 401, {}, b"who are you")
        if self.special(handler, path, target.query, headers):
            return None
        found = self.find(path, target.query, headers)
        if found is None:
            return self.send(handler, self.absent, {"Content-Type": self.absent_type}, self.absent_body)
        data = self.files[found]
        about = {"Accept-Ranges": "bytes"} if self.ranges else {}
        if self.etags:
            about["ETag"] = self.etag(found)
            wanted = headers.get("if-match")
            if wanted not in (None, about["ETag"]):
                return self.send(handler, 412, {}, b"changed")
        if found in self.modified:
            about["Last-Modified"] = self.modified[found]
        if kind == "encoded":
            about["Content-Encoding"] = "gzip"
        if kind == "flip":
            at = fault.more.get("at", len(data) // 2)
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "")
        if not match or not self.ranges or kind == "whole":
            return self.send(handler, 200, about, data, entry)
        begin, end = int(match[1]), min(int(match[2]) + 1, len(data))
        if begin >= len(data):
            return self.send(handler, 416, {**about, "Content-Range": f"bytes */{len(data)}"}, b"")
        if kind == "short":
            end -= 1
        if kind == "wrong-range":
            begin, end = begin + 1, min(end + 1, len(data))
        about["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
        body = data[begin:end]
        cut = len(body) // 2 if kind == "cut" else None
        return self.send(handler, 206, about, body, entry, cut)

    def send(self, handler, status, headers, body, entry=None, cut=None):
        handler.send_response(status)
        for name, value in {"Content-Type": "application/octet-stream", "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[:cut])
        if entry is not None:
            entry["sent"] = len(body[:cut])
        if cut is not None:
            handler.wfile.flush()
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True


class Storage(Server):
    """Gives a file to who has a link that the hub has signed, so many times."""

    def __init__(self):
        super().__init__()
        self.links, self.uses = {}, 1 << 30

    def link(self, path):
        with self.lock:
            signature = f"s{len(self.links)}"
            self.links[signature] = self.uses
        return f"{self.origin}{urllib.parse.quote(path)}?signature={signature}"

    def find(self, path, query, headers):
        signature = dict(urllib.parse.parse_qsl(query)).get("signature")
        with self.lock:
            if self.links.get(signature, 0) <= 0:
                return None
            self.links[signature] -= 1
        return super().find(path, query, headers)


class Hub(Server):
    """A hub with the repositories {"ORG/NAME": {path: bytes}}; what is in `lfs` (by its ending) comes from the storage."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, repositories, lfs=(".safetensors", "tokenizer.json"), token=None, page=3):
        super().__init__()
        self.repositories, self.lfs, self.token, self.page = repositories, lfs, token, page
        self.storage = Storage()
        self.storage.absent = 403
        self.revisions = {"main": self.COMMIT, "refs/pr/1": self.COMMIT, self.COMMIT: self.COMMIT}
        self.wrong_digest = ()
        self.more_entries = []
        self.endless = False  # each page of the list names another one

    def __exit__(self, *_):
        super().__exit__()
        self.storage.__exit__()

    def is_lfs(self, name):
        return name.endswith(tuple(self.lfs))

    def special(self, handler, path, query, headers):
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            self.send(handler, 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access restricted; {headers.get('authorization')}"}, b"no")
            return True
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path)
        if api:
            name, kind, revision = api.groups()
            files, commit = self.repositories.get(name), self.revisions.get(revision)
            if files is None or commit is None:
                code = "RepoNotFound" if files is None else "RevisionNotFound"
                self.send(handler, 404, {"X-Error-Code": code, "X-Error-Message": code}, b"{}")
            elif kind == "revision":
                self.json(handler, {"id": name, "sha": commit, "siblings": [{"rfilename": f} for f in files]})
            else:
                self.tree(handler, path, files, dict(urllib.parse.parse_qsl(query)))
            return True
        resolve = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if resolve and resolve[2] == self.COMMIT and resolve[3] in self.repositories.get(resolve[1], {}):
            data = self.repositories[resolve[1]][resolve[3]]
            if self.is_lfs(resolve[3]):
                self.storage.files[path] = data
                about = {"Location": self.storage.link(path), "X-Linked-Size": str(len(data)), "X-Repo-Commit": self.COMMIT}
                self.send(handler, 302, about, b"")
                return True
            self.files[path] = data
        return False

    def tree(self, handler, path, files, query):
        entries = []
        folders = sorted({name.rsplit("/", 1)[0] for name in files if "/" in name})
        entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in folders]
        for name, data in files.items():
            entry = {"type": "file", "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), "size": len(data), "path": name}
            if self.is_lfs(name):
                digest = hashlib.sha256(data + b"?" * (name in self.wrong_digest)).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
            entries.append(entry)
        entries += self.more_entries
        begin = int(query.get("cursor", 0))
        more = {}
        if begin + self.page < len(entries) or self.endless:
            more["Link"] = f'<{self.origin}{path}?recursive=true&cursor={begin + self.page}>; rel="next"'
        self.json(handler, entries[begin : begin + self.page], more)

    def json(self, handler, value, headers=None):
        self.send(handler, 200, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())


class Bucket(Server):
    """A bucket by the interface of S3, with paths /BUCKET/KEY: lists, objects, and signatures that are computed again."""

    def __init__(self, bucket, objects, key=("AKIDEXAMPLE", "swordfish"), region="eu-central-1", session=None, page=4):
        super().__init__({f"/{bucket}/{name}": data for name, data in objects.items()})
        self.bucket, self.key, self.region, self.session, self.page = bucket, key, region, session, page

    def error(self, handler, status, code):
        self.send(handler, status, {"Content-Type": "application/xml"}, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode())
        return True

    def is_signed(self, handler, headers):
        match = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})",
                             headers.get("authorization", ""))
        if not match or match[1] != self.key[0] or match[3] != self.region or headers.get("x-amz-security-token") != self.session:
            return False
        names, date = match[4].split(";"), headers.get("x-amz-date", "")
        amazon = {name for name in headers if name.startswith("x-amz-")}
        then = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        if not amazon | {"host"} <= set(names) or not date.startswith(match[2]) or abs(then.timestamp() - time.time()) > 900:
            return False
        target = urllib.parse.urlsplit(handler.path)
        query = "&".join(sorted(item if "=" in item else item + "=" for item in target.query.split("&") if item))
        payload = headers["x-amz-content-sha256"]
        canonical = "\n".join(["GET", target.path, query, *[f"{name}:{headers[name].strip()}" for name in names], "", ";".join(names), payload])
        scope = f"{match[2]}/{self.region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.key[1]).encode()
        for part in (match[2], self.region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest() == match[5]

    def special(self, handler, path, query, headers):
        if self.key and not self.is_signed(handler, headers):
            return self.error(handler, 403, "SignatureDoesNotMatch" if "authorization" in headers else "AccessDenied")
        if path.rstrip("/") != f"/{self.bucket}":
            return False if path.startswith(f"/{self.bucket}/") else self.error(handler, 404, "NoSuchBucket")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter")
        found = {}
        for name in sorted(self.files):
            key = name[len(self.bucket) + 2 :]
            if key.startswith(prefix):
                rest = key[len(prefix) :]
                folder = delimiter and delimiter in rest
                found[prefix + rest.split(delimiter)[0] + delimiter if folder else key] = None if folder else name
        begin = int(asked.get("continuation-token", "0-").split("-")[0])
        quote = urllib.parse.quote if asked.get("encoding-type") == "url" else str
        body = [f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='x'><Name>{self.bucket}</Name><Prefix>{quote(prefix)}</Prefix>"]
        for shown, name in list(found.items())[begin : begin + self.page]:
            if name is None:
                body.append(f"<CommonPrefixes><Prefix>{quote(shown)}</Prefix></CommonPrefixes>")
            else:
                etag = self.etag(name).replace('"', "&quot;")
                body.append(f"<Contents><Key>{quote(shown)}</Key><ETag>{etag}</ETag><Size>{len(self.files[name])}</Size></Contents>")
        more = begin + self.page < len(found)
        if more:
            body.append(f"<NextContinuationToken>{begin + self.page}-/+=&amp;</NextContinuationToken>")
        body.append(f"<IsTruncated>{str(more).lower()}</IsTruncated></ListBucketResult>")
        self.send(handler, 200, {"Content-Type": "application/xml"}, "".join(body).encode())
        return True
