"""Configs that ship with vit_jax: one experiment a file, each with `get_config`."""
