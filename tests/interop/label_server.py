"""MONAI Label's own server with its stock app `monaibundle`, in a process group of its own, and a client for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests


class Client:
    """
    Talks to the server, and fails a test with the end of the server's log where it answers with an error.

    Args:
        url: of the server.
        log: what it prints.
    """

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def call(self, method: str, path: str, status: int = 200, **options: Any) -> requests.Response:
        """Send a request and expect a status."""
        reply = requests.request(method, self.url + path, timeout=120, **options)
        if reply.status_code != status:
            pytest.fail(f"{method} {path}: {reply.status_code} {reply.text[:500]}\n{self.tail()}")
        return reply

    def info(self) -> dict[str, Any]:
        """What the server has."""
        return self.call("GET", "/info/").json()

    def classify(self, image: str) -> dict[str, Any]:
        """The reply of the classification bundle."""
        return self.call("POST", "/infer/breast_lesion_classification", params={"image": image}).json()

    def refusal(self, model: str, image: str) -> str:
        """What is wrong with an image."""
        return self.call("POST", f"/infer/{model}", 400, params={"image": image}).json()["detail"]

    def label_map(self, model: str, image: str, path: Path) -> dict[str, Any]:
        """Save a bundle's label map of an image; the reply's other part is returned."""
        address, where = f"/infer/{model}", {"image": image}
        path.write_bytes(self.call("POST", address, params={**where, "output": "image"}).content)
        return self.call("POST", address, params={**where, "output": "json"}).json()

    def label(self, image: str, path: Path) -> None:
        """Hand in a finished label."""
        with open(path, "rb") as stream:
            files = {"label": (path.name, stream)}
            self.call("PUT", "/datastore/label", params={"image": image, "tag": "final"}, files=files)

    def train(self, model: str, timeout: float = 180, **options: Any) -> tuple[str, str]:
        """Train, and wait until it is over: the task's status and its log."""
        self.call("POST", f"/train/{model}", json=options)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            task = self.call("GET", "/train/").json()
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task["status"], "\n".join(task["details"])
            time.sleep(1)
        pytest.fail(f"training is not over after {timeout} s\n{self.tail()}")

    def tail(self, lines: int = 60) -> str:
        """The end of the server's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def running_server(folder: Path, bundles: list[Path], studies: str, settings: Mapping[str, Any]) -> Iterator[Client]:
    """
    Start the server on a free port of this machine, wait until it answers, and stop it with all that it started.

    Args:
        folder: gets a copy of the app, the server's log and all that it writes.
        bundles: their folders.
        studies: a folder of images, or the address of a DICOMweb server.
        settings: environment variables, without the `MONAI_LABEL_` before them.
    """
    app = folder / "monaibundle"
    shutil.copytree(Path(sys.prefix) / "monailabel/sample-apps/monaibundle", app)
    for bundle in bundles:
        shutil.copytree(bundle, app / "model" / bundle.name)
    # with DICOMweb the server fetches this tool from the internet, if it is not there; nothing here calls it
    (app / "bin").mkdir()
    (app / "bin/itkimage2segimage").touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", app, "--studies", studies]
    command += ["--host", "127.0.0.1", "--port", port, "--conf", "models", ",".join(path.name for path in bundles)]
    command += ["--conf", "zoo_source", "local", "--conf", "sam2", "false"]
    # only what is inside a bundle may serve it
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HOME": str(folder), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {
        f"MONAI_LABEL_{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
    }
    log = folder / "server.log"
    with open(log, "wb") as stream:
        server = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    client = Client(f"http://127.0.0.1:{port}", log)
    try:
        _wait(server, client)
        yield client
    finally:
        _stop(server)


def _wait(server: subprocess.Popen[bytes], client: Client, timeout: float = 240) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}\n{client.tail()}")
        try:
            if requests.get(client.url + "/info/", timeout=30).ok:
                return
        except requests.RequestException:
            time.sleep(0.5)
    pytest.fail(f"the server did not answer within {timeout} s\n{client.tail()}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
