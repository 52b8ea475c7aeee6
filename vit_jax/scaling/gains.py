"""What a family of models saves: the compute another needs for the same accuracy, where both have runs."""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from vit_jax.errors import UserError
from vit_jax.scaling.fits import LEVEL, Fit, fit_power_law, interval

# (compute, accuracy in percent) of each run.
Runs = Sequence[tuple[float, float]]

_STEPS = 101  # accuracies at which two families are compared
_NEVER = 1e-4  # a family that needs so many times more may as well never get there


@dataclasses.dataclass(frozen=True)
class Gain:
    """How many times the compute of `frugal` another family needs at equal accuracy.

    Attributes:
      frugal: the family that needs less.
      costly: the other.
      typical: median over the accuracies that both reach, at least 1.
      lowest: over these accuracies.
      highest: likewise.
      interval: of `typical`, by the bootstrap of both curves; None where there are too few runs for a curve, and the
        numbers come from straight lines between the runs.
      accuracies: (lowest, highest) that both reach, in percent.
    """

    frugal: str
    costly: str
    typical: float
    lowest: float
    highest: float
    interval: tuple[float, float] | None
    accuracies: tuple[float, float]

    def sentence(self, what: str) -> str:
        """`At equal ImageNet accuracy, ViTs need 2.0 times less compute than ResNets (...).`

        Where the interval reaches below 1, they `seem to need` less.
        """
        low, high = self.accuracies
        over = f"{times(self.lowest)} to {times(self.highest)} between {low:.1f} % and {high:.1f} %"
        sure = f"{LEVEL:.0%} interval {self.sure}" if self.interval else self.sure
        need = "seem to need" if self.interval and self.interval[0] <= 1 else "need"
        start = f"At equal {what}, {self.frugal}s {need} {times(self.typical)} times less compute than {self.costly}s"
        return f"{start} ({sure}; {over})."

    @property
    def sure(self) -> str:
        """The interval in words; an end is open where one of the families may never get there."""
        if self.interval is None:
            return "read between the runs, without an interval"
        least, most = self.interval
        if least < _NEVER and most > 1 / _NEVER:
            return "open on both sides"
        if least < _NEVER:
            return f"up to {times(most)}"
        return f"from {times(least)} up" if most > 1 / _NEVER else f"{times(least)} to {times(most)}"


def times(value: float) -> str:
    """A factor with two digits or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def fit_families(families: Mapping[str, Runs], seed: int = 0) -> dict[str, Fit]:
    """The curves of the families that have runs enough, and more accuracy for more compute.

    Args:
      families: runs by name of the family.
      seed: of the bootstrap; each family draws its own noise.
    """
    fits = {}
    for i, (family, runs) in enumerate(families.items()):
        compute, accuracy = np.array(runs, float).reshape(-1, 2).T
        with contextlib.suppress(UserError):  # too few
            fits[family] = fit_power_law(compute, 100 - accuracy, seed=seed + i)
    return {family: fit for family, fit in fits.items() if fit.best.scale[0] > 0}


def compute_gains(families: Mapping[str, Runs], fits: Mapping[str, Fit]) -> list[Gain]:
    """Compares every pair of families that reach a common accuracy, within the compute of their runs.

    Args:
      families: runs by name of the family.
      fits: of `fit_families`; a pair without two curves is compared by straight lines between its best runs.

    Returns:
      The gains, the family that needs less compute first in each.
    """
    gains = []
    for one, other in itertools.combinations([name for name, runs in families.items() if runs], 2):
        for pair in ((one, other), (other, one)):
            fitted = all(name in fits for name in pair)
            gain = _of_fits(pair, fits) if fitted else _of_runs(pair, families)
            if gain and gain.typical >= 1:
                gains.append(gain)
                break
    return gains


def _of_fits(pair: tuple[str, str], fits: Mapping[str, Fit]) -> Gain | None:
    """Compares two curves; None where no accuracy is reached by both."""
    frugal, costly = (fits[name] for name in pair)
    worst = min(_at(frugal, 0), _at(costly, 0))
    best = max(_at(frugal, 1), _at(costly, 1))
    if best >= worst:
        return None
    errors = np.linspace(best, worst, _STEPS)
    ratios = costly.best.compute(errors)[0] / frugal.best.compute(errors)[0]
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may not reach an error at any compute
        resampled = costly.resampled.compute(errors) / frugal.resampled.compute(errors)
    medians = np.median(np.where(np.isnan(resampled), 1.0, resampled), axis=1)  # neither reaches it: neither gains
    return _gain(pair, ratios, interval(medians), (100 - worst, 100 - best))


def _at(fit: Fit, end: int) -> float:
    return float(fit.best.error(fit.compute[end])[0, 0])


def _of_runs(pair: tuple[str, str], families: Mapping[str, Runs]) -> Gain | None:
    """Compares the Pareto fronts of two families by straight lines between their runs, over log compute."""
    (x, y), (u, v) = (np.array(pareto_front(families[name]), float).T for name in pair)
    low, high = max(y.min(), v.min()), min(y.max(), v.max())
    if low >= high:
        return None
    accuracies = np.linspace(low, high, _STEPS)
    ratios = np.exp(np.interp(accuracies, v, np.log(u)) - np.interp(accuracies, y, np.log(x)))
    return _gain(pair, ratios, None, (low, high))


def _gain(
    pair: tuple[str, str],
    ratios: np.ndarray,
    interval: tuple[float, float] | None,
    accuracies: tuple[float, float],
) -> Gain:
    frugal, costly = pair
    low, high = accuracies
    return Gain(
        frugal,
        costly,
        typical=float(np.median(ratios)),
        lowest=float(ratios.min()),
        highest=float(ratios.max()),
        interval=interval,
        accuracies=(float(low), float(high)),
    )


def pareto_front(runs: Runs) -> list[tuple[float, float]]:
    """The runs that no other run beats: by more accuracy for no more compute, or by the same for less.

    Args:
      runs: in any order; of equal ones, one is kept.

    Returns:
      By rising compute, and so by rising accuracy.
    """
    front: list[tuple[float, float]] = []
    for run in sorted(runs, key=lambda run: (run[0], -run[1])):
        if not front or run[1] > front[-1][1]:
            front.append(run)
    return front
