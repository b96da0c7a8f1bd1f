"""``python -m specenhance``: the command line."""

from specenhance.cli import main

main()
