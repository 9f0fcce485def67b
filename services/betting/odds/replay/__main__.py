"""`python -m betting.odds.replay`"""

from betting.odds.replay.main import main

main()
