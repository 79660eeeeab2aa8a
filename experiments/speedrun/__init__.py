"""The Fashion-MNIST speedrun: seconds from data in memory to weights of a test accuracy, by the same rules for all."""
