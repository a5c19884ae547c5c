"""A stand-in on 127.0.0.1 for the S3 service that the Imaging Data Commons is read from."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest


class S3Server(ThreadingHTTPServer):
    """
    Serves `objects` ("bucket/key": content) as S3 does: lists, whole objects and ranges.

    `failing` holds how often a key is refused before it is given (a large number: always); `requests` counts the keys
    that were asked for.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.failing: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: S3Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        key = unquote(address.path).strip("/")
        if "/" not in key:
            self._answer(200, self._list(key, parse_qs(address.query).get("prefix", [""])[0]).encode())
        elif key not in self.server.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.server.requests[key] += 1
            if self.server.failing[key] > 0:
                self.server.failing[key] -= 1
                self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            else:
                self._give(self.server.objects[key])

    def do_HEAD(self) -> None:
        key = unquote(urlsplit(self.path).path).strip("/")
        found = "/" not in key or key in self.server.objects
        self._answer(200 if found else 404, self.server.objects.get(key, b""))

    def _give(self, content: bytes) -> None:
        span = self.headers.get("Range")
        if span is None:
            self._answer(200, content)
            return
        first, last = span.removeprefix("bytes=").split("-")
        part = content[int(first) : int(last or len(content)) + 1]
        self._answer(206, part, {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"})

    def _list(self, bucket: str, prefix: str) -> str:
        entries = "".join(
            f"<Contents><Key>{escape(key.removeprefix(bucket + '/'))}</Key><Size>{len(content)}</Size>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
            for key, content in sorted(self.server.objects.items())
            if key.startswith(f"{bucket}/{prefix}")
        )
        return f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        always = {"Content-Length": str(len(content)), "x-amz-bucket-region": "us-east-1", "ETag": '"x"'}
        for name, value in (always | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture
def s3_server() -> Iterator[S3Server]:
    """An empty service, to be given objects."""
    with S3Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
