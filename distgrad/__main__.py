"""`python -m distgrad`: the command line."""

from distgrad.cli import main

main()
