"""What the verbs that take `--checkpoint` have in common."""

from collections.abc import Sequence

from vit_jax.checkpoint import Weights
from vit_jax.config_files import override
from vit_jax.errors import UserError
from vit_jax.settings import build, complete, to_dict
from vit_jax.train import RunSettings

_MAY_CHANGE = ("config.data.", "config.mesh.", "config.evaluate.")
_FIXED = ("config.data.image_size", "config.data.channels")


def settings_of(weights: Weights, overrides: Sequence[str] = ()) -> RunSettings:
    """The settings the weights were trained with, on this machine's devices, with overrides of data and mesh.

    Raises:
      UserError: an override of something the weights fix.
    """
    from ml_collections import ConfigDict

    for text in overrides:
        key = text.removeprefix("--").removeprefix("no").partition("=")[0]
        if not key.startswith(_MAY_CHANGE) or key in _FIXED:
            raise UserError(f"{text}: the checkpoint fixes it; {', '.join(_MAY_CHANGE)}* can be changed")
    trained = build(RunSettings, weights.metadata.config)
    config = ConfigDict(to_dict(trained), convert_dict=True)
    config.mesh = ConfigDict()  # the mesh of this machine, not of the one that trained
    _tuples(config)
    return build(RunSettings, override(complete(config, RunSettings), overrides))


def _tuples(config) -> None:
    """JSON lists back to tuples, which flags can replace whole."""
    from ml_collections import ConfigDict

    for key, value in list(config.items()):
        if isinstance(value, ConfigDict):
            _tuples(value)
        elif isinstance(value, list):
            del config[key]
            config[key] = tuple(tuple(v) if isinstance(v, list) else v for v in value)
