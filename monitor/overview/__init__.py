"""The overview of many nodes: their messages from the broker, their present state, its history, and their web page."""
