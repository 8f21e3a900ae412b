"""A vanilla character RNN whose forward pass, gradients and optimiser are written by hand in NumPy."""
