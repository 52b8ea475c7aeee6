"""Class token or mean pooling, with the learning rate of each (arXiv 2010.11929, appendix D.3, figure 9).

    vit_jax sweep --config=configs/sweeps/pooling.py --workdir=study

B/16 on JFT-300M, measured by linear 5-shot accuracy on ImageNet over 7 epochs. Mean pooling (`gap`) reads the mean of
the patches by a linear classifier, without class token and pre-logits. The figure does not say which model; the
argument is another data set to pre-train on.

What the paper found: both work equally well, but with different learning rates: 8e-4 suits the class token, 3e-4 mean
pooling, which is clearly worse at 8e-4. That is why first attempts at it seemed to fail.
"""

RATES = [1e-4, 3e-4, 8e-4, 2e-3]


def get_hyper(hyper, argument=""):
    """Two ways to pool, four learning rates each."""
    pools = hyper.table(("model.pool", "model.pre_logits"), [("token", True), ("gap", False)])
    points = [hyper.fixed("config", "configs/pretrain.py:B/16,jft,fewshot"), pools]
    points.append(hyper.sweep("schedule.learning_rate", RATES))
    points += [hyper.fixed("data.name", argument)] if argument else []
    return hyper.product(points)
