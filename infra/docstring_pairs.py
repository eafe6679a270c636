"""Real text from your own disk: the docstrings of installed packages as (query, passage) pairs, for the quickstart.

The query is a docstring's summary line; the passage is the function's name in words and the prose that follows
the summary, cut before the parameter list. Files are parsed, never imported; the same packages give the same file.
"""

import argparse
import ast
import importlib.util
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import polars as pl

PACKAGES = ["torch", "ray", "transformers", "sklearn", "scipy", "polars"]
FILES_PER_PACKAGE = 300
SECTION = re.compile(  # where the prose ends: Google's, NumPy's and Sphinx's headings, examples, directives
    r"^\s*(?:(?:args?|arguments|parameters?|params|returns?|yields?|raises|attributes|examples?|notes?|references"
    r"|see also|other parameters|warns?|warnings?|keyword arguments|inputs?|outputs?|shape|usage|methods|todo)\s*:*\s*$"
    r"|(?:args?|arguments|parameters?|params|returns?|raises|yields?|examples?|shape|inputs?|outputs?)\s*:"
    r"|:\w+[^:]*:|>>>|\.\. |```|[-=~]{3,})",
    re.IGNORECASE | re.MULTILINE,
)
WORD_BREAK = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])")
MARKUP = re.compile(r":\w+:(?=`)|`+|\*\*")
SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z])")
PARAMETER = re.compile(r"\*?\w+ ?\(.*?\):|\w+:")  # a docstring that begins with its parameters has no summary
WORD = re.compile(r"[A-Za-z]{2,}")


def package_files(package: str) -> list[Path]:
    """At most FILES_PER_PACKAGE source files, evenly spaced over the sorted list; tests are left out."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"docstring_pairs: no package named {package} is installed here")
    root = Path(spec.submodule_search_locations[0])
    files = [path for path in sorted(root.rglob("*.py")) if not {"tests", "test", "_vendor"} & {*path.parts}]
    step = max(1, len(files) / FILES_PER_PACKAGE)
    return [files[int(i * step)] for i in range(min(len(files), FILES_PER_PACKAGE))]


def documented(tree: ast.AST, prefix: str) -> Iterator[tuple[str, str, str]]:
    """(external id, name, docstring) of every class and function, nested ones included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{'' if prefix.endswith(':') else '.'}{node.name}"
            if text := ast.get_docstring(node):
                yield name, node.name, text
            yield from documented(node, name)


def split_docstring(name: str, docstring: str) -> tuple[str, str]:
    """(query, passage): the first paragraph's first sentence, and name and prose without that sentence."""
    prose = docstring[: match.start()] if (match := SECTION.search(docstring)) else docstring
    summary, _, rest = prose.strip().partition("\n\n")
    query, *tail = SENTENCE_END.split(plain(summary), maxsplit=1)
    words = " ".join(WORD_BREAK.sub(" ", name).split()).lower()
    return query, f"{words}: {plain(' '.join([*tail, rest]))}"


def plain(text: str) -> str:
    return " ".join(MARKUP.sub("", text).split())


def is_usable(query: str, passage: str) -> bool:
    """English-like text of a length worth learning from, whose passage doesn't simply repeat the query."""
    return (
        4 <= len(WORD.findall(query)) <= 40
        and not PARAMETER.match(query)
        and 15 <= len(WORD.findall(passage)) <= 400
        and (query + passage).isascii()
        and query not in passage
    )


def package_pairs(package: str) -> list[dict[str, str]]:
    pairs = []
    for path in package_files(package):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):  # templates and files of another Python stand in some packages
            continue
        module = ".".join(path.with_suffix("").parts[path.parts.index(package) :])
        for external_id, name, docstring in documented(tree, f"{module}:"):
            query, passage = split_docstring(name, docstring)
            if is_usable(query, passage):
                pairs.append({"query": query, "positive": passage, "source": package, "external_id": external_id})
    return pairs


def docstring_pairs(packages: list[str], max_positives: int = 4) -> pl.DataFrame:
    """One row per pair: each passage once, no query so general that more than `max_positives` passages answer it."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # parsing is all the work: a package a process
        pairs = pl.concat(map(pl.DataFrame, pool.map(package_pairs, packages)))
    pairs = pairs.unique("positive", keep="first", maintain_order=True)
    return pairs.filter(pl.len().over("query") <= max_positives)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="Parquet file: query, positive, source, external_id")
    parser.add_argument("--packages", nargs="+", default=PACKAGES)
    arguments = parser.parse_args()
    pairs = docstring_pairs(arguments.packages)
    pairs.write_parquet(arguments.output)
    counts = pairs.group_by("source", maintain_order=True).len().rows()
    told = ", ".join(f"{source} {count}" for source, count in counts)
    print(f"{arguments.output}: {pairs.height} pairs ({told})")


if __name__ == "__main__":
    main()
