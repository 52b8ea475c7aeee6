"""vit_jax: scale vision models (ViT, hybrid, ResNet) in JAX, from a laptop to a TPU pod.

The rooms are `vit_jax.models`, `data`, `parallel`, `train`, `checkpoint` and `evaluate`; importing this
package loads neither JAX nor TensorFlow.
"""

__version__ = "0.1.0"
