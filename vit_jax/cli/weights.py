"""What the verbs that take `--checkpoint` have in common."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from vit_jax import parallel
from vit_jax.checkpoint import Weights, load
from vit_jax.config_files import key_of, override
from vit_jax.data import DataSettings
from vit_jax.errors import BadSetting, UserError
from vit_jax.evaluate import EvaluatorSettings, Subject
from vit_jax.models import Model, Params
from vit_jax.settings import build, complete, to_dict
from vit_jax.train import RunSettings

_MAY_CHANGE = ("config.data.", "config.mesh.", "config.evaluate.", "config.evaluators.")
_FIXED = ("config.data.image_size", "config.data.channels")
_MODEL = "config.model."
# What says which data set a run had; a task that is named instead fills them anew.
_OF_TASK = ("name", "train_split", "label_key", "train_preprocess", "eval_preprocess", "augment", "subset")
_TASK = ("config.data.task", "config.data.stage", "config.data.crops")


def open_weights(flags: argparse.Namespace, overrides: Sequence[str]) -> tuple[Weights, list[str]]:
    """(the weights of `--checkpoint`, the overrides that are not of the model).

    What became of the arrays of a foreign or resized file is said on standard error.

    Raises:
      BadSetting, UserError: they cannot be loaded, or the model of a checkpoint of ours is to be changed.
    """
    of_model = [text for text in overrides if key_of(text).startswith(_MODEL)]
    weights = load(flags.checkpoint, flags.step, image_size=flags.image_size, settings=_model_settings(of_model))
    if weights.layout or weights.report.resized:
        model = weights.metadata.model
        size = f"{model.image_size[0]}x{model.image_size[1]} px"
        kind = f"{weights.layout}: " if weights.layout else ""
        print(f"{kind}{model.settings.variant}{_overrides(model)}, {size}, {model.classes:,} classes", file=sys.stderr)
        print(*(f"  {line}" for line in weights.report.lines()), sep="\n", file=sys.stderr)
    return weights, [text for text in overrides if text not in of_model]


def _overrides(model: Model) -> str:
    """The model settings that are not as the variant's name says."""
    changed = [
        f"{field.name}={getattr(model.settings, field.name)}"
        for field in dataclasses.fields(model.settings)
        if field.name != "variant" and getattr(model.settings, field.name) != field.default
    ]
    return f" ({', '.join(changed)})" if changed else ""


def _model_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings that `--config.model.<key>=<value>` name, with their types."""
    from ml_collections import ConfigDict

    config = override(complete(ConfigDict(), RunSettings), overrides)
    return {key: config.model[key] for key in (key_of(text).removeprefix(_MODEL) for text in overrides)}


def settings_of(
    weights: Weights, overrides: Sequence[str] = (), evaluators: Mapping[str, EvaluatorSettings] | None = None
) -> RunSettings:
    """The settings the weights were trained with, on this machine's devices, with overrides of data and mesh.

    Args:
      weights: with the config of their run.
      overrides: `--config.<key>=<value>`.
      evaluators: to be added to those of the run, before the overrides.

    Raises:
      UserError: an override of something the weights fix.
    """
    from ml_collections import ConfigDict

    for text in overrides:
        key = key_of(text)
        if not key.startswith(_MAY_CHANGE) or key in _FIXED:
            raise UserError(f"{text}: the checkpoint fixes it; {', '.join(_MAY_CHANGE)}* can be changed")
    trained = build(RunSettings, weights.metadata.config)
    config = ConfigDict(to_dict(trained), convert_dict=True)
    config.mesh = ConfigDict()  # the mesh of this machine, not of the one that trained
    for name, added in (evaluators or {}).items():
        config.evaluators[name] = ConfigDict(to_dict(added))
    keys = [key_of(text) for text in overrides]
    if any(key in _TASK for key in keys):
        defaults = {field.name: field.default for field in dataclasses.fields(DataSettings)}
        for name in _OF_TASK:
            del config.data[name]
            config.data[name] = defaults[name]
        config.evaluate.split = "auto"
    _tuples(config)
    return build(RunSettings, override(complete(config, RunSettings, keys), overrides))


def on_devices(weights: Weights, settings: RunSettings, batch_size: int | None) -> tuple[Subject, Params]:
    """The model as evaluators take it, and its parameters on the mesh that `config.mesh` describes.

    Args:
      weights: to be tested.
      settings: from `settings_of`.
      batch_size: global, the value of `--batch_size`; None for that of the run.

    Raises:
      BadSetting: mesh or batch do not fit the devices.
    """
    mesh = mesh_of(settings)
    size = batch_size if batch_size is not None else settings.evaluate.batch_size or settings.train.batch_size
    parallel.check_batch("--batch_size", size, mesh)
    model, names = weights.metadata.model, weights.metadata.label_names
    params = params_on(mesh, weights)
    return Subject(model, names, settings.data, settings.train.loss, mesh, size, params), params


def mesh_of(settings: RunSettings) -> Mesh:
    """The mesh of this machine.

    Raises:
      BadSetting: `config.mesh` does not fit its devices.
    """
    try:
        return parallel.make_mesh(settings.mesh)
    except BadSetting as error:
        raise error.below("config") from None


def params_on(mesh: Mesh, weights: Weights) -> Params:
    """The parameters as global arrays, laid out as in training."""
    model = weights.metadata.model
    shardings = parallel.state_shardings(weights.params, model.shapes, model.logical_axes, mesh)
    return parallel.on_mesh(weights.params, shardings)


def _tuples(config) -> None:
    """JSON lists back to tuples, which flags can replace whole."""
    from ml_collections import ConfigDict

    for key, value in list(config.items()):
        if isinstance(value, ConfigDict):
            _tuples(value)
        elif isinstance(value, list):
            del config[key]
            config[key] = tuple(tuple(v) if isinstance(v, list) else v for v in value)
