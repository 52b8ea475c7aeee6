"""Where to run: launchers that start the same command on many processes."""
