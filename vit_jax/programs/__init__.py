"""What compiled programs do, read from their text (optimised HLO); needs no JAX."""
