"""What a published format consists of, and what its files say beyond the arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoint.layouts.rules import Arrays, Rule


@dataclasses.dataclass(frozen=True)
class Hints:
    """What the shapes of the arrays do not tell.

    Attributes:
      settings: of the model, for example {"heads": 12, "gelu": "erf"}.
      image_size: (height, width), where the file says it.
      label_names: of the classes, where the file says them.
      eval_preprocess: the pipeline that the weights expect, where the file says it.
    """

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    label_names: tuple[str, ...] | None = None
    eval_preprocess: str | None = None


def no_hints(arrays: Arrays, config: Mapping[str, Any]) -> Hints:
    """The `hints` of formats that consist of arrays alone."""
    return Hints()


@dataclasses.dataclass(frozen=True)
class Layout:
    """A published format.

    Attributes:
      name: for people.
      rules: names and shapes.
      recognises: whether a file with these array names has the format.
      canonical: (arrays, config) -> (arrays in the one dialect that `rules` know, names that are no parameters).
      hints: (canonical arrays, config) -> what the shapes do not tell. The config is that beside the file, or empty.
    """

    name: str
    rules: tuple[Rule, ...]
    recognises: Callable[[set[str]], bool]
    canonical: Callable[[Arrays, Mapping[str, Any]], tuple[dict[str, np.ndarray], list[str]]]
    hints: Callable[[Arrays, Mapping[str, Any]], Hints] = no_hints
