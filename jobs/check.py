"""Can the recipe run here, and on the cluster that RAY_ADDRESS names?

Each library reads and writes the root, the teacher is looked for, and versions are compared, on every node.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.options import JsonOption, StageOptions, print_frame

if TYPE_CHECKING:
    from pipelines.scoring.config import ScoreConfig

NODE_ANSWERS_S = 300  # its sources are unpacked there, and a teacher may be copied


class Finding(NamedTuple):
    """One thing that was tried."""

    where: str
    what: str
    found: str
    is_wrong: bool = False


def main(*, stage: StageOptions = StageOptions(), as_json: JsonOption = False) -> int:
    import polars as pl

    from pipelines.stage.cluster import named_cluster

    recipe, tables = stage.load(writes=False, answers=False)
    findings = look("here", tables.uri, recipe.score)
    findings += _cluster(tables.uri, recipe.score, is_named=bool(named_cluster()))
    if as_json:
        print_frame(pl.DataFrame([one._asdict() for one in findings]), as_json)
    else:
        print(table(findings))
    return int(any(one.is_wrong for one in findings))


def table(findings: list[Finding]) -> str:
    """A line each, whatever its length: what is wrong is told to its end."""
    from pipelines.stage.printable import on_one_line
    from pipelines.stage.render import aligned_table

    rows = [[one.where, one.what, "wrong" if one.is_wrong else "", on_one_line(one.found)] for one in findings]
    return aligned_table(["where", "what", "", "found"], rows)


def look(where: str, root: str, score: "ScoreConfig") -> list[Finding]:
    """What this process can do in the root, and whether it reaches the teacher."""
    from pipelines.checkpoints.find import reach
    from pipelines.stage.errors import UserError, describe
    from pipelines.storage import Tables
    from pipelines.storage.probe import probe

    findings = [
        Finding(where, told, "ok" if why is None else f"{why}; {ROOT_HELP}", why is not None)
        for told, why in probe(Tables.at(root))
    ]
    try:
        found = reach(score.teacher, score.teacher_revision)
        return [*findings, Finding(where, "the teacher is reached", f"ok: {found}")]
    except UserError as error:
        told = str(error)
    except Exception as error:  # of a hub or a store that does not answer
        told = describe(error)
    return [*findings, Finding(where, "the teacher is reached", told, is_wrong=True)]


ROOT_HELP = "check the root, AWS_* (endpoint, region, keys) and what the keys may do there"


def _cluster(root: str, score: "ScoreConfig", *, is_named: bool) -> list[Finding]:
    """Is there one, with what, and can each of its nodes do what this process can?"""
    from jobs.cluster import check, connect
    from pipelines.stage.errors import UserError

    where = "cluster" if is_named else "Ray here"
    try:
        check(**score.claims())
        connect()
    except (OSError, UserError) as error:
        return [Finding(where, "Ray answers", str(error), is_wrong=True)]
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cpus, gpus = (sum(node["Resources"].get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    with_gpus = sum("GPU" in node["Resources"] for node in nodes)
    findings = [
        Finding(where, "Ray answers", f"ok: nodes {len(nodes)}, CPUs {cpus:g}"),
        Finding(where, "GPUs", f"{gpus:g}, on {with_gpus} of {len(nodes)} nodes"),
    ]
    if not is_named:
        return findings  # its workers are this machine's, with this environment
    return findings + [one for node in nodes for one in _node(node, root, score)]


def _node(node: dict[str, Any], root: str, score: "ScoreConfig") -> list[Finding]:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    where = f"node {node['NodeManagerAddress']}"
    at = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    there: dict[str, Any] = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": at}
    asked: list[Any] = [
        ray.remote(versions).options(**there).remote(),
        ray.remote(look).options(**there).remote(where, root, score),
    ]
    try:
        found: Any = ray.get(asked, timeout=NODE_ANSWERS_S)
    except RayError as error:
        return [Finding(where, "runs our sources", str(error).strip().splitlines()[0], is_wrong=True)]
    return [_compared(where, found[0]), *(Finding(*one) for one in found[1])]


def versions() -> dict[str, str]:
    """Of Python and of the packages that could change a result."""
    from pipelines.storage.lineage import engine

    return {"Python": engine().python, **engine().libraries}


def _compared(where: str, theirs: dict[str, str]) -> Finding:
    here = versions()
    apart = [f"{name} {theirs.get(name, 'none')}, here {version}" for name, version in here.items()
             if theirs.get(name) != version]  # fmt: skip
    told = f"{'; '.join(apart)}; install infra/requirements.lock on both" if apart else "ok"
    return Finding(where, "Python and packages are those here", told, bool(apart))
