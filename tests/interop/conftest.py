"""What the comparisons with PyTorch libraries share."""

import math

import jax
import numpy as np
import pytest

from vit_jax.checkpoint import Metadata
from vit_jax.models import Model, ModelSettings
from vit_jax.trees import named_leaves, nested

try:
    import torch
except ImportError:
    torch = None


def _register_torchvision_operators():
    """timm and transformers import torchvision, whose PyPI build looks for two operators that torch's CPU build lacks.

    No model here uses them; that their names exist is enough. Returns what has to stay referenced.
    """
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return None
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library


OPERATORS = _register_torchvision_operators() if torch else None


@pytest.fixture
def make_model():
    """make_model("B/16", (32, 32), pool="gap"): an encoder of two layers; ten classes."""

    def make(variant, size, channels=3, classes=10, **settings):
        if "/" in variant:
            settings.setdefault("depth", 2)
        return Model(ModelSettings(variant, **settings), size, channels, classes)

    return make


@pytest.fixture
def random_params():
    """Random parameters that keep activations and logits of order 1."""

    def make(model):
        random = np.random.default_rng(0)

        def one(name, shape):
            noise = random.normal(size=shape)
            if name.endswith("/scale"):
                return 1 + 0.1 * noise
            if name.endswith("/kernel"):
                shape = shape[1:] if name.startswith("blocks/") or "/units/" in name else shape
                inputs = shape[:-2] if "/query/" in name or "/key/" in name or "/value/" in name else shape[:-1]
                return noise / math.sqrt(math.prod(inputs))
            return 0.1 * noise

        return nested({name: one(name, shape).astype(np.float32) for name, shape in model.shapes.items()})

    return make


@pytest.fixture
def describe():
    """Metadata of a model, with class names of its own."""

    def make(model, eval_preprocess="decode|resize"):
        names = tuple(f"kind {i}" for i in range(model.classes))
        return Metadata(model, names, {"data": {"eval_preprocess": eval_preprocess}})

    return make


@pytest.fixture
def ours():
    """Our output for images in [-1, 1]."""

    def run(model, params, images, output="logits"):
        return np.asarray(jax.jit(model.apply)(params, images)[output])

    return run


@pytest.fixture
def theirs():
    """A PyTorch module's output for the same images; Hugging Face's are taken out of their wrapper."""

    def run(module, images, output="logits"):
        with torch.no_grad():
            found = module.eval()(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
        return (found if isinstance(found, torch.Tensor) else getattr(found, output)).numpy()

    return run


@pytest.fixture
def images():
    """Two random images in [-1, 1] for a model."""

    def make(model):
        shape = (2, *model.image_size, model.channels)
        return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)

    return make


@pytest.fixture
def assert_close(record_property):
    """Compares relative to the largest value, prints and records the difference."""

    def check(what, found, wanted, limit):
        assert found.shape == wanted.shape
        assert wanted.std(axis=0).mean() > 1e-3  # the images do matter
        difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        print(f"{what}: relative difference {difference:.1e}")
        record_property(what, difference)
        assert difference < limit, what

    return check


@pytest.fixture
def randomize():
    """Moves every parameter of a PyTorch module away from its initial value, so that none is 0 or 1."""

    def change(module):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        return module

    return change


@pytest.fixture
def same_named():
    """The arrays of nested dicts are equal, name by name."""

    def check(found, wanted):
        found, wanted = named_leaves(found), named_leaves(wanted)
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)

    return check
