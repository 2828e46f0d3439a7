"""`python -m tnacli_runtime`: the command `tna-run`."""

from tnacli_runtime.command import main

main()
