"""Where to run: launchers that start the same verb on many processes, follow it and start it again when it may go on.

One file a place: `local`, `slurm`, `tpu`, `gke`. Each has `Settings` (its flags) and `launch(settings, verb)`. They
load neither JAX nor TensorFlow.
"""
