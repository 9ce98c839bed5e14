# geneface_jax on NVIDIA GPUs: as cpu.Dockerfile, and everything said there holds. The CUDA libraries come as Python packages, so that the host
# needs only a driver for CUDA 13 (580 or later) and the NVIDIA Container Toolkit. From the repository's root:
#
#     docker build -f docker/cuda.Dockerfile -t geneface:cuda .
#     docker run --rm --gpus all geneface:cuda doctor
#     docker run --rm --gpus all -p 127.0.0.1:7860:7860 geneface:cuda
FROM python:3.12.11-slim-bookworm

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgles2 libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 geneface \
    && mkdir /people \
    && chown geneface:geneface /people

COPY --chown=geneface:geneface . /opt/geneface_jax
WORKDIR /opt/geneface_jax
RUN pip install --no-cache-dir -e ".[ui,cuda]"

# What the toolkit hands into the container: the driver's compute libraries and nvidia-smi.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER 1000
WORKDIR /people
EXPOSE 7860
ENTRYPOINT ["geneface"]
CMD ["app", "--host", "0.0.0.0"]
