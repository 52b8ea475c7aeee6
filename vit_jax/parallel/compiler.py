"""Options of XLA for the train step: presets as data, and one's own.

They go to the compiler with the program, not through the environment variable XLA_FLAGS, where an unknown name ends the
process. A plan compiles with the same options as the run.
"""

import dataclasses
from collections.abc import Mapping

import jax

from vit_jax.errors import BadSetting

# `gpu_overlap`: collectives run beside computation, in few large pieces; for several GPUs. The choice follows what
# NVIDIA and MaxText publish for large models, as far as jax 0.10 and 0.12 both know it. `gpu_one`: products with the
# same operand (query, key and value) become one; on an H200 that took 1 % off L/16, or nothing (docs/performance.md).
PRESETS: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "gpu_overlap": {
        "xla_gpu_enable_latency_hiding_scheduler": "true",
        "xla_gpu_all_gather_combine_threshold_bytes": str(128 * 2**20),
        "xla_gpu_all_reduce_combine_threshold_bytes": str(128 * 2**20),
        "xla_gpu_reduce_scatter_combine_threshold_bytes": str(64 * 2**20),
        "xla_gpu_enable_while_loop_double_buffering": "true",
    },
    "gpu_one": {"xla_gpu_dot_merger_threshold_mb": "4096"},
}


@dataclasses.dataclass(frozen=True)
class CompilerSettings:
    """What XLA is told about the train step.

    Attributes:
      preset: a member of `PRESETS`.
      options: of XLA, `name=value` separated by commas: xla_gpu_enable_triton_gemm=false. They come after the preset.
    """

    preset: str = "none"
    options: str = ""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise BadSetting("preset", self.preset, f"must be one of {', '.join(PRESETS)}")
        for option in filter(None, self.options.split(",")):
            name, equals, value = option.partition("=")
            if not (name.strip() and equals and value.strip()):
                raise BadSetting("options", self.options, "write name=value, separated by commas")

    def resolved(self) -> dict[str, str | bool]:
        """The options of the preset and one's own by name, as `jax.jit` takes them."""
        own = (option.partition("=") for option in filter(None, self.options.split(",")))
        found = {**PRESETS[self.preset], **{name.strip(): value.strip() for name, _, value in own}}
        return {name: {"true": True, "false": False}.get(value.lower(), value) for name, value in found.items()}


def check_compiler(settings: CompilerSettings) -> None:
    """Compiles next to nothing with the options, where the job runs.

    Raises:
      BadSetting: XLA does not know one of them, or not this value.
    """
    for name, value in settings.resolved().items():
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except jax.errors.JaxRuntimeError as error:
            said = str(error).partition("\n")[0].removeprefix("INVALID_ARGUMENT: ")
            field = "options" if name in settings.options else "preset"
            fix = f"the compiler of jax {jax.__version__} refuses {name}={value} ({said})"
            raise BadSetting(f"config.compiler.{field}", getattr(settings, field), fix) from None
