"""Sample a tiny model with devinterp and keep its store, with the numbers that it computes itself.

`python -m tests.results.make_devinterp_store` (needs `pip install devinterp==2.0.1`) rewrites
`tests/results/data/devinterp.zip`.  The tests only read that file.
"""

import json
import tempfile
import warnings
import zipfile
from pathlib import Path

OUT = Path(__file__).parent / "data" / "devinterp.zip"


def main() -> None:
    import torch
    from datasets import Dataset
    from devinterp.slt.bif import compute_bif
    from devinterp.slt.llc import compute_llc
    from devinterp.slt.sampling import sample
    from torch import nn

    torch.manual_seed(0)

    class Bigram(nn.Module):
        def __init__(self, vocabulary=12, width=4):
            super().__init__()
            self.inside = nn.Embedding(vocabulary, width)
            self.outside = nn.Linear(width, vocabulary)

        def forward(self, input_ids):
            return self.outside(self.inside(input_ids))

    ids = torch.randint(0, 12, (40, 9))
    rows = lambda part: Dataset.from_dict({"input_ids": part.tolist()}).with_format("torch")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "samples.zarr"
        tree = sample(
            Bigram(),
            rows(ids[:32]),
            {"text": (rows(ids[32:36]), 1), "code": (rows(ids[36:]), 1)},
            lr=1e-3,
            n_beta=8.0,
            localization=5.0,
            num_chains=3,
            num_draws=12,
            batch_size=4,
            num_burnin_steps=5,
            num_steps_bw_draws=2,
            num_init_loss_batches=4,
            output_path=path,
            device="cpu",
            loss_fn=lambda model, input_ids: nn.functional.cross_entropy(
                model(input_ids[:, :-1]).transpose(1, 2), input_ids[:, 1:], reduction="none"
            ),
        )
        llc = compute_llc(tree)
        bif = compute_bif(tree, compute_covariance=True, device="cpu")
        numbers = {
            "llc_mean": float(llc.llc_mean),
            "llc_per_chain": llc.llc_per_chain.values.tolist(),
            "bif_keys": ["code", "text"],
            "bif": bif.influences.values[:8, :8, :3, :3].tolist(),
        }
        OUT.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(OUT, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path.rglob("*")):
                if file.is_file():
                    archive.write(file, f"samples.zarr/{file.relative_to(path)}")
            archive.writestr("numbers.json", json.dumps(numbers))
    print(f"{OUT.name}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
