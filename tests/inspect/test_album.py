"""The folder of pictures: what is in it, what a model does not have, and what is left alone."""

import json
import re

import numpy as np
import pytest

from vit_jax import parallel
from vit_jax.errors import BadSetting, UserError
from vit_jax.inspect import (
    KINDS,
    absent,
    attention_maps,
    attention_statistics,
    check_folder,
    check_layers,
    cosine_similarity,
    pictures,
    position_embeddings,
    spread,
    wanted,
)
from vit_jax.models import Model, ModelSettings

from ..models.reference import random_params
from .constructed import images, make

RESNET = Model(ModelSettings("R26x1", trunk_units=(1,)), (16, 16), 3, 5)
OF_IMAGES = ["distance", "rollout", "heads"]


def numbers(folder):
    return json.loads((folder / "numbers.json").read_text())


def page(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A model with everything, its images, and the folder of its pictures."""
    model = make(registers=1)
    params, pixels = random_params(model), images(model, 5)
    folder = tmp_path_factory.mktemp("album") / "new"
    names = [f"picture <{i}>" for i in range(5)]
    album = pictures(model, params, pixels, folder, names=names, shown=3, about={"checkpoint": "w & co", "step": 7})
    return model, params, pixels, folder, album


def test_a_vit_has_pictures_of_every_kind(drawn):
    *_, folder, album = drawn
    expected = ["filters.png", "positions.png", "attention_distance.png", "attention_entropy.png", "rollout.png"]
    expected += ["heads_1.png", "heads_2.png", "heads_3.png"]
    assert [file.name for file in album.files] == ["index.html", "numbers.json", *expected]
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in album.files)
    assert (album.page, album.absent) == (folder / "index.html", {})
    assert numbers(folder)["pictures"] == expected


def test_the_page_shows_each_picture_once_and_says_what_it_is(drawn):
    *_, folder, album = drawn
    text = page(folder)
    assert len(re.findall(r"<img ", text)) == len(album.files) - 2
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "Filters",
        "Position embeddings",
        "Attention distance",
        "Attention rollout",
        "Attention of single heads",
    ]
    for part in ("w &amp; co", "figure 7 left", "figures 7 right and 11", "figures 6 and 14", "registers are left out"):
        assert part in text


def test_the_numbers_are_those_of_the_functions(drawn):
    model, params, pixels, folder, _ = drawn
    found = numbers(folder)
    assert (found["model"], found["checkpoint"], found["step"]) == ("mu/4", "w & co", 7)
    assert (found["image_size"], found["grid"], found["pixels_between_patches"]) == ([8, 12], [2, 3], 4)
    statistics, maps = attention_statistics(model, params, pixels), attention_maps(model, params, pixels)
    np.testing.assert_allclose(found["distance"]["pixels"], statistics.distance, rtol=1e-5)
    np.testing.assert_allclose(found["distance"]["entropy_bits"], statistics.entropy, rtol=1e-5)
    np.testing.assert_allclose(found["distance"]["share_on_patches"], statistics.patch_share, rtol=1e-5)
    chosen = [0, 2, 4]
    assert found["rollout"]["names"] == [f"picture <{i}>" for i in chosen]
    np.testing.assert_allclose(found["rollout"]["weights"], maps.rollout[chosen], rtol=1e-5)
    second = found["heads"]["images"]["heads_2.png"]
    assert (found["heads"]["layers"], second["name"]) == ([1, 2], "picture <2>")
    np.testing.assert_allclose(second["weights"], maps.heads[2], rtol=1e-5)
    similarity = cosine_similarity(position_embeddings(model, params))
    np.testing.assert_allclose(found["positions"]["similarity"]["stem"]["tiles"], similarity, atol=1e-3)
    assert sum(found["filters"]["explained_variance"]) <= 1.0 + 1e-6


def test_a_resnet_has_filters_and_says_what_it_has_not(tmp_path):
    album = pictures(RESNET, random_params(RESNET), images(RESNET, 2), tmp_path)
    assert [file.name for file in album.files] == ["index.html", "numbers.json", "filters.png"]
    assert album.absent == absent(RESNET) == numbers(tmp_path)["absent"]
    assert set(album.absent) == {"positions", *OF_IMAGES}
    text = page(tmp_path)
    assert "positions: R26x1 is a ResNet: it has no position embeddings." in text
    assert "distance, rollout, heads: R26x1 is a ResNet: it has no attention." in text


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"posemb": "none"}, {"positions": "no position embeddings"}),
        ({"axial": True, "pool": "gap"}, dict.fromkeys(OF_IMAGES, "axial")),
        ({"posemb": "sincos_2d"}, {}),
    ],
)
def test_what_a_vit_does_not_have(options, missing):
    found = absent(make(**options))
    assert set(found) == set(missing)
    assert all(missing[kind] in why for kind, why in found.items())


@pytest.mark.parametrize(
    ("options", "files", "text"),
    [
        ({"posemb": "sincos_2d"}, ["positions.png"], "nothing of this was learned"),
        ({"posemb": "relative"}, ["positions.png"], "one embedding for each offset"),
        ({"posemb": "learned_2d", "posemb_at": "shared"}, ["positions.png"], "its column beside that of its row"),
        ({"posemb_at": "every_layer"}, ["positions_layer_1.png", "positions_layer_3.png"], "Each layer has its own"),
    ],
)
def test_every_kind_of_position_embedding_is_drawn_and_explained(options, files, text, tmp_path):
    model = make(depth=3, **options)
    pictures(model, random_params(model), None, tmp_path, only=["positions"], layers=[1, 3])
    assert numbers(tmp_path)["pictures"] == files
    assert text in page(tmp_path)
    places = numbers(tmp_path)["positions"]["similarity"]
    assert len(places) == len(files)


def test_without_images_what_needs_none_is_drawn(tmp_path):
    model = make()
    album = pictures(model, random_params(model), None, tmp_path)
    assert [file.name for file in album.files[2:]] == ["filters.png", "positions.png"]
    assert album.absent == dict.fromkeys(OF_IMAGES, "no images were given")
    with pytest.raises(BadSetting, match="only = 'rollout': needs images"):
        pictures(model, random_params(model), images(model, 0), tmp_path, only=["rollout"])


def test_maps_of_a_model_without_class_token_say_whose_they_are(tmp_path):
    model = make(pool="gap")
    pictures(model, random_params(model), images(model, 1), tmp_path, only=["rollout"])
    assert "all patches on average, for there is no class token" in page(tmp_path)


def test_parameters_may_lie_on_a_mesh(drawn, tmp_path):
    model, params, pixels, folder, _ = drawn
    mesh = parallel.make_mesh(parallel.MeshSettings(fsdp=4, tensor=2))
    shardings = parallel.state_shardings(params, model.shapes, model.logical_axes, mesh)
    split = parallel.on_mesh(params, shardings)
    pictures(model, split, pixels, tmp_path, only=["filters", "positions", "distance"], mesh=mesh)
    for kind in ("filters", "positions"):
        assert numbers(tmp_path)[kind] == numbers(folder)[kind]
    np.testing.assert_allclose(
        numbers(tmp_path)["distance"]["pixels"], numbers(folder)["distance"]["pixels"], rtol=1e-4
    )


# --- choices ---


def test_kinds_come_in_the_order_of_the_page():
    assert wanted(make()) == KINDS
    assert wanted(make(), ["heads", "filters"]) == ("filters", "heads")
    assert wanted(RESNET) == ("filters",)


@pytest.mark.parametrize(
    ("model", "kind", "expected"),
    [
        (make(), "filter", "only = 'filter': no such pictures; did you mean \"filters\"?"),
        (RESNET, "rollout", "only = 'rollout': R26x1 is a ResNet: it has no attention"),
    ],
)
def test_kinds_that_a_model_does_not_have_are_refused(model, kind, expected, tmp_path):
    with pytest.raises(BadSetting) as error:
        pictures(model, {}, None, tmp_path / "new", only=[kind])
    assert str(error.value) == expected
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("depth", "expected"), [(1, [0]), (3, [0, 1, 2]), (12, [0, 4, 7, 11]), (24, [0, 8, 15, 23])])
def test_layers_are_spread_from_the_first_to_the_last(depth, expected):
    assert list(check_layers(make(depth=depth), [])) == expected


@pytest.mark.parametrize(
    ("model", "layer", "expected"),
    [
        (make(depth=3), 0, "layers = 0: the encoder's layers are 1 to 3"),
        (make(depth=3), 4, "layers = 4: the encoder's layers are 1 to 3"),
        (RESNET, 1, "layers = 1: R26x1 has no encoder"),
    ],
)
def test_layers_that_a_model_does_not_have_are_refused(model, layer, expected):
    with pytest.raises(BadSetting) as error:
        check_layers(model, [layer])
    assert str(error.value) == expected


def test_chosen_layers_are_drawn_in_their_order():
    assert check_layers(make(depth=3), [3, 1]) == (2, 0)


@pytest.mark.parametrize(
    ("size", "count", "expected"), [(0, 3, []), (1, 3, [0]), (3, 3, [0, 1, 2]), (10, 4, [0, 3, 6, 9]), (5, 1, [0])]
)
def test_examples_are_spread_evenly(size, count, expected):
    assert spread(size, count).tolist() == expected


# --- the folder ---


def test_a_folder_of_ours_is_written_again(tmp_path):
    pictures(RESNET, random_params(RESNET, 0), None, tmp_path)
    before = (tmp_path / "filters.png").read_bytes()
    pictures(RESNET, random_params(RESNET, 1), None, tmp_path)
    assert (tmp_path / "filters.png").read_bytes() != before


@pytest.mark.parametrize(
    ("name", "content"),
    [("index.html", "<html>"), ("a.txt", ""), ("numbers.json", '{"made_by": "somebody"}'), ("numbers.json", "[]")],
)
def test_a_folder_of_others_is_left_alone_unless_told(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"holds other files \({name}\): name a new folder, or pass --overwrite"):
        pictures(RESNET, random_params(RESNET), None, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content


def test_overwriting_keeps_files_of_other_names(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    pictures(RESNET, random_params(RESNET), None, tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "index.html").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"folder '.*/file/new' cannot be written: Not a directory"):
        check_folder(tmp_path / "file" / "new")
