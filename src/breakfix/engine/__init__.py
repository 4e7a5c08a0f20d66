"""The container engine: how it is reached, how a shell is kept open in a container, how systemd boots there."""
