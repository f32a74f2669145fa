"""Others' names and reasons, within a line of ours."""


def shown(name: object) -> str:
    """A file's name, or a library's reason, within a line: what can't be printed is escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(name))


def reason(error: Exception) -> str:
    """Why, in a few words of a library's."""
    return shown(
        (getattr(error, "strerror", None) or str(error) or type(error).__name__).split("\n")[0]
    )[:200]
