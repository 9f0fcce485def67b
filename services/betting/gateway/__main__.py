"""`python -m betting.gateway`"""

from betting.gateway.main import main

if __name__ == "__main__":
    main()
