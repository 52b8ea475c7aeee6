"""Sweeps that ship with vit_jax: one study a file, each with `get_hyper`."""
