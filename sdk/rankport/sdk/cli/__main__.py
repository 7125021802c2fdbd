"""`python -m rankport.sdk.cli`: the command where no script is installed."""

from rankport.sdk.cli import main

main()
