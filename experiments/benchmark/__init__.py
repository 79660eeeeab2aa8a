"""The package beside a plain JAX loop and PyTorch: what each figure means stands in `experiments/README.md`."""
