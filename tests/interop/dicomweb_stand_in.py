"""A stand-in for a DICOMweb server: it finds series by their attributes (QIDO-RS) and gives them whole (WADO-RS)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pydicom

KEYWORDS = ("Modality", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "StudyDate")


@contextmanager
def dicomweb(files: Sequence[Path]) -> Iterator[str]:
    """Serve files, each a series of one image, on this machine; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path == "/dicom-web/series":
                wanted = {name: value for name, value in parse_qsl(asked.query) if name in KEYWORDS}
                body = json.dumps([_attributes(path) for path in files if _matches(path, wanted)]).encode()
                self._answer("application/dicom+json", body)
            else:
                series = asked.path.rsplit("/", 1)[1]
                (path,) = [path for path in files if _header(path).SeriesInstanceUID == series]
                head = b"--part\r\nContent-Type: application/dicom\r\n\r\n"
                body = head + path.read_bytes() + b"\r\n--part--\r\n"
                self._answer('multipart/related; type="application/dicom"; boundary=part', body)

        def _answer(self, content_type: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()


def _header(path: Path) -> pydicom.Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


def _matches(path: Path, wanted: dict[str, str]) -> bool:
    return all(str(_header(path).get(name)) == value for name, value in wanted.items())


def _attributes(path: Path) -> dict[str, object]:
    header = _header(path)
    found = pydicom.Dataset()
    for name in KEYWORDS:
        if name in header:
            found[name] = header[name]
    return found.to_json_dict()
