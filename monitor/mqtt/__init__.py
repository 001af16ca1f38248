"""The contract with subscribers, the outbox, and the connection to the broker."""
