"""What libtpu must not look for: a cloud, and a TPU that only one process may have."""

import os

import jax

from vit_jax.parallel import parse_topology
from vit_jax.scaling.planning.children import environment

_SEEN = environment(parse_topology("v5e:4x4"), {})
os.environ.update({name: value for name, value in _SEEN.items() if name.startswith(("TPU", "ALLOW"))})
# Programs for described devices are written to JAX's cache but cannot be read from it.
jax.config.update("jax_enable_compilation_cache", False)
