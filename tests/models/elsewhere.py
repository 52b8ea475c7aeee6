"""Programs for devices that are not here."""

from vit_jax.models.layers import SingleDevice


class Elsewhere(SingleDevice):
    """Describes a device that is not here."""

    def __init__(self, platform: str, kind: str = ""):
        self.found, self.kind = platform, kind

    @property
    def platform(self) -> str:
        return self.found

    @property
    def device_kind(self) -> str:
        return self.kind
