"""A web page that listens: its parts, the runtime in it, and a server for this machine."""
