# unetjax on NVIDIA GPUs, with a driver that supports CUDA 13 and the NVIDIA Container Toolkit. CUDA itself comes with JAX.
#
#   docker build -f docker/cuda.Dockerfile -t unetjax-cuda .
#   docker run --rm --gpus all -u "$(id -u):$(id -g)" -v "$PWD:/data" unetjax-cuda check images masks
#
# For a driver that supports CUDA 12 only: --build-arg CUDA=cuda12
FROM python:3.13-slim

ARG CUDA=cuda13
COPY pyproject.toml README.md LICENSE /src/
COPY unetjax /src/unetjax
COPY experiments /src/experiments
COPY ml_collections_configs /src/ml_collections_configs
RUN pip install --no-cache-dir "/src[codecs,experiments,${CUDA}]" && rm -r /src

# Compiled programs are kept below /tmp, which any user may write.
ENV HOME=/tmp
USER 1000
WORKDIR /data
ENTRYPOINT ["unetjax"]
