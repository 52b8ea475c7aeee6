"""Tests of the models room, and the NumPy version of a ViT they compare with."""
