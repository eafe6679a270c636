# Sourced by quickstart.sh and check.sh: makes .venv if there is none and installs infra/requirements.lock when it changed.

setup() {
  local marker=.venv/installed.lock
  if [[ ! -x .venv/bin/pip ]]; then
    local python
    python=$(supported_python) || {
      echo "Python 3.11, 3.12 or 3.13 is needed, found: $(python3 --version 2>&1 || echo none)." \
        "Install one, or name it: PYTHON=/path/to/python3.11 bash $0" >&2
      return 2
    }
    "$python" -m venv .venv || return 1
  fi
  if ! cmp --silent infra/requirements.lock "$marker"; then
    echo "Installing $(grep -c == infra/requirements.lock) packages into .venv: about 2.5 GB on disk (torch for CPU; its CUDA build, which" \
      "Linux gets from PyPI, adds several GB: point pip at PyTorch's CPU index to do without)." >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement infra/requirements.lock || return 1
    cp infra/requirements.lock "$marker"
  fi
}

supported_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}
