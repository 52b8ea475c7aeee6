"""timm, both ways: our npz files and folders in its models, and its folders in ours, with the same logits."""

import numpy as np
import pytest

from vit_jax.checkpoint import export_npz, load
from vit_jax.checkpoint.folders import export_timm
from vit_jax.checkpoint.layouts import timm as layout
from vit_jax.errors import UserError

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from PIL import Image  # noqa: E402
from timm.layers import StdConv2d, StdConv2dSame  # noqa: E402
from timm.models import save_for_hf  # noqa: E402

pytestmark = pytest.mark.interop

NAMES = {
    "Ti/16": "vit_tiny_patch16_224",
    "S/32": "vit_small_patch32_224",
    "B/16": "vit_base_patch16_224",
    "L/16": "vit_large_patch16_224",
    "R50+B/16": "vit_base_r50_s16_224",
    "R26+S/32": "vit_small_r26_s32_224",
    "R+Ti/16": "vit_tiny_r_s16_p8_224",
    "R50x1": "resnetv2_50x1_bit",
    "R101x1": "resnetv2_101x1_bit",
}
# Relative. In trunks of 50 and more convolutions float32 itself is off by up to 2e-5 of double precision. timm's
# epsilons do the rest, see `with_our_epsilons`; small random images feel them most.
CLOSE, EXACT_TRUNK, TRUNK = 1e-5, 5e-5, 1e-3


class ExactStdConv(StdConv2dSame):
    """With the epsilon where the released hybrids have it: beside the standard deviation."""

    def forward(self, x):
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / (variance.sqrt() + 1e-5)
        x = timm.layers.padding.pad_same(x, self.kernel_size, self.stride) if self.same_pad else x
        return torch.nn.functional.conv2d(x, weight, None, self.stride, self.padding)


def with_our_epsilons(module):
    for part in module.modules():
        if isinstance(part, StdConv2dSame):
            part.__class__ = ExactStdConv
        elif isinstance(part, StdConv2d):
            part.eps = 1e-10
    hybrid = any(isinstance(part, ExactStdConv) for part in module.modules())
    for part in module.modules():
        if isinstance(part, torch.nn.GroupNorm) and hybrid:
            part.eps = 1e-6
    return module


@pytest.fixture(params=NAMES)
def example(request, make_model, random_params, images, ours):
    """(variant, model, params, images, our logits)."""
    sizes = {
        "S/32": (64, 32),
        "R26+S/32": (64, 64),
        "R101x1": (96, 64),
        "R+Ti/16": (64, 32),
        "R50x1": (64, 48),
        "R50+B/16": (48, 64),
    }
    model = make_model(request.param, sizes.get(request.param, (32, 32)))
    params, pixels = random_params(model), images(model)
    return request.param, model, params, pixels, ours(model, params, pixels)


def test_timm_and_transformers_read_what_we_write(example, tmp_path, describe, theirs, assert_close):
    variant, model, params, pixels, wanted = example
    limit, exact = (TRUNK, EXACT_TRUNK) if "R" in variant else (CLOSE, CLOSE)
    options = {"img_size": model.image_size, "depth": 2, "act_layer": "gelu_tanh"} if "/" in variant else {}
    export_npz(params, describe(model), tmp_path / "model.npz")
    npz = timm.create_model(NAMES[variant], num_classes=10, checkpoint_path=str(tmp_path / "model.npz"), **options)
    assert_close(f"{variant} npz", theirs(npz, pixels), wanted, limit)
    if "R" in variant:
        assert_close(f"{variant} npz, our epsilons", theirs(with_our_epsilons(npz), pixels), wanted, exact)

    files = export_timm(params, describe(model), tmp_path / "folder")
    assert [file.name for file in files] == ["README.md", "config.json", "model.safetensors", "preprocessing.json"]
    folder = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    assert folder.state_dict().keys() == npz.state_dict().keys()
    assert_close(f"{variant} folder", theirs(with_our_epsilons(folder), pixels), wanted, exact)

    transformers = pytest.importorskip("transformers")
    wrapped, report = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path / "folder", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert wrapped.config.id2label[3] == "kind 3"
    assert_close(f"{variant} wrapped", theirs(wrapped, pixels), wanted, limit)


@pytest.mark.parametrize(
    ("variant", "size", "options"),
    [
        ("Ti/16", (48, 32), {"pool": "gap", "registers": 3, "qkv_bias": False, "gelu": "erf", "layer_scale": 0.3}),
        ("Ti/16", (32, 32), {"pool": "map", "registers": 2, "qkv_bias": False, "posemb": "sincos_2d"}),
        ("Ti/16", (40, 35), {"registers": 2, "qk_norm": True, "posemb": "learned_2d", "patch": 8}),
        ("Ti/16", (32, 32), {"width": 120, "heads": 5, "mlp_dim": 301, "depth": 3, "posemb": "none", "channels": 1}),
        ("Ti/16", (32, 32), {"classes": 0}),
        ("R+Ti/16", (64, 64), {"pool": "gap", "channels": 1, "patch": 4}),
        ("R50x1", (48, 48), {"classes": 0}),
    ],
)
def test_timm_builds_what_we_sweep(
    variant, size, options, tmp_path, make_model, random_params, describe, images, ours, theirs, assert_close
):
    model = make_model(variant, size, **options)
    params, pixels = random_params(model), images(model)
    export_timm(params, describe(model), tmp_path / "folder")
    module = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    wanted = ours(model, params, pixels, "logits" if model.classes else "pre_logits")
    limit = EXACT_TRUNK if "R" in variant else CLOSE
    assert_close(f"{variant} {options}", theirs(with_our_epsilons(module), pixels), wanted, limit)


def test_timm_prepares_images_as_we_do(tmp_path, make_model, random_params, describe):
    model = make_model("Ti/16", (32, 32))
    export_timm(random_params(model), describe(model, "decode|resize_small(1.25)|central_crop"), tmp_path / "folder")
    module = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(module))
    # The gray value is the column's number, so that the crop shows what was kept of the resized image.
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :], 50, axis=0)
    found = prepare(Image.fromarray(np.stack([ramp] * 3, -1))).numpy()
    assert found.shape == (3, 32, 32)
    # 100 x 50 becomes 80 x 40; the middle 32 columns are those around value 49.5.
    columns = (24 + np.arange(32) + 0.5) * 100 / 80 - 0.5
    np.testing.assert_allclose(found[0, 16], columns / 127.5 - 1, atol=1.01 / 127.5)


# Architecture and arguments of create_model.
SAVED = [
    ("vit_tiny_patch16_224", {}),
    ("vit_small_patch32_224", {"act_layer": "gelu_tanh", "qk_norm": True, "img_size": (64, 32)}),
    ("deit_tiny_patch16_224", {}),  # ImageNet's mean and standard deviation
    ("deit3_small_patch16_224", {}),  # LayerScale, positions of the patches alone
    ("vit_small_patch14_reg4_dinov2", {"img_size": 42}),  # registers, likewise
    ("vit_tiny_patch16_224", {"reg_tokens": 3}),  # registers with positions
    ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg", "fc_norm": False, "qkv_bias": False}),
    ("vit_base_patch16_siglip_224", {"embed_dim": 192}),  # attention pooling, still 12 heads
    ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "map", "qkv_bias": False, "reg_tokens": 1}),
    ("vit_tiny_patch16_224", {"pos_embed": "none", "num_classes": 0}),
    ("vit_tiny_r_s16_p8_224", {"img_size": 64}),
    ("vit_small_r26_s32_224", {"img_size": 64}),
    ("vit_base_r50_s16_224", {"embed_dim": 96, "num_heads": 4}),
    ("resnetv2_50x1_bit", {}),
]


@pytest.mark.parametrize(("name", "options"), SAVED)
def test_we_read_what_timm_saves(name, options, tmp_path, randomize, images, ours, theirs, assert_close):
    torch.manual_seed(0)
    options = {"num_classes": 7, **options}
    if name.startswith(("vit", "deit")):
        options = {"img_size": 32, "depth": 2, **options}
    module = randomize(timm.create_model(name, **options))
    data = {} if name.startswith(("vit", "deit")) else {"input_size": (3, 48, 48)}
    save_for_hf(module, tmp_path, safe_serialization=True, data_config=data)
    weights = load(tmp_path)
    model = weights.metadata.model
    pixels = images(model)
    about = module.pretrained_cfg
    mean, std = (np.asarray(about[key], np.float32) for key in ("mean", "std"))
    wanted = theirs(with_our_epsilons(module), ((pixels + 1) / 2 - mean) / std)
    found = ours(model, weights.params, pixels, "logits" if model.classes else "pre_logits")
    assert weights.layout == "timm"
    limit = EXACT_TRUNK if "_r" in name or name.startswith("resnet") else CLOSE
    assert_close(f"{name} {options}", found, wanted, limit)


def test_our_hints_are_what_timm_builds():
    """For every architecture that we take, without arguments: heads, GELU, epsilon, pooling, kind of block."""
    taken = []
    modules = ("vision_transformer", "vision_transformer_hybrid", "deit")
    for name in [name for module in modules for name in timm.list_models(module=module)]:
        with torch.device("meta"):
            try:
                module = timm.create_model(name, depth=1)
            except (NotImplementedError, RuntimeError, TypeError):  # hybrids run their trunk to learn its size
                continue
        arrays = {key: np.broadcast_to(np.float32(0), value.shape) for key, value in module.state_dict().items()}
        config = {"architecture": name, "pretrained_cfg": {"input_size": module.pretrained_cfg["input_size"]}}
        try:
            canonical, _ = layout.canonical_vit(arrays, config)
        except (UserError, StopIteration):
            continue
        dense = [canonical.get(f"blocks.0.mlp.fc{n}.weight", np.zeros((1, n))).shape for n in (1, 2)]
        if "norm.weight" not in canonical or dense[0] != dense[1][::-1]:
            continue  # refused later, since arrays are missing or, with a gated MLP, of another shape
        block, hints = module.blocks[0], layout.hints_vit(canonical, config)
        found = (block.attn.num_heads, "tanh" if "Tanh" in type(block.mlp.act).__name__ else "erf", block.norm1.eps)
        assert (hints.settings["heads"], hints.settings["gelu"], 1e-6) == found, name
        kinds = [type(part).__name__ for part in (block, block.attn, block.mlp, block.norm1, module.norm)]
        assert kinds == ["Block", "Attention", "Mlp", "LayerNorm", "LayerNorm"], name
        assert not module.pool_include_prefix, name
        pool = "map" if "attn_pool.latent" in canonical else "token" if "cls_token" in canonical else "avg"
        assert module.global_pool == pool, name
        taken.append(name)
    print(f"{len(taken)} architectures")
    assert len(taken) > 60
    assert "vit_base_patch16_224" in taken
    assert "vit_base_patch16_rpn_224" not in taken
