"""Hugging Face's ViT and Bit, both ways: our folders in its models, and its folders in ours, with the same logits."""

import json

import numpy as np
import pytest

from vit_jax.checkpoint import load
from vit_jax.checkpoint.folders import export_huggingface

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import save_file  # noqa: E402

pytestmark = pytest.mark.interop

# Relative. In trunks of 50 and more convolutions float32 itself is off by up to 2e-5 of double precision. The epsilon
# of standardised weights does the rest, see `with_our_epsilons`.
CLOSE, EXACT_TRUNK, TRUNK = 1e-5, 5e-5, 1e-3


def with_our_epsilons(module):
    for part in module.modules():
        if type(part).__name__ == "WeightStandardizedConv2d":
            part.eps = 1e-10
    return module


EXPORTED = [
    ("Ti/16", (32, 32), {}),
    ("S/32", (64, 32), {"gelu": "erf"}),
    ("B/16", (32, 48), {"qkv_bias": False}),
    ("L/16", (32, 32), {}),
    ("Ti/16", (37, 32), {"width": 120, "heads": 5, "mlp_dim": 301, "depth": 3, "posemb": "sincos_2d", "channels": 1}),
    ("Ti/16", (32, 32), {"norm_epsilon": 1e-3, "posemb": "none"}),
    ("R50x1", (64, 48), {}),
    ("R101x1", (96, 64), {}),
    ("R50x1", (32, 32), {"trunk_units": (1, 2, 1), "trunk_width": 3, "channels": 1}),
]


@pytest.mark.parametrize(("variant", "size", "options"), EXPORTED)
def test_transformers_reads_what_we_write(
    variant, size, options, tmp_path, make_model, random_params, describe, images, ours, theirs, assert_close
):
    model = make_model(variant, size, **options)
    params, pixels = random_params(model), images(model)
    export_huggingface(params, describe(model), tmp_path / "folder")
    kind = transformers.BitForImageClassification if "x" in variant else transformers.ViTForImageClassification
    module, report = kind.from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert module.config.id2label[3] == "kind 3"
    wanted = ours(model, params, pixels)
    assert_close(f"{variant} {options}", theirs(module, pixels), wanted, TRUNK if "x" in variant else CLOSE)
    if "x" in variant:
        assert_close(f"{variant}, our epsilons", theirs(with_our_epsilons(module), pixels), wanted, EXACT_TRUNK)
    automatic = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "folder")
    assert type(automatic) is kind


@pytest.mark.parametrize("variant", ["Ti/16", "R50x1"])
def test_models_without_classifier(
    variant, tmp_path, make_model, random_params, describe, images, ours, theirs, assert_close
):
    model = make_model(variant, (32, 32), classes=0, **({"pre_logits": True} if "/" in variant else {}))
    params, pixels = random_params(model), images(model)
    export_huggingface(params, describe(model), tmp_path / "folder")
    module, report = transformers.AutoModel.from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    found = theirs(with_our_epsilons(module), pixels, "pooler_output").reshape(2, -1)
    assert_close(variant, found, ours(model, params, pixels, "pre_logits"), EXACT_TRUNK if "x" in variant else CLOSE)


def test_shards(tmp_path, monkeypatch, make_model, random_params, describe, images, ours, theirs, assert_close):
    monkeypatch.setattr("vit_jax.checkpoint.folders.SHARD_BYTES", 10**6)
    model = make_model("Ti/16", (32, 32))
    params, pixels = random_params(model), images(model)
    files = export_huggingface(params, describe(model), tmp_path / "folder")
    assert len(files) > 4
    module, report = transformers.ViTForImageClassification.from_pretrained(
        tmp_path / "folder", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert_close("shards", theirs(module, pixels), ours(model, params, pixels), CLOSE)


@pytest.mark.parametrize(
    ("text", "first"),
    [("decode|resize", 0.5 * 100 / 32 - 0.5), ("decode|resize_small(1.25)|central_crop", 24.5 * 100 / 80 - 0.5)],
)
def test_transformers_prepares_images_as_we_do(text, first, tmp_path, make_model, random_params, describe):
    model = make_model("Ti/16", (32, 32))
    export_huggingface(random_params(model), describe(model, text), tmp_path / "folder")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "folder")
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :], 50, axis=0)
    found = processor(np.stack([ramp] * 3, -1), return_tensors="np")["pixel_values"][0]
    assert found.shape == (3, 32, 32)
    # 100 columns become 32 or, cropped, the middle 32 of 80: a ramp between the centres of the outer ones.
    columns = np.linspace(first, 99 - first, 32)
    np.testing.assert_allclose(found[0, 16, 1:-1], columns[1:-1] / 127.5 - 1, atol=1.01 / 127.5)


def vit(**options):
    sizes = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 200}
    return transformers.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=5, **options)


def compared(folder, module, pixels_to_theirs, images, ours, theirs, assert_close, output=("logits", "logits")):
    weights = load(folder)
    model = weights.metadata.model
    pixels = images(model)
    wanted = theirs(with_our_epsilons(module), pixels_to_theirs(pixels), output[1])
    found = ours(model, weights.params, pixels, output[0])
    limit = EXACT_TRUNK if isinstance(module, transformers.BitForImageClassification) else CLOSE
    assert_close(type(module).__name__, found, wanted.reshape(found.shape), limit)
    assert weights.layout == "Hugging Face"
    return weights


@pytest.mark.parametrize("options", [{}, {"hidden_act": "gelu_new", "qkv_bias": False, "layer_norm_eps": 1e-3}])
def test_we_read_what_transformers_saves(options, tmp_path, randomize, images, ours, theirs, assert_close):
    torch.manual_seed(0)
    module = randomize(transformers.ViTForImageClassification(vit(**options)))
    module.save_pretrained(tmp_path)
    weights = compared(tmp_path, module, lambda x: x, images, ours, theirs, assert_close)
    assert weights.metadata.model.settings.norm_epsilon == options.get("layer_norm_eps", 1e-12)
    assert weights.metadata.model.settings.gelu == ("tanh" if options else "erf")


def test_processors_and_label_names(tmp_path, randomize, images, ours, theirs, assert_close):
    names = {i: f"kind {i}" for i in range(5)}
    module = randomize(transformers.ViTForImageClassification(vit(id2label=names)))
    module.save_pretrained(tmp_path)
    mean, std = [0.48, 0.45, 0.4], [0.23, 0.22, 0.25]
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=mean, image_std=std)
    processor.save_pretrained(tmp_path)
    to_theirs = lambda x: (((x + 1) / 2 - np.asarray(mean)) / np.asarray(std)).astype(np.float32)  # noqa: E731
    weights = compared(tmp_path, module, to_theirs, images, ours, theirs, assert_close)
    assert weights.metadata.label_names == tuple(names.values())
    assert weights.metadata.config["data"]["eval_preprocess"] == "decode|resize"


def test_the_pooler_is_our_pre_logits(tmp_path, randomize, images, ours, theirs, assert_close):
    module = randomize(transformers.ViTModel(vit()))
    module.save_pretrained(tmp_path)
    output = ("pre_logits", "pooler_output")
    weights = compared(tmp_path, module, lambda x: x, images, ours, theirs, assert_close, output)
    assert weights.metadata.model.settings.pre_logits


def test_bit_folders(tmp_path, randomize, images, ours, theirs, assert_close):
    config = transformers.BitConfig(embedding_size=64, hidden_sizes=[256, 512], depths=[1, 2], num_labels=5)
    module = randomize(transformers.BitForImageClassification(config))
    module.save_pretrained(tmp_path)
    half = [0.5] * 3
    crop = {"height": 40, "width": 40}
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": 50}, crop_size=crop, image_mean=half, image_std=half
    )
    processor.save_pretrained(tmp_path)
    weights = compared(tmp_path, module, lambda x: x, images, ours, theirs, assert_close)
    assert weights.metadata.model.image_size == (40, 40)
    assert weights.metadata.config["data"]["eval_preprocess"] == "decode|resize_small(1.25)|central_crop"


def test_state_dicts_as_they_are_in_memory(tmp_path, randomize, images, ours, theirs, assert_close):
    module = randomize(transformers.ViTForImageClassification(vit()))
    save_file({name: tensor.clone() for name, tensor in module.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(module.config.to_dict()))
    compared(tmp_path, module, lambda x: x, images, ours, theirs, assert_close)
