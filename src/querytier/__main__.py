"""`python -m querytier`, the same as `querytier`."""

from querytier.cli.main import main

main()
