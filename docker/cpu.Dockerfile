# geneface_jax on CPUs. From the repository's root:
#
#     docker build -f docker/cpu.Dockerfile -t geneface .
#     docker run --rm -p 127.0.0.1:7860:7860 geneface        # the studio with the demo person: http://localhost:7860
#     docker run --rm -v "$PWD:/people" geneface infer --subject demo --audio speech.wav --out talk.mp4
#
# Your own people are kept in /people, which starts empty and has to be writable for user 1000; whatever else is written goes with the
# container:
#
#     docker run --rm -p 127.0.0.1:7860:7860 -v geneface-people:/people geneface app --host 0.0.0.0 --subject /people
#
# Without `127.0.0.1:` every machine that reaches this one may use the studio, which has no password.
FROM python:3.11.13-slim-bookworm

# What MediaPipe and OpenCV load (geneface_jax/system_libraries.py). Debian keeps no older versions that could be named.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgles2 libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 geneface \
    && mkdir /people \
    && chown geneface:geneface /people

COPY --chown=geneface:geneface . /opt/geneface_jax
WORKDIR /opt/geneface_jax
RUN pip install --no-cache-dir -e ".[ui]"

USER 1000
WORKDIR /people
EXPOSE 7860
ENTRYPOINT ["geneface"]
# All of the container's addresses: what `docker run -p` publishes is decided outside.
CMD ["app", "--host", "0.0.0.0"]
