"""Fetching files, from a server on this machine."""

import errno
import hashlib
import http.server
import io
import socket
import sys
import threading
import time
import types
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vit_jax.checkpoint import remote
from vit_jax.checkpoint.remote import fetch
from vit_jax.errors import UserError

BODY = bytes(range(256)) * 9000  # several chunks


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        getattr(self, "_" + self.path.split("/")[1].split("?")[0].split(".")[0].replace("-", "_"))()

    def _start(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.close_connection = True

    def _whole(self) -> None:
        self._start(Content_Length=len(BODY))
        self.wfile.write(BODY)

    def _short(self) -> None:
        self._start(Content_Length=len(BODY) + 1)
        self.wfile.write(BODY)

    def _empty(self) -> None:
        self._start(Content_Length=0)

    def _unsized(self) -> None:
        self._start()
        self.wfile.write(BODY)

    def _chunked(self, end: bytes = b"0\r\n\r\n") -> None:
        self._start(Transfer_Encoding="chunked")
        self.wfile.write(f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n" + end)

    def _chunked_short(self) -> None:
        self._chunked(b"")

    def _slow(self) -> None:
        self._start(Content_Length=2)
        self.wfile.write(b"x")
        self.server.done.wait(10)

    def _silent(self) -> None:
        self.server.done.wait(10)

    def _garbage(self) -> None:
        self.wfile.write(b"what?\r\n")
        self.close_connection = True

    def _moved(self) -> None:
        self._start(302, Location="/whole", Content_Length=0)

    def _status(self) -> None:
        self._start(int(self.path.split("/")[2]), Content_Length=0)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.done = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()
    thread.join()


def refusal(location: str, cache: Path) -> str:
    """The one line with which it is refused; nothing may be left in the cache."""
    with pytest.raises(UserError) as caught:
        fetch(location, cache)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    message = str(caught.value)
    assert "\n" not in message
    assert repr(location) in message
    return message


def test_paths_are_returned_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert fetch("some/model.npz") == Path("some/model.npz")
    assert fetch("~/model.npz") == Path("/home/someone/model.npz")
    assert fetch("file:///some%20folder/model.npz") == Path("/some folder/model.npz")
    assert fetch("file://localhost/model.npz") == Path("/model.npz")


@pytest.mark.parametrize("path", ["whole/ViT-B_16.npz", "chunked/ViT-B_16.npz", "moved/ViT-B_16.npz"])
def test_a_file_is_downloaded_once(server: Any, tmp_path: Path, path: str) -> None:
    first = fetch(f"{server.url}/{path}", tmp_path)
    asked = len(server.requests)
    assert first.name == "ViT-B_16.npz"
    assert first.read_bytes() == BODY
    assert fetch(f"{server.url}/{path}", tmp_path) == first
    assert len(server.requests) == asked
    assert list(first.parent.iterdir()) == [first]


def test_files_of_one_name_are_kept_apart(server: Any, tmp_path: Path) -> None:
    paths = {
        fetch(f"{server.url}/{path}", tmp_path)
        for path in ("whole/a", "whole/b/a", "whole/a?x=1", "whole/..", "whole/" + "a" * 999)
    }
    assert len(paths) == 5
    assert all(path.is_relative_to(tmp_path) and path.is_file() for path in paths)


def test_the_cache_is_named_by_the_environment(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIT_JAX_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch(f"{server.url}/whole").is_relative_to(tmp_path / ".cache/vit_jax")
    monkeypatch.setenv("VIT_JAX_CACHE", "~/elsewhere")
    assert fetch(f"{server.url}/whole").is_relative_to(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("short", f"broke off after {len(BODY)} of {len(BODY) + 1} bytes: try again"),
        ("empty", "broke off after 0 of 0 bytes"),
        ("unsized", "the server does not say how long the file is"),
        ("chunked-short", "cannot be reached (IncompleteRead"),
        ("garbage", "cannot be reached (BadStatusLine"),
        ("status/401", "access denied (401): download it with your credentials"),
        ("status/403", "access denied (403): download it with your credentials"),
        ("status/404", "there is no such file (404): check the name"),
        ("status/500", "the server answered 500: try again later"),
    ],
)
def test_what_a_server_may_do(server: Any, tmp_path: Path, path: str, says: str) -> None:
    assert says in refusal(f"{server.url}/{path}", tmp_path)


@pytest.mark.parametrize("path", ["slow", "silent"])
def test_time_outs(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(remote, "_TIMEOUT_SECONDS", 0.1)
    started = time.monotonic()
    assert "no answer for 0.1 seconds" in refusal(f"{server.url}/{path}", tmp_path)
    assert time.monotonic() - started < 5


def test_a_failure_is_not_remembered(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{server.url}/short"
    refusal(url, tmp_path)
    monkeypatch.setattr(Handler, "_short", Handler._whole)
    assert fetch(url, tmp_path).read_bytes() == BODY


def test_no_network(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise urllib.error.URLError(OSError(errno.EHOSTUNREACH, "No route to host"))

    monkeypatch.setattr("urllib.request.urlopen", unknown)
    assert "No route to host): check the address and this machine's network" in refusal(
        "https://example.org/a", tmp_path
    )


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "Connection refused" in refusal(f"http://127.0.0.1:{port}/whole", tmp_path)


def test_a_cache_that_cannot_be_written(server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"/whole' cannot be kept in '.*/file': (Not a directory|File exists)"):
        fetch(f"{server.url}/whole", tmp_path / "file")


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("s3://bucket/a", "locations are paths or start with"),
        ("gs://bucket", "a bucket and a name are needed"),
        ("gs:///name", "a bucket and a name are needed"),
        ("hf://owner", "an owner and a name are needed"),
        ("file://elsewhere/a", "is on another machine"),
        ("http://[1/a", "cannot be reached (ValueError"),
        ("http:///a", "cannot be reached"),
        ("http://127.0.0.1:x/a", "cannot be reached (InvalidURL"),
    ],
)
def test_locations_that_are_none(tmp_path: Path, location: str, says: str) -> None:
    assert says in refusal(location, tmp_path)


def test_google_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def denied(request: Any, timeout: float) -> None:
        asked.append(request.full_url)
        raise urllib.error.HTTPError(request.full_url, 403, "Forbidden", request.headers, io.BytesIO())

    monkeypatch.setattr("urllib.request.urlopen", denied)
    message = refusal("gs://vit_models/imagenet21k+imagenet2012/ViT-B_16.npz", tmp_path)
    assert asked == ["https://storage.googleapis.com/vit_models/imagenet21k%2Bimagenet2012/ViT-B_16.npz"]
    assert "Google closed anonymous reading of several buckets in 2026" in message
    assert "credentials of your own" in message
    assert "timm or Hugging Face" in message


def test_google_storage_by_either_name_is_one_file(tmp_path: Path) -> None:
    url = "https://storage.googleapis.com/bucket/a.npz"
    kept = tmp_path / hashlib.sha256(url.encode()).hexdigest()[:16] / "a.npz"
    kept.parent.mkdir()
    kept.write_bytes(b"x")
    assert fetch(url, tmp_path) == fetch("gs://bucket/a.npz", tmp_path) == kept


class Hub(types.ModuleType):
    """Stands in for huggingface_hub, with the signatures of its version 2.4."""

    def __init__(self, folder: Path):
        super().__init__("huggingface_hub")
        self.folder, self.calls = folder, []

    def hf_hub_download(self, repo_id: str, filename: str, *, cache_dir: Path | None = None) -> str:
        if filename == "missing":
            raise RuntimeError("404 Client Error\nEntry Not Found")
        self.calls.append((repo_id, filename, cache_dir))
        return str(self.folder / filename)

    def snapshot_download(self, repo_id: str, *, cache_dir: Path | None = None, allow_patterns: list[str]) -> str:
        self.calls.append((repo_id, allow_patterns, cache_dir))
        return str(self.folder)


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path / "snapshot")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert fetch("hf://timm/vit/sub/model.safetensors") == tmp_path / "snapshot/sub/model.safetensors"
    assert fetch("hf://timm/vit", tmp_path / "cache") == tmp_path / "snapshot"
    assert hub.calls[0] == ("timm/vit", "sub/model.safetensors", None)
    assert hub.calls[1][0] == "timm/vit"
    assert "*.safetensors" in hub.calls[1][1]
    assert hub.calls[1][2] == tmp_path / "cache"
    assert "404 Client Error Entry Not Found" in refusal("hf://timm/vit/missing", tmp_path)


def test_the_hub_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install huggingface_hub" in refusal("hf://timm/vit", tmp_path)


class Terminal(io.StringIO):
    def __init__(self, is_one: bool):
        super().__init__()
        self.is_one = is_one

    def isatty(self) -> bool:
        return self.is_one


@pytest.mark.parametrize("is_one", [True, False])
def test_progress_is_shown_on_a_terminal_only(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, is_one: bool
) -> None:
    stderr = Terminal(is_one)
    monkeypatch.setattr(sys, "stderr", stderr)
    fetch(f"{server.url}/whole", tmp_path)
    assert ("/whole" in stderr.getvalue()) == is_one
    assert bool(stderr.getvalue()) == is_one
    assert capsys.readouterr().out == ""
