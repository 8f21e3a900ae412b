"""`python -m training`: the same as the program `inkwell`; what `torchrun -m` needs."""

from training.cli import main

main()
