"""When recordings were made: their order in time, their sessions, and how far the sessions are apart."""
