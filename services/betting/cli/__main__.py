"""`python -m betting.cli`: the command `betting`, where scripts are not on the path."""

from betting.cli.main import main

main()
