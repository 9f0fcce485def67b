"""`python -m betting_operator.healer`."""

from __future__ import annotations

from betting_operator.healer.main import main

if __name__ == "__main__":
    main()
