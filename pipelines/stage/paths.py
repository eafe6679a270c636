"""Paths as users type them: any name that the system knows, or refused by name.

The tables are UTF-8, and so is what a model or a version says of a file: a name in other bytes could not be recorded.
"""

from contextlib import suppress
from pathlib import Path

from pipelines.stage.errors import UserError


def path_of(text: str, what: str) -> Path:
    """The path that a user gave as `what`, there or not; `~` is the home folder unless something here is called so.

    Raises:
        UserError: it is empty, no path of this system, not UTF-8, or leads through a folder that is closed to us.
    """
    if not text:
        raise UserError(f"{what} is empty; expected a path, such as ./name")
    try:
        path = Path(text)
        if text.startswith("~") and not path.exists():
            path = path.expanduser()
        str(path.absolute()).encode()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} {str(path.absolute())!r} has a name in it that is not UTF-8; rename it") from error
    except RuntimeError as error:  # of expanduser
        raise UserError(f"{what} {text}: no such user; expected a path (or ./{text})") from error
    except (OSError, ValueError) as error:  # too long, a NUL, links in a circle, no permission
        found = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{what} {text!r} leads nowhere: {found}; expected another path") from error
    return path


def folder_of(text: str, what: str) -> Path:
    """`path_of` as a folder, absolute, there or not yet. Raises UserError also where a file or a dead link stands."""
    folder = path_of(text, what).absolute()
    folder = folder.resolve() if ".." in folder.parts else folder  # else `new/..` would make `new`
    for place in (folder, *folder.parents):
        if place.is_symlink() and not place.exists():
            raise UserError(f"{what} {folder}: {place} is a link to nothing; expected a folder")
        if place.exists() and not place.is_dir():
            raise UserError(f"{what} {folder}: {place} is a file; expected a folder (existing or new)")
    return folder
