"""Files of weights from elsewhere, downloaded once."""

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import wrap_file

from vit_jax.checkpoint.files import atomically
from vit_jax.checkpoint.training import one_line
from vit_jax.errors import UserError

CACHE_VARIABLE = "VIT_JAX_CACHE"
DEFAULT_CACHE = "~/.cache/vit_jax"

_GOOGLE = "https://storage.googleapis.com/"
_TIMEOUT_SECONDS = 30.0  # without a byte
_CHUNK_BYTES = 2**20
_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "config.json", "preprocessor_config.json"]


def fetch(location: str, cache: Path | None = None) -> Path:
    """A local path of what `location` names; remote files are downloaded the first time and kept.

    A file appears in the cache whole or not at all, also when several processes fetch it. It is not compared with the
    remote one again: delete it to download it anew.

    Args:
      location: a path (`~` is expanded) or `file://`, which are not copied or checked; `https://`, `http://`;
        `gs://bucket/name`, read anonymously; `hf://owner/name/file` or `hf://owner/name`, by huggingface_hub: one
        file, or a folder with the safetensors of a model.
      cache: folder to download to. By default the environment variable VIT_JAX_CACHE, else `~/.cache/vit_jax`;
        `hf://` uses the Hub's own cache unless `cache` is given.

    Raises:
      UserError: it cannot be had; says why and what to do.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        return Path(os.path.expanduser(location))
    if scheme == "file":
        return _from_file(location)
    if scheme == "hf":
        return _from_hub(location, rest, cache)
    url = _url(location, scheme, rest)
    folder = cache or Path(os.path.expanduser(os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE))
    with _explained(location, url, folder):
        name = re.sub(r"[^\w.+-]", "_", urllib.parse.urlsplit(url).path.rpartition("/")[2])[-100:].lstrip(".")
        target = folder / hashlib.sha256(url.encode()).hexdigest()[:16] / (name or "download")
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            atomically(target, lambda file: _download(location, url, file))
        return target


def _url(location: str, scheme: str, rest: str) -> str:
    if scheme in ("http", "https"):
        return location
    if scheme != "gs":
        raise UserError(f"{location!r}: locations are paths or start with file://, https://, http://, gs:// or hf://")
    if not all(rest.partition("/")):
        raise UserError(f"{location!r}: a bucket and a name are needed, gs://bucket/name")
    return _GOOGLE + urllib.parse.quote(rest)


def _from_file(location: str) -> Path:
    parts = urllib.parse.urlsplit(location)
    if parts.netloc not in ("", "localhost"):
        raise UserError(f"{location!r} is on another machine: a file of this one is file:///path")
    return Path(urllib.request.url2pathname(parts.path))


def _from_hub(location: str, rest: str, cache: Path | None) -> Path:
    owner, _, rest = rest.partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name:
        raise UserError(f"{location!r}: an owner and a name are needed, hf://owner/name or hf://owner/name/file")
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(f"{location!r} needs huggingface_hub: pip install huggingface_hub") from None
    try:
        if file:
            return Path(huggingface_hub.hf_hub_download(f"{owner}/{name}", file, cache_dir=cache))
        return Path(huggingface_hub.snapshot_download(f"{owner}/{name}", allow_patterns=_HUB_FILES, cache_dir=cache))
    except Exception as error:  # the Hub's client raises its own kinds, and those of the HTTP client it has today
        raise UserError(f"{location!r} cannot be fetched from the Hub ({one_line(error)})") from None


def _download(location: str, url: str, file: BinaryIO) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "vit_jax"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        expected = response.length
        if expected is None and not response.chunked:
            raise UserError(f"{location!r}: the server does not say how long the file is; download it by other means")
        quiet = expected is None or not sys.stderr.isatty()
        console = Console(stderr=True)
        with wrap_file(response, expected or 0, description=location, console=console, disable=quiet) as body:
            shutil.copyfileobj(body, file, _CHUNK_BYTES)
    received = file.tell()
    if received == 0 or expected not in (None, received):
        raise UserError(f"{location!r} broke off after {received} of {expected} bytes: try again")


@contextlib.contextmanager
def _explained(location: str, url: str, folder: Path) -> Iterator[None]:
    """Turns what urllib and the file system raise into one line."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise UserError(f"{location!r}: {_status(error.code, url)}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", None)
        reason = reason if isinstance(reason, Exception) else error
        if isinstance(reason, TimeoutError):
            raise UserError(f"{location!r}: no answer for {_TIMEOUT_SECONDS:g} seconds; try again later") from None
        fix = "check the address and this machine's network, or download it elsewhere and give the path"
        raise UserError(f"{location!r} cannot be reached ({one_line(reason)}): {fix}") from None
    except OSError as error:
        raise UserError(f"{location!r} cannot be kept in {str(folder)!r}: {error.strerror}") from None


def _status(code: int, url: str) -> str:
    if code in (401, 403) and url.startswith(_GOOGLE):
        return (
            f"access denied ({code}). Google closed anonymous reading of several buckets in 2026: download it with "
            "credentials of your own (gcloud storage cp) and give the path, or use a copy from timm or Hugging Face"
        )
    if code in (401, 403):
        return f"access denied ({code}): download it with your credentials and give the path"
    if code in (404, 410):
        return f"there is no such file ({code}): check the name"
    return f"the server answered {code}: try again later"
