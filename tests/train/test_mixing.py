"""mixup and cutmix: formulas in NumPy, distributions in SciPy, collectives in the compiled step."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta, binomtest, chisquare, kstest

from vit_jax import parallel
from vit_jax.errors import BadSetting, Stopped
from vit_jax.models import unconstrained
from vit_jax.train import METRICS_FILE, create_state, loop, preflight, read_metrics, supervised, train
from vit_jax.train.mixing import mix, mixed, partner
from vit_jax.train.settings import TrainSettings
from vit_jax.train.state import DROPOUT_STREAM, stream_key

CLASSES = 5
BOTH = {"mixup": 0.4, "cutmix": 1.0}


def examples(rows=6, height=9, width=12):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (rows, height, width, 3), np.uint8)
    # Each row has a label of its own, as far as there are classes, and no pixel equals its partner's.
    image[1::2] = image[::2] ^ 1
    return {"image": jnp.asarray(image), "label": jnp.arange(rows) % CLASSES}


def swapped(x):
    """Rows 1, 0, 3, 2, ..."""
    x = np.asarray(x)
    return x[[i + 1 - 2 * (i % 2) for i in range(len(x))]]


def draws(number, batch=None, **settings):
    """Mixed batches of so many keys."""
    batch, settings = batch or examples(), TrainSettings(**settings)
    run = jax.jit(jax.vmap(lambda key: mix(batch, key, settings, CLASSES, unconstrained)))
    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(3), number)))


def own_shares(found, batch):
    """(draws, rows): how much of each example's label is its own."""
    return np.take_along_axis(found["label"], np.asarray(batch["label"])[None, :, None], axis=-1)[..., 0]


def folded(alpha):
    """Distribution of max(x, 1 - x) for x ~ Beta(alpha, alpha)."""
    return lambda x: beta.cdf(x, alpha, alpha) - beta.cdf(1 - x, alpha, alpha)


# Formulas.


@pytest.mark.parametrize("per_example", [False, True])
def test_mixup_is_the_weighted_mean_with_the_neighbour(per_example):
    batch = examples()
    found = draws(40, batch, mixup=0.7, mix_per_example=per_example)
    shares = own_shares(found, batch)
    one_hot = np.eye(CLASSES, dtype=np.float32)[batch["label"]]
    image = np.asarray(batch["image"], np.float32)
    for drawn, share in enumerate(shares):
        weight = share[:, None, None, None]
        np.testing.assert_allclose(found["image"][drawn], weight * image + (1 - weight) * swapped(image), rtol=1e-5)
        labels = share[:, None] * one_hot + (1 - share[:, None]) * swapped(one_hot)
        np.testing.assert_allclose(found["label"][drawn], labels, atol=1e-6)
    assert shares.min() >= 0.5
    same = (shares == shares[:, :1]).all(axis=1)
    assert same.all() if not per_example else not same.any()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
@pytest.mark.parametrize("per_example", [False, True])
def test_mixup_draws_from_the_larger_half_of_beta(alpha, per_example):
    batch = examples()
    shares = own_shares(draws(900 if not per_example else 150, batch, mixup=alpha, mix_per_example=per_example), batch)
    shares = shares.ravel() if per_example else shares[:, 0]
    assert kstest(shares.astype(float), folded(alpha)).pvalue > 0.001


@pytest.mark.parametrize("per_example", [False, True])
def test_cutmix_takes_a_box_from_the_neighbour_and_weighs_labels_by_its_pixels(per_example):
    batch = examples()
    found = draws(60, batch, cutmix=1.0, mix_per_example=per_example)
    image, other = np.asarray(batch["image"], np.float32), swapped(batch["image"]).astype(np.float32)
    shares, areas = own_shares(found, batch), set()
    for drawn, share in zip(found["image"], shares, strict=True):
        for row in range(len(image)):
            taken = (drawn[row] == other[row]).all(axis=-1)
            np.testing.assert_array_equal(drawn[row], np.where(taken[..., None], other[row], image[row]))
            rows, columns = taken.any(axis=1), taken.any(axis=0)
            np.testing.assert_array_equal(taken, rows[:, None] & columns)  # a rectangle without holes
            for side in (rows, columns):
                assert abs(np.diff(side.astype(int))).sum() <= 2
            assert share[row] == pytest.approx(1 - taken.mean(), abs=1e-6)
            areas.add(taken.mean())
    assert len(areas) > 15
    assert min(areas) < 0.1
    assert max(areas) > 0.5
    np.testing.assert_allclose(found["label"].sum(axis=-1), 1, rtol=1e-6)


def test_cutmix_boxes_follow_the_paper():
    """At a large alpha lambda is 1/2: sides are sqrt(1/2) of the image's, about a uniform centre, cut off at edges."""
    side, half = 16, int(16 * 0.5**0.5) // 2
    batch = examples(2, side, side)
    found = draws(600, batch, cutmix=1e6)
    taken = (found["image"][:, 0] == swapped(batch["image"])[0]).all(axis=-1)
    for axis in (1, 2):
        places = taken.any(axis=axis)
        first, last = places.argmax(axis=1), side - places[:, ::-1].argmax(axis=1)
        centre = np.where(last < side, last - half, first + half)
        np.testing.assert_array_equal(first, np.maximum(centre - half, 0))
        np.testing.assert_array_equal(last, np.minimum(centre + half, side))
        assert chisquare(np.bincount(centre, minlength=side)).pvalue > 0.001


def test_probability_and_switch_are_kept():
    batch = examples()
    found = draws(600, batch, **BOTH, mix_probability=0.8, mix_switch=0.25)
    values = found["image"]
    own = (values == np.asarray(batch["image"])).all(axis=(1, 2, 3, 4))
    either = ((values == np.asarray(batch["image"])) | (values == swapped(batch["image"]))).all(axis=(1, 2, 3, 4))
    # A box of no pixels looks like no mixing: both count as untouched, which cutmix of 9 x 12 rarely is.
    untouched, cut = own.sum(), (either & ~own).sum()
    assert binomtest(int(cut), 600, 0.8 * 0.25 * 0.94).pvalue > 0.001
    assert binomtest(int(untouched), 600, 0.2 + 0.8 * 0.25 * 0.06).pvalue > 0.001
    for name, alpha in BOTH.items():
        one = draws(50, batch, **{name: alpha}, mix_probability=0.0)
        assert (one["image"] == np.asarray(batch["image"])).all()
        assert (own_shares(one, batch) == 1).all()


def test_several_labels_are_mixed_alike():
    batch = examples()
    several = np.random.default_rng(1).integers(0, 2, (6, CLASSES)).astype(np.float32)
    reference = draws(1, batch, mixup=1.0)
    found = draws(1, {**batch, "label": jnp.asarray(several)}, mixup=1.0)
    np.testing.assert_array_equal(found["image"], reference["image"])
    share = own_shares(reference, batch)[0, :, None]
    np.testing.assert_allclose(found["label"][0], share * several + (1 - share) * swapped(several), atol=1e-6)


def test_partners_are_neighbours():
    x = np.arange(24).reshape(8, 3)
    np.testing.assert_array_equal(partner(jnp.asarray(x)), swapped(x))


def test_pixels_may_be_floats():
    batch = examples()
    found = draws(2, batch, **BOTH)
    as_floats = draws(2, {**batch, "image": batch["image"].astype(jnp.float32)}, **BOTH)
    np.testing.assert_array_equal(found["image"], as_floats["image"])
    assert found["image"].dtype == found["label"].dtype == np.float32


# The objective.


class Fixed:
    """A model whose logits are its parameters."""

    def apply(self, params, images, *, dropout_key, constrain):
        return {"logits": params}


@pytest.mark.parametrize(
    ("label", "right"),
    [
        ([0, 1, 2, 2], [True, False, False, True]),
        ([[0.6, 0.4, 0], [0.6, 0.4, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]], [True, True, True, True]),
        ([[0.4, 0.6, 0], [0, 0, 1], [0, 0.3, 0.7], [0, 1, 0]], [False, False, False, False]),
        ([[1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], [True, False, False, True]),
    ],
    ids=["integers", "mixed, right", "mixed, wrong", "several"],
)
def test_accuracy_is_against_the_dominant_label(label, right):
    logits = jnp.asarray([[9.0, 1, 0], [7, 2, 0], [3, 2, 1], [0, 1, 5]])
    batch = {"image": jnp.zeros((4, 2, 2, 3)), "label": jnp.asarray(label)}
    _, metrics = supervised(Fixed(), "softmax", 0.0)(logits, batch, jax.random.key(0), unconstrained)
    assert float(metrics["accuracy"]) == np.mean(right)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_a_mixed_batch_is_the_mean_of_the_losses_of_its_labels(kind, smoothing):
    """Cross-entropies are linear in the targets, which smoothing leaves a mixture."""
    batch = examples()
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(6, CLASSES)), jnp.float32)
    settings, key = TrainSettings(mixup=1.0, mix_per_example=True), jax.random.key(5)
    loss, _ = mixed(supervised(Fixed(), kind, smoothing), settings, CLASSES)(logits, batch, key, unconstrained)

    def each(label):
        one = [
            supervised(Fixed(), kind, smoothing)(
                logits[i : i + 1], {**batch, "label": label[i : i + 1]}, key, unconstrained
            )[0]
            for i in range(6)
        ]
        return np.array(one)

    mix_key = jax.random.split(key)[1]
    found = mix(batch, mix_key, settings, CLASSES, unconstrained)
    share = own_shares(jax.tree.map(lambda x: np.asarray(x)[None], found), batch)[0]
    wanted = share * each(batch["label"]) + (1 - share) * each(jnp.asarray(swapped(batch["label"])))
    assert float(loss) == pytest.approx(wanted.mean(), rel=1e-5)


def test_without_mixing_the_objective_is_itself():
    objective = supervised(Fixed(), "softmax", 0.0)
    assert mixed(objective, TrainSettings(mix_probability=0.3, mix_per_example=True), CLASSES) is objective


# The step.


def _plan(tiny_run, **groups):
    return preflight(tiny_run(**{"model": {"variant": "mu/2", "depth": 1, "dropout": 0.1}, **groups}))


def _batches(plan, number):
    size = plan.settings.train.batch_size
    rows = parallel.host_rows(plan.mesh, size)
    return list(parallel.feed(plan.mesh, size, rows, plan.train_data.train_batches(0, size, rows, 0, number)))


def _random_head(state):
    """A head of zeros, as initialised, gives every input the same loss."""
    kernel = state["params"]["head"]["kernel"]
    state["params"]["head"]["kernel"] = kernel + jax.random.normal(jax.random.key(7), kernel.shape)
    return state


def test_each_micro_batch_is_mixed_by_itself_with_the_key_of_its_step(tiny_run):
    """The loss of a step is the mean of the objective's over its parts, with the keys of (seed, step, micro-batch)."""
    options = {"batch_size": 32, "micro_batches": 2, "mixup": 1.0, "cutmix": 1.0}
    plan = _plan(tiny_run, train=options, schedule={"learning_rate": 0.0})
    state = _random_head(create_state(plan.model, plan.optimizer, plan.state, 0))
    params, (batch,) = jax.tree.map(np.asarray, state["params"]), _batches(plan, 1)
    step = plan.train_step()
    objective = jax.jit(
        mixed(supervised(plan.model, "softmax", 0.0), plan.settings.train, plan.model.classes), static_argnums=3
    )
    parts = [{name: np.asarray(value)[m::2] for name, value in batch.items()} for m in range(2)]
    means = []
    for number in range(2):
        keys = jax.random.split(jax.random.fold_in(stream_key(0, DROPOUT_STREAM), number), 2)
        losses = [float(objective(params, part, key, unconstrained)[0]) for part, key in zip(parts, keys, strict=True)]
        state, metrics = step(state, batch)
        assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-4)
        means.append(np.mean(losses))
    assert abs(means[0] - means[1]) > 1e-3


def _shapes(plan, size):
    sharding = parallel.batch_sharding(plan.mesh)
    shapes = {"image": ((size, 8, 8, 3), "uint8"), "label": ((size,), "int32")}
    return {name: jax.ShapeDtypeStruct(*leaf, sharding=sharding) for name, leaf in shapes.items()}


def _collectives(lowered):
    text = lowered.compile().as_text()
    found = re.findall(r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(", text)
    return {kind: found.count(kind) for kind in sorted(set(found))}


def _mixing(plan):
    """`mix` alone on the plan's mesh."""
    sharding, train = parallel.batch_sharding(plan.mesh), plan.settings.train
    constrain = parallel.constrain_on(plan.mesh)
    return jax.jit(
        lambda batch, key: mix(batch, key, train, plan.model.classes, constrain),
        in_shardings=(sharding, parallel.replicated(plan.mesh)),
        out_shardings={"image": sharding, "label": None},
    )


MESHES = [{"data": 8}, {"data": 1, "fsdp": 8}, {"replica": 2, "data": 1, "fsdp": 2, "tensor": 2}]


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_partners_on_one_device_need_no_collective(tiny_run, mesh):
    plan = _plan(tiny_run, mesh=mesh, train={**BOTH, "mix_per_example": True})
    shapes = _shapes(plan, 2 * parallel.batch_parallelism(plan.mesh))
    assert _collectives(_mixing(plan).lower(shapes, jax.random.key(0))) == {}


def test_one_row_a_device_is_exchanged_with_one_neighbour(tiny_run):
    """Nothing else gives it a partner; the batch is not gathered."""
    plan = _plan(tiny_run, train={**BOTH, "mix_per_example": True})
    found = _collectives(_mixing(plan).lower(_shapes(plan, 8), jax.random.key(0)))
    assert found == {"collective-permute": 2}  # images and labels


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_every_mesh_mixes_alike(tiny_run, mesh):
    """Eight rows: partners lie on different devices of the first two meshes, and on the same of the third."""
    plan = _plan(tiny_run, mesh=mesh, train={**BOTH, "mix_per_example": True})
    batch = examples(8, 8, 8)
    found = _mixing(plan)(jax.device_put(batch, parallel.batch_sharding(plan.mesh)), jax.random.key(1))
    wanted = jax.jit(mix, static_argnums=(2, 3, 4))(
        batch, jax.random.key(1), plan.settings.train, plan.model.classes, unconstrained
    )
    for name in batch:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)


@pytest.mark.long
def test_a_mixed_step_has_the_collectives_of_an_unmixed_one(tiny_run):
    options = {"batch_size": 32, "micro_batches": 2, "mix_per_example": True}
    plain, found = (
        _collectives(plan.train_step().lower(plan.state, _shapes(plan, 32)))
        for plan in (_plan(tiny_run, train={**options, **mixing}) for mixing in ({}, BOTH))
    )
    assert plain["all-reduce"] > 0
    assert found == plain


# The run.


def _recorded(workdir):
    return {r["step"]: r["loss"] for r in read_metrics(workdir / METRICS_FILE) if "loss" in r}


@pytest.mark.long
def test_a_mixed_run_that_is_resumed_is_bit_identical(tiny_run, tmp_path):
    settings = tiny_run(train={"duration": "8 steps", "micro_batches": 2, **BOTH})
    train(settings, tmp_path / "unconstrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.StopSignal, "requested", lambda _, step: step == 4)
        with pytest.raises(Stopped):
            train(settings, tmp_path / "w")
    assert sorted(_recorded(tmp_path / "w")) == [1, 2, 3, 4]
    train(settings, tmp_path / "w")
    assert _recorded(tmp_path / "w") == _recorded(tmp_path / "unconstrained")
    assert sorted(_recorded(tmp_path / "w")) == list(range(1, 9))


@pytest.mark.long
def test_evaluation_is_not_mixed(tiny_run, tmp_path):
    """With a learning rate of 0 the run tests the parameters it started with."""
    settings = tiny_run(schedule={"learning_rate": 0.0}, train=BOTH)
    found = train(settings, tmp_path / "w").evaluation
    plan = preflight(settings)
    params = create_state(plan.model, plan.optimizer, plan.state, settings.seed)["params"]
    assert found == plan.evaluations["eval"].evaluator.run(params)


# Settings.


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"mixup": -0.1}, "mixup = -0.1: must be finite and not negative"),
        ({"cutmix": float("inf")}, "cutmix = inf: must be finite"),
        ({"mix_probability": 1.1}, "mix_probability = 1.1: must be between 0 and 1"),
        ({"mix_switch": -1.0}, "mix_switch = -1.0: must be between 0 and 1"),
        ({"mixup": 0.2, "batch_size": 7}, "batch_size = 7: mixup and cutmix mix pairs: must be a multiple of 2"),
        ({"cutmix": 1.0, "batch_size": 12, "micro_batches": 4}, r"must be a multiple of 8 \(2 x 4 micro-batches\)"),
    ],
)
def test_impossible_settings_are_refused(settings, complaint):
    with pytest.raises(BadSetting, match=complaint):
        TrainSettings(**settings)


def test_odd_batches_are_fine_without_mixing():
    assert TrainSettings(batch_size=7).batch_size == 7
