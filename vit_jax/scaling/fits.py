"""The saturating power law of scaling studies, fitted to few runs with an honest uncertainty.

    error(C) = floor + b * C^-exponent        floor, b >= 0

Errors are 100 minus accuracies, in percent; C is compute in any unit. This is the form in which "Scaling Vision
Transformers" (arXiv 2106.04560, section 3.1) and others describe results like those of the ViT paper's figure 5.

For a given exponent the best floor and b follow from linear least squares, so only the exponent is searched for
(variable projection, Golub and Pereyra 1973). The search cannot end in a wrong valley, and b is taken at the middle of
the data, where floor, b and exponent depend on each other least.
"""

import dataclasses

import numpy as np
from scipy import optimize

from vit_jax.errors import UserError

PARAMETERS = 3
MIN_RUNS = PARAMETERS + 1
LEVEL = 0.9  # of intervals and bands
# From a straight line over log(C) to a curve that falls to its floor within a factor of two.
_EXPONENTS = np.geomspace(0.01, 4.0, 300)


@dataclasses.dataclass(frozen=True)
class Curves:
    """Any number m of curves, each error(C) = floor + scale * (C / middle)^-exponent.

    Attributes:
      floor: (m,) errors that no compute goes below, in percent.
      scale: (m,) what is left above the floor at `middle`, in percent.
      exponent: (m,) of the power law.
      middle: geometric mean of the compute that was fitted.
    """

    floor: np.ndarray
    scale: np.ndarray
    exponent: np.ndarray
    middle: float

    def error(self, compute: np.ndarray | float) -> np.ndarray:
        """(m, k) errors in percent at k values of compute."""
        distance = np.log(np.atleast_1d(compute) / self.middle)
        return self.floor[:, None] + self.scale[:, None] * np.exp(-self.exponent[:, None] * distance)

    def compute(self, error: np.ndarray | float) -> np.ndarray:
        """(m, k) compute at which k errors are met; infinite for those at or below the floor."""
        above = np.atleast_1d(error) - self.floor[:, None]
        with np.errstate(divide="ignore", over="ignore"):
            logs = -(np.log(np.maximum(above, 0.0)) - np.log(self.scale)[:, None]) / self.exponent[:, None]
            return self.middle * np.exp(logs)


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted curve.

    Attributes:
      best: the one curve of least squares.
      resampled: curves fitted to data as it could also have come out: best curve plus new noise.
      compute: (smallest, largest) that was fitted.
      runs: how many.
      noise: standard deviation of the runs around the curve, in percentage points, with runs - 3 degrees of freedom.
      r2: share of the errors' variance that the curve explains.
    """

    best: Curves
    resampled: Curves
    compute: tuple[float, float]
    runs: int
    noise: float
    r2: float

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """(floor, b, exponent) of the formula at the top of this file."""
        floor, scale, exponent = (float(v[0]) for v in (self.best.floor, self.best.scale, self.best.exponent))
        return floor, scale * self.best.middle**exponent, exponent

    def intervals(self, level: float = LEVEL) -> dict[str, tuple[float, float]]:
        """{"floor": (low, high), "exponent": (low, high)}."""
        found = {"floor": self.resampled.floor, "exponent": self.resampled.exponent}
        return {name: interval(values, level) for name, values in found.items()}

    def band(self, compute: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
        """(lowest, highest) error at each compute, pointwise."""
        low, high = np.quantile(self.resampled.error(compute), _tails(level), axis=0)
        return low, high


def fit_power_law(compute: np.ndarray, error: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> Fit:
    """Fits the curve by least squares of the errors, all runs weighing the same.

    The uncertainty is a parametric bootstrap. The level of the noise is itself uncertain with so few runs, so each
    resample draws it from its posterior (residual sum of squares over a chi-square with runs - 3 degrees of freedom):
    intervals are wide for four runs and hold what they promise from four runs on, where resampling the residuals would
    cover two thirds of the truth in place of nine tenths.

    Args:
      compute: (n,) positive, in any unit.
      error: (n,) in percent.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Raises:
      UserError: fewer than four runs, or fewer than three different values of compute.
    """
    x, y = np.asarray(compute, float), np.asarray(error, float)
    if len(x) < MIN_RUNS or len(np.unique(x)) < PARAMETERS:
        raise UserError(f"a curve needs {MIN_RUNS} runs of {PARAMETERS} different computes, not {len(x)}")
    distance = np.log(x) - np.log(x).mean()
    middle = float(np.exp(np.log(x).mean()))
    exponent = _best_exponent(distance, y)
    best = Curves(*_project(distance, y[None], np.array([exponent])), middle)
    fitted = best.error(x)[0]
    squares, freedom = float(((y - fitted) ** 2).sum()), len(x) - PARAMETERS
    spread = float(((y - y.mean()) ** 2).sum())
    rng = np.random.default_rng(seed)
    levels = np.sqrt(squares / rng.chisquare(freedom, (resamples, 1)))
    again = fitted + levels * rng.standard_normal((resamples, len(x)))
    grid = np.append(_EXPONENTS, exponent)
    return Fit(
        best=best,
        resampled=Curves(*_project(distance, again, grid), middle),
        compute=(float(x.min()), float(x.max())),
        runs=len(x),
        noise=(squares / freedom) ** 0.5,
        r2=1.0 - squares / spread if spread else 1.0,
    )


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` of resampled values, which may be infinite."""
    low, high = np.quantile(values, _tails(level), method="inverted_cdf")
    return float(low), float(high)


def _tails(level: float) -> list[float]:
    return [(1 - level) / 2, (1 + level) / 2]


def _best_exponent(distance: np.ndarray, y: np.ndarray) -> float:
    """The grid's best exponent, then the best one around it."""
    squares = _squares(distance, y[None], _EXPONENTS)[2][0]
    i = int(squares.argmin())
    around = np.log(_EXPONENTS[[max(i - 1, 0), min(i + 1, len(_EXPONENTS) - 1)]])
    found = optimize.minimize_scalar(
        lambda log: _squares(distance, y[None], np.exp([log]))[2][0, 0],
        bounds=tuple(around),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(np.exp(found.x)) if found.fun < squares[i] else float(_EXPONENTS[i])


def _project(distance: np.ndarray, y: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(floor, scale, exponent), each (m,), of the best curve with one of these exponents for each row of y (m, n)."""
    floor, scale, squares = _squares(distance, y, exponents)
    best = squares.argmin(axis=1)
    rows = np.arange(len(y))
    return floor[rows, best], scale[rows, best], exponents[best]


def _squares(distance: np.ndarray, y: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(floor, scale, residual sum of squares), each (m, exponents): non-negative least squares in two unknowns."""
    power = np.exp(-exponents[:, None] * distance)  # (e, n)
    mean_power, mean = power.mean(axis=1), y.mean(axis=1, keepdims=True)
    scale, squares = _one_unknown(power - mean_power[:, None], y - mean)
    alone, squares_alone = _one_unknown(power, y)
    floor = mean - scale * mean_power
    inside = floor >= 0
    return np.where(inside, floor, 0.0), np.where(inside, scale, alone), np.where(inside, squares, squares_alone)


def _one_unknown(power: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best scale >= 0 in y = scale * power, and its residual sum of squares: (m, e) each from (e, n) and (m, n)."""
    products = np.einsum("mn,en->me", y, power)  # small: BLAS threads would cost more
    length = (power**2).sum(axis=1)
    scale = np.maximum(products / length, 0.0)
    squares = (y**2).sum(axis=1, keepdims=True) - scale * (2 * products - scale * length)
    return scale, np.maximum(squares, 0.0)
