#!/usr/bin/env bash
# Everything that must hold before a commit: lint, format, types, tests. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source infra/setup.sh
setup

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# Two processes, a file at a time and in order: what starts Ray in its own process comes after what must not have it.
.venv/bin/python -m pytest -m "not slow and not gpu" --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
