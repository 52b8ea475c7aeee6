"""The scaling study that the ViT paper published, as data: reference points for other studies.

Source: arXiv 2010.11929v2, table 6 (detailed results of figure 5) and table 2 (compute). All runs are pre-trained on
JFT-300M at 224 pixels and fine-tuned at 384; accuracies are top-1 in percent. Version 1 of the paper had other
exaFLOPs. The compute of R50+L/16 after 7 epochs contradicts that after 14 (859 is not half of 1668): one is a misprint.
"""

import dataclasses
from collections.abc import Mapping

from vit_jax.models import parse_variant

# Names of `vit_jax.data.catalog`, in the order of the table's columns.
EVALUATIONS = (
    "imagenet2012",
    "imagenet2012_real",
    "cifar10",
    "cifar100",
    "oxford_iiit_pet",
    "oxford_flowers102",
)
# What figure 5 (left) averages: all but ReaL. Table 7 confirms it, whose last row is the mean of these five.
AVERAGE_OF_5 = tuple(name for name in EVALUATIONS if name != "imagenet2012_real")


@dataclasses.dataclass(frozen=True)
class PublishedRun:
    """A row of table 6.

    Attributes:
      model: as `vit_jax.models` names it.
      epochs: of JFT-300M, 302,982,257 images.
      accuracies: in percent, by evaluation.
      exaflops: as printed.
      core_days: TPUv3-core-days of pre-training, from table 2; None where it has no such row.
    """

    model: str
    epochs: int
    accuracies: Mapping[str, float]
    exaflops: float
    core_days: float | None = None

    @property
    def family(self) -> str:
        """`ViT`, `hybrid` or `ResNet`."""
        return parse_variant(self.model).family


# model, epochs, the columns of EVALUATIONS, exaFLOPs
_ROWS = (
    ("B/32", 7, (80.73, 86.27, 98.61, 90.49, 93.40, 99.27), 55),
    ("B/16", 7, (84.15, 88.85, 99.00, 91.87, 95.80, 99.56), 224),
    ("L/32", 7, (84.37, 88.28, 99.19, 92.52, 95.83, 99.45), 196),
    ("L/16", 7, (86.30, 89.43, 99.38, 93.46, 96.81, 99.66), 783),
    ("L/16", 14, (87.12, 89.99, 99.38, 94.04, 97.11, 99.56), 1567),
    ("H/14", 14, (88.08, 90.36, 99.50, 94.71, 97.11, 99.71), 4262),
    ("R50x1", 7, (77.54, 84.56, 97.67, 86.07, 91.11, 94.26), 50),
    ("R50x2", 7, (82.12, 87.94, 98.29, 89.20, 93.43, 97.02), 199),
    ("R101x1", 7, (80.67, 87.07, 98.48, 89.17, 94.08, 95.95), 96),
    ("R152x1", 7, (81.88, 87.96, 98.82, 90.22, 94.17, 96.94), 141),
    ("R152x2", 7, (84.97, 89.69, 99.06, 92.05, 95.37, 98.62), 563),
    ("R152x2", 14, (85.56, 89.89, 99.24, 91.92, 95.75, 98.75), 1126),
    ("R200x3", 14, (87.22, 90.15, 99.34, 93.53, 96.32, 99.04), 3306),
    ("R50+B/32", 7, (84.90, 89.15, 99.01, 92.24, 95.75, 99.46), 106),
    ("R50+B/16", 7, (85.58, 89.65, 99.14, 92.63, 96.65, 99.40), 274),
    ("R50+L/32", 7, (85.68, 89.04, 99.24, 92.93, 96.97, 99.43), 246),
    ("R50+L/16", 7, (86.60, 89.72, 99.18, 93.64, 97.03, 99.40), 859),
    ("R50+L/16", 14, (87.12, 89.76, 99.31, 93.89, 97.36, 99.11), 1668),
)

# TPUv3-core-days of pre-training (cores x days; a chip has two cores), as table 2 prints them.
CORE_DAYS = {
    "H/14, JFT-300M": 2500.0,
    "L/16, JFT-300M": 680.0,
    "L/16, ImageNet-21k": 230.0,
    "BiT-L (R152x4), JFT-300M": 9900.0,
    "Noisy Student (EfficientNet-L2)": 12300.0,
}
# Its two JFT rows are the 14-epoch runs of table 6.
_CORE_DAYS_OF_RUN = {("H/14", 14): CORE_DAYS["H/14, JFT-300M"], ("L/16", 14): CORE_DAYS["L/16, JFT-300M"]}

TABLE_6 = tuple(
    PublishedRun(
        model,
        epochs,
        dict(zip(EVALUATIONS, accuracies, strict=True)),
        float(exaflops),
        _CORE_DAYS_OF_RUN.get((model, epochs)),
    )
    for model, epochs, accuracies, exaflops in _ROWS
)
