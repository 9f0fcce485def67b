"""`python -m betting_operator.local`."""

from __future__ import annotations

from betting_operator.local.main import main

if __name__ == "__main__":
    main()
