"""The service: microphones, machines, commands and MQTT, wired together. It may import everything except the web page."""
