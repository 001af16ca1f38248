"""The service: microphones, machines, commands and MQTT, wired together. It may touch everything but the web page."""
