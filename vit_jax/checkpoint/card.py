"""The texts beside an export: `preprocessing.json` for programs, `README.md` for people."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax.checkpoint.metadata import Metadata
from vit_jax.data import RESIZE_SMALL_RATIO
from vit_jax.models import Model

PREPROCESSING = "preprocessing.json"
CARD = "README.md"

# Forms of an export that a card can describe.
NPZ = "npz"
ONNX = "ONNX"
SAVED_MODEL = "SavedModel"
STABLEHLO = "StableHLO"
STABLEHLO_WEIGHTS = "StableHLO with weights beside"
TIMM = "timm"
HUGGING_FACE = "Hugging Face"

# Published files say nothing of pre-processing.
_PUBLISHED = "decode|resize"

_IMAGES = "images = np.zeros((1, {h}, {w}, {c}), np.float32)  # any number of yours, in [-1, 1]"
_SNIPPETS = {
    NPZ: (
        "vit_jax",
        f"""\
import numpy as np
from vit_jax.checkpoint import load

weights = load("{{npz}}")
{_IMAGES}
logits = weights.metadata.model.apply(weights.params, images)["logits"]
""",
    ),
    TIMM: (
        "timm",
        f"""\
import numpy as np
import timm
import torch

model = timm.create_model("local-dir:.", pretrained=True).eval()
{_IMAGES}
with torch.no_grad():
    logits = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
""",
    ),
    HUGGING_FACE: (
        "transformers torch",
        f"""\
import numpy as np
import torch
from transformers import AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained(".").eval()
{_IMAGES}
with torch.no_grad():
    logits = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).logits
""",
    ),
    ONNX: (
        "numpy onnxruntime",
        f"""\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
{_IMAGES}
logits = session.run(["logits"], {{{{"images": images}}}})[0]
""",
    ),
    SAVED_MODEL: (
        "tensorflow",
        f"""\
import numpy as np
import tensorflow as tf

program = tf.saved_model.load(".").signatures["serving_default"]
{_IMAGES}
logits = program(images=tf.constant(images))["logits"].numpy()
""",
    ),
    STABLEHLO: (
        "jax flatbuffers",
        f"""\
from pathlib import Path
import numpy as np
from jax import export

program = export.deserialize(bytearray(Path("model.stablehlo").read_bytes()))
{_IMAGES}
logits = program.call(images)
""",
    ),
    STABLEHLO_WEIGHTS: (
        "jax flatbuffers",
        f"""\
from pathlib import Path
import numpy as np
from jax import export

program = export.deserialize(bytearray(Path("model.stablehlo").read_bytes()))
weights = dict(np.load("weights.npz"))
{_IMAGES}
logits = program.call(weights, images)
""",
    ),
}


def write_preprocessing(folder: Path, metadata: Metadata) -> Path:
    """Writes `preprocessing.json`: what turns an image file into the model's input, and the label names.

    `steps` is `eval_preprocess` of the run in numbers, or a resize straight to the image size where no run is known.

    Returns:
      The file.
    """
    height, width = metadata.model.image_size
    text = metadata.config.get("data", {}).get("eval_preprocess", _PUBLISHED)
    about = {
        "image_size": {"height": height, "width": width},
        "channels": metadata.model.channels,
        "layout": "batch, height, width, channels",
        "dtype": "float32",
        "value_range": [-1.0, 1.0],
        "eval_preprocess": text,
        "steps": [_step(op.strip(), metadata) for op in text.split("|")]
        + [{"step": "scale", "multiply": 1 / 127.5, "add": -1.0}],
        "logits_to_probabilities": _probabilities(metadata),
        "labels": list(metadata.label_names),
    }
    path = Path(folder) / PREPROCESSING
    path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path


def _step(op: str, metadata: Metadata) -> dict[str, Any]:
    """An operation of `vit_jax.data.ops` in numbers, for software that does not have it."""
    (height, width), channels = metadata.model.image_size, metadata.model.channels
    name, _, argument = op.rstrip(")").partition("(")
    size = {"height": height, "width": width}
    bilinear = {"filter": "bilinear", "antialias": True, "rounded_to": "uint8"}
    if name == "decode":
        luma = {} if channels == 3 else {"weights_of_red_green_blue": [0.299, 0.587, 0.114]}
        return {"step": "decode", "to": "RGB" if channels == 3 else "gray", "dtype": "uint8", **luma}
    if name == "resize":
        return {"step": "resize", **size, **bilinear}
    if name == "central_crop":
        return {"step": "central_crop", **size, "pad_value": 0}
    if name == "resize_small":
        ratio = float(re.sub(r"ratio\s*=", "", argument) or RESIZE_SMALL_RATIO)
        return {"step": "resize_keeping_aspect_ratio", "shorter_side": round(max(height, width) * ratio), **bilinear}
    return {"step": op, "defined_in": "vit_jax.data.ops"}


def _probabilities(metadata: Metadata) -> str:
    return metadata.config.get("train", {}).get("loss", "softmax")


def write_card(folder: Path, metadata: Metadata, files: Sequence[Path], form: str) -> Path:
    """Writes `README.md`: what the model is, how it was trained, how to load it.

    Args:
      folder: where the files lie.
      metadata: describes the model.
      files: of the export, in `folder`.
      form: one of the constants of this module.

    Returns:
      The card.
    """
    model = metadata.model
    height, width = model.image_size
    needs, snippet = _SNIPPETS[form]
    npz = next((file.name for file in files if file.suffix == ".npz"), "")
    in_order = f"names in the order of the logits are in `{PREPROCESSING}`"
    names = in_order if metadata.label_names else "their names are not recorded"
    shape = f"(b, {height}, {width}, {model.channels})"
    card = f"""\
# {model.settings.variant}

| | |
|---|---|
| Model | vit_jax `{model.settings.variant}`, {model.parameter_count:,} parameters |
| Format | {form}, float32 |
| Input | `images`: float32 {shape}, any b, values in [-1, 1]: x / 127.5 - 1 for pixels x from 0 to 255 |
| Output | `logits`: float32 {_logits(model)}; probabilities are their {_probabilities(metadata)} |
| Classes | {model.classes}; {names} |

`{PREPROCESSING}` also says how image files become inputs: decoding, size, crop, values.

## Load

With Python, in this folder, after `pip install {needs}`:

```python
{snippet.format(h=height, w=width, c=model.channels, npz=npz)}```

## Files

{_listing(Path(folder), files)}

## Training

{_training(metadata)}

## Licence

Not stated. Who passes this model on adds the licence of the weights and names the data they were trained on.

## Versions

{_versions(metadata)}
"""
    path = Path(folder) / CARD
    path.write_text(card, encoding="utf-8")
    return path


def _logits(model: Model) -> str:
    if not model.classes:
        return "none: it has no classifier"
    images = jax.ShapeDtypeStruct((1, *model.image_size, model.channels), jnp.float32)
    shape = jax.eval_shape(model.apply, model.abstract_params, images)["logits"].shape
    return f"(b, {', '.join(map(str, shape[1:]))})"


def _listing(folder: Path, files: Sequence[Path]) -> str:
    rows = [f"- `{file.relative_to(folder).as_posix()}`, {file.stat().st_size:,} bytes" for file in files]
    return "\n".join(rows)


def _training(metadata: Metadata) -> str:
    extract = {
        group: {key: value for key, value in metadata.config[group].items() if key != "data_dir"}
        for group in ("data", "train", "optimizer", "schedule")
        if group in metadata.config
    }
    if not extract:
        return "How these weights were trained is not recorded with them."
    text = json.dumps(extract, indent=1)
    return f"{metadata.step:,} steps with this config (an extract):\n\n```json\n{text}\n```"


def _versions(metadata: Metadata) -> str:
    versions = metadata.to_json()["versions"]
    return "Exported with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
