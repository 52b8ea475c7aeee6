"""Some runs of a sweep, by name."""

from vit_jax.errors import BadSetting, did_you_mean
from vit_jax.scaling.sweeps import Sweep


def choose_runs(
    sweep: Sweep, only: str | None = None, take: int | None = None, skip: str | None = None
) -> frozenset[str] | None:
    """Names of the chosen runs and of those that start from their weights; None for all runs.

    Args:
      sweep: from `load_sweep`.
      only: `--only`: names, or their last 8 characters, joined by commas; None for all.
      take: `--take`: the number of one of these, from 0.
      skip: `--skip`: names to leave out, written likewise.

    Raises:
      BadSetting: no run has such a name, or there are not so many.
    """
    if only is None and skip is None and take is None:
        return None
    names = [run.name for run in sweep.runs] if only is None else _named(sweep, only, "--only")
    if take is not None:
        if not 0 <= take < len(names):
            raise BadSetting("--take", take, f"there are {len(names)} runs to choose from, counted from 0")
        names = [names[take]]
    parents = {run.name: run.parent for run in sweep.runs}

    def chosen(name: str) -> bool:
        return name in names or (bool(parents[name]) and chosen(parents[name]))

    return frozenset(filter(chosen, parents)) - set(_named(sweep, skip, "--skip") if skip else ())


def _named(sweep: Sweep, text: str, flag: str) -> list[str]:
    known = {end: run.name for run in sweep.runs for end in (run.name, run.name[-8:])}
    found = []
    for part in text.split(","):
        if part.strip() not in known:
            raise BadSetting(flag, part.strip(), f"no run has this name; {did_you_mean(part, [*known][::2])}")
        found.append(known[part.strip()])
    return found
