"""Runs as a script, replaces itself by a program that the kernel signals when the supervisor dies (Linux).

    python -I -S exec_child.py SIGNAL PARENT_PID USER:GROUP PROGRAM ARGUMENTS…

A wrapper instead of a hook between fork and exec: the supervisor has threads, and after a fork only exec is safe.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Becomes the user, asks for the signal (in this order: the other forgets it), becomes the program."""
    death_signal, parent = int(sys.argv[1]), int(sys.argv[2])
    if sys.argv[3] != ":":
        user, group = sys.argv[3].split(":")
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the supervisor died before this process began")
    os.execvp(sys.argv[4], sys.argv[4:])  # noqa: S606  (becoming the program is the purpose)


if __name__ == "__main__":
    main()
