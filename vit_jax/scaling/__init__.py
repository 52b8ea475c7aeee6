"""Configs -> cost, sweeps, reports: FLOPs of the traced program, scaling studies, and what their results say."""

from vit_jax.scaling import hyper
from vit_jax.scaling.costs import DataSize, RunCost, describe_sweep
from vit_jax.scaling.finetune_grid import Candidate, Splits, TaskResult, finetune_grid
from vit_jax.scaling.fits import Fit, fit_power_law
from vit_jax.scaling.flops import count_flops, forward_flops, training_flops
from vit_jax.scaling.gains import Gain, compute_gains, fit_families, pareto_front
from vit_jax.scaling.report import REPORT, Report, flat_row, write_report
from vit_jax.scaling.study import Attempt, RunResult, Study, read_study, record_attempt, run_folder, save_sweep
from vit_jax.scaling.sweeps import Sweep, SweepRun, load_sweep, run_name
from vit_jax.scaling.table6 import TABLE_6, PublishedRun

__all__ = [
    "REPORT",
    "TABLE_6",
    "Attempt",
    "Candidate",
    "DataSize",
    "Fit",
    "Gain",
    "PublishedRun",
    "Report",
    "RunCost",
    "RunResult",
    "Splits",
    "Study",
    "Sweep",
    "SweepRun",
    "TaskResult",
    "compute_gains",
    "count_flops",
    "describe_sweep",
    "finetune_grid",
    "fit_families",
    "fit_power_law",
    "flat_row",
    "forward_flops",
    "hyper",
    "load_sweep",
    "pareto_front",
    "read_study",
    "record_attempt",
    "run_folder",
    "run_name",
    "save_sweep",
    "training_flops",
    "write_report",
]
