# bnfold in a container. docs/operating.md says how to serve with it; as a command it writes as the user who calls it:
# `docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/models" bnfold fold model.onnx -o folded.onnx`
# `python -m tests.image` runs every step of this file where there is no container engine.
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
WORKDIR /src
COPY image image
RUN python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes -r image/build.txt
RUN python -m venv --without-pip /opt/bnfold \
 && /opt/build/bin/pip --python /opt/bnfold/bin/python install --no-cache-dir --require-hashes -r image/service.txt
COPY pyproject.toml README.md LICENSE ./
COPY folding folding
COPY service service
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir wheel . \
 && /opt/build/bin/pip --python /opt/bnfold/bin/python install --no-cache-dir --no-deps --no-index wheel/*.whl \
 && /opt/build/bin/cyclonedx-py environment --output-reproducible --output-file /opt/bnfold/sbom.cdx.json /opt/bnfold

FROM ${BASE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home bnfold \
 && mkdir -p /models /var/lib/bnfold \
 && chown bnfold:bnfold /models /var/lib/bnfold
COPY --from=build /opt/bnfold /opt/bnfold
ENV PATH=/opt/bnfold/bin:$PATH BNFOLD_HOST=0.0.0.0 BNFOLD_PORT=8000 BNFOLD_DATA=/var/lib/bnfold
USER 10001:10001
WORKDIR /models
VOLUME /var/lib/bnfold
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
 CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
ENTRYPOINT ["bnfold"]
CMD ["serve"]
