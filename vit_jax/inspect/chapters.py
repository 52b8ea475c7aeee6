"""What the page says and shows of each kind: text, pictures, and the numbers behind them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_jax.inspect.attention import AttentionMaps, AttentionStatistics, uniform_distance
from vit_jax.inspect.draw_attention import draw_by_depth, draw_heads, draw_rollout
from vit_jax.inspect.draw_filters import draw_filters
from vit_jax.inspect.draw_positions import draw_grid_similarity, draw_offset_similarity, shown_places
from vit_jax.inspect.drawing import to_png
from vit_jax.inspect.filters import pixel_filters
from vit_jax.inspect.positions import cosine_similarity, position_embeddings
from vit_jax.models import Model, Params
from vit_jax.pages import Picture, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD_IMAGES = 4  # at most so many images have all their heads drawn


@dataclasses.dataclass(frozen=True)
class Chapter:
    """One section of the page.

    Attributes:
      title: its headline.
      text: paragraphs before the pictures.
      pictures: {file name: picture}.
      numbers: what the pictures show, as plain values.
      tables: after the pictures.
    """

    title: str
    text: Sequence[str]
    pictures: Mapping[str, Picture]
    numbers: Mapping[str, Any]
    tables: Sequence[Table] = ()

    @property
    def section(self) -> Section:
        """As the page shows it."""
        return Section(self.title, (*self.text, *self.pictures.values(), *self.tables))


@dataclasses.dataclass(frozen=True)
class Shown:
    """Images whose attention is drawn.

    Attributes:
      images: uint8 (n, h, w, c).
      names: of them.
      maps: of them.
    """

    images: np.ndarray
    names: Sequence[str]
    maps: AttentionMaps


def filters_chapter(model: Model, params: Params) -> Chapter:
    """Principal components of the patch embedding, or the filters of the root."""
    found, variant = pixel_filters(model, params), model.settings.variant
    height, width = found.pictures.shape[1:3]
    each = "Each is rescaled to [0, 1] by itself, so that colours of different filters do not compare."
    numbers: dict[str, Any] = {"filters": found.number, "size": [height, width]}
    if found.explained is None:
        title = f"{variant}: the {found.number} filters of the root"
        text = [f"The {found.number} filters of {height} x {width} pixels of the root convolution. {each}"]
        if model.settings.resolved.encoder:
            patch = model.settings.resolved.patch
            text.append(
                f"The patch embedding of this hybrid is {patch} x {patch} on the trunk's features: it sees no pixels, "
                "and has no picture."
            )
    else:
        numbers["explained_variance"] = plain(found.explained)
        title = f"{variant}: principal components of the patch embedding"
        text = [
            f"What the patch embedding looks for: the first {len(found.pictures)} principal components of its "
            f"{found.number} filters of {height} x {width} pixels (paper, figure 7 left). {each} The sign of a "
            f"component means nothing. Together they explain {found.explained.sum():.1%} of the variance. "
            "In trained models they look like a basis for the fine structure within a patch; noise means that little "
            "was learned, or that there was little to learn from."
        ]
    picture = Picture(to_png(draw_filters(found, title)), title)
    return Chapter("Filters", text, {"filters.png": picture}, numbers)


_POSITIONS = {
    "learned_1d": "There is one learned embedding for each patch; that of the class token is left out.",
    "learned_2d": "A patch's embedding is that of its column beside that of its row, each learned.",
    "sincos_2d": "These embeddings are fixed sines and cosines of column and row: nothing of this was learned.",
    "relative": (
        "There is one embedding for each offset between query and key, counted in tokens in raster order with class "
        "token and registers. A stripe parallel to the diagonal, one row of patches away from it, means that the model "
        "knows patches above each other."
    ),
}


def positions_chapter(model: Model, params: Params, layers: Sequence[int]) -> Chapter:
    """Similarity of position embeddings, of each of the layers where they have their own."""
    kind, at = model.settings.posemb, model.settings.posemb_at
    own = at == "every_layer" and "positions" in params
    text = [
        "How alike the position embeddings of two places are: their cosine similarity, 1 for a place with itself "
        f"(paper, figures 7 centre and 10). {_POSITIONS[kind]}"
    ]
    if kind != "relative":
        rows, columns = (shown_places(side) for side in model.grid)
        text.append(
            f"Each of the {len(rows)} x {len(columns)} tiles belongs to one patch of the {model.grid[0]} x "
            f"{model.grid[1]} grid and shows its similarity with all patches. In trained models near patches are "
            "alike, and so are those of one row or column."
        )
    if own:
        text.append("Each layer has its own embeddings; those of some layers are shown.")
    pictures, numbers = {}, {}
    for layer in layers if own else [0]:
        place = f"layer {layer + 1}" if own else {"stem": "stem", "shared": "all layers"}.get(at, "every layer")
        title = f"{model.settings.variant}: similarity of position embeddings ({kind}, {place})"
        figure, numbers[place] = _draw_positions(cosine_similarity(position_embeddings(model, params, layer)), title)
        name = f"positions_layer_{layer + 1}.png" if own else "positions.png"
        pictures[name] = Picture(to_png(figure), title)
    return Chapter("Position embeddings", text, pictures, {"kind": kind, "at": at, "similarity": numbers})


def _draw_positions(similarity: np.ndarray, title: str) -> "tuple[Figure, dict[str, Any]]":
    """The picture, and the numbers of its tiles, or of its line."""
    if similarity.ndim == 2:
        most = len(similarity) // 2
        numbers = {"offsets": [-most, most], "with_offset_0": plain(similarity[most])}
        return draw_offset_similarity(similarity, title), numbers
    rows, columns = (shown_places(side) for side in similarity.shape[:2])
    tiles = {"rows": rows.tolist(), "columns": columns.tolist(), "tiles": plain(similarity[np.ix_(rows, columns)], 4)}
    return draw_grid_similarity(similarity, title), tiles


def distance_chapter(model: Model, found: AttentionStatistics) -> Chapter:
    """Mean attention distance and entropy of every head by depth."""
    patches, variant = model.grid[0] * model.grid[1], model.settings.variant
    uniform, most = uniform_distance(model.grid, model.stride), float(np.log2(patches))
    text = [
        "How far a head looks: the distance between a patch and the patches it attends to, weighted by attention and "
        "averaged over patches and images (paper, figures 7 right and 11). It is the analogue of the size of a "
        "receptive field. In the paper's models some heads look far already in the lowest layers, and all do near the "
        "top; hybrids have fewer local heads.",
        f"Measured on {found.images:,} images of {model.image_size[0]} x {model.image_size[1]} pixels, where "
        f"neighbouring patches are {model.stride} pixels apart. Class token and registers are left out, as queries and "
        "as keys, and the remaining weights of each patch are scaled to add up to 1.",
        f"The entropy of the same weights says how many patches share the attention: 0 bits is a single one, "
        f"{most:.2f} bits are all {patches:,} alike.",
    ]
    drawings = {
        "attention_distance": (found.distance, uniform, "mean attention distance", "pixels"),
        "attention_entropy": (found.entropy, most, "entropy of attention", "bits"),
    }
    pictures = {}
    for name, (values, level, what, unit) in drawings.items():
        title = f"{variant}: {what} of each head, {found.images:,} images"
        pictures[f"{name}.png"] = Picture(to_png(draw_by_depth(values, level, title, f"{what} ({unit})")), title)
    rows = [
        (str(i + 1), *(f"{v:.2f}" for v in (d.min(), d.mean(), d.max(), e.mean())), f"{s.mean():.1%}")
        for i, (d, e, s) in enumerate(zip(found.distance, found.entropy, found.patch_share, strict=True))
    ]
    header = ("layer", "nearest head (px)", "mean (px)", "farthest head (px)", "entropy (bits)", "on patches")
    numbers = {
        "images": found.images,
        "pixels": plain(found.distance),
        "entropy_bits": plain(found.entropy),
        "share_on_patches": plain(found.patch_share),
        "uniform": {"pixels": uniform, "entropy_bits": most},
    }
    caption = "Over the heads of each layer; the last column is the attention of patches to patches before scaling."
    return Chapter("Attention distance", text, pictures, numbers, [Table(header, rows, caption)])


def _reader(model: Model) -> str:
    """Whose attention the maps show."""
    if model.settings.pooling == "token":
        return "the class token"
    if model.settings.pooling == "first":
        return "the first patch, which the classifier reads"
    return "all patches on average, for there is no class token"


def rollout_chapter(model: Model, shown: Shown) -> Chapter:
    """Attention rollout over the images."""
    title = f"{model.settings.variant}: attention rollout"
    text = [
        "Which parts of the image reach the output: attention rollout (paper, figures 6 and 14; Abnar and Zuidema, "
        "arXiv 2005.00928). The weights are averaged over heads, the identity is added for the residual connection, "
        "rows are scaled to add up to 1, and all layers are multiplied. "
        f"Shown is what reaches {_reader(model)}; what falls on other tokens than patches is left out.",
        "As in the paper, the map is blurred by one patch, stretched to [0, 1] and laid over the image as a mask: "
        "black is the least attention of that image, not none.",
    ]
    figure = draw_rollout(shown.images, shown.maps.rollout, model.stride, shown.names, title)
    rollout = {"names": list(shown.names), "weights": plain(shown.maps.rollout)}
    return Chapter("Attention rollout", text, {"rollout.png": Picture(to_png(figure), title)}, rollout)


def heads_chapter(model: Model, shown: Shown, layers: Sequence[int]) -> Chapter:
    """What single heads attend to in a few images."""
    count = min(len(shown.images), HEAD_IMAGES)
    text = [
        f"What single heads attend to: the attention weights of {_reader(model)}, in "
        f"{'layers' if len(layers) > 1 else 'layer'} {', '.join(str(layer + 1) for layer in layers)}. Each map goes "
        "from 0, dark, to its own largest weight, bright: one that is bright everywhere is uniform."
    ]
    if count < len(shown.images):
        text.append(f"Drawn for the first {count} of the {len(shown.images)} images above.")
    pictures, numbers = {}, {}
    for i in range(count):
        heads = shown.maps.heads[i, list(layers)]
        title = f"{model.settings.variant}: attention of each head, '{shown.names[i]}'"
        figure = draw_heads(shown.images[i], heads, layers, model.stride, title)
        pictures[f"heads_{i + 1}.png"] = Picture(to_png(figure), title)
        numbers[f"heads_{i + 1}.png"] = {"name": shown.names[i], "weights": plain(heads)}
    layers_from_1 = [layer + 1 for layer in layers]
    return Chapter("Attention of single heads", text, pictures, {"layers": layers_from_1, "images": numbers})


def plain(values: np.ndarray, digits: int = 6) -> Any:
    """Nested lists of numbers with so many significant digits, ready for JSON; what is not finite is None."""
    if values.ndim:
        return [plain(part, digits) for part in values]
    return float(f"{values:.{digits}g}") if np.isfinite(values) else None
