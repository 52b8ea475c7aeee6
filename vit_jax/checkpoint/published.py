"""The weights that Google published, as a table: what exists, where, and what timm calls the same weights.

Since February 2026 Google's storage refuses anonymous reads of `gs://vit_models` (google-research/vision_transformer,
issue 321), so those locations need credentials or a copy of your own; timm's copies on the Hugging Face hub are open.
Sources: the listings in the notebooks and READMEs of vision_transformer and big_transfer, and the file names and tags
in timm 1.0.31. Only files that these name are in the table; `gs://vit_models/{augreg,gsam}` hold more.
"""

import dataclasses
import difflib
import functools

from vit_jax.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """One file of weights.

    Attributes:
      name: how we call it: folder and file without suffix, or `timm/<name>` for a copy on the Hugging Face hub.
      variant: the model, as in `ModelSettings`.
      location: what `fetch` can download.
      trained_on: data sets in order, joined by `+`.
      image_size: side of the square images in pixels; None for a BiT ResNet, which takes any.
      classes: outputs of the classifier; 0 for timm's `orig_in21k` copies, which lack it and the pre-logits.
      timm: timm's name of the same weights, if it has them.
    """

    name: str
    variant: str
    location: str
    trained_on: str
    image_size: int | None
    classes: int
    timm: str | None = None


I21K, I1K = "imagenet21k", "imagenet2012"
CLASSES = {I21K: 21_843, I1K: 1000}

AUGREG_FILES = 52_268
AUGREG_PATTERN = (
    "{R_Ti_16|R26_S_32|R50_L_32|Ti_16|S_16|S_32|B_8|B_16|B_32|L_16}-{i1k|i21k}-{300|30}ep-lr_{lr}"
    "-aug_{none|light0|light1|medium1|medium2|strong1|strong2}-wd_{0.03|0.1}-do_{0.0|0.1}-sd_{0.0|0.1}.npz"
)

# gs://vit_models: (folder, end of the file name, trained on, image size, {variant: timm's name}).
_VIT: tuple[tuple[str, str, str, int, dict[str, str | None]], ...] = (
    (
        "imagenet21k",
        "",
        I21K,
        224,
        {
            "B/8": None,
            "B/16": "vit_base_patch16_224.orig_in21k",
            "B/32": "vit_base_patch32_224.orig_in21k",
            "L/16": "vit_large_patch16_224.orig_in21k",
            "L/32": "vit_large_patch32_224.orig_in21k",
            "H/14": "vit_huge_patch14_224.orig_in21k",
            "R26+B/32": None,
            "R50+B/16": "vit_base_r50_s16_224.orig_in21k",
            "R50+L/32": None,
        },
    ),
    (
        "imagenet21k+imagenet2012",
        "",
        f"{I21K}+{I1K}",
        384,
        {
            "B/8": None,
            "B/16": "vit_base_patch16_384.orig_in21k_ft_in1k",
            "B/32": None,
            "L/16": None,
            "L/32": "vit_large_patch32_384.orig_in21k_ft_in1k",
            "R50+B/16": "vit_base_r50_s16_384.orig_in21k_ft_in1k",
        },
    ),
    (
        "imagenet21k+imagenet2012",
        "-224",
        f"{I21K}+{I1K}",
        224,
        {"B/16": "vit_base_patch16_224.orig_in21k_ft_in1k", "L/16": None},
    ),
    (
        "sam",
        "",
        I1K,
        224,
        {
            "S/16": None,
            "B/16": "vit_base_patch16_224.sam_in1k",
            "B/32": "vit_base_patch32_224.sam_in1k",
            "L/16": None,
            "L/32": None,
        },
    ),
)

# gs://vit_models/augreg: the files that timm chose among the many, by (variant, image size). All begin
# {file}-i21k-300ep-lr_0.001-aug_; the second part is the fine-tuning on ImageNet, None for the upstream model.
_AUGREG_NAMES = {
    "Ti/16": ("Ti_16", "vit_tiny_patch16"),
    "S/32": ("S_32", "vit_small_patch32"),
    "S/16": ("S_16", "vit_small_patch16"),
    "B/32": ("B_32", "vit_base_patch32"),
    "B/16": ("B_16", "vit_base_patch16"),
    "B/8": ("B_8", "vit_base_patch8"),
    "L/16": ("L_16", "vit_large_patch16"),
    "R+Ti/16": ("R_Ti_16", "vit_tiny_r_s16_p8"),
    "R26+S/32": ("R26_S_32", "vit_small_r26_s32"),
    "R50+L/32": ("R50_L_32", "vit_large_r50_s32"),
}
_AUGREG: tuple[tuple[str, int, str, str | None], ...] = (
    ("Ti/16", 224, "none-wd_0.03-do_0.0-sd_0.0", None),
    ("Ti/16", 224, "none-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("Ti/16", 384, "none-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("S/32", 224, "light1-wd_0.03-do_0.0-sd_0.0", None),
    ("S/32", 224, "light1-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("S/32", 384, "light1-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("S/16", 224, "light1-wd_0.03-do_0.0-sd_0.0", None),
    ("S/16", 224, "light1-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("S/16", 384, "light1-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("B/32", 224, "medium1-wd_0.03-do_0.0-sd_0.0", None),
    ("B/32", 224, "medium1-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("B/32", 384, "light1-wd_0.1-do_0.0-sd_0.0", "lr_0.03"),
    ("B/16", 224, "medium1-wd_0.1-do_0.0-sd_0.0", None),
    ("B/16", 224, "medium1-wd_0.1-do_0.0-sd_0.0", "lr_0.01"),
    ("B/16", 384, "medium1-wd_0.1-do_0.0-sd_0.0", "lr_0.01"),
    ("B/8", 224, "medium1-wd_0.1-do_0.0-sd_0.0", None),
    ("B/8", 224, "medium1-wd_0.1-do_0.0-sd_0.0", "lr_0.01"),
    ("L/16", 224, "medium1-wd_0.1-do_0.1-sd_0.1", None),
    ("L/16", 224, "medium1-wd_0.1-do_0.1-sd_0.1", "lr_0.01"),
    ("L/16", 384, "medium1-wd_0.1-do_0.1-sd_0.1", "lr_0.01"),
    ("R+Ti/16", 224, "none-wd_0.03-do_0.0-sd_0.0", None),
    ("R+Ti/16", 224, "none-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("R+Ti/16", 384, "none-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("R26+S/32", 224, "medium2-wd_0.03-do_0.0-sd_0.0", None),
    ("R26+S/32", 224, "light0-wd_0.03-do_0.1-sd_0.1", "lr_0.03"),
    ("R26+S/32", 384, "medium2-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    ("R50+L/32", 224, "medium2-wd_0.1-do_0.0-sd_0.0", None),
    ("R50+L/32", 224, "medium1-wd_0.1-do_0.1-sd_0.1", "lr_0.01"),
    ("R50+L/32", 384, "medium2-wd_0.1-do_0.0-sd_0.0", "lr_0.01"),
)

_BIT_VARIANTS = ("R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4")
# gs://bit_models: {file name: (trained on, tag of timm's copy)}.
_BIT = {
    "BiT-S-{}": (I1K, None),
    "BiT-M-{}": (I21K, "goog_in21k"),
    "BiT-M-{}-ILSVRC2012": (f"{I21K}+{I1K}", "goog_in21k_ft_in1k"),
}
_DISTILLED: tuple[tuple[str, str, str, int, str | None], ...] = (
    ("R50x1_224", "R50x1", I1K, 224, "goog_distilled_in1k"),
    ("R50x1_160", "R50x1", I1K, 160, None),
    ("R152x2_T_224", "R152x2", f"{I21K}+{I1K}", 224, "goog_teacher_in21k_ft_in1k"),
    ("R152x2_T_384", "R152x2", f"{I21K}+{I1K}", 384, "goog_teacher_in21k_ft_in1k_384"),
)

# Folders with files that the table does not name, and what is known of their names.
_MORE = {
    "augreg": f"it holds {AUGREG_FILES:,} files named {AUGREG_PATTERN}, listed in gs://vit_models/augreg/index.csv",
    "gsam": "its files are not in the table",
}


def published(variant: str) -> list[PublishedFile]:
    """The files of a model, for example of `B/16`; none for a model that was never released."""
    return [file for file in _table() if file.variant == variant]


def find_published(name: str) -> PublishedFile | None:
    """The file of a short name such as `imagenet21k/ViT-B_16`, `BiT-M-R50x1` or `timm/vit_base_patch16_224.sam_in1k`.

    Args:
      name: with or without `.npz`. Try a path first: this looks at the table only.

    Returns:
      None for what does not look like a published name at all.

    Raises:
      UserError: a name of a published folder that the table lacks, or one that is nearly in it.
    """
    short = name.removesuffix(".npz")
    known = {file.name: file for file in _table()} | {file.name: file for file in _copies()}
    if short in known:
        return known[short]
    folder = short.partition("/")[0]
    if folder in _MORE:
        fix = f"give the whole location, gs://vit_models/{folder}/<file>.npz"
        raise UserError(f"{name!r} is not in the table of published files; {_MORE[folder]}; {fix}")
    siblings = [other for other in known if other.partition("/")[0] == folder != short] or list(known)
    if len(siblings) < len(known) or difflib.get_close_matches(short, known, n=1, cutoff=0.75):
        raise UserError(f"{name!r} is no published file; {did_you_mean(short, siblings)}")
    return None


@functools.cache
def _table() -> tuple[PublishedFile, ...]:
    return (*_vit_files(), *_augreg_files(), *_bit_files())


def _copies() -> list[PublishedFile]:
    """timm's copies as files of their own."""
    copies = []
    for file in _table():
        if file.timm:
            name, classes = f"timm/{file.timm}", 0 if file.timm.endswith(".orig_in21k") else file.classes
            copies.append(dataclasses.replace(file, name=name, location=f"hf://{name}", classes=classes))
    return copies


def _vit_files() -> list[PublishedFile]:
    files = []
    for folder, end, data, size, variants in _VIT:
        for variant, timm in variants.items():
            trunk, plus, encoder = variant.rpartition("+")
            name = f"{folder}/{trunk}{plus}ViT-{encoder.replace('/', '_')}{end}"
            files.append(_file(name, variant, "vit_models", data, size, timm))
    return files


def _augreg_files() -> list[PublishedFile]:
    files = []
    for variant, size, recipe, tuned in _AUGREG:
        file, timm = _AUGREG_NAMES[variant]
        name = f"augreg/{file}-i21k-300ep-lr_0.001-aug_{recipe}"
        data, tag = I21K, "augreg_in21k"
        if tuned:
            name, data, tag = f"{name}--{I1K}-steps_20k-{tuned}-res_{size}", f"{I21K}+{I1K}", f"{tag}_ft_in1k"
        files.append(_file(name, variant, "vit_models", data, size, f"{timm}_{size}.{tag}"))
    return files


def _bit_files() -> list[PublishedFile]:
    files = []
    for variant in _BIT_VARIANTS:
        for pattern, (data, tag) in _BIT.items():
            files.append(_file(pattern.format(variant), variant, "bit_models", data, None, _bit_timm(variant, tag)))
    for name, variant, data, size, tag in _DISTILLED:
        files.append(_file(f"distill/{name}", variant, "bit_models", data, size, _bit_timm(variant, tag)))
    return files


def _bit_timm(variant: str, tag: str | None) -> str | None:
    return tag and f"resnetv2_{variant.removeprefix('R')}_bit.{tag}"


def _file(name: str, variant: str, bucket: str, data: str, size: int | None, timm: str | None) -> PublishedFile:
    classes = CLASSES[data.rpartition("+")[2]]
    return PublishedFile(name, variant, f"gs://{bucket}/{name}.npz", data, size, classes, timm)
