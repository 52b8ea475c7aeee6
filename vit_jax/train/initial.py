"""What the parameters start from: fresh values, or weights of another run or of a published file."""

from vit_jax.checkpoint import Report, adapt, load
from vit_jax.errors import BadSetting, UserError
from vit_jax.models import Model, Params
from vit_jax.train.settings import InitSettings


def initial_params(settings: InitSettings, model: Model, labels: tuple[str, ...], seed: int) -> tuple[Params, Report]:
    """The weights that `config.init` names, adapted to the model of the run.

    Args:
      settings: which weights, and what becomes of their classifier.
      model: of the run.
      labels: its class names.
      seed: of what the file has no values for.

    Returns:
      (nested dicts of float32 NumPy arrays, what became of each).

    Raises:
      BadSetting, UserError: they cannot be loaded, or do not fit the model.
    """
    try:
        weights = load(settings.checkpoint, settings.step)
        source = weights.metadata
        return adapt(
            weights.params,
            source.model,
            model,
            head=settings.head,
            method=settings.posemb,
            labels=(source.label_names, labels),
            seed=seed,
        )
    except BadSetting as error:
        raise error.below("config.init") from None
    except UserError as error:
        raise UserError(f"config.init.checkpoint = {settings.checkpoint!r}: {error}") from None
