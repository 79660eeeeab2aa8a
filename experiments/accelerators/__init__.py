"""What compilers say of the presets on TPUs and GPUs that are not at hand: estimates, and no measurement."""
