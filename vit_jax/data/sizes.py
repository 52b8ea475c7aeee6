"""How many images and classes a run trains on, as far as the catalog tells: nothing is opened."""

import re
from fractions import Fraction

from vit_jax.data import catalog
from vit_jax.data.catalog import Task
from vit_jax.data.settings import DataSettings
from vit_jax.errors import BadSetting

SUBSET_FORMS = "write 10%, a number of examples such as 5000 or 9M, or `5 per class`"
_UNITS = {"": 1, "k": 10**3, "M": 10**6}
_PART = re.compile(r"\s*(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?\s*")


def known_size(settings: DataSettings) -> tuple[int, int] | None:
    """(training examples after `subset`, classes) of a task of the catalog; None where it does not tell them.

    Raises:
      BadSetting: the subset is larger than the split, or is none.
    """
    named = (task for task in catalog.TASKS.values() if settings.name in (task.name, task.data))
    task = catalog.TASKS.get(settings.task) or next(named, None)
    if task is None or settings.name not in (task.name, task.data) or settings.label_key != task.label_key:
        return None
    examples = split_size(settings.train_split, task)
    if examples is None:
        return None
    if settings.subset is None:
        return examples, task.classes
    each = images_per_class(settings.subset)
    size = each * task.classes if each else subset_size(settings.subset, examples, "config.data.subset")
    return min(size, examples), task.classes


def split_size(split: str, task: Task) -> int | None:
    """Examples of a split expression such as `train[:98%]` or `train[:800]+validation[:200]`; None if unknown."""
    if split == task.train and task.examples:
        return task.examples
    sizes = [_part_size(part, task) for part in split.split("+")]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _part_size(text: str, task: Task) -> int | None:
    found = _PART.fullmatch(text)
    if not found:
        return None
    whole = task.examples if found[1] == task.train and task.examples else None
    first, last = (_bound(text, whole) for text in _one_unit(found[2] or "0", found[3] or "100%", bool(found[3])))
    return None if first is None or last is None else max(last - first, 0)


def _one_unit(first: str, last: str, both: bool) -> tuple[str, str]:
    """A `%` at one of two bounds holds for the other, too, as in TFDS."""
    if both and first.endswith("%") != last.endswith("%"):
        return first.rstrip("%") + "%", last.rstrip("%") + "%"
    return first, last


def _bound(text: str, whole: int | None) -> int | None:
    """A bound of a slice, counted from the start; as TFDS rounds percentages."""
    if text.endswith("%") or text.startswith("-"):
        if whole is None:
            return None
        number = round(whole * int(text[:-1]) / 100) if text.endswith("%") else int(text)
        return number if number >= 0 and not text.startswith("-") else whole + number
    return int(text)


def images_per_class(text: str) -> int | None:
    """5 for `5 per class`; None for a subset of another form."""
    found = re.fullmatch(r"\s*(\d+)\s+per\s+class\s*", text)
    return int(found[1]) if found else None


def subset_size(text: str, whole: int, field: str) -> int:
    """Examples of `10%`, `5000` or `9M` of a split.

    Args:
      text: of the setting.
      whole: examples of the split.
      field: for errors.

    Raises:
      BadSetting: another text, or more examples than there are.
    """
    found = re.fullmatch(r"\s*(\d[\d_]*(?:\.\d+)?)\s*(%|k|M|)\s*", text)
    if not found:
        raise BadSetting(field, text, SUBSET_FORMS)
    number = Fraction(found[1].replace("_", ""))
    if found[2] == "%":
        if not 0 < number <= 100:
            raise BadSetting(field, text, "must be more than 0% and at most 100%")
        return max(1, round(number * whole / 100))
    number *= _UNITS[found[2]]
    if number.denominator != 1 or number < 1:
        raise BadSetting(field, text, SUBSET_FORMS)
    if number > whole:
        raise BadSetting(field, text, f"the split has only {whole:,} examples")
    return int(number)
