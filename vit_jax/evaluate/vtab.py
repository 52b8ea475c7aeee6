"""The score of the Visual Task Adaptation Benchmark (arXiv 1910.04867): 19 tasks in three groups."""

from collections.abc import Mapping

from vit_jax.data import catalog

GROUPS = ("natural", "specialized", "structured")


def vtab_score(accuracies: Mapping[str, float]) -> dict[str, float]:
    """Means of the groups, and `mean`, that of all 19 tasks, which is not the mean of the groups' means.

    Args:
      accuracies: {name of the task in the catalog: top-1 accuracy}, all 19.

    Raises:
      KeyError: a task is missing.
    """
    by_group = {
        group: [accuracies[name] for name in catalog.VTAB if catalog.TASKS[name].group == group] for group in GROUPS
    }
    means = {group: sum(values) / len(values) for group, values in by_group.items()}
    return {**means, "mean": sum(accuracies[name] for name in catalog.VTAB) / len(catalog.VTAB)}
