"""What is imported when: nothing heavy by the package itself, and TensorFlow only for data sets of files."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

WITHOUT_TENSORFLOW = """
import sys

class Without:  # a finder that does not find them, as if they were not installed
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in ("tensorflow", "tensorflow_datasets", "clu")
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""

TRAIN = """
import vit_jax.models, vit_jax.train, vit_jax.checkpoint, vit_jax.evaluate
from vit_jax.data import DataSettings, open_dataset
from vit_jax.errors import UserError
from vit_jax.settings import build

settings = build(vit_jax.train.RunSettings, {
    "model": {"variant": "mu/2"},
    "data": {"name": "synthetic", "image_size": (8, 8)},
    "train": {"batch_size": 16, "duration": "3 steps"},
    "schedule": {"warmup": "1 step"},
    "checkpoint": {"every": "2 steps"},
    "evaluate": {"every": "3 steps"},
    "log": {"every": "1 step"},
})
result = vit_jax.train.train(settings, sys.argv[1])
weights = vit_jax.checkpoint.load(str(result.exported[0]))
try:
    open_dataset(DataSettings(name="digits"), "train")
    refusal = "none"
except UserError as error:
    refusal = str(error)
print(json.dumps([result.step, result.evaluation, [p.name for p in result.exported], refusal]))
"""


def run(script: str, *arguments: str) -> str:
    """What the script prints in a fresh process."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def loaded_by(*statements: str) -> list[str]:
    heavy = ("jax", "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "clu", "sklearn")
    return run("\n".join(["import sys", *statements, f"print(*[m for m in {heavy} if m in sys.modules], '.')"])).split()


def test_the_package_alone_loads_nothing_heavy():
    assert loaded_by("import vit_jax, vit_jax.__main__, vit_jax.errors, vit_jax.settings") == ["."]


def test_data_loads_neither_jax_nor_tensorflow_until_it_is_opened():
    assert loaded_by("from vit_jax.data import *") == ["."]


def test_training_loads_jax_and_no_tensorflow():
    loaded = loaded_by("import vit_jax.train, vit_jax.checkpoint, vit_jax.evaluate, vit_jax.data")
    assert "jax" in loaded
    assert not {"tensorflow", "tensorflow_datasets", "clu", "sklearn"} & set(loaded)


def test_training_and_export_work_without_tensorflow_and_digits_say_what_is_missing(tmp_path):
    step, evaluation, exported, refusal = json.loads(
        run(f"import json\n{WITHOUT_TENSORFLOW}{TRAIN}", str(tmp_path / "run"))
    )
    assert step == 3
    assert 0 <= evaluation["accuracy"] <= 1
    assert exported
    assert all((tmp_path / "run" / "export" / name).stat().st_size > 0 for name in exported)
    assert refusal.startswith("this data set needs TensorFlow, which cannot be imported")
    assert "\n" not in refusal


@pytest.mark.parametrize("name", ["tensorflow", "tensorflow_datasets", "clu.metric_writers"])
def test_what_is_hidden_cannot_be_imported(name):
    with pytest.raises(AssertionError, match="ModuleNotFoundError: No module named"):
        run(f"{WITHOUT_TENSORFLOW}\nimport {name}")
