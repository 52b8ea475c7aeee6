"""Rows of studies in steps."""

from tests.scaling.studies import result
from vit_jax.scaling import Study, rows_of


def rows(*runs):
    return {run.cost.name: dict(run.scores) for run in rows_of(Study("s.py", runs))}


def test_transfers_of_transfers_belong_to_the_first_run_wherever_they_stand():
    found = rows(
        result(name="c", parent="b", data="oxford_iiit_pet", scores={"eval": 3.0, "objectnet": 4.0}),
        result(name="b", parent="a", data="cifar10", scores={"eval": 2.0}),
        result(name="a", data="jft", scores={"eval": 1.0}),
    )
    assert found == {"a": {"eval": 1.0, "cifar10": 2.0, "oxford_iiit_pet": 3.0, "objectnet": 4.0}}


def test_first_runs_on_several_data_sets_are_named_by_them():
    found = rows(
        result(name="a", data="vtab/dtd", scores={"eval": 1.0, "few": 5.0}),
        result(name="b", data="vtab/pets", scores={"eval": 2.0}),
    )
    assert found == {"a": {"vtab/dtd": 1.0, "few": 5.0}, "b": {"vtab/pets": 2.0}}


def test_a_transfer_whose_parent_is_not_there_stands_for_itself():
    assert rows(result(name="b", parent="gone", scores={"eval": 2.0})) == {"b": {"eval": 2.0}}
