"""Runs the code that the README.md of an export shows, in a process that cannot import vit_jax."""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# `-S` in `run` leaves out what editable installs hook in; hiding also covers a copy in site-packages.
_ALONE = """\
import sys
sys.path.append({packages!r})
sys.modules.update(dict.fromkeys({hidden!r}))
try:
    import vit_jax
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("vit_jax is here")
"""


def snippet(folder: Path) -> str:
    """The Python code of the card."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return code


def run(folder: Path, batches: Sequence[np.ndarray], scratch: Path, hidden: Sequence[str] = ()) -> list[np.ndarray]:
    """Logits that the card's code gives for each batch, in a fresh process in the card's folder.

    The code runs once as it is shown, then with the line `images = ...` replaced.

    Args:
      folder: the export.
      batches: float32 images (b, h, w, c).
      scratch: an empty folder elsewhere.
      hidden: modules whose import fails, besides vit_jax.
    """
    code = snippet(folder)
    (shown,) = re.findall(r"^images = .*$", code, re.MULTILINE)
    script = _ALONE.format(packages=sysconfig.get_path("purelib"), hidden=["vit_jax", *hidden]) + code
    for number, images in enumerate(batches):
        np.save(scratch / f"images{number}.npy", images)
        script += code.replace(shown, f"images = np.load({str(scratch / f'images{number}.npy')!r})")
        script += f"np.save({str(scratch / f'logits{number}.npy')!r}, np.asarray(logits))\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [np.load(scratch / f"logits{number}.npy") for number in range(len(batches))]
