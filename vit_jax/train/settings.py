"""What a whole config may say: the groups of every room, and this room's own."""

import dataclasses
import re

from vit_jax.checkpoint.settings import HEADS, METHODS, CheckpointSettings
from vit_jax.data import DataSettings
from vit_jax.durations import Duration
from vit_jax.errors import BadSetting
from vit_jax.evaluate.settings import EvaluateSettings, EvaluatorSettings, MaskedSettings
from vit_jax.inspect import InspectSettings
from vit_jax.models import ModelSettings
from vit_jax.parallel import CompilerSettings, MeshSettings

LOSSES = ("softmax", "sigmoid")
OBJECTIVES = ("supervised", "masked_patches")
OPTIMIZERS = ("adam", "adamw", "sgd", "adafactor", "lion", "muon", "lamb")
SCHEDULES = ("constant", "linear", "cosine", "rsqrt", "staircase")
ON_HANG = ("report", "exit")

# Kernels are decayed; biases, norms, the class token and position embeddings are not.
DECAY_KERNELS = ((r".*/kernel", 1.0), (r".*", 0.0))


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The run itself.

    Attributes:
      batch_size: global batch: examples of one optimizer step over all devices.
      micro_batches: gradient accumulation: the batch is worked through in this many equal parts.
      duration: length of the run: steps, epochs or examples, for example `90 epochs`.
      objective: what is learned: `supervised`, the classes, or `masked_patches`, what was left out of the image (paper,
        appendix B.1.2; see `config.masked`), without labels.
      loss: `softmax` cross-entropy, or `sigmoid` (summed over classes).
      label_smoothing: share of the target spread evenly over all classes.
      mixup: a of Beta(a, a), from which mixup draws how much of an example stays; 0 does not mix.
      cutmix: the same for the area that cutmix leaves; 0 does not cut.
      mix_probability: how often a micro-batch is mixed at all.
      mix_switch: how often cutmix is taken where both are on (timm's switch probability).
      mix_per_example: draw for each example. Off, a micro-batch shares one draw, as in AugReg, big_vision and timm.
      ema_decay: decay of the averaged parameters (Polyak); 0 keeps none. Evaluation and export use them.
    """

    batch_size: int = 512
    micro_batches: int = 1
    duration: str = "90 epochs"
    objective: str = "supervised"
    loss: str = "softmax"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    mix_switch: float = 0.5
    mix_per_example: bool = False
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        Duration.parse(self.duration, "duration")
        if self.micro_batches < 1:
            raise BadSetting("micro_batches", self.micro_batches, "must be at least 1")
        if self.batch_size < 1:
            raise BadSetting("batch_size", self.batch_size, "must be at least 1")
        for field, accepted in (("loss", LOSSES), ("objective", OBJECTIVES)):
            if getattr(self, field) not in accepted:
                raise BadSetting(field, getattr(self, field), f"must be one of {', '.join(accepted)}")
        if self.objective != "supervised" and (self.mixup or self.cutmix or self.label_smoothing):
            raise BadSetting("objective", self.objective, "has no labels: set mixup, cutmix and label_smoothing to 0")
        for field in ("label_smoothing", "ema_decay"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise BadSetting(field, getattr(self, field), "must be at least 0 and below 1")
        self._check_mixing()

    def _check_mixing(self) -> None:
        for field in ("mixup", "cutmix"):
            if not 0.0 <= getattr(self, field) < float("inf"):
                raise BadSetting(field, getattr(self, field), "must be finite and not negative; 0 turns it off")
        for field in ("mix_probability", "mix_switch"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise BadSetting(field, getattr(self, field), "must be between 0 and 1")
        if (self.mixup or self.cutmix) and self.batch_size % (2 * self.micro_batches):
            fix = f"mixup and cutmix mix pairs: must be a multiple of {2 * self.micro_batches}"
            fix += f" (2 x {self.micro_batches} micro-batches)" if self.micro_batches > 1 else ""
            raise BadSetting("batch_size", self.batch_size, fix)


@dataclasses.dataclass(frozen=True)
class InitSettings:
    """What the parameters start from.

    Attributes:
      checkpoint: a workdir, export, published npz, timm or Hugging Face file: whatever `vit_jax.checkpoint.load` reads;
        empty for fresh values.
      step: which save of a workdir; by default the newest.
      head: the classifier: `reset` to zeros, `keep` it, or `resize` it: classes of the same name keep their weights.
      posemb: position embeddings for another image size: `bilinear` (the paper) or `bicubic`.
    """

    checkpoint: str = ""
    step: int | None = None
    head: str = "reset"
    posemb: str = "bilinear"

    def __post_init__(self) -> None:
        for field, accepted in (("head", HEADS), ("posemb", METHODS)):
            if getattr(self, field) not in accepted:
                raise BadSetting(field, getattr(self, field), f"must be one of {', '.join(accepted)}")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """One update: clip the gradient by global norm, precondition, add decay, scale by the schedule.

    Weight decay is decoupled and multiplied by the learning rate (AdamW, arXiv 1711.05101), for every optimizer:
    `p -= lr * (update + weight_decay * multiplier * p)`.

    Attributes:
      name: `adam`, `adamw` (adam with weight decay), `sgd`, `adafactor` (factored second moments, arXiv 1804.04235, as
        "Scaling Vision Transformers" uses it: with momentum, without relative steps), `lion` (arXiv 2302.06675),
        `muon` (for kernels; the classifier and what is no kernel take Adam with Nesterov momentum) or `lamb` (Adam
        whose update, with the decay, gets the norm of the parameter, layer by layer; arXiv 1904.00962).
      beta1: decay of the first moment: Adam, Lamb, Lion, and the momentum of Adafactor.
      beta2: decay of the second moment: Adam, Lamb, Lion; Adafactor's grows from 0 up to it.
      eps: Adam's and Lamb's.
      sam: radius of sharpness-aware minimisation (arXiv 2010.01412) around any of these; 0 for none. The gradient is
        that at the worst point within the radius, which takes a second one: steps cost about twice as much.
      mu_dtype: of the first moment or momentum: `float32` or `bfloat16`.
      momentum: SGD's and Muon's.
      weight_decay: see above.
      weight_decay_rules: (pattern, multiplier) of the decay, first match wins, every parameter must match.
      clip_norm: largest global norm of the gradient; 0 does not clip.
      learning_rate_rules: (pattern, multiplier) of the learning rate, likewise; 0 freezes: no update, no decay, and no
        gradient is computed.
      layer_decay: further multiplier for each layer below the classifier (BEiT, arXiv 2106.08254); 1 for none. The
        stem, and a hybrid's trunk, are the lowest layer; a ResNet's stages are its layers.
    """

    name: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    mu_dtype: str = "float32"
    momentum: float = 0.9
    sam: float = 0.0
    weight_decay: float = 0.0
    weight_decay_rules: tuple[tuple[str, float], ...] = DECAY_KERNELS
    clip_norm: float = 0.0
    learning_rate_rules: tuple[tuple[str, float], ...] = ((r".*", 1.0),)
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise BadSetting("name", self.name, f"must be one of {', '.join(OPTIMIZERS)}")
        if self.name == "adam" and self.weight_decay:
            raise BadSetting("weight_decay", self.weight_decay, "adam has none; set config.optimizer.name=adamw")
        if self.mu_dtype not in ("float32", "bfloat16"):
            raise BadSetting("mu_dtype", self.mu_dtype, "must be float32 or bfloat16")
        for field in ("beta1", "beta2", "momentum"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise BadSetting(field, getattr(self, field), "must be at least 0 and below 1")
        for field in ("weight_decay", "clip_norm", "sam"):
            if getattr(self, field) < 0:
                raise BadSetting(field, getattr(self, field), "must not be negative")
        if not 0.0 < self.layer_decay <= 1.0:
            raise BadSetting("layer_decay", self.layer_decay, "must be above 0 and at most 1")
        if any(value < 0 for _, value in self.learning_rate_rules):
            raise BadSetting("learning_rate_rules", self.learning_rate_rules, "multipliers must not be negative")


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """The learning rate over the run: a linear warm-up from 0, then a decay measured after the warm-up.

    Attributes:
      name: `constant`, `linear`, `cosine`, `rsqrt` or `staircase` (a tenth after each boundary).
      learning_rate: at the end of the warm-up.
      warmup: for example `10k steps` or `5%`.
      end_factor: where `linear` and `cosine` end, as a share of the learning rate.
      timescale: of `rsqrt`: the rate is multiplied by sqrt(timescale / (timescale + steps after warm-up)).
      cooldown: the last part of the run, in which the rate falls linearly to 0 (`rsqrt`, `constant`).
      boundaries: of `staircase`, counted from the start of the run.
    """

    name: str = "cosine"
    learning_rate: float = 1e-3
    warmup: str = "10k steps"
    end_factor: float = 0.0
    timescale: str = "10k steps"
    cooldown: str = "0 steps"
    boundaries: tuple[str, ...] = ("30%", "60%", "90%")

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise BadSetting("name", self.name, f"must be one of {', '.join(SCHEDULES)}")
        if not 0 <= self.learning_rate < float("inf"):
            raise BadSetting("learning_rate", self.learning_rate, "must be finite and not negative")
        for field in ("warmup", "timescale", "cooldown"):
            Duration.parse(getattr(self, field), field)
        for i, text in enumerate(self.boundaries):
            Duration.parse(text, f"boundaries[{i}]")
        if self.name in ("linear", "cosine", "staircase") and Duration.parse(self.cooldown, "cooldown").amount:
            raise BadSetting(
                "cooldown", self.cooldown, f"{self.name} already decays; a cool-down suits rsqrt, constant"
            )


@dataclasses.dataclass(frozen=True)
class LogSettings:
    """What is written while the run goes on.

    Attributes:
      every: how often metrics go to the files and the console.
      tensorboard: also write TensorBoard events (needs TensorFlow and clu).
      profile_steps: (first, last) steps to record a profiler trace of; SIGUSR1 records the next five at any time.
      hang_timeout: seconds without a finished step after which all stacks are written down (ten times the mean step if
        that is longer; six times as long while compiling, saving or evaluating); 0 does not look.
      on_hang: then `report` only, or also `exit` with status 134, which launchers start again.
    """

    every: str = "50 steps"
    tensorboard: bool = True
    profile_steps: tuple[int, ...] = ()
    hang_timeout: float = 600.0
    on_hang: str = "report"

    def __post_init__(self) -> None:
        Duration.parse(self.every, "every")
        if len(self.profile_steps) not in (0, 2) or list(self.profile_steps) != sorted(self.profile_steps):
            raise BadSetting("profile_steps", self.profile_steps, "write (first, last) in order, or () for none")
        if not 0 <= self.hang_timeout < float("inf"):
            raise BadSetting("hang_timeout", self.hang_timeout, "must be finite and not negative; 0 turns it off")
        if self.on_hang not in ON_HANG:
            raise BadSetting("on_hang", self.on_hang, f"must be one of {', '.join(ON_HANG)}")


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """A whole run: what `config` means.

    Attributes:
      seed: of initialisation, data order, augmentation and dropout.
      model: what is trained.
      init: what it starts from.
      data: on what.
      mesh: on which devices, laid out how.
      compiler: what XLA is told besides.
      train: batch, length, loss.
      optimizer: of the parameters.
      schedule: of the learning rate.
      masked: what masked patch prediction leaves out and asks for, where that is the objective.
      checkpoint: when the state is saved.
      evaluate: when the model is tested on the run's own data, and on which split.
      evaluators: further tests by name, each on its own data and at its own interval.
      inspect: when pictures of what has been learned are drawn.
      log: what is written meanwhile.
    """

    seed: int = 0
    model: ModelSettings = ModelSettings()
    init: InitSettings = InitSettings()
    data: DataSettings = DataSettings()
    mesh: MeshSettings = MeshSettings()
    compiler: CompilerSettings = CompilerSettings()
    train: TrainSettings = TrainSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    masked: MaskedSettings = MaskedSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    evaluators: dict[str, EvaluatorSettings] = dataclasses.field(default_factory=dict)
    inspect: InspectSettings = InspectSettings()
    log: LogSettings = LogSettings()

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise BadSetting("seed", self.seed, "must be at least 0 and below 2**32")
        if self.evaluate.split == "auto":
            object.__setattr__(self, "evaluate", dataclasses.replace(self.evaluate, split=self.data.test_split))
        for name in self.evaluators:
            if not re.fullmatch(r"[A-Za-z]\w*", name) or name == "eval":
                raise BadSetting("evaluators", name, "give it a name of letters, digits and _, other than eval")
