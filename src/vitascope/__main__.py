"""`python -m vitascope` is the `vitascope` command."""

from vitascope.cli.app import main

main()
