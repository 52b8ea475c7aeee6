"""All checks, on all processes of a job."""

import contextlib
import dataclasses
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from vit_jax import parallel
from vit_jax.doctor.clocks import look_at_clocks
from vit_jax.doctor.collectives import look_at_collectives
from vit_jax.doctor.devices import look_at_devices, look_at_memory
from vit_jax.doctor.findings import Finding, attempt
from vit_jax.doctor.input import look_at_input
from vit_jax.doctor.storage import look_at_storage
from vit_jax.doctor.versions import compare_versions, look_at_versions
from vit_jax.train import RunSettings

_FAILED = 1


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is looked at besides the machine.

    Attributes:
      workdir: where a run would write; None leaves storage out.
      settings: of a run; None leaves input out.
      images_per_second: that the run needs over all hosts; 0 if nobody knows.
    """

    workdir: Path | None = None
    settings: RunSettings | None = None
    images_per_second: float = 0.0


def examine(subject: Subject, timeout: float = 60.0) -> list[Finding]:
    """Looks at everything. All processes of a job call this; all get the same findings, in the order of the checks.

    Args:
      subject: besides the machine.
      timeout: seconds after which collectives that have not finished end the process, with a line and status 1.
    """
    own = [
        attempt("versions", look_at_versions),
        attempt("devices", look_at_devices),
        attempt("memory", look_at_memory),
    ]
    with _within(timeout, "collectives"):
        own.append(attempt("collectives", look_at_collectives))
        clocks = look_at_clocks()
    if subject.workdir is not None:
        own.append(look_at_storage(subject.workdir))
    if subject.settings is not None:
        settings = subject.settings
        own.append(attempt("input", lambda: look_at_input(settings, subject.images_per_second)))
    everybody = _gather(own)
    same = compare_versions([of[0] for of in everybody])
    return [finding for check in zip(*everybody, strict=True) for finding in check] + same + clocks


def _gather(own: list[Finding]) -> list[list[Finding]]:
    """The findings of every process."""
    texts = parallel.gather_text(json.dumps([dataclasses.asdict(finding) for finding in own]))
    return [
        [Finding(**{**found, "process": process}) for found in json.loads(text)] for process, text in enumerate(texts)
    ]


@contextlib.contextmanager
def _within(seconds: float, what: str) -> Iterator[None]:
    """Ends the process if the block, which may wait for other hosts for ever, takes longer."""

    def end() -> None:
        line = (
            f"{what} did not finish in {seconds:.0f} s on process {parallel.process_index()}: some host does not take "
            "part, or a firewall is between them; see that all run this command and reach each other on all ports"
        )
        print(f"vit_jax doctor: {line}", file=sys.stderr, flush=True)
        parallel.end_job(_FAILED, line)
        os._exit(_FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
