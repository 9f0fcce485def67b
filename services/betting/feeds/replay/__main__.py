"""`python -m betting.feeds.replay`"""

from betting.feeds.replay.main import main

main()
