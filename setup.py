"""Packaging of vit_jax: version ranges, extras, and the configs and launchers that ride in the wheel."""

from pathlib import Path

from setuptools import find_packages, setup

# Upper bounds only where a known release breaks us; everything else admits the newest.
BASE = [
    "jax>=0.10",
    "flax>=0.12.6",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.12",
    "ml_collections>=1.1.0",
    # clu's metric writers need TensorFlow and TensorBoard, which clu does not declare.
    "clu>=0.0.12",
    "tensorboard>=2.18",
    "tensorflow-datasets>=4.9.9",
    "opencv-python-headless>=4.10",
    "pillow>=11",
    # Reads sets that are stored so; other systems have no wheel, and we say so when such a set is opened.
    'array_record>=0.5; sys_platform == "linux" or (sys_platform == "darwin" and platform_machine == "arm64")',
    "importlib_resources",  # tensorflow-datasets 4.9.10 imports it without declaring it
    # The CPU build where one exists; input pipelines never need the accelerator build.
    'tensorflow-cpu>=2.20; sys_platform == "linux" and platform_machine == "x86_64" and python_version < "3.14"',
    'tensorflow>=2.20; (sys_platform != "linux" or platform_machine != "x86_64") and python_version < "3.14"',
    "absl-py>=2.1",
    "einops>=0.8",
    "flatbuffers>=24",  # jax.export writes with it and does not declare it
    "ml_dtypes>=0.4",
    "packaging>=23",
    "safetensors>=0.4",
    "numpy>=1.26",
    "psutil>=5.9",
    "pyyaml>=6",
    "rich>=13",
    "scipy>=1.11",
    "scikit-learn>=1.4,!=1.5.0",  # 1.5.0 was yanked
    "matplotlib>=3.8",
]

TEST = [
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "ruff>=0.9",
    "mypy>=1.13",
    "types-PyYAML",
    "dockerfile-parse>=2",
    "kubeflow-trainer-api>=2.1",  # ships the published schema of JobSet
]

# Top-level folders of the repository that are sub-packages of the wheel.
FOLDERS = {"vit_jax.configs": "configs", "vit_jax.configs.sweeps": "configs/sweeps", "vit_jax.launch": "launch"}

setup(
    name="vit_jax",
    version="0.1.0",
    description="Scale vision models in JAX: ViT, hybrid and ResNet from a laptop to a TPU pod.",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["vit_jax", "vit_jax.*"]), *FOLDERS],
    package_dir=FOLDERS,
    package_data={"vit_jax.launch": ["worker.sh", "Dockerfile"]},
    install_requires=BASE,
    extras_require={
        "tpu": ["jax[tpu]"],
        "gpu": ["jax[cuda13]"],
        "test": TEST,
        # libjpeg-turbo 3 through its own interface: input an eighth faster where the system does not bring it.
        "jpeg": ["turbojpeg"],
        # ONNX export needs jax2onnx as well, without its dependencies: see the Makefile.
        "interop": ["torch", "timm", "transformers", "safetensors", "onnx", "onnx-ir", "onnxruntime"],
    },
    entry_points={"console_scripts": ["vit_jax = vit_jax.__main__:main"]},
)
