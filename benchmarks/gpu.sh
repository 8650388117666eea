#!/usr/bin/env bash
# All that eight minutes on a GPU are to tell: bash benchmarks/gpu.sh > gpu.txt
# PYTHON=… for another than .venv's; --tiny tries the script itself on any machine.
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-.venv/bin/python}
"$python" - <<'EOF' || exit 1
import sys
from importlib.util import find_spec
needed = "torch transformers safetensors av numpy scipy sklearn matplotlib PIL tqdm psutil filelock platformdirs pytest"
missing = [name for name in needed.split() if not find_spec(name)]
print("missing packages:", ", ".join(missing) or "none")
sys.exit(bool(missing))
EOF
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null
timeout 170 "$python" -m pytest -q -rs -p no:cacheprovider tests/test_gpu.py
timeout 300 "$python" -m benchmarks.gpu --minutes 4.5 "$@"
