"""A ViT on your own images: `<folder>/<split>/<class>/*.{jpg,jpeg,png,bmp,gif}` with splits `train` and `test`.

    vit_jax train --config=configs/folder.py:/path/to/images --workdir=mine

Without a test folder, hold some of the training images out:

    --config.data.train_split='train[:90%]' --config.evaluate.split='train[90%:]'
"""

from ml_collections import ConfigDict


def get_config(folder: str) -> ConfigDict:
    """The config for the images below `folder`."""
    config = ConfigDict()
    config.model = ConfigDict()
    config.model.variant = "S/16"
    config.model.dtype = "bfloat16"

    config.data = ConfigDict()
    config.data.name = "folder"
    config.data.data_dir = folder
    config.data.image_size = (224, 224)
    config.data.train_preprocess = "decode|inception_crop|flip"
    config.data.eval_preprocess = "decode|resize_small|central_crop"

    config.train = ConfigDict()
    config.train.batch_size = 256
    config.train.duration = "100 epochs"
    config.train.label_smoothing = 0.1

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 1e-3
    config.schedule.warmup = "10%"
    return config
