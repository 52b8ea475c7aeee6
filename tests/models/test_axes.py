"""Logical axes: every dimension of every parameter has a name, and the right one."""

import pytest

from vit_jax.errors import UserError
from vit_jax.models import ENCODERS, Model, ModelSettings
from vit_jax.models.axes import logical_axes


@pytest.mark.parametrize("pool", ["token", "gap"])
@pytest.mark.parametrize("pre_logits", [False, True])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_of_every_model_is_covered_by_names_that_fit_its_sizes(encoder, pool, pre_logits):
    model = Model(ModelSettings(f"{encoder}/7", pool=pool, pre_logits=pre_logits), (35, 21), 3, 11)
    shape = ENCODERS[encoder]
    sizes = {
        "layers": shape.depth,
        "embed": shape.width,
        "embed_out": shape.width,
        "norm": shape.width,
        "mlp": shape.mlp_dim,
        "heads": shape.heads,
        "head_dim": shape.width // shape.heads,
        "patch": 7,
        "channels": 3,
        "classes": 11,
        "one": 1,
    }
    axes = model.logical_axes
    assert set(axes) == set(model.shapes)
    for name, dimensions in model.shapes.items():
        tokens = {"cls": 1, "pos_embedding": 15 + (pool == "token")}.get(name)
        assert dimensions == tuple({**sizes, "tokens": tokens}[axis] for axis in axes[name]), name


def test_a_rule_with_too_few_names_is_a_bug():
    with pytest.raises(ValueError, match=r"head/kernel has shape \(3,\)"):
        logical_axes({"head/kernel": (3,)})


def test_a_parameter_without_a_rule_is_named():
    with pytest.raises(UserError, match="'blocks/gate/kernel'"):
        logical_axes({"blocks/gate/kernel": (1, 2, 3)})
