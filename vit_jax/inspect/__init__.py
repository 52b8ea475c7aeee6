"""Parameters -> pictures: filters, position embeddings, attention; learning curves and sheets of pictures."""

from vit_jax.inspect.album import PAGE, SHOWN, Album, check_folder, pictures
from vit_jax.inspect.attention import (
    AttentionMaps,
    AttentionStatistics,
    attention_maps,
    attention_rollout,
    attention_statistics,
    uniform_distance,
)
from vit_jax.inspect.choices import KINDS, OF_IMAGES, absent, check_layers, spread, wanted
from vit_jax.inspect.contact_sheet import draw_contact_sheet
from vit_jax.inspect.curves import draw_learning_curve
from vit_jax.inspect.filters import Filters, pixel_filters, principal_components
from vit_jax.inspect.images import spread_images
from vit_jax.inspect.overlay import overlay_mask
from vit_jax.inspect.positions import cosine_similarity, position_embeddings
from vit_jax.inspect.settings import InspectSettings

__all__ = [
    "KINDS",
    "OF_IMAGES",
    "PAGE",
    "SHOWN",
    "Album",
    "AttentionMaps",
    "AttentionStatistics",
    "Filters",
    "InspectSettings",
    "absent",
    "attention_maps",
    "attention_rollout",
    "attention_statistics",
    "check_folder",
    "check_layers",
    "cosine_similarity",
    "draw_contact_sheet",
    "draw_learning_curve",
    "overlay_mask",
    "pictures",
    "pixel_filters",
    "position_embeddings",
    "principal_components",
    "spread",
    "spread_images",
    "uniform_distance",
    "wanted",
]
