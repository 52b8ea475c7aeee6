"""Names of the leaves of a pytree, the same everywhere: rules, logs, checkpoints, errors."""

from typing import Any

import jax


def named_leaves(tree: Any) -> dict[str, Any]:
    """`{"opt/adam/mu/head/kernel": leaf}`: dict keys and attribute names joined by '/', in tree order."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def nested(named: dict[str, Any]) -> dict[str, Any]:
    """Plain nested dicts from '/'-joined names: the inverse of `named_leaves` for dict trees."""
    result: dict[str, Any] = {}
    for name, leaf in named.items():
        *parents, last = name.split("/")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return result


def like(tree: Any, named: dict[str, Any]) -> Any:
    """A tree shaped like `tree` whose leaves are taken from `named` by name."""
    return jax.tree.unflatten(jax.tree.structure(tree), [named[name] for name in named_leaves(tree)])
