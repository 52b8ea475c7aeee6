"""One process of several: gathers the global training batches it helped to make and writes them down.

Usage: gather_batches.py <data_dir> <output.npz>; the environment says which process this is.
"""

import sys

import numpy as np

from vit_jax import data, parallel


def main() -> None:
    data_dir, output = sys.argv[1:]
    parallel.start()
    mesh = parallel.make_mesh(parallel.MeshSettings(fsdp=2))
    settings = data.DataSettings(
        data_dir=data_dir,
        image_size=(8, 8),
        train_preprocess="decode|resize|flip|random_affine",
        eval_preprocess="decode|resize",
    )
    rows = parallel.host_rows(mesh, 64)
    local = data.open_dataset(settings, "train").train_batches(3, 64, rows, 20, 25)
    batches = [parallel.to_host(batch) for batch in parallel.feed(mesh, 64, rows, local)]
    if parallel.is_main():
        names = ("image", "label")
        np.savez(output, rows=rows, **{name: np.stack([batch[name] for batch in batches]) for name in names})
    parallel.barrier("written")


if __name__ == "__main__":
    main()
