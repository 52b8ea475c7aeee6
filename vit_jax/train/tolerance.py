"""What a run does about something that it could not write."""

import contextlib
from collections.abc import Iterator

from vit_jax.errors import Unsaved, reason
from vit_jax.train.progress import Reporter


class Tolerance:
    """Stops, or says so and goes on: `config.checkpoint.on_error`.

    Args:
      stops: let the error end the run.
      reporter: tells a person.
    """

    def __init__(self, stops: bool, reporter: Reporter):
        self._stops, self._reporter = stops, reporter
        self._said: set[str] = set()

    def take(self, error: Unsaved) -> None:
        """Raises the error, or says it."""
        if self._stops:
            raise error
        self._reporter.say(f"warning: {error}; going on (config.checkpoint.on_error=continue)")

    @contextlib.contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Takes errors of the file system; where the run goes on, they are said once, and again after a success.

        Args:
          what: is written within.
        """
        try:
            yield
            self._said.discard(what)
        except OSError as error:
            if what not in self._said:
                self.take(Unsaved(f"{what} could not be written: {reason(error)}"))
            self._said.add(what)
