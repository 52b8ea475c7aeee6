"""Shapes of encoders by formula, beyond the named variants."""

import dataclasses

# The compute-optimal shape of SoViT (arXiv 2305.13035): the star of its grid sweep (section 3) and the exponents of its
# star sweep (section 4.1), of which each of the three dimensions takes a third of the growth in compute.
_SMALLEST = {"width": 608, "depth": 10, "mlp_dim": 928}
_EXPONENTS = {"width": 0.22, "depth": 0.45, "mlp_dim": 0.6}
_HEAD_DIM, _MULTIPLE = 64, 16


@dataclasses.dataclass(frozen=True)
class Shape:
    """Of an encoder; the fields are those of `ModelSettings`."""

    width: int
    depth: int
    mlp_dim: int
    heads: int

    @property
    def multiply_adds(self) -> int:
        """For each token, in the dense layers of the encoder."""
        return self.depth * (4 * self.width**2 + 2 * self.width * self.mlp_dim)


def sovit_shape(compute: float) -> Shape:
    """The shape that is optimal for so much more training compute than the smallest one, 608 wide, 10 deep, MLP 928.

    Each dimension grows by `compute ** (exponent / 3)`. Widths are rounded to whole heads of 64, MLPs to multiples of
    16. The published SoViT-150m/14 and SoViT-400m/14 are within 12 % and 15 % of the formula (with 90 and 1,800 times
    the compute): its exponents are printed with two digits.

    Args:
      compute: at least 1.
    """
    if not compute >= 1:
        raise ValueError(f"compute = {compute}: the rule starts at 1")
    grown = {name: size * compute ** (_EXPONENTS[name] / 3) for name, size in _SMALLEST.items()}
    heads = round(grown["width"] / _HEAD_DIM)
    mlp_dim = _MULTIPLE * round(grown["mlp_dim"] / _MULTIPLE)
    return Shape(_HEAD_DIM * heads, round(grown["depth"]), mlp_dim, heads)
