"""What would make a program fit."""

import dataclasses

from tests.scaling.plans import GIB, compiled, request, too_large
from vit_jax.scaling.planning.advice import advice, smallest_micro_batches


def test_a_program_that_fits_needs_none():
    assert advice(request(), compiled()) == []


def test_each_way_comes_with_what_it_would_leave():
    """1 GiB of state, 39 of the rest, room for 15.2."""
    asked = request(model={"remat": "none"})
    assert advice(asked, too_large(40.0)) == [
        "config.model.remat=dots or full keeps less of each layer for backward",
        "config.train.micro_batches=4 leaves about 10.8 GiB",
        "config.optimizer.mu_dtype=bfloat16 saves 0.1 GiB",
    ]


def test_more_fsdp_is_for_state_that_is_large():
    large = too_large(18.0, state=12 * GIB)
    found = advice(request(model={"remat": "full"}, optimizer={"mu_dtype": "bfloat16"}), large)
    assert found == ["config.train.micro_batches=2 leaves about 15.0 GiB", "config.mesh.fsdp=8 leaves about 12.0 GiB"]


def test_state_that_alone_is_too_large_is_not_helped_by_micro_batches():
    large = too_large(34.0, state=30 * GIB)
    assert smallest_micro_batches(request(), large) is None
    assert "config.mesh.fsdp=16 leaves about 11.5 GiB" in advice(request(), large)
    assert not any("fsdp" in line for line in advice(request(), too_large(60.0, state=30 * GIB)))


def test_micro_batches_divide_the_batch():
    """4096 images over 16 devices are 256 rows; 3 parts would do, 4 divide."""
    asked = request()
    assert smallest_micro_batches(asked, too_large(40.0)) == 4
    odd = dataclasses.replace(asked.settings.train, batch_size=16 * 25)
    asked = dataclasses.replace(asked, settings=dataclasses.replace(asked.settings, train=odd))
    assert smallest_micro_batches(asked, too_large(40.0)) == 5
    assert smallest_micro_batches(asked, too_large(1000.0)) is None


def test_pairs_that_are_mixed_stay_together():
    asked = request(train={"mixup": 0.2, "batch_size": 16 * 6})
    assert smallest_micro_batches(asked, too_large(30.0)) == 3
    assert smallest_micro_batches(asked, too_large(100.0)) is None  # 6 rows cannot be 6 parts of pairs


def test_from_where_it_is_now():
    asked = request(train={"micro_batches": 4})
    assert smallest_micro_batches(asked, too_large(17.0)) == 8
