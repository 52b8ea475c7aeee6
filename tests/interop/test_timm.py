"""Our exported weights in timm: its own npz loader reads them and its model gives our logits. `make interop`."""

import jax
import numpy as np
import pytest

from vit_jax.checkpoint import Metadata, export_npz
from vit_jax.models import Model, ModelSettings

torch = pytest.importorskip("torch")


def register_torchvision_operators():
    """timm imports torchvision, whose PyPI build looks for two compiled operators that torch's CPU build lacks.

    No vision transformer uses them; that their names exist is enough. Returns what has to stay referenced.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library


OPERATORS = register_torchvision_operators()
timm = pytest.importorskip("timm")

TOKEN = {"act_layer": "gelu_tanh"}
GAP = {**TOKEN, "class_token": False, "global_pool": "avg", "fc_norm": False}


@pytest.mark.interop
@pytest.mark.parametrize(("pool", "options"), [("token", TOKEN), ("gap", GAP)])
def test_timm_reads_our_export_and_gives_our_logits(tmp_path, pool, options, record_property):
    model = Model(ModelSettings("Ti/16", pool=pool), (64, 64), 3, 10)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype(np.float32), model.abstract_params)
    export_npz(params, Metadata(model, tuple("abcdefghij"), {}), tmp_path / "model.npz")
    theirs = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, num_classes=10, checkpoint_path=str(tmp_path / "model.npz"), **options
    ).eval()

    images = random.uniform(-1, 1, (4, 64, 64, 3)).astype(np.float32)
    ours = np.asarray(jax.jit(model.apply)(params, images)["logits"])
    with torch.no_grad():
        found = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    difference = np.abs(found - ours).max() / np.abs(ours).max()
    record_property("relative_difference", float(difference))
    print(f"{pool}: relative difference {difference:.1e}")
    assert ours.std(axis=0).min() > 1e-3  # the images do matter
    assert difference < 1e-4
