"""What to do about a machine's state, in one sentence each."""

from typing import Any

REMEDIES = {  # by reason of the state `unknown`
    "gap": "samples are missing: find what else uses the processor, and check the cable",
    "silent": "the microphone delivers silence: check its mute switch, gain and cable",
    "flat_line": "the microphone delivers a constant value: check its cable, or replace it",
    "clipped": "too loud for the microphone: lower its gain (alsamixer), or move it away",
    "repeating": "the microphone delivers the same buffer again and again: replug it",
    "bandwidth": "the sound lacks the upper frequencies: use a microphone with a higher rate",
    "over_threshold": "not decided yet: wait for half a minute",
    "bundle": "its bundle was refused, the log has the reason: correct it, then systemctl reload stethos",
    "score_error": "scoring failed, the log has the cause",
    "microphone_absent": "plug the microphone in, or correct its selector (monitor devices)",
    "microphone_busy": "another program uses the microphone: stop that program",
    "microphone_denied": "the service may not open the microphone: is its user in the group audio?",
    "microphone_frozen": "the microphone is open but delivers nothing: replug it if this lasts",
    "microphone_lost": "the microphone was unplugged: plug it in again",
    "microphone_failed": "the microphone failed and is being reopened; the log has the cause",
    "microphone_channel": "the microphone has fewer channels than configured: correct `channel`",
}


def next_step(state: dict[str, Any], learning: dict[str, Any] | None, *, machine: str) -> str | None:
    """What a person should do about a state (docs/mqtt.md); None if nothing is needed. `learning` is the message of that name."""
    match state["state"]:
        case "anomaly" if state["severity"] == "alarm":
            done = "acknowledged; check the machine" if state["acknowledged"] else "check the machine now"
            return f"{done}; its sound is on the page"
        case "anomaly":
            return "check the machine at the next opportunity"
        case "learning" if learning is None or learning["phase"] == "not_started":
            return f"let it run normally and run: monitor learn --machine {machine}"
        case "learning":
            return "let it run normally until it has learned"
        case "starting":
            return "wait for the first score, a few seconds"
        case "unknown":
            return REMEDIES.get(state["reason"] or "", "see the log: journalctl -u stethos")
        case "disabled":
            return "enable it on the page or in the configuration, if it should be monitored"
    return None
