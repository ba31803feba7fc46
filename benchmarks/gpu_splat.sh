#!/bin/sh
# Checks and times the cuda rasteriser on a machine with a CUDA GPU, torch for CUDA and nvcc:
#
#     sh benchmarks/gpu_splat.sh OUT_FOLDER [GSPLAT_WHEEL]
#
# Installs what is missing of the small dependencies (gsplat from the given wheel), compiles gsplat's kernels, runs the
# GPU tests of the rasteriser, then the benchmark. Leaves build.txt, tests.txt, bench.txt and bench_splat.json behind.
set -eu
out=${1:?usage: gpu_splat.sh OUT_FOLDER [GSPLAT_WHEEL]}
wheel=${2:-gsplat==1.5.3}
cd "$(dirname "$0")/.."
mkdir -p "$out"
python=${PYTHON:-python3}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"

"$python" -c "import gsplat" 2>/dev/null || "$python" -m pip install --no-deps "$wheel"
"$python" - <<'PY' 2>&1 | tee "$out/build.txt"
import time
import torch
start = time.perf_counter()
from stavatar.splat.cuda import _gsplat
_gsplat()
print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: gsplat ready after {time.perf_counter() - start:.0f} s")
PY
status=0
"$python" -m pytest tests/splat -q -m gpu -p no:cacheprovider >"$out/tests.txt" 2>&1 || status=$?
tail -n 40 "$out/tests.txt"
"$python" benchmarks/bench_splat.py "$out/bench_splat.json" --backend cuda | tee "$out/bench.txt"
exit $status
