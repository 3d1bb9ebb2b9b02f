"""What a run promises: the right law, the same numbers however it is divided, and nothing lost."""

import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import xarray as xr

import slt_notebook as slt
from slt_notebook import names
from tests.runs.problems import FAST, language, regression, run_text, same, until


@pytest.fixture(scope="module")
def text():
    return language()


def test_diagnostics_take_a_share_of_the_run_and_do_not_move_when_it_grows(text, tmp_path):
    at = {}
    for draws in (4, 12, 35):
        settings = {"draws": draws, "burnin": 0, "thin": 1, "store": tmp_path / "run.zarr"}
        sampling = run_text(text, **settings).tree["sampling"].to_dataset()  # the same run, longer
        at[draws] = np.flatnonzero(np.isfinite(sampling.accept).all("chain")).tolist()
        found = np.isfinite(sampling.control_loss).sum("control")
        assert (found == {4: 2, 12: 2, 35: 7}[draws]).all()
    assert at == {4: [0], 12: [0, 10], 35: [0, 10, 30]}


def test_tree_has_the_documented_layout(text):
    tree = run_text(text).tree
    sampling, probe = tree["sampling"].to_dataset(), tree["probe/train"].to_dataset()
    assert sampling.loss.dims == ("chain", "step") and sampling.sizes == {
        "chain": 4,
        "step": 14,
        "draw": 6,
        "control": 8,
    }
    assert probe.loss.dims == ("chain", "draw", "example", "token")
    assert probe.token.values.tolist() == list(range(1, 16))
    assert sampling.attrs[names.A_BURNIN] == 2 and sampling.attrs[names.A_THIN] == 2
    assert np.isfinite(sampling.loss).all() and np.isfinite(sampling.virial).all()
    assert (sampling.status == 0).all()
    mask = text[2].fields["attention_mask"][:, 1:] > 0
    assert (np.isfinite(probe.loss.values) == mask).all()
    assert json.loads(tree.attrs[names.A_TASK])["kernel"]["kind"] == "SGLD"


def test_probe_losses_are_those_of_the_positions(text):
    """The last draw, recomputed by hand from the checkpoint with the plain model."""
    model, loss, data = text
    run = run_text(text, store=None)
    position = np.asarray(
        __import__("zarr").open_group(str(run._job.store.path))["checkpoint/position"][:]
    )
    cursor = __import__("zarr").open_group(str(run._job.store.path))["checkpoint/cursor"][:]
    chain = 2
    vector = torch.from_numpy(position[chain, cursor[chain].argmax()])
    params = run._job.potential.space.unflatten(vector, loss.params)
    ids = torch.from_numpy(data.fields["input_ids"])
    with torch.no_grad():
        logits = torch.func.functional_call(model.eval(), params, (ids,)).logits
    expected = -logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].numpy()
    got = run.tree["probe/train"].loss.values[chain, -1]
    counts = np.isfinite(got)
    np.testing.assert_allclose(got[counts], expected[counts], rtol=1e-4, atol=1e-5)


def test_baseline_is_the_loss_of_the_very_batch(text):
    from slt_notebook.core import streams

    _, loss, data = text
    sampling = run_text(text).tree["sampling"].to_dataset()
    init = loss.evaluate(loss.params, data.tensors("cpu")).numpy()
    for chain, step in ((0, 0), (1, 5), (3, 13)):
        index = streams.batch(0, chain, step, 5, len(data))
        assert float(sampling.init_loss[chain, step]) == pytest.approx(
            np.nanmean(init[index]), rel=1e-5
        )
    # Before the first step the chain is at w*, so the two must agree.
    np.testing.assert_allclose(sampling.loss[:, 0], sampling.init_loss[:, 0], rtol=1e-5)


def test_the_model_is_left_untouched():
    model, _, data = language()
    model.train()
    for p in model.parameters():
        p.requires_grad_(True)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    loss = slt.causal_lm(model)
    slt.sample(loss, data, chains=1, draws=2, batch_size=4, **FAST)
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_chains_may_be_split(text):
    """Noise and batches are bit-equal; so is everything with the same chunk size."""
    whole = run_text(text, chains=4, chain_chunk=1).tree
    parts = [run_text(text, chains=c, chain_chunk=1).tree for c in ([0, 1], [2, 3])]
    for path in ("sampling", "probe/train"):
        joined = xr.concat(
            [p[path].to_dataset() for p in parts], "chain", data_vars="minimal", coords="minimal",
            compat="equals", join="exact",
        )  # fmt: skip
        for name, value in whole[path].to_dataset().data_vars.items():
            np.testing.assert_array_equal(value.values, joined[name].values, err_msg=name)


def test_chunks_change_rounding_only(text):
    loop, batched = (run_text(text, chain_chunk=c).tree["probe/train"].loss for c in (1, 4))
    np.testing.assert_allclose(loop, batched, rtol=2e-4, atol=1e-5)


def test_executor_of_threads_gives_the_same(text):
    with ThreadPoolExecutor(2) as pool:
        split = run_text(text, executor=pool, chain_chunk=1).tree
    same(run_text(text, chain_chunk=1).tree, split)


def test_pause_and_resume(text):
    run = run_text(text, draws=400, blocking=False)
    until(lambda: run.progress()["draw"] >= 3 or run.finished)
    run.pause()
    until(lambda: run.progress()["stage"] == "paused")
    at = run.progress()["step"]
    time.sleep(0.1)
    assert run.progress()["step"] == at
    run.resume()
    until(lambda: run.progress()["step"] > at)
    run.cancel()
    assert run.finished


def test_progress_says_where_it_is(text):
    run = run_text(text)
    p = run.progress()
    assert p["stage"] == "finished" and p["draw"] == p["draws"] == 6 and p["seconds_left"] == 0
    assert [c["status"] for c in p["chains"]] == ["ok"] * 4
    assert len(p["loss"]) == 4 and len(p["loss"][0]) == len(p["loss_step"])
    assert "draw 6 of 6" in repr(run)


def test_one_diverged_chain_does_not_touch_the_others():
    loss, data, *_ = regression()
    settings = {**FAST, "draws": 60, "batch_size": 40, "probes": [data], "chain_chunk": 1}
    settings["kernel"] = slt.SGLD((1e-3, 30.0, 1e-3))
    run = slt.sample(loss, data, chains=3, **settings)
    sampling = run.tree["sampling"].to_dataset()
    assert sampling.status.values.tolist()[0] == sampling.status.values.tolist()[2] == 0
    code, step = int(sampling.status[1]), int(sampling.status_step[1])
    assert code in range(names.STATUS_LOSS, names.STATUS_PROBE + 1)
    assert 0 < step < 60
    assert "chain 1 diverged" in run.progress()["message"] and f"step {step}" in repr(run)
    probe = run.tree["probe/train"].loss
    assert np.isnan(probe.values[1, step + 1 :]).all() and np.isfinite(probe.values[[0, 2]]).all()
    settings["kernel"] = slt.SGLD(1e-3)
    alone = slt.sample(loss, data, chains=[0, 2], **settings).tree["probe/train"].loss
    np.testing.assert_array_equal(alone.values, probe.values[[0, 2]])


def test_all_chains_diverged_is_an_error_that_says_what_to_do():
    loss, data, *_ = regression()
    with pytest.raises(slt.Diverged, match="smaller step_size"):
        slt.sample(loss, data, chains=2, draws=80, **{**FAST, "kernel": slt.SGLD(50.0)})


def test_ctrl_c_keeps_what_is_done(tmp_path):
    """A real process, a real SIGINT."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import slt_notebook as slt
            from tests.runs.problems import language
            _, loss, data = language()
            print("go", flush=True)
            run = slt.sample(loss, data, probes=[data], draws=100000, chains=2, batch_size=4,
                             gamma=50.0, nbeta=20.0, store={str(tmp_path / "run.zarr")!r})
            print(run.progress()["stage"], flush=True)
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**__import__("os").environ, "PYTHONPATH": "."},
        # A shell's background job ignores SIGINT, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout.readline() == "go\n"
    while not (tmp_path / "run.zarr" / "checkpoint").exists():  # on a busy machine that takes long
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "stopped" in out and "every finished draw is kept" in err
    kept = np.isfinite(slt.open_run(tmp_path / "run.zarr")["sampling"].loss).sum("step")
    assert (kept > 1).all()


def test_shared_batches_are_shared_and_not_the_default(text):
    default = run_text(text).tree["sampling"].init_loss
    assert not np.allclose(default[0], default[1])
    shared = run_text(text, batches="shared").tree["sampling"].init_loss
    np.testing.assert_array_equal(shared[0], shared[1])


def test_a_component_moves_alone(text):
    model, loss, data = text
    run = run_text(text, components="param:*q_proj*+param:*o_proj.weight")
    space = run._job.potential.space
    assert {p.name.split(".")[-2] for p in space.pieces} == {"q_proj", "o_proj"}
    assert run.tree["sampling"].attrs[names.A_SPACE_DIM] == 4 * 32 * 32
    assert run.tree["sampling"].attrs[names.A_COMPONENT].startswith("param:")


def test_no_thread_is_left_behind(text):
    before = {t.name for t in threading.enumerate()}
    run_text(text)
    time.sleep(0.05)
    left = {t.name for t in threading.enumerate()} - before
    assert not any(name.startswith("slt-") for name in left), left


def test_without_a_loss_draws_come_from_the_exact_law():
    """nbeta = 0: independent draws of SGLD's stationary variance, in the store as any run."""
    loss, data, x, _ = regression()
    settings = {**FAST, "nbeta": 0.0, "gamma": 50.0, "kernel": slt.SGLD(2e-2), "probes": [data]}
    run = slt.sample(loss, data, chains=4, draws=600, batch_size=8, **settings)
    variance = 2e-2 / (1 - (1 - 2e-2 * 50 / 2) ** 2)
    distance = run.tree["sampling"].distance.values
    assert np.mean(distance**2) == pytest.approx(5 * variance, rel=4 * np.sqrt(2 / (5 * 2400)))
    rise = run.tree["probe/train"].loss - run.tree["probe/train"].init_loss
    expected = (x**2).sum(1) / 2 * variance
    error = rise.std(("chain", "draw")) / np.sqrt(2400)
    assert float(abs((rise.mean(("chain", "draw")) - expected) / error).max()) < 4.5
    first, second = distance[:, :-1].ravel(), distance[:, 1:].ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))
    again = slt.sample(loss, data, chains=[2, 3], draws=600, batch_size=8, **settings)
    np.testing.assert_array_equal(again.tree["sampling"].distance, distance[2:])
