"""Trunks: published sizes, both versions against plain NumPy, the same numbers whatever way they are run."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_jax.models.layers import Constrain, unconstrained
from vit_jax.models.resnet import (
    GroupNorm,
    StdConv,
    Trunk,
    group_norm,
    max_pool,
    standardized,
    trunk_channels,
    trunk_grid,
)
from vit_jax.models.variants import TrunkShape
from vit_jax.trees import named_leaves, nested

from .elsewhere import Elsewhere

FLOAT32, BFLOAT16 = jnp.dtype("float32"), jnp.dtype("bfloat16")


def abstract(shape: TrunkShape, dtype: jnp.dtype = FLOAT32) -> tuple[nnx.GraphDef, dict[str, jax.ShapeDtypeStruct]]:
    """(graph, {name: shape and dtype of the parameter}) without computing any."""
    graph, params = nnx.split(nnx.eval_shape(lambda: Trunk(shape, 3, dtype, nnx.Rngs(params=0))))
    return graph, named_leaves(nnx.to_pure_dict(params))


def random_params(shape: TrunkShape, kernel_scale: float = 1.0) -> dict[str, np.ndarray]:
    """Values by name that make every parameter matter."""
    random = np.random.default_rng(0)
    params = {}
    for name, leaf in abstract(shape)[1].items():
        mean, deviation = {"kernel": (0.5, 1.0), "scale": (1.0, 0.3), "bias": (0.0, 0.3)}[name.rsplit("/", 1)[1]]
        values = random.normal(mean, deviation, leaf.shape)
        params[name] = (values * (kernel_scale if name.endswith("kernel") else 1.0)).astype(np.float32)
    return params


def fresh_params(shape: TrunkShape) -> dict[str, np.ndarray]:
    """Values by name as a new trunk has them."""

    @jax.jit
    def init():
        return nnx.to_pure_dict(nnx.split(Trunk(shape, 3, FLOAT32, nnx.Rngs(params=0)))[1])

    return named_leaves(jax.device_get(init()))


def random_images(height: int, width: int, amplitude: float = 1.0) -> np.ndarray:
    return np.random.default_rng(1).uniform(-amplitude, amplitude, (2, height, width, 3)).astype(np.float32)


def outputs_of(
    shape: TrunkShape,
    params: dict[str, np.ndarray],
    images: np.ndarray,
    constrain: Constrain | None = None,
    *,
    dtype: jnp.dtype = FLOAT32,
    scan: bool = True,
) -> tuple[jax.Array, list[jax.Array]]:
    """The trunk's result, and the outputs of its root and units."""
    graph, _ = abstract(shape, dtype)

    @jax.jit
    def call(params, images):
        outputs: list[jax.Array] = []
        return nnx.merge(graph, params)(
            images, constrain or Elsewhere("tpu"), scan=scan, remat="dots", outputs=outputs
        ), outputs

    return call(nested(params), images)


# Sizes. The counts are published: the ResNets' without heads, the hybrids' with their encoders.


@pytest.mark.parametrize(
    ("units", "width", "count"),
    [
        ((3, 4, 6, 3), 1, 23_500_352),
        ((3, 4, 6, 3), 2, 93_891_712),
        ((3, 4, 6, 3), 3, 211_174_080),
        ((3, 4, 23, 3), 1, 42_492_480),
        ((3, 4, 23, 3), 3, 381_789_888),
        ((3, 8, 36, 3), 1, 58_136_128),
        ((3, 8, 36, 3), 2, 232_238_208),
        ((3, 8, 36, 3), 4, 928_340_224),
        ((3, 24, 36, 3), 3, 562_488_000),
    ],
)
def test_bit_trunks_have_the_published_number_of_parameters(units, width, count):
    shape = TrunkShape(units, width, 2)
    final_norm = 2 * trunk_channels(shape)
    assert sum(math.prod(leaf.shape) for leaf in abstract(shape)[1].values()) + final_norm == count


@pytest.mark.parametrize(
    ("units", "hybrid", "vit", "patch", "hybrid_patch", "embed", "fewer_tokens"),
    [
        ((3, 4, 9), 97_890_112, 85_798_656, 16, (1, 1024), 768, 0),  # R50+B/16 and B/16
        ((3, 4, 6, 3), 327_969_856, 305_510_400, 32, (1, 2048), 1024, 0),  # R50+L/32 and L/32
        ((2, 2, 2, 2), 36_046_912, 22_493_952, 32, (1, 2048), 384, 0),  # R26+S/32 and S/32
        ((), 6_337_704, 5_717_416, 16, (8, 64), 192, 196 - 49),  # R+Ti/16 and Ti/16, both with 1000 classes
    ],
)
def test_hybrid_trunks_are_what_hybrids_have_more_than_vits(
    units, hybrid, vit, patch, hybrid_patch, embed, fewer_tokens
):
    side, channels = hybrid_patch
    stems = patch**2 * 3 * embed - side**2 * channels * embed + fewer_tokens * embed
    shape = TrunkShape(units, 1, 1)
    assert sum(math.prod(leaf.shape) for leaf in abstract(shape)[1].values()) == hybrid - vit + stems
    assert trunk_channels(shape) == channels


def unit_shapes(version: int, channels: int, width: int) -> dict[str, tuple[int, ...]]:
    norms = [width, width, 4 * width] if version == 1 else [channels, width, width]
    return {
        "conv1/kernel": (1, 1, channels, width),
        "conv2/kernel": (3, 3, width, width),
        "conv3/kernel": (1, 1, width, 4 * width),
        **{f"norm{i}/{leaf}": (c,) for i, c in enumerate(norms, 1) for leaf in ("scale", "bias")},
    }


@pytest.mark.parametrize("version", [1, 2])
def test_parameters_have_their_documented_names_and_shapes(version):
    expected = {"root/kernel": (7, 7, 3, 128)}
    firsts = {"block1/unit1": (128, 128), "block2/unit1": (512, 256)}
    for stage, (channels, width) in firsts.items():
        expected |= {f"{stage}/{name}": shape for name, shape in unit_shapes(version, channels, width).items()}
        expected[f"{stage}/proj/kernel"] = (1, 1, channels, 4 * width)
    rest = unit_shapes(version, 1024, 256)
    expected |= {f"block2/units/{name}": (2, *shape) for name, shape in rest.items()}
    if version == 1:
        for norm, channels in {"root_norm": 128, "block1/unit1/proj_norm": 512, "block2/unit1/proj_norm": 1024}.items():
            expected |= {f"{norm}/scale": (channels,), f"{norm}/bias": (channels,)}
    leaves = abstract(TrunkShape((1, 3), 2, version), BFLOAT16)[1]
    assert {name: leaf.shape for name, leaf in leaves.items()} == expected
    assert {leaf.dtype for leaf in leaves.values()} == {FLOAT32}


@given(
    units=st.lists(st.integers(1, 2), max_size=4),
    width=st.integers(1, 3),
    version=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
)
@settings(max_examples=25, deadline=None)
def test_grid_and_channels_are_those_of_the_output(units, width, version, size):
    shape = TrunkShape(tuple(units), width, version)

    def call(images):
        return Trunk(shape, 3, FLOAT32, nnx.Rngs(params=0))(images, unconstrained, scan=True, remat="none")

    output = jax.eval_shape(call, jax.ShapeDtypeStruct((1, *size, 3), FLOAT32))
    assert output.shape == (1, *trunk_grid(shape, size), trunk_channels(shape))


# The reference: float64, loops over window positions, paddings written out.


def windows(x: np.ndarray, size: int, stride: int, margins: list[tuple[int, int]], margin: float) -> list:
    """One array (b, h', w', c) for each position in a window, row by row."""
    x = np.pad(x, [(0, 0), *margins, (0, 0)], constant_values=margin)
    rows, columns = ((length - size) // stride + 1 for length in x.shape[1:3])
    ends = stride * (rows - 1) + 1, stride * (columns - 1) + 1
    return [x[:, i : i + ends[0] : stride, j : j + ends[1] : stride] for i in range(size) for j in range(size)]


def same_margins(x: np.ndarray, size: int, stride: int) -> list[tuple[int, int]]:
    """What XLA's SAME adds to the two sides of each axis: the odd one at the end."""
    sums = [max(0, (math.ceil(n / stride) - 1) * stride + size - n) for n in x.shape[1:3]]
    return [(total // 2, total - total // 2) for total in sums]


class Reference:
    """One of the two trunks; `params` by name, stacked units with their leading axis."""

    def __init__(self, shape: TrunkShape, params: dict[str, np.ndarray]):
        self.shape = shape
        self.params = {name: value.astype(np.float64) for name, value in params.items()}

    def conv(self, x, params, name, stride=1):
        kernel = params[f"{name}/kernel"]
        size = kernel.shape[0]
        mean, deviation = kernel.mean((0, 1, 2)), kernel.std((0, 1, 2))
        if self.shape.version == 1:
            kernel, margins = (kernel - mean) / (deviation + 1e-5), same_margins(x, size, stride)
        else:
            kernel, margins = (kernel - mean) / np.sqrt(deviation**2 + 1e-10), [(size // 2, size // 2)] * 2
        taps = kernel.reshape(size * size, *kernel.shape[2:])
        return sum(window @ tap for window, tap in zip(windows(x, size, stride, margins, 0.0), taps, strict=True))

    def norm(self, x, params, name):
        groups = np.split(x, 32, axis=-1)
        mean = np.stack([group.mean((1, 2, 3)) for group in groups], -1).repeat(x.shape[-1] // 32, -1)[:, None, None]
        variance = np.stack([group.var((1, 2, 3)) for group in groups], -1).repeat(x.shape[-1] // 32, -1)[:, None, None]
        epsilon = 1e-6 if self.shape.version == 1 else 1e-5
        return (x - mean) / np.sqrt(variance + epsilon) * params[f"{name}/scale"] + params[f"{name}/bias"]

    def root(self, images):
        x = self.conv(images, self.params, "root", 2)
        if self.shape.version == 2:
            return np.max(windows(x, 3, 2, [(1, 1), (1, 1)], 0.0), axis=0)
        x = np.maximum(self.norm(x, self.params, "root_norm"), 0)
        return np.max(windows(x, 3, 2, same_margins(x, 3, 2), -np.inf), axis=0)

    def unit(self, x, params, stride):
        conv = lambda x, name, stride=1: self.conv(x, params, name, stride)  # noqa: E731
        norm = lambda x, name: self.norm(x, params, name)  # noqa: E731
        relu = lambda x: np.maximum(x, 0)  # noqa: E731
        projects = "proj/kernel" in params
        if self.shape.version == 1:
            y = relu(norm(conv(x, "conv1"), "norm1"))
            y = relu(norm(conv(y, "conv2", stride), "norm2"))
            y = norm(conv(y, "conv3"), "norm3")
            return relu(y + (norm(conv(x, "proj", stride), "proj_norm") if projects else x))
        first = relu(norm(x, "norm1"))
        y = relu(norm(conv(first, "conv1"), "norm2"))
        y = relu(norm(conv(y, "conv2", stride), "norm3"))
        return conv(y, "conv3") + (conv(first, "proj", stride) if projects else x)

    def outputs(self, images):
        """The root's output, then each unit's."""
        found = [self.root(images.astype(np.float64))]
        for b, depth in enumerate(self.shape.units, 1):
            for u in range(depth):
                prefix = f"block{b}/unit1/" if u == 0 else f"block{b}/units/"
                params = {n.removeprefix(prefix): v for n, v in self.params.items() if n.startswith(prefix)}
                if u > 0:
                    params = {name: value[u - 1] for name, value in params.items()}
                found.append(self.unit(found[-1], params, 2 if b > 1 and u == 0 else 1))
        return found


# In "faint" ones the epsilons decide: images and kernels have deviations like theirs.
FAINT = {"amplitude": 1e-3, "kernel_scale": 1e-5}


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("size", [(16, 26), (21, 31)])
@pytest.mark.parametrize("faint", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_trunk_agrees_with_numpy_at_the_root_and_after_every_unit(version, faint, size, scan):
    shape = TrunkShape((1, 3), 1, version)
    params = random_params(shape, FAINT["kernel_scale"] if faint else 1.0)
    images = random_images(*size, FAINT["amplitude"] if faint else 1.0)
    result, outputs = outputs_of(shape, params, images, scan=scan)
    expected = Reference(shape, params).outputs(images)
    assert len(outputs) == len(expected) == 5
    for i, (output, value) in enumerate(zip(outputs, expected, strict=True)):
        np.testing.assert_allclose(output, value, rtol=0, atol=2e-5 * np.abs(value).max(), err_msg=f"output {i}")
    # The same value, which XLA may compute twice in different loops.
    np.testing.assert_allclose(result, outputs[-1], rtol=0, atol=1e-6 * np.abs(result).max())


def test_a_trunk_without_stages_is_its_root():
    shape = TrunkShape((), 1, 1)
    params, images = random_params(shape), random_images(19, 12)
    result, outputs = outputs_of(shape, params, images)
    np.testing.assert_allclose(result, Reference(shape, params).root(images.astype(np.float64)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(result, outputs[0])
    assert len(outputs) == 1


# Details.


@pytest.mark.parametrize(
    ("version", "row", "expected"),
    [
        (1, [-3, -2, -5, -4], [-2, -4]),  # the even size has its margin at the end only
        (1, [-3, -1, -2, -5, -4], [-1, -1, -4]),
        (2, [-3, -2, -5, -4], [0, -2]),
        (2, [-3, -1, -2, -5, -4], [0, -1, 0]),
    ],
)
def test_max_pooling_counts_the_margin_in_version_2_only(version, row, expected):
    along = jnp.broadcast_to(jnp.array(row, FLOAT32)[None, None, :, None], (2, 5, len(row), 1))
    np.testing.assert_array_equal(max_pool(along, version)[0, 1, :, 0], expected)
    across = along.transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(max_pool(across, version)[1, :, 1, 0], expected)


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16])
def test_group_norm_survives_a_large_mean(dtype):
    x = np.random.default_rng(0).normal(1000.0, 8.0, (2, 6, 5, 64)).astype(np.float32)
    x = jnp.asarray(x, dtype)
    values = np.asarray(x, np.float64).reshape(2, 30, 32, 2)
    normal = (values - values.mean((1, 3), keepdims=True)) / np.sqrt(values.var((1, 3), keepdims=True) + 1e-5)
    y = GroupNorm(64, 1e-5, dtype)(x)
    assert y.dtype == dtype
    tolerance = 1e-4 if dtype == FLOAT32 else 2e-2
    np.testing.assert_allclose(np.asarray(y, np.float64), normal.reshape(x.shape), atol=tolerance)


def test_group_norm_has_the_epsilon_it_is_given():
    x = jnp.where(jnp.arange(4).reshape(1, 2, 2, 1) % 2, 1e-2, -1e-2) * jnp.ones(32)
    for epsilon, expected in ((0.0, 1.0), (1e-4, 0.5**0.5), (3e-4, 0.5)):
        np.testing.assert_allclose(abs(GroupNorm(32, epsilon, FLOAT32)(x)), expected, rtol=1e-5)


@pytest.mark.parametrize(("version", "expected"), [(1, 0.5), (2, 0.5**0.5)])
def test_standardisation_has_its_versions_epsilon(version, expected):
    kernel = jnp.array([1e-5, -1e-5] * 8).reshape(2, 2, 4, 1)
    np.testing.assert_allclose(abs(standardized(kernel, version)), expected, rtol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
def test_a_filter_of_equal_weights_has_a_finite_gradient(version):
    gradient = jax.grad(lambda kernel: standardized(kernel, version)[0, 0].sum())(jnp.full((3, 3, 4, 2), 0.25))
    assert jnp.isfinite(gradient).all()


def test_kernels_are_standardised_in_float32_before_they_are_cast():
    # In bfloat16 100.0 + 0.01 is 100.0: nothing would be left to standardise.
    kernel = (100.0 + 0.01 * np.random.default_rng(0).normal(size=(1, 1, 32, 4))).astype(np.float32)
    conv = StdConv(1, 32, 4, version=2, dtype=BFLOAT16, rngs=nnx.Rngs(params=0))
    conv.kernel[...] = jnp.asarray(kernel)
    exact = kernel.astype(np.float64)
    exact = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    one_hot = jnp.eye(32).reshape(1, 1, 32, 32)  # reads the kernel out
    result = conv(one_hot)
    assert result.dtype == BFLOAT16
    np.testing.assert_allclose(np.asarray(result, np.float64)[0, 0], exact[0, 0], atol=2e-2)


def test_fresh_version_1_units_are_their_shortcuts():
    shape = TrunkShape((3,), 1, 1)
    _, (_, unit1, unit2, unit3) = outputs_of(shape, fresh_params(shape), random_images(8, 8))
    assert float(abs(unit1).max()) > 0.1
    np.testing.assert_array_equal(unit2, unit1)
    np.testing.assert_array_equal(unit3, unit1)


@pytest.mark.parametrize("version", [1, 2])
def test_fresh_parameters(version):
    params = fresh_params(TrunkShape((3,), 1, version))
    for name, value in params.items():
        if name.endswith("kernel"):
            fan_in = math.prod(value.shape[-4:-1])
            assert float(value.std()) == pytest.approx(fan_in**-0.5, rel=0.1), name
        else:
            last_of_unit = version == 1 and name.endswith("norm3/scale")
            assert (value == (1.0 if name.endswith("scale") and not last_of_unit else 0.0)).all(), name
    first, second = params["block1/units/conv1/kernel"]
    assert (first != second).all()


@pytest.mark.parametrize("version", [1, 2])
def test_scan_and_remat_change_neither_loss_nor_gradient(version):
    shape = TrunkShape((3,), 1, version)
    graph, _ = abstract(shape)
    images = random_images(8, 12)

    def loss_and_gradient(scan: bool, remat: str):
        def loss(params):
            return (nnx.merge(graph, params)(images, Elsewhere("tpu"), scan=scan, remat=remat) ** 2).mean()

        loss, gradient = jax.jit(jax.value_and_grad(loss))(nested(random_params(shape)))
        return float(loss), named_leaves(gradient)

    plain_loss, plain = loss_and_gradient(False, "none")
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in plain.values())
    for way in [(True, "none"), (True, "dots"), (True, "full")]:
        loss, gradient = loss_and_gradient(*way)
        assert loss == pytest.approx(plain_loss, rel=1e-5), way
        for name, leaf in gradient.items():
            tolerance = 1e-4 * np.abs(plain[name]).max()
            np.testing.assert_allclose(leaf, plain[name], rtol=0, atol=tolerance, err_msg=f"{way} {name}")


@pytest.mark.parametrize("constrain", [unconstrained, Elsewhere("tpu")])
def test_units_are_looped_over_on_tpus_alone(constrain):
    """XLA for CPUs runs convolutions within a loop some 15 times as slowly as outside."""
    shape = TrunkShape((3,), 1, 2)
    graph, params = abstract(shape)
    program = jax.make_jaxpr(lambda p, x: nnx.merge(graph, p)(x, constrain, scan=True, remat="none"))
    loops = [eqn for eqn in program(params, random_images(8, 8)).eqns if eqn.primitive.name == "scan"]
    assert len(loops) == (constrain.platform == "tpu")


@pytest.mark.parametrize("version", [1, 2])
def test_bfloat16_stays_close_to_float32(version):
    shape = TrunkShape((1, 2), 1, version)
    params, images = random_params(shape), random_images(24, 24)
    _, outputs = outputs_of(shape, params, images, dtype=BFLOAT16)
    assert {output.dtype for output in outputs} == {BFLOAT16}
    for output, exact in zip(outputs, Reference(shape, params).outputs(images), strict=True):
        error = np.asarray(output, np.float64) - exact
        assert np.sqrt((error**2).mean()) < 0.03 * exact.std()


@pytest.mark.parametrize("version", [1, 2])
def test_root_and_units_are_constrained_by_name(version):
    seen = []

    def constrain(x, names):
        seen.append((x.shape, names))
        return x

    shape = TrunkShape((1, 2), 1, version)
    _, outputs = outputs_of(shape, random_params(shape), random_images(8, 8), constrain, scan=False)
    assert seen == [(output.shape, ("batch", "height", "width", "channels")) for output in outputs]
    assert len(seen) == 4


@pytest.mark.parametrize("scan", [True, False])
def test_a_constraint_is_part_of_the_computation(scan):
    shape = TrunkShape((2,), 1, 2)

    class Nothing(Elsewhere):
        def __call__(self, x, names):
            return x * 0.0

    _, outputs = outputs_of(shape, random_params(shape), random_images(8, 8), Nothing("tpu"), scan=scan)
    assert [float(abs(output).max()) for output in outputs] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels", [32, 96])
def test_the_gradients_of_group_norm_are_those_of_its_formula(channels, dtype):
    random = np.random.default_rng(0)
    x, gradient = (jnp.asarray(random.normal(3, 2, (2, 5, 4, channels)), dtype) for _ in range(2))
    scale, bias = (jnp.asarray(random.normal(1, 0.3, channels), jnp.float32) for _ in range(2))

    def formula(x, scale, bias):
        groups = x.astype(jnp.float32).reshape(2, 20, 32, -1)
        deviation = jnp.sqrt(groups.var((1, 3), keepdims=True) + 1e-5)
        normal = (groups - groups.mean((1, 3), keepdims=True)) / deviation
        return (normal.reshape(x.shape) * scale + bias).astype(x.dtype)

    found, expected = (
        jax.vjp(function, x, scale, bias)[1](gradient)
        for function in (lambda x, scale, bias: group_norm(x, scale, bias, 1e-5), formula)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        limit = 5e-6 if ours.dtype == jnp.float32 else 2**-8
        np.testing.assert_allclose(
            np.float32(ours), np.float32(theirs), rtol=limit, atol=limit * np.abs(np.float32(theirs)).max()
        )
