"""`python -m tnacli` is `tna`."""

from tnacli.cli.app import main

if __name__ == "__main__":
    main()
