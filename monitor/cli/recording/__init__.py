"""Recording at the machine: open the microphone, measure its level, and keep a session of clips together."""
