"""Ahead of a run: its real program, compiled for devices that need not be here, and what that says."""
