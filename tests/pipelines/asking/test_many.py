"""Many rows at once: a run that is to end does not wait for a turn that is far off."""

import time

from pipelines.asking.many import Asking, Budget
from pipelines.asking.rows import Seed, answered
from pipelines.generation.config import GenerateConfig
from tests.llm_endpoint import serving


def test_a_run_that_is_to_end_keeps_what_was_paid_and_leaves_what_waits():
    with serving() as server:
        config = GenerateConfig(endpoint=server.url, model="rules", requests_per_minute=0.1)

        async def make(seed, endpoint):
            async def ask(row, account):
                for number in range(2):
                    await account.pay(endpoint.ask(f"Passage:\n{seed.key} {number}", temperature=0.0))

            return await answered(seed, config, ask)

        started = time.monotonic()
        with Asking([Seed((str(n),), {}) for n in range(3)], config, make, Budget(config)) as asking:
            while not server.ledger.answered:
                time.sleep(0.01)
            time.sleep(0.1)
            asking.close()
            rows = [row for row in asking.finished(0.05) if row]

    assert [(row["reason"], row["calls"]) for row in rows] == [("endpoint_error", 1)]
    assert time.monotonic() - started < 20
