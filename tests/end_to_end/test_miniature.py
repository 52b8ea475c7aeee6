"""The paper's claims in miniature, on digits, for each family; the numbers are printed.

`miniature.py` trains; these tests read what it found. XLA optimises here, unlike in the other tests: it trains minutes.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.miniature

SEEDS = 3
# Accuracy that few-shot tests gain by pre-training, at least. Random convolutions are good features for digits: the
# ResNet's leave little to gain.
FEW_SHOT_GAIN = {"vit": 0.3, "hybrid": 0.2, "resnet": 0.1}


@pytest.fixture(scope="module", params=FEW_SHOT_GAIN)
def study(request, tmp_path_factory, digits_dir):
    """(family, the numbers of each seed)."""
    script = Path(__file__).parent / "miniature.py"
    folder = tmp_path_factory.mktemp(request.param)
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, str(script), request.param, str(digits_dir), str(folder), str(SEEDS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == SEEDS
    print(f"\n{request.param}")
    for name in found[0]:
        values = [numbers[name] for numbers in found]
        print(f"  {name:<20} {statistics.fmean(values):.2%}  of {', '.join(f'{v:.2%}' for v in values)}")
    return request.param, found


def mean(found, name):
    return statistics.fmean(numbers[name] for numbers in found)


def test_fine_tuning_at_a_higher_resolution_does_not_lower_the_accuracy(study):
    _, found = study
    assert mean(found, "finetuned") >= mean(found, "pretrained")
    assert mean(found, "pretrained") > 0.8


def test_few_shot_from_a_pre_trained_backbone_beats_a_fresh_one_by_far(study):
    family, found = study
    gains = [numbers["few_shot"] - numbers["few_shot_fresh"] for numbers in found]
    assert min(gains) > 0
    assert statistics.fmean(gains) > FEW_SHOT_GAIN[family]


def test_masked_patches_without_labels_help_where_labels_are_few(study):
    family, found = study
    if family == "resnet":
        assert "few_labels" not in found[0]  # it has no tokens
        return
    assert mean(found, "few_labels") > mean(found, "few_labels_scratch")
