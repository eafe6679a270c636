"""Whether a text can be written as UTF-8: half a surrogate pair can stand in no file, no table and no tokenizer."""


def encoding_error(text: str) -> str | None:
    """Why a text cannot be encoded, in one line; None when it can."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"UnicodeEncodeError: {error.reason} at character {error.start}"
    return None
