"""`python -m betting_operator.kubernetes`"""

from betting_operator.kubernetes.main import main

main()
