"""What a job stands on, looked at before it is started: versions, devices, network, storage, input, clocks."""

from vit_jax.doctor.examination import Subject, examine
from vit_jax.doctor.findings import Finding

__all__ = ["Finding", "Subject", "examine"]
