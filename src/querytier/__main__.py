"""`python -m querytier`, the same as `querytier`."""

from querytier.cli import main

main()
