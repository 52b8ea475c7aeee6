"""Files and folders that appear whole or not at all."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from vit_jax.errors import UserError


def atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file under a temporary name beside `path` and renames it, so that no reader sees half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` that becomes `path` at the end, or goes away when something fails.

    Raises:
      UserError: `path` is a folder with something in it or a file, or cannot be written.
    """
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"export folder {str(path)!r} is not empty: remove it or name another")
    if path.exists() and not path.is_dir():
        raise UserError(f"export folder {str(path)!r} is a file: name a folder that does not exist yet")
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(path)
    except OSError as error:
        raise UserError(f"export folder {str(path)!r} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
