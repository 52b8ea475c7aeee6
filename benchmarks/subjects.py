"""What is timed: our program of a model, its random weights and images, and the same model in PyTorch.

A variant of ours is a string of settings: `model.scan=False,model.remat=none`. The peers load the weights that we
export, so that what they compute can be compared before it is timed.
"""

import argparse
import contextlib
import importlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory, too

import harness
import jax
import numpy as np
import torchvision_operators

from vit_jax.checkpoint import Metadata, export_huggingface, export_timm
from vit_jax.errors import UserError
from vit_jax.models import Model, Params, forward_flops
from vit_jax.settings import build, to_dict
from vit_jax.train import DataFacts, Program, RunSettings, make_program

CLASSES = 1000
PEERS = ("timm_eager", "timm_compile", "transformers")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the batch, ours and the peers."""
    parser.add_argument("--model", default="S/16")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--ours", action="append", help="settings of a variant: model.scan=False,model.remat=none")
    parser.add_argument("--peers", default="timm_eager,timm_compile", help=f"of {', '.join(PEERS)}; empty for none")
    parser.add_argument("--rounds", type=harness.count, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--output", help="JSON file (default: none)")


def settings_of(flags: argparse.Namespace, changes: str = "") -> RunSettings:
    """A training run of the flags, with changes."""
    config: dict[str, Any] = {
        "model": {"variant": flags.model, "dtype": flags.dtype},
        "data": {"name": "synthetic", "image_size": (flags.image_size,)},
        "train": {"batch_size": flags.batch_size, "duration": "1000 steps"},
        "optimizer": {"name": "adamw", "weight_decay": 0.1},
        "schedule": {"learning_rate": 1e-4, "warmup": "100 steps"},
        "evaluate": {"split": ""},
    }
    for part in filter(None, changes.split(",")):
        key, _, value = part.partition("=")
        group, _, name = key.partition(".")
        if not name or not value:
            raise UserError(f"--ours={changes}: write group.name=value for {part!r}, as in model.scan=False")
        try:
            found = json.loads(value.lower() if value in ("True", "False") else value)
        except ValueError:
            found = value
        config.setdefault(group, {})[name] = found
    return build(RunSettings, config)


def program_of(flags: argparse.Namespace, changes: str = "") -> Program:
    """What `vit_jax train` would run."""
    return make_program(settings_of(flags, changes), DataFacts(examples=10**6, classes=CLASSES))


def random_batch(flags: argparse.Namespace) -> dict[str, np.ndarray]:
    """uint8 images and integer labels."""
    random = np.random.default_rng(0)
    shape = (flags.batch_size, flags.image_size, flags.image_size, 3)
    label = random.integers(0, CLASSES, flags.batch_size).astype(np.int32)
    return {"image": random.integers(0, 256, shape, dtype=np.uint8), "label": label}


def random_params(model: Model) -> Params:
    """Fresh values, with a classifier that is not zero, so that losses tell something."""
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    kernel = params["head"]["kernel"]
    params["head"]["kernel"] = np.random.default_rng(1).normal(0, 0.05, kernel.shape).astype(np.float32)
    return params


@contextlib.contextmanager
def exported(
    flags: argparse.Namespace, params: Params, peers: Sequence[str]
) -> Iterator[Callable[[str], "TorchModel"]]:
    """What opens the weights as a peer's model; they are exported, and the peers' packages imported, before."""
    settings = settings_of(flags)
    metadata = Metadata(program_of(flags).model, tuple(f"class {i}" for i in range(CLASSES)), to_dict(settings))
    if peers:
        torchvision_operators.register()
    with tempfile.TemporaryDirectory() as folder:
        places = {peer: Path(folder) / peer for peer in peers}
        for peer, place in places.items():
            (export_huggingface if peer == "transformers" else export_timm)(params, metadata, place)
            importlib.import_module(peer.partition("_")[0])
        yield lambda peer: TorchModel(flags, peer, places[peer])


class TorchModel:
    """A peer's model on the fastest device there is: `logits()` of the images of `random_batch`, and their labels.

    In bfloat16 under autocast; the images of ResNets channels-last. Normalising the images is part of the work.
    """

    def __init__(self, flags: argparse.Namespace, peer: str, folder: Path):
        import torch

        self.name = peer.replace("_", " ")
        self.compiled = peer.endswith("compile")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._bfloat16 = flags.dtype == "bfloat16"
        self._layout = torch.channels_last if flags.model.startswith("R") else torch.contiguous_format
        if self.device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.benchmark = True
        self._before = torch.cuda.memory_allocated() if self.device == "cuda" else 0
        self.module = self._open(peer, folder).to(self.device).to(memory_format=self._layout)
        self.parameters = sum(p.numel() for p in self.module.parameters())
        batch = random_batch(flags)
        self._images = torch.from_numpy(batch["image"]).to(self.device)
        self.labels = torch.from_numpy(batch["label"]).long().to(self.device)

    def _open(self, peer: str, folder: Path) -> Any:
        if peer == "transformers":
            import transformers

            return transformers.AutoModelForImageClassification.from_pretrained(folder)
        import timm

        return timm.create_model(f"local-dir:{folder}", pretrained=True)

    def logits(self) -> Any:
        """(b, classes) float32."""
        import torch

        with torch.autocast(self.device, torch.bfloat16, enabled=self._bfloat16):
            pixels = (self._images.permute(0, 3, 1, 2).float() / 127.5 - 1.0).contiguous(memory_format=self._layout)
            found = self.module(pixels)
            return (found if isinstance(found, torch.Tensor) else found.logits).float()

    def memory(self, step: Callable[[], Any]) -> int:
        """Bytes on the device at most while `step` is done again, without those of others; 0 on a CPU.

        The optimizer's state is made by the first step, and cuDNN tries its kernels there, so that one does not count.
        """
        import torch

        if self.device == "cpu":
            return 0
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - self._before


def peers_of(flags: argparse.Namespace) -> list[str]:
    """The peers that the flags name."""
    peers = [name for name in flags.peers.split(",") if name]
    for peer in peers:
        if peer not in PEERS:
            raise SystemExit(f"--peers={peer}: must be of {', '.join(PEERS)}")
    if peers and jax.device_count() > 1:
        raise SystemExit(
            f"--peers={flags.peers}: they run on one device, and ours would on {jax.device_count()}; "
            "set CUDA_VISIBLE_DEVICES=0, or --peers= for ours alone"
        )
    return peers


def compare(
    description: str | None,
    what: str,
    ours: Callable[[argparse.Namespace, str, Params], harness.Contender],
    peer: Callable[[TorchModel, float], harness.Contender],
    *,
    passes: int,
) -> None:
    """A whole case: flags, contenders with the same weights, turns, table and record.

    Args:
      description: of the case.
      what: is timed.
      ours: makes a contender of ours from flags, a variant and weights, and does the work once.
      peer: the same of a peer's model, with when it was begun.
      passes: through the model, in multiples of forward's FLOPs.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    flags = parser.parse_args()
    peers = peers_of(flags)
    harness.check_output(flags.output)
    with harness.settings_in_one_line():
        model = program_of(flags).model
        params = random_params(model)
        found = [ours(flags, changes, params) for changes in flags.ours or [""]]
    with exported(flags, params, peers) as opened:
        for name in peers:
            began = time.perf_counter()
            found.append(peer(opened(name), began))
    harness.check_same_work(found, flags.dtype)
    seconds = harness.alternate(found, flags.rounds, flags.seconds)
    limits = {"matmul": harness.matmul_rate(flags.dtype), "copy": harness.copy_rate()}
    if not harness.on_cpu():  # those pretended there share its cores
        limits = {name: rate * jax.device_count() for name, rate in limits.items()}
    rows = harness.rows_of(found, seconds, flags.batch_size, passes * forward_flops(model), limits)
    harness.show(
        f"{what} of {flags.model}, batch {flags.batch_size}, {flags.image_size} px, {flags.dtype}", rows, limits
    )
    harness.write(flags.output, {"flags": vars(flags), "limits": limits, "rows": rows})
