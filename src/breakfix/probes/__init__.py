"""What looks into a session, from outside."""
