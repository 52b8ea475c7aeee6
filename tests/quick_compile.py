"""XLA flags under which small programs compile in a third of the time, and run slower: what tests want."""

import importlib.metadata

QUICK_COMPILE = "--xla_backend_optimization_level=0"
# XLA aborts on flags it does not know; this one is gone from JAX 0.12.
if int(importlib.metadata.version("jax").split(".")[1]) < 11:
    QUICK_COMPILE += " --xla_cpu_use_fusion_emitters=false"
