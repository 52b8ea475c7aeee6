"""A package, so that its tests share `constructed.py`."""
