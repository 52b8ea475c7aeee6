"""The table of a sweep before it runs: a row for each run that starts from no other, with those that start from it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vit_jax.pages import Table
from vit_jax.scaling.comparison import compute_unit
from vit_jax.scaling.costs import RunCost
from vit_jax.scaling.sweeps import Sweep, SweepRun

# Adds a column: its title, and what stands there for a run, such as its planned time on a topology. `vit_jax plan` is
# to give one; whatever it says about a run is shown as it is, in the table and in JSON.
Columns = Mapping[str, Callable[[SweepRun, RunCost], str]]


@dataclasses.dataclass(frozen=True)
class SweepRow:
    """A row of the table.

    Attributes:
      cost: of the run.
      transfers: of the runs that start from its weights, directly or not.
      more: further columns by title.
    """

    cost: RunCost
    transfers: tuple[RunCost, ...] = ()
    more: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All numbers."""
        return {**_plain(self.cost), **self.more, "transfers": [_plain(cost) for cost in self.transfers]}


def _plain(cost: RunCost) -> dict[str, Any]:
    return {**dataclasses.asdict(cost), "images": cost.images}


def sweep_rows(sweep: Sweep, costs: Sequence[RunCost], columns: Columns | None = None) -> list[SweepRow]:
    """The rows, in the order of the sweep.

    Args:
      sweep: from `load_sweep`.
      costs: of its runs, from `describe_sweep`.
      columns: to add.
    """
    parents = {run.name: run.parent for run in sweep.runs}
    transfers: dict[str, list[RunCost]] = {name: [] for name, parent in parents.items() if not parent}
    for cost in costs:
        first = cost.name
        while parents[first]:
            first = parents[first]
        if first != cost.name:
            transfers[first].append(cost)
    return [
        SweepRow(
            cost, tuple(transfers[run.name]), {title: value(run, cost) for title, value in (columns or {}).items()}
        )
        for run, cost in zip(sweep.runs, costs, strict=True)
        if not run.parent
    ]


def sweep_table(rows: Sequence[SweepRow]) -> Table:
    """The rows for a person."""
    unit, size = compute_unit(row.cost.exaflops for row in rows)
    with_transfers = any(row.transfers for row in rows)
    several = len({row.cost.data for row in rows}) > 1
    header = ["model", *(["data"] if several else []), "pixels", "parameters", "epochs", "images", "steps", unit]
    header += [*(["transfers"] if with_transfers else []), *(rows[0].more if rows else ()), "run"]
    lines = []
    for row in rows:
        cost = row.cost
        line = [cost.model, *([cost.data] if several else []), "x".join(map(str, cost.image_size))]
        line += [f"{cost.parameters:,}", f"{cost.epochs:.4g}", f"{cost.images:,}", f"{cost.steps:,}"]
        line += [f"{cost.exaflops / size:,.4g}", *([f"{len(row.transfers)}"] if with_transfers else [])]
        lines.append([*line, *row.more.values(), cost.name])
    return Table(header, lines)


def totals(rows: Sequence[SweepRow]) -> str:
    """`18 runs and 90 transfers, 16,230 + 71.2 exaFLOPs`."""
    own = sum(row.cost.exaflops for row in rows)
    transfers = [cost for row in rows for cost in row.transfers]
    unit, size = compute_unit([own])
    text = f"{len(rows)} run{'s' * (len(rows) != 1)}"
    amount = f"{own / size:,.4g}"
    if transfers:
        text += f" and {len(transfers)} transfer{'s' * (len(transfers) != 1)}"
        amount += f" + {sum(cost.exaflops for cost in transfers) / size:,.3g}"
    return f"{text}, {amount} {unit}"
