"""The clocks of the hosts, on which logs, certificates and shared file systems rely."""

import json
import time
from collections.abc import Sequence

from vit_jax import parallel
from vit_jax.doctor.findings import Finding

ROUNDS = 5
LARGEST = 1.0  # seconds by which clocks may differ


def look_at_clocks() -> list[Finding]:
    """Reads all clocks at the same moment, some times over. All processes call this; nothing in a job of one."""
    if parallel.process_count() == 1:
        return []
    own = []
    for number in range(ROUNDS):
        parallel.barrier(f"doctor: clock {number}")
        own.append(time.time())
    return [compare_clocks([json.loads(text) for text in parallel.gather_text(json.dumps(own))])]


def compare_clocks(times: Sequence[Sequence[float]]) -> Finding:
    """What the clocks say.

    Args:
      times: for each process the seconds since 1970 at each round. Processes leave a barrier at slightly different
        moments: of several rounds the least difference counts.
    """
    skews = [min((a - b for a, b in zip(each, times[0], strict=True)), key=abs) for each in times]
    spread, worst = max(skews) - min(skews), max(range(len(skews)), key=lambda i: abs(skews[i]))
    far = spread > LARGEST
    fix = f"the clock of process {worst} is {skews[worst]:+.1f} s off that of process 0: run NTP on all hosts"
    numbers = {"skew_seconds": [round(skew, 6) for skew in skews], "spread_seconds": round(spread, 6)}
    return Finding("clocks", f"{spread:.3f} s apart at most", fix if far else "", numbers)
