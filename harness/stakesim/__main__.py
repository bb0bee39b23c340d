"""`python -m stakesim` is the command `stakesim`."""

from stakesim.commands.cli import main

if __name__ == "__main__":
    main()
