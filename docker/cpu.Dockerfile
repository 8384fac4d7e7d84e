# unetjax on CPUs. From the folder of the sources:
#
#   docker build -f docker/cpu.Dockerfile -t unetjax .
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/data" unetjax check images masks
#
FROM python:3.13-slim

COPY pyproject.toml README.md LICENSE /src/
COPY unetjax /src/unetjax
COPY experiments /src/experiments
COPY ml_collections_configs /src/ml_collections_configs
RUN pip install --no-cache-dir '/src[codecs,experiments,openvino]' && rm -r /src

# Compiled programs are kept below /tmp, which any user may write. Large pages of memory make steps on a CPU faster.
ENV HOME=/tmp \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1
USER 1000
WORKDIR /data
ENTRYPOINT ["unetjax"]
