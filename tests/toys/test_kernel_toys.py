"""The loss kernel shows what is known of a network: its tasks, and its planted labels.

python -m tests.toys.test_kernel_toys     prints the figures of the README
"""

import sys

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.toys.digits import digits
from slt_notebook.toys.two_tasks import examples, two_tasks


def kernel_run(toy, probe, **options):
    options = {
        "kernel": slt.SGLD(1e-5, slt.RMSProp()), "nbeta": 1e3, "gamma": 1e3, "chains": 8,
        "draws": 200, "burnin": 200, "thin": 4, "batch_size": 128, "progress": False, **options,
    }  # fmt: skip
    return slt.sample(toy.loss, toy.train, probes=[probe], **options)


def cross(run, task):
    """Mean correlation of a pair of the two tasks, and its standard error."""
    found = slt.group_influence(
        run, np.where(task == 0, "A", "B"), normalize=True, unit="sequence", sign="kernel"
    ).sel(group="A", group_="B")
    return float(found.influence), float(found.stderr)


def tasks(kind, training=1500, **options):
    sizes = {"train": 500} if kind == "disjoint" else {}
    toy = two_tasks(kind, steps=training, **sizes)
    # All of the data as one batch: the composition of a random batch couples the tasks.
    batch = {"batch_size": 500} if kind == "disjoint" else {}
    run = kernel_run(toy, toy.held, **batch, **options)
    found = slt.separation(slt.loss_kernel(run, stderr=False), toy.facts["task"])
    return toy, found, cross(run, toy.facts["task"])


def test_the_answers_of_the_two_tasks():
    inputs, answer, task = examples(1000, 0)
    assert (answer[task == 0] == (inputs[task == 0, 0] * inputs[task == 0, 1] > 0)).all()
    assert 0.4 < answer[task == 1].mean() < 0.6
    assert (inputs[:, 8] == (task == 0)).all()
    with pytest.raises(slt.InputError, match="did you mean 'shared'"):
        two_tasks("shraed")


def test_a_shared_network_tells_its_tasks_apart():
    # Fewer draws will not do: the mean of a squared correlation has a floor of 1 / effective draws,
    # which at 80 draws a chain is larger than what two tasks share.
    toy, found, _ = tasks("shared")
    assert toy.facts["held_accuracy"] > 0.9
    assert found["ratio"] >= 5
    assert found["nearest"] >= 0.95


def test_disjoint_weights_do_not_correlate():
    _, found, (mean, error) = tasks("disjoint", training=500, draws=60, burnin=120)
    assert abs(mean) < 3.5 * error + 1e-9  # eight chains: t with 7 degrees of freedom
    assert found["within"] > 5 * error


@pytest.mark.slow
def test_memorized_answers_have_no_task():
    """A negative control: without a shared mechanism the kernel does not see the task."""
    _, found, _ = tasks("memorized")
    assert found["auc"] < 0.6 and found["within"] < 0.02


def wrong_labels(seed=0, **options):
    from sklearn.metrics import roc_auc_score

    toy = digits(seed=seed)
    run = kernel_run(toy, toy.train, chains=4, **options)
    found = slt.loss_moments(run)
    wrong, given = toy.facts["wrong"], toy.facts["given"]
    r = slt.loss_kernel(run, stderr=False).values
    np.fill_diagonal(r, 0)
    by_class = np.stack([r[:, given == c].sum(1) / (given == c).sum() for c in range(10)], 1)
    own = np.take_along_axis(by_class, given[:, None], 1)[:, 0]
    scores = {
        "variance": found.variance, "gain": found.gain, "kernel": -own,
        "loss at w*": found.init_loss,
    }  # fmt: skip
    return toy, {k: roc_auc_score(wrong, np.asarray(v)) for k, v in scores.items()}


def test_planted_wrong_labels_are_found():
    toy, auc = wrong_labels(draws=60, burnin=120)
    assert toy.facts["wrong"].sum() == 100
    assert auc["variance"] >= 0.95


def figures():
    for kind in ("shared", "untrained", "memorized", "disjoint"):
        toy, found, (mean, error) = tasks(kind)
        print(
            f"{kind:10} within / cross mean R2 {found['ratio']:.1f}, 1-NN {found['nearest']:.3f}, "
            f"cross mean R {mean:+.4f} +- {error:.4f} ({mean / error:+.1f} standard errors), "
            f"held-out accuracy {toy.facts['held_accuracy']:.3f}",
            flush=True,
        )
    for seed in range(3):
        toy, auc = wrong_labels(seed)
        said = ", ".join(f"{k} {v:.3f}" for k, v in auc.items())
        print(f"wrong labels, seed {seed}: AUC by {said}", flush=True)


if __name__ == "__main__":
    sys.exit(figures())
