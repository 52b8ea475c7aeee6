"""The logical name of every dimension of every parameter, by the parameter's path name."""

from vit_jax.rules import assign

# First match wins; a leading layer axis is added for the stacked `blocks/`.
AXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"embedding/kernel", ("patch", "patch", "channels", "embed")),
    (r"cls|pos_embedding", ("one", "tokens", "embed")),
    (r"blocks/attn/(query|key|value)/kernel", ("layers", "embed", "heads", "head_dim")),
    (r"blocks/attn/(query|key|value)/bias", ("layers", "heads", "head_dim")),
    (r"blocks/attn/out/kernel", ("layers", "heads", "head_dim", "embed")),
    (r"blocks/mlp/dense1/kernel", ("layers", "embed", "mlp")),
    (r"blocks/mlp/dense1/bias", ("layers", "mlp")),
    (r"blocks/mlp/dense2/kernel", ("layers", "mlp", "embed")),
    (r"blocks/(norm1|norm2|attn/out|mlp/dense2)/(scale|bias)", ("layers", "norm")),
    (r"pre_logits/kernel", ("embed", "embed_out")),
    (r"head/kernel", ("embed", "classes")),
    (r"head/bias", ("classes",)),
    (r"(embedding|norm|pre_logits)/(scale|bias)", ("norm",)),
)


def logical_axes(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[str, ...]]:
    """Names every dimension: `{"head/kernel": ("embed", "classes")}`.

    Args:
      shapes: {parameter name: shape}.

    Raises:
      UserError: a parameter that no rule covers.
      ValueError: a rule whose number of names is not the number of dimensions (a bug in the table).
    """
    named = assign(list(shapes), AXES, "logical axes")
    for name, axes in named.items():
        if len(axes) != len(shapes[name]):
            raise ValueError(f"{name} has shape {shapes[name]} but axes {axes}")
    return named
