"""Run any of these commands on a Ray cluster, as a Ray job.

Uploads the sources, follows the log and keeps the job's exit code.
"""

import asyncio
import logging
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pipelines.stage.cpu_libraries import CPU_LIBRARIES
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

SECRET_NAME = re.compile(r"[A-Z0-9_]*(SECRET|TOKEN(?!IZER)|PASSWORD|CREDENTIAL|ACCESS_KEY|API_KEY)[A-Z0-9_]*")
PASSWORD_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@")
VERSION = re.compile(r"[a-z_]+@\d+\n?")
STOPPED = 3
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"  # for the chunks under way; Ray gives a stopped job three seconds
INTERRUPTED = "interrupted; a job that was begun goes on, and the same command would begin another"
PATIENCE = 120  # tries in a row, a second apart, to reach a dashboard that has answered before


def main(
    command: Annotated[list[str], Parameter(help="after --: what would follow `python -m jobs`")],
    /,
    *,
    address: Annotated[str, Parameter("--address", help="the cluster's dashboard, e.g. http://HEAD:8265")],
    env: Annotated[list[str] | None, Parameter("--env", help="NAME=VALUE for the job; may be repeated")] = None,
) -> int:
    from jobs.cluster import uploaded_sources
    from jobs.reach import answers_as_dashboard, without_token
    from pipelines.storage.lineage import code

    variables = _variables(env or [])
    _refuse_secrets(command, variables)
    url = answers_as_dashboard(address)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    sources = code()
    variables = {STOP_WAIT: "600"} | variables
    variables["JOBS_GIT_COMMIT"] = f"{sources.commit}{'-dirty' if sources.is_dirty else ''}"
    logging.getLogger("ray").setLevel(logging.ERROR)  # it tells every ignored file
    entrypoint = shlex.join(["python", "-m", "jobs", *command])
    try:
        client = JobSubmissionClient(url)
        job = client.submit_job(
            entrypoint=entrypoint, runtime_env={**uploaded_sources(), "env_vars": CPU_LIBRARIES | variables}
        )
    except AuthenticationError as error:
        raise without_token(f"--address {address}", error) from error
    except (ValueError, RuntimeError) as error:  # what the cluster answers
        raise OSError(f"the cluster at --address {address} takes no job: {error}") from error
    print(f"{job}: {entrypoint}", file=sys.stderr, flush=True)
    try:
        return follow(client, job)
    except BaseException:
        print(f"{job} goes on; its log: ray job logs --address {address} --follow {job}", file=sys.stderr)
        print(f"to stop it: ray job stop --address {address} {job}", file=sys.stderr)
        raise


def follow(client: "JobSubmissionClient", job: str) -> int:
    """Print the job's log until it has ended; returns its exit code, which is never 0 unless it has succeeded."""
    asyncio.run(_print_log(client, job))
    told = client.get_job_info(job)
    print(f"{job}: {told.status}", file=sys.stderr)
    if told.status == "SUCCEEDED":
        return 0
    return STOPPED if told.status == "STOPPED" else told.driver_exit_code or 1


async def _print_log(client: "JobSubmissionClient", job: str) -> None:
    """The log as it grows: versions on stdout, all else on stderr (a job's log holds both).

    A connection that breaks is made again; the lines that were printed are skipped then.
    """
    from aiohttp import ClientError

    printed = failures = 0
    while True:
        seen = 0
        try:
            async for text in client.tail_job_logs(job):
                for line in text.splitlines(keepends=True):
                    seen += 1
                    if seen > printed:
                        print(line, end="", file=sys.stdout if VERSION.fullmatch(line) else sys.stderr, flush=True)
                        printed, failures = seen, 0
            if client.get_job_status(job).is_terminal():
                return
        except (RuntimeError, OSError, ClientError) as error:
            failures += 1
            if failures == PATIENCE:
                raise OSError(f"the cluster has not answered {PATIENCE} times in a row ({error}); is it up?") from error
            if failures == 1:
                print(f"the log's connection broke ({error}); connecting again", file=sys.stderr)
        await asyncio.sleep(1)


def _variables(env: list[str]) -> dict[str, str]:
    """The job's variables: TABLES as it is here, and what --env says."""
    pairs = [pair.partition("=") for pair in env]
    if wrong := [pair for pair, (name, equals, _) in zip(env, pairs, strict=True) if not (name and equals)]:
        raise UserError(f"--env {wrong[0]!r}: expected NAME=VALUE, for example HF_HUB_OFFLINE=1")
    tables = {"TABLES": os.environ["TABLES"]} if os.environ.get("TABLES") else {}
    return tables | {name: value for name, _, value in pairs}


def _refuse_secrets(command: list[str], variables: dict[str, str]) -> None:
    """Ray shows a job's command and variables to everybody, in its dashboard and its logs."""
    secrets = {value: name for name, value in os.environ.items() if SECRET_NAME.fullmatch(name) and len(value) >= 8}
    found = [f"--env {name}" for name in variables if SECRET_NAME.fullmatch(name.upper())]
    for text in [*command, *variables.values()]:
        found += [f"the value of {name}" for value, name in secrets.items() if value in text]
        found += ["a URL with a password"] if PASSWORD_IN_URL.search(text) else []
    if found:
        raise UserError(
            f"{', '.join(found)} would be forwarded, and Ray shows a job's command and variables in its dashboard and "
            "logs; set secrets on the cluster's nodes (a Kubernetes secret, an instance role) and leave them out here"
        )
