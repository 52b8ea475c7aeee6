"""Masked patch prediction: what is drawn, what is asked, and losses against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.data import DataSettings, SyntheticDataset
from vit_jax.errors import BadSetting
from vit_jax.evaluate import MaskedPatches, MaskedSettings, check_patches, masked, outputs
from vit_jax.models import KEEP, MASK, SWAP, Model, ModelSettings, unconstrained
from vit_jax.parallel import MeshSettings, make_mesh, state_shardings


@settings(max_examples=25)
@given(st.integers(2, 60), st.floats(0.05, 1.0), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_as_many_patches_of_every_image_are_corrupted_as_the_shares_say(patches, corrupted, masking, swapping, seed):
    swapping *= 1 - masking
    about = MaskedSettings(corrupted=corrupted, masked=masking, swapped=swapping)
    drawn, asked = masked.corruption(jax.random.key(seed), 5, patches, about)
    action, donor = np.asarray(drawn.action), np.asarray(drawn.donor)
    number = max(1, round(corrupted * patches))
    assert (np.asarray(asked).sum(1) == number).all()
    assert ((action == MASK).sum(1) == round(masking * number)).all()
    left = number - round(masking * number)
    assert ((action == SWAP).sum(1) == min(round(swapping * number), left)).all()
    assert (action[~np.asarray(asked)] == KEEP).all()
    assert ((donor >= 0) & (donor < patches)).all()
    assert (donor != np.arange(patches)).all()


def test_the_papers_shares():
    drawn, asked = masked.corruption(jax.random.key(0), 64, 200, MaskedSettings())
    action = np.asarray(drawn.action)
    assert np.asarray(asked).mean() == 0.5
    assert [(action == kind).mean() for kind in (MASK, SWAP)] == [0.4, 0.05]
    assert len({row.tobytes() for row in action}) == 64  # every image its own
    assert np.asarray(asked).mean(axis=0).std() < 0.1  # every place alike


@given(st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_a_colour_is_the_highest_three_bits_of_each_channel(rgb):
    r, g, b = (value >> 5 for value in rgb)
    assert int(masked.colours(jnp.array(rgb, jnp.uint8))) == 64 * r + 8 * g + b


def by_numpy(output, images, grid, target):
    rows, columns = grid
    side = images.shape[1] // rows
    loss, right = np.zeros(output.shape[:2]), np.zeros(output.shape[:2])
    for b in range(len(images)):
        for n in range(rows * columns):
            top, left = side * (n // columns), side * (n % columns)
            patch = images[b, top : top + side, left : left + side].astype(np.float64)
            if target == "pixels":
                loss[b, n] = np.mean((output[b, n] - (patch / 127.5 - 1).ravel()) ** 2)
                continue
            parts = 1 if target == "mean_colour" else 4
            step = side // parts
            losses, rights = [], []
            for k, (i, j) in enumerate(np.ndindex(parts, parts)):
                mean = patch[i * step : (i + 1) * step, j * step : (j + 1) * step].mean((0, 1))
                level = np.floor(8 * mean / 256).astype(int)
                label = level @ [64, 8, 1]
                logits = output[b, n].reshape(parts * parts, 512)[k]
                losses.append(np.log(np.exp(logits).sum()) - logits[label])
                rights.append(logits.argmax() == label)
            loss[b, n], right[b, n] = np.mean(losses), np.mean(rights)
    return loss, right


@pytest.mark.parametrize("target", ["mean_colour", "small_colours", "pixels"])
def test_losses_are_those_of_the_formulas(target):
    random, grid = np.random.default_rng(0), (2, 3)
    images = random.integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    size = outputs(MaskedSettings(target=target), 8, 3)
    assert size == {"mean_colour": 512, "small_colours": 8192, "pixels": 192}[target]
    output = random.normal(0, 2, (2, 6, size)).astype(np.float32)
    loss, metrics = masked.prediction_losses(jnp.asarray(output), jnp.asarray(images), grid, target)
    wanted, right = by_numpy(output, images, grid, target)
    np.testing.assert_allclose(loss, wanted, rtol=2e-5)
    if target == "pixels":
        assert not metrics
    else:
        np.testing.assert_allclose(metrics["accuracy"], right, atol=1e-6)


MODEL = Model(ModelSettings("mu/2", pool="none", class_token=True, mask_token=True, dropout=0.5), (8, 8), 3, 512)


def random_params():
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(0, 0.5, leaf.shape).astype(np.float32), MODEL.abstract_params)


def test_only_corrupted_patches_count():
    """The loss of an image is the mean of the patches that were drawn, given what the encoder got."""
    images = jnp.asarray(np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))
    key, about, params = jax.random.key(5), MaskedSettings(), random_params()
    found = masked.masked_losses(MODEL, about, params, images, key, unconstrained, dropout=False)
    drawn, asked = masked.corruption(jax.random.split(key)[0], 3, 16, about)
    output = MODEL.apply(params, images / 127.5 - 1.0, corruption=drawn)["logits"]
    loss, _ = by_numpy(np.asarray(output, np.float64), np.asarray(images), (4, 4), "mean_colour")
    wanted = [loss[i][np.asarray(asked)[i]].mean() for i in range(3)]
    np.testing.assert_allclose(found["loss"], wanted, rtol=1e-4)


def test_dropout_is_on_in_training_only():
    images = jnp.full((2, 8, 8, 3), 100, jnp.uint8)
    arguments = (MODEL, MaskedSettings(), random_params(), images, jax.random.key(0), unconstrained)
    on, off = (masked.masked_losses(*arguments, dropout=dropout)["loss"] for dropout in (True, False))
    assert not np.allclose(on, off)


@pytest.mark.parametrize(("mesh", "devices", "batch_size"), [({}, 1, 32), ({"data": 2, "fsdp": 2, "tensor": 2}, 8, 32)])
def test_evaluation_counts_every_image_once_on_any_mesh(mesh, devices, batch_size):
    """100 images in batches of 32: padding does not count, and the patches left out are always the same."""
    dataset = SyntheticDataset(DataSettings(name="synthetic", image_size=(8, 8)), size=100)
    on = make_mesh(MeshSettings(**mesh), jax.devices()[:devices])
    params = random_params()
    params = jax.device_put(params, state_shardings(params, MODEL.shapes, MODEL.logical_axes, on))
    test = MaskedPatches(MODEL, MaskedSettings(), dataset, on, batch_size, params)
    found = test.run(params)
    assert found == test.run(params)
    total = []
    for batch in dataset.eval_batches(32, np.arange(32)):
        images = jnp.asarray(batch["image"])
        each = masked.masked_losses(
            MODEL, MaskedSettings(), random_params(), images, jax.random.key(0), unconstrained, dropout=False
        )
        total += list(np.asarray(each["loss"])[batch["mask"]])
    assert found["examples"] == 100
    assert found["loss"] == pytest.approx(np.mean(total), rel=1e-4)
    assert 0 <= found["accuracy"] < 0.2
    assert "100 images" in test.describe(found)


@pytest.mark.parametrize(
    ("model", "size", "target", "complaint"),
    [
        ("mu/3", (8, 8), "mean_colour", "image_size = .* must be a multiple of 3"),
        ("mu/2", (8, 8), "small_colours", "config.masked.target = 'small_colours'.*4 divides.*2 pixels"),
        ("mu/8", (8, 8), "pixels", "single patch"),
    ],
)
def test_patches_that_cannot_be_asked_for_are_refused(model, size, target, complaint):
    subject = Model(ModelSettings(model, pool="none", mask_token=True), size, 3, 4)
    with pytest.raises(BadSetting, match=complaint):
        check_patches(MaskedSettings(target=target), subject)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"target": "colour"}, "target = 'colour': must be one of mean_colour"),
        ({"corrupted": 0.0}, "corrupted = 0.0: must be above 0"),
        ({"masked": 0.8, "swapped": 0.3}, "swapped = 0.3: must be at most 0.2"),
    ],
)
def test_impossible_settings_are_refused(values, complaint):
    with pytest.raises(BadSetting, match=complaint):
        MaskedSettings(**values)
