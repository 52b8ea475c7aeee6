"""Updates against the formulas, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax.errors import UserError
from vit_jax.train import make_optimizer
from vit_jax.train.optimizer import apply_update
from vit_jax.train.settings import OptimizerSettings
from vit_jax.trees import named_leaves, nested

RATE = 0.1
NAMES = ["cls", "head/bias", "head/kernel"]
SAME = dict.fromkeys(NAMES, np.float32(1))


@pytest.fixture
def tree():
    rng = np.random.default_rng(0)
    return {"head": {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}, "cls": rng.normal(size=(1, 5))}


def _as_float32(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def _run(settings, params, gradients):
    optimizer = make_optimizer(settings, NAMES)
    params = _as_float32(params)
    state = optimizer.init(params)
    for gradient in gradients:
        update, state = optimizer.update(_as_float32(gradient), state, params)
        params = apply_update(params, update, jnp.float32(RATE), SAME)
    return params, state


def _gradients(tree, number=4):
    rng = np.random.default_rng(1)
    return [jax.tree.map(lambda x: rng.normal(size=x.shape), tree) for _ in range(number)]


def _expect(found, wanted):
    jax.tree.map(lambda f, w: np.testing.assert_allclose(f, w, rtol=2e-5, atol=2e-6), found, wanted)


def _adam_by_hand(p, gradients, decay):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        update = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = p - RATE * (update + decay * p)
    return p


def test_adamw_decays_kernels_only_and_decoupled(tree):
    gradients = _gradients(tree)
    found, _ = _run(OptimizerSettings(name="adamw", weight_decay=0.3), tree, gradients)
    wanted = {
        "head": {
            "kernel": _adam_by_hand(tree["head"]["kernel"], [g["head"]["kernel"] for g in gradients], 0.3),
            "bias": _adam_by_hand(tree["head"]["bias"], [g["head"]["bias"] for g in gradients], 0.0),
        },
        "cls": _adam_by_hand(tree["cls"], [g["cls"] for g in gradients], 0.0),
    }
    _expect(found, wanted)


def test_decay_rules_give_each_parameter_its_multiplier(tree):
    rules = (("head/kernel", 10.0), ("cls", 1.0), (".*", 0.0))
    zero = [jax.tree.map(np.zeros_like, tree)]
    settings = OptimizerSettings(name="sgd", weight_decay=0.05, weight_decay_rules=rules)
    found, _ = _run(settings, tree, zero)
    _expect(found["head"]["kernel"], tree["head"]["kernel"] * (1 - RATE * 0.5))
    _expect(found["cls"], tree["cls"] * (1 - RATE * 0.05))
    _expect(found["head"]["bias"], tree["head"]["bias"])


def test_sgd_has_heavy_ball_momentum(tree):
    gradients = _gradients(tree)
    found, _ = _run(OptimizerSettings(name="sgd", momentum=0.8), tree, gradients)
    p, velocity = tree["cls"], 0.0
    for g in gradients:
        velocity = 0.8 * velocity + g["cls"]
        p = p - RATE * velocity
    _expect(found["cls"], p)


def test_gradients_are_clipped_by_their_global_norm(tree):
    gradient = _gradients(tree, 1)[0]
    norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
    found, _ = _run(OptimizerSettings(name="sgd", momentum=0.0, clip_norm=0.5), tree, [gradient])
    _expect(found, jax.tree.map(lambda p, g: p - RATE * g * 0.5 / norm, tree, gradient))


@pytest.mark.parametrize(("name", "item", "moment"), [("adamw", "adam", "mu"), ("sgd", "momentum", "trace")])
def test_first_moment_may_be_bfloat16_and_nothing_else_is(tree, name, item, moment):
    params, state = _run(OptimizerSettings(name=name, mu_dtype="bfloat16"), tree, _gradients(tree))
    small = getattr(state[item], moment)
    assert {leaf.dtype for leaf in jax.tree.leaves(small)} == {jnp.dtype("bfloat16")}
    others = [leaf.dtype for leaf in jax.tree.leaves((params, state)) if leaf.dtype != jnp.bfloat16]
    assert len(others) == len(jax.tree.leaves((params, state))) - 3
    assert jnp.float32 in others


def test_state_is_addressed_by_name(tree):
    _, state = _run(OptimizerSettings(name="adamw", weight_decay=0.1, clip_norm=1.0), tree, _gradients(tree, 1))
    assert set(state) == {"clip", "adam", "decay_1"}


def test_a_parameter_without_a_decay_rule_is_named():
    with pytest.raises(UserError, match=r"weight_decay_rules.*'cls'"):
        make_optimizer(OptimizerSettings(weight_decay_rules=((".*/kernel", 1.0),)), ["cls"])


def test_lion_moves_by_the_sign_of_its_momentum(tree):
    gradients = _gradients(tree, 3)
    found, _ = _run(OptimizerSettings(name="lion", beta1=0.9, beta2=0.99), tree, gradients)
    p, m = tree["cls"], 0.0
    for g in (g["cls"] for g in gradients):
        p = p - RATE * np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
    _expect(found["cls"], p)


def test_adafactor_factors_large_matrices():
    """One step: the first second moment is the outer product of row and column means over their mean, times 1."""
    random = np.random.default_rng(0)
    gradient = random.normal(size=(40, 48))
    params = {"head": {"kernel": np.zeros((40, 48))}}
    optimizer = make_optimizer(OptimizerSettings(name="adafactor", beta1=0.9), ["head/kernel"])
    state = optimizer.init(_as_float32(params))
    update, _ = optimizer.update(_as_float32({"head": {"kernel": gradient}}), state, _as_float32(params))
    square = gradient**2
    second = np.outer(square.mean(1), square.mean(0)) / square.mean()
    _expect(update["head"]["kernel"], 0.1 * gradient / np.sqrt(second))
    shapes = {leaf.shape for leaf in jax.tree.leaves(state["factored"])}
    assert {(40,), (48,)} <= shapes


def test_adafactors_decay_grows_up_to_beta2():
    """Second moments of what is no kernel are whole: beta2 at step t is 1 - (t + 1)^-0.8, at most beta2."""
    settings = OptimizerSettings(name="adafactor", beta1=0.0, beta2=0.5)
    optimizer = make_optimizer(settings, ["cls"])
    params = {"cls": jnp.zeros((1, 4))}
    state, second = optimizer.init(params), 0.0
    for step, gradient in enumerate(np.random.default_rng(0).normal(size=(4, 1, 4))):
        update, state = optimizer.update({"cls": jnp.asarray(gradient, jnp.float32)}, state, params)
        decay = min(1 - (step + 1.0) ** -0.8, 0.5)
        second = decay * second + (1 - decay) * gradient**2
        _expect(update["cls"], gradient / np.sqrt(second))


def test_adafactor_never_mixes_layers():
    """A stack of vectors is no matrix, however many layers it has."""
    names = ["blocks/norm1/scale", "blocks/mlp/dense1/kernel"]
    params = nested({names[0]: np.ones((40, 64)), names[1]: np.ones((40, 64, 48))})
    state = make_optimizer(OptimizerSettings(name="adafactor"), names).init(_as_float32(params))
    shapes = {name: leaf.shape for name, leaf in named_leaves(state["factored"]).items() if leaf.ndim > 1}
    assert sorted(shapes.values()) == [(40, 48), (40, 64), (40, 64)]
    assert [name for name in shapes if "/v/" in name and "norm1" in name]


def test_lamb_gives_each_layer_the_norm_of_its_parameter():
    """arXiv 1904.00962, algorithm 2: Adam and decay, then |p| / |update|, for each layer of a stack by itself."""
    random = np.random.default_rng(0)
    names = ["blocks/mlp/dense1/kernel", "head/kernel"]
    params = {names[0]: random.normal(size=(3, 4, 5)), names[1]: random.normal(size=(4, 2))}
    gradient = {name: random.normal(size=p.shape) for name, p in params.items()}
    optimizer = make_optimizer(OptimizerSettings(name="lamb", weight_decay=0.1), names)
    tree = _as_float32(nested(params))
    update, _ = optimizer.update(_as_float32(nested(gradient)), optimizer.init(tree), tree)
    for name, p in params.items():
        adam = gradient[name] / (np.abs(gradient[name]) + 1e-8) + 0.1 * p
        layers = zip(adam, p, strict=True) if name.startswith("blocks") else [(adam, p)]
        wanted = [u * np.linalg.norm(q) / np.linalg.norm(u) for u, q in layers]
        _expect(named_leaves(update)[name], np.stack(wanted) if name.startswith("blocks") else wanted[0])


def test_sharpness_aware_minimisation_takes_the_gradient_at_the_worst_point_near_by(tree):
    """arXiv 2010.01412: the gradient at p + rho * g / |g|, over all parameters together; then as without."""
    curvature = jax.tree.map(lambda x: 1.0 + x**2, tree)  # of sum(c * p^2) / 2, whose gradient is c * p

    def gradient(params):
        return jax.tree.map(lambda c, p: c * p, _as_float32(curvature), params)

    optimizer = make_optimizer(OptimizerSettings(name="sgd", momentum=0.0, sam=0.5), NAMES)
    params = _as_float32(tree)
    state = optimizer.init(params)
    update, _ = optimizer.update(gradient(params), state, params, grad_fn=lambda p, _: gradient(p))
    norm = np.sqrt(sum((c * p) ** 2 for c, p in _pairs(curvature, tree)).sum())
    wanted = jax.tree.map(lambda c, p: c * (p + 0.5 * c * p / norm), curvature, tree)
    _expect(update, wanted)


def _pairs(a, b):
    """The leaves of two trees as one pair of flat arrays."""
    return [tuple(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (a, b))]


@pytest.mark.parametrize(
    ("name", "shape", "matrix"),
    [
        ("blocks/attn/query/kernel", (2, 6, 2, 3), (6, 6)),
        ("blocks/attn/out/kernel", (2, 2, 3, 6), (6, 6)),
        ("blocks/mlp/dense1/kernel", (2, 6, 24), (6, 24)),
        ("embedding/kernel", (2, 2, 3, 8), (12, 8)),
    ],
)
def test_muon_makes_each_layers_matrix_nearly_orthogonal(name, shape, matrix):
    gradient = nested({name: np.random.default_rng(0).normal(size=shape)})
    optimizer = make_optimizer(OptimizerSettings(name="muon", momentum=0.95), [name])
    state = optimizer.init(_as_float32(gradient))
    update, _ = optimizer.update(_as_float32(gradient), state, _as_float32(gradient))
    layers = np.asarray(named_leaves(update)[name]).reshape(-1, *matrix)
    for layer, given in zip(layers, named_leaves(gradient)[name].reshape(-1, *matrix), strict=True):
        values = np.linalg.svd(layer, compute_uv=False) / (0.2 * np.sqrt(max(matrix)))
        assert ((values > 0.5) & (values < 1.3)).all()  # what five Newton-Schulz steps promise
        assert (layer * given).sum() > 0  # an update goes along the gradient, the step subtracts it


def test_muon_leaves_the_head_and_vectors_to_adam_with_nesterov_momentum(tree):
    gradients = _gradients(tree, 1)
    found, _ = _run(OptimizerSettings(name="muon"), tree, gradients)
    nadam = optax.scale_by_adam(0.9, 0.999, nesterov=True)
    update, _ = nadam.update(gradients[0], nadam.init(gradients[0]))
    _expect(found, jax.tree.map(lambda p, u: p - RATE * u, tree, update))
