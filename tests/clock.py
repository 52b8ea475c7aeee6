"""A clock that a test moves, for what takes `now` in place of the machine's."""


class Time:
    """Seconds; starts away from zero, so that a start that is taken for granted shows."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds
