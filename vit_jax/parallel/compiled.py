"""Compiled programs outlive the process: a run that is started again does not compile again."""

import logging
import os
from pathlib import Path

import jax


def keep_compiled(folder: Path) -> None:
    """Makes JAX keep compiled programs in a folder, and look there first. Call it before anything is compiled.

    JAX's own variables come first: JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false
    turns it off, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS (1) leaves out what is compiled more quickly. Processes may
    share the folder: in a job of several the first one writes; what cannot be read is compiled again. Whoever may write
    there decides what is run.

    Args:
      folder: made when it is needed; in a job of several the same for all, or only the first process gains.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = folder.absolute()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(nearest, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
    else:
        logging.warning("%s cannot be written: compiled programs are not kept; set JAX_COMPILATION_CACHE_DIR", folder)
