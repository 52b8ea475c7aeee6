"""What `config.model` may say."""

import dataclasses

from vit_jax.errors import BadSetting
from vit_jax.models.variants import EncoderShape, parse_variant

POOLS = ("token", "gap")
DTYPES = ("float32", "bfloat16")
REMATS = ("none", "dots", "full")


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """A Vision Transformer (arXiv 2010.11929).

    Attributes:
      variant: `<encoder>/<patch>`, for example `B/16`; the encoders are listed in `models.ENCODERS`.
      width: embed size, in place of the variant's; likewise `depth`, `mlp_dim`, `heads`.
      depth: number of encoder blocks.
      mlp_dim: hidden size of the MLP.
      heads: attention heads; must divide the width.
      pool: `token` reads the class token, `gap` the mean of all tokens.
      pre_logits: adds the paper's pre-training head, Dense(width) + tanh, before the classifier.
      dropout: after the position embeddings and every dense layer except query/key/value (paper, section B.1).
      head_bias: initial bias of the classifier; -10 suits sigmoid losses with many classes.
      dtype: of activations and matmuls; parameters are always float32.
      scan: run the stacked blocks by `lax.scan`; False unrolls them and gives the same numbers.
      remat: what backward recomputes: `none`, `dots` (all but matmul outputs) or `full` (everything).
    """

    variant: str = "B/16"
    width: int | None = None
    depth: int | None = None
    mlp_dim: int | None = None
    heads: int | None = None
    pool: str = "token"
    pre_logits: bool = False
    dropout: float = 0.0
    head_bias: float = 0.0
    dtype: str = "float32"
    scan: bool = True
    remat: str = "dots"

    def __post_init__(self) -> None:
        shape = self.encoder
        for name in ("width", "depth", "mlp_dim", "heads"):
            if getattr(shape, name) < 1:
                raise BadSetting(name, getattr(shape, name), "must be at least 1")
        if shape.width % shape.heads:
            fit = [k for k in range(1, shape.width + 1) if shape.width % k == 0 and k <= 2 * shape.heads]
            raise BadSetting("heads", shape.heads, f"must divide the width {shape.width}; {fit} do")
        if not 0.0 <= self.dropout < 1.0:
            raise BadSetting("dropout", self.dropout, "must be at least 0 and below 1")
        for name, accepted in (("pool", POOLS), ("dtype", DTYPES), ("remat", REMATS)):
            if getattr(self, name) not in accepted:
                raise BadSetting(name, getattr(self, name), f"must be one of {', '.join(accepted)}")

    @property
    def encoder(self) -> EncoderShape:
        """The variant's shape with the overrides applied."""
        shape, _ = parse_variant(self.variant)
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(EncoderShape)}
        return dataclasses.replace(shape, **{name: value for name, value in given.items() if value is not None})

    @property
    def patch(self) -> int:
        """Side of a square patch in pixels."""
        return parse_variant(self.variant)[1]
