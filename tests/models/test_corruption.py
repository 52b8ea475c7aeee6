"""Patches that are replaced before the encoder sees them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.errors import BadSetting
from vit_jax.models import KEEP, MASK, SWAP, Corruption, Model, ModelSettings, cut_patches


def test_each_patch_gets_what_its_action_says():
    patches = jnp.arange(2 * 4 * 3, dtype=jnp.float32).reshape(2, 4, 3)
    token = jnp.full((1, 1, 3), -1.0)
    action = jnp.array([[KEEP, MASK, SWAP, KEEP], [SWAP, KEEP, KEEP, MASK]])
    donor = jnp.array([[3, 3, 0, 3], [2, 0, 0, 0]])
    found = np.asarray(Corruption(action, donor).apply(patches, token))
    wanted = np.array(patches)
    wanted[0, 1] = wanted[1, 3] = -1
    wanted[0, 2], wanted[1, 0] = patches[0, 0], patches[1, 2]
    np.testing.assert_array_equal(found, wanted)


def test_patches_are_cut_in_raster_order():
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    found = np.asarray(cut_patches(jnp.asarray(images), (2, 3)))
    assert found.shape == (2, 6, 2, 2, 3)
    for i in range(2):
        for j in range(3):
            np.testing.assert_array_equal(found[:, 3 * i + j], images[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2])


def test_pixels_of_each_patch_get_what_its_action_says():
    images = np.arange(1 * 4 * 8 * 2, dtype=np.float32).reshape(1, 4, 8, 2) + 1  # 2 x 2 patches of 2 x 4
    drawn = Corruption(jnp.array([[KEEP, MASK, SWAP, KEEP]]), jnp.array([[0, 0, 3, 0]]))
    found = np.asarray(drawn.apply_to_pixels(jnp.asarray(images), (2, 2)))
    wanted = images.copy()
    wanted[0, :2, 4:8] = 0
    wanted[0, 2:4, :4] = images[0, 2:4, 4:8]
    np.testing.assert_array_equal(found, wanted)


def test_a_hybrid_does_not_see_hidden_pixels_through_its_neighbours():
    """Its trunk's windows overlap: were only embeddings replaced, those around would change with the hidden pixels."""
    trunk = {"variant": "R26+mu/16", "trunk_units": (1,), "trunk_width": 1, "depth": 1, "pool": "none"}
    subject = Model(ModelSettings(mask_token=True, **trunk), (16, 16), 3, 5)
    params = subject.init(jax.random.key(0))
    rows, columns = subject.grid
    side = 16 // columns
    hidden = jnp.zeros((1, rows * columns), jnp.int32)
    images = jax.random.uniform(jax.random.key(1), (1, 16, 16, 3))
    changed = images.at[:, side : 2 * side, side : 2 * side].set(-1.0)
    hide = Corruption(hidden.at[:, columns + 1].set(MASK), hidden)

    def tokens(images, corruption):
        return np.asarray(subject.apply(params, images, corruption=corruption)["tokens"])

    np.testing.assert_array_equal(tokens(images, hide), tokens(changed, hide))
    assert not np.allclose(tokens(images, None), tokens(changed, None))


def model(**settings):
    return Model(ModelSettings("mu/2", depth=2, mask_token=True, **settings), (8, 8), 3, 5)


@pytest.mark.parametrize("settings", [{"pool": "none"}, {"pool": "none", "class_token": True}, {"pool": "gap"}])
def test_a_masked_patch_is_not_seen_and_its_place_is(settings):
    """Without attention to others a masked patch's output depends on its position alone."""
    subject = model(**settings)
    params = subject.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))
    changed = images.at[:, :2, :2].set(0.0)  # patch 0
    hide = Corruption(jnp.zeros((2, 16), jnp.int32).at[:, 0].set(MASK), jnp.zeros((2, 16), jnp.int32))

    def tokens(images, corruption):
        return np.asarray(subject.apply(params, images, corruption=corruption)["tokens"])

    np.testing.assert_array_equal(tokens(images, hide), tokens(changed, hide))
    assert not np.allclose(tokens(images, None), tokens(changed, None))
    np.testing.assert_allclose(
        tokens(images, hide._replace(action=jnp.zeros((2, 16), jnp.int32))), tokens(images, None), atol=1e-6
    )


def test_a_class_token_can_attend_without_being_pooled():
    with_token, without = model(pool="gap", class_token=True), model(pool="gap")
    assert (with_token.tokens, without.tokens) == (17, 16)
    params = with_token.init(jax.random.key(0))
    assert params["pos_embedding"].shape == (1, 17, 32)
    features = with_token.apply(params, jnp.ones((1, 8, 8, 3)))
    np.testing.assert_allclose(features["pre_logits"], features["tokens"][:, 1:].mean(1), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"variant": "mu/2", "class_token": False}, "class_token = False: pool token needs one"),
        ({"variant": "mu/2", "pool": "gap", "class_token": True, "axial": True}, "no class token|and no class token"),
        ({"variant": "R50x1", "mask_token": True}, "mask_token = True: R50x1 has no encoder"),
    ],
)
def test_what_does_not_fit_is_refused(settings, fix):
    with pytest.raises(BadSetting, match=fix):
        ModelSettings(**settings)


def test_only_a_model_with_a_mask_token_can_be_corrupted():
    plain = Model(ModelSettings("mu/2"), (8, 8), 3, 5)
    nothing = Corruption(jnp.zeros((1, 16), jnp.int32), jnp.zeros((1, 16), jnp.int32))
    with pytest.raises(BadSetting, match="mask_token = False"):
        plain.apply(plain.init(jax.random.key(0)), jnp.ones((1, 8, 8, 3)), corruption=nothing)
