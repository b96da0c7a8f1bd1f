#!/bin/sh
# compute-sanitizer over the kernels' tests: memcheck for addresses, racecheck for shared memory. Needs a GPU and the CUDA toolkit.
set -e
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python}
if ! command -v compute-sanitizer >/dev/null || ! $PYTHON -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "skipped: compute-sanitizer needs an NVIDIA GPU and the CUDA toolkit, and one of them is missing here"
  exit 0
fi
# Without PyTorch's caching every tensor is an allocation of its own, so that memcheck sees where each ends.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1 SPECENHANCE_KERNEL_DEVICE=cuda
for tool in memcheck racecheck; do
  compute-sanitizer --tool $tool --error-exitcode 1 $PYTHON -m pytest -x tests/kernels/suite/test_suite_values.py \
    -k "on_the_grid or half_precision or expanded or batch_of_none"
done
