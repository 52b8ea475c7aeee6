"""Where metrics go: JSON lines in the workdir, and TensorBoard events through clu."""

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from vit_jax.errors import one_line
from vit_jax.train.lines import JsonLinesFile

METRICS_FILE = "metrics.jsonl"


class Writer(Protocol):
    """Takes named scalars.

    Attributes:
      name: of what is written, for errors.
    """

    name: str

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records the scalars of a step.

        Raises:
          OSError: the disk is full, for example.
        """

    def close(self) -> None:
        """Flushes and gives back files."""


class JsonLines:
    """One JSON object a line: `step` and the scalars, floats in full precision (their shortest exact form).

    On resume, lines after `resume_step` are dropped: those steps are going to run again. A run that starts from
    nothing keeps an older file as `metrics.<n>.jsonl`.
    """

    name = METRICS_FILE

    def __init__(self, path: Path, resume_step: int):
        if resume_step:
            _drop_after(path, resume_step)
        elif path.exists() and path.stat().st_size:
            number = len(list(path.parent.glob(f"{path.stem}.*{path.suffix}")))
            os.replace(path, path.with_suffix(f".{number}{path.suffix}"))
        self._file = JsonLinesFile(path)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        self._file.add({"step": step, **{name: _plain(value) for name, value in scalars.items()}})

    def close(self) -> None:
        """See `Writer`."""
        self._file.close()


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # NaN is not JSON


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue  # the last line of a killed run
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All records of a metrics file, in order."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def has_evaluation(path: Path, name: str, step: int) -> bool:
    """Whether the evaluation `name` after `step` is recorded."""
    return any(r["step"] == step and any(key.startswith(f"{name}/") for key in r) for r in read_metrics(path))


class TensorBoard:
    """clu's summary writer; import it late, it loads TensorFlow."""

    name = "tensorboard"

    def __init__(self, directory: Path):
        from clu import metric_writers

        self._writer = metric_writers.SummaryWriter(os.fspath(directory))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        with _errors_of_the_system():
            self._writer.write_scalars(step, scalars)

    def close(self) -> None:
        """See `Writer`."""
        with contextlib.suppress(OSError), _errors_of_the_system():  # `write` has said so
            self._writer.close()


@contextlib.contextmanager
def _errors_of_the_system() -> Iterator[None]:
    """TensorFlow's errors as Python's: `... /events.out.tfevents.1.v2; No space left on device` and further lines."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "error_code"):  # what its `OpError` has; it is imported in `vit_jax.data` alone
            raise
        words = str(error).splitlines()[0].rpartition("; ")[2]
        number = next((number for number in errno.errorcode if os.strerror(number) == words), None)
        raise (OSError(number, words) if number else OSError(one_line(error))) from error


def make_writers(workdir: Path, resume_step: int, tensorboard: bool) -> tuple[list[Writer], str]:
    """The writers of a run, and a note if TensorBoard was asked for but cannot be had."""
    writers: list[Writer] = [JsonLines(workdir / METRICS_FILE, resume_step)]
    if not tensorboard:
        return writers, ""
    try:
        writers.append(TensorBoard(workdir / "tensorboard"))
    except ImportError as error:
        return writers, f"no TensorBoard events: {error} (config.log.tensorboard=False silences this)"
    return writers, ""
