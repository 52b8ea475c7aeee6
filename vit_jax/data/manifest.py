"""Lists of images and labels: CSV, TSV and JSONL files."""

import csv
import json
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_jax.data.files import FileSource, Paths, check_class_names
from vit_jax.data.sources import split_slices
from vit_jax.errors import BadSetting, UserError, did_you_mean

SUFFIXES = (".csv", ".tsv", ".jsonl")
CHECKED_FILES = 100  # of a split must exist when it is opened; others are bad pictures when they are read
_FIELD = "config.data.data_dir"
_HOW = "a `manifest` data set needs a .csv, .tsv or .jsonl file, or a folder with one for each split"


class Row(NamedTuple):
    """One image: where it lies, its labels and its split."""

    path: str
    labels: list[str]
    split: str


class ManifestSource(FileSource):
    """Images named in a list.

    Columns of a CSV or TSV file, keys of the objects in a JSONL file: `image` or `path`, `label` or `labels`, and
    optionally `split`. Relative paths start at the folder of the list. With `labels` an image has any number of them:
    a list in JSONL, joined by `;` in CSV. Where `path` is a folder, it holds one list for each split, `train.csv`;
    a single list without `split` is the split `train`.

    The classes are the lines of `labels.txt` beside the list, where there is one; labels are then its lines or their
    numbers from 0. Otherwise they are the labels found in all splits, sorted, as numbers where all of them are. The
    images of a split are in a fixed scattered order, so that slices such as `train[:90%]` hold every class.
    """

    def __init__(self, path: str | None, split: str):
        if path is None:
            raise BadSetting(_FIELD, path, _HOW)
        where = Path(path).expanduser()
        lists = _lists(path, where)
        folder = where if where.is_dir() else where.parent
        table = _Table(lists, _fixed_names(folder / "labels.txt"), path)
        chosen = split_slices(split, table.splits, lambda name: len(table.rows(name)))
        rows = np.concatenate([np.empty(0, np.int64), *(table.rows(name)[a:b] for name, a, b in chosen)])
        if not len(rows):
            raise BadSetting("split", split, f"holds no images of {path}")
        self.multi_label = table.multi_label
        counts = table.counts[rows]
        self._ends = np.cumsum(counts)
        starts = np.cumsum(table.counts)[rows] - counts
        take = np.repeat(starts - (self._ends - counts), counts) + np.arange(counts.sum())
        paths = Paths(os.path.abspath(folder), (table.paths.relative(row) for row in rows))
        super().__init__(paths, table.numbers[take], table.label_names)
        self._check_files(path)

    def _check_files(self, manifest: str) -> None:
        for index in range(min(len(self), CHECKED_FILES)):
            path = self._paths[index]
            if "://" not in path and not os.path.isfile(path):
                raise BadSetting(_FIELD, manifest, f"lists an image that is not there: {path}")

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """See `Source`; reads nothing."""
        if not self.multi_label:
            return self._labels[indices]
        hot = np.zeros((len(indices), len(self.label_names)), np.float32)
        for row, index in enumerate(indices):
            start = self._ends[index - 1] if index else 0
            hot[row, self._labels[start : self._ends[index]]] = 1
        return hot

    def memory_bytes(self) -> int:
        """See `Source`."""
        return super().memory_bytes() + self._ends.nbytes


class _Table:
    """All rows of the lists, in little memory.

    Attributes:
      splits: names of the splits, in the order of the lists.
      multi_label: an image may have several labels.
      label_names: of the classes.
      paths: of all images.
      counts: int64 (rows,) labels of each row.
      numbers: int32, the classes of all rows end to end.
    """

    def __init__(self, lists: list[tuple[Path, str]], fixed: tuple[str, ...], setting: str):
        splits: dict[str, int] = {}
        words: dict[str, int] = {}
        split_of, counts, found = array("i"), array("q"), array("i")
        kinds: set[bool] = set()

        def rows() -> Iterator[bytes]:
            for file, name in lists:
                for row, multi_label in _read(file, name):
                    split_of.append(splits.setdefault(row.split, len(splits)))
                    counts.append(len(row.labels))
                    found.extend(words.setdefault(label, len(words)) for label in row.labels)
                    kinds.add(multi_label)
                    yield os.fsencode(row.path)

        self.paths = Paths("", rows())
        if len(kinds) > 1:
            raise BadSetting(_FIELD, setting, "has `label` in some places and `labels` in others: use one of them")
        self.multi_label = kinds == {True}
        self.splits, self._split_of = list(splits), np.array(split_of, np.int32)
        self.label_names = fixed or _sorted_names(words)
        if not fixed:
            check_class_names(words, _FIELD, setting)
        number = _numbers(words, self.label_names, setting)
        self.counts = np.array(counts, np.int64)
        self.numbers = number[np.array(found, np.int64)]

    def rows(self, split: str) -> np.ndarray:
        """The rows of a split in their scattered order, int64."""
        mine = np.flatnonzero(self._split_of == self.splits.index(split))
        return mine[self.paths.take(mine).scattered()]


def _lists(setting: str, where: Path) -> list[tuple[Path, str]]:
    """(list, the split that its rows belong to where they do not say) of all lists."""
    if where.is_file() and where.suffix.lower() in SUFFIXES:
        return [(where, "train")]
    found = sorted(f for f in where.iterdir() if f.suffix.lower() in SUFFIXES) if where.is_dir() else []
    found = [file for file in found if not file.name.startswith(".")]
    names = [file.stem for file in found]
    if not found:
        raise BadSetting(_FIELD, setting, f"no such list; {_HOW}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadSetting(_FIELD, setting, f"holds several lists called {twice[0]!r}: keep one")
    return list(zip(found, names, strict=True))


def _fixed_names(path: Path) -> tuple[str, ...]:
    """The lines of `labels.txt`; empty where there is none."""
    if not path.is_file():
        return ()
    names = tuple(line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip())
    if len(set(names)) < len(names) or not names:
        raise UserError(f"{path} must hold each class once, one a line")
    return names


def _sorted_names(words: dict[str, int]) -> tuple[str, ...]:
    """Labels as classes: numbers by value, others by name."""
    if all(word.isascii() and word.isdigit() for word in words):
        return tuple(sorted(words, key=lambda word: (int(word), word)))
    return tuple(sorted(words))


def _numbers(words: dict[str, int], names: tuple[str, ...], setting: str) -> np.ndarray:
    """The class, int32, of each word in the order of `words`: by name, or by number where none is a name."""
    known = {name: number for number, name in enumerate(names)}
    if not any(word in known for word in words):
        known = {str(number): number for number in range(len(names))}
    for word in words:
        if word not in known:
            fix = f"has the label {word!r}, which is not in labels.txt; {did_you_mean(word, names[:1000])}"
            raise BadSetting(_FIELD, setting, fix[:300])
    return np.array([known[word] for word in words], np.int32)


def _read(file: Path, split: str) -> Iterator[tuple[Row, bool]]:
    """(row, whether it may have several labels) of all rows of a list; rows that do not say are in `split`."""
    try:
        for line, cells in (_jsonl_rows if file.suffix.lower() == ".jsonl" else _csv_rows)(file):
            keys = [key for key in ("label", "labels") if key in cells]
            image, where = cells.get("image", cells.get("path")), cells.get("split", split)
            if not isinstance(image, str) or not image:
                raise _bad(file, line, f"image = {image!r} is no path")
            if len(keys) != 1:
                raise _bad(file, line, "needs either `label` or `labels`")
            if not isinstance(where, str) or not where:
                raise _bad(file, line, f"split = {where!r} is no name")
            labels = _labels(cells[keys[0]], keys[0] == "labels")
            if labels is None:
                raise _bad(file, line, f"{keys[0]} = {cells[keys[0]]!r} must be a name or a whole number")
            yield Row(image, labels, where), keys[0] == "labels"
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from None


def _bad(file: Path, line: int, reason: str) -> UserError:
    return UserError(f"{file}, line {line}: {reason}")


def _labels(value: object, several: bool) -> list[str] | None:
    """The labels of a cell as words; None where it holds something else."""
    if several and isinstance(value, str):
        return [word.strip() for word in value.split(";") if word.strip()]
    words = value if several else [value]
    if not isinstance(words, list) or not all(type(word) in (str, int) and str(word).strip() for word in words):
        return None
    return [str(word).strip() for word in words]


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column) of a CSV or TSV file."""
    with open(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        try:
            header = [cell.strip().lower() for cell in next(reader, [])]
            if not {"image", "path"} & set(header) or len({"label", "labels"} & set(header)) != 1:
                found = ", ".join(header)[:200] or "nothing"
                raise _bad(file, 1, f"names the columns: `image` or `path`, and `label` or `labels`; found {found}")
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise _bad(file, reader.line_num, f"has {len(cells)} cells, the first line {len(header)}")
                if cells:
                    yield reader.line_num, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise _bad(file, reader.line_num, str(error)) from None


def _jsonl_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, values by key) of a JSONL file."""
    with open(file, encoding="utf-8-sig") as text:
        for line, words in enumerate(text, 1):
            if not words.strip():
                continue
            try:
                cells = json.loads(words)
            except ValueError as error:
                raise _bad(file, line, f"is no JSON ({error})") from None
            if not isinstance(cells, dict):
                raise _bad(file, line, "must be a JSON object with `image` or `path`, and `label` or `labels`")
            yield line, cells
