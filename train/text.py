"""Text for output: on one line, and in characters that every output can encode."""


def printable(text: str) -> str:
    r"""The text with whatever is no printable character as Python writes it: `\n`, or `\udcfc` for a byte that is no UTF-8."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
