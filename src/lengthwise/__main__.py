"""`python -m lengthwise` is the command line."""

from lengthwise.cli import main

main()
