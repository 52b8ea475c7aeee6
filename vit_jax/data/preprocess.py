"""Pre-processing strings: `decode|inception_crop(0.3)|flip` -> a function on one image."""

import ast
import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from vit_jax.data.ops import OPS, Context
from vit_jax.errors import BadSetting, did_you_mean

Step = tuple[Callable[..., tf.Tensor], dict[str, Any]]


def parse(text: str, field: str) -> list[Step]:
    """Splits and checks a pre-processing string.

    Args:
      text: operations separated by `|`, each `name` or `name(arguments)` with literal arguments.
      field: name of the setting, for errors.

    Raises:
      BadSetting: points at the operation and the character where it starts.
    """
    steps, start = [], 0
    for part in text.split("|"):
        try:
            steps.append(_parse_op(part.strip()))
        except ValueError as error:
            place = start + len(part) - len(part.lstrip()) + 1
            raise BadSetting(field, text, f"at character {place}, {part.strip()!r}: {error}") from None
        start += len(part) + 1
    return steps


def _parse_op(text: str) -> Step:
    try:
        tree = ast.parse(text, mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        args = [ast.literal_eval(a) for a in call.args]
        kwargs = {k.arg or "": ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, TypeError, ValueError):
        raise ValueError("write name or name(1, key=2)") from None
    if name not in OPS:
        raise ValueError(f"unknown operation; {did_you_mean(name, OPS)}")
    signature = inspect.signature(OPS[name])
    accepted = list(signature.parameters.values())[2:]
    try:
        bound = signature.replace(parameters=accepted).bind(*args, **kwargs).arguments
    except TypeError as error:
        takes = ", ".join(f"{p.name}={p.default}" for p in accepted) or "no arguments"
        raise ValueError(f"{error}; it takes {takes}") from None
    for key, value in bound.items():
        wanted = signature.parameters[key].annotation
        if not (type(value) is wanted or (wanted is float and type(value) is int)):
            raise ValueError(f"{key} = {value!r} must be {wanted.__name__}")
    return OPS[name], dict(bound)


def compile_steps(
    text: str, field: str, size: tuple[int, int], channels: int
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """(image bytes, seed of shape (2,)) -> uint8 (height, width, channels).

    Raises:
      BadSetting: the string is wrong, or does not always give images of `size`.
    """
    steps = parse(text, field)

    def run(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        for number, (function, arguments) in enumerate(steps):
            op_seed = tf.random.experimental.stateless_fold_in(seed, number)
            image = function(image, Context(size, channels, op_seed), **arguments)
        return image

    try:
        # Operations are plain TensorFlow. AutoGraph would only rewrite them, in a way that Python 3.13 deprecates;
        # where that fails it silently leaves them as they are.
        function = tf.function(run, autograph=False)
        traced = function.get_concrete_function(tf.TensorSpec((), tf.string), tf.TensorSpec((2,), tf.int32))
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()[:200]
        fix = "" if steps[0][0] is OPS["decode"] else "; start with decode"
        raise BadSetting(field, text, f"does not fit together ({reason}){fix}") from None
    found = traced.structured_outputs
    if found.dtype != tf.uint8 or tuple(found.shape) != (*size, channels):
        got = f"{found.dtype.name} {tuple(found.shape)}"
        raise BadSetting(field, text, f"yields {got}, not uint8 {(*size, channels)}; end with a resize or crop")
    return run
