"""Reading `--config=<file>[:<argument>]` and `--config.<key>=<value>` into typed settings."""

import contextlib
import inspect
import io
import re
import runpy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import flags
from ml_collections import ConfigDict, config_flags

import vit_jax
from vit_jax.errors import BadSetting, UserError, did_you_mean
from vit_jax.settings import build, complete

T = TypeVar("T")

_PACKAGE = Path(vit_jax.__file__).parent
# In a wheel the configs lie inside the package, in a checkout beside it.
SHIPPED = next((d for d in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if d.is_dir()), _PACKAGE / "configs")


def load_settings(cls: type[T], config: str, overrides: Sequence[str] = ()) -> T:
    """The settings of a config file with overrides applied.

    Args:
      cls: settings class of the whole config.
      config: `path.py` or `path.py:argument`; `configs/...` is also found in the installed package.
      overrides: `--config.a.b=value` strings; every key of `cls` can be given, whether the file has it or not.

    Raises:
      UserError: the file is missing or broken.
      BadSetting: unknown key, wrong type, impossible value.
    """
    keys = [key_of(text) for text in overrides]
    return build(cls, override(complete(load_config(config), cls, keys), overrides))


def key_of(override: str) -> str:
    """`config.a.b` of `--config.a.b=value` or `--noconfig.a.b`."""
    return override.removeprefix("--").removeprefix("no").partition("=")[0]


def load_config(config: str) -> ConfigDict:
    """Runs `get_config` of a config file.

    Raises:
      UserError: no such file, it fails, or has no `get_config` that returns a ConfigDict.
    """
    return config_of(run_config_file(config), config)


def config_of(names: Mapping[str, Any], config: str) -> ConfigDict:
    """What `get_config` of a config file returns.

    Args:
      names: that the file defines, from `run_config_file`.
      config: `path.py` or `path.py:argument`.

    Raises:
      UserError: see `load_config`.
    """
    name, _, argument = config.partition(":")
    path, get_config = find_config(name), names.get("get_config")
    if not callable(get_config):
        raise UserError(f"config file {path} must define get_config() or get_config(argument)")
    given = [argument] if argument else []
    if not accepts(get_config, *given):
        fix = f"takes no argument; drop ':{argument}'" if argument else "needs an argument after ':'"
        raise UserError(f"--config={config}: {path.name} {fix}")
    try:
        found = get_config(*given)
    except Exception as error:
        refused = argument and isinstance(error, KeyError | ValueError)
        what = f"does not accept {argument!r}" if refused else "fails"
        raise UserError(f"--config={config}: {path.name} {what} ({type(error).__name__}: {error})") from error
    if not isinstance(found, ConfigDict):
        raise UserError(f"config file {path}: get_config returned a {type(found).__name__}, not a ConfigDict")
    return found


def run_config_file(config: str) -> dict[str, Any]:
    """All names that a config file defines; its functions are not called.

    Raises:
      UserError: no such file, or it fails.
    """
    path = find_config(config.partition(":")[0])
    if path.suffix != ".py":
        raise UserError(f"config file {path} must be a Python file (.py) that defines get_config")
    try:
        return runpy.run_path(str(path))
    except Exception as error:
        raise UserError(f"config file {path} fails: {type(error).__name__}: {error}") from error


def accepts(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a function can be called with these arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True


def find_config(name: str) -> Path:
    """The file of this name here, or the shipped one.

    Raises:
      UserError: lists the shipped configs.
    """
    shipped = SHIPPED / name.removeprefix("configs/")
    for path in (Path(name).expanduser(), shipped):
        if path.is_file():
            return path
    known = [f"configs/{p.relative_to(SHIPPED).as_posix()}" for p in SHIPPED.rglob("*.py") if p.stem != "__init__"]
    raise UserError(f"config file {name!r} does not exist; {did_you_mean(name, known)}")


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Applies `--config.a.b=value` flags by ml_collections' own typed parsing.

    Raises:
      BadSetting: unknown key or a value of another type.
      UserError: not of that form.
    """
    types = [_type_of(config, text) for text in overrides]
    values = flags.FlagValues()
    argv = ["vit_jax", *overrides]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    for text, wanted in zip(overrides, types, strict=True):  # one at a time, so that an error belongs to its flag
        key, value = key_of(text), text.partition("=")[2]
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                values([argv[0], text])
        except (flags.Error, ValueError, TypeError, KeyError, AttributeError):
            raise BadSetting(key, value, f"must be {wanted.__name__}") from None
    if not overrides:
        values(argv)
    return values["config"].value


def _type_of(config: ConfigDict, text: str) -> type:
    """The type of the field that `--config.a.b=value` sets."""
    match = re.fullmatch(r"--(?:no)?config\.([A-Za-z0-9_.]+)(?:=(.*))?", text, re.DOTALL)
    if not match:
        raise UserError(f"{text!r}: write --config.<key>=<value>")
    wanted = type_at(config, match[1], match[2] or "")
    if match[2] is None and wanted is not bool:
        raise UserError(f"{text!r}: write --config.<key>=<value>")
    return wanted


def type_at(config: ConfigDict, key: str, value: object) -> type:
    """The type of the setting `key`, such as `train.batch_size`.

    Args:
      config: complete, see `vit_jax.settings.complete`.
      key: dotted, without `config.`.
      value: that it is to be set to, for errors.

    Raises:
      BadSetting: there is no such setting, or it is a group of settings.
    """
    wanted, path = ConfigDict, "config"
    for part in key.split("."):
        if wanted is not ConfigDict:
            raise BadSetting(f"{path}.{part}", value, f"unknown key; {path} is a value, not a group")
        if part not in config:
            raise BadSetting(f"{path}.{part}", value, f"unknown key; {did_you_mean(part, _keys(config))}")
        wanted, path, config = config.get_type(part), f"{path}.{part}", config[part]
    if wanted is ConfigDict:
        raise BadSetting(path, value, f"is a group; set one of {', '.join(_keys(config))}")
    return wanted


def _keys(config: ConfigDict) -> Iterable[str]:
    return sorted(config)
