"""Tests, laid out like `vit_jax`."""
