"""A real gateway and TorchServe for one bundle, and the ways to ask them."""
