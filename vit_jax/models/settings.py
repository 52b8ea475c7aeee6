"""What `config.model` may say."""

import dataclasses

from vit_jax.errors import BadSetting
from vit_jax.models.kernels import ATTENTIONS
from vit_jax.models.variants import EncoderShape, TrunkShape, Variant, parse_variant

POOLS = ("token", "gap", "map", "first", "none")
POSEMBS = ("learned_1d", "learned_2d", "relative", "sincos_2d", "none")
PLACES = ("stem", "every_layer", "shared")
NORMS = ("layer", "rms")
GELUS = ("tanh", "erf")
DTYPES = ("float32", "bfloat16")
REMATS = ("none", "dots", "full")


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """A Vision Transformer, a hybrid (both arXiv 2010.11929) or a BiT ResNet (arXiv 1912.11370).

    Where the default is None, the variant decides. `remat`, `scan`, `dtype` and `head_bias` hold for all families,
    `trunk_*` for hybrids and ResNets, everything else for ViTs and hybrids.

    Attributes:
      variant: `B/16` (ViT), `R50+B/16` (hybrid) or `R50x1` (ResNet), see `parse_variant`.
      width: embed size; likewise `depth`, `mlp_dim`, `heads`.
      depth: number of encoder blocks.
      mlp_dim: hidden size of the MLP.
      heads: attention heads; must divide the width.
      patch: side of a square patch, in pixels or, in a hybrid, positions of the trunk's output.
      trunk_units: bottleneck units of each stage.
      trunk_width: factor on all channels of the trunk.
      trunk_version: 1 is post-activation (the hybrids), 2 pre-activation (BiT).
      pool: what represents the image: `token` (a class token), `gap` (mean of all patch tokens), `map` (an attention
        head with one learned query), `first` (the first patch token) or `none` (every token gets logits). By default
        `token`; ResNets always use `gap`.
      class_token: whether there is one; by default where `pool` is `token`. Without being pooled it only attends and is
        attended to, as in masked patch prediction.
      mask_token: adds the learned embedding that stands for patches left out, see `Corruption` in `vit_jax.models`.
      pre_logits: adds the paper's pre-training head, Dense(width) + tanh, before the classifier.
      posemb: position embeddings (paper, appendix D.4): `learned_1d`; `learned_2d`, one table a side, half the width
        each; `relative`, one embedding for each offset in raster order, as extra attention keys; `sincos_2d`, fixed;
        `none`.
      posemb_at: added at the `stem`, at the input of `every_layer` (each with its own) or `shared` by all layers. With
        `relative`: used by the first layer's attention, by every layer's own, or by every layer's with one table.
      registers: learned tokens without position that the head never sees (arXiv 2309.16588).
      parallel: attention and MLP side by side, as in 22B.
      qk_norm: norm of queries and keys, as in 22B.
      qkv_bias: biases of the query, key and value projections.
      norm: `layer` or `rms` (LayerNorm without centring and bias, as in 22B).
      norm_epsilon: of those norms: 1e-6 in the released models, 1e-12 in Hugging Face's.
      gelu: `tanh` (the approximation, as in the released models) or `erf` (exact, as timm and Hugging Face train).
      layer_scale: initial value of a learned scale on each residual branch; 0 for none (arXiv 2103.17239).
      axial: each block attends along rows, then along columns, each with an MLP (paper, appendix D.6).
      attention: kernel; `auto` is the best one for the backend, see `vit_jax.models.kernels`.
      dropout: after the position embeddings and every dense layer except query/key/value (paper, section B.1).
      attention_dropout: of attention weights.
      stochastic_depth: probability that an image skips a residual branch in the last layer; grows linearly from 0 in
        the first (arXiv 1603.09382).
      patch_dropout: share of the patch tokens that training leaves out, at random for each image.
      head_bias: initial bias of the classifier; -10 suits sigmoid losses with many classes.
      dtype: of activations and matmuls; parameters are always float32.
      scan: run stacked blocks, and on TPUs convolutional units, by `lax.scan`; False unrolls them and gives the same
        numbers.
      remat: what backward recomputes: `none`, `dots` (all but outputs of matmuls and convolutions) or `full`.
    """

    variant: str = "B/16"
    width: int | None = None
    depth: int | None = None
    mlp_dim: int | None = None
    heads: int | None = None
    patch: int | None = None
    trunk_units: tuple[int, ...] | None = None
    trunk_width: int | None = None
    trunk_version: int | None = None
    pool: str | None = None
    class_token: bool | None = None
    mask_token: bool = False
    pre_logits: bool = False
    posemb: str = "learned_1d"
    posemb_at: str = "stem"
    registers: int = 0
    parallel: bool | None = None
    qk_norm: bool | None = None
    qkv_bias: bool | None = None
    norm: str | None = None
    norm_epsilon: float = 1e-6
    gelu: str = "tanh"
    layer_scale: float = 0.0
    axial: bool = False
    attention: str = "auto"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    stochastic_depth: float = 0.0
    patch_dropout: float = 0.0
    head_bias: float = 0.0
    dtype: str = "float32"
    scan: bool = True
    remat: str = "dots"

    def __post_init__(self) -> None:
        family = parse_variant(self.variant)
        self._check_choices()
        if family.encoder is None:
            self._refuse(_ENCODER_ONLY, "has no encoder")
            if self.pool not in (None, "gap"):
                raise BadSetting("pool", self.pool, f"a ResNet such as {self.variant} pools by gap")
        else:
            self._check_encoder(self.resolved.encoder)
        if family.trunk is None:
            self._refuse(_TRUNK_ONLY, "has no ResNet trunk")
        else:
            self._check_trunk(self.resolved.trunk)

    @property
    def resolved(self) -> Variant:
        """The variant's shapes with the overrides applied."""
        found = parse_variant(self.variant)
        trunk = {
            name.removeprefix("trunk_"): getattr(self, name) for name in _TRUNK_ONLY if getattr(self, name) is not None
        }
        encoder = {f.name: getattr(self, f.name) for f in dataclasses.fields(EncoderShape)}
        encoder = {name: value for name, value in encoder.items() if value is not None}
        return Variant(
            found.encoder and dataclasses.replace(found.encoder, **encoder),
            found.patch if self.patch is None else self.patch,
            found.trunk and dataclasses.replace(found.trunk, **trunk),
        )

    @property
    def pooling(self) -> str:
        """`pool` with the family's default filled in."""
        return self.pool or ("token" if parse_variant(self.variant).encoder else "gap")

    @property
    def has_class_token(self) -> bool:
        """Whether the sequence starts with a class token."""
        return self.pooling == "token" if self.class_token is None else self.class_token

    def _refuse(self, names: tuple[str, ...], why: str) -> None:
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise BadSetting(name, getattr(self, name), f"{self.variant} {why}; leave it out")

    def _check_choices(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "pool": POOLS,
            "posemb": POSEMBS,
            "posemb_at": PLACES,
            "norm": NORMS,
            "gelu": GELUS,
            "attention": ATTENTIONS,
            "dtype": DTYPES,
            "remat": REMATS,
        }
        for name, accepted in choices.items():
            value = getattr(self, name)
            if value is not None and value not in accepted:
                raise BadSetting(name, value, f"must be one of {', '.join(accepted)}")
        for name in ("dropout", "attention_dropout", "stochastic_depth", "patch_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise BadSetting(name, getattr(self, name), "must be at least 0 and below 1")
        if not 0.0 < self.norm_epsilon < 1.0:
            raise BadSetting("norm_epsilon", self.norm_epsilon, "must be above 0 and below 1")
        for name in ("registers", "layer_scale"):
            if not getattr(self, name) >= 0:  # so that NaN is refused too
                raise BadSetting(name, getattr(self, name), "must not be negative")

    def _check_encoder(self, shape: EncoderShape | None) -> None:
        assert shape is not None
        positive = {name: getattr(shape, name) for name in ("width", "depth", "mlp_dim", "heads")}
        for name, value in {**positive, "patch": self.resolved.patch}.items():
            if value < 1:
                raise BadSetting(name, value, "must be at least 1")
        if shape.width % shape.heads:
            fit = [k for k in range(1, shape.width + 1) if shape.width % k == 0 and k <= 2 * shape.heads]
            raise BadSetting("heads", shape.heads, f"must divide the width {shape.width}; {fit} do")
        if self.attention_dropout and self.attention not in ("auto", "plain"):
            raise BadSetting("attention", self.attention, "attention_dropout needs the plain path: use auto or plain")
        divisor = {"learned_2d": 2, "sincos_2d": 4}.get(self.posemb, 1)
        if shape.width % divisor:
            raise BadSetting("posemb", self.posemb, f"needs a width that {divisor} divides; it is {shape.width}")
        if shape.parallel and self.axial:
            raise BadSetting("parallel", True, "axial blocks have their attention and MLPs one after the other")
        if self.pooling == "token" and not self.has_class_token:
            raise BadSetting("class_token", self.class_token, "pool token needs one; set pool=gap or leave it out")
        if self.axial and (self.has_class_token or self.registers or self.posemb == "relative"):
            fix = "attends along rows and columns: use pool gap, map, first or none, and no class token, registers or "
            fix += "relative posemb"
            raise BadSetting("axial", self.axial, fix)
        if self.patch_dropout and (self.axial or self.pooling in ("first", "none") or not self._stem_only):
            fix = "needs pool token, gap or map, no axial blocks, and position embeddings added at the stem only"
            raise BadSetting("patch_dropout", self.patch_dropout, fix)

    @property
    def _stem_only(self) -> bool:
        return self.posemb == "none" or (self.posemb_at == "stem" and self.posemb != "relative")

    def _check_trunk(self, shape: TrunkShape | None) -> None:
        assert shape is not None
        if any(units < 1 for units in shape.units) or len(shape.units) > 4:
            raise BadSetting("trunk_units", shape.units, "must be up to four numbers of at least 1")
        if shape.width < 1:
            raise BadSetting("trunk_width", shape.width, "must be at least 1")
        if shape.version not in (1, 2):
            raise BadSetting("trunk_version", shape.version, "must be 1 (post-activation) or 2 (pre-activation)")
        if self.resolved.encoder and shape.version == 2:
            raise BadSetting("trunk_version", 2, "hybrids have post-activation trunks (1), as released")


_TRUNK_ONLY = ("trunk_units", "trunk_width", "trunk_version")
_ENCODER_ONLY = (
    *("width", "depth", "mlp_dim", "heads", "patch", "class_token", "mask_token", "pre_logits", "posemb", "posemb_at"),
    *("registers", "parallel"),
    *(
        "qk_norm",
        "qkv_bias",
        "norm",
        "norm_epsilon",
        "gelu",
        "layer_scale",
        "axial",
        "attention",
        "dropout",
        "attention_dropout",
    ),
    *("stochastic_depth", "patch_dropout"),
)
