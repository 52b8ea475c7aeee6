"""Made-up studies for the tests of the report."""

from vit_jax.scaling import TABLE_6, RunCost, RunResult, Study


def cost(name="B-16_x", model="B/16", family="ViT", exaflops=100.0, **more):
    fields = {"parameters": 1000, "steps": 50, "epochs": 7.0, "examples": 1000, "image_size": (224, 224), **more}
    return RunCost(name=name, model=model, family=family, exaflops=exaflops, **fields)


def result(status="done", overrides=None, **more):
    of_result = {key: more.pop(key) for key in list(more) if key in RunResult.__dataclass_fields__}
    return RunResult(cost(**more), overrides or {}, status, **of_result)


def the_papers_study(**more):
    """Table 6 as if we had run it."""
    runs = [
        result(
            name=f"{r.model.replace('/', '-')}_{r.epochs}",
            model=r.model,
            family=r.family,
            exaflops=r.exaflops,
            epochs=float(r.epochs),
            scores=r.accuracies,
            **more,
        )
        for r in TABLE_6
    ]
    return Study("configs/sweeps/paper.py", tuple(runs))
