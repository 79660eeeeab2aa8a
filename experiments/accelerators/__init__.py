"""What compilers expect of the presets on TPUs and GPUs that are not at hand: estimates, not measurements."""
