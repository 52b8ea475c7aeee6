"""The data sets of the ViT paper and its relatives in one table: names, splits, labels, sizes, crops, fine-tuning.

Sources: [P] the paper, arXiv 2010.11929, section 4.1, appendix B.1.1 and table 4; [V] the Visual Task Adaptation
Benchmark, arXiv 1910.04867, and its public loaders; [B] Big Transfer, arXiv 1912.11370, sections 3.3, F and G.
"""

import dataclasses
import re
from typing import Any, Literal

from vit_jax.errors import BadSetting, did_you_mean


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large pictures are, in pixels.

    Attributes:
      image: side of the square that the model sees.
      resize: side of the square from which a training crop is taken; 0 for an inception crop of the whole picture.
      small: (image, resize) for data sets whose pictures have an area below 96x96; None if they are treated alike.
    """

    image: int
    resize: int
    small: tuple[int, int] | None = None


# Fine-tuning: the paper resizes, crops and flips like [B], at 384 for every data set; [B] has two sizes, and larger
# ones for R152x4. `pretrain` is the inception crop of the paper's pre-training at 224.
CROPS = {
    "pretrain": Sizes(224, 0),
    "vit": Sizes(384, 448),
    "bit": Sizes(384, 448, small=(128, 160)),
    "bit_large": Sizes(480, 512, small=(128, 160)),
}


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How a model is fine-tuned for a data set [P, table 4]; warm-ups are those of the paper's public code.

    Attributes:
      steps: of SGD with batch 512.
      warmup: steps of them.
      learning_rates: to choose from on the dev split.
    """

    steps: int
    warmup: int
    learning_rates: tuple[float, ...]


_SMALL_GRID = (0.001, 0.003, 0.01, 0.03)
_IMAGENET_TUNING = FineTuning(20_000, 500, (0.003, 0.01, 0.03, 0.06))
_CIFAR_TUNING = FineTuning(10_000, 500, _SMALL_GRID)
_PETS_TUNING = FineTuning(500, 100, _SMALL_GRID)
_VTAB_TUNING = FineTuning(2_500, 250, (0.01,))  # no source gives the warm-up: a tenth
_DIGITS_TUNING = FineTuning(200, 20, (0.003, 0.01, 0.03))  # ours


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set with the protocol that papers report it by.

    Attributes:
      name: as `get` takes it.
      title: as the paper's tables call it.
      data: `config.data.name`: a TFDS name with its major version, or one that `vit_jax prepare` makes; empty where
        only the user knows.
      classes: that the labels count.
      examples: training images of the final run; 0 where it cannot be known or nothing is trained.
      train: split of the final run; empty for sets that are only evaluated.
      test: split that is reported.
      dev_train, dev: splits to choose hyperparameters with.
      label_key: feature that holds the label; None where `labels` computes it from others.
      labels: label operations at the start of both pre-processing strings.
      small: the pictures have an area below 96x96.
      flip, crop: whether mirroring and random crops keep the label true [B, section F].
      metric: `accuracy`, or `any_of`: right when the prediction is any of the labels; pictures without labels are left
        out of the count.
      tuning: how models are fine-tuned for it; None for sets that models are pre-trained on or only tested on.
      group: of VTAB: natural, specialized or structured.
      crops: sizes and crops, one of `CROPS`, unless a run says otherwise.
      central: evaluation crops the centre instead of squeezing the picture into a square, for fine-tuned models too.
      manual: what has to be fetched by hand before `vit_jax prepare`; empty where preparing downloads all of it.
      note: what else to know.
    """

    name: str
    title: str
    data: str
    classes: int
    train: str
    test: str
    examples: int = 0
    dev_train: str = ""
    dev: str = ""
    label_key: str | None = "label"
    labels: str = ""
    small: bool = False
    flip: bool = True
    crop: bool = True
    metric: Literal["accuracy", "any_of"] = "accuracy"
    tuning: FineTuning | None = None
    group: str = ""
    crops: str = "vit"
    central: bool = False
    manual: str = ""
    note: str = ""

    @property
    def prepare(self) -> str:
        """The command that puts the data set on the disk; empty where there is none."""
        if not self.data:
            return ""
        name = re.sub(r":\d+\.\*\.\*$", "", self.data)  # TFDS makes the newest version unless told which
        return f"vit_jax prepare {name}" + (" --manual_dir=DIR" if self.manual else "")


_ILSVRC_VAL = "ILSVRC2012_img_val.tar from image-net.org"


def _main_tasks() -> list[Task]:
    """The sets of the paper's tables 2 and 5, and what ImageNet models are tested on. Dev splits: [P] B.1.1."""
    return [
        Task(
            "imagenet2012",
            "ImageNet",
            "imagenet2012:5.*.*",
            1000,
            train="train",
            test="validation",
            dev_train="train[:99%]",
            dev="train[99%:]",
            examples=1_281_167,
            tuning=_IMAGENET_TUNING,
            manual=f"ILSVRC2012_img_train.tar and {_ILSVRC_VAL}",
        ),
        Task(
            "imagenet21k",
            "ImageNet-21k",
            "imagenet21k",
            21_841,
            train="train[51200:]",
            test="train[:25600]",
            dev_train="train[51200:]",
            dev="train[25600:51200]",
            examples=14_197_122 - 51_200,
            crops="pretrain",
            manual="one tar a synset (n01440764.tar, ...), unpacked from fall11_whole.tar or winter21_whole.tar.gz",
            note="21,841 classes in the release of fall 2011, 19,167 in that of winter 2021; released ViT files have "
            "21,843, for which imagenet21k_wordnet_ids.txt must lie beside the tars. The held-out sizes are those of "
            "big_vision's public config; its shuffle is not public, so other pictures are held out.",
        ),
        Task(
            "jft",
            "JFT-300M or a set like it",
            "",
            18_291,
            train="train",
            test="validation",
            dev_train="train",
            dev="validation",
            examples=302_982_257,
            label_key="labels",
            crops="pretrain",
            note="not public: set config.data.name to a TFDS data set of your own whose feature `labels` is a "
            "Sequence(ClassLabel); config.data.subset takes nested parts (9M, 30M and 90M in the paper's figure 4)",
        ),
        *[
            Task(
                name,
                title,
                f"{name}:3.*.*",
                classes,
                train="train",
                test="test",
                dev_train="train[:98%]",
                dev="train[98%:]",
                examples=50_000,
                tuning=_CIFAR_TUNING,
                small=True,
            )
            for name, title, classes in (("cifar10", "CIFAR-10", 10), ("cifar100", "CIFAR-100", 100))
        ],
        *[
            Task(
                name,
                title,
                f"{name}:{version}.*.*",
                classes,
                train="train",
                test="test",
                dev_train="train[:90%]",
                dev="train[90%:]",
                examples=examples,
                tuning=_PETS_TUNING,
                note=note,
            )
            for name, title, version, classes, examples, note in (
                ("oxford_iiit_pet", "Oxford-IIIT Pets", 4, 37, 3_680, ""),
                ("oxford_flowers102", "Oxford Flowers-102", 2, 102, 1_020, "the validation split is not trained on"),
            )
        ],
        Task(
            "imagenet2012_real",
            "ImageNet-ReaL",
            "imagenet2012_real:1.*.*",
            1000,
            train="",
            test="validation",
            label_key="real_label",
            metric="any_of",
            manual=_ILSVRC_VAL,
            note="3,163 of the 50,000 pictures have no label and are not counted",
        ),
        Task("imagenet_v2", "ImageNet-v2", "imagenet_v2/matched-frequency:3.*.*", 1000, train="", test="test"),
        Task(
            "objectnet",
            "ObjectNet",
            "objectnet",
            1000,
            train="",
            test="test",
            label_key="labels",
            metric="any_of",
            central=True,
            manual="objectnet-1.0, unpacked, with its folders images and mappings",
            note="the 113 of its 313 classes that ILSVRC has; labels are the ILSVRC classes that mappings/ gives",
        ),
    ]


def _vtab(
    name: str,
    title: str,
    group: str,
    data: str,
    classes: int,
    val: str = "validation[:200]",
    test: str = "test",
    **more: Any,
) -> Task:
    """A task of VTAB-1k: 800 + 200 training images, the whole test split [V]."""
    first = "train[:800]"
    more = {"dev_train": first, "dev": val, "examples": 1000, "tuning": _VTAB_TUNING, "group": group, **more}
    return Task(f"vtab/{name}", title, data, classes, train=f"{first}+{val}", test=test, **more)


def _vtab_tasks() -> list[Task]:
    """The 19 tasks of VTAB-1k in the order of the paper's table 9. Slices: [V]; no crop, no flip: [B] section F."""
    dsprites: dict[str, Any] = {
        "val": "train[589824:590024]",  # after 80 % of 737,280
        "test": "train[663552:]",
        "small": True,
        "flip": False,
    }
    clevr: dict[str, Any] = {"val": "train[63000:63200]", "test": "validation", "label_key": None, "crop": False}
    norb: dict[str, Any] = {"val": "test[:200]", "test": "test[50%:]"}
    natural, special, structured = "natural", "specialized", "structured"
    return [
        _vtab("caltech101", "Caltech101", natural, "caltech101:3.*.*", 102, "train[2751:2951]"),
        _vtab("cifar100", "CIFAR-100", natural, "cifar100:3.*.*", 100, "train[45000:45200]", small=True),
        _vtab("dtd", "DTD", natural, "dtd:3.*.*", 47),
        _vtab("flowers102", "Flowers102", natural, "oxford_flowers102:2.*.*", 102),
        _vtab(
            "pets",
            "Pets",
            natural,
            "oxford_iiit_pet:4.*.*",
            37,
            "train[2944:3144]",
            note="VTAB read version 3, which TFDS no longer makes; version 4 adds annotations",
        ),
        _vtab("sun397", "Sun397", natural, "sun397/tfds:4.*.*", 397),
        _vtab("svhn", "SVHN", natural, "svhn_cropped:3.*.*", 10, "train[65931:66131]", small=True),
        _vtab("camelyon", "Camelyon", special, "patch_camelyon:2.*.*", 2),
        _vtab(
            "eurosat", "EuroSAT", special, "eurosat/rgb:2.*.*", 10, "train[16200:16400]", "train[21600:]", small=True
        ),
        _vtab(
            "resisc45",
            "Resisc45",
            special,
            "resisc45:3.*.*",
            45,
            "train[18900:19100]",
            "train[25200:]",
            manual="NWPU-RESISC45.rar, unpacked",
        ),
        _vtab(
            "retinopathy",
            "Retinopathy",
            special,
            "diabetic_retinopathy_detection/btgraham-300:3.*.*",
            5,
            manual="sample, train and test images and trainLabels.csv from Kaggle, unpacked",
        ),
        _vtab("clevr_count", "Clevr-Count", structured, "clevr:3.*.*", 8, labels="clevr_count", **clevr),
        _vtab("clevr_distance", "Clevr-Dist", structured, "clevr:3.*.*", 6, labels="clevr_distance", **clevr),
        _vtab("dmlab", "DMLab", structured, "dmlab:2.0.1", 6, crop=False),
        _vtab(
            "dsprites_location",
            "dSpr-Loc",
            structured,
            "dsprites:2.*.*",
            16,
            label_key="label_x_position",
            labels="stretch(255)|regroup(16, of=32)",
            crop=False,
            **dsprites,
        ),
        _vtab(
            "dsprites_orientation",
            "dSpr-Ori",
            structured,
            "dsprites:2.*.*",
            16,
            label_key="label_orientation",
            labels="stretch(255)|regroup(16, of=40)",
            **dsprites,
        ),
        _vtab(
            "kitti_distance",
            "KITTI-Dist",
            structured,
            "kitti:3.1.0",
            4,
            label_key=None,
            labels="kitti_distance",
            crop=False,
        ),
        _vtab(
            "smallnorb_azimuth",
            "sNORB-Azim",
            structured,
            "smallnorb:2.*.*",
            18,
            label_key="label_azimuth",
            flip=False,
            **norb,
        ),
        _vtab(
            "smallnorb_elevation", "sNORB-Elev", structured, "smallnorb:2.*.*", 9, label_key="label_elevation", **norb
        ),
    ]


def _embedded() -> Task:
    """What everybody has: the digits of scikit-learn, to try all of this without a download."""
    return Task(
        "digits",
        "Digits (embedded)",
        "digits",
        10,
        train="train",
        test="test",
        dev_train="train[:80%]",
        dev="train[80%:]",
        examples=1_437,
        tuning=_DIGITS_TUNING,
        flip=False,
    )


def _train_steps(task: Task, image: int, resize: int) -> list[str]:
    if not resize:
        steps = ["inception_crop"]
    elif task.crop:
        steps = [f"resize(ratio={resize / image:.4g})", "random_crop"]
    else:
        steps = ["resize"]
    return steps + ["flip"] * task.flip


def _eval_steps(task: Task, image: int, resize: int) -> list[str]:
    if not resize:
        return ["resize_small", "central_crop"]
    return [f"resize_small(ratio={resize / image:.4g})", "central_crop"] if task.central else ["resize"]


def _join(*steps: str) -> str:
    return "|".join(step for step in steps if step)


TASKS: dict[str, Task] = {task.name: task for task in (*_main_tasks(), *_vtab_tasks(), _embedded())}
VTAB: tuple[str, ...] = tuple(name for name in TASKS if name.startswith("vtab/"))


def get(name: str) -> Task:
    """The task of this name.

    Raises:
      BadSetting: there is none.
    """
    if name not in TASKS:
        raise BadSetting("task", name, f"not in the catalog; {did_you_mean(name, TASKS)}")
    return TASKS[name]


def settings_for(
    name: str, stage: str = "final", crops: str | None = None, data_name: str | None = None
) -> dict[str, dict[str, Any]]:
    """What a config says about a task.

    Args:
      name: of the task.
      stage: `dev` to choose hyperparameters, `final` for the numbers that are reported.
      crops: sizes and crops, one of `CROPS`; by default the task's own.
      data_name: `config.data.name`, for data sets that the user brings; without one such a task's own name stands
        there, which cannot be opened.

    Returns:
      {"data": fields of DataSettings, "evaluate": {"split": ...}}.

    Raises:
      BadSetting: no such task, stage or crops.
    """
    task = get(name)
    if stage not in ("dev", "final"):
        raise BadSetting("stage", stage, "must be dev or final")
    if stage == "dev" and not task.dev:
        raise BadSetting("stage", stage, f"{name} is only evaluated; take final")
    crops = crops or task.crops
    if crops not in CROPS:
        raise BadSetting("crops", crops, did_you_mean(crops, CROPS))
    sizes = CROPS[crops]
    image, resize = sizes.small if task.small and sizes.small else (sizes.image, sizes.resize)
    train, evaluation = (task.dev_train, task.dev) if stage == "dev" else (task.train, task.test)
    steps = {
        "train_preprocess": _join(task.labels, "decode", *_train_steps(task, image, resize)),
        "eval_preprocess": _join(task.labels, "decode", *_eval_steps(task, image, resize)),
    }
    data = {"name": data_name or task.data or name, "label_key": task.label_key, "image_size": (image, image), **steps}
    if train:
        data["train_split"] = train
    else:
        del data["train_preprocess"]
    return {"data": data, "evaluate": {"split": evaluation}}
