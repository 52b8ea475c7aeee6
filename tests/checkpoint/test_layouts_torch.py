"""timm's and Hugging Face's formats, both ways, without torch; `make interop` compares with the libraries."""

import json
import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from vit_jax.checkpoint import Metadata, folders, load
from vit_jax.checkpoint.foreign import interpret
from vit_jax.checkpoint.layouts import huggingface, pytorch, timm
from vit_jax.errors import UserError
from vit_jax.models import EncoderShape, Model, ModelSettings
from vit_jax.trees import named_leaves, nested

EXPORTS = {"timm": folders.export_timm, "hf": folders.export_huggingface}
TINY_HYBRID = {"depth": 2, "width": 32, "heads": 2, "mlp_dim": 48}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def random_params(model):
    random = np.random.default_rng(0)
    return nested({name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in model.shapes.items()})


def describe(model, eval_preprocess="decode|resize"):
    return Metadata(
        model, tuple(f"name {i}" for i in range(model.classes)), {"data": {"eval_preprocess": eval_preprocess}}
    )


def mu(size=(8, 12), classes=3, channels=3, variant="mu/4", **settings):
    return Model(ModelSettings(variant, **settings), size, channels, classes)


def written(tmp_path, model, form, **options):
    params = random_params(model)
    EXPORTS[form](params, describe(model, **options), tmp_path / "folder")
    return params, tmp_path / "folder"


def assert_same(found, wanted):
    found, wanted = named_leaves(found), named_leaves(wanted)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def logits(model, params):
    images = np.random.default_rng(1).uniform(-1, 1, (2, *model.image_size, model.channels)).astype(np.float32)
    return np.asarray(jax.jit(model.apply)(params, images)["logits"])


ROUND_TRIPS = [
    ("timm", {}),
    ("timm", {"size": (9, 14), "channels": 1, "depth": 3, "heads": 4, "mlp_dim": 45, "gelu": "erf"}),
    ("timm", {"registers": 2, "qk_norm": True, "layer_scale": 0.1, "classes": 0}),
    ("timm", {"pool": "gap", "registers": 3, "qkv_bias": False}),
    ("timm", {"pool": "map", "registers": 1}),
    ("timm", {"variant": "R50+mu/16", "size": (32, 48), **TINY_HYBRID}),
    ("timm", {"variant": "R26+mu/32", "size": (32, 33), "pool": "gap", **TINY_HYBRID}),
    ("timm", {"variant": "R+mu/16", "size": (32, 64), "channels": 1, **TINY_HYBRID}),
    ("timm", {"variant": "R50x1", "size": (32, 32), "channels": 1}),
    ("hf", {}),
    ("hf", {"size": (9, 14), "channels": 1, "depth": 3, "heads": 4, "mlp_dim": 45, "gelu": "erf"}),
    ("hf", {"qkv_bias": False, "norm_epsilon": 1e-12, "size": (8, 8)}),
    ("hf", {"classes": 0, "pre_logits": True}),
    ("hf", {"variant": "R50x1", "size": (24, 32), "trunk_units": (1, 3)}),
    ("hf", {"variant": "R50x1", "size": (32, 32), "trunk_units": (2,), "trunk_width": 2, "classes": 0}),
]


@pytest.mark.parametrize(("form", "options"), ROUND_TRIPS)
def test_what_is_written_is_read_back_unchanged(tmp_path, form, options):
    model = mu(**options)
    params, folder = written(tmp_path, model, form)
    weights = load(folder)
    assert_same(weights.params, params)
    found = weights.metadata.model
    assert found.settings.resolved == model.settings.resolved
    same = ("pooling", "registers", "gelu", "norm_epsilon", "pre_logits")
    assert [getattr(found.settings, name) for name in same] == [getattr(model.settings, name) for name in same]
    assert bool(found.settings.layer_scale) == bool(model.settings.layer_scale)
    assert (found.image_size, found.channels) == (model.image_size, model.channels)
    assert weights.metadata.label_names == tuple(f"name {i}" for i in range(model.classes))
    assert weights.metadata.config["data"]["eval_preprocess"] == "decode|resize"


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        ("timm", {"posemb": "learned_2d"}),
        ("timm", {"posemb": "sincos_2d", "pool": "map", "qkv_bias": False, "registers": 2}),
        ("timm", {"posemb": "none", "pool": "gap"}),
        ("hf", {"posemb": "sincos_2d"}),
        ("hf", {"posemb": "none"}),
    ],
)
def test_what_is_written_in_other_words_gives_the_same_logits(tmp_path, form, settings):
    model = mu(**settings)
    params, folder = written(tmp_path, model, form)
    weights = load(folder)
    assert weights.metadata.model.settings.posemb == "learned_1d"
    np.testing.assert_allclose(
        logits(weights.metadata.model, weights.params), logits(model, params), rtol=1e-5, atol=1e-5
    )


def test_timm_arrays_by_hand(tmp_path):
    model = mu(registers=2, pool="token", heads=4)
    params, folder = written(tmp_path, model, "timm")
    ours, theirs = named_leaves(params), load_file(folder / "model.safetensors")
    fused = theirs["blocks.0.attn.qkv.weight"]
    assert fused.shape == (96, 32)
    for j, part in enumerate(("query", "key", "value")):
        for head in range(4):
            for e in range(8):
                row = 32 * j + 8 * head + e
                np.testing.assert_array_equal(fused[row], ours[f"blocks/attn/{part}/kernel"][0, :, head, e])
                assert theirs["blocks.0.attn.qkv.bias"][row] == ours[f"blocks/attn/{part}/bias"][0, head, e]
    assert theirs["blocks.0.attn.proj.weight"][5, 8 * 3 + 1] == ours["blocks/attn/out/kernel"][0, 3, 1, 5]
    assert theirs["patch_embed.proj.weight"][7, 2, 1, 3] == ours["embedding/kernel"][1, 3, 2, 7]
    assert theirs["blocks.0.mlp.fc1.weight"][100, 9] == ours["blocks/mlp/dense1/kernel"][0, 9, 100]
    table = theirs["pos_embed"][0]
    np.testing.assert_array_equal(table[0], ours["pos_embedding"][0, 0])
    np.testing.assert_array_equal(table[1:3], 0)
    np.testing.assert_array_equal(table[3:], ours["pos_embedding"][0, 1:])
    assert {str(array.dtype) for array in theirs.values()} == {"float32"}


def test_trunk_arrays_by_hand(tmp_path):
    params, folder = written(tmp_path, mu(variant="R50x1", size=(32, 32), trunk_units=(1, 2)), "hf")
    ours, theirs = named_leaves(params), load_file(folder / "model.safetensors")
    kernel = theirs["bit.encoder.stages.1.layers.1.conv2.weight"]
    np.testing.assert_array_equal(kernel[3, 4], ours["trunk/block2/units/conv2/kernel"][0, :, :, 4, 3])
    assert theirs["bit.encoder.stages.1.layers.0.downsample.conv.weight"].shape == (512, 256, 1, 1)
    assert theirs["classifier.1.weight"].shape == (3, 512)


def test_timm_names_the_stem_of_a_trunk_without_stages_otherwise(tmp_path):
    _, folder = written(tmp_path, mu(variant="R+mu/16", size=(32, 32)), "timm")
    names = {name for name in load_file(folder / "model.safetensors") if "backbone" in name}
    assert names == {f"patch_embed.backbone.{rest}" for rest in ("conv.weight", "norm.weight", "norm.bias")}
    assert (
        json.loads((folder / "config.json").read_text())["pretrained_cfg"]["first_conv"] == "patch_embed.backbone.conv"
    )


def test_configs_say_what_the_model_is(tmp_path):
    _, folder = written(tmp_path, mu(size=(8, 12), pool="gap", gelu="erf", mlp_dim=100), "timm")
    config = json.loads((folder / "config.json").read_text())
    arguments = config["model_args"]
    assert config["architecture"] == "vit_base_patch16_224"
    assert (arguments["img_size"], arguments["patch_size"], arguments["act_layer"]) == ([8, 12], 4, "gelu")
    assert (arguments["class_token"], arguments["global_pool"], arguments["fc_norm"]) == (False, "avg", False)
    assert int(arguments["embed_dim"] * arguments["mlp_ratio"]) == 100
    assert config["pretrained_cfg"]["mean"] == config["pretrained_cfg"]["std"] == [0.5] * 3


@given(st.integers(1, 300), st.integers(1, 5000))
def test_timm_gets_the_hidden_size_from_its_ratio(quarter, mlp_dim):
    shape = EncoderShape(4 * quarter, 1, mlp_dim, 1)
    assert int(shape.width * folders._mlp_ratio(shape)) == mlp_dim


@given(st.integers(8, 1024), st.floats(1, 2))
def test_timm_resizes_to_the_side_that_we_do(side, ratio):
    metadata = describe(mu(size=(side, side)), f"decode|resize_small({ratio:.3f})|central_crop")
    crop = folders._timm_crop(metadata)
    assert crop["crop_mode"] == "center"
    assert math.floor(side / crop["crop_pct"]) == round(side * round(ratio, 3))


@pytest.mark.parametrize("form", EXPORTS)
@pytest.mark.parametrize(
    "text",
    ["decode|resize", "decode|resize_small(1.125)|central_crop", "decode | resize_small | central_crop"],
)
def test_pre_processing_survives(tmp_path, form, text):
    _, folder = written(tmp_path, mu(size=(40, 40)), form, eval_preprocess=text)
    expected = text if "small" not in text else f"decode|resize_small({1.125 if '(' in text else 1.15})|central_crop"
    assert load(folder).metadata.config["data"]["eval_preprocess"] == expected


def test_hugging_face_processor(tmp_path):
    text = "decode|resize_small(1.5)|central_crop"
    _, folder = written(tmp_path, mu(size=(8, 12), channels=1), "hf", eval_preprocess=text)
    about = json.loads((folder / "preprocessor_config.json").read_text())
    assert (about["size"], about["crop_size"]) == ({"shortest_edge": 18}, {"height": 8, "width": 12})
    assert about["image_mean"] == [0.5]
    assert load(folder).metadata.config["data"]["eval_preprocess"] == text


REFUSED = [
    ("timm", "parallel", {"parallel": True}),
    ("timm", "norm", {"norm": "rms"}),
    ("timm", "axial", {"axial": True, "pool": "gap"}),
    ("timm", "posemb", {"posemb": "relative"}),
    ("timm", "posemb_at", {"posemb_at": "every_layer"}),
    ("timm", "posemb_at", {"posemb_at": "shared"}),
    ("timm", "pre_logits", {"pre_logits": True}),
    ("timm", "pool", {"pool": "first"}),
    ("timm", "pool", {"pool": "none"}),
    ("timm", "qk_norm", {"pool": "map", "qk_norm": True}),
    ("timm", "norm_epsilon", {"norm_epsilon": 1e-12}),
    ("timm", "trunk_units", {"variant": "R101+mu/16", "size": (32, 32)}),
    ("timm", "trunk_units", {"variant": "R50x2+mu/16", "size": (32, 32)}),
    ("timm", "image_size", {"variant": "R+mu/16", "size": (40, 32)}),
    ("timm", "variant", {"variant": "R26x1", "size": (32, 32)}),
    ("timm", "variant", {"variant": "R50x1", "size": (32, 32), "trunk_version": 1}),
    ("hf", "pool", {"pool": "gap"}),
    ("hf", "pool", {"pool": "map"}),
    ("hf", "registers", {"registers": 1}),
    ("hf", "layer_scale", {"layer_scale": 0.1}),
    ("hf", "qk_norm", {"qk_norm": True}),
    ("hf", "pre_logits", {"pre_logits": True}),
    ("hf", "parallel", {"parallel": True}),
    ("hf", "posemb", {"posemb": "relative"}),
    ("hf", "variant", {"variant": "R50+mu/16", "size": (32, 32)}),
    ("hf", "trunk_version", {"variant": "R50x1", "size": (32, 32), "trunk_version": 1}),
]


@pytest.mark.parametrize(("form", "field", "options"), REFUSED)
def test_what_a_format_cannot_say_is_refused_by_its_name(tmp_path, form, field, options):
    model = mu(**options)
    with pytest.raises(UserError, match=rf"^{field} = .*: ") as error:
        EXPORTS[form]({}, describe(model), tmp_path / "folder")
    assert "export" in str(error.value) or field == "image_size"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("form", "size", "text"),
    [
        ("timm", (8, 8), "decode|central_crop"),
        ("hf", (8, 8), "decode|central_crop"),
        ("timm", (8, 12), "decode|resize_small(1.5)|central_crop"),
    ],
)
def test_pre_processing_that_a_format_cannot_say(tmp_path, form, size, text):
    model = mu(size=size)
    with pytest.raises(UserError, match=r"data\.eval_preprocess"):
        EXPORTS[form](random_params(model), describe(model, text), tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_folders_are_not_overwritten(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("keep")
    with pytest.raises(UserError, match="not empty"):
        written(tmp_path, mu(), "timm")
    assert [file.name for file in tmp_path.rglob("*")] == ["folder", "mine"]


def test_large_models_are_sharded(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "SHARD_BYTES", 20_000)
    params, folder = written(tmp_path, mu(), "hf")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    assert not (folder / "model.safetensors").exists()
    sizes = [sum(array.nbytes for array in load_file(shard).values()) for shard in shards]
    assert max(sizes) <= 20_000
    assert sum(sizes) == index["metadata"]["total_size"] == 4 * sum(a.size for a in named_leaves(params).values())
    assert_same(load(folder).params, params)


def bare(tmp_path, form, **options):
    """(params, arrays, config) of an export, to be changed."""
    params, folder = written(tmp_path, mu(**options), form)
    config = json.loads((folder / "config.json").read_text())
    return params, load_file(folder / "model.safetensors"), config


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module.", "timm_model."])
def test_prefixes_and_buffers_of_timm(tmp_path, prefix):
    params, arrays, config = bare(tmp_path, "timm")
    renamed = {prefix + name: array for name, array in arrays.items()}
    renamed |= {f"{prefix}norm.num_batches_tracked": np.zeros(()), "optimizer.step": np.zeros(())}
    found = interpret(renamed, config, "file", {})
    assert_same(found.params, params)
    assert sorted(found.ignored) == sorted([f"{prefix}norm.num_batches_tracked", "optimizer.step"])


def test_tables_of_the_patches_alone(tmp_path):
    params, arrays, config = bare(tmp_path, "timm", registers=2)
    arrays["pos_embed"] = arrays["pos_embed"][:, 3:]
    found = named_leaves(interpret(arrays, config, "file", {}).params)
    np.testing.assert_array_equal(found["pos_embedding"][:, 0], 0)
    np.testing.assert_array_equal(found["pos_embedding"][:, 1:], params["pos_embedding"][:, 1:])
    np.testing.assert_array_equal(found["registers"], params["registers"])


def test_positions_of_registers_become_part_of_them(tmp_path):
    params, arrays, config = bare(tmp_path, "timm", registers=2)
    rows = arrays["pos_embed"][:, 1:3] = np.random.default_rng(3).normal(size=(1, 2, 32))
    found = named_leaves(interpret(arrays, config, "file", {}).params)
    np.testing.assert_allclose(found["registers"], params["registers"] + rows, atol=1e-6)
    np.testing.assert_array_equal(found["pos_embedding"], params["pos_embedding"])


def test_tables_without_a_config_are_square(tmp_path):
    params, arrays, _ = bare(tmp_path, "timm", size=(12, 12), registers=2)
    whole = interpret(arrays, {}, "file", {"gelu": "tanh"})
    assert whole.model.image_size == (12, 12)
    assert_same(whole.params, params)
    arrays["pos_embed"] = arrays["pos_embed"][:, 3:]
    alone = interpret(arrays, {}, "file", {})
    assert alone.model.image_size == (12, 12)
    np.testing.assert_array_equal(alone.params["pos_embedding"][:, 0], 0)


@pytest.mark.parametrize("form", EXPORTS)
def test_other_pixel_ranges_move_into_the_patch_embedding(tmp_path, form):
    _, arrays, config = bare(tmp_path, form)
    if form == "timm":
        config["pretrained_cfg"].update(mean=MEAN, std=STD)
        kernel, bias = arrays["patch_embed.proj.weight"], arrays["patch_embed.proj.bias"]
    else:
        config["preprocessor"] = {"image_mean": MEAN, "image_std": STD}
        kernel, bias = (arrays[f"vit.embeddings.patch_embeddings.projection.{part}"] for part in ("weight", "bias"))
    found = interpret(arrays, config, "file", {}).params["embedding"]
    pixels = np.random.default_rng(2).uniform(0, 1, (4, 4, 3))
    theirs = np.einsum("ocij,ijc->o", kernel, (pixels - MEAN) / STD) + bias
    ours = np.einsum("ijco,ijc->o", found["kernel"], 2 * pixels - 1) + found["bias"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_other_pixel_ranges_are_refused_where_the_stem_pads(tmp_path):
    _, arrays, config = bare(tmp_path, "hf", variant="R50x1", size=(32, 32), trunk_units=(1,))
    config["preprocessor"] = {"image_mean": MEAN, "image_std": STD}
    with pytest.raises(UserError, match=r"0\.485.*pads"):
        interpret(arrays, config, "file", {})
    config["preprocessor"] = {"rescale_factor": 1.0}
    with pytest.raises(UserError, match="1/255"):
        interpret(arrays, config, "file", {})


@pytest.mark.parametrize(
    ("form", "name", "reason"),
    [
        ("timm", "fc_norm.weight", "after pooling"),
        ("timm", "dist_token", "distillation"),
        ("timm", "norm_pre.weight", "CLIP"),
        ("timm", "blocks.0.attn.q_bias", "some of query"),
        ("timm", "blocks.0.attn.norm.weight", "more parts"),
        ("timm", "blocks.0.mlp.w12.weight", "gated"),
        ("timm", "patch_embed.backbone.layer1.0.conv1.weight", "trunk"),
        ("hf", "vit.embeddings.distillation_token", "distillation"),
        ("hf", "vit.encoder.layer.0.lambda_1", "BEiT"),
    ],
)
def test_models_with_other_parts_are_refused_by_the_array(tmp_path, form, name, reason):
    _, arrays, config = bare(tmp_path, form)
    with pytest.raises(UserError, match=rf"{name.replace('.', '[.]')}.*{reason}"):
        interpret({**arrays, name: np.zeros(32)}, config, "file", {})


@pytest.mark.parametrize(
    ("form", "change", "named"),
    [
        ("timm", {"model_args": {"act_layer": "quick_gelu"}}, "act_layer"),
        ("timm", {"model_args": {"norm_layer": "rmsnorm"}}, "norm_layer"),
        ("timm", {"model_args": {"global_pool": "avg"}}, "global_pool"),
        ("timm", {"model_args": {"pool_include_prefix": True}}, "pool_include_prefix"),
        ("timm", {"architecture": "vit_base_patch16_rpn_224"}, "rpn"),
        ("timm", {"model_args": 5}, "config.json"),
        ("timm", {"model_args": {"img_size": "big"}}, "no image size"),
        ("timm", {"pretrained_cfg": {"mean": ["a"]}}, "no number"),
        ("hf", {"hidden_act": "relu"}, "hidden_act"),
        ("hf", {"image_size": {"height": -1, "width": 3}}, "no image size"),
        ("hf", {"layer_norm_eps": "small"}, "no number"),
        ("hf", {"num_attention_heads": 5}, "attention"),
    ],
)
def test_configs_we_cannot_follow(tmp_path, form, change, named):
    _, arrays, config = bare(tmp_path, form)
    with pytest.raises(UserError, match=named) as error:
        interpret(arrays, {**config, **change}, "file", {})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layer_type": "bottleneck"}, "layer_type"),
        ({"global_padding": "SAME"}, "global_padding"),
        ({"num_groups": 16}, "num_groups"),
    ],
)
def test_bit_configs_we_cannot_follow(tmp_path, change, named):
    _, arrays, config = bare(tmp_path, "hf", variant="R50x1", size=(32, 32), trunk_units=(1,))
    with pytest.raises(UserError, match=named):
        interpret(arrays, {**config, **change}, "file", {})


def test_other_resnets_of_timm_are_refused(tmp_path):
    _, arrays, config = bare(tmp_path, "timm", variant="R50x1", size=(32, 32))
    with pytest.raises(UserError, match=r"resnetv2_50\'.*resnetv2_\*_bit"):
        interpret(arrays, {**config, "architecture": "resnetv2_50"}, "file", {})
    with pytest.raises(UserError, match="BatchNorm"):
        interpret({**arrays, "norm.running_mean": np.zeros(2048)}, config, "file", {})
    with pytest.raises(UserError, match="global_pool"):
        interpret(arrays, {**config, "global_pool": "max"}, "file", {})


@pytest.mark.parametrize(
    ("architecture", "heads", "gelu"),
    [
        ("vit_tiny_patch16_224", 3, "erf"),
        ("vit_base_patch16_224.augreg_in21k", 12, "erf"),
        ("deit3_small_patch16_224", 6, "erf"),
        ("vit_base_patch16_gap_224", 16, "erf"),
        ("vit_base_patch16_plus_240", 14, "erf"),
        ("vit_so400m_patch16_siglip_256", 16, "tanh"),
        ("vit_so400m_patch14_siglip_224", 16, "erf"),
        ("vit_large_patch16_siglip_512", 16, "tanh"),
    ],
)
def test_what_architectures_of_timm_imply(architecture, heads, gelu):
    arrays = {"patch_embed.proj.weight": np.zeros((48, 3, 4, 4))}
    hints = timm.hints_vit(arrays, {"architecture": architecture})
    assert hints.settings == {"heads": heads, "gelu": gelu}
    stated = {"architecture": architecture, "model_args": {"num_heads": 2, "act_layer": "gelu_tanh"}}
    assert timm.hints_vit(arrays, stated).settings == {"heads": 2, "gelu": "tanh"}


def test_state_dicts_without_config_have_the_heads_of_published_encoders(tmp_path):
    _, arrays, _ = bare(tmp_path, "timm", size=(12, 12))
    assert interpret(arrays, {}, "file", {}).model.settings.resolved.encoder.heads == 2  # `mu`: width 32, depth 1
    assert pytorch.known_heads(768, 12) == {"heads": 12}
    assert pytorch.known_heads(768, 11) == {}
    deeper = {**arrays, **{name.replace("blocks.0", "blocks.1"): array for name, array in arrays.items()}}
    assert interpret(deeper, {}, "file", {"heads": 4}).model.settings.resolved.encoder.heads == 4
    with pytest.raises(UserError, match="number of attention heads"):
        interpret(deeper, {}, "file", {})


def test_names_in_the_memory_of_transformers(tmp_path):
    params, arrays, config = bare(tmp_path, "hf")
    for old, new in (
        ("vit.encoder.layer.", "vit.layers."),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ):
        arrays = {name.replace(old, new): array for name, array in arrays.items()}
    assert {"vit.layers.0.attention.q_proj.weight", "vit.layers.0.mlp.fc2.bias"} < arrays.keys()
    assert_same(interpret(arrays, config, "file", {}).params, params)


def test_poolers_beside_a_classifier_and_mask_tokens_are_left_aside(tmp_path):
    params, arrays, config = bare(tmp_path, "hf")
    extra = {"vit.pooler.dense.weight": np.zeros((32, 32)), "vit.embeddings.mask_token": np.zeros((1, 1, 32))}
    found = interpret({**arrays, **extra}, config, "file", {})
    assert_same(found.params, params)
    assert sorted(found.ignored) == sorted(extra)


def test_defaults_of_hugging_face(tmp_path):
    arrays = bare(tmp_path, "hf", size=(12, 12))[1]
    settings = interpret(arrays, {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}, "file", {})
    assert (settings.model.settings.gelu, settings.model.settings.norm_epsilon) == ("erf", 1e-12)
    assert settings.hints.label_names is None


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"size": 8}, "decode|resize"),
        ({"size": {"height": 8, "width": 8}}, "decode|resize"),
        (
            {"size": {"shortest_edge": 10}, "do_center_crop": True, "crop_size": 8},
            "decode|resize_small(1.25)|central_crop",
        ),
        ({"size": {"shortest_edge": 10}}, None),
        ({"size": {"height": 10, "width": 10}, "do_center_crop": True, "crop_size": 8}, None),
        ({"do_resize": False}, None),
        (None, None),
    ],
)
def test_image_processors(processor, expected):
    config = {"image_size": 8, "num_attention_heads": 2, "preprocessor": processor}
    assert huggingface.hints_vit({}, config).eval_preprocess == expected


@pytest.mark.parametrize("form", EXPORTS)
def test_class_names_without_a_classifier_say_nothing(tmp_path, form):
    _, arrays, config = bare(tmp_path, form, classes=0)
    config |= {"label_names": ["a", "b"]} if form == "timm" else {"id2label": {"0": "a", "1": "b"}}
    assert interpret(arrays, config, "file", {}).hints.label_names is None


def test_old_folders_of_timm_have_one_config(tmp_path):
    params, arrays, config = bare(tmp_path, "timm", size=(8, 8))
    flat = {
        **config.pop("pretrained_cfg"),
        "architecture": "vit_base_patch16_224",
        "crop_pct": 0.8,
        "crop_mode": "center",
    }
    names = {str(i): f"label {i}" for i in range(3)}
    save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**flat, "label_names": names}))
    weights = load(tmp_path / "model.safetensors", settings={"heads": 2})
    assert_same(weights.params, params)
    assert weights.metadata.label_names == ("label 0", "label 1", "label 2")
    assert weights.metadata.config["data"]["eval_preprocess"] == "decode|resize_small(1.25)|central_crop"
