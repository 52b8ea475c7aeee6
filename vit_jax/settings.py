"""Typed settings: frozen dataclasses on the inside, `ml_collections.ConfigDict` at the border.

Supported field types: `bool`, `int`, `float`, `str`, `X | None`, `tuple[X, ...]`, `tuple[X, Y]`, other settings
classes and `dict[str, <settings class>]`, groups that the user names. A class checks its own values in
`__post_init__` and raises `BadSetting` with the bare field name; `build` puts the path in front.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict, config_dict

from vit_jax.errors import BadSetting, did_you_mean

T = TypeVar("T")


def build(cls: type[T], config: Mapping[str, Any], path: str = "config") -> T:
    """Builds the frozen dataclass `cls` strictly from `config`; keys left out take the class's defaults.

    Raises:
      BadSetting: unknown key, wrong type or a value the class refuses; the message names the full key.
    """
    hints = typing.get_type_hints(cls)
    values = {}
    for key in config:
        if key not in hints:
            raise BadSetting(f"{path}.{key}", _plain(config[key]), f"unknown key; {did_you_mean(key, hints)}")
        values[key] = _convert(hints[key], config[key], f"{path}.{key}")
    try:
        return cls(**values)
    except BadSetting as error:
        raise error.below(path) from None


def to_dict(settings: Any) -> dict[str, Any]:
    """The settings as nested plain dicts (tuples become lists), ready for JSON; `build` takes it back."""
    return _plain(dataclasses.asdict(settings))


def complete(config: ConfigDict, cls: type, keys: Iterable[str] = ()) -> ConfigDict:
    """Fills every key of `cls` that `config` lacks with its default, so that each can be overridden by flag.

    Integers where the class wants a float become floats, because a ConfigDict ties a field to its first type.

    Args:
      config: changed in place.
      cls: settings class of the whole config.
      keys: `config.a.b` that will be overridden; those in a group of a `dict` field make the group.

    Raises:
      BadSetting: `config` has a key that `cls` does not.
    """
    _fill(config, cls, "config", tuple(keys))
    return config


def _fill(config: ConfigDict, cls: type, path: str, keys: tuple[str, ...]) -> None:
    hints = typing.get_type_hints(cls)
    for key in config:
        if key not in hints:
            raise BadSetting(f"{path}.{key}", _plain(config[key]), f"unknown key; {did_you_mean(key, hints)}")
    with config.unlocked():
        for field in dataclasses.fields(cls):
            hint, key = hints[field.name], field.name
            if dataclasses.is_dataclass(hint):
                _fill(_group(config, key, path), typing.cast(type, hint), f"{path}.{key}", keys)
            elif typing.get_origin(hint) is dict:
                groups = _group(config, key, path)
                member = re.compile(rf"{re.escape(path)}\.{key}\.(\w+)\.")
                named = [found[1] for found in map(member.match, keys) if found]
                for name in dict.fromkeys([*groups, *named]):
                    _fill(_group(groups, name, f"{path}.{key}"), _member_class(hint), f"{path}.{key}.{name}", keys)
            elif key not in config or config[key] is None:
                default = _default(field)
                empty = default is None or (key in config and config[key] is None)
                config[key] = config_dict.placeholder(_scalar_type(hint)) if empty else default
            elif _scalar_type(hint) is float and type(config[key]) is int:
                value = float(config[key])
                del config[key]  # a ConfigDict refuses to change a field's type in place
                config[key] = value


def _group(config: ConfigDict, key: str, path: str) -> ConfigDict:
    """The group of this name, made if it is missing."""
    if key not in config:
        with config.unlocked():
            config[key] = ConfigDict()
    if not isinstance(config[key], ConfigDict):
        raise BadSetting(f"{path}.{key}", config[key], "must be a group of settings (a ConfigDict)")
    return config[key]


def _member_class(hint: Any) -> type:
    """X of `dict[str, X]`."""
    return typing.get_args(hint)[1]


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise TypeError(f"settings field {field.name} needs a default")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _scalar_type(hint: Any) -> type:
    """The type a flag of this field has: the member of `X | None` that is not None."""
    if _is_union(hint):
        hint = _member(hint)
    return typing.get_origin(hint) or hint


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping | ConfigDict):
            raise BadSetting(path, value, "must be a group of settings")
        return build(typing.cast(type, hint), value, path)
    if typing.get_origin(hint) is dict:
        if not isinstance(value, Mapping | ConfigDict):
            raise BadSetting(path, value, "must be a group of named groups of settings")
        return {name: _convert(_member_class(hint), value[name], f"{path}.{name}") for name in value}
    if _is_union(hint):
        return None if value is None else _convert(_member(hint), value, path)
    if typing.get_origin(hint) is tuple:
        return _convert_tuple(hint, value, path)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise BadSetting(path, _plain(value), f"must be {_name(hint)}, not {_name(type(value))}")
    return value


def _member(hint: Any) -> Any:
    return next(arg for arg in typing.get_args(hint) if arg is not type(None))


def _convert_tuple(hint: Any, value: Any, path: str) -> tuple:
    if not isinstance(value, tuple | list):
        raise BadSetting(path, value, f"must be {_name(hint)}")
    args = typing.get_args(hint)
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise BadSetting(path, _plain(value), f"must have {len(args)} entries, not {len(value)}")
    return tuple(_convert(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _plain(value: Any) -> Any:
    if isinstance(value, ConfigDict):
        return _plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value
