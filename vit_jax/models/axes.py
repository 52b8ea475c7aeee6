"""The logical name of every dimension of every parameter, by the parameter's path name."""

import re

from vit_jax.rules import assign

_ATTENTION = r"(?:.*/)?(?:attn|map_head/attn)"
_MLP = r"(?:.*/)?mlp"

# First match wins; `layers` is put in front of those that are stacked.
AXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"trunk/.*kernel", ("kernel_height", "kernel_width", "conv_in", "conv_out")),
    (r"trunk/.*(scale|bias)", ("norm",)),
    (r"embedding/kernel", ("patch", "patch", "channels", "patch_embed")),
    (r"cls|registers|mask_token|(positions/)?pos_embedding|map_head/probe", ("one", "tokens", "embed")),
    (r"(positions/)?pos_embedding_[xy]", ("tokens", "embed")),
    (r"(positions/)?relative_embedding", ("tokens", "head_dim")),
    (rf"{_ATTENTION}/(query|key|value)/kernel", ("embed", "heads", "head_dim")),
    (rf"{_ATTENTION}/(query|key|value)/bias", ("heads", "head_dim")),
    (rf"{_ATTENTION}/out/kernel", ("heads", "head_dim", "embed")),
    (rf"{_ATTENTION}/(query|key)_norm/(scale|bias)", ("norm",)),
    (rf"{_MLP}/dense1/kernel", ("embed", "mlp")),
    (rf"{_MLP}/dense1/bias", ("mlp",)),
    (rf"{_MLP}/dense2/kernel", ("mlp", "embed")),
    (rf"({_MLP}/dense2|{_ATTENTION}/out)/bias", ("norm",)),
    (r"blocks/.*(norm1|norm2)/(scale|bias)", ("norm",)),
    (r"blocks/.*(scale1|scale2)", ("norm",)),
    (r"pre_logits/kernel", ("embed", "embed_out")),
    (r"head/kernel", ("embed", "classes")),
    (r"head/bias", ("classes",)),
    (r"(embedding|norm|pre_logits|map_head/norm)/(scale|bias)", ("norm",)),
)

# Parameters with a leading layer axis.
STACKED = re.compile(r"blocks/.*|positions/.*|trunk/block\d+/units/.*")


def logical_axes(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[str, ...]]:
    """Names every dimension: `{"head/kernel": ("embed", "classes")}`.

    Args:
      shapes: {parameter name: shape}.

    Raises:
      UserError: a parameter that no rule covers.
      ValueError: a rule whose number of names is not the number of dimensions (a bug in the table).
    """
    named = assign(list(shapes), AXES, "logical axes")
    named = {name: ("layers", *axes) if STACKED.fullmatch(name) else axes for name, axes in named.items()}
    for name, axes in named.items():
        if len(axes) != len(shapes[name]):
            raise ValueError(f"{name} has shape {shapes[name]} but axes {axes}")
    return named
