"""Check of what a server is to be started with, before it is. Serves nothing, and loads no model."""
