"""What a checkpoint says about itself: enough to rebuild the model and to name what does not match."""

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from vit_jax.errors import UserError
from vit_jax.models import Model, ModelSettings
from vit_jax.settings import build, to_dict

SCHEMA_VERSION = 1
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "vit_jax")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The description saved with weights and training states.

    Attributes:
      model: what the weights belong to.
      label_names: of the classes, in the order of the logits.
      config: the resolved config of the run, as plain dicts.
      step: optimizer steps taken.
      data_position: {"seed", "next_batch", "batch_size", "train_examples"}: with the config, where the data stream
        goes on.
    """

    model: Model
    label_names: tuple[str, ...]
    config: dict[str, Any]
    step: int = 0
    data_position: dict[str, int] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "schema_version": SCHEMA_VERSION,
            "step": self.step,
            "model": {
                "name": self.model.settings.variant,
                "settings": to_dict(self.model.settings),
                "image_size": list(self.model.image_size),
                "channels": self.model.channels,
                "classes": self.model.classes,
                "shapes": {name: list(shape) for name, shape in self.model.shapes.items()},
            },
            "label_names": list(self.label_names),
            "data": self.data_position,
            "config": self.config,
            "versions": {name: _version(name) for name in _LIBRARIES},
        }

    @staticmethod
    def from_json(found: Mapping[str, Any], where: str) -> "Metadata":
        """Reads `to_json` back.

        Raises:
          UserError: another schema version, or something is missing.
        """
        check_schema(found, where)
        try:
            about = found["model"]
            settings = build(ModelSettings, about["settings"], "config.model")
            model = Model(settings, (*about["image_size"],), about["channels"], about["classes"])
            names = (*found["label_names"],)
            if names and len(names) != model.classes:
                raise UserError(f"{where} names {len(names)} classes, and its model has {model.classes}")
            return Metadata(model, names, found["config"], found["step"], found["data"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{where} lacks part of its description ({error})") from None


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def check_schema(found: Any, where: str) -> None:
    """Raises UserError unless `found` is a description in the form that `Metadata.to_json` writes today."""
    version = found.get("schema_version") if isinstance(found, Mapping) else None
    if version != SCHEMA_VERSION:
        raise UserError(f"{where} has checkpoint schema {version!r}; this vit_jax reads {SCHEMA_VERSION}")


def check_same_shapes(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    """Raises UserError that names the first parameters whose shapes differ, or that only one side has."""
    differences = []
    for name in sorted({*found, *wanted}):
        ours, theirs = wanted.get(name), found.get(name)
        if ours is None or theirs is None or tuple(ours) != tuple(theirs):
            there, here = _shape(theirs), _shape(ours)
            differences.append(f"{name} is {there} there and {here} in this model")
    if differences:
        more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
        raise UserError(f"{where} holds another model: {'; '.join(differences[:3])}{more}")


def _shape(shape: Any) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "scalar"
