"""Configs -> cost, sweeps, reports: FLOPs of the traced program, scaling studies, and what their results say."""

from vit_jax.scaling import hyper
from vit_jax.scaling.choice import choose_runs
from vit_jax.scaling.costs import DataSize, RunCost, describe_sweep, expected_size
from vit_jax.scaling.finetune_grid import Candidate, Splits, TaskResult, finetune_grid
from vit_jax.scaling.fits import Fit, fit_power_law
from vit_jax.scaling.gains import Gain, compute_gains, fit_families, pareto_front
from vit_jax.scaling.report import REPORT, Report, flat_row, write_report
from vit_jax.scaling.runner import Runner, Scope, Stopping
from vit_jax.scaling.shapes import Shape, sovit_shape
from vit_jax.scaling.status import status_table, summary
from vit_jax.scaling.study import (
    Attempt,
    RunResult,
    Study,
    known_costs,
    read_study,
    record_attempt,
    run_folder,
    run_status,
    save_sweep,
)
from vit_jax.scaling.supervise import end_with_parent, supervise
from vit_jax.scaling.sweeps import Sweep, SweepRun, load_sweep, run_name
from vit_jax.scaling.table import Columns, SweepRow, sweep_rows, sweep_table, totals
from vit_jax.scaling.table6 import TABLE_6, PublishedRun
from vit_jax.scaling.transfers import rows_of

__all__ = [
    "REPORT",
    "TABLE_6",
    "Attempt",
    "Candidate",
    "Columns",
    "DataSize",
    "Fit",
    "Gain",
    "PublishedRun",
    "Report",
    "RunCost",
    "RunResult",
    "Runner",
    "Scope",
    "Shape",
    "Splits",
    "Stopping",
    "Study",
    "Sweep",
    "SweepRow",
    "SweepRun",
    "TaskResult",
    "choose_runs",
    "compute_gains",
    "describe_sweep",
    "end_with_parent",
    "expected_size",
    "finetune_grid",
    "fit_families",
    "fit_power_law",
    "flat_row",
    "hyper",
    "known_costs",
    "load_sweep",
    "pareto_front",
    "read_study",
    "record_attempt",
    "rows_of",
    "run_folder",
    "run_name",
    "run_status",
    "save_sweep",
    "sovit_shape",
    "status_table",
    "summary",
    "supervise",
    "sweep_rows",
    "sweep_table",
    "totals",
    "write_report",
]
