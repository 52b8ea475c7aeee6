"""From a compiled step to a whole run: time, chip-days beside the paper's, and what hosts have to do."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from vit_jax.data import SyntheticDataset, preview
from vit_jax.parallel import Chip, Topology, chip_of
from vit_jax.scaling.planning.advice import advice
from vit_jax.scaling.planning.record import Compiled, Request
from vit_jax.scaling.planning.roofline import StepTime, step_time
from vit_jax.scaling.table6 import CORE_DAYS

DAY = 86_400
# Median of "ours, TFRecord" in benchmarks/results/input_pipeline.json: crop, decode and resize to 224 pixels from JPEGs
# of about 500 x 375. Larger pictures take longer.
IMAGES_PER_CPU_SECOND = 1897
RECORD_BYTES = 110_000  # mean of ImageNet's
# (model, task, epochs) of the configs that are rows of the paper's table 2.
_PUBLISHED = {
    ("H/14", "jft", 14): "H/14, JFT-300M",
    ("L/16", "jft", 14): "L/16, JFT-300M",
    ("L/16", "imagenet21k", 90): "L/16, ImageNet-21k",
}


@dataclasses.dataclass(frozen=True)
class RunTime:
    """What a whole run takes, if every step takes as long as the estimate says.

    Attributes:
      images_per_second: of the job.
      utilization: FLOPs of the model, without those that are recomputed, over peak.
      days: of wall time, without evaluations and checkpoints.
      chip_days: days times chips.
      core_days: days times cores.
      exaflops: 10^18 FLOPs by the convention of the paper's table 6.
      published_core_days: TPUv3-core-days of the paper's table 2; None where the run is none of its rows.
    """

    images_per_second: float
    utilization: float
    days: float
    chip_days: float
    core_days: float
    exaflops: float
    published_core_days: float | None


@dataclasses.dataclass(frozen=True)
class Hosts:
    """What each host has to do.

    Attributes:
      number: of hosts.
      images_per_second: to read, decode and send to its devices.
      decode_cores: that this keeps busy.
      cpus: virtual CPUs it has; 0 where that is not known.
      memory: bytes it needs, by part.
      memory_available: bytes it has; 0 where that is not known.
    """

    number: int
    images_per_second: float
    decode_cores: float
    cpus: int
    memory: Mapping[str, int]
    memory_available: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A plan: what the compiler says, and what follows from it.

    Attributes:
      topology: as `--topology` takes it.
      chips: of all slices.
      chip: name of the chip; empty where the table lacks it.
      chip_memory: bytes that programs can use on a device; 0 where that is not known.
      compiled: what the compiler says.
      step: seconds, by what bounds them; None where the program does not fit, or the chip is not known.
      run: the whole of it; None likewise.
      hosts: what each has to do; None likewise.
      advice: what would make it fit, where it does not.
    """

    topology: str
    chips: int
    chip: str
    chip_memory: float
    compiled: Compiled
    step: StepTime | None
    run: RunTime | None
    hosts: Hosts | None
    advice: tuple[str, ...]


def estimate(request: Request, compiled: Compiled) -> Estimate:
    """What follows from a compiled program."""
    topology, chip = Topology(**request.topology), chip_of(compiled.kind)
    step = step_time(compiled, chip, topology) if chip and compiled.moved else None
    return Estimate(
        topology=str(topology),
        chips=topology.chips,
        chip=chip.name if chip else "",
        chip_memory=chip.device_memory if chip else 0,
        compiled=compiled,
        step=step,
        run=_run(request, compiled, topology, chip, step) if chip and step else None,
        hosts=_hosts(request, compiled, chip, step) if chip and step else None,
        advice=tuple(advice(request, compiled)),
    )


def _run(request: Request, compiled: Compiled, topology: Topology, chip: Chip, step: StepTime) -> RunTime:
    days = compiled.steps * step.estimate / DAY
    settings = request.settings
    epochs = round(compiled.steps * settings.train.batch_size / request.facts.examples)
    row = _PUBLISHED.get((settings.model.variant, settings.data.task, epochs))
    return RunTime(
        images_per_second=settings.train.batch_size / step.estimate,
        utilization=compiled.model_flops / (step.estimate * topology.chips * chip.flops),
        days=days,
        chip_days=days * topology.chips,
        core_days=days * topology.chips * chip.cores,
        exaflops=compiled.model_flops * compiled.steps / 1e18,
        published_core_days=CORE_DAYS[row] if row else None,
    )


def _hosts(request: Request, compiled: Compiled, chip: Chip, step: StepTime) -> Hosts:
    rate = request.settings.train.batch_size / step.estimate / compiled.hosts
    return Hosts(
        number=compiled.hosts,
        images_per_second=rate,
        decode_cores=rate / IMAGES_PER_CPU_SECOND,
        cpus=chip.host_cpus,
        memory=host_memory(request, compiled),
        memory_available=chip.host_memory,
    )


def host_memory(request: Request, compiled: Compiled) -> dict[str, int]:
    """Bytes that one host needs, by part: its pipelines, and its share of the state while that is saved."""
    settings, facts = request.settings, request.facts
    rows = -(-settings.train.batch_size // compiled.hosts)
    eval_rows = -(-(settings.evaluate.batch_size or settings.train.batch_size) // compiled.hosts)
    label = facts.classes * np.dtype(np.float32).itemsize if facts.multi_label else np.dtype(np.int32).itemsize
    stand_in = SyntheticDataset(settings.data, facts.examples, facts.classes)
    number = {"train": rows, **({"eval": eval_rows} if settings.evaluate.split else {})}
    plan = preview.memory_plan(settings.data, dict.fromkeys(number, stand_in), number, label)
    encoded = {f"{name}: encoded records of two batches": 2 * n * RECORD_BYTES for name, n in number.items()}
    return {**plan, **encoded, "a checkpoint on its way to the disk": compiled.saved // compiled.hosts}
