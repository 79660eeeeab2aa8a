"""The README's pictures, and the modules that draw them."""
