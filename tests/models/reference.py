"""A Vision Transformer with all its options in float64 NumPy: one image, one head and one pair of tokens at a time.

Written from the papers, for small models only; shares nothing with the package but parameter names.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.models import Model, ModelSettings

Tree = dict[str, Any]

PATCH, HEIGHT, WIDTH, CHANNELS, CLASSES = 4, 8, 12, 3, 7
GRID = (HEIGHT // PATCH, WIDTH // PATCH)
PATCHES = GRID[0] * GRID[1]
SHAPE = {"width": 16, "mlp_dim": 24, "depth": 2, "heads": 4}
EMBED, HEADS, LAYERS, HEAD_DIM = 16, 4, 2, 4


def small(variant: str = "mu/4", **options: Any) -> Model:
    """Two layers of 4 heads and width 16 on images of 8 x 12 pixels: 2 x 3 patches.

    Unrolled and without remat, unless told: called without `jit`, nothing is compiled but single operations, which
    all models of this size share. That scan and remat change nothing is for `test_encoder.py`.
    """
    unrolled = {"scan": False, "remat": "none"}
    return Model(ModelSettings(variant, **{**SHAPE, **unrolled, **options}), (HEIGHT, WIDTH), CHANNELS, CLASSES)


def random_params(model: Model, seed: int = 0) -> Tree:
    """Every parameter away from zero and from its initial value, so that each one matters."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(0.1, 0.3, leaf.shape), leaf.dtype), model.abstract_params
    )


def zero_params(model: Model) -> Tree:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model.abstract_params)


def random_images(model: Model, batch: int = 3) -> jax.Array:
    """(b, h, w, c) float32 in [-1, 1]."""
    size = (batch, *model.image_size, model.channels)
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, size), jnp.float32)


def in_float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def norm(x: np.ndarray, p: Tree, kind: str = "layer") -> np.ndarray:
    if kind == "rms":
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"]
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def dense(x: np.ndarray, p: Tree) -> np.ndarray:
    return x @ p["kernel"] + p["bias"]


def gelu(x: np.ndarray, form: str = "tanh") -> np.ndarray:
    if form == "erf":
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def mlp(x: np.ndarray, p: Tree, form: str = "tanh") -> np.ndarray:
    return dense(gelu(dense(x, p["dense1"]), form), p["dense2"])


def relative_bias(query: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n, e) queries of one head, (2n - 1, e) embeddings of the offsets 1 - n ... n - 1 -> (n, n)."""
    n, e = query.shape
    by_offset = dict(zip(range(1 - n, n), offsets, strict=True))
    return np.array([[query[i] @ by_offset[i - j] / np.sqrt(e) for j in range(n)] for i in range(n)])


def attention(
    x: np.ndarray,
    p: Tree,
    *,
    kind: str = "layer",
    probe: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) -> (q, d) and the weights (k, q, n), with or without norms and biases of queries and keys."""
    heads, e = p["query"]["kernel"].shape[1:]
    result, found = p["out"]["bias"], []
    for head in range(heads):
        q, k, v = (
            source @ p[name]["kernel"][:, head] + (p[name]["bias"][head] if "bias" in p[name] else 0.0)
            for name, source in (("query", x if probe is None else probe), ("key", x), ("value", x))
        )
        if "query_norm" in p:
            q, k = norm(q, p["query_norm"], kind), norm(k, p["key_norm"], kind)
        logits = q @ k.T / np.sqrt(e)
        if offsets is not None:
            logits = logits + relative_bias(q, offsets)
        found.append(softmax(logits))
        result = result + found[-1] @ v @ p["out"]["kernel"][head]
    return result, np.array(found)


def block(
    x: np.ndarray, p: Tree, settings: ModelSettings, offsets: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One encoder block on one sequence (n, d); also its attention weights."""
    shape = settings.resolved.encoder
    scale1, scale2 = p.get("scale1", 1.0), p.get("scale2", 1.0)
    y = norm(x, p["norm1"], shape.norm)
    attended, found = attention(y, p["attn"], kind=shape.norm, offsets=offsets)
    if shape.parallel:
        return x + scale1 * attended + scale2 * mlp(y, p["mlp"], settings.gelu), found
    x = x + scale1 * attended
    return x + scale2 * mlp(norm(x, p["norm2"], shape.norm), p["mlp"], settings.gelu), found


def axial_block(x: np.ndarray, p: Tree, settings: ModelSettings, grid: tuple[int, int]) -> np.ndarray:
    """A plain block on every row by itself, then one on every column by itself."""
    x, (rows, columns) = x.copy(), grid
    for row in range(rows):
        here = [row * columns + column for column in range(columns)]
        x[here] = block(x[here], p["row"], settings)[0]
    for column in range(columns):
        here = [row * columns + column for row in range(rows)]
        x[here] = block(x[here], p["column"], settings)[0]
    return x


def embed(image: np.ndarray, p: Tree) -> np.ndarray:
    """(h, w, c) -> (patches, d) in raster order; what does not fill a patch is left out."""
    side, _, _, width = p["kernel"].shape
    kernel = p["kernel"].reshape(-1, width)
    corners = [
        (top, left)
        for top in range(0, image.shape[0] - side + 1, side)
        for left in range(0, image.shape[1] - side + 1, side)
    ]
    cut = [image[top : top + side, left : left + side].ravel() for top, left in corners]
    return np.stack(cut) @ kernel + p["bias"]


def sincos(row: int, column: int, width: int) -> np.ndarray:
    """sin and cos of the column, then of the row, at width/4 frequencies from 1 to 1/10,000."""
    count = width // 4
    angles = [10_000.0 ** (-i / (count - 1)) for i in range(count)]
    parts = [f(position * angle) for position in (column, row) for f in (math.sin, math.cos) for angle in angles]
    return np.array(parts)


def positions(tables: Tree, settings: ModelSettings, grid: tuple[int, int], width: int) -> np.ndarray:
    """(n, d): what one place adds to [class token, registers, patches]."""
    cls = int(settings.pooling == "token")
    cells = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    if settings.posemb == "learned_1d":
        table = tables["pos_embedding"][0]
        front, patches = list(table[:cls]), list(table[cls:])
    elif settings.posemb == "learned_2d":
        x, y = tables["pos_embedding_x"], tables["pos_embedding_y"]
        front, patches = [np.zeros(width)] * cls, [np.concatenate([x[c], y[r]]) for r, c in cells]
    elif settings.posemb == "sincos_2d":
        front, patches = [np.zeros(width)] * cls, [sincos(r, c, width) for r, c in cells]
    else:
        front, patches = [np.zeros(width)] * cls, [np.zeros(width)] * len(cells)
    return np.stack(front + [np.zeros(width)] * settings.registers + patches)


def pooled(x: np.ndarray, p: Tree, settings: ModelSettings) -> np.ndarray:
    """(n, d) -> (d,), or (patches, d) for `none`."""
    patches = x[settings.registers + (settings.pooling == "token") :]
    match settings.pooling:
        case "token":
            return x[0]
        case "gap":
            return patches.mean(axis=0)
        case "first":
            return patches[0]
        case "none":
            return patches
    head, kind = p["map_head"], settings.resolved.encoder.norm
    y = attention(patches, head["attn"], kind=kind, probe=head["probe"][0])[0]
    return (y + mlp(norm(y, head["norm"], kind), head["mlp"], settings.gelu))[0]


def forward(params: Tree, image: np.ndarray, settings: ModelSettings) -> dict[str, Any]:
    """Features of one image (h, w, c); `trunk` of a hybrid is not for this function."""
    params, side = in_float64(params), settings.resolved.patch
    grid = (image.shape[0] // side, image.shape[1] // side)
    x = embed(np.asarray(image, np.float64), params["embedding"])
    front = [params[name][0] for name in ("cls", "registers") if name in params]
    x = np.concatenate([*front, x])
    width, layers = x.shape[1], len(jax.tree.leaves(params["blocks"])[0])
    if settings.posemb_at == "stem":
        x = x + positions(params, settings, grid, width)
    features: dict[str, Any] = {"blocks": [], "attention": []}
    for layer in range(layers):
        mine = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["blocks"])
        own = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params.get("positions", {}))
        tables = own or params
        if settings.posemb_at != "stem":
            x = x + positions(tables, settings, grid, width)
        if settings.axial:
            x = axial_block(x, mine, settings, grid)
        else:
            used = settings.posemb == "relative" and (settings.posemb_at != "stem" or layer == 0)
            x, found = block(x, mine, settings, tables["relative_embedding"] if used else None)
            features["attention"].append(found)
        features["blocks"].append(x)
    features["tokens"] = x = norm(x, params["norm"], settings.resolved.encoder.norm)
    x = pooled(x, params, settings)
    if settings.pre_logits:
        x = np.tanh(dense(x, params["pre_logits"]))
    features["pre_logits"] = x
    features["logits"] = dense(x, params["head"])
    return features


def forward_batch(params: Tree, images: np.ndarray, settings: ModelSettings) -> dict[str, Any]:
    """`forward` of every image, stacked along a leading batch axis."""
    each = [forward(params, image, settings) for image in images]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *each)
