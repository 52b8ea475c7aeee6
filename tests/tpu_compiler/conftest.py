"""What libtpu must not look for: a cloud, and a TPU that only one process may have."""

import os

from vit_jax.parallel import parse_topology
from vit_jax.scaling.planning.children import environment

os.environ.update(
    {k: v for k, v in environment(parse_topology("v5e:4x4"), {}).items() if k.startswith(("TPU", "ALLOW"))}
)
