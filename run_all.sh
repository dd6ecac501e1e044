#!/usr/bin/env bash
# One button: environment, data, every method on every problem, tables and figures.
set -euo pipefail

usage() {
    cat <<'TEXT'
./run_all.sh [embedded]   nine methods × three seeds on the three embedded problems, tables and figures
./run_all.sh paper        the same on whichever of Office-31, Office-Home, NYUv2 and CelebA are found
./run_all.sh ablation     the ablations of NORMAL, on digits and on whichever Office data set is found
./run_all.sh trust        nine methods tuned with equal budgets, then ten seeds of each, on the embedded problems
./run_all.sh --quick      one seed, one epoch: see that everything runs
./run_all.sh gpu-check    check an accelerator in under ten minutes; --device cpu rehearses without one
./run_all.sh test [...]   the test suite without the tests marked slow; further words go to pytest
./run_all.sh test --all   all tests

Further options go to `python -m bench.run`: --data-root DIR, --jobs N, --device NAME, --seeds N ...
MTL_VENV=DIR   an environment elsewhere than .venv (torch with CUDA takes 6 GB)
MTL_DATA=DIR   data sets elsewhere than data/
MTL_CACHE=DIR  decoded images elsewhere than beside the data
TEXT
}

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${MTL_VENV:-$here/.venv}"

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Expected Python 3.10 or newer with venv, found none; install it, or put it on the PATH." >&2
    exit 2
}

# Installs again only if a dependency list has changed or the checkout has moved.
prepare_environment() {
    local wanted stamp="$venv/.mtl-bench-installed"
    wanted="$(cd "$here" && cat setup.cfg setup.py pyproject.toml constraints.txt | cksum) $here"
    if [[ -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
        return
    fi
    local python
    python="$(find_python)"
    echo "Installing into $venv; the first time takes some minutes and 6 GB."
    if [[ ! -x "$venv/bin/python" ]]; then
        "$python" -m venv "$venv"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$here[dev]" -c "$here/constraints.txt"
    echo "$wanted" >"$stamp"
}

# Runs a command that trains. Failed runs are shown in the tables; bad input, interruptions and questions end here.
train() {
    local command="$1" status=0
    shift
    "$venv/bin/python" -m "$command" "$@" || status=$?
    if [[ $status -gt 1 ]]; then
        exit "$status"
    fi
    for word in "$@"; do
        if [[ "$word" == "--dry-run" || "$word" == "--help" || "$word" == "-h" ]]; then
            exit "$status"
        fi
    done
    return "$status"
}

run_study() {
    local study="$1" results="$2" reports="$3"
    shift 3
    local status=0
    train bench.run --study "$study" --results "$results" "$@" || status=$?
    "$venv/bin/python" -m bench.report --study "$study" --results "$results" --out "$reports"
    exit "$status"
}

word="${1:-embedded}"
case "$word" in
    help | --help | -h)
        usage
        exit 0
        ;;
esac

prepare_environment
cd "$here"

case "$word" in
    test)
        shift
        selection="not slow"
        if [[ "${1:-}" == "--all" ]]; then
            selection=""
            shift
        fi
        # Each worker gets a contiguous share, so most files and their fixtures stay in one process.
        exec "$venv/bin/python" -m pytest --numprocesses auto --dist worksteal -m "$selection" "$@"
        ;;
    gpu-check)
        shift
        exec "$venv/bin/python" -m bench.gpu_check "$@"
        ;;
    embedded | paper)
        shift || true
        run_study "$word" "$here/results" "$here/reports" "$@"
        ;;
    ablation)
        shift
        run_study ablation "$here/results/ablation" "$here/reports/ablation" "$@"
        ;;
    trust)
        shift
        train bench.tune --study trust --results "$here/results/trust" "$@" || true # failed trials count as worst
        run_study "$here/results/trust/tuned.yaml" "$here/results/trust" "$here/reports/trust" "$@"
        ;;
    --quick)
        shift
        run_study quick "$here/results/quick" "$here/reports/quick" "$@"
        ;;
    --*)
        run_study embedded "$here/results" "$here/reports" "$@"
        ;;
    *)
        echo "Expected embedded, paper, ablation, trust, gpu-check, test or an option, found '$word'." >&2
        usage >&2
        exit 2
        ;;
esac
