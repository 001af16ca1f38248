"""The service: microphones, machines, commands and MQTT, wired together for as long as the computer is on."""
