"""Real Kubernetes clusters: the API, the command that makes them, the shared one, what a session has in it."""
